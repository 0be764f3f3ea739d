//! Why a context is done: an [`Error`], which is one of two, and a [`Cause`], which is any error.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use once_cell::sync::Lazy;

use crate::channel::RecvError;

/// States why a context is done. Returned by [`Context::err`](crate::Context::err).
///
/// Equivalent to Go's `context.Canceled` and `context.DeadlineExceeded`, with the same texts. The
/// reason in detail is the [`Cause`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use go_context::{Context, Error};
///
/// let (ctx, _cancel) = Context::background().with_timeout(Duration::ZERO);
/// let err = ctx.err().unwrap();
/// assert_eq!(err, Error::DeadlineExceeded);
/// assert!(err.is_timeout());
/// assert_eq!(err.to_string(), "context deadline exceeded");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The context was cancelled, or its last [handle](crate::Context#ownership) was dropped.
    /// Displays as `context canceled`.
    Canceled,
    /// The context's deadline passed. Displays as `context deadline exceeded`.
    DeadlineExceeded,
}

impl Error {
    /// Returns whether this is [`Error::DeadlineExceeded`]. Equivalent to Go's `Timeout()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Error;
    ///
    /// assert!(Error::DeadlineExceeded.is_timeout());
    /// assert!(!Error::Canceled.is_timeout());
    /// ```
    #[must_use]
    pub const fn is_timeout(self) -> bool {
        matches!(self, Error::DeadlineExceeded)
    }

    /// Finds a context's error in another error. Equivalent to Go's `errors.Is`, with
    /// `context.Canceled` and `context.DeadlineExceeded`.
    ///
    /// Searches the error itself and its chain of [sources](StdError::source), which includes what
    /// `anyhow` and similar crates add. Unlike a loop over `source` it also searches the error
    /// inside an [`io::Error`], a [`RecvError`](crate::RecvError), a [`Cause`], a [`Box`] and an
    /// [`Arc`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::{Context, Error};
    ///
    /// fn load(ctx: &Context) -> io::Result<()> {
    ///     Ok(ctx.check()?)
    /// }
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let err = load(&ctx).unwrap_err();
    /// assert_eq!(Error::find(&err), Some(Error::Canceled));
    ///
    /// let other = io::Error::from(io::ErrorKind::NotFound);
    /// assert_eq!(Error::find(&other), None);
    /// ```
    #[must_use]
    pub fn find(err: &(dyn StdError + 'static)) -> Option<Error> {
        let mut next = Some(err);
        while let Some(err) = next {
            if let Some(found) = find_here(err) {
                return Some(found);
            }
            // Those that pass `source` on to what is inside them would skip that itself.
            next = match inside(err) {
                Some(inner) => Some(inner),
                None => err.source(),
            };
        }
        None
    }

    /// Returns the error as the cause of a context that was cancelled without one. Shared, so that
    /// a call does not allocate.
    pub(crate) fn as_cause(self) -> Cause {
        static CANCELED: Lazy<Cause> = Lazy::new(|| Arc::new(Error::Canceled));
        static DEADLINE_EXCEEDED: Lazy<Cause> = Lazy::new(|| Arc::new(Error::DeadlineExceeded));
        match self {
            Error::Canceled => Cause::clone(&CANCELED),
            Error::DeadlineExceeded => Cause::clone(&DEADLINE_EXCEEDED),
        }
    }
}

fn find_here(err: &(dyn StdError + 'static)) -> Option<Error> {
    match err.downcast_ref() {
        Some(RecvError::Done(err)) => Some(*err),
        _ => err.downcast_ref().copied(),
    }
}

/// Returns the error inside one that forwards all its methods to it.
fn inside<'a>(err: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    type Shared = Arc<dyn StdError>;
    if let Some(err) = err.downcast_ref::<io::Error>() {
        return err.get_ref().map(|err| err as &(dyn StdError + 'static));
    }
    None.or_else(|| Some(&**err.downcast_ref::<Cause>()? as &(dyn StdError + 'static)))
        .or_else(|| Some(&**err.downcast_ref::<Shared>()?))
        .or_else(|| Some(&**err.downcast_ref::<Arc<io::Error>>()?))
        .or_else(|| Some(&**err.downcast_ref::<Box<io::Error>>()?))
        .or_else(|| Some(&**err.downcast_ref::<Arc<Error>>()?))
        .or_else(|| Some(&**err.downcast_ref::<Box<Error>>()?))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Error::Canceled => "context canceled",
            Error::DeadlineExceeded => "context deadline exceeded",
        })
    }
}

impl StdError for Error {}

/// Converts the error for the `?` operator in I/O code. A deadline becomes
/// [`io::ErrorKind::TimedOut`] and a cancellation [`io::ErrorKind::Other`]. It is never
/// [`io::ErrorKind::Interrupted`], because loops in std such as `read_to_end` retry on that.
///
/// # Examples
///
/// ```
/// use std::io;
/// use go_context::Error;
///
/// let err = io::Error::from(Error::DeadlineExceeded);
/// assert_eq!(err.kind(), io::ErrorKind::TimedOut);
/// assert_eq!(err.to_string(), "context deadline exceeded");
/// ```
impl From<Error> for io::Error {
    fn from(err: Error) -> io::Error {
        match err {
            Error::Canceled => io::Error::other(err),
            Error::DeadlineExceeded => io::Error::new(io::ErrorKind::TimedOut, err),
        }
    }
}

/// Describes the reason for a cancellation in detail. Returned by
/// [`Context::cause`](crate::Context::cause).
///
/// It can be any error, and is shared by all contexts that were cancelled with it. If no cause was
/// given it is the [`Error`] itself.
///
/// A function with a `cause` argument accepts anything that converts into a
/// `Box<dyn std::error::Error + Send + Sync>`: an error, a boxed error, a `String` or a `&str`. If
/// it is passed a `Cause` of another context, both contexts share one [`Arc`].
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use go_context::{Context, Error};
///
/// let (ctx, cancel) = Context::background().with_cancel_cause();
/// cancel.cancel(std::fmt::Error);
/// assert_eq!(ctx.err(), Some(Error::Canceled));
/// assert!(ctx.cause().unwrap().is::<std::fmt::Error>());
///
/// let (other, cancel_other) = Context::background().with_cancel_cause();
/// cancel_other.cancel(ctx.cause().unwrap());
/// assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &other.cause().unwrap()));
/// ```
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// Converts an error into a cause. A `Cause` is not wrapped again.
pub(crate) fn into_cause(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Cause {
    match error.into().downcast::<Cause>() {
        Ok(cause) => *cause,
        Err(error) => Cause::from(error),
    }
}
