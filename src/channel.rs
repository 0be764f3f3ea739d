//! Blocking calls that end with the context.

use std::time::{Duration, Instant};

use crossbeam_channel::{at, never, select_biased};

use crate::context::Context;
use crate::error::Error;

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
}
