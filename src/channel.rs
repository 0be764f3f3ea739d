//! Blocking calls that return when the context is done.

mod error;

use std::fmt;
use std::iter::FusedIterator;
use std::time::{Duration, Instant};

use crossbeam_channel::{at, never, select_biased, Receiver, Sender, TryRecvError, TrySendError};

use crate::context::Context;
use crate::error::Error;
use crate::runtime::timer;

pub use self::error::{RecvError, SendError};

/// # Blocking calls
impl Context {
    /// Blocks until the context is done, and returns its error.
    ///
    /// On a context that [cannot be cancelled](Context::is_cancellable) it blocks for ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::{Context, Error};
    ///
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
    /// assert_eq!(ctx.wait(), Error::DeadlineExceeded);
    /// ```
    pub fn wait(&self) -> Error {
        loop {
            if let Some(err) = self.err() {
                return err;
            }
            let done = self.done();
            match timer::longest_wait() {
                None => drop(done.recv()),
                Some(limit) => drop(done.recv_timeout(limit)),
            }
        }
    }

    /// Blocks for at least the given time, or until the context is done.
    ///
    /// A time too long for an [`Instant`](std::time::Instant) is for ever.
    ///
    /// # Errors
    ///
    /// Returns the context's error if it is done before the time is over.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::{Context, Error};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert_eq!(ctx.sleep(Duration::from_millis(5)), Ok(()));
    /// cancel.cancel();
    /// assert_eq!(ctx.sleep(Duration::MAX), Err(Error::Canceled));
    /// ```
    pub fn sleep(&self, duration: Duration) -> Result<(), Error> {
        let end = Instant::now().checked_add(duration);
        let end = end.map_or_else(never, at);
        let done = self.done();
        loop {
            self.check()?;
            // A custom context may send messages, which are ignored.
            select_biased! {
                recv(done) -> _ => {}
                recv(end) -> _ => return self.check(),
                recv(timer::retry_channel()) -> _ => {}
            }
        }
    }

    /// Receives a message. Blocks until there is one, the channel is disconnected, or the context
    /// is done.
    ///
    /// A done context wins even if there is a message, which then stays in the channel.
    ///
    /// # Errors
    ///
    /// Returns [`RecvError::Done`] if the context is done, including when a channel was
    /// disconnected because of that, and [`RecvError::Disconnected`] if the channel is empty and
    /// disconnected.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{crossbeam_channel::unbounded, Context, Error, RecvError};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let (jobs_in, jobs) = unbounded();
    /// jobs_in.send(1).unwrap();
    /// jobs_in.send(2).unwrap();
    /// assert_eq!(ctx.recv(&jobs), Ok(1));
    /// cancel.cancel();
    /// assert_eq!(ctx.recv(&jobs), Err(RecvError::Done(Error::Canceled)));
    /// assert_eq!(jobs.len(), 1);
    /// ```
    pub fn recv<T>(&self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        loop {
            self.check().map_err(RecvError::Done)?;
            let message = match receiver.try_recv() {
                Err(TryRecvError::Empty) => select_biased! {
                    recv(self.done()) -> _ => continue,
                    recv(receiver) -> message => message.ok(),
                    recv(timer::retry_channel()) -> _ => continue,
                },
                message => message.ok(),
            };
            // The sender may have been dropped because the context is done.
            let why = || self.err().map_or(RecvError::Disconnected, RecvError::Done);
            return message.ok_or_else(why);
        }
    }

    /// Sends a message. Blocks until there is room for it (until it is received, if the channel has
    /// a capacity of zero), the channel is disconnected, or the context is done.
    ///
    /// A done context wins even if there is room.
    ///
    /// # Errors
    ///
    /// Returns [`SendError::Done`] if the context is done, including when a channel was
    /// disconnected because of that, and [`SendError::Disconnected`] if there is no receiver left.
    /// Both contain the message.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::{crossbeam_channel::bounded, Context, Error, SendError};
    ///
    /// let (jobs_in, jobs) = bounded(1);
    /// assert_eq!(Context::background().send(&jobs_in, "first"), Ok(()));
    ///
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
    /// let refused = ctx.send(&jobs_in, "second"); // there is no room
    /// assert_eq!(refused, Err(SendError::Done("second", Error::DeadlineExceeded)));
    /// ```
    pub fn send<T>(&self, sender: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        // The receiver may have been dropped because the context is done.
        let refuse = |message| match self.err() {
            Some(err) => SendError::Done(message, err),
            None => SendError::Disconnected(message),
        };
        let mut message = message;
        while self.err().is_none() {
            message = match sender.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(message)) => message,
                Err(TrySendError::Disconnected(message)) => return Err(refuse(message)),
            };
            select_biased! {
                recv(self.done()) -> _ => {}
                send(sender, message) -> sent => {
                    return sent.map_err(|err| refuse(err.into_inner()));
                }
                recv(timer::retry_channel()) -> _ => {}
            }
        }
        Err(refuse(message))
    }

    /// Returns an iterator over the messages of a channel that ends when the channel is
    /// disconnected or the context is done. Like Go's `for range` over a channel.
    ///
    /// `next` blocks like [`recv`](Context::recv), and a done context wins here too. Call
    /// [`check`](Context::check) afterwards to find out which of the two has ended it.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{crossbeam_channel::unbounded, Context};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let (jobs_in, jobs) = unbounded();
    /// for job in 1..=10 {
    ///     jobs_in.send(job).unwrap();
    /// }
    /// let mut last = 0;
    /// for job in ctx.iter(&jobs) {
    ///     last = job;
    ///     if job == 3 {
    ///         cancel.cancel();
    ///     }
    /// }
    /// assert_eq!(last, 3);
    /// assert!(ctx.check().is_err());
    /// ```
    pub fn iter<'a, T>(&'a self, receiver: &'a Receiver<T>) -> Iter<'a, T> {
        Iter {
            ctx: self,
            receiver,
        }
    }
}

/// Iterates over the messages of a channel until a context is done. Created by [`Context::iter`].
///
/// # Examples
///
/// ```
/// use go_context::{crossbeam_channel::unbounded, Context};
///
/// let (jobs_in, jobs) = unbounded();
/// jobs_in.send(1).unwrap();
/// drop(jobs_in);
/// assert_eq!(Context::background().iter(&jobs).sum::<u32>(), 1);
/// ```
#[must_use = "an iterator does nothing unless it is asked"]
pub struct Iter<'a, T> {
    ctx: &'a Context,
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.ctx.recv(self.receiver).ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("context", self.ctx)
            .finish_non_exhaustive()
    }
}
