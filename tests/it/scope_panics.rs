//! Panics in groups: the first one is resumed by the scope, after all workers have ended, and nothing
//! aborts the process.

use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe, Location};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use go_context::crossbeam_channel::bounded;
use go_context::{Context, Error, Scope};
use support::{assert_closes, wait, LIMIT};

type Payload = Box<dyn Any + Send>;

/// A panic without a message from the hook.
fn blow_up(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

#[track_caller]
fn panic_of<T>(f: impl FnOnce() -> T) -> Payload {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it does not panic"),
        Err(payload) => payload,
    }
}

#[track_caller]
fn assert_panics<T>(text: &str, f: impl FnOnce() -> T) {
    let payload = panic_of(f);
    assert_eq!(payload.downcast_ref(), Some(&text), "another panic");
}

#[track_caller]
fn assert_cause(ctx: &Context, text: &str) {
    assert_eq!(ctx.err(), Some(Error::Canceled));
    assert_eq!(ctx.cause().expect("it is done").to_string(), text);
}

/// A group on a new context.
fn scope<'env, T, E>(
    f: impl for<'scope> FnOnce(Scope<'scope, 'env, E>) -> Result<T, E>,
) -> Result<T, E>
where
    E: fmt::Display + Send + 'env,
{
    Context::background().scope(f)
}

/// Spawns a worker that panics. Returns the place of the call.
#[track_caller]
fn spawn_panic<E>(s: Scope<'_, '_, E>, payload: Payload) -> &'static Location<'static>
where
    E: fmt::Display + Send,
{
    s.spawn(|_| -> Result<(), E> { resume_unwind(payload) });
    Location::caller()
}

/// Panics in its drop.
#[derive(Debug)]
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        blow_up(self.0);
    }
}

/// An error that panics in its drop.
#[derive(Debug)]
struct Explosive(Bomb);

impl fmt::Display for Explosive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0 .0)
    }
}

fn explosive(text: &'static str) -> Explosive {
    Explosive(Bomb(text))
}

/// Starts this many workers that wait for the end of the group, slowly, and count.
fn count_ends<'scope, E>(s: Scope<'scope, '_, E>, workers: usize, ended: &'scope AtomicUsize)
where
    E: fmt::Display + Send,
{
    for _ in 0..workers {
        s.spawn(|ctx| {
            wait(ctx);
            (0..10).for_each(|_| thread::yield_now());
            ended.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
    }
}

/// Spawns a worker with a group of four, of which one panics. Returns the place of the call.
#[track_caller]
fn spawn_panic_of_scope<'scope>(
    s: Scope<'scope, '_, io::Error>,
    ended: &'scope AtomicUsize,
) -> &'static Location<'static> {
    s.spawn(|ctx| {
        ctx.scope(|s| {
            count_ends(s, 3, ended);
            spawn_panic(s, Box::new("boom"));
            Ok(())
        })
    });
    Location::caller()
}

/// Workers that all fail, none before all have been spawned.
fn fail_together(s: Scope<'_, '_, Explosive>) -> Result<(), Explosive> {
    let (spawned, all_spawned) = bounded::<()>(0);
    for _ in 0..4 {
        let all_spawned = all_spawned.clone();
        s.spawn(move |_| {
            assert_closes(&all_spawned);
            Err::<(), _>(explosive("error"))
        });
    }
    drop(spawned);
    Ok(())
}

// Which side panics

#[test]
fn worker_panic_is_resumed_by_scope() {
    #[derive(PartialEq, Debug)]
    struct Own(u32);

    let payload = panic_of(|| {
        scope::<_, io::Error>(|s| {
            s.spawn(|_| -> io::Result<()> { resume_unwind(Box::new(Own(7))) });
            Ok(())
        })
    });
    assert_eq!(payload.downcast_ref(), Some(&Own(7)));
}

#[test]
fn worker_panic_ends_other_workers_first() {
    let ended = AtomicUsize::new(0);
    assert_panics("boom", || {
        scope::<_, io::Error>(|s| {
            count_ends(s, 4, &ended);
            s.spawn(|_| -> io::Result<()> { blow_up("boom") });
            Ok(())
        })
    });
    assert_eq!(ended.into_inner(), 4);
}

#[test]
fn f_panic_ends_workers_first() {
    let ended = AtomicUsize::new(0);
    let mut kept = None;
    assert_panics("boom", || {
        scope::<(), io::Error>(|s| {
            kept = Some(s.context().clone());
            count_ends(s, 4, &ended);
            blow_up("boom")
        })
    });
    assert_eq!(ended.into_inner(), 4);
    assert_cause(&kept.unwrap(), "the group's function panicked: boom");
}

#[test]
fn scope_all_resumes_worker_panic() {
    let ended = AtomicUsize::new(0);
    assert_panics("boom", || {
        Context::background().scope_all::<_, io::Error, _>(|s| {
            count_ends(s, 4, &ended);
            // A group that has failed starts nothing more, so the error comes after both have begun.
            let (fail, failed) = go_context::crossbeam_channel::bounded::<()>(0);
            s.spawn(move |_| -> io::Result<()> {
                let _ = failed.recv();
                blow_up("boom")
            });
            s.spawn(move |_| {
                drop(fail);
                Err::<(), _>(io::Error::other("lost"))
            });
            Ok(())
        })
    });
    assert_eq!(ended.into_inner(), 4);
}

#[test]
fn worker_panic_is_the_cause() {
    let payloads: [(Payload, &str); 3] = [
        (Box::new("a text"), "panicked: a text"),
        (Box::new(String::from("a string")), "panicked: a string"),
        (Box::new(7), "panicked"),
    ];
    for (payload, text) in payloads {
        let mut kept = None;
        panic_of(|| {
            scope::<_, io::Error>(|s| {
                s.spawn(|_| Ok(()));
                kept = Some((s.context().clone(), spawn_panic(s, payload)));
                Ok(())
            })
        });
        let (ctx, at) = kept.unwrap();
        assert_eq!(at.file(), file!());
        assert_cause(&ctx, &format!("worker 2 {text} (spawned at {at})"));
    }
}

#[test]
fn first_of_several_panics_is_resumed() {
    for _ in 0..300 {
        assert_panics("first", || {
            scope::<(), io::Error>(|s| {
                for _ in 0..2 {
                    s.spawn(|ctx| -> io::Result<()> {
                        wait(ctx);
                        blow_up("second")
                    });
                }
                s.spawn(|_| -> io::Result<()> { blow_up("first") });
                wait(s.context());
                blow_up("second")
            })
        });
    }
}

#[test]
fn worker_panic_precedes_earlier_error() {
    let mut kept = None;
    assert_panics("boom", || {
        scope::<_, io::Error>(|s| {
            kept = Some(s.context().clone());
            s.spawn(|ctx| -> io::Result<()> {
                wait(ctx);
                blow_up("boom")
            });
            s.spawn(|_| Err::<(), _>(io::Error::other("the cause")));
            Ok(())
        })
    });
    assert_cause(&kept.unwrap(), "the cause");
}

#[test]
fn worker_error_after_panic_is_not_the_cause() {
    let mut kept = None;
    assert_panics("boom", || {
        scope::<_, io::Error>(|s| {
            s.spawn(|ctx| {
                wait(ctx);
                Err::<(), _>(io::Error::other("because of it"))
            });
            kept = Some((s.context().clone(), spawn_panic(s, Box::new("boom"))));
            Ok(())
        })
    });
    let (ctx, at) = kept.unwrap();
    assert_cause(&ctx, &format!("worker 2 panicked: boom (spawned at {at})"));
}

#[test]
fn spawn_channel_closed_by_panic_implies_done() {
    for _ in 0..300 {
        let mut seen = None;
        assert_panics("boom", || {
            scope::<_, io::Error>(|s| {
                let worker = s.spawn(|_| -> io::Result<()> { blow_up("boom") });
                assert_closes(&worker);
                seen = s.context().cause(); // not asserted here, because the first panic is resumed
                Ok(())
            })
        });
        let cause = seen.expect("the group is done").to_string();
        assert!(
            cause.starts_with("worker 1 panicked: boom (spawned at "),
            "{cause}"
        );
    }
}

#[test]
fn worker_panic_frees_waiting_spawn() {
    for _ in 0..300 {
        let ran = AtomicBool::new(false);
        assert_panics("boom", || {
            scope::<_, io::Error>(|s| {
                s.set_limit(1);
                s.spawn(|_| -> io::Result<()> { blow_up("boom") });
                assert_closes(&s.spawn(|_| Ok(ran.swap(true, Ordering::Relaxed))));
                Ok(())
            })
        });
        assert!(!ran.into_inner());
    }
}

#[test]
fn worker_panic_passes_through_nested_scopes() {
    let ended = AtomicUsize::new(0);
    let mut outer = None;
    assert_panics("boom", || {
        scope::<_, io::Error>(|s| {
            count_ends(s, 3, &ended);
            let at = spawn_panic_of_scope(s, &ended);
            outer = Some((s.context().clone(), at));
            Ok(())
        })
    });
    assert_eq!(ended.into_inner(), 6);
    let (ctx, at) = outer.unwrap();
    assert_cause(&ctx, &format!("worker 4 panicked: boom (spawned at {at})"));
}

#[test]
fn worker_panic_caught_by_worker_is_ignored() {
    let ended: io::Result<()> = scope(|s| {
        let worker = s.spawn(|_| Ok(catch_unwind(|| blow_up("boom")).is_err()));
        assert_eq!(worker.recv_timeout(LIMIT), Ok(true));
        assert_eq!(s.context().err(), None);
        Ok(())
    });
    assert!(ended.is_ok());
}

#[test]
fn spawn_name_with_null_byte_panics() {
    let ended = AtomicUsize::new(0);
    let payload = panic_of(|| {
        scope::<_, io::Error>(|s| {
            count_ends(s, 2, &ended);
            s.spawn_with(thread::Builder::new().name("a\0b".into()), |_| Ok(()))?;
            Ok(())
        })
    });
    assert!(payload.is::<&str>() || payload.is::<String>());
    assert_eq!(ended.into_inner(), 2);
}

// An error whose methods panic

/// Panics when it is displayed.
#[derive(Debug)]
struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        blow_up("Display")
    }
}

#[test]
fn error_panicking_in_display_is_resumed() {
    let ended = AtomicUsize::new(0);
    let mut kept = None;
    assert_panics("Display", || {
        scope(|s| {
            kept = Some(s.context().clone());
            count_ends(s, 2, &ended);
            s.spawn(|_| Err::<(), _>(Mute));
            Ok(())
        })
    });
    assert_eq!(ended.into_inner(), 2);
    assert_cause(&kept.unwrap(), "worker failed");
}

// What panics in its drop

#[test]
fn unreceived_result_may_panic_in_drop() {
    for _ in 0..50 {
        let ended = AtomicUsize::new(0);
        let (let_go, wait_for) = bounded::<()>(0);
        assert_panics("result", || {
            scope::<_, io::Error>(|s| {
                count_ends(s, 2, &ended);
                drop(s.spawn(move |_| {
                    assert_closes(&wait_for);
                    Ok(Bomb("result"))
                }));
                drop(let_go);
                Ok(())
            })
        });
        assert_eq!(ended.into_inner(), 2);
    }
}

#[test]
fn captures_of_worker_may_panic_in_drop() {
    let ended = AtomicUsize::new(0);
    assert_panics("owned", || {
        scope::<_, io::Error>(|s| {
            count_ends(s, 2, &ended);
            let owned = Bomb("owned");
            let worker = s.spawn(move |_| {
                let _owned = &owned;
                Ok(7)
            });
            assert_closes(&worker);
            Ok(())
        })
    });
    assert_eq!(ended.into_inner(), 2);
}

#[test]
fn captures_of_refused_work_may_panic_in_drop() {
    let owned = Bomb("owned");
    assert_panics("owned", || {
        scope::<_, io::Error>(|s| {
            s.cancel("enough");
            s.spawn(move |_| {
                let _owned = &owned;
                Ok(7)
            });
            Ok(())
        })
    });

    let ended = AtomicUsize::new(0);
    let owned = Bomb("owned");
    assert_panics("owned", || {
        scope::<_, io::Error>(|s| {
            count_ends(s, 2, &ended);
            let thread = thread::Builder::new().stack_size(usize::MAX / 2);
            s.spawn_with(thread, move |_| {
                let _owned = &owned;
                Ok(7)
            })
        })
    });
    assert_eq!(ended.into_inner(), 2);
}

#[test]
fn result_of_f_may_panic_in_drop() {
    assert_panics("value", || {
        scope(|s| {
            s.spawn(|_| Err::<(), _>(io::Error::other("lost")));
            Ok(Bomb("value"))
        })
    });
    assert_panics("boom", || {
        scope::<_, io::Error>(|s| {
            s.spawn(|_| -> io::Result<()> { blow_up("boom") });
            Ok(Bomb("value"))
        })
    });
}

#[test]
fn later_errors_may_panic_in_drop() {
    for _ in 0..50 {
        assert_panics("error", || scope(fail_together));
        assert_panics("error", || {
            scope(|s| {
                fail_together(s)?;
                Ok(Bomb("value"))
            })
        });
    }
}

#[test]
fn errors_replaced_by_panic_may_panic_in_drop() {
    for _ in 0..50 {
        let ended = AtomicUsize::new(0);
        assert_panics("first", || {
            Context::background().scope_all(|s| {
                count_ends(s, 2, &ended);
                s.spawn(|ctx| -> Result<(), Explosive> {
                    wait(ctx);
                    blow_up("first")
                });
                fail_together(s)?;
                Ok(Bomb("value"))
            })
        });
        assert_eq!(ended.into_inner(), 2);
    }
}

/// None of the errors is dropped before the value.
#[test]
fn errors_may_panic_in_drop_after_result_of_f() {
    assert_panics("value", || {
        Context::background().scope_all(|s| {
            fail_together(s)?;
            Ok(Bomb("value"))
        })
    });
}

#[test]
fn returned_errors_are_not_dropped() {
    let errors = Context::background().scope_all(fail_together).unwrap_err();
    assert_eq!(errors.len(), 4);
    errors.into_iter().for_each(mem::forget);
}

#[test]
fn payload_may_panic_in_drop() {
    let payload = panic_of(|| {
        scope::<(), io::Error>(|s| {
            for _ in 0..4 {
                s.spawn(|ctx| -> io::Result<()> {
                    wait(ctx);
                    resume_unwind(Box::new(Bomb("payload")))
                });
            }
            s.spawn(|_| -> io::Result<()> { resume_unwind(Box::new(Bomb("payload"))) });
            wait(s.context());
            resume_unwind(Box::new(Bomb("payload")))
        })
    });
    assert!(payload.is::<Bomb>());
    mem::forget(payload);
}

// During a panic

/// Runs groups in its drop.
struct Groups<'a>(&'a AtomicUsize);

impl Drop for Groups<'_> {
    fn drop(&mut self) {
        assert!(thread::panicking());
        let value: io::Result<u32> = scope(|s| Ok(s.spawn(|_| Ok(7)).recv_timeout(LIMIT).unwrap()));
        assert_eq!(value.unwrap(), 7);
        self.0.fetch_add(1, Ordering::SeqCst);

        let failed: io::Result<()> = scope(|s| {
            s.spawn(|_| Err::<(), _>(io::Error::other("lost")));
            Ok(())
        });
        assert_eq!(failed.unwrap_err().to_string(), "lost");
        self.0.fetch_add(1, Ordering::SeqCst);

        assert_panics("inner", || {
            scope::<_, io::Error>(|s| {
                s.spawn(|_| -> io::Result<()> { blow_up("inner") });
                Ok(())
            })
        });
        self.0.fetch_add(1, Ordering::SeqCst);

        assert_panics("inner", || scope::<(), io::Error>(|_| blow_up("inner")));
        self.0.fetch_add(1, Ordering::SeqCst);

        assert_panics("Display", || {
            scope(|s| {
                s.spawn(|_| Err::<(), _>(Mute));
                Ok(())
            })
        });
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn scope_runs_in_drop_during_panic() {
    let passed = AtomicUsize::new(0);
    assert_panics("outer", || {
        let _groups = Groups(&passed);
        blow_up("outer");
    });
    assert_eq!(passed.into_inner(), 5);
}
