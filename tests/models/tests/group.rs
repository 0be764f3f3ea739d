//! Groups: errors, panics and cancellations at once.

use super::*;

use std::io;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::Mutex;

fn text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<&str>().expect("a text")
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn scope_resumes_panic_and_keeps_first_cause() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let canceler = spawn(move || cancel.cancel("cancel"));
        let group: Arc<Mutex<Option<Context>>> = Arc::default();
        let started = Arc::new(Mutex::new(Vec::new()));
        let result = catch_unwind(AssertUnwindSafe(|| {
            parent.scope(|s| {
                *group.lock().unwrap() = Some(tracked(s.context().clone()));
                s.spawn(|_| {
                    started.lock().unwrap().push("error");
                    Err::<(), _>(io::Error::other("error"))
                });
                s.spawn(|_| -> io::Result<()> {
                    started.lock().unwrap().push("panic");
                    resume_unwind(Box::new("panic")) // without the hook
                });
                s.spawn(|ctx| {
                    started.lock().unwrap().push("worker");
                    if ctx.err().is_some() {
                        assert!(is_closed(&ctx.done()), "an error, and the channel is open");
                    }
                    Ok(())
                });
                Ok(())
            })
        }));
        let started = started.lock().unwrap().clone();
        let ctx = group.lock().unwrap().take().unwrap();
        assert_done(&ctx);
        let first = cause(&ctx);
        match &result {
            Err(payload) => {
                assert_eq!(text(&**payload), "panic");
                assert!(started.contains(&"panic"));
            }
            Ok(result) => {
                assert!(!started.contains(&"panic"), "a panic is lost");
                let error = result.as_ref().expect_err("an error is lost");
                if started.contains(&"error") {
                    assert_eq!(error.to_string(), "error");
                }
            }
        }
        let is_panic = first.starts_with("worker 2 panicked: panic (spawned at ");
        assert!(
            is_panic || ["error", "cancel"].contains(&&*first),
            "{first}"
        );
        drop(ctx);
        canceler.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn scope_cancelled_meanwhile_runs_all_work() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let canceler = spawn(move || cancel.cancel("cancel"));
        let ran = Arc::new(Mutex::new(0));
        let result: io::Result<Vec<Receiver<()>>> = parent.scope(|s| {
            tracked(s.context().clone());
            let spawn = |_| {
                s.spawn(|_| {
                    *ran.lock().unwrap() += 1;
                    Ok(())
                })
            };
            Ok((0..2).map(spawn).collect())
        });
        assert_eq!(*ran.lock().unwrap(), 2, "work was not started");
        let results = result.expect("nothing has failed");
        assert!(results.iter().all(|result| result.try_recv() == Ok(())));
        canceler.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn scope_cancel_against_error_has_one_outcome() {
    in_many_orders(|| {
        let group: Arc<Mutex<Option<Context>>> = Arc::default();
        let result: io::Result<()> = Context::background().scope(|s| {
            *group.lock().unwrap() = Some(tracked(s.context().clone()));
            s.spawn(move |_| {
                s.cancel("enough");
                Ok(())
            });
            s.spawn(|_| Err::<(), _>(io::Error::other("error")));
            Ok(())
        });
        let ctx = group.lock().unwrap().take().unwrap();
        // If the second worker was first, its error is the result. If it was second, or was not
        // started, it is neither the result nor the cause.
        match result {
            Ok(()) => assert_eq!(cause(&ctx), "enough"),
            Err(_) => assert_eq!(cause(&ctx), "error"),
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn spawn_that_drops_work_implies_done() {
    in_many_orders(|| {
        let result: io::Result<()> = Context::background().scope(|s| {
            let ctx = tracked(s.context().clone());
            s.spawn(|_| Err::<(), _>(io::Error::other("error")));
            let worker = s.spawn(|_| Ok(()));
            if is_closed(&worker) {
                assert_done(&ctx);
            }
            Ok(())
        });
        assert!(result.is_err());
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn scope_returns_the_error_that_is_the_cause() {
    in_many_orders(|| {
        let group: Arc<Mutex<Option<Context>>> = Arc::default();
        let result: io::Result<()> = Context::background().scope(|s| {
            *group.lock().unwrap() = Some(tracked(s.context().clone()));
            for text in ["one", "other"] {
                s.spawn(move |_| Err::<(), _>(io::Error::other(text)));
            }
            Ok(())
        });
        let ctx = group.lock().unwrap().take().unwrap();
        assert_eq!(result.unwrap_err().to_string(), cause(&ctx));
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn set_limit_bounds_running_workers() {
    in_many_orders(|| {
        let now_and_most = Arc::new(Mutex::new((0, 0)));
        let enter = || {
            let mut counts = now_and_most.lock().unwrap();
            counts.0 += 1;
            counts.1 = counts.1.max(counts.0);
        };
        let leave = || now_and_most.lock().unwrap().0 -= 1;
        let work = |ctx: &Context| {
            enter();
            let _ = ctx.err(); // a step
            leave();
            Ok(())
        };
        let result: io::Result<()> = Context::background().scope(|s| {
            s.set_limit(2);
            s.spawn(move |ctx| {
                let _ = s.try_spawn(work);
                work(ctx)
            });
            let _ = s.try_spawn(work);
            let _ = s.try_spawn(work);
            Ok(())
        });
        assert!(result.is_ok());
        assert!(now_and_most.lock().unwrap().1 <= 2, "more than the limit");
    });
}
