//! Groups: their context, their errors and how they end.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, TryRecvError};
use go_context::{Context, Error, Key, Scope};
use support::{assert_closes, assert_open, receive, wait, HOUR};

/// No system has as much memory for a stack.
const TOO_LARGE: usize = usize::MAX / 2;

#[derive(PartialEq, Eq)]
struct User;

impl Key for User {
    type Value = &'static str;
}

#[track_caller]
fn assert_cause(ctx: &Context, text: &str) {
    assert_eq!(ctx.err(), Some(Error::Canceled));
    assert_eq!(ctx.cause().expect("it is done").to_string(), text);
}

fn failure(text: &str) -> io::Error {
    io::Error::other(text)
}

// Workers

#[test]
fn spawn_borrows_from_the_stack() {
    let words = ["one", "three"].map(String::from);
    let mut lengths = [0; 2];
    let ended: io::Result<()> = Context::background().scope(|s| {
        for (word, length) in words.iter().zip(&mut lengths) {
            s.spawn(move |_| {
                *length = word.len();
                Ok(())
            });
        }
    });
    assert!(ended.is_ok());
    assert_eq!(lengths, [3, 5]);
}

#[test]
fn spawn_returns_borrowed_values() {
    let text = String::from("some words");
    let text = &text;
    let words: io::Result<Vec<&str>> = Context::background().scope(|s| {
        let word = |n| s.spawn(move |_| Ok(text.split(' ').nth(n).unwrap_or_default()));
        let words: Vec<_> = (0..2).map(word).collect();
        words.iter().map(receive).collect()
    });
    assert_eq!(words.unwrap(), ["some", "words"]);
}

#[test]
fn scope_returns_after_every_worker() {
    for _ in 0..100 {
        let ended = AtomicUsize::new(0);
        let all: io::Result<()> = Context::background().scope(|s| {
            for _ in 0..8 {
                s.spawn(|_| {
                    thread::yield_now();
                    ended.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                });
            }
        });
        assert!(all.is_ok());
        assert_eq!(ended.into_inner(), 8);
    }
}

#[test]
fn spawn_runs_each_worker_on_its_own_thread() {
    let (began, begins) = unbounded();
    let ids: io::Result<Vec<_>> = Context::background().scope(|s| {
        let (all_began, go_on) = bounded::<()>(0);
        for _ in 0..20 {
            let (began, go_on) = (began.clone(), go_on.clone());
            s.spawn(move |_| {
                began.send(thread::current().id()).unwrap();
                assert_closes(&go_on);
                Ok(())
            });
        }
        let ids = (0..20).map(|_| receive(&begins)).collect();
        drop(all_began);
        ids
    });
    let mut ids = ids.unwrap();
    ids.push(thread::current().id());
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 21);
}

#[test]
fn scope_without_workers_returns_result_of_f() {
    let value: io::Result<_> = Context::background().scope(|_| "a value");
    assert_eq!(value.unwrap(), "a value");
    let value: Result<_, Vec<io::Error>> = Context::background().scope_all(|_| "a value");
    assert_eq!(value.unwrap(), "a value");
}

#[test]
fn spawn_channel_sends_result_then_disconnects() {
    let ended: io::Result<()> = Context::background().scope(|s| {
        let seven = s.spawn(|_| Ok(7));
        assert_eq!(receive(&seven), 7);
        assert_closes(&seven);
        let eight = s.try_spawn(|_| Ok(8)).ok().unwrap();
        assert_eq!(receive(&eight), 8);
        assert_open(s.context());
    });
    assert!(ended.is_ok());
}

#[test]
fn spawn_result_outlives_the_scope() {
    let values: io::Result<Vec<Receiver<String>>> = Context::background().scope(|s| {
        (0..3)
            .map(|n| s.spawn(move |_| Ok(n.to_string())))
            .collect()
    });
    let values = values.unwrap();
    let values: Vec<String> = values
        .iter()
        .map(|value| value.try_recv().unwrap())
        .collect();
    assert_eq!(values, ["0", "1", "2"]);
}

#[test]
fn spawn_receiver_can_be_dropped() {
    let ran = AtomicBool::new(false);
    let ended: io::Result<()> = Context::background().scope(|s| {
        drop(s.spawn(|_| {
            ran.store(true, Ordering::Relaxed);
            Ok("unused")
        }));
    });
    assert!(ended.is_ok());
    assert!(ran.into_inner());
}

#[test]
fn spawn_receiver_works_with_recv() {
    let (ctx, cancel) = Context::background().with_cancel();
    let ended: io::Result<()> = Context::background().scope(|s| {
        let (release, released) = bounded::<()>(0);
        let worker = s.spawn(move |_| {
            assert_closes(&released);
            Ok(7)
        });
        cancel.cancel();
        assert!(ctx.recv(&worker).is_err());
        drop(release);
        assert_eq!(s.context().recv(&worker), Ok(7));
    });
    assert!(ended.is_ok());
}

#[test]
fn worker_can_spawn_workers() {
    fn spread<'scope>(
        s: Scope<'scope, '_, io::Error>,
        depth: usize,
        count: &'scope AtomicUsize,
    ) -> io::Result<()> {
        count.fetch_add(1, Ordering::Relaxed);
        if depth > 0 {
            for _ in 0..2 {
                s.spawn(move |_| spread(s, depth - 1, count));
            }
        }
        Ok(())
    }
    let count = AtomicUsize::new(0);
    let ended: io::Result<_> = Context::background().scope(|s| spread(s, 6, &count));
    assert!(ended.unwrap().is_ok());
    assert_eq!(count.into_inner(), (1 << 7) - 1);
}

#[test]
fn worker_can_spawn_after_f_returns() {
    let ran = AtomicBool::new(false);
    let (f_ended, go_on) = bounded::<()>(0);
    let ended: io::Result<()> = Context::background().scope(|s| {
        let ran = &ran;
        s.spawn(move |ctx| {
            assert_closes(&go_on);
            assert_open(ctx);
            s.spawn(|ctx| {
                assert_open(ctx);
                ran.store(true, Ordering::Relaxed);
                Ok(())
            });
            Ok(())
        });
        drop(f_ended); // the last thing that `f` does
    });
    assert!(ended.is_ok());
    assert!(ran.into_inner());
}

#[test]
fn scope_is_copy_and_sync() {
    fn check<T: Copy + Send + Sync + fmt::Debug>(_: T) {}
    let (ctx, _cancel) = Context::background().with_cancel();
    let ended: io::Result<()> = ctx.scope(|s| {
        check(s);
        let debug = format!("{s:?}");
        assert!(debug.contains("context.Background.WithCancel"), "{debug}");
    });
    assert!(ended.is_ok());
}

#[test]
fn spawn_with_name_and_stack_size() {
    /// Takes more of the stack than a thread has by default.
    fn deep(levels: usize) -> usize {
        let frame = std::hint::black_box([levels as u8; 1024]);
        match levels {
            0 => 0,
            _ => 1 + deep(levels - 1) + usize::from(frame[0]) - usize::from(frame[1]),
        }
    }
    let ended: io::Result<()> = Context::background().scope(|s| {
        let named = |name: &str| thread::Builder::new().name(name.into());
        let name = |_: &Context| Ok(thread::current().name().map(String::from));
        let one = s.spawn_with(named("first"), name);
        let two = s.try_spawn_with(named("second"), name).ok().unwrap();
        let none = s.spawn(name);
        assert_eq!(receive(&one).unwrap(), "first");
        assert_eq!(receive(&two).unwrap(), "second");
        assert_eq!(receive(&none), None);
        let large = thread::Builder::new().stack_size(64 << 20);
        assert_eq!(
            receive(&s.spawn_with(large, |_| Ok(deep(16 << 10)))),
            16 << 10
        );
    });
    assert!(ended.is_ok());
}

// The context of a group

#[test]
fn scope_context_is_a_child() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    let ctx = ctx.with_value(User, "gopher");
    let ended: io::Result<()> = ctx.scope(|s| {
        let seen = s.spawn(|ctx| Ok((ctx.value(&User).copied(), ctx.deadline())));
        assert_eq!(receive(&seen), (Some("gopher"), ctx.deadline()));
        assert_eq!(s.context().value(&User), Some(&"gopher"));
    });
    assert!(ended.is_ok());
    assert_open(&ctx);
}

#[test]
fn parent_cancel_reaches_scope_context() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let ended: io::Result<()> = ctx.scope(|s| {
        let worker = s.spawn(|ctx| {
            wait(ctx);
            Ok(ctx.cause().unwrap().to_string())
        });
        cancel.cancel("shutting down");
        assert_eq!(receive(&worker), "shutting down");
        assert_cause(s.context(), "shutting down");
    });
    assert!(ended.is_ok());
}

#[test]
fn scope_context_is_done_after_scope() {
    let (kept, ended): (_, io::Result<()>) = {
        let mut kept = None;
        let ended = Context::background().scope(|s| {
            let worker = s.spawn(|ctx| Ok(ctx.clone()));
            let ctx = receive(&worker);
            assert_closes(&worker);
            assert_open(&ctx);
            kept = Some(ctx);
        });
        (kept.unwrap(), ended)
    };
    assert!(ended.is_ok());
    assert_eq!(kept.done().try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(kept.err(), Some(Error::Canceled));
    assert!(kept.cause().unwrap().is::<Error>());
}

#[test]
fn scope_context_is_open_while_a_worker_runs() {
    let (f_ended, go_on) = bounded::<()>(0);
    let ended: io::Result<()> = Context::background().scope(|s| {
        s.spawn(|ctx| {
            assert_closes(&go_on);
            for _ in 0..100 {
                assert_open(ctx);
                thread::yield_now();
            }
            Ok(())
        });
        drop(f_ended);
    });
    assert!(ended.is_ok());
}

#[test]
fn scope_error_leaves_parent_open() {
    let (ctx, _cancel) = Context::background().with_cancel();
    let ended: io::Result<()> = ctx.scope(|s| {
        s.spawn(|_| -> io::Result<()> { Err(failure("lost")) });
    });
    assert!(ended.is_err());
    assert_open(&ctx);
    let again: io::Result<()> = ctx.scope(|s| assert_open(s.context()));
    assert!(again.is_ok());
}

#[test]
fn scopes_nest() {
    let (ctx, _cancel) = Context::background().with_cancel();
    let inner_failed = AtomicBool::new(false);
    let outer: io::Result<()> = ctx.scope(|s| {
        s.spawn(|ctx| {
            let inner: io::Result<()> = ctx.scope(|s| {
                s.spawn(|_| -> io::Result<()> { Err(failure("inner")) });
                wait(s.context());
            });
            assert_eq!(inner.unwrap_err().to_string(), "inner");
            assert_open(ctx);
            inner_failed.store(true, Ordering::Relaxed);
            Ok(())
        });
    });
    assert!(outer.is_ok());
    assert!(inner_failed.into_inner());

    let outer: io::Result<()> = ctx.scope(|s| {
        let (began, begins) = bounded(1);
        s.spawn(move |ctx| {
            ctx.scope(|s| {
                s.spawn(move |ctx| {
                    began.send(()).unwrap();
                    wait(ctx);
                    assert_cause(ctx, "outer");
                    Ok(())
                });
            })
        });
        receive(&begins);
        s.spawn(|_| -> io::Result<()> { Err(failure("outer")) });
    });
    assert_eq!(outer.unwrap_err().to_string(), "outer");
}

#[test]
fn callback_can_run_scope() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (ended, end) = bounded(1);
    ctx.clone().after_func(move || {
        let dead: io::Result<()> = ctx.scope(|s| assert_closes(&s.spawn(|_| Ok(()))));
        let live: io::Result<u32> = ctx.without_cancel().scope(|s| receive(&s.spawn(|_| Ok(7))));
        ended
            .send((dead.unwrap_err().to_string(), live.unwrap()))
            .unwrap();
    });
    cancel.cancel();
    assert_eq!(receive(&end), ("context canceled".to_string(), 7));
}

// Errors

#[test]
fn scope_returns_first_error_and_cancels_others() {
    let ended: io::Result<()> = Context::background().scope(|s| {
        for _ in 0..3 {
            s.spawn(|ctx| {
                wait(ctx);
                assert_cause(ctx, "no more disk");
                Ok(ctx.check()?)
            });
        }
        s.spawn(|_| -> io::Result<()> { Err(failure("no more disk")) });
        wait(s.context());
        assert_cause(s.context(), "no more disk");
    });
    assert_eq!(ended.unwrap_err().to_string(), "no more disk");
}

#[test]
fn scope_first_error_is_first_in_time() {
    let run_late = |s: Scope<'_, '_, io::Error>| {
        s.spawn(|ctx| -> io::Result<()> {
            wait(ctx);
            Err(failure("late, though spawned first"))
        });
        s.spawn(|_| -> io::Result<()> { Err(failure("early")) });
    };
    // An error must be recorded before the end of its worker can be observed.
    for _ in 0..500 {
        let ended: io::Result<()> = Context::background().scope(run_late);
        assert_eq!(ended.unwrap_err().to_string(), "early");
    }
}

#[test]
fn scope_cause_is_the_returned_error() {
    for _ in 0..2000 {
        let (failed, mut kept) = (AtomicUsize::new(0), None);
        let (start, started) = bounded::<()>(0);
        let ended: io::Result<()> = Context::background().scope(|s| {
            kept = Some(s.context().clone());
            for n in 0..4 {
                let (started, failed) = (started.clone(), &failed);
                s.spawn(move |_| -> io::Result<()> {
                    assert_closes(&started);
                    failed.fetch_add(1, Ordering::Relaxed);
                    Err(failure(&n.to_string()))
                });
            }
            drop(start);
        });
        assert_cause(&kept.unwrap(), &ended.unwrap_err().to_string());
        assert_eq!(failed.into_inner(), 4);
    }
}

#[test]
fn scope_all_returns_errors_in_spawn_order() {
    let all: Result<(), Vec<io::Error>> = Context::background().scope_all(|s| {
        // Each fails when the one that was spawned after it has.
        let mut fails = bounded::<()>(0).0;
        for n in 0..10 {
            let (next_fails, next) = bounded::<()>(0);
            let fails = mem::replace(&mut fails, next_fails);
            s.spawn(move |_| -> io::Result<()> {
                assert_closes(&next);
                drop(fails);
                Err(failure(&n.to_string()))
            });
        }
        s.spawn(|_| Ok("not an error"));
        drop(fails);
    });
    let texts: Vec<String> = all.unwrap_err().iter().map(io::Error::to_string).collect();
    assert_eq!(texts, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn scope_all_keeps_all_errors() {
    for _ in 0..200 {
        let all: Result<(), Vec<io::Error>> = Context::background().scope_all(|s| {
            let (start, started) = bounded::<()>(0);
            for n in 0..6 {
                let started = started.clone();
                s.spawn(move |_| -> io::Result<()> {
                    assert_closes(&started);
                    Err(failure(&n.to_string()))
                });
            }
            drop(start);
        });
        let texts: Vec<String> = all.unwrap_err().iter().map(io::Error::to_string).collect();
        assert_eq!(texts, ["0", "1", "2", "3", "4", "5"]);
    }
}

/// A user's error, with a part that is not `'static`.
#[derive(Debug)]
enum Own<'a> {
    Io(io::Error),
    Line(&'a str),
}

impl fmt::Display for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Own::Io(err) => write!(f, "i/o: {err}"),
            Own::Line(line) => write!(f, "not a number: {line}"),
        }
    }
}

impl From<io::Error> for Own<'_> {
    fn from(err: io::Error) -> Self {
        Own::Io(err)
    }
}

#[test]
fn scope_error_has_user_type() {
    let (dead, cancel) = Context::background().with_cancel();
    cancel.cancel();

    let ended: anyhow::Result<()> = Context::background().scope(|s| {
        s.spawn(|_| Ok("x".parse::<u32>()?));
    });
    assert!(ended.unwrap_err().is::<std::num::ParseIntError>());
    let ended: anyhow::Result<()> = dead.scope(|s| drop(s.spawn(|_| Ok(()))));
    assert!(ended.unwrap_err().is::<io::Error>());

    type Boxed = Box<dyn StdError + Send + Sync>;
    let ended: Result<(), Boxed> = Context::background().scope(|s| {
        s.spawn(|_| -> Result<(), Boxed> { Err("just a text".into()) });
    });
    assert_eq!(ended.unwrap_err().to_string(), "just a text");

    let text = String::from("one");
    let ended: Result<(), Own<'_>> = Context::background().scope(|s| {
        s.spawn(|_| text.parse::<u32>().map_err(|_| Own::Line(&text)));
    });
    assert!(matches!(ended, Err(Own::Line("one"))));
    let ended: Result<(), Own<'_>> = dead.scope(|s| drop(s.spawn(|_| Ok(()))));
    assert!(matches!(ended, Err(Own::Io(_))));
}

#[test]
fn spawn_channel_closed_by_error_implies_done() {
    for _ in 0..500 {
        let ended: io::Result<()> = Context::background().scope(|s| {
            let failing = s.spawn(|_| -> io::Result<()> { Err(failure("lost")) });
            assert_closes(&failing);
            assert_cause(s.context(), "lost");
        });
        assert!(ended.is_err());
    }
}

#[test]
fn scope_drops_result_of_f_if_a_worker_fails() {
    let dropped = AtomicBool::new(false);
    struct Value<'a>(&'a AtomicBool);
    impl Drop for Value<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let ended: io::Result<Value<'_>> = Context::background().scope(|s| {
        s.spawn(|_| -> io::Result<()> { Err(failure("lost")) });
        Value(&dropped)
    });
    assert!(ended.is_err());
    assert!(dropped.load(Ordering::Relaxed));
}

// A parent that is done

#[test]
fn parent_cancel_alone_is_no_scope_error() {
    let (ctx, cancel) = Context::background().with_cancel();
    let ended: io::Result<u32> = ctx.scope(|s| {
        let worker = s.spawn(|ctx| {
            wait(ctx);
            Ok(7)
        });
        cancel.cancel();
        receive(&worker)
    });
    assert_eq!(ended.unwrap(), 7);

    let dead: io::Result<()> = ctx.scope(|_| ());
    assert!(dead.is_ok());
}

#[test]
fn spawn_not_started_is_an_error() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    cancel.cancel("the cause, which is not the error");
    let ran = AtomicBool::new(false);
    let ended: io::Result<()> = ctx.scope(|s| {
        let worker = s.spawn(|_| Ok(ran.swap(true, Ordering::Relaxed)));
        assert_eq!(worker.try_recv(), Err(TryRecvError::Disconnected));
    });
    assert!(!ran.into_inner());
    let err = ended.unwrap_err();
    let inner = err.get_ref().expect("made from an error");
    assert_eq!(inner.downcast_ref(), Some(&Error::Canceled));

    let (late, _cancel) = Context::background().with_timeout(Duration::ZERO);
    let ended: Result<(), Vec<io::Error>> = late.scope_all(|s| {
        for _ in 0..3 {
            s.spawn(|_| Ok(()));
        }
    });
    let errors = ended.unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].kind(), io::ErrorKind::TimedOut);
}

#[test]
fn worker_error_precedes_context_error() {
    let (ctx, cancel) = Context::background().with_cancel();
    let ended: Result<(), Vec<io::Error>> = ctx.scope_all(|s| {
        let failing = s.spawn(|ctx| -> io::Result<()> {
            wait(ctx);
            Err(failure("late"))
        });
        cancel.cancel();
        s.spawn(|_| Ok(()));
        assert_closes(&failing);
    });
    let errors = ended.unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "late");
}

#[test]
fn try_spawn_refused_is_no_error() {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let ended: io::Result<()> = ctx.scope(|s| {
        let work = s.try_spawn(|_| Ok(7)).expect_err("the context is done");
        assert_eq!(work(s.context()).unwrap(), 7);
    });
    assert!(ended.is_ok());
}

#[test]
fn scope_cancel_is_not_taken_for_parent_cancel() {
    // Work is refused because a worker failed, so there is no further error.
    let ended: Result<(), Vec<io::Error>> = Context::background().scope_all(|s| {
        s.spawn(|_| -> io::Result<()> { Err(failure("lost")) });
        wait(s.context());
        assert_closes(&s.spawn(|_| Ok(())));
    });
    let errors = ended.unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "lost");
}

#[test]
fn spawn_on_done_context_drops_work() {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let (held, end) = bounded::<()>(0);
    let ended: io::Result<()> = ctx.scope(|s| {
        s.spawn(move |_| Ok(held));
        assert_eq!(end.try_recv(), Err(TryRecvError::Disconnected));
    });
    assert!(ended.is_err());
}

// Threads that cannot be spawned

#[test]
fn spawn_without_thread_is_a_scope_error() {
    let too_large = || thread::Builder::new().stack_size(TOO_LARGE);
    let order = Mutex::new(Vec::new());
    let ended: Result<(), Vec<io::Error>> = Context::background().scope_all(|s| {
        s.set_limit(2);
        s.spawn(|ctx| {
            wait(ctx);
            order.lock().unwrap().push(ctx.cause().unwrap().to_string());
            Err::<(), _>(failure("first to be spawned"))
        });
        let (held, end) = bounded::<()>(0);
        let none = s.spawn_with(too_large(), move |_| Ok(held));
        assert_closes(&none);
        assert_eq!(end.try_recv(), Err(TryRecvError::Disconnected));
        assert!(s.context().err().is_some());
        assert!(s.try_spawn_with(too_large(), |_| Ok(())).is_err());
    });
    let errors = ended.unwrap_err();
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0].to_string(), "first to be spawned");
    assert!(errors[1].raw_os_error().is_some(), "{}", errors[1]);
    assert_eq!(order.into_inner().unwrap(), [errors[1].to_string()]);

    let ended: io::Result<()> = Context::background().scope(|s| {
        let none = s.try_spawn_with(too_large(), |_| Ok(())).ok().unwrap();
        assert_eq!(none.try_recv(), Err(TryRecvError::Disconnected));
    });
    assert!(ended.unwrap_err().raw_os_error().is_some());
}

#[test]
fn worker_spawn_without_thread_is_a_scope_error() {
    let ended: io::Result<()> = Context::background().scope(|s| {
        s.spawn(move |ctx| {
            s.spawn_with(thread::Builder::new().stack_size(TOO_LARGE), |_| Ok(()));
            assert!(ctx.err().is_some());
            Ok(())
        });
    });
    assert!(ended.unwrap_err().raw_os_error().is_some());
}
