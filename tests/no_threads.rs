//! When the system refuses a thread: what waits for one, what does not, and that nothing is lost.
//!
//! Each test runs itself again as a process in which a thread wants so large a stack that a limit on
//! memory keeps it from starting. The limit binds root too.

#![cfg(target_os = "linux")]

use std::fs;
use std::io;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, RecvTimeoutError, TryRecvError};
use go_context::{Context, CustomContext, Error};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

use child::{child_of, threads, wait_until, LIMIT};

#[allow(dead_code)]
#[path = "signal/child.rs"]
mod child;

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(5);

/// The names as Linux cuts them.
const TIMER: &str = "go-ctx-timer";
const CALLBACK: &str = "go-ctx-callback";
const WATCH: &str = "go-ctx-watch";

const STACK: u64 = 1 << 30;

/// Runs `role` in a process of its own, where threads have large stacks.
fn alone(test: &str, role: impl FnOnce()) {
    let large_stacks = ["env", &format!("RUST_MIN_STACK={STACK}")];
    if let Some(mut process) = child_of(&large_stacks, test, role) {
        process.ends();
    }
}

/// While it is there, every thread is refused.
struct Refusal(Rlimit);

impl Refusal {
    fn begin() -> Refusal {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib: u64 = size.unwrap().trim_end_matches("kB").trim().parse().unwrap();
        let before = getrlimit(Resource::As);
        // Half a stack is enough for all else.
        let current = Some(kib * 1024 + STACK / 2);
        let maximum = before.maximum;
        setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
        assert!(thread::Builder::new().spawn(|| ()).is_err());
        Refusal(before)
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        setrlimit(Resource::As, self.0).unwrap();
    }
}

fn has_thread(name: &str) -> bool {
    threads().iter().any(|other| other == name)
}

#[track_caller]
fn assert_closes(done: &Receiver<()>) {
    let end = done.recv_timeout(LIMIT);
    assert_eq!(end, Err(RecvTimeoutError::Disconnected));
}

/// Has the timer's thread start.
fn start_timer() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    assert_eq!(ctx.err(), None);
    wait_until("the timer's thread runs", || has_thread(TIMER));
}

#[test]
fn deadlines_without_a_thread_are_kept_when_the_next_one_gets_it() {
    let name = "deadlines_without_a_thread_are_kept_when_the_next_one_gets_it";
    alone(name, || {
        let refusal = Refusal::begin();
        let (soon, _cancel) = Context::background().with_timeout_cause(SOON, "too slow");
        let (later, _cancel) = Context::background().with_timeout(2 * SOON);
        let closes = [soon.done(), later.done()];
        // All else works: a deadline over at birth, a cancel, a sleep.
        let (over, _cancel) = soon.with_deadline(Instant::now());
        assert_eq!(over.err(), Some(Error::DeadlineExceeded));
        assert_eq!(later.sleep(4 * SOON), Ok(()));
        assert!(!has_thread(TIMER));
        drop(refusal);

        start_timer();
        closes.iter().for_each(assert_closes);
        assert_eq!(soon.err(), Some(Error::DeadlineExceeded));
        assert_eq!(soon.cause().unwrap().to_string(), "too slow");
    });
}

#[test]
fn a_callback_without_a_thread_runs_as_soon_as_there_is_one() {
    alone(
        "a_callback_without_a_thread_runs_as_soon_as_there_is_one",
        || {
            start_timer();
            let (ctx, cancel) = Context::background().with_cancel();
            let (ran, runs) = unbounded();
            // None of them ends before all have begun: none waits for another's thread.
            let all = Arc::new(Barrier::new(5));
            let functions: Vec<_> = (0..5)
                .map(|number| {
                    let (ran, all) = (ran.clone(), all.clone());
                    ctx.after_func(move || {
                        all.wait();
                        ran.send(number).unwrap();
                    })
                })
                .collect();

            let refusal = Refusal::begin();
            cancel.cancel();
            assert_eq!(ctx.err(), Some(Error::Canceled));
            assert!(functions.iter().all(|function| !function.stop()));
            // Time for the thread to be refused again, some times if not for sure.
            thread::sleep(Duration::from_millis(50));
            assert!(!has_thread(CALLBACK));
            drop(refusal);

            let mut ran: Vec<_> = (0..5).map(|_| runs.recv_timeout(LIMIT).unwrap()).collect();
            ran.sort_unstable();
            assert_eq!(ran, [0, 1, 2, 3, 4]);
        },
    );
}

#[test]
fn a_callback_waits_for_the_thread_of_deadlines_if_that_is_refused_too() {
    let name = "a_callback_waits_for_the_thread_of_deadlines_if_that_is_refused_too";
    alone(name, || {
        let (ctx, cancel) = Context::background().with_cancel();
        let (ran, runs) = bounded(1);
        ctx.after_func(move || ran.send(()).unwrap());
        let refusal = Refusal::begin();
        cancel.cancel();
        assert!(!has_thread(TIMER) && !has_thread(CALLBACK));
        drop(refusal);

        start_timer();
        assert_eq!(runs.recv_timeout(LIMIT), Ok(()));
    });
}

/// A context that has nothing but a channel.
struct Channel(Receiver<()>);

impl CustomContext for Channel {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }

    fn err(&self) -> Option<Error> {
        (self.0.try_recv() == Err(TryRecvError::Disconnected)).then_some(Error::Canceled)
    }
}

#[test]
fn a_custom_context_without_a_thread_is_watched_as_soon_as_there_is_one() {
    let name = "a_custom_context_without_a_thread_is_watched_as_soon_as_there_is_one";
    alone(name, || {
        start_timer();
        let [(end_early, early), (end_late, late)] = [bounded::<()>(0), bounded(0)];
        let [early, late] = [early, late].map(|done| Context::custom(Channel(done)));

        let refusal = Refusal::begin();
        let (below_early, _cancel) = early.with_cancel();
        let (below_late, _cancel) = late.with_cancel();
        drop(end_early);
        assert_eq!(early.err(), Some(Error::Canceled));
        let (younger, _cancel) = early.with_cancel();
        // The first to come finds the end and brings it to all.
        assert_eq!(younger.err(), Some(Error::Canceled));
        assert_eq!(below_early.err(), Some(Error::Canceled));
        assert_eq!(below_late.err(), None);
        assert!(!has_thread(WATCH) && !has_thread(CALLBACK));
        drop(refusal);

        drop(end_late);
        assert_closes(&below_late.done());
    });
}

#[test]
fn a_worker_without_a_thread_is_an_error_that_ends_its_group() {
    let name = "a_worker_without_a_thread_is_an_error_that_ends_its_group";
    alone(name, || {
        let ran: Result<(), io::Error> = Context::background().scope(|s| {
            let other = s.spawn(|ctx| {
                assert_eq!(ctx.wait(), Error::Canceled);
                Ok("ended")
            });
            let refusal = Refusal::begin();
            let refused = s.spawn(|_| -> io::Result<()> { unreachable!() });
            assert!(refused.recv().is_err());
            drop(refusal);
            assert_eq!(other.recv_timeout(LIMIT), Ok("ended"));
        });
        let err = ran.unwrap_err();
        assert!(err.raw_os_error().is_some(), "the system's own: {err:?}");

        let ran: Result<_, io::Error> =
            Context::background().scope(|s| s.spawn(|_| Ok(7)).recv_timeout(LIMIT));
        assert_eq!(ran.unwrap(), Ok(7));
    });
}

#[cfg(feature = "signal")]
#[test]
fn a_context_for_signals_without_a_thread_is_an_error_and_catches_none() {
    use go_context::signal::{NotifyContext, SIGTERM};
    use rustix::process::Signal;

    let large_stacks = ["env", &format!("RUST_MIN_STACK={STACK}")];
    let name = "a_context_for_signals_without_a_thread_is_an_error_and_catches_none";
    let process = child_of(&large_stacks, name, || {
        let notify = NotifyContext::new().signals([SIGTERM]);
        let refusal = Refusal::begin();
        let err = notify.start(&Context::background()).unwrap_err();
        assert!(err.raw_os_error().is_some(), "the system's own: {err:?}");
        drop(refusal);

        let (ctx, stop) = notify.start(&Context::background()).unwrap();
        child::kill_self(Signal::TERM);
        assert_closes(&ctx.done());
        drop(stop);
        let refusal = Refusal::begin();
        assert!(notify.start(&Context::background()).is_err());
        child::say("refused");
        child::kill_self(Signal::TERM);
        ctx.without_cancel().wait();
        drop(refusal);
    });
    let Some(mut process) = process else { return };
    process.expect("refused");
    process.is_killed(Signal::TERM);
}
