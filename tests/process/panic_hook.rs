//! A panic hook that uses contexts, whatever panics.

use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, Receiver, Sender, TryRecvError};
use go_context::{CancelCauseFunc, Cause, Context, CustomContext, Error, Key};
use support::process::in_child;
use support::{assert_closes, test_name, Name, HOUR, LIMIT};

const SOON: Duration = Duration::from_millis(2);

/// The payload of all panics here.
struct OnPurpose;

/// What the hook uses, and where it reports that it has.
#[derive(Clone)]
struct Near {
    ctx: Context,
    cancel: CancelCauseFunc,
    used: Sender<()>,
}

static NEAR: Mutex<Option<Near>> = Mutex::new(None);

fn blow_up() -> ! {
    panic::panic_any(OnPurpose)
}

#[test]
fn panic_hook_can_use_contexts() {
    in_child(test_name!(), || {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<OnPurpose>() {
                return usual(info);
            }
            let near = NEAR.lock().unwrap().clone().unwrap();
            use_contexts(&near.ctx, &near.cancel);
            near.used.send(()).unwrap();
        }));
        for (what, step) in STEPS {
            let (ctx, cancel) = Context::background().with_cancel_cause();
            let (used, uses) = bounded(100);
            *NEAR.lock().unwrap() = Some(Near {
                ctx: ctx.clone(),
                cancel,
                used,
            });
            let end = panic::catch_unwind(AssertUnwindSafe(|| step(&ctx)));
            assert!(end.is_ok(), "{what}");
            assert_eq!(uses.recv_timeout(LIMIT), Ok(()), "{what}");
            assert_eq!(ctx.cause().unwrap().to_string(), "the hook's", "{what}");
        }
    });
}

/// Uses contexts in every way, and cancels this one.
fn use_contexts(ctx: &Context, cancel: &CancelCauseFunc) {
    let detached = ctx.without_cancel();
    let (child, _cancel_child) = detached.with_timeout(SOON);
    let (ran, runs) = bounded(1);
    let function = child.after_func(move || ran.send(()).unwrap());
    assert_eq!(child.wait(), Error::DeadlineExceeded);
    assert_eq!(runs.recv_timeout(LIMIT), Ok(()));
    assert!(!function.stop_and_wait());
    let seven: io::Result<u32> = detached.scope(|s| Ok(s.spawn(|_| Ok(7)).recv().unwrap()));
    assert_eq!(seven.unwrap(), 7);

    let (below, _cancel_below) = ctx.with_timeout(HOUR);
    let (merged, _cancel_merged) = below.merge(&detached);
    let valued = merged.with_value(Name, "gopher".into());
    assert_eq!(valued.value(&Name).unwrap(), "gopher");
    assert!(!format!("{valued} {ctx:?}").is_empty());
    cancel.cancel("the hook's");
    assert_eq!(valued.err(), Some(Error::Canceled));
    assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Disconnected));
}

type Step = fn(&Context);

/// Each panics once or more, on this thread or on one of the crate's.
const STEPS: [(&str, Step); 13] = [
    ("a callback", |ctx| {
        let (trigger, cancel) = Context::background().with_cancel();
        trigger.after_func(blow_up_there(ctx));
        cancel.cancel();
    }),
    ("a callback of a deadline", |ctx| {
        let (trigger, _cancel) = Context::background().with_timeout(SOON);
        trigger.after_func(blow_up_there(ctx));
        trigger.wait();
    }),
    ("a worker", |ctx| {
        caught(|| ctx.scope(|s| Ok(s.spawn(|_| -> io::Result<()> { blow_up() }))));
    }),
    ("the function that a group is given", |ctx| {
        caught(|| ctx.scope::<(), io::Error, _>(|_| blow_up()));
    }),
    ("an error that is made a cause", |ctx| {
        caught(|| ctx.scope(|s| Ok(s.spawn(|_| Err::<(), _>(Mute)))));
    }),
    ("a condition", |ctx| {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        caught(|| ctx.wait_while(&pair, |()| blow_up()).map(drop));
        assert!(pair.0.is_poisoned());
    }),
    ("a key", |ctx| {
        let valued = ctx.with_value(Touchy, ());
        caught(|| valued.value(&Touchy).is_some());
    }),
    ("the drop of a value", |ctx| {
        let valued = ctx.with_value(Owner, Bomb).with_cancel().0;
        caught(|| drop(valued));
    }),
    ("the drop of a cause", |ctx| {
        let (child, cancel) = ctx.with_cancel_cause();
        cancel.cancel("first");
        caught(|| cancel.cancel(Bomb));
        drop(child);
    }),
    ("the drop of a function that has been taken back", |ctx| {
        let bomb = Bomb;
        let function = ctx.after_func(move || drop(bomb));
        caught(|| function.stop());
    }),
    ("a custom context that is asked", |ctx| {
        let (end, done) = bounded(0);
        let custom = Context::custom(Rude {
            done,
            inner: ctx.clone(),
        });
        caught(|| custom.to_string());
        caught(|| custom.value(&Name).is_some());
        drop(end);
        assert_eq!(custom.err(), Some(Error::Canceled));
    }),
    ("a custom context that is watched", |ctx| {
        let (end, done) = bounded(0);
        let custom = Context::custom(Rude {
            done,
            inner: ctx.clone(),
        });
        caught(|| custom.after_func(|| ())); // its own `after_func` panics, and a thread watches instead
        let (child, _cancel) = custom.with_cancel();
        drop(end);
        assert_closes(&child.done());
    }),
    ("a custom context that is called off", |ctx| {
        let (_end, done) = bounded::<()>(0);
        let custom = Context::custom(CalledOff(done, ctx.clone()));
        drop(custom.with_cancel());
    }),
];

/// A function that owns what the hook uses as well.
fn blow_up_there(ctx: &Context) -> impl FnOnce() + Send + 'static {
    let (child, cancel) = ctx.with_cancel();
    move || {
        let _dropped_by_the_panic = (child, cancel.drop_guard());
        blow_up()
    }
}

/// Asserts that `f` panics.
#[track_caller]
fn caught<T>(f: impl FnOnce() -> T) {
    let payload = panic::catch_unwind(AssertUnwindSafe(f)).err();
    assert!(payload.is_some_and(|payload| payload.is::<OnPurpose>()));
}

/// A value or a cause.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        blow_up();
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl std::error::Error for Bomb {}

#[derive(PartialEq, Eq)]
struct Owner;

impl Key for Owner {
    type Value = Bomb;
}

struct Touchy;

impl PartialEq for Touchy {
    fn eq(&self, _: &Touchy) -> bool {
        blow_up()
    }
}

impl Eq for Touchy {}

impl Key for Touchy {
    type Value = ();
}

/// An error that panics in `Display`.
struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        blow_up()
    }
}

/// A context whose methods panic.
struct Rude {
    done: Receiver<()>,
    inner: Context,
}

impl CustomContext for Rude {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    fn err(&self) -> Option<Error> {
        let _child = self.inner.with_cancel();
        blow_up()
    }

    fn cause(&self) -> Option<Cause> {
        blow_up()
    }

    fn value<'a>(&'a self, _: &mut go_context::Lookup<'_, 'a>) {
        blow_up()
    }

    fn after_func(&self, _: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        blow_up()
    }

    fn name(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        blow_up()
    }
}

/// A context that panics when it is unregistered from.
struct CalledOff(Receiver<()>, Context);

impl CustomContext for CalledOff {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }

    fn err(&self) -> Option<Error> {
        None
    }

    fn after_func(&self, _: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        let inner = self.1.clone();
        Some(Box::new(move || {
            let _child = inner.with_cancel();
            blow_up()
        }))
    }
}
