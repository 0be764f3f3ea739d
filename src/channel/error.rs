//! The errors of [`Context::recv`](crate::Context::recv) and
//! [`Context::send`](crate::Context::send).

use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::error::Error;

/// States why [`Context::recv`](crate::Context::recv) received no message.
///
/// Converts into an [`io::Error`] like [`Error`]; a disconnected channel becomes
/// [`io::ErrorKind::BrokenPipe`].
///
/// # Examples
///
/// ```
/// use go_context::{crossbeam_channel::bounded, Context, RecvError};
///
/// let (jobs_in, jobs) = bounded::<u32>(8);
/// drop(jobs_in);
/// let ctx = Context::background();
/// assert_eq!(ctx.recv(&jobs), Err(RecvError::Disconnected));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecvError {
    /// The context is done, with this error.
    Done(Error),
    /// The channel is empty, and all its senders have been dropped.
    Disconnected,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Done(err) => err.fmt(f),
            RecvError::Disconnected => f.pad("receiving on an empty and disconnected channel"),
        }
    }
}

impl StdError for RecvError {}

/// For functions that return a `RecvError` and also call [`check`](crate::Context::check).
///
/// # Examples
///
/// ```
/// use go_context::crossbeam_channel::{bounded, Receiver};
/// use go_context::{Context, RecvError};
///
/// fn sum(ctx: &Context, numbers: &Receiver<u32>) -> Result<u32, RecvError> {
///     ctx.check()?;
///     Ok(ctx.recv(numbers)? + ctx.recv(numbers)?)
/// }
///
/// let (numbers_in, numbers) = bounded(2);
/// numbers_in.send(1).unwrap();
/// numbers_in.send(2).unwrap();
/// assert_eq!(sum(&Context::background(), &numbers), Ok(3));
/// ```
impl From<Error> for RecvError {
    fn from(err: Error) -> RecvError {
        RecvError::Done(err)
    }
}

impl From<RecvError> for io::Error {
    fn from(err: RecvError) -> io::Error {
        match err {
            RecvError::Done(err) => err.into(),
            RecvError::Disconnected => io::Error::new(io::ErrorKind::BrokenPipe, err),
        }
    }
}

/// States why [`Context::send`](crate::Context::send) failed, and returns the message.
///
/// Converts into an [`io::Error`] like [`Error`]; a disconnected channel becomes
/// [`io::ErrorKind::BrokenPipe`]. The conversion drops the message.
///
/// # Examples
///
/// ```
/// use go_context::{crossbeam_channel::bounded, Context, Error, SendError};
///
/// let (jobs_in, _jobs) = bounded(8);
/// let (ctx, cancel) = Context::background().with_cancel();
/// cancel.cancel();
/// let refused = ctx.send(&jobs_in, "job").unwrap_err();
/// assert_eq!(refused, SendError::Done("job", Error::Canceled));
/// assert_eq!(refused.into_inner(), "job");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The context is done, with this error.
    Done(T, Error),
    /// All receivers of the channel have been dropped.
    Disconnected(T),
}

impl<T> SendError<T> {
    /// Returns the message that was not sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{crossbeam_channel::bounded, Context};
    ///
    /// let (jobs_in, jobs) = bounded(8);
    /// drop(jobs);
    /// let refused = Context::background().send(&jobs_in, "job").unwrap_err();
    /// assert_eq!(refused.into_inner(), "job");
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            SendError::Done(value, _) | SendError::Disconnected(value) => value,
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Done(_, err) => write!(f, "Done(.., {err:?})"),
            SendError::Disconnected(_) => f.write_str("Disconnected(..)"),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Done(_, err) => err.fmt(f),
            SendError::Disconnected(_) => f.pad("sending on a disconnected channel"),
        }
    }
}

impl<T> StdError for SendError<T> {
    /// Returns the context's error, for [`Error::find`], which cannot downcast to any `SendError<T>`.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            SendError::Done(_, err) => Some(err),
            SendError::Disconnected(_) => None,
        }
    }
}

impl<T> From<SendError<T>> for io::Error {
    fn from(err: SendError<T>) -> io::Error {
        match err {
            SendError::Done(_, err) => err.into(),
            SendError::Disconnected(_) => {
                io::Error::new(io::ErrorKind::BrokenPipe, err.to_string())
            }
        }
    }
}
