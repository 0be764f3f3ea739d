//! The handles that cancel a context.

use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;

use crate::error::into_cause;
use crate::runtime::sync::Arc;
use crate::tree::{CancelledBy, Node, Origin};

/// Cancels its context. Equivalent to Go's `CancelFunc`.
///
/// [`cancel`](CancelFunc::cancel) may be called any number of times and from any thread; only the
/// first call has an effect. Go's `defer cancel()` is [`drop_guard`](CancelFunc::drop_guard).
///
/// A `CancelFunc` is a [handle](crate::Context#ownership) to its context. Dropping it cancels the
/// context only if it is the last handle.
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
#[must_use = "an uncancelled context keeps its resources until its last handle is dropped"]
#[derive(Clone)]
pub struct CancelFunc {
    node: Arc<Node>,
}

impl CancelFunc {
    #[inline]
    pub(crate) fn new(node: Arc<Node>) -> CancelFunc {
        CancelFunc { node }
    }

    /// Cancels the context and all its descendants, with
    /// [`Error::Canceled`](crate::Error::Canceled).
    ///
    /// When it returns, all of them are done. If another thread is already cancelling one of them,
    /// the call blocks until that thread has finished. It does not wait for callbacks of
    /// [`after_func`](crate::Context::after_func).
    ///
    /// Cancellation is not atomic: while `cancel` is running, another thread may see one descendant
    /// done and another not yet done.
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
    #[track_caller]
    pub fn cancel(&self) {
        self.node.cancel(Origin::here(CancelledBy::Func));
    }

    /// Returns a guard that cancels the context when it is dropped, including during a panic.
    /// Equivalent to Go's `defer cancel()`.
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
    #[track_caller]
    pub fn drop_guard(self) -> DropGuard {
        DropGuard::new(self.node)
    }
}

impl fmt::Debug for CancelFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelFunc").finish_non_exhaustive()
    }
}

/// Cancels its context with a cause. Equivalent to Go's `CancelCauseFunc`.
///
/// In all other respects it is like [`CancelFunc`].
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
#[must_use = "an uncancelled context keeps its resources until its last handle is dropped"]
#[derive(Clone)]
pub struct CancelCauseFunc {
    node: Arc<Node>,
}

impl CancelCauseFunc {
    #[inline]
    pub(crate) fn new(node: Arc<Node>) -> CancelCauseFunc {
        CancelCauseFunc { node }
    }

    /// Cancels the context and all its descendants, with
    /// [`Error::Canceled`](crate::Error::Canceled) and this cause. Blocks like
    /// [`CancelFunc::cancel`].
    ///
    /// `cause` may be an error, a boxed error, a `String` or a `&str`; see [`Cause`](crate::Cause).
    /// If the context or a descendant is done already, its error and cause do not change. Go's
    /// `cancel(nil)` is `cancel(Error::Canceled)`.
    ///
    /// The context owns the cause, so a cause that owns the context is a [reference
    /// cycle](crate::Context#ownership).
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
    #[track_caller]
    pub fn cancel(&self, cause: impl Into<Box<dyn StdError + Send + Sync>>) {
        let origin = Origin::here(CancelledBy::Func);
        self.node.cancel_with(into_cause(cause), origin);
    }

    /// Returns a guard that cancels the context when it is dropped, including during a panic. The
    /// cause is then [`Error::Canceled`](crate::Error::Canceled).
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
    #[track_caller]
    pub fn drop_guard(self) -> DropGuard {
        DropGuard::new(self.node)
    }
}

impl fmt::Debug for CancelCauseFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelCauseFunc").finish_non_exhaustive()
    }
}

/// Cancels a context when it is dropped. Equivalent to Go's `defer cancel()`.
///
/// Created by [`CancelFunc::drop_guard`] and [`CancelCauseFunc::drop_guard`].
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
///     s.spawn(|| ctx.wait());
///     // The guard is dropped here, so the thread returns, and the scope
///     // can join it.
/// });
/// ```
#[must_use = "the context is cancelled when the guard is dropped"]
pub struct DropGuard {
    node: Arc<Node>,
    is_armed: bool,
    /// A drop has no caller, so this is where the guard was made.
    made_at: &'static Location<'static>,
}

impl DropGuard {
    #[track_caller]
    fn new(node: Arc<Node>) -> DropGuard {
        DropGuard {
            node,
            is_armed: true,
            made_at: Location::caller(),
        }
    }

    /// Consumes the guard without cancelling the context, and returns the function that cancels it.
    ///
    /// # Examples
    ///
    /// A function that returns a context on success and cancels it on failure:
    ///
    /// ```
    /// use std::io;
    /// use go_context::{CancelFunc, Context};
    ///
    /// fn start(parent: &Context) -> io::Result<(Context, CancelFunc)> {
    ///     let (ctx, cancel) = parent.with_cancel();
    ///     let cancel_on_error = cancel.drop_guard();
    ///     parent.check()?;
    ///     Ok((ctx, cancel_on_error.disarm()))
    /// }
    ///
    /// let (ctx, _cancel) = start(&Context::background())?;
    /// assert!(ctx.err().is_none());
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn disarm(mut self) -> CancelFunc {
        self.is_armed = false;
        CancelFunc::new(self.node.clone())
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if self.is_armed {
            let origin = Origin::cancelled(CancelledBy::Guard, self.made_at);
            self.node.cancel(origin);
        }
    }
}

impl fmt::Debug for DropGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropGuard").finish_non_exhaustive()
    }
}
