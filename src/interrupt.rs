//! A blocking call that something else can end.

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::time::Duration;

use crate::context::Context;
use crate::error::Error;

/// # Interruptible calls
impl Context {
    /// Runs `call`, which may block, and `interrupt` if the context is done before `call` returns.
    ///
    /// It is for calls that know nothing of contexts but can be ended from another thread: by
    /// shutting down a socket, killing a process, or with the cancel function of a database driver.
    /// `interrupt` runs on a callback thread, at most once, and has returned when this function
    /// returns. So what `interrupt` ends cannot be the next call, and `interrupt` itself should not
    /// block. A panic in it is contained, as in a callback of
    /// [`after_func`](Context::after_func).
    ///
    /// # Errors
    ///
    /// Returns the context's error if it is done before `call` begins, or if `call` fails after
    /// `interrupt` was run or after the deadline has passed. Other errors of `call` are returned as
    /// they are. If `call` succeeds, its value is returned even if the context is done by then.
    ///
    /// # Panics
    ///
    /// Resumes a panic of `call`, after `interrupt` has been stopped or has returned.
    ///
    /// # Examples
    ///
    /// A read from a socket that ends when the context is done:
    ///
    /// ```
    /// use std::io::{self, Read};
    /// use std::net::{Shutdown, TcpListener, TcpStream};
    /// use std::thread;
    /// use go_context::{Context, Error};
    ///
    /// fn read_all(ctx: &Context, mut stream: TcpStream) -> io::Result<Vec<u8>> {
    ///     let other_handle = stream.try_clone()?;
    ///     let mut data = Vec::new();
    ///     ctx.interruptible(
    ///         move || drop(other_handle.shutdown(Shutdown::Both)),
    ///         || -> io::Result<()> {
    ///             stream.read_to_end(&mut data)?;
    ///             Ok(ctx.check()?) // a socket that was shut down reads as ended
    ///         },
    ///     )?;
    ///     Ok(data)
    /// }
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let read = thread::spawn(move || read_all(&ctx, stream));
    /// cancel.cancel();
    /// let err = read.join().unwrap().unwrap_err();
    /// assert_eq!(Error::find(&err), Some(Error::Canceled));
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn interruptible<T, E: From<Error>>(
        &self,
        interrupt: impl FnOnce() + Send + 'static,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.check()?;
        let callback = self.after_func(interrupt);
        let result = catch_unwind(AssertUnwindSafe(call));
        let is_interrupted = !callback.stop_and_wait();
        let err = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(err)) => err,
            Err(payload) => resume_unwind(payload),
        };
        // A socket timeout set to the time that remained may be noticed before the deadline is.
        let is_over = is_interrupted || self.remaining() == Some(Duration::ZERO);
        match self.err() {
            Some(done) if is_over => Err(done.into()),
            _ => Err(err),
        }
    }
}
