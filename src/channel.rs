//! Blocking calls that end with the context.

mod error;

use std::fmt;
use std::iter::FusedIterator;
use std::time::{Duration, Instant};

use crossbeam_channel::{at, never, select_biased, Receiver, Sender, TryRecvError, TrySendError};

use crate::context::Context;
use crate::error::Error;

pub use self::error::{RecvError, SendError};

impl Context {
    /// Blocks until the context is done, and says why it is.
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
            let _ = self.done().recv();
        }
    }

    /// Blocks for the given time, or until the context is done.
    ///
    /// It never sleeps for less unless the context is done; a time too long for an
    /// [`Instant`](std::time::Instant) is for ever.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done before the time is over or at the call.
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
        let timer = end.map_or_else(never, at);
        let done = self.done();
        loop {
            self.check()?;
            // A custom context may send messages, which say nothing.
            select_biased! {
                recv(done) -> _ => {}
                recv(timer) -> _ => return self.check(),
            }
        }
    }

    /// Receives a message: blocks until there is one, until the channel is disconnected, or until the
    /// context is done.
    ///
    /// A context that is done wins, even if a message waits; the message stays in the channel.
    ///
    /// # Errors
    ///
    /// [`RecvError::Done`] if the context is done, before or meanwhile; [`RecvError::Disconnected`] if
    /// the channel is empty and disconnected. If it was disconnected because the context is done, that
    /// is `Done`.
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
                },
                message => message.ok(),
            };
            // Who had the other end may have given it up because the context is done.
            let why = || self.err().map_or(RecvError::Disconnected, RecvError::Done);
            return message.ok_or_else(why);
        }
    }

    /// Sends a message: blocks until there is room for it, or until somebody takes it if the channel
    /// has no room at all, or until the context is done.
    ///
    /// A context that is done wins, even if there is room.
    ///
    /// # Errors
    ///
    /// [`SendError::Done`] if the context is done, before or meanwhile; [`SendError::Disconnected`] if
    /// nobody is left to receive, and not because the context is done. Either has the message in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::{crossbeam_channel::bounded, Context, Error, SendError};
    ///
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
    /// let (jobs_in, jobs) = bounded(1);
    /// assert_eq!(ctx.send(&jobs_in, "first"), Ok(()));
    /// let refused = ctx.send(&jobs_in, "second"); // there is no room
    /// assert_eq!(refused, Err(SendError::Done("second", Error::DeadlineExceeded)));
    /// ```
    pub fn send<T>(&self, sender: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        // As with `recv`, the channel may be disconnected because the context is done.
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
            }
        }
        Err(refuse(message))
    }

    /// Goes through the messages of a channel, until it is disconnected or the context is done: Go's
    /// `for range`, with an end.
    ///
    /// `next` blocks as [`recv`](Context::recv) does, and a context that is done wins here too. Ask
    /// [`check`](Context::check) afterwards to know which of the two it was.
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

/// The messages of a channel while a context is not done. Made by [`Context::iter`].
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
