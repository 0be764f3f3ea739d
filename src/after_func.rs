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
    node: Weak<Node>,
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
            node: node.map(Arc::downgrade).unwrap_or_default(),
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
        let task = self.callback.take();
        if task.is_some() {
            if let Some(node) = self.node.upgrade() {
                node.unregister(&self.callback);
            }
        }
        task.is_some()
    }
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterFunc").finish_non_exhaustive()
    }
}
