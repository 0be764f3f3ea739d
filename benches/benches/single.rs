//! Each operation by itself, with criterion's statistics.
//!
//! This is for work on one operation: it shows how certain a figure is, and whether it has changed
//! since the last run on the same machine. It is not for comparisons. Criterion finishes one benchmark
//! before it begins the next, and cannot run Go at all, so two operations would be measured at
//! different times, between which the machine may have become faster or slower. The table
//! (`cargo run --release`) measures them in turn instead, round by round.
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
        // A million contexts take long to create and may take no time to cancel, and only the latter
        // is timed: without a limit criterion would ask for far too many of them.
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
