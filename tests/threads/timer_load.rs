//! The timer thread under load: it waits for no other thread, and passes large work on.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver};
use go_context::{CancelFunc, Context, Error};
use support::process::{child, in_child_alone, one_at_a_time, report};
use support::{assert_closes, is_open, test_name, LIMIT};

const CHILDREN: usize = 100_000;

/// A child, and its done channel: polling that does not use the context.
type Child = (Context, CancelFunc, Receiver<()>);

fn children(parent: &Context) -> Vec<Child> {
    let children = (0..CHILDREN).map(|_| {
        let (child, cancel) = parent.with_cancel();
        let done = child.done();
        (child, cancel, done)
    });
    children.collect()
}

/// Repeats a round until it shows what it is meant to show. It gets the time to allow for creating
/// [`CHILDREN`], and returns whether it has.
///
/// What can be seen from outside depends on how two threads are scheduled, so a single round proves
/// nothing. If the crate never behaves that way, no round succeeds.
fn eventually(what: &str, mut round: impl FnMut(Duration) -> bool) {
    let start = Instant::now();
    let mut setup = Duration::from_millis(100);
    loop {
        let made = Instant::now();
        drop(children(&Context::background().with_cancel().0));
        setup = setup.max(made.elapsed());
        if round(2 * setup) {
            return;
        }
        assert!(start.elapsed() < LIMIT, "never: {what}");
    }
}

#[test]
fn timer_meeting_other_cancel_does_not_wait() {
    let what = "a deadline passes while a cancel that the timer has met is under way";
    in_child_alone(test_name!(), || eventually(what, deadline_meets_cancel));
}

/// A deadline passes while another thread cancels a child of its context, which takes long. Returns
/// whether an unrelated deadline, due a little later, has fired before that cancel was complete.
fn deadline_meets_cancel(setup: Duration) -> bool {
    let deadline = Instant::now() + setup;
    let (parent, _cancel) = Context::background().with_deadline(deadline);
    let (large, cancel) = parent.with_cancel_cause();
    let children = children(&large);
    let (unrelated, _cancel) =
        Context::background().with_deadline(deadline + Duration::from_micros(500));
    let passed = unrelated.done();
    let in_time = Instant::now() < deadline;

    let canceller = thread::spawn(move || {
        let start = deadline - Duration::from_millis(1);
        thread::sleep(start.saturating_duration_since(Instant::now()));
        cancel.cancel("by hand");
    });
    assert_closes(&passed);
    let under_way = children.iter().any(|(.., done)| is_open(done));
    canceller.join().unwrap();

    assert!(!children.iter().any(|(.., done)| is_open(done)));
    assert_closes(&parent.done());
    assert_eq!(parent.err(), Some(Error::DeadlineExceeded));
    // Otherwise the timer was first, and the cancel met a deadline.
    let by_hand = large.cause().unwrap().to_string() == "by hand";
    in_time && under_way && by_hand
}

#[test]
fn timer_with_large_deadline_fires_others() {
    let what = "a deadline passes while the children of another are being cancelled";
    in_child_alone(test_name!(), || eventually(what, deadline_with_children));
}

/// A deadline with many children passes. Returns whether an unrelated one, due a little later, has
/// fired before all of them were done.
fn deadline_with_children(setup: Duration) -> bool {
    let deadline = Instant::now() + setup;
    let (parent, _cancel) = Context::background().with_deadline(deadline);
    let children = children(&parent);
    let (unrelated, _cancel) =
        Context::background().with_deadline(deadline + Duration::from_micros(100));
    let passed = unrelated.done();
    let in_time = Instant::now() < deadline;
    assert_closes(&passed);
    let under_way = children.iter().any(|(.., done)| is_open(done));

    for (child, _, done) in &children {
        assert_closes(done);
        assert_eq!(child.err(), Some(Error::DeadlineExceeded));
    }
    assert_eq!(unrelated.err(), Some(Error::DeadlineExceeded));
    in_time && under_way
}

const CALLBACKS: usize = 50_000;

#[test]
fn timer_runs_50000_after_funcs_on_few_threads() {
    let cores = thread::available_parallelism().unwrap().get();
    // The harness and the test, the timer, and some per core for the callbacks.
    let limit = 2 + 1 + 24 * cores;
    let mut seen = Vec::new();
    let _turn = one_at_a_time();
    // Other processes may keep the threads from running for a while, which to the pool is no different
    // from callbacks that block. So the best of some rounds counts.
    while seen.len() < 8 {
        let Some(mut process) = child(test_name!(), || report(&run_at_one_deadline().to_string()))
        else {
            return;
        };
        let threads = process.next_report().parse::<usize>().unwrap();
        process.ends();
        if threads <= limit {
            return;
        }
        seen.push(threads);
    }
    panic!("{seen:?} threads, more than {limit} in each round");
}

/// Many deadlines at one instant, each with a callback. Returns how many threads there are when all
/// callbacks have run; an idle one stays for a while.
fn run_at_one_deadline() -> usize {
    let deadline = Instant::now() + Duration::from_millis(100);
    let ran: Arc<Vec<AtomicUsize>> = Arc::new((0..CALLBACKS).map(|_| 0.into()).collect());
    let left = Arc::new(AtomicUsize::new(CALLBACKS));
    let (last, all_ran) = bounded(1);
    let _alive: Vec<_> = (0..CALLBACKS)
        .map(|number| {
            let (ctx, cancel) = Context::background().with_deadline(deadline);
            let (ran, left, last) = (ran.clone(), left.clone(), last.clone());
            let function = ctx.after_func(move || {
                ran[number].fetch_add(1, Ordering::SeqCst);
                if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    last.send(()).unwrap();
                }
            });
            (ctx, cancel, function)
        })
        .collect();
    assert_eq!(all_ran.recv_timeout(LIMIT), Ok(()));
    assert!(ran.iter().all(|ran| ran.load(Ordering::SeqCst) == 1));
    fs::read_dir("/proc/self/task").unwrap().count()
}
