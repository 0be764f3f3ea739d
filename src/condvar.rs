//! Waiting on a condition variable until a context is done.

// The types of the caller's lock. The crate's own locks are those of `runtime::sync`.
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::after_func::AfterFunc;
use crate::context::Context;
use crate::error::Error;
use crate::runtime::timer;

/// # Condition variables
impl Context {
    /// Locks the mutex, and blocks on the condition variable while `condition` returns `true`, or
    /// until the context is done.
    ///
    /// Like [`Condvar::wait_while`], but it locks the mutex itself. In Go this takes an `AfterFunc`
    /// that locks the mutex and calls `Broadcast`. The pair must be in an [`Arc`], because a
    /// callback thread uses it to wake the waiting threads when the context is done; for a pair
    /// that is part of a struct see [`wait_while_with`](Context::wait_while_with). `condition`
    /// runs under the mutex, as in std. A poisoned mutex is locked regardless; check with
    /// [`Mutex::is_poisoned`].
    ///
    /// # Errors
    ///
    /// Returns the context's error if it is done, even if `condition` would return `false`. The
    /// mutex is not locked then. A `notify_one` that woke this thread is not lost, because it is
    /// passed on to another waiting thread.
    ///
    /// # Panics
    ///
    /// Panics if `condition` does, or if the condition variable is used with another mutex, on
    /// platforms where std panics on that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Condvar, Mutex};
    /// use std::time::Duration;
    /// use go_context::{Context, Error};
    ///
    /// let queue = Arc::new((Mutex::new(vec![1]), Condvar::new()));
    /// let (ctx, _cancel) = Context::background().with_cancel();
    /// let filled = ctx.wait_while(&queue, |queue| queue.is_empty());
    /// assert_eq!(filled.unwrap().pop(), Some(1));
    ///
    /// // The queue is empty now, so this blocks until the timeout.
    /// let (ctx, _cancel) = ctx.with_timeout(Duration::from_millis(5));
    /// let late = ctx.wait_while(&queue, |queue| queue.is_empty());
    /// assert_eq!(late.unwrap_err(), Error::DeadlineExceeded);
    /// ```
    pub fn wait_while<'a, T: Send + 'static>(
        &self,
        pair: &'a Arc<(Mutex<T>, Condvar)>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, Error> {
        self.wait_while_with(pair, |(mutex, condvar)| (mutex, condvar), condition)
    }

    /// Blocks like [`wait_while`](Context::wait_while), on a mutex and a condition variable that are
    /// part of `shared`. `pair` returns them, and must always return the same two.
    ///
    /// # Errors
    ///
    /// Like `wait_while`.
    ///
    /// # Panics
    ///
    /// Like `wait_while`, and if `pair` does.
    ///
    /// # Examples
    ///
    /// A queue with a limit, and a condition variable for each side:
    ///
    /// ```
    /// use std::collections::VecDeque;
    /// use std::sync::{Arc, Condvar, Mutex};
    /// use go_context::{Context, Error};
    ///
    /// #[derive(Default)]
    /// struct Queue {
    ///     jobs: Mutex<VecDeque<u32>>,
    ///     not_empty: Condvar,
    ///     not_full: Condvar,
    /// }
    ///
    /// impl Queue {
    ///     fn push(self: &Arc<Self>, ctx: &Context, job: u32) -> Result<(), Error> {
    ///         let mut jobs = ctx.wait_while_with(
    ///             self,
    ///             |queue| (&queue.jobs, &queue.not_full),
    ///             |jobs| jobs.len() == 8,
    ///         )?;
    ///         jobs.push_back(job);
    ///         self.not_empty.notify_one();
    ///         Ok(())
    ///     }
    ///
    ///     fn pop(self: &Arc<Self>, ctx: &Context) -> Result<u32, Error> {
    ///         let mut jobs = ctx.wait_while_with(
    ///             self,
    ///             |queue| (&queue.jobs, &queue.not_empty),
    ///             |jobs| jobs.is_empty(),
    ///         )?;
    ///         self.not_full.notify_one();
    ///         Ok(jobs.pop_front().unwrap())
    ///     }
    /// }
    ///
    /// let queue = Arc::new(Queue::default());
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// queue.push(&ctx, 1)?;
    /// assert_eq!(queue.pop(&ctx), Ok(1));
    /// cancel.cancel();
    /// assert_eq!(queue.pop(&ctx), Err(Error::Canceled));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wait_while_with<'a, S, T>(
        &self,
        shared: &'a Arc<S>,
        pair: impl for<'s> Fn(&'s S) -> (&'s Mutex<T>, &'s Condvar) + Send + 'static,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, Error>
    where
        S: Send + Sync + 'static,
        T: 'static,
    {
        self.check()?;
        let (mutex, condvar) = pair(shared);
        let weak = Arc::downgrade(shared);
        let _stop_on_return = StopOnDrop(AfterFunc::new(
            self.node.as_ref(),
            Box::new(move || {
                if let Some(shared) = weak.upgrade() {
                    let (mutex, condvar) = pair(&shared);
                    // Lock so that a thread between its `err` check and `wait` cannot miss the
                    // notification.
                    drop(mutex.lock());
                    condvar.notify_all();
                }
            }),
        ));
        let mut guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        // Not std's `wait_while`, which returns at the first wake-up if the mutex is poisoned.
        while self.err().is_none() && condition(&mut guard) {
            guard = match timer::longest_wait() {
                None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(limit) => {
                    let woken = condvar.wait_timeout(guard, limit);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let Err(err) = self.check() else {
            return Ok(guard);
        };
        drop(guard);
        // Passes on a `notify_one` that this thread may have consumed. The callback above wakes the
        // others too, but a custom context may fail to call it.
        condvar.notify_one();
        Err(err)
    }
}

/// Stops a callback when dropped, including during a panic.
struct StopOnDrop(AfterFunc);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}
