//! The handles that cancel a context.

use std::error::Error as StdError;
use std::fmt;

use crate::error::into_cause;
use crate::sync::Arc;
use crate::tree::Node;

/// Cancels the context that it came with: the function that Go returns beside a context.
///
/// Any number of threads may call it at once and any number of times; the first call counts.
/// Dropping it does nothing, as in Go; [`drop_guard`](CancelFunc::drop_guard) is Go's
/// `defer cancel()`. It counts as a handle on its context: as long as it is held the context is not
/// abandoned.
///
/// # Examples
///
/// ```
/// use go_context::{Context, Error};
///
/// let (ctx, cancel) = Context::background().with_cancel();
/// assert_eq!(ctx.err(), None);
/// cancel.cancel();
/// assert_eq!(ctx.err(), Some(Error::Canceled));
/// ```
#[must_use = "a context that is never cancelled holds its resources until nobody holds it"]
#[derive(Clone)]
pub struct CancelFunc {
    node: Arc<Node>,
}

impl CancelFunc {
    #[inline]
    pub(crate) fn new(node: Arc<Node>) -> CancelFunc {
        CancelFunc { node }
    }

    /// Cancels the context and every descendant, with [`Error::Canceled`](crate::Error::Canceled).
    ///
    /// When it returns they are all done, even if another thread began to cancel one of them
    /// before: then it waits for that thread. It does not wait for callbacks of
    /// [`after_func`](crate::Context::after_func) to run. Cancelling is not atomic: while it goes
    /// on, one descendant may be seen done and another not yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// let (parent, cancel) = Context::background().with_cancel();
    /// let (child, _cancel_child) = parent.with_cancel();
    /// cancel.cancel();
    /// assert!(child.err().is_some());
    /// cancel.cancel(); // does nothing
    /// ```
    pub fn cancel(&self) {
        self.node.cancel(None);
    }

    /// Cancels the context when the guard is dropped, at the end of a scope or in a panic.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// {
    ///     let _cancel_on_exit = cancel.drop_guard();
    ///     assert!(ctx.err().is_none());
    /// }
    /// assert!(ctx.err().is_some());
    /// ```
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { node: self.node }
    }
}

impl fmt::Debug for CancelFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelFunc").finish_non_exhaustive()
    }
}

/// Cancels the context that it came with, and says why: Go's `CancelCauseFunc`.
///
/// All that is said of [`CancelFunc`] holds here too.
///
/// # Examples
///
/// ```
/// use go_context::{Context, Error};
///
/// let (ctx, cancel) = Context::background().with_cancel_cause();
/// cancel.cancel("the disk is full");
/// assert_eq!(ctx.err(), Some(Error::Canceled));
/// assert_eq!(ctx.cause().unwrap().to_string(), "the disk is full");
/// ```
#[must_use = "a context that is never cancelled holds its resources until nobody holds it"]
#[derive(Clone)]
pub struct CancelCauseFunc {
    node: Arc<Node>,
}

impl CancelCauseFunc {
    #[inline]
    pub(crate) fn new(node: Arc<Node>) -> CancelCauseFunc {
        CancelCauseFunc { node }
    }

    /// Cancels the context and every descendant, with
    /// [`Error::Canceled`](crate::Error::Canceled) and this cause. It returns, and waits, as
    /// [`CancelFunc::cancel`] does.
    ///
    /// Where the context was done before, or a descendant was, error and cause stay as they are.
    /// Go's `cancel(nil)` is `cancel(Error::Canceled)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel_cause();
    /// let (child, cancel_child) = ctx.with_cancel_cause();
    /// cancel_child.cancel("first");
    /// cancel.cancel(std::io::Error::other("second"));
    /// assert_eq!(child.cause().unwrap().to_string(), "first");
    /// assert!(ctx.cause().unwrap().is::<std::io::Error>());
    /// ```
    pub fn cancel(&self, cause: impl Into<Box<dyn StdError + Send + Sync>>) {
        self.node.cancel(Some(into_cause(cause)));
    }

    /// Cancels the context when the guard is dropped, with no cause but
    /// [`Error::Canceled`](crate::Error::Canceled).
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Error};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel_cause();
    /// drop(cancel.drop_guard());
    /// assert!(ctx.cause().unwrap().is::<Error>());
    /// ```
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { node: self.node }
    }
}

impl fmt::Debug for CancelCauseFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelCauseFunc").finish_non_exhaustive()
    }
}

/// Cancels a context when it is dropped: Go's `defer cancel()`.
///
/// Made by [`CancelFunc::drop_guard`] and [`CancelCauseFunc::drop_guard`].
///
/// # Examples
///
/// ```
/// use std::thread;
/// use go_context::Context;
///
/// let (ctx, cancel) = Context::background().with_cancel();
/// thread::scope(|s| {
///     let _cancel_on_exit = cancel.drop_guard();
///     s.spawn(|| ctx.wait()); // ends with the block: the guard goes before the scope joins
/// });
/// ```
#[must_use = "the context is cancelled when the guard is dropped"]
pub struct DropGuard {
    node: Arc<Node>,
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.node.cancel(None);
    }
}

impl fmt::Debug for DropGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropGuard").finish_non_exhaustive()
    }
}
