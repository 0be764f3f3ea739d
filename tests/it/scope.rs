//! Groups: their context, their errors and how they end.

use std::fmt;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, TryRecvError};
use go_context::{Context, Error, Key, Scope};
use support::{assert_closes, assert_open, cancelled, receive, wait, HOUR};

/// A thread that every system refuses: none has as much memory for a stack.
fn too_large() -> thread::Builder {
    thread::Builder::new().stack_size(usize::MAX / 2)
}

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
        Ok(())
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
        Ok(words.iter().map(receive).collect())
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
            Ok(())
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
        Ok(ids)
    });
    let mut ids = ids.unwrap();
    ids.push(thread::current().id());
    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 21);
}

#[test]
fn scope_without_workers_returns_result_of_f() {
    let value: io::Result<_> = Context::background().scope(|_| Ok("a value"));
    assert_eq!(value.unwrap(), "a value");
    let value: Result<_, Vec<io::Error>> = Context::background().scope_all(|_| Ok("a value"));
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
        Ok(())
    });
    assert!(ended.is_ok());
}

#[test]
fn spawn_result_outlives_the_scope() {
    let values: io::Result<Vec<Receiver<String>>> = Context::background().scope(|s| {
        Ok((0..3)
            .map(|n| s.spawn(move |_| Ok(n.to_string())))
            .collect())
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
        Ok(())
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
        Ok(())
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
    assert!(ended.is_ok());
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
        Ok(())
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
        Ok(())
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
        let one = s.spawn_with(named("first"), name)?;
        let two = s.spawn_with(named("second"), name)?;
        let none = s.spawn(name);
        assert_eq!(receive(&one).unwrap(), "first");
        assert_eq!(receive(&two).unwrap(), "second");
        assert_eq!(receive(&none), None);
        let large = thread::Builder::new().stack_size(64 << 20);
        let levels = s.spawn_with(large, |_| Ok(deep(16 << 10)))?;
        assert_eq!(receive(&levels), 16 << 10);
        Ok(())
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
        Ok(())
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
        Ok(())
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
            Ok(())
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
        Ok(())
    });
    assert!(ended.is_ok());
}

#[test]
fn scope_error_leaves_parent_open() {
    let (ctx, _cancel) = Context::background().with_cancel();
    let ended: io::Result<()> = ctx.scope(|s| {
        s.spawn(|_| -> io::Result<()> { Err(failure("lost")) });
        Ok(())
    });
    assert!(ended.is_err());
    assert_open(&ctx);
    let again: io::Result<_> = ctx.scope(|s| Ok(s.context().err()));
    assert_eq!(again.unwrap(), None);
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
                Ok(())
            });
            assert_eq!(inner.unwrap_err().to_string(), "inner");
            assert_open(ctx);
            inner_failed.store(true, Ordering::Relaxed);
            Ok(())
        });
        Ok(())
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
                Ok(())
            })
        });
        receive(&begins);
        s.spawn(|_| -> io::Result<()> { Err(failure("outer")) });
        Ok(())
    });
    assert_eq!(outer.unwrap_err().to_string(), "outer");
}

#[test]
fn callback_can_run_scope() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (ended, end) = bounded(1);
    ctx.clone().after_func(move || {
        let dead: io::Result<_> = ctx.scope(|s| Ok(receive(&s.spawn(|ctx| Ok(ctx.err())))));
        let live: io::Result<_> = ctx
            .without_cancel()
            .scope(|s| Ok(receive(&s.spawn(|ctx| Ok(ctx.err())))));
        ended.send((dead.unwrap(), live.unwrap())).unwrap();
    });
    cancel.cancel();
    assert_eq!(receive(&end), (Some(Error::Canceled), None));
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
        Ok(())
    });
    assert_eq!(ended.unwrap_err().to_string(), "no more disk");
}

#[test]
fn scope_first_error_is_first_in_time() {
    let run_late = |s: Scope<'_, '_, io::Error>| -> io::Result<()> {
        s.spawn(|ctx| -> io::Result<()> {
            wait(ctx);
            Err(failure("late, though spawned first"))
        });
        s.spawn(|_| -> io::Result<()> { Err(failure("early")) });
        Ok(())
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
            Ok(())
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
        Ok(())
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
            Ok(())
        });
        let texts: Vec<String> = all.unwrap_err().iter().map(io::Error::to_string).collect();
        assert_eq!(texts, ["0", "1", "2", "3", "4", "5"]);
    }
}

#[test]
fn spawn_channel_closed_by_error_implies_done() {
    for _ in 0..500 {
        let ended: io::Result<()> = Context::background().scope(|s| {
            let failing = s.spawn(|_| -> io::Result<()> { Err(failure("lost")) });
            assert_closes(&failing);
            assert_cause(s.context(), "lost");
            Ok(())
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
        Ok(Value(&dropped))
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
        Ok(receive(&worker))
    });
    assert_eq!(ended.unwrap(), 7);

    let dead: io::Result<()> = ctx.scope(|_| Ok(()));
    assert!(dead.is_ok());
}

#[test]
fn spawn_under_done_parent_runs_work() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    cancel.cancel("shutting down");
    let (late, _cancel) = Context::background().with_timeout(Duration::ZERO);
    for (parent, err) in [(ctx, Error::Canceled), (late, Error::DeadlineExceeded)] {
        let ended: io::Result<Option<Error>> = parent.scope(|s| {
            let elsewhere = s.spawn(|_| Ok(thread::current().id()));
            assert_ne!(receive(&elsewhere), thread::current().id());
            let tried = s.try_spawn(|_| Ok(())).ok().expect("there is a permit");
            receive(&tried);
            Ok(receive(&s.spawn(|ctx| Ok(ctx.err()))))
        });
        assert_eq!(ended.unwrap(), Some(err));
    }
}

#[test]
fn spawn_under_done_parent_can_fail_the_group() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    cancel.cancel("shutting down");
    let ended: Result<(), Vec<Error>> = ctx.scope_all(|s| {
        let failing = s.spawn(|ctx| -> Result<(), Error> { ctx.check() });
        assert_closes(&failing);
        assert_cause(s.context(), "shutting down"); // that was first
        assert_closes(&s.spawn(|_| -> Result<(), Error> { unreachable!("it has failed") }));
        Ok(())
    });
    assert_eq!(ended, Err(vec![Error::Canceled]));
}

#[test]
fn try_spawn_at_limit_under_done_parent_returns_work() {
    let ended: io::Result<()> = cancelled().scope(|s| {
        s.set_limit(0);
        let work = s.try_spawn(|_| Ok(7)).expect_err("there is no permit");
        assert_eq!(work(s.context()).unwrap(), 7);
        Ok(())
    });
    assert!(ended.is_ok());
}

#[test]
fn spawn_at_limit_under_done_parent_runs_here() {
    let ended: Result<(), Vec<io::Error>> = cancelled().scope_all(|s| {
        s.set_limit(0);
        let here = s.spawn(|ctx| Ok((thread::current().id(), ctx.err())));
        let result = here.try_recv(); // so it has run
        assert_eq!(result, Ok((thread::current().id(), Some(Error::Canceled))));
        let named = thread::Builder::new().name("unused".into());
        let failing = s.spawn_with(named, |_| -> io::Result<()> { Err(failure("lost")) })?;
        assert_eq!(failing.try_recv(), Err(TryRecvError::Disconnected));
        let dropped = s.spawn(|_| -> io::Result<()> { unreachable!("it has failed") });
        assert_eq!(dropped.try_recv(), Err(TryRecvError::Disconnected));
        Ok(())
    });
    let errors = ended.unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "lost");
}

#[test]
fn scope_all_orders_errors_of_work_run_here() {
    let (ctx, cancel) = Context::background().with_cancel();
    let ended: Result<(), Vec<String>> = ctx.scope_all(|s| {
        s.set_limit(1);
        let (release, released) = bounded::<()>(0);
        s.spawn(move |_| -> Result<(), String> {
            assert_closes(&released);
            Err("first".into())
        });
        cancel.cancel();
        s.spawn(|_| -> Result<(), String> { Err("second".into()) });
        drop(release);
        Ok(())
    });
    assert_eq!(ended, Err(vec!["first".to_string(), "second".to_string()]));
}

#[test]
fn spawn_after_error_drops_work() {
    let ended: Result<(), Vec<io::Error>> = Context::background().scope_all(|s| {
        s.spawn(|_| -> io::Result<()> { Err(failure("lost")) });
        wait(s.context());
        let (held, end) = bounded::<()>(0);
        let dropped = s.spawn(move |_| Ok(held));
        assert_eq!(end.try_recv(), Err(TryRecvError::Disconnected));
        assert_closes(&dropped);
        let work = s.try_spawn(|_| Ok(7)).expect_err("the group has failed");
        assert_eq!(work(s.context()).unwrap(), 7);
        Ok(())
    });
    let errors = ended.unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "lost");
}

// Threads that cannot be spawned

#[test]
fn spawn_with_without_thread_returns_the_error() {
    let ended: io::Result<()> = Context::background().scope(|s| {
        s.set_limit(1);
        let (held, end) = bounded::<()>(0);
        let refused = s.spawn_with(too_large(), move |_| Ok(held));
        assert!(refused.unwrap_err().raw_os_error().is_some());
        assert_eq!(end.try_recv(), Err(TryRecvError::Disconnected));
        assert_open(s.context());
        let next = s.try_spawn(|_| Ok(7)).ok().expect("the permit is free");
        assert_eq!(receive(&next), 7);
        Ok(())
    });
    assert!(ended.is_ok());
}

#[test]
fn spawn_with_error_can_be_that_of_worker_or_f() {
    let ended: io::Result<()> = Context::background().scope(|s| {
        s.spawn(move |_| s.spawn_with(too_large(), |_| Ok(())).map(drop));
        Ok(())
    });
    assert!(ended.unwrap_err().raw_os_error().is_some());

    let ended: io::Result<()> = Context::background().scope(|s| {
        s.spawn(|ctx| Ok(wait(ctx)));
        s.spawn_with(too_large(), |_| Ok(()))?;
        Ok(())
    });
    assert!(ended.unwrap_err().raw_os_error().is_some());
}
