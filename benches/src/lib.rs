//! What is measured: each operation a function that does it `n` times and says how long that took.

mod after_func;
pub mod go;
mod lateness;
mod life;
mod live;
mod look;
mod parallel;
pub mod peers;
mod select;
mod spawn;
mod wake;

use std::time::{Duration, Instant};

/// An operation whose time is measured.
pub struct Work {
    pub name: String,
    /// How many operations one is that `run` is asked for.
    pub batch: u64,
    /// Does it so many times.
    pub run: Box<dyn FnMut(u64) -> Duration>,
}

impl Work {
    pub fn new(name: impl Into<String>, run: impl FnMut(u64) -> Duration + 'static) -> Work {
        Work::batched(name, 1, run)
    }

    /// For operations that cannot be done one by one, as to cancel a child of many.
    pub fn batched(
        name: impl Into<String>,
        batch: u64,
        run: impl FnMut(u64) -> Duration + 'static,
    ) -> Work {
        Work {
            name: name.into(),
            batch,
            run: Box::new(run),
        }
    }
}

/// What one look finds out, be it of time or of memory.
pub struct Measure {
    pub name: String,
    pub unit: &'static str,
    /// The names of the figures, or one that is empty.
    pub figures: &'static [&'static str],
    /// As many numbers as there are figures.
    pub run: Box<dyn FnMut() -> Vec<f64>>,
}

impl From<Work> for Measure {
    /// Nanoseconds for one operation, from as many as take a while.
    fn from(mut work: Work) -> Measure {
        const ROUND: Duration = Duration::from_millis(50);
        /// Where each operation is prepared, which is not timed: a million contexts take long to
        /// make, and may take no time to cancel.
        const IN_ALL: Duration = Duration::from_millis(150);
        let mut n = 1;
        let run = move || loop {
            let start = Instant::now();
            let took = (work.run)(n);
            let in_all = start.elapsed();
            let prepared = work.batch > 1;
            if took >= ROUND || prepared && in_all >= IN_ALL {
                return vec![took.as_nanos() as f64 / (n * work.batch) as f64];
            }
            // A little more than it seems to need, and never much more at once: the first is slow.
            let more = |of: Duration, took: Duration| 1.2 * of.as_secs_f64() / took.as_secs_f64();
            let mut times = more(ROUND, took.max(Duration::from_nanos(1)));
            if prepared {
                times = times.min(more(IN_ALL, in_all));
            }
            n = (n as f64 * times.clamp(1.1, 100.0)).ceil() as u64;
        };
        Measure {
            name: work.name,
            unit: "ns",
            figures: &[""],
            run: Box::new(run),
        }
    }
}

/// The operations of this crate beyond Go's benchmarks.
pub fn more() -> Vec<Work> {
    [life::all(), after_func::all(), select::all(), spawn::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// What is no mean time of an operation.
pub fn others() -> Vec<Measure> {
    [wake::all(), lateness::all(), live::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// What the same costs without a context, for those of which that can be said.
pub fn floors() -> Vec<Measure> {
    let works = [select::floors(), spawn::floors()].into_iter().flatten();
    let others = [wake::floors(), lateness::floors()].into_iter().flatten();
    works.map(Measure::from).chain(others).collect()
}

/// The time it takes to call `f` `n` times.
pub fn time(n: u64, mut f: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..n {
        f();
    }
    start.elapsed()
}

/// The value below which that part of all of them is; sorts them.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}

/// The middle one.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}
