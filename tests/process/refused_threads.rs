//! What happens when the system refuses a thread: what waits for one, what does not, and that nothing
//! is lost.
//!
//! The tests run in child processes in which a thread needs so large a stack that a limit on memory
//! keeps it from starting. The limit applies to root too.

use std::fs;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, never, unbounded, TryRecvError};
use go_context::{Context, Error, RecvError, SendError};
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use support::custom::Channel;
use support::process::{child_of, in_child_each};
use support::threads::{threads_named, CALLBACK, TIMER, WATCH};
use support::{assert_closes, test_name, wait_until, HOUR, LIMIT};

const SOON: Duration = Duration::from_millis(5);

const STACK: u64 = 1 << 30;

/// Runs `role` in a child process, where threads have large stacks.
fn alone(test: &str, role: impl FnOnce()) {
    let large_stacks = ["env", &format!("RUST_MIN_STACK={STACK}")];
    if let Some(mut process) = child_of(&large_stacks, test, role) {
        process.ends();
    }
}

/// Runs `role` like [`alone`], in one child process for each of the variants.
fn alone_in_each(test: &str, variants: [&str; 2], role: impl Fn(&str)) {
    let large_stacks = ["env", &format!("RUST_MIN_STACK={STACK}")];
    in_child_each(&large_stacks, test, &variants, role);
}

/// While it exists, every thread is refused.
struct Refusal(Rlimit);

impl Refusal {
    fn begin() -> Refusal {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib: u64 = size.unwrap().trim_end_matches("kB").trim().parse().unwrap();
        let before = getrlimit(Resource::As);
        // Half a stack is enough for everything else.
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
    threads_named(name) > 0
}

/// Starts the timer thread.
fn start_timer() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    let _done = ctx.done(); // sets the timer
    wait_until("the timer's thread runs", || has_thread(TIMER));
}

#[test]
fn deadline_refused_fires_after_next_deadline() {
    alone(test_name!(), || {
        let refusal = Refusal::begin();
        let (soon, _cancel) = Context::background().with_timeout_cause(SOON, "too slow");
        let (later, _cancel) = Context::background().with_timeout(2 * SOON);
        let closes = [soon.done(), later.done()];
        // Everything else works: a past deadline, a cancel, a sleep.
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

/// A deadline that passes while the timer thread is refused is still noticed by `call`, which returns
/// the error it ends with. No other deadline is set.
///
/// In one process the call begins during the refusal, in the other after it.
fn ends_after_refused_timer(test: &str, call: fn(&Context) -> Error) {
    alone_in_each(test, ["during", "after"], |begin| {
        let (start, starts) = bounded::<Context>(1);
        let (begins, begun) = bounded(1);
        let (ends, ended) = bounded(1);
        thread::spawn(move || {
            let ctx = starts.recv().unwrap();
            let this = fs::read_link("/proc/thread-self").unwrap();
            begins.send(Path::new("/proc").join(this)).unwrap();
            ends.send(call(&ctx)).unwrap();
        });

        let refusal = Refusal::begin();
        let (ctx, _cancel) = Context::background().with_timeout_cause(SOON, "too slow");
        let done = ctx.done();
        assert!(!has_thread(TIMER));
        let refusal = (begin == "during").then_some(refusal);
        start.send(ctx.clone()).unwrap();
        let thread = begun.recv_timeout(LIMIT).unwrap();
        if refusal.is_some() {
            wait_until_blocked(&thread);
        }
        drop(refusal);

        let ended = ended.recv_timeout(LIMIT);
        assert_eq!(ended, Ok(Error::DeadlineExceeded), "{begin} the refusal");
        assert_closes(&done);
        assert_eq!(ctx.cause().unwrap().to_string(), "too slow");
    });
}

/// Waits until the thread sleeps, or has ended.
#[track_caller]
fn wait_until_blocked(thread: &Path) {
    let sleeps = || {
        let status = fs::read_to_string(thread.join("status"));
        status.map_or(true, |status| status.contains("State:\tS"))
    };
    // It may also sleep for a moment before, hence more than one check.
    wait_until("the call blocks", || {
        (0..3).all(|_| {
            thread::sleep(Duration::from_micros(300));
            sleeps()
        })
    });
}

#[test]
fn wait_with_refused_timer_returns() {
    ends_after_refused_timer(test_name!(), Context::wait);
}

#[test]
fn sleep_with_refused_timer_is_cut_short() {
    ends_after_refused_timer(test_name!(), |ctx| ctx.sleep(HOUR).unwrap_err());
}

#[test]
fn recv_with_refused_timer_returns() {
    ends_after_refused_timer(test_name!(), |ctx| match ctx.recv(&never::<()>()) {
        Err(RecvError::Done(err)) => err,
        other => panic!("{other:?}"),
    });
}

#[test]
fn send_with_refused_timer_returns() {
    ends_after_refused_timer(test_name!(), |ctx| {
        let (full, _receiver) = bounded(0);
        match ctx.send(&full, ()) {
            Err(SendError::Done((), err)) => err,
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn iter_with_refused_timer_ends() {
    ends_after_refused_timer(test_name!(), |ctx| {
        assert_eq!(ctx.iter(&never::<()>()).count(), 0);
        ctx.err().unwrap()
    });
}

#[test]
fn wait_while_with_refused_timer_returns() {
    ends_after_refused_timer(test_name!(), |ctx| {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let waited = ctx.wait_while(&pair, |()| true);
        waited.map(drop).unwrap_err()
    });
}

#[test]
fn scope_with_refused_timer_frees_spawn() {
    ends_after_refused_timer(test_name!(), |ctx| {
        // Without a permit `spawn` waits until the context is done.
        let _ended: Result<(), io::Error> = ctx.scope(|s| {
            s.set_limit(0);
            drop(s.spawn(|_| Ok(())));
            Ok(())
        });
        ctx.err().unwrap()
    });
}

#[test]
fn err_polled_with_refused_timer_becomes_some() {
    ends_after_refused_timer(test_name!(), |ctx| loop {
        if let Some(err) = ctx.err() {
            return err;
        }
        thread::sleep(Duration::from_millis(1));
    });
}

#[test]
fn done_polled_with_refused_timer_disconnects() {
    ends_after_refused_timer(test_name!(), |ctx| loop {
        if ctx.done().try_recv() == Err(TryRecvError::Disconnected) {
            return ctx.err().unwrap();
        }
        thread::sleep(Duration::from_millis(1));
    });
}

/// Uses the crate once, without a deadline.
fn use_once(how: &str) {
    match how {
        "done" => drop(Context::background().with_cancel().0.done()),
        "sleep" => Context::background().sleep(SOON).unwrap(),
        how => panic!("{how}"),
    }
}

#[test]
fn deadline_refused_fires_after_unrelated_use() {
    alone_in_each(test_name!(), ["done", "sleep"], |how| {
        let refusal = Refusal::begin();
        let (ctx, _cancel) = Context::background().with_timeout(SOON);
        let done = ctx.done();
        assert!(!has_thread(TIMER));
        drop(refusal);

        use_once(how);
        assert_closes(&done);
        assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
    });
}

#[test]
fn callbacks_refused_with_timer_run_on_next_use() {
    alone_in_each(test_name!(), ["done", "sleep"], |how| {
        let (ctx, cancel) = Context::background().with_cancel();
        let (ran, runs) = unbounded();
        let all = Arc::new(Barrier::new(3));
        for _ in 0..3 {
            let (ran, all) = (ran.clone(), all.clone());
            ctx.after_func(move || {
                all.wait(); // so each needs a thread of its own
                ran.send(()).unwrap();
            });
        }
        let refusal = Refusal::begin();
        cancel.cancel();
        assert!(!has_thread(TIMER) && !has_thread(CALLBACK));
        drop(refusal);

        use_once(how);
        for _ in 0..3 {
            assert_eq!(runs.recv_timeout(LIMIT), Ok(()), "{how}");
        }
    });
}

#[test]
fn callback_that_ends_retries_refused_timer() {
    alone(test_name!(), || {
        let (ctx, cancel) = Context::background().with_cancel();
        let (began, begins) = bounded(1);
        let (release, released) = bounded::<()>(0);
        ctx.after_func(move || {
            began.send(()).unwrap();
            let _ = released.recv();
        });
        cancel.cancel();
        assert_eq!(begins.recv_timeout(LIMIT), Ok(()));

        let refusal = Refusal::begin();
        let (timed, _cancel) = Context::background().with_timeout(SOON);
        let done = timed.done();
        drop(refusal);
        drop(release);
        assert_closes(&done);
        assert_eq!(timed.err(), Some(Error::DeadlineExceeded));
    });
}

#[test]
fn callback_refused_runs_once_threads_are_allowed() {
    alone(test_name!(), || {
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
        // Time for the thread to be refused again, probably several times.
        thread::sleep(Duration::from_millis(50));
        assert!(!has_thread(CALLBACK));
        drop(refusal);

        let mut ran: Vec<_> = (0..5).map(|_| runs.recv_timeout(LIMIT).unwrap()).collect();
        ran.sort_unstable();
        assert_eq!(ran, [0, 1, 2, 3, 4]);
    });
}

#[test]
fn callback_refused_with_timer_runs_with_timer() {
    alone(test_name!(), || {
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

#[test]
fn watch_refused_starts_once_threads_are_allowed() {
    alone(test_name!(), || {
        start_timer();
        let [(end_early, early), (end_late, late)] = [bounded::<()>(0), bounded(0)];
        let [early, late] = [early, late].map(|done| Context::custom(Channel(done)));

        let refusal = Refusal::begin();
        let (below_early, _cancel) = early.with_cancel();
        let (below_late, _cancel) = late.with_cancel();
        drop(end_early);
        assert_eq!(early.err(), Some(Error::Canceled));
        let (younger, _cancel) = early.with_cancel();
        // The first call that finds it done ends all its children.
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
fn spawn_refused_panics_and_ends_workers() {
    alone(test_name!(), || {
        let (worker_ended, ended) = bounded(1);
        let (held, dropped) = bounded::<()>(0);
        let refusal = Mutex::new(None);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            Context::background().scope(|s| {
                s.spawn(|ctx| {
                    let err = ctx.wait();
                    let cause = ctx.cause().unwrap().to_string();
                    worker_ended.send((err, cause)).unwrap();
                    Ok(())
                });
                *refusal.lock().unwrap() = Some(Refusal::begin());
                s.spawn(move |_| -> io::Result<_> { Ok(held) });
                Ok(())
            })
        }));
        drop(refusal);
        let panic = panic.unwrap_err();
        let text = panic.downcast_ref::<String>().expect("a text");
        assert!(text.starts_with("failed to spawn thread: Os"), "{text}");
        assert_closes(&dropped);
        let (err, cause) = ended.try_recv().expect("the worker has ended");
        assert_eq!(err, Error::Canceled);
        assert_eq!(cause, format!("the group's function panicked: {text}"));
    });
}

#[test]
fn try_spawn_refused_returns_work() {
    alone(test_name!(), || {
        let ended: Result<(), io::Error> = Context::background().scope(|s| {
            s.set_limit(1);
            let text = String::from("unharmed");
            let refusal = Refusal::begin();
            let work = s.try_spawn(|_| Ok(text)).expect_err("it is refused");
            assert_eq!(s.context().err(), None);
            drop(refusal);
            let spawned = s.try_spawn(work).ok().expect("the permit is free");
            assert_eq!(spawned.recv_timeout(LIMIT).unwrap(), "unharmed");
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[test]
fn spawn_with_refused_returns_the_error() {
    alone(test_name!(), || {
        let ended: Result<(), io::Error> = Context::background().scope(|s| {
            s.set_limit(1);
            let (held, dropped) = bounded::<()>(0);
            let refusal = Refusal::begin();
            let refused = s.spawn_with(thread::Builder::new(), move |_| Ok(held));
            drop(refusal);
            let err = refused.unwrap_err();
            assert!(err.raw_os_error().is_some(), "the system's own: {err:?}");
            assert_eq!(dropped.try_recv(), Err(TryRecvError::Disconnected));
            assert_eq!(s.context().err(), None);
            let spawned = s.spawn_with(thread::Builder::new(), |_| Ok(7))?;
            assert_eq!(spawned.recv_timeout(LIMIT), Ok(7));
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[cfg(feature = "signal")]
#[test]
fn notify_start_refused_is_error_and_catches_none() {
    use go_context::signal::{NotifyContext, SIGTERM};
    use rustix::process::Signal;
    use support::process::{assert_killed_after, kill_self, report};

    let large_stacks = ["env", &format!("RUST_MIN_STACK={STACK}")];
    let process = child_of(&large_stacks, test_name!(), || {
        let notify = NotifyContext::new().signals([SIGTERM]);
        let refusal = Refusal::begin();
        let err = notify.start(&Context::background()).unwrap_err();
        assert!(err.raw_os_error().is_some(), "the system's own: {err:?}");
        drop(refusal);

        let (ctx, stop) = notify.start(&Context::background()).unwrap();
        kill_self(Signal::TERM);
        assert_closes(&ctx.done());
        drop(stop);
        let refusal = Refusal::begin();
        assert!(notify.start(&Context::background()).is_err());
        report("refused");
        kill_self(Signal::TERM);
        ctx.without_cancel().wait();
        drop(refusal);
    });
    assert_killed_after(process, "refused", Signal::TERM);
}
