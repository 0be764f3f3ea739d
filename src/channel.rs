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
    /// Blocks until the context is done, and returns its error. Equivalent to Go's `<-ctx.Done()`
    /// followed by `ctx.Err()`.
    ///
    /// Blocks forever if the context [cannot be cancelled](Context::is_cancellable).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::{Context, Error};
    ///
    /// let timeout = Duration::from_millis(5);
    /// let (ctx, _cancel) = Context::background().with_timeout(timeout);
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

    /// Blocks for at least `duration`, or until the context is done. In Go this takes a `select` on
    /// a timer and `ctx.Done()`.
    ///
    /// If `duration` ends later than an [`Instant`](std::time::Instant) can represent, only the
    /// context ends the call.
    ///
    /// # Errors
    ///
    /// Returns the context's error if it is done before `duration` has passed.
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
            // A custom context may send messages on its done channel, which are ignored.
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
    /// If the context is done, no message is received, and those in the channel stay there.
    ///
    /// # Errors
    ///
    /// - [`RecvError::Done`] if the context is done, even if the channel is disconnected too,
    ///   because the sender may have been dropped for the same reason.
    /// - [`RecvError::Disconnected`] if the channel is empty and disconnected.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::crossbeam_channel::unbounded;
    /// use go_context::{Context, Error, RecvError};
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

    /// Sends a message. Blocks until there is room for it (or a receiver for it, if the channel has
    /// a capacity of zero), the channel is disconnected, or the context is done.
    ///
    /// If the context is done, the message is not sent, even if there is room.
    ///
    /// # Errors
    ///
    /// Both errors contain the message.
    ///
    /// - [`SendError::Done`] if the context is done, even if the channel is disconnected too,
    ///   because the receiver may have been dropped for the same reason.
    /// - [`SendError::Disconnected`] if all receivers have been dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::crossbeam_channel::bounded;
    /// use go_context::{Context, Error, SendError};
    ///
    /// let bg = Context::background();
    /// let (jobs_in, jobs) = bounded(1);
    /// assert_eq!(bg.send(&jobs_in, "first"), Ok(()));
    ///
    /// // The channel is full, so this blocks until the timeout.
    /// let (ctx, _cancel) = bg.with_timeout(Duration::from_millis(5));
    /// let unsent = ctx.send(&jobs_in, "second").unwrap_err();
    /// assert_eq!(unsent, SendError::Done("second", Error::DeadlineExceeded));
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

    /// Returns an iterator over the messages of a channel, like Go's `for range` over a channel. It
    /// ends when the channel is disconnected or the context is done.
    ///
    /// Each step blocks like [`recv`](Context::recv), and receives nothing once the context is
    /// done. Call [`check`](Context::check) after the loop to find out whether the context ended
    /// it.
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
#[must_use = "iterators are lazy and do nothing unless consumed"]
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
