//! Why a context is done: its [`Error`], one of two, and its [`Cause`], anything.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use once_cell::sync::Lazy;

/// Why a context is done, as [`Context::err`](crate::Context::err) tells it.
///
/// These are Go's `context.Canceled` and `context.DeadlineExceeded`, with Go's texts. What lies
/// behind one, a caller tells and learns by the [`Cause`].
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
    /// The context was cancelled, or nobody held it any more.
    Canceled,
    /// The context's deadline passed.
    DeadlineExceeded,
}

impl Error {
    /// Whether this is [`Error::DeadlineExceeded`]: Go's `Timeout()`.
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

    /// The cause of a context that was given none: the error itself.
    pub(crate) fn as_cause(self) -> Cause {
        static CANCELED: Lazy<Cause> = Lazy::new(|| Arc::new(Error::Canceled));
        static DEADLINE_EXCEEDED: Lazy<Cause> = Lazy::new(|| Arc::new(Error::DeadlineExceeded));
        match self {
            Error::Canceled => Cause::clone(&CANCELED),
            Error::DeadlineExceeded => Cause::clone(&DEADLINE_EXCEEDED),
        }
    }
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

/// For `?` in I/O code: a deadline is [`io::ErrorKind::TimedOut`], a cancellation is
/// [`io::ErrorKind::Other`]. It is never `Interrupted`, which std's own loops would retry.
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

/// What lies behind the cancellation of a context, as [`Context::cause`](crate::Context::cause)
/// tells it: any error, shared by all the contexts that were cancelled for it.
///
/// Where no cause was given it is the [`Error`] itself.
///
/// Everywhere a cause is taken, anything serves that turns into a
/// `Box<dyn std::error::Error + Send + Sync>`: an error, a boxed one, a `String`, a `&str`. A
/// `Cause` taken from one context and given to another stays the same [`Arc`].
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

/// Shares an error as a cause; one that is a `Cause` already is not wrapped again.
pub(crate) fn into_cause(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Cause {
    match error.into().downcast::<Cause>() {
        Ok(cause) => *cause,
        Err(error) => Cause::from(error),
    }
}
