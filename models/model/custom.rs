//! Contexts that are not the crate's own. Those that have to be waited for have a thread that blocks,
//! which no checker sees; these say themselves when they are done.

use super::*;

use std::sync::Mutex;

use crossbeam_channel::{bounded, Sender};

use crate::pool::Task;
use crate::{Cause, CustomContext, Error};

/// One that calls back.
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

    /// How many it has to call.
    fn watchers(&self) -> usize {
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
fn a_custom_context_ends_while_children_are_derived_cancelled_and_dropped() {
    in_many_orders(|| {
        let calling = Calling::new();
        let custom = counted(Context::custom(calling.clone()));
        let derive = || {
            let custom = custom.clone();
            move || {
                drop(child(&custom));
                child(&custom)
            }
        };
        let others = [go(derive()), go(derive())];
        let (ctx, cancel) = child(&custom);
        let canceler = go(move || cancel.cancel("x"));
        calling.end();
        canceler.join().unwrap();
        assert_done(&ctx);
        for other in others {
            let (ctx, _cancel) = other.join().unwrap();
            assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
            assert_done(&ctx);
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_custom_context_is_watched_while_it_has_children_and_no_longer() {
    in_many_orders(|| {
        let calling = Calling::new();
        let custom = counted(Context::custom(calling.clone()));
        let other = go({
            let custom = custom.clone();
            move || drop(child(&custom))
        });
        let kept = child(&custom);
        other.join().unwrap();
        assert_eq!(calling.watchers(), 1);
        drop(kept);
        assert_eq!(calling.watchers(), 0);

        let others = [custom.clone(), custom].map(|custom| go(move || drop(child(&custom))));
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(calling.watchers(), 0);
    });
}

/// One that changes nothing about a context of ours.
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
fn a_wrapped_context_is_cancelled_while_children_are_derived() {
    in_many_orders(|| {
        let (inner, cancel) = root();
        let custom = counted(Context::custom(Wrapping(inner.clone())));
        let (before, _cancel) = child(&custom);
        let deriver = go({
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
