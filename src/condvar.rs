//! Condition variables under a context.

// The user's own mutex; the locks of the crate are those of `sync`.
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::after_func::AfterFunc;
use crate::context::Context;
use crate::error::Error;

impl Context {
    /// Waits on a condition variable while `condition` is true, or until the context is done.
    ///
    /// It is [`Condvar::wait_while`] with an end: what in Go takes an `AfterFunc` that locks and
    /// broadcasts. The pair is behind an [`Arc`], for a thread of this crate uses it when the context
    /// is done, to wake all who wait there. A pair that is poisoned is locked all the same; ask
    /// [`Mutex::is_poisoned`].
    ///
    /// `condition` runs under the mutex, as with std.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done, whatever `condition` says by then. The mutex is not held,
    /// and no `notify_one` is lost: whoever else waits there is woken.
    ///
    /// # Panics
    ///
    /// If the condition variable is used with another mutex, where std panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{sync::{Arc, Condvar, Mutex}, thread, time::Duration};
    /// use go_context::{Context, Error};
    ///
    /// let queue = Arc::new((Mutex::new(vec![1]), Condvar::new()));
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
    ///
    /// let mut filled = ctx.wait_while(&queue, |queue| queue.is_empty()).unwrap();
    /// assert_eq!(filled.pop(), Some(1));
    /// drop(filled);
    ///
    /// let late = ctx.wait_while(&queue, |queue| queue.is_empty());
    /// assert_eq!(late.unwrap_err(), Error::DeadlineExceeded);
    /// ```
    pub fn wait_while<'a, T: Send + 'static>(
        &self,
        pair: &'a Arc<(Mutex<T>, Condvar)>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, Error> {
        self.check()?;
        let (mutex, condvar) = &**pair;
        let weak = Arc::downgrade(pair);
        let _stop_on_return = Stop(self.after_func(move || {
            if let Some(pair) = weak.upgrade() {
                // Who has looked at the context and not yet begun to wait holds the mutex.
                drop(pair.0.lock());
                pair.1.notify_all();
            }
        }));
        let mut guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        // Not std's `wait_while`: on a poisoned mutex that ends with the first wake-up.
        while self.err().is_none() && condition(&mut guard) {
            guard = condvar.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        let Err(err) = self.check() else {
            return Ok(guard);
        };
        drop(guard);
        // For a `notify_one` that came here in vain. The function above wakes the others too, but a
        // custom context may fail to call it.
        condvar.notify_one();
        Err(err)
    }
}

/// Takes an after-func back, by a panic too.
struct Stop(AfterFunc);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
