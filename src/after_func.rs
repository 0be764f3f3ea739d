//! The handle to a function registered by `Context::after_func`.

use std::fmt;

use crate::runtime::sync::{Arc, Weak};
use crate::runtime::Task;
use crate::tree::{Callback, Node};

/// Stops a callback that was registered with [`Context::after_func`](crate::Context::after_func).
///
/// It is not a [handle](crate::Context#ownership) to the context. Dropping it does not stop the
/// callback.
///
/// # Examples
///
/// ```
/// use go_context::Context;
///
/// let (ctx, cancel) = Context::background().with_cancel();
/// let goodbye = ctx.after_func(|| println!("goodbye"));
/// assert!(goodbye.stop());
/// cancel.cancel(); // prints nothing
/// ```
pub struct AfterFunc {
    /// `None` if the context cannot be cancelled.
    node: Option<Weak<Node>>,
    callback: Arc<Callback>,
}

impl AfterFunc {
    pub(crate) fn new(node: Option<&Arc<Node>>, task: Task) -> AfterFunc {
        let callback = Arc::new(Callback::new(task));
        let node = node.filter(|node| node.is_cancellable());
        if let Some(node) = node {
            node.add_callback(&callback);
        }
        AfterFunc {
            node: node.map(Arc::downgrade),
            callback,
        }
    }

    /// Prevents the callback from running. Returns `true` if this call did so. Equivalent to the
    /// `stop` function that Go's `AfterFunc` returns.
    ///
    /// Returns `false` if the context is already done (even if the callback has not started running
    /// yet) or if `stop` was called before. Does not block: a running callback continues.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let stopped = ctx.after_func(|| unreachable!());
    /// assert!(stopped.stop());
    /// assert!(!stopped.stop());
    ///
    /// let started = ctx.after_func(|| ());
    /// cancel.cancel();
    /// assert!(!started.stop());
    /// ```
    pub fn stop(&self) -> bool {
        let Some(node) = &self.node else {
            return self.callback.take_back().is_some();
        };
        // If the context is done it is too late, even if the callback has not been handed over yet.
        let Some(node) = node.upgrade().filter(|node| node.err().is_none()) else {
            return false;
        };
        let task = self.callback.take_back();
        if task.is_some() {
            node.remove_added(&self.callback.slot);
        }
        task.is_some()
    }

    /// Prevents the callback from running, like [`stop`](AfterFunc::stop), or blocks until it has
    /// run. Returns `true` if it was prevented. Go has no equivalent.
    ///
    /// When it returns, the callback is not running and never will be, so everything it uses can be
    /// torn down. Call it before `main` returns if a pending callback must not be lost. Inside the
    /// callback itself it returns immediately.
    ///
    /// Two callbacks that call this on each other deadlock, and so does calling it from a thread
    /// that the callback is waiting for.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::sync::Arc;
    /// use go_context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let ran = Arc::new(AtomicBool::new(false));
    /// let after = ctx.after_func({
    ///     let ran = ran.clone();
    ///     move || ran.store(true, Ordering::Relaxed)
    /// });
    /// cancel.cancel();
    /// assert!(!after.stop_and_wait());
    /// assert!(ran.load(Ordering::Relaxed));
    /// ```
    pub fn stop_and_wait(&self) -> bool {
        let stopped = self.stop();
        if !stopped {
            self.callback.wait();
        }
        stopped
    }
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterFunc").finish_non_exhaustive()
    }
}
