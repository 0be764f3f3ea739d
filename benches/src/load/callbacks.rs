//! Thousands of after-funcs that one cancel starts.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, Sender};
use go_context::{AfterFunc, CancelFunc, Context};

use crate::life::root;
use crate::{median, Figure, Measure};

const SHORT: usize = 10_000;
const WAITING: usize = 1_000;
const ROUNDS: usize = 5;
/// How long the after-funcs have to run.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn all() -> Vec<Measure> {
    const SHORT_FIGURES: &[Figure] = &[
        Figure::ns("cancel() returns"),
        Figure::ns("all have run"),
        Figure::new("threads", "threads"),
    ];
    const WAITING_FIGURES: &[Figure] = &[Figure::ns("all have run")];
    vec![
        Measure::alone("10,000 short after-funcs", SHORT_FIGURES, short),
        Measure::alone(
            "1,000 after-funcs that wait for each other",
            WAITING_FIGURES,
            waiting,
        ),
    ]
}

fn short() -> Vec<f64> {
    let mut returned = Vec::new();
    let mut ran = Vec::new();
    let mut most_threads = 0.0_f64;
    for _ in 0..ROUNDS {
        let took = cancel_parent_of(SHORT, || ());
        returned.push(took.0.as_nanos() as f64);
        ran.push(took.1.as_nanos() as f64);
        most_threads = most_threads.max(threads());
    }
    vec![median(&mut returned), median(&mut ran), most_threads]
}

/// Runs a single round, because a second round would find the threads of the first.
fn waiting() -> Vec<f64> {
    let barrier = Barrier::new(WAITING);
    let took = cancel_parent_of(WAITING, move || {
        barrier.wait();
    });
    vec![took.1.as_nanos() as f64]
}

/// Cancels a parent of `n` children with an after-func each; returns when `cancel` has returned and
/// when all after-funcs have run.
fn cancel_parent_of(n: usize, f: impl Fn() + Send + Sync + 'static) -> (Duration, Duration) {
    let (parent, cancel) = root();
    let f = Arc::new(f);
    let (countdown, all_ran) = Countdown::new(n);
    let child = |_| -> (Context, CancelFunc, AfterFunc) {
        let (child, cancel) = parent.with_cancel();
        let (f, countdown) = (f.clone(), countdown.clone());
        let after_func = child.after_func(move || {
            f();
            countdown.count();
        });
        (child, cancel, after_func)
    };
    let _children: Vec<_> = (0..n).map(child).collect();
    let start = Instant::now();
    cancel.cancel();
    let returned = start.elapsed();
    all_ran.recv_timeout(PATIENCE).expect("all to run");
    (returned, start.elapsed())
}

struct Countdown {
    left: AtomicUsize,
    finished: Sender<()>,
}

impl Countdown {
    /// Creates a countdown, and a channel that receives a message after `n` counts.
    fn new(n: usize) -> (Arc<Countdown>, Receiver<()>) {
        let (finished, receiver) = bounded(1);
        let left = AtomicUsize::new(n);
        (Arc::new(Countdown { left, finished }), receiver)
    }

    fn count(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finished.send(()).unwrap();
        }
    }
}

/// Returns the number of threads beside this one, or NaN if the system does not list them.
///
/// Threads that ran callbacks are kept for a while, so none has ended yet when all have run.
fn threads() -> f64 {
    let listed = fs::read_dir("/proc/self/task");
    listed.map_or(f64::NAN, |threads| (threads.count() - 1) as f64)
}
