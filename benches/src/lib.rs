//! The measurements. Each operation is a function that runs it `n` times and returns how long it took.

mod after_func;
pub mod go;
mod lateness;
mod life;
mod live;
mod load;
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
    /// How many operations one call of `run` with `n = 1` stands for.
    pub batch: u64,
    /// Runs the operation `n` times and returns the time that took.
    pub run: Box<dyn FnMut(u64) -> Duration>,
}

impl Work {
    pub fn new(name: impl Into<String>, run: impl FnMut(u64) -> Duration + 'static) -> Work {
        Work::batched(name, 1, run)
    }

    /// Creates a work whose operations come in batches, like the cancellation of many children.
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

/// One of the numbers of a measure: a row of the table.
#[derive(Clone, Copy)]
pub struct Figure {
    /// Follows the name of the measure; may be empty.
    pub name: &'static str,
    pub unit: &'static str,
}

impl Figure {
    pub const fn new(name: &'static str, unit: &'static str) -> Figure {
        Figure { name, unit }
    }

    pub const fn ns(name: &'static str) -> Figure {
        Figure::new(name, "ns")
    }
}

/// A measurement of time, memory or anything else.
pub struct Measure {
    pub name: String,
    pub figures: &'static [Figure],
    /// Whether each run needs a process in which nothing else has run.
    pub own_process: bool,
    /// Returns as many numbers as there are figures; NaN if one cannot be measured.
    pub run: Box<dyn FnMut() -> Vec<f64>>,
}

impl Measure {
    fn new(
        name: impl Into<String>,
        figures: &'static [Figure],
        run: impl FnMut() -> Vec<f64> + 'static,
    ) -> Measure {
        Measure {
            name: name.into(),
            figures,
            own_process: false,
            run: Box::new(run),
        }
    }

    /// Creates a measure whose every run has a process of its own.
    fn alone(
        name: impl Into<String>,
        figures: &'static [Figure],
        run: impl FnMut() -> Vec<f64> + 'static,
    ) -> Measure {
        Measure {
            own_process: true,
            ..Measure::new(name, figures, run)
        }
    }
}

impl From<Work> for Measure {
    /// Measures the nanoseconds of one operation, from as many as last long enough.
    fn from(mut work: Work) -> Measure {
        const FIGURES: &[Figure] = &[Figure::ns("")];
        let mut n = 1;
        Measure::new(work.name.clone(), FIGURES, move || {
            vec![per_operation(&mut work, &mut n)]
        })
    }
}

/// Runs the work until it lasts long enough, and keeps in `n` how often it must be repeated for that.
fn per_operation(work: &mut Work, n: &mut u64) -> f64 {
    const ROUND: Duration = Duration::from_millis(50);
    /// The limit if each batch has to be prepared, which is not timed: a million contexts take long
    /// to create, and may take no time to cancel.
    const IN_ALL: Duration = Duration::from_millis(150);
    let prepared = work.batch > 1;
    loop {
        let start = Instant::now();
        let took = (work.run)(*n);
        let in_all = start.elapsed();
        if took >= ROUND || prepared && in_all >= IN_ALL {
            return took.as_nanos() as f64 / (*n * work.batch) as f64;
        }
        // A little more than seems necessary, and at most 100 times as many: the first one is slow.
        let more = |of: Duration, took: Duration| 1.2 * of.as_secs_f64() / took.as_secs_f64();
        let mut times = more(ROUND, took.max(Duration::from_nanos(1)));
        if prepared {
            times = times.min(more(IN_ALL, in_all));
        }
        *n = (*n as f64 * times.clamp(1.1, 100.0)).ceil() as u64;
    }
}

/// Returns the operations of this crate beyond Go's benchmarks.
pub fn more() -> Vec<Work> {
    [life::all(), after_func::all(), select::all(), spawn::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns the measures that are not the mean time of an operation.
pub fn others() -> Vec<Measure> {
    [wake::all(), lateness::all(), load::all(), live::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns what the same costs without a context, for the rows that have such a counterpart.
pub fn floors() -> Vec<Measure> {
    let works = [life::floors(), select::floors(), spawn::floors()];
    let others = [wake::floors(), lateness::floors(), load::floors()];
    let works = works.into_iter().flatten().map(Measure::from);
    works.chain(others.into_iter().flatten()).collect()
}

/// Returns the time that `n` calls of `f` take.
pub fn time(n: u64, mut f: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..n {
        f();
    }
    start.elapsed()
}

/// Returns the value at that part of the sorted values; sorts them.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}

/// Returns the middle value; sorts them.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}
