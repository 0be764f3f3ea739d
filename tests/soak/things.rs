//! What contexts are created with: values, causes, custom contexts.

use std::fmt;
use std::sync::Arc;

use go_context::crossbeam_channel::Receiver;
use go_context::{CancelCauseFunc, CancelFunc, Cause, Context, CustomContext, Error, Key};

use support::custom::Lever;
use support::{is_closed, Task};

use crate::contract::Token;

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

/// A context with a channel of its own, watched by a thread or with an `after_func`.
pub(crate) struct Outsider {
    done: Receiver<()>,
    calls: Option<Lever>,
    _token: Token,
}

impl Outsider {
    pub(crate) fn new(calls_by_itself: bool) -> (Outsider, Lever) {
        let (lever, done) = Lever::new();
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
        Some(self.calls.as_ref()?.register(f))
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
