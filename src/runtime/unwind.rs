//! Containment of panics and of recursion in the user's `Drop` code.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::thread;

/// Runs `f` and swallows its panic, which the panic hook has reported by then.
pub(crate) fn swallow_panic(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        discard(payload);
    }
}

/// Drops a panic's payload. If that panics too, the second payload is leaked, because dropping it
/// might panic again, without end.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again);
    }
}

/// Runs several steps even if some panic, and remembers the first panic.
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

    /// Resumes the panic. On a thread that is unwinding already that would abort the process, so
    /// there the panic ends here.
    #[inline]
    pub(crate) fn resume(self) {
        match self.0 {
            Some(payload) if thread::panicking() => discard(payload),
            Some(payload) => resume_unwind(payload),
            None => {}
        }
    }
}

/// How deep a value's `Drop` may drop further values before these are queued: not deep, because the
/// stack may be small.
const NESTED: u32 = 32;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static QUEUE: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Drops a value of the user's that may own contexts, whose drop may come here again, and so on.
///
/// From a certain depth on such values are queued, and dropped by the outermost call, so that the
/// stack stays shallow however many of them are nested in each other.
pub(crate) fn drop_nested(value: impl Any) {
    // A model checker runs all modelled threads on one OS thread, so they would share `DEPTH`.
    let depth = if cfg!(model) { 0 } else { DEPTH.get() };
    if depth >= NESTED {
        let mut value: Option<Box<dyn Any>> = Some(Box::new(value));
        // Fails only while the storage of an ending thread is destroyed.
        let _ = QUEUE.try_with(|queue| queue.borrow_mut().extend(value.take()));
        return drop(value);
    }
    let mut panics = FirstPanic::default();
    DEPTH.set(depth + 1);
    panics.catch(|| drop(value));
    if depth == 0 {
        while let Ok(Some(next)) = QUEUE.try_with(|queue| queue.borrow_mut().pop()) {
            panics.catch(|| drop(next));
        }
    }
    DEPTH.set(depth);
    panics.resume();
}
