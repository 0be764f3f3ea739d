//! How late a deadline is that falls due 1 ms after a large event it has nothing to do with.

use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::bounded;
use go_context::Context;

use crate::{Figure, Measure};

const MS: Duration = Duration::from_millis(1);
const DEADLINES: usize = 50_000;
const WAITERS: usize = 10_000;
const CHILDREN: usize = 100_000;
/// Enough for a cancel that lasts from before the deadline until after it.
const MANY_CHILDREN: usize = 500_000;

const AFTER_WAITERS: &str = "unrelated deadline after one that 10,000 threads wait for";

pub(crate) fn all() -> Vec<Measure> {
    vec![
        measure(
            "unrelated deadline after 50,000 with an after-func each",
            deadlines,
            wait_for_context,
        ),
        measure(AFTER_WAITERS, waiters, wait_for_context),
        measure(
            "unrelated deadline after one with 100,000 children",
            deadline_above_children,
            wait_for_context,
        ),
        measure(
            "unrelated deadline after one that meets a long cancel",
            long_cancel,
            wait_for_context,
        ),
    ]
}

/// The threads wait for a bare channel, and the unrelated thread sleeps.
pub(crate) fn floors() -> Vec<Measure> {
    vec![measure(AFTER_WAITERS, waiters_for_channel, sleep_until)]
}

/// `prepare` arranges for something to happen at a time, `wait` waits for another time.
fn measure<T>(name: &str, prepare: impl Fn(Instant) -> T + 'static, wait: fn(Instant)) -> Measure {
    const FIGURES: &[Figure] = &[Figure::ns("")];
    Measure::alone(name, FIGURES, move || vec![lateness(&prepare, wait)])
}

fn lateness<T>(prepare: impl Fn(Instant) -> T, wait: fn(Instant)) -> f64 {
    let mut lead = 500 * MS;
    loop {
        let at = Instant::now() + lead;
        let _prepared = prepare(at);
        if Instant::now() + 50 * MS < at {
            let due = at + MS;
            let probe = thread::spawn(move || {
                wait(due);
                due.elapsed()
            });
            return probe.join().unwrap().as_nanos() as f64;
        }
        lead *= 2; // this machine needs longer to prepare it
    }
}

fn wait_for_context(deadline: Instant) {
    let (ctx, _cancel) = Context::background().with_deadline(deadline);
    assert!(ctx.done().recv().is_err());
}

fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}

fn deadlines(at: Instant) -> impl Sized {
    let with_after_func = |_| {
        let (ctx, cancel) = Context::background().with_deadline(at);
        let after_func = ctx.after_func(|| ());
        (ctx, cancel, after_func)
    };
    (0..DEADLINES).map(with_after_func).collect::<Vec<_>>()
}

fn waiters(at: Instant) -> impl Sized {
    let (ctx, cancel) = Context::background().with_deadline(at);
    let waiter = ctx.clone();
    spawn_waiters(move || assert!(waiter.done().recv().is_err()));
    (ctx, cancel)
}

fn waiters_for_channel(at: Instant) {
    let (sender, done) = bounded::<()>(0);
    spawn_waiters(move || assert!(done.recv().is_err()));
    thread::spawn(move || {
        sleep_until(at);
        drop(sender);
    });
}

/// Starts the threads and returns once each of them is about to wait.
fn spawn_waiters(wait: impl Fn() + Clone + Send + 'static) {
    let (ready, all_ready) = bounded(WAITERS);
    for _ in 0..WAITERS {
        let (ready, wait) = (ready.clone(), wait.clone());
        let waiter = move || {
            ready.send(()).unwrap();
            wait();
        };
        let builder = thread::Builder::new().stack_size(64 * 1024);
        builder.spawn(waiter).expect("10,000 threads");
    }
    assert_eq!(all_ready.iter().take(WAITERS).count(), WAITERS);
}

fn deadline_above_children(at: Instant) -> impl Sized {
    let (ctx, cancel) = Context::background().with_deadline(at);
    (children(&ctx, CHILDREN), ctx, cancel)
}

fn children(parent: &Context, n: usize) -> impl Sized {
    let with_channel = |_| {
        let (ctx, cancel) = parent.with_cancel();
        (ctx.done(), ctx, cancel)
    };
    (0..n).map(with_channel).collect::<Vec<_>>()
}

fn long_cancel(at: Instant) -> impl Sized {
    let (ctx, cancel) = Context::background().with_deadline(at);
    let (below, cancel_below) = ctx.with_cancel();
    let children = children(&below, MANY_CHILDREN);
    thread::spawn(move || {
        sleep_until(at - 2 * MS);
        cancel_below.cancel();
    });
    (children, below, ctx, cancel)
}
