//! Single looks: each operation by itself, with criterion's statistics.
//!
//! It is for whoever works on one operation: it says how sure a figure is, and whether it has changed
//! since the last look on the same machine in the same mood. It is not for comparisons. Criterion
//! finishes one benchmark before it begins the next, and cannot run Go at all, so two things that are
//! to be compared are measured at different times, on a machine that has meanwhile become faster or
//! slower. The table (`cargo run --release`) alternates them instead, round by round.
//!
//! ```sh
//! cargo bench --manifest-path benches/Cargo.toml -- DeepValue
//! ```

use std::time::Duration;

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use go_context_bench::{go, more};

fn each_alone(c: &mut Criterion) {
    for mut work in go::all().into_iter().chain(more()) {
        let mut group = c.benchmark_group(&work.name);
        group.throughput(Throughput::Elements(work.batch));
        // A million contexts take long to make and may take no time to cancel, which is all that is
        // timed: then criterion asks for more of it than anybody can wait for.
        let most = (1_000_000 / work.batch).max(1);
        group.bench_function("time", |b| {
            b.iter_custom(|n| match work.batch {
                1 => (work.run)(n),
                _ => (work.run)(n.min(most)).mul_f64(n as f64 / n.min(most) as f64),
            });
        });
        group.finish();
    }
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = quick();
    targets = each_alone
}
criterion_main!(benches);
