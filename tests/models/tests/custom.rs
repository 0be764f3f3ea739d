//! Custom contexts: watched by themselves or by a thread, or wrapping a context of the crate.

use super::*;

use std::sync::Mutex;

use crossbeam_channel::{bounded, Sender};

use crate::runtime::sync::Condvar;
use crate::runtime::Task;
use crate::{Cause, CustomContext, Error};

/// A context that calls back.
#[derive(Clone)]
struct Calling(Arc<(Mutex<Calls>, Receiver<()>)>);

struct Calls {
    open: Option<Sender<()>>,
    waiting: Vec<Option<Task>>,
}

impl Calling {
    fn new() -> Calling {
        let (open, done) = bounded(0);
        let calls = Calls {
            open: Some(open),
            waiting: Vec::new(),
        };
        Calling(Arc::new((Mutex::new(calls), done)))
    }

    fn end(&self) {
        let waiting = {
            let mut calls = self.0 .0.lock().unwrap();
            calls.open = None;
            std::mem::take(&mut calls.waiting)
        };
        for call in waiting.into_iter().flatten() {
            call();
        }
    }

    /// Returns how many functions are registered.
    fn registered(&self) -> usize {
        let calls = self.0 .0.lock().unwrap();
        calls.waiting.iter().flatten().count()
    }
}

impl CustomContext for Calling {
    fn done(&self) -> Receiver<()> {
        self.0 .1.clone()
    }

    fn err(&self) -> Option<Error> {
        Some(Error::DeadlineExceeded)
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        let mut calls = self.0 .0.lock().unwrap();
        if calls.open.is_none() {
            drop(calls);
            f();
            return Some(Box::new(|| {}));
        }
        calls.waiting.push(Some(f));
        let (this, place) = (self.clone(), calls.waiting.len() - 1);
        Some(Box::new(move || {
            let call = {
                let mut calls = this.0 .0.lock().unwrap();
                calls.waiting.get_mut(place).and_then(Option::take)
            };
            drop(call);
        }))
    }
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn custom_done_while_children_come_and_go() {
    in_many_orders(|| {
        let calling = Calling::new();
        let custom = tracked(Context::custom(calling.clone()));
        let derive = || {
            let custom = custom.clone();
            move || {
                drop(child(&custom));
                child(&custom)
            }
        };
        let others = [spawn(derive()), spawn(derive())];
        let (ctx, cancel) = child(&custom);
        let canceler = spawn(move || cancel.cancel("x"));
        calling.end();
        canceler.join().unwrap();
        assert_done(&ctx);
        for (ctx, _cancel) in join(others) {
            assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
            assert_done(&ctx);
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn custom_is_watched_while_it_has_children() {
    in_many_orders(|| {
        let calling = Calling::new();
        let custom = tracked(Context::custom(calling.clone()));
        let other = spawn({
            let custom = custom.clone();
            move || drop(child(&custom))
        });
        let kept = child(&custom);
        other.join().unwrap();
        assert_eq!(calling.registered(), 1);
        drop(kept);
        assert_eq!(calling.registered(), 0);

        let others = [custom.clone(), custom].map(|custom| spawn(move || drop(child(&custom))));
        join(others);
        assert_eq!(calling.registered(), 0);
    });
}

/// A context whose `after_func` waits until it is released.
struct Slow {
    calling: Calling,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    stage: crate::runtime::sync::Mutex<Stage>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Idle,
    Called,
    Released,
}

impl Gate {
    fn reach(&self, stage: Stage) {
        let mut now = self.stage.lock();
        *now = stage.max(*now);
        drop(now);
        self.changed.notify_all();
    }

    fn wait(&self, stage: Stage) {
        let now = self.stage.lock();
        let now = self.changed.wait_while(now, |now| *now < stage);
        drop(now);
    }
}

impl CustomContext for Slow {
    fn done(&self) -> Receiver<()> {
        self.calling.done()
    }

    fn err(&self) -> Option<Error> {
        self.calling.err()
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        self.gate.reach(Stage::Called);
        self.gate.wait(Stage::Released);
        self.calling.after_func(f)
    }
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn custom_done_while_after_func_blocks() {
    in_many_orders(|| {
        let (calling, gate) = (Calling::new(), Arc::new(Gate::default()));
        let custom = tracked(Context::custom(Slow {
            calling: calling.clone(),
            gate: gate.clone(),
        }));
        let asking = spawn({
            let custom = custom.clone();
            move || child(&custom)
        });
        gate.wait(Stage::Called);
        let (second, _cancel) = child(&custom);
        let (third, _cancel) = child(&custom);
        calling.end();
        watcher::run_all();
        assert_done(&second);
        assert_done(&third);
        gate.reach(Stage::Released);
        let (first, _cancel) = asking.join().unwrap();
        assert_done(&first);
        assert_eq!(first.err(), Some(Error::DeadlineExceeded));
    });
}

/// Children come and go while `after_func` is called. What watches must fit those that are left.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn custom_children_dropped_while_after_func_is_called() {
    in_many_orders(|| {
        let (calling, gate) = (Calling::new(), Arc::new(Gate::default()));
        let custom = tracked(Context::custom(Slow {
            calling: calling.clone(),
            gate: gate.clone(),
        }));
        let others = [custom.clone(), custom.clone()].map(|custom| {
            spawn(move || {
                drop(child(&custom));
            })
        });
        gate.reach(Stage::Released);
        let kept = child(&custom);
        join(others);
        watcher::run_all();
        assert_eq!(calling.registered() + watcher::count(), 1);
        let last = child(&custom);
        drop(kept);
        calling.end();
        watcher::run_all();
        assert_done(&last.0);
        drop(last);
        watcher::run_all();
        assert_eq!(calling.registered() + watcher::count(), 0);
    });
}

/// A context for which a thread has to wait.
struct Waiting(Receiver<()>);

impl CustomContext for Waiting {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }

    fn err(&self) -> Option<Error> {
        Some(Error::DeadlineExceeded)
    }
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn custom_child_derived_while_idle_watch_ends() {
    in_many_orders(|| {
        let (open, done) = bounded(0);
        let custom = tracked(Context::custom(Waiting(done)));
        drop(child(&custom));
        let watching = spawn(watcher::run_all);
        let other = spawn({
            let custom = custom.clone();
            move || drop(child(&custom))
        });
        let (ctx, _cancel) = child(&custom);
        watching.join().unwrap();
        other.join().unwrap();
        watcher::run_all();
        assert_eq!(watcher::count(), 1);
        drop(open);
        watcher::run_all();
        assert_done(&ctx);
        assert_eq!(watcher::count(), 0);
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn custom_watched_by_thread_is_done_during_cancel() {
    in_many_orders(|| {
        let (open, done) = bounded(0);
        let custom = tracked(Context::custom(Waiting(done)));
        let (ctx, cancel) = child(&custom);
        let (low, _cancel) = child(&ctx);
        let done = low.done();
        let others = [
            spawn(move || cancel.cancel("x")),
            spawn(watcher::run_all),
            spawn({
                let custom = custom.clone();
                move || drop(child(&custom))
            }),
        ];
        drop(open);
        join(others);
        watcher::run_all();
        assert!(is_closed(&done));
        assert_eq!(cause(&low), cause(&ctx));
    });
}

/// A context that changes nothing about the one that it wraps.
struct Wrapping(Context);

impl CustomContext for Wrapping {
    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }

    fn done(&self) -> Receiver<()> {
        self.0.done()
    }

    fn err(&self) -> Option<Error> {
        self.0.err()
    }

    fn cause(&self) -> Option<Cause> {
        self.0.cause()
    }
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn wrapped_cancelled_while_children_are_derived() {
    in_many_orders(|| {
        let (inner, cancel) = root();
        let custom = tracked(Context::custom(Wrapping(inner.clone())));
        let (before, _cancel) = child(&custom);
        let deriver = spawn({
            let custom = custom.clone();
            move || {
                let (ctx, _cancel) = child(&custom);
                let done = ctx.done();
                (ctx, done)
            }
        });
        cancel.cancel("x");
        assert_done(&before);
        assert_eq!(cause(&before), "x");
        let (ctx, done) = deriver.join().unwrap();
        assert_done(&ctx);
        assert!(is_closed(&done));
        assert_eq!(cause(&ctx), "x");
    });
}
