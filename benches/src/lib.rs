//! What is measured: each operation a function that does it `n` times and says how long that took.

pub mod go;

use std::time::{Duration, Instant};

/// One line of the table.
pub struct Work {
    pub name: String,
    /// Does it so many times.
    pub run: Box<dyn FnMut(u64) -> Duration>,
}

impl Work {
    pub fn new(name: impl Into<String>, run: impl FnMut(u64) -> Duration + 'static) -> Work {
        let name = name.into();
        Work {
            name,
            run: Box::new(run),
        }
    }
}

/// The time it takes to call `f` `n` times.
pub fn time(n: u64, mut f: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..n {
        f();
    }
    start.elapsed()
}
