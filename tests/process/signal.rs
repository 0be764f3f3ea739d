//! Contexts that signals cancel. Each test that sends a signal runs in child processes.

use std::error::Error as _;
use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, Location};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, channel, Sender};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{self, bounded, never, select, Receiver};
use go_context::signal::{
    NotifyContext, Received, StopFunc, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGQUIT,
    SIGTERM, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use go_context::{Context, CustomContext, EndKind, Error, Key};
use rustix::process::Signal;
use signal_hook::low_level::raise;
use support::process::{
    assert_killed_after, child, child_of, in_child, kill_self, report, wait_for_go_on,
};
use support::threads::{thread_names, threads_named, CALLBACK, TIMER};
use support::{test_name, wait_until, LIMIT};

fn start(signals: &[i32]) -> (Context, StopFunc) {
    let signals = NotifyContext::new().signals(signals.iter().copied());
    signals.start(&Context::background()).unwrap()
}

fn start_to_keep(signals: &[i32]) -> (Context, StopFunc) {
    let signals = NotifyContext::new().signals(signals.iter().copied());
    let background = Context::background();
    signals.keep_catching().start(&background).unwrap()
}

/// Returns the signal that cancelled the context.
#[track_caller]
fn received(ctx: &Context) -> i32 {
    let cause = ctx.cause().expect("it is done");
    assert_eq!(ctx.err(), Some(Error::Canceled));
    let received: Option<&Received> = cause.downcast_ref();
    received.unwrap_or_else(|| panic!("{cause}")).signal()
}

#[track_caller]
fn assert_no_cause(ctx: &Context) {
    let cause = ctx.cause().expect("it is done");
    assert_eq!(cause.downcast_ref(), Some(&Error::Canceled), "{cause}");
}

#[test]
fn signal_wakes_all_waiters() {
    let process = child(test_name!(), || {
        let (ctx, _stop) = start(&[SIGINT, SIGTERM]);
        let (grandchild, _cancel) = ctx.with_cancel();
        thread::scope(|s| {
            let waits = s.spawn(|| ctx.wait());
            let selects = s.spawn(|| {
                select! {
                    recv(grandchild.done()) -> _ => grandchild.err(),
                    recv(never::<()>()) -> _ => None,
                }
            });
            let sleeps = s.spawn(|| grandchild.sleep(LIMIT));
            report("ready");
            assert_eq!(waits.join().unwrap(), Error::Canceled);
            assert_eq!(selects.join().unwrap(), Some(Error::Canceled));
            assert_eq!(sleeps.join().unwrap(), Err(Error::Canceled));
        });
        assert_eq!(received(&ctx), SIGTERM);
        report(&grandchild.cause().unwrap().to_string());
    });
    let Some(mut process) = process else { return };
    process.expect("ready");
    process.send(Signal::TERM);
    process.expect("terminated signal received");
    process.ends();
}

#[test]
fn second_signal_kills() {
    let process = child(test_name!(), || {
        let (ctx, _stop) = NotifyContext::new().start(&Context::background()).unwrap();
        report("ready");
        ctx.wait();
        report(&ctx.cause().unwrap().to_string());
        wait_for_go_on();
    });
    let Some(mut process) = process else { return };
    process.expect("ready");
    process.send(Signal::INT);
    process.expect("interrupt signal received");
    process.send(Signal::INT);
    process.is_killed(Signal::INT);
}

/// Even in the moment when the context is seen done, and its children are not yet.
#[test]
fn next_signal_kills_once_context_is_done() {
    for _ in 0..3 {
        let process = child(test_name!(), || {
            let (ctx, _stop) = NotifyContext::new().start(&Context::background()).unwrap();
            let children: Vec<_> = (0..50_000).map(|_| ctx.with_cancel()).collect();
            assert!(children.iter().all(|(child, _)| child.err().is_none()));
            thread::scope(|s| {
                s.spawn(|| {
                    while ctx.err().is_none() {}
                    raise(SIGTERM).unwrap();
                    report("alive");
                });
                raise(SIGINT).unwrap();
            });
        });
        let Some(mut process) = process else { return };
        process.is_killed(Signal::TERM);
    }
}

#[test]
fn keep_catching_ignores_later_signals() {
    let process = child(test_name!(), || {
        let (ctx, stop) = start_to_keep(&[SIGINT, SIGTERM]);
        report("ready");
        ctx.wait();
        assert_eq!(received(&ctx), SIGINT);
        report("done");
        wait_for_go_on();
        // More than fit into the socket, if they were not read.
        for _ in 0..2000 {
            raise(SIGINT).unwrap();
        }
        assert_eq!(received(&ctx), SIGINT);
        stop.stop();
        assert_eq!(received(&ctx), SIGINT);
        report("stopped");
        wait_for_go_on();
    });
    let Some(mut process) = process else { return };
    process.expect("ready");
    process.send(Signal::INT);
    process.expect("done");
    for _ in 0..5 {
        process.send(Signal::INT);
        process.send(Signal::TERM);
    }
    process.go_on();
    process.expect("stopped");
    process.send(Signal::TERM);
    process.is_killed(Signal::TERM);
}

#[test]
fn stop_restores_default() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1] {
        let process = child(test_name!(), || {
            let all = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];
            let (ctx, stop) = start(&all);
            let (kept, stop_kept) = start_to_keep(&all);
            stop.stop();
            stop_kept.stop();
            assert_no_cause(&ctx);
            assert_no_cause(&kept);
            stop.stop();
            report("stopped");
            wait_for_go_on();
        });
        let Some(mut process) = process else { return };
        process.expect("stopped");
        process.send(signal);
        process.is_killed(signal);
    }
}

#[test]
fn stop_func_drop_restores_default() {
    for _ in 0..2 {
        let process = child(test_name!(), || {
            let (kept, stop) = start_to_keep(&[SIGINT]);
            let (ctx, _) = start(&[SIGINT]);
            assert_no_cause(&ctx);
            raise(SIGINT).unwrap();
            kept.wait();
            drop(stop);
            assert_eq!(received(&kept), SIGINT);
            raise(SIGINT).unwrap();
        });
        let Some(mut process) = process else { return };
        process.is_killed(Signal::INT);
    }
}

#[test]
fn harmless_signal_stays_harmless_after_stop() {
    in_child(test_name!(), || {
        let (ctx, _stop) = start(&[SIGWINCH]);
        raise(SIGWINCH).unwrap();
        ctx.wait();
        assert_eq!(
            ctx.cause().unwrap().to_string(),
            "window changed signal received"
        );
        raise(SIGWINCH).unwrap();
        kill_self(Signal::WINCH);
    });
}

#[test]
fn default_action_returns_after_last_stop() {
    let process = child(test_name!(), || {
        let (first, stop_first) = start_to_keep(&[SIGINT]);
        let (second, stop_second) = start_to_keep(&[SIGINT, SIGTERM]);
        let (third, _stop_third) = start(&[SIGINT]);
        stop_first.stop();
        assert!(second.err().is_none());
        raise(SIGINT).unwrap();
        assert_eq!(second.wait(), Error::Canceled);
        assert_eq!(third.wait(), Error::Canceled);
        assert_eq!(received(&second), SIGINT);
        assert_eq!(received(&third), SIGINT);
        assert_no_cause(&first);

        // The third has ended and the second has not.
        raise(SIGINT).unwrap();
        let (fourth, stop_fourth) = start(&[SIGINT]);
        stop_second.stop();
        raise(SIGINT).unwrap();
        fourth.wait();
        stop_fourth.stop();
        report("over");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "over", Signal::INT);
}

#[test]
fn one_signal_is_released_while_other_is_caught() {
    let process = child(test_name!(), || {
        let (_both, stop_both) = start(&[SIGINT, SIGTERM]);
        let (_one, _stop_one) = start_to_keep(&[SIGINT]);
        stop_both.stop();
        raise(SIGINT).unwrap();
        report("alive");
        raise(SIGTERM).unwrap();
    });
    assert_killed_after(process, "alive", Signal::TERM);
}

#[test]
fn notify_contexts_follow_each_other() {
    let process = child(test_name!(), || {
        for round in 0..20 {
            let signal = [SIGINT, SIGUSR1, SIGTERM][round % 3];
            let (ctx, stop) = start(&[SIGINT, SIGTERM, SIGUSR1]);
            if round % 4 == 0 {
                stop.stop();
                assert_no_cause(&ctx);
            } else {
                raise(signal).unwrap();
                ctx.wait();
                assert_eq!(received(&ctx), signal);
            }
        }
        report("over");
        raise(SIGUSR1).unwrap();
    });
    assert_killed_after(process, "over", Signal::USR1);
}

#[test]
fn signal_kills_after_parent_cancel() {
    let process = child(test_name!(), || {
        let files = file_count();
        let (parent, cancel) = Context::background().with_cancel_cause();
        let (ctx, _stop) = NotifyContext::new().start(&parent).unwrap();
        assert!(file_count() > files);
        cancel.cancel("closing time");
        assert_eq!(ctx.err(), Some(Error::Canceled));
        assert_eq!(ctx.cause().unwrap().to_string(), "closing time");
        wait_until("the files are closed", || file_count() == files);
        report("over");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "over", Signal::INT);
}

#[test]
fn parent_deadline_ends_notify_context() {
    let process = child(test_name!(), || {
        let files = file_count();
        let soon = Duration::from_millis(5);
        let (parent, _cancel) = Context::background().with_timeout(soon);
        let (ctx, _stop) = NotifyContext::new().start(&parent).unwrap();
        assert_eq!(ctx.deadline(), parent.deadline());
        assert_eq!(ctx.wait(), Error::DeadlineExceeded);
        wait_until("the files are closed", || file_count() == files);
        report("over");
        raise(SIGTERM).unwrap();
    });
    assert_killed_after(process, "over", Signal::TERM);
}

#[test]
fn start_on_done_parent_catches_nothing() {
    let process = child(test_name!(), || {
        let (parent, cancel) = Context::background().with_cancel_cause();
        cancel.cancel("closing time");
        let (ctx, _stop) = NotifyContext::new().start(&parent).unwrap();
        assert_eq!(ctx.err(), Some(Error::Canceled));
        assert_eq!(ctx.cause().unwrap().to_string(), "closing time");
        report("over");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "over", Signal::INT);
}

#[test]
fn keep_catching_catches_after_parent_cancel() {
    let process = child(test_name!(), || {
        let (parent, cancel) = Context::background().with_cancel();
        let keep = NotifyContext::new().keep_catching();
        let (before, stop_before) = keep.start(&parent).unwrap();
        cancel.cancel();
        let (after, stop_after) = keep.start(&parent).unwrap();
        raise(SIGINT).unwrap();
        stop_before.stop();
        raise(SIGINT).unwrap();
        stop_after.stop();
        assert_no_cause(&before);
        assert_no_cause(&after);
        report("over");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "over", Signal::INT);
}

#[test]
#[cfg(target_os = "linux")]
fn ignored_signal_is_ignored_again_after_stop() {
    let ignoring = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];
    let process = child_of(&ignoring, test_name!(), || {
        raise(SIGHUP).unwrap();
        for _ in 0..2 {
            let (ctx, stop) = start(&[SIGHUP, SIGINT]);
            raise(SIGHUP).unwrap();
            ctx.wait();
            assert_eq!(received(&ctx), SIGHUP);
            raise(SIGHUP).unwrap();
            stop.stop();
            raise(SIGHUP).unwrap();
        }
        report("alive");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "alive", Signal::INT);
}

#[test]
#[cfg(target_os = "linux")]
fn earlier_handler_still_runs() {
    in_child(test_name!(), || {
        let theirs = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGUSR1, theirs.clone()).unwrap();
        let raised = || {
            raise(SIGUSR1).unwrap();
            assert!(theirs.swap(false, Ordering::SeqCst));
        };
        raised();
        let (ctx, stop) = start(&[SIGUSR1]);
        raised();
        ctx.wait();
        assert_eq!(received(&ctx), SIGUSR1);
        raised();
        stop.stop();
        raised();
    });
}

#[test]
#[cfg(target_os = "linux")]
fn real_time_signal_exits_with_status() {
    const SIGNAL: i32 = 42;
    let process = child(test_name!(), || {
        let (ctx, _stop) = start(&[SIGNAL]);
        let text = "signal.NotifyContext(context.Background, [signal 42])";
        assert_eq!(ctx.to_string(), text);
        raise(SIGNAL).unwrap();
        ctx.wait();
        report(&ctx.cause().unwrap().to_string());
        raise(SIGNAL).unwrap();
    });
    let Some(mut process) = process else { return };
    process.expect("signal 42 received");
    process.exits(128 + SIGNAL);
}

#[test]
fn start_with_uncatchable_signal_is_error() {
    let process = child(test_name!(), || {
        let files = file_count();
        let forbidden = [
            (Signal::KILL, "killed"),
            (Signal::STOP, "stopped (signal)"),
            (Signal::ILL, "illegal instruction"),
            (Signal::FPE, "floating point exception"),
            (Signal::SEGV, "segmentation fault"),
        ];
        assert_eq!(forbidden.len(), signal_hook::consts::FORBIDDEN.len());
        for (signal, name) in forbidden {
            let signal = signal.as_raw();
            let text = format!("signal {signal} ({name}) cannot be caught");
            assert_refused(&[SIGINT, signal, SIGTERM], &text);
        }
        // Of 100 it is the system that returns an error.
        for signal in [0, -1, 100, 999, i32::MAX, i32::MIN] {
            let text = format!("there is no signal {signal}");
            assert_refused(&[signal], &text);
            assert_refused(&[SIGINT, signal, SIGTERM], &text);
            assert_refused(&[SIGINT, SIGTERM, signal], &text);
        }
        assert_refused(&[], "there are no signals to catch");
        assert_eq!(file_count(), files);
        report("refused");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "refused", Signal::INT);
}

#[track_caller]
fn assert_refused(signals: &[i32], text: &str) {
    let notify = NotifyContext::new().signals(signals.iter().copied());
    let err = notify.start(&Context::background()).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidInput, "{err}");
    assert_eq!(err.to_string(), text);
}

#[test]
fn start_without_file_descriptors_is_error() {
    let limited = ["sh", "-c", "trap '' HUP; ulimit -n 50; exec \"$@\"", "sh"];
    let process = child_of(&limited, test_name!(), || {
        let (ctx, _stop) = start_to_keep(&[SIGTERM]);
        let mut files: Vec<File> = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        // It needs four: one more each time, and too few until then. One short, it cannot even see
        // that SIGHUP is ignored.
        let notify = NotifyContext::new().signals([SIGHUP, SIGINT]);
        for _ in 0..4 {
            let err = notify.start(&Context::background()).unwrap_err();
            assert_eq!(err.raw_os_error(), Some(24), "{err}"); // EMFILE
            files.pop();
        }
        drop(notify.start(&Context::background()).unwrap());
        #[cfg(target_os = "linux")]
        raise(SIGHUP).unwrap();
        raise(SIGTERM).unwrap();
        ctx.wait();
        report("refused");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "refused", Signal::INT);
}

/// A custom context that is never done, and whose `after_func` panics.
struct Refuses(Receiver<()>);

impl CustomContext for Refuses {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }
    fn err(&self) -> Option<Error> {
        None
    }
    fn after_func(&self, _: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        panic::resume_unwind(Box::new("on purpose"))
    }
}

#[test]
fn start_with_panicking_parent_catches_nothing() {
    let process = child(test_name!(), || {
        let (_open, done) = bounded(0);
        let parent = Context::custom(Refuses(done));
        let start = || NotifyContext::new().start(&parent).map(drop);
        assert!(panic::catch_unwind(start).is_err());
        report("panicked");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "panicked", Signal::INT);
}

#[test]
fn signal_listed_twice_counts_once() {
    let process = child(test_name!(), || {
        let (ctx, _stop) = start(&[SIGQUIT, SIGINT, SIGQUIT, SIGINT, SIGINT]);
        let text = "signal.NotifyContext(context.Background, [quit interrupt])";
        assert_eq!(ctx.to_string(), text);
        raise(SIGINT).unwrap();
        ctx.wait();
        report("done");
        raise(SIGINT).unwrap();
    });
    assert_killed_after(process, "done", Signal::INT);
}

#[test]
fn cause_is_one_of_the_signals() {
    in_child(test_name!(), || {
        let all = [SIGINT, SIGTERM, SIGUSR1, SIGUSR2];
        for _ in 0..20 {
            let (ctx, _stop) = start_to_keep(&all);
            let others = [start_to_keep(&all), start_to_keep(&all)];
            thread::scope(|s| {
                for signal in all {
                    s.spawn(move || raise(signal).unwrap());
                }
            });
            for ctx in [&ctx, &others[0].0, &others[1].0] {
                ctx.wait();
                assert!(all.contains(&received(ctx)));
            }
        }
    });
}

fn file_count() -> usize {
    fs::read_dir("/dev/fd").unwrap().count()
}

/// The ways in which a context can stop catching.
const ENDS: [fn(); 6] = [
    || start(&[SIGINT, SIGTERM]).1.stop(),
    || drop(start_to_keep(&[SIGINT, SIGTERM])),
    || {
        let (ctx, stop) = start(&[SIGINT, SIGTERM]);
        raise(SIGINT).unwrap();
        ctx.wait();
        drop(stop);
    },
    || {
        let (_ctx, stop) = start(&[SIGINT, SIGTERM]);
        raise(SIGINT).unwrap();
        stop.stop();
    },
    || {
        let (parent, cancel) = Context::background().with_cancel();
        let (_ctx, stop) = NotifyContext::new().start(&parent).unwrap();
        cancel.cancel();
        stop.stop();
    },
    || {
        let (_ctx, stop) = start(&[SIGINT, SIGTERM]);
        thread::scope(|s| {
            (0..4).for_each(|_| drop(s.spawn(|| stop.stop())));
        });
    },
];

#[test]
#[cfg(target_os = "linux")]
fn notify_context_leaves_no_thread_and_no_file() {
    in_child(test_name!(), || {
        let (files, own) = (file_count(), thread_names().len());
        for number in 0..204 {
            ENDS[number % ENDS.len()]();
            assert_eq!(file_count(), files, "{}", number % ENDS.len());
        }
        // A thread that has been joined may be listed for a moment, and one for callbacks has no name
        // at first. The timer thread ensures that no callback waits for another.
        wait_until("no other thread is left", || {
            let shared = [CALLBACK, TIMER];
            let is_own = |name: &&String| !shared.contains(&name.as_str());
            thread_names().iter().filter(is_own).count() <= own
        });
    });
}

#[test]
#[cfg(target_os = "linux")]
fn notify_context_has_one_thread_and_few_files() {
    let process = child(test_name!(), || {
        let before = file_count();
        let contexts: Vec<_> = (0..200).map(|_| start(&[SIGINT, SIGTERM])).collect();
        assert_eq!(file_count(), before + 200 * 3);
        wait_until("all watch", || threads_named("go-ctx-signal") == 200);
        raise(SIGTERM).unwrap();
        for (ctx, _) in &contexts {
            ctx.wait();
            assert_eq!(received(ctx), SIGTERM);
        }
        // Done, and `stop` has not been called.
        wait_until("the thread has ended", || {
            threads_named("go-ctx-signal") == 0
        });
        assert_eq!(file_count(), before);
        // Nor did it take threads for callbacks.
        assert_eq!(threads_named(CALLBACK), 0);
        report("over");
        raise(SIGTERM).unwrap();
    });
    assert_killed_after(process, "over", Signal::TERM);
}

/// `stop` may be called from anywhere.
#[test]
fn stop_can_be_called_from_callbacks() {
    in_child(test_name!(), || {
        for start in [start, start_to_keep] {
            let (ctx, stop) = start(&[SIGINT]);
            let stop = Arc::new(stop);
            let (stopped, stops) = channel();
            for _ in 0..10 {
                let (stop, stopped, ctx) = (stop.clone(), stopped.clone(), ctx.clone());
                ctx.clone().after_func(move || {
                    stop.stop();
                    stopped.send(received(&ctx)).unwrap();
                });
            }
            raise(SIGINT).unwrap();
            stop.stop();
            for _ in 0..10 {
                assert_eq!(stops.recv_timeout(LIMIT), Ok(SIGINT));
            }
        }
    });
}

/// A handle of a context may be owned by one of its callbacks.
#[test]
fn stop_func_can_be_dropped_in_own_callback() {
    in_child(test_name!(), || {
        for start in [start, start_to_keep] {
            let (ctx, stop) = start(&[SIGINT]);
            let (dropped, drops) = channel();
            ctx.after_func(move || {
                drop(stop);
                dropped.send(()).unwrap();
            });
            raise(SIGINT).unwrap();
            assert_eq!(drops.recv_timeout(LIMIT), Ok(()));
            assert_eq!(received(&ctx), SIGINT);
        }
    });
}

/// A custom context that is never done. It calls `stop` when it is unregistered from.
struct Stops {
    done: Receiver<()>,
    _open: crossbeam_channel::Sender<()>,
    stop: Arc<StopFunc>,
    stopped_on: Sender<String>,
}

impl Stops {
    /// The context, and the names of the threads that have called `stop`.
    fn context(stop: StopFunc) -> (Context, mpsc::Receiver<String>) {
        let (open, done) = bounded(0);
        let (stopped_on, threads) = channel();
        let stops = Stops {
            done,
            _open: open,
            stop: Arc::new(stop),
            stopped_on,
        };
        (Context::custom(stops), threads)
    }
}

impl CustomContext for Stops {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }
    fn err(&self) -> Option<Error> {
        None
    }
    fn after_func(&self, _: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        let (stop, stopped_on) = (self.stop.clone(), self.stopped_on.clone());
        Some(Box::new(move || {
            stop.stop();
            let name = thread::current().name().unwrap().to_string();
            stopped_on.send(name).unwrap();
        }))
    }
    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("custom")
    }
}

/// The thread that waits for signals runs no user code: that could call `stop`, which waits for this
/// thread.
#[test]
fn custom_unregister_can_call_stop() {
    in_child(test_name!(), || {
        for start in [start, start_to_keep] {
            let (ctx, stop) = start(&[SIGINT]);
            let (custom, stopped) = Stops::context(stop);
            let (merged, _cancel) = ctx.merge(&custom);
            raise(SIGINT).unwrap();
            let thread = stopped.recv_timeout(LIMIT).expect("it is called off");
            assert_eq!(thread, CALLBACK);
            assert_eq!(received(&merged), SIGINT);
        }
    });
}

/// A signal that arrives while the context stops catching is received or has its default action.
#[test]
fn signal_is_not_lost_during_many_stops() {
    // Releasing so many takes a while, for the first as for all.
    const ALL: [i32; 15] = [
        SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGPROF, SIGVTALRM,
        SIGURG, SIGCHLD, SIGCONT, SIGXCPU, SIGXFSZ,
    ];
    for _ in 0..10 {
        let process = child(test_name!(), || {
            for round in 0..100 {
                let (ctx, stop) = start_to_keep(&ALL);
                thread::scope(|s| {
                    s.spawn(|| stop.stop());
                    // At first before `stop` does anything, in the end when it has returned.
                    let (begin, delay) = (Instant::now(), Duration::from_micros(10 * round));
                    while begin.elapsed() < delay {}
                    raise(SIGINT).unwrap(); // arrives on this thread, and at once
                });
                assert_eq!(received(&ctx), SIGINT);
            }
        });
        let Some(mut process) = process else { return };
        let status = process.status();
        let well = status.success() || status.signal() == Some(SIGINT);
        assert!(well, "{status}");
    }
}

#[test]
fn notify_context_displays_parent() {
    #[derive(PartialEq, Eq)]
    struct User;
    impl Key for User {
        type Value = u8;
    }
    let background = Context::background();
    let one = NotifyContext::new().signals([SIGUSR1]);
    let two = NotifyContext::new().signals([SIGUSR2, SIGHUP]);
    let value = std::any::type_name::<User>();
    let (ctx, _stop) = one.start(&background).unwrap();
    let text = "signal.NotifyContext(context.Background, [user defined signal 1])";
    assert_eq!(ctx.to_string(), text);
    let (child, _cancel) = ctx.with_cancel();
    assert_eq!(child.to_string(), format!("{text}.WithCancel"));
    let debug = format!("{child:?}");
    assert!(debug.starts_with(&format!("Context {{ path: {text}.WithCancel, derived_at: ")));
    assert!(debug.ends_with(", err: None }"));

    let (todo, _cancel) = Context::todo().with_value(User, 1).with_cancel();
    let (inner, _stop) = one.start(&todo).unwrap();
    let (outer, _stop) = two.start(&inner.with_value(User, 2)).unwrap();
    let inner_text = format!(
        "signal.NotifyContext(context.TODO.WithValue({value}, u8).WithCancel, \
         [user defined signal 1])"
    );
    let outer_text = format!(
        "signal.NotifyContext({inner_text}.WithValue({value}, u8), \
         [user defined signal 2 hangup])"
    );
    assert_eq!(inner.to_string(), inner_text);
    assert_eq!(outer.to_string(), outer_text);
    assert_eq!(outer.value(&User), Some(&2));
    assert_eq!(inner.value(&User), Some(&1));

    let (merged, _cancel) = outer.merge(&ctx);
    assert_eq!(merged.to_string(), format!("{outer_text}.Merge({text})"));
    let detached = merged.without_cancel();
    let (again, _stop) = one.start(&detached).unwrap();
    assert_eq!(
        again.to_string(),
        format!(
            "signal.NotifyContext({outer_text}.Merge({text}).WithoutCancel, \
             [user defined signal 1])"
        )
    );

    let (custom, _) = Stops::context(one.start(&background).unwrap().1);
    let (ctx, _stop) = one.start(&custom.with_value(User, 3)).unwrap();
    assert_eq!(
        ctx.to_string(),
        format!("signal.NotifyContext(custom.WithValue({value}, u8), [user defined signal 1])")
    );
}

#[test]
fn signals_display_as_in_go() {
    use signal_hook::consts::{
        SIGABRT, SIGBUS, SIGIO, SIGPIPE, SIGSYS, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU,
    };
    for (signal, name) in [
        (SIGABRT, "aborted"),
        (SIGALRM, "alarm clock"),
        (SIGBUS, "bus error"),
        (SIGCHLD, "child exited"),
        (SIGCONT, "continued"),
        (SIGHUP, "hangup"),
        (SIGINT, "interrupt"),
        (SIGIO, "I/O possible"),
        (SIGPIPE, "broken pipe"),
        (SIGPROF, "profiling timer expired"),
        (SIGQUIT, "quit"),
        (SIGSYS, "bad system call"),
        (SIGTERM, "terminated"),
        (SIGTRAP, "trace/breakpoint trap"),
        (SIGTSTP, "stopped"),
        (SIGTTIN, "stopped (tty input)"),
        (SIGTTOU, "stopped (tty output)"),
        (SIGURG, "urgent I/O condition"),
        (SIGUSR1, "user defined signal 1"),
        (SIGUSR2, "user defined signal 2"),
        (SIGVTALRM, "virtual timer expired"),
        (SIGWINCH, "window changed"),
        (SIGXCPU, "CPU time limit exceeded"),
        (SIGXFSZ, "file size limit exceeded"),
    ] {
        let one = NotifyContext::default().signals([signal]);
        let (ctx, stop) = one.start(&Context::background()).unwrap();
        let text = format!("signal.NotifyContext(context.Background, [{name}])");
        assert_eq!(ctx.to_string(), text);
        assert_eq!(format!("{stop:?}"), "StopFunc { .. }");
    }
}

#[test]
fn received_is_error_with_source() {
    in_child(test_name!(), || {
        let texts = [
            (SIGINT, "interrupt signal received"),
            (SIGTERM, "terminated signal received"),
            (SIGHUP, "hangup signal received"),
            (SIGQUIT, "quit signal received"),
            (SIGUSR1, "user defined signal 1 signal received"),
            (SIGUSR2, "user defined signal 2 signal received"),
            (SIGWINCH, "window changed signal received"),
        ];
        for (signal, text) in texts {
            let (ctx, _stop) = start(&[signal]);
            raise(signal).unwrap();
            ctx.wait();
            let cause = ctx.cause().unwrap();
            assert_eq!(cause.to_string(), text);
            assert_eq!(received(&ctx), signal);
            let source = cause.source().unwrap();
            assert_eq!(source.downcast_ref(), Some(&Error::Canceled));
        }
    });
}

/// Also returns the place of the call.
#[track_caller]
fn start_placed(signals: &[i32]) -> (Context, StopFunc, &'static Location<'static>) {
    let signals = NotifyContext::new().signals(signals.iter().copied());
    let (ctx, stop) = signals.start(&Context::background()).unwrap();
    (ctx, stop, Location::caller())
}

/// Calls `stop`. Returns the place of the call.
#[track_caller]
fn stop_placed(stop: &StopFunc) -> &'static Location<'static> {
    stop.stop();
    Location::caller()
}

#[test]
fn explains_signal() {
    in_child(test_name!(), || {
        let (ctx, _stop, at) = start_placed(&[SIGUSR1, SIGUSR2]);
        assert_eq!(at.line(), line!() - 1);
        raise(SIGUSR2).unwrap();
        ctx.wait();
        let explanation = ctx.explain().unwrap();
        assert_eq!(explanation.kind(), EndKind::Signal);
        assert_eq!(explanation.derived_at(), at);
        assert_eq!(explanation.cancelled_at(), None);
        let received = "user defined signal 2 signal received";
        let line = format!("context canceled: {received}; caught since {at}");
        assert_eq!(explanation.to_string(), line);
        let signals = "[user defined signal 1 user defined signal 2]";
        assert_eq!(
            format!("{explanation:#}"),
            format!(
                "{line}\n  0: NotifyContext {signals} at {at}\ncaused by:\n  0: {received}\n  \
                 1: context canceled"
            )
        );
    });
}

#[test]
fn explains_stop_and_drop_of_stop_func() {
    let (ctx, stop, started) = start_placed(&[SIGUSR1]);
    let stopped = stop_placed(&stop);
    drop(stop); // too late
    let explanation = ctx.explain().unwrap();
    assert_eq!(explanation.kind(), EndKind::Cancelled);
    assert_eq!(explanation.cancelled_at(), Some(stopped));
    let text = format!("context canceled: cancelled at {stopped}, derived at {started}");
    assert_eq!(explanation.to_string(), text);

    let (ctx, stop, started) = start_placed(&[SIGUSR1]);
    let (child, _cancel) = ctx.with_cancel();
    drop(stop);
    let explanation = child.explain().unwrap();
    assert_eq!(explanation.kind(), EndKind::Dropped);
    assert_eq!(explanation.cancelled_at(), Some(started));
    assert_eq!(explanation.origin_depth(), 1);
    let text = format!("context canceled: StopFunc of {started} was dropped; 1 context above");
    assert_eq!(explanation.to_string(), text);
}

#[test]
fn signal_handles_are_send_and_sync() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<StopFunc>();
    is_shared::<NotifyContext>();
    is_shared::<Received>();
}
