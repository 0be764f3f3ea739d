//! What contexts are created with: values, causes, custom contexts.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex};

use go_context::crossbeam_channel::{bounded, Receiver, Sender};
use go_context::{CancelCauseFunc, CancelFunc, Cause, Context, CustomContext, Error, Key};

use crate::contract::{is_closed, Token};

#[derive(PartialEq, Eq)]
pub(crate) struct Number;

impl Key for Number {
    type Value = (u64, Token);
}

pub(crate) fn number(ctx: &Context) -> Option<u64> {
    ctx.value(&Number).map(|value| value.0)
}

#[derive(Debug)]
struct Given(Token);

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reason")
    }
}

impl std::error::Error for Given {}

pub(crate) fn new_cause() -> Cause {
    Arc::new(Given(Token::new()))
}

pub(crate) enum Cancel {
    Plain(CancelFunc),
    Because(CancelCauseFunc),
}

impl Cancel {
    pub(crate) fn cancel(&self) {
        match self {
            Cancel::Plain(cancel) => cancel.cancel(),
            Cancel::Because(cancel) => cancel.cancel(new_cause()),
        }
    }

    /// Cancels by the drop of a guard.
    pub(crate) fn guard(self) {
        match self {
            Cancel::Plain(cancel) => drop(cancel.drop_guard()),
            Cancel::Because(cancel) => drop(cancel.drop_guard()),
        }
    }
}

type Task = Box<dyn FnOnce() + Send>;

/// Closes the channel of a custom context. The functions are those registered with a context that has
/// an `after_func`.
#[derive(Clone)]
pub(crate) struct Lever(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    open: Option<Sender<()>>,
    tasks: BTreeMap<u64, Task>,
    tickets: u64,
}

impl Lever {
    pub(crate) fn close(self) {
        let mut held = self.0.lock().unwrap();
        let (open, tasks) = (held.open.take(), mem::take(&mut held.tasks));
        drop(held);
        drop(open);
        tasks.into_values().for_each(|task| task());
    }
}

/// A context with a channel of its own, watched by a thread or with an `after_func`.
pub(crate) struct Outsider {
    done: Receiver<()>,
    calls: Option<Lever>,
    _token: Token,
}

impl Outsider {
    pub(crate) fn new(calls_by_itself: bool) -> (Outsider, Lever) {
        let (open, done) = bounded(0);
        let lever = Lever(Arc::new(Mutex::new(Held {
            open: Some(open),
            ..Held::default()
        })));
        let outsider = Outsider {
            done,
            calls: calls_by_itself.then(|| lever.clone()),
            _token: Token::new(),
        };
        (outsider, lever)
    }
}

impl CustomContext for Outsider {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    fn err(&self) -> Option<Error> {
        is_closed(&self.done).then_some(Error::Canceled)
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        let lever = self.calls.clone()?;
        let mut held = lever.0.lock().unwrap();
        if held.open.is_none() {
            drop(held);
            f();
            return Some(Box::new(|| ()));
        }
        held.tickets += 1;
        let ticket = held.tickets;
        held.tasks.insert(ticket, f);
        drop(held);
        Some(Box::new(move || {
            let task = lever.0.lock().unwrap().tasks.remove(&ticket);
            drop(task);
        }))
    }
}

/// A context that passes everything through from another.
pub(crate) struct Wrapper(pub(crate) Context, pub(crate) Token);

impl CustomContext for Wrapper {
    fn done(&self) -> Receiver<()> {
        self.0.done()
    }

    fn err(&self) -> Option<Error> {
        self.0.err()
    }

    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }
}
