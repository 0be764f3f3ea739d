//! Panics out of a user's `Drop`, held back until everything else has been dropped.

use std::any::Any;
use std::mem;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::thread;

/// Runs `f`, and swallows its panic: the panic hook has reported it by then.
pub(crate) fn contain(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        discard(payload);
    }
}

/// A payload's own `Drop` may panic as well, and a payload of that one's, so it is tried once and
/// then left where it is.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again);
    }
}

/// The first panic of several steps, each of which is to be taken whatever the others do.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    pub(crate) fn catch(&mut self, step: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(step)) {
            match &self.0 {
                None => self.0 = Some(payload),
                Some(_) => discard(payload),
            }
        }
    }

    /// Lets the panic go on its way. On a thread that is unwinding already it would abort the
    /// process, so there it ends here.
    #[inline]
    pub(crate) fn resume(self) {
        match self.0 {
            Some(payload) if thread::panicking() => discard(payload),
            Some(payload) => resume_unwind(payload),
            None => {}
        }
    }
}
