//! Prints what each operation takes, in nanoseconds: the median of several rounds.
//!
//! ```sh
//! cargo run --release --manifest-path benches/Cargo.toml -- DeepValue
//! ```
//!
//! With a word, only the operations that have it in their names. Real Go says the same of itself with
//! `go test context -run '^$' -bench .`.

use std::env;
use std::time::Duration;

use go_context_bench::{go, Work};

const ROUNDS: usize = 5;
/// How long a round takes at least.
const ROUND: Duration = Duration::from_millis(50);

fn main() {
    let part = env::args().nth(1).unwrap_or_default();
    for mut work in go::all() {
        if work.name.contains(&part) {
            let took = median(&mut work);
            println!("{:50} {took:12.2}", work.name);
        }
    }
}

/// Nanoseconds for one operation.
fn median(work: &mut Work) -> f64 {
    let mut n = 1;
    while (work.run)(n) < ROUND {
        n *= 2;
    }
    let mut rounds = [(); ROUNDS].map(|()| (work.run)(n).as_nanos() as f64 / n as f64);
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
