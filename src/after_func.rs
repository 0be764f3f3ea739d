//! The handle on a function registered by `Context::after_func`.

use std::fmt;

use crate::callback::Callback;
use crate::pool::Task;
use crate::sync::{Arc, Weak};
use crate::tree::Node;

/// A function that runs once its context is done: what
/// [`Context::after_func`](crate::Context::after_func) returns, to call it off.
///
/// It holds no context, and dropping it changes nothing.
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
            node.register(&callback);
        }
        AfterFunc {
            node: node.map(Arc::downgrade),
            callback,
        }
    }

    /// Keeps the function from running; true if this call did.
    ///
    /// It is false if the context was done before, whether or not the function has got a thread
    /// yet, and if it was stopped before. It does not wait for the function to end. As Go's `stop`.
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
            return self.callback.stop().is_some();
        };
        // Once the context is done it is too late, also where the function has not been come to yet.
        let Some(node) = node.upgrade().filter(|node| node.err().is_none()) else {
            return false;
        };
        let task = self.callback.stop();
        if task.is_some() {
            node.unregister(&self.callback);
        }
        task.is_some()
    }

    /// Keeps the function from running, as [`stop`](AfterFunc::stop) does, or waits until it has
    /// run. Go has nothing like it.
    ///
    /// When it returns, the function is not running and will not, so what it works on can be taken
    /// down. Called from inside the function itself it does not wait. Two functions that so wait
    /// for each other wait for ever, and so does one called off here by a thread that it needs to
    /// finish.
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
