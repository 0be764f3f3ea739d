//! Contexts that a signal cancels: Ctrl-C, `kill`, a service manager that wants the program to end.
//! Go's `signal.NotifyContext`.
//!
//! This module needs the crate's feature `signal`, which is off by default.
//!
//! ```no_run
//! use go_context::{signal::NotifyContext, Context};
//!
//! fn main() -> std::io::Result<()> {
//!     let (ctx, stop) = NotifyContext::new().start(&Context::background())?;
//!     serve(&ctx); // until Ctrl-C or `kill`
//!     stop.stop();
//!     Ok(())
//! }
//!
//! fn serve(ctx: &Context) {
//!     ctx.wait();
//!     println!("ending: {}", ctx.cause().unwrap()); // ending: interrupt signal received
//! }
//! ```
//!
//! # How long signals are caught
//!
//! From [`start`](NotifyContext::start) until the context is done, whether a signal did that or
//! anything else. After that a signal has the system's own action again: who presses Ctrl-C twice
//! need not wait for the work to end in good order. [`keep_catching`](NotifyContext::keep_catching)
//! is Go's way: signals are caught until [`stop`](StopFunc::stop), and those after the first do
//! nothing.
//!
//! Contexts are independent of one another. One signal cancels all that catch it at the time, and
//! it has its own action when none does any more.
//!
//! A signal that cancels does so before the next one can end the process: when the context is seen
//! to be done, the next has its own action already. Where something else cancels, such as the
//! parent, that takes a moment, and a signal in this moment does nothing.
//!
//! # What a signal does when it is not caught any more
//!
//! - What the system does by default: most signals end the process, some stop it or do nothing. One
//!   whose default is not known, such as a real-time signal, ends the process with the status 128
//!   plus its number.
//! - Nothing of ours, if on Linux it was ignored (as by `nohup`) or handled by somebody else when this
//!   process first caught it: it is ignored again, and the other's handler, which had its turn all
//!   the time, goes on. Other systems do not tell, so there it counts as not handled.
//!
//! This crate sets its handlers through [`signal-hook`](https://docs.rs/signal-hook), which never
//! takes a handler out, but has it do nothing. So there are two limits. Once a signal has been
//! caught, whoever registers an action for it through signal-hook later does not keep it from ending
//! the process while no context catches it. And a program that this one starts does not inherit that
//! the signal is ignored.
//!
//! # What differs from Go
//!
//! - By default the second signal has its own action.
//! - No signals listed is an error. In Go it means all of them.
//! - A signal that comes while the catching is being stopped is either received, which the cause
//!   tells, or has its own action.
//! - Dropping the [`StopFunc`] stops.
//! - The texts are Go's for Linux, on all systems.
//!
//! # On Windows
//!
//! There the C library knows but a few signals, and only [`SIGINT`] (Ctrl-C) and `SIGBREAK`
//! (Ctrl-Break) come from outside. A thread looks every 50 milliseconds whether one has come, and
//! [`stop`](StopFunc::stop) may wait as long for it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{bounded, Receiver};

use self::catch::Catch;
use self::listen::Listener;
use crate::after_func::AfterFunc;
use crate::context::Context;
use crate::error::Error;
use crate::runtime::sync::{Arc, Mutex};
use crate::tree::Node;

mod catch;
mod listen;
mod names;

pub use signal_hook::consts::{SIGABRT, SIGINT, SIGTERM};

#[cfg(unix)]
pub use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGPIPE, SIGPROF, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU,
    SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};

#[cfg(windows)]
pub use signal_hook::consts::SIGBREAK;

/// Makes contexts that a signal cancels: Go's `signal.NotifyContext`.
///
/// How long signals are caught, and what they do after that, the [module](self) tells.
///
/// # Examples
///
/// A program that Ctrl-C and `kill` ask to end, and a second Ctrl-C ends:
///
/// ```no_run
/// use go_context::{signal::NotifyContext, Context};
///
/// let (ctx, _stop) = NotifyContext::new().start(&Context::background())?;
/// for step in 0.. {
///     if ctx.err().is_some() {
///         println!("stopped before step {step}: {}", ctx.cause().unwrap());
///         break;
///     }
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is caught before `start`"]
pub struct NotifyContext {
    signals: Vec<i32>,
    keep: bool,
}

impl NotifyContext {
    /// For [`SIGINT`], which is Ctrl-C, and [`SIGTERM`], which is what `kill` and service managers
    /// send.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::signal::{NotifyContext, SIGINT, SIGTERM};
    ///
    /// assert_eq!(NotifyContext::new(), NotifyContext::new().signals([SIGINT, SIGTERM]));
    /// ```
    pub fn new() -> NotifyContext {
        NotifyContext {
            signals: vec![SIGINT, SIGTERM],
            keep: false,
        }
    }

    /// These signals, instead of those before. One that is listed twice counts once.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use go_context::{signal::{NotifyContext, SIGHUP, SIGINT}, Context};
    ///
    /// let notify = NotifyContext::new().signals([SIGHUP, SIGINT]);
    /// let (ctx, _stop) = notify.start(&Context::background()).unwrap();
    /// assert_eq!(ctx.to_string(), "signal.NotifyContext(context.Background, [hangup interrupt])");
    /// # }
    /// ```
    pub fn signals(mut self, signals: impl IntoIterator<Item = i32>) -> NotifyContext {
        self.signals.clear();
        for signal in signals {
            if !self.signals.contains(&signal) {
                self.signals.push(signal);
            }
        }
        self
    }

    /// Catches the signals until [`stop`](StopFunc::stop), as Go does, also when the context is done:
    /// those after the first do nothing.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use go_context::{signal::NotifyContext, Context};
    ///
    /// let (ctx, stop) = NotifyContext::new().keep_catching().start(&Context::background())?;
    /// ctx.wait();
    /// // Nobody can end this but by SIGKILL.
    /// std::fs::rename("report.new", "report")?;
    /// stop.stop();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn keep_catching(mut self) -> NotifyContext {
        self.keep = true;
        self
    }

    /// A child of `parent` that is done when one of the signals comes, and the function that stops
    /// catching them.
    ///
    /// A signal cancels it with [`Error::Canceled`] and a [`Received`] as its cause. If several come
    /// at almost the same time, the cause is one of them. Any other end is as with
    /// [`with_cancel`](Context::with_cancel): a cancelled parent gives its own error and cause, and if
    /// it is done already, the context is so from the start.
    ///
    /// It may be called any number of times, also for the same signals. A thread, `go-ctx-signal`,
    /// waits for the signals as long as they are caught; on Unix it needs a file descriptor for
    /// itself and one for each signal.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if no signal is listed, or one that does not exist
    /// or that cannot be caught, such as `SIGKILL` and `SIGSEGV`. Otherwise what the system says when
    /// it has no thread or no file descriptor left. Then nothing is caught.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::{signal::{NotifyContext, SIGTERM}, Context, Error};
    ///
    /// let (parent, cancel) = Context::background().with_cancel_cause();
    /// let (ctx, _stop) = NotifyContext::new().signals([SIGTERM]).start(&parent)?;
    /// cancel.cancel("closing time");
    /// assert_eq!(ctx.err(), Some(Error::Canceled));
    /// assert_eq!(ctx.cause().unwrap().to_string(), "closing time");
    ///
    /// let sigkill = 9;
    /// let err = NotifyContext::new().signals([sigkill]).start(&parent).unwrap_err();
    /// assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn start(&self, parent: &Context) -> io::Result<(Context, StopFunc)> {
        let (catch, listener) = Catch::start(self.signals.clone())?;
        let catch = Arc::new(catch);
        let names = names::list(&self.signals);
        let (ctx, node) = parent.child(|node, depth| Node::with_signals(node, depth, names));
        let until_done = if self.keep {
            None
        } else if ctx.err().is_some() {
            catch.stop();
            None
        } else {
            let catch = catch.clone();
            Some(Arc::new(ctx.after_func(move || catch.stop())))
        };
        let watcher = Watcher {
            node: node.clone(),
            catch: catch.clone(),
            until_done: until_done.clone(),
            keep: self.keep,
        };
        let (running, ended) = bounded(0);
        let thread = thread::Builder::new().name("go-ctx-signal".into());
        let thread = thread.spawn(move || {
            watcher.watch(listener);
            drop(running);
        });
        let stop = StopFunc {
            node,
            catch,
            until_done,
            ended,
            thread: Mutex::new(None),
        };
        // If there is no thread, dropping `stop` undoes what has been done.
        *stop.thread.lock() = Some(thread?);
        Ok((ctx, stop))
    }
}

/// [`NotifyContext::new`].
impl Default for NotifyContext {
    fn default() -> NotifyContext {
        NotifyContext::new()
    }
}

/// Stops catching the signals of a context, and cancels it: what [`NotifyContext::start`] returns
/// beside the context.
///
/// Dropping it does the same as [`stop`](StopFunc::stop), so it has to be kept. `let (ctx, _) = ...`
/// drops it at once, and the context is done before anybody sees it:
///
/// ```
/// use go_context::{signal::NotifyContext, Context, Error};
///
/// let (ctx, _) = NotifyContext::new().start(&Context::background())?;
/// assert_eq!(ctx.err(), Some(Error::Canceled));
///
/// let (ctx, _stop) = NotifyContext::new().start(&Context::background())?;
/// assert_eq!(ctx.err(), None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It counts as a handle on its context: as long as it is held the context is not abandoned.
#[must_use = "dropping it cancels the context: keep it, such as in `_stop`"]
pub struct StopFunc {
    node: Arc<Node>,
    catch: Arc<Catch>,
    /// What stops the catching when the context is done.
    until_done: Option<Arc<AfterFunc>>,
    /// Disconnects when the watcher has seen all there was to see.
    ended: Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StopFunc {
    /// Stops catching, and cancels the context with [`Error::Canceled`] and no cause, unless it is
    /// done.
    ///
    /// When it returns, the signals have their own action again (where no other context catches
    /// them), the context is done with all its descendants, and the thread and the file descriptors
    /// are given back; also if another thread called it first. A signal that came before is received:
    /// then the cause tells it, not that of this call.
    ///
    /// It may be called any number of times and from anywhere, such as from a callback of the context.
    /// It waits for no callback.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{signal::NotifyContext, Context, Error};
    ///
    /// let (ctx, stop) = NotifyContext::new().start(&Context::background())?;
    /// stop.stop();
    /// assert!(ctx.cause().unwrap().is::<Error>());
    /// stop.stop(); // does nothing
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop(&self) {
        if let Some(until_done) = &self.until_done {
            until_done.stop();
        }
        self.catch.stop();
        // The watcher runs no code of the user's and waits for none, so this takes no longer than
        // it needs to read what is left, and is never called by the watcher itself.
        let _ = self.ended.recv();
        let thread = self.thread.lock().take();
        thread.into_iter().for_each(|thread| drop(thread.join()));
        self.node.cancel(None);
    }
}

impl Drop for StopFunc {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for StopFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopFunc").finish_non_exhaustive()
    }
}

/// What the thread of a context works on.
struct Watcher {
    node: Arc<Node>,
    catch: Arc<Catch>,
    until_done: Option<Arc<AfterFunc>>,
    keep: bool,
}

impl Watcher {
    /// Cancels the context when a signal comes. Ends when no more can.
    fn watch(self, mut listener: Listener) {
        while let Some(signal) = listener.wait() {
            if !self.keep {
                // First, for who sees the context done may count on it.
                self.catch.stop();
            }
            if let Some(until_done) = &self.until_done {
                until_done.stop(); // it would have nothing to do, and needs a thread for it
            }
            let cause = Arc::new(Received { signal });
            // A `stop` may wait for this thread: code of the user's it leaves to another.
            self.node.cancel_without_user_code(cause);
        }
    }
}

/// The cause of a context that a signal cancelled.
///
/// It prints as Go's does, such as `interrupt signal received`, and its
/// [`source`](StdError::source) is [`Error::Canceled`].
///
/// # Examples
///
/// ```no_run
/// use go_context::{signal::{NotifyContext, Received, SIGTERM}, Context};
///
/// let (ctx, _stop) = NotifyContext::new().start(&Context::background())?;
/// ctx.wait();
/// match ctx.cause().unwrap().downcast_ref::<Received>() {
///     Some(received) if received.signal() == SIGTERM => println!("the service manager is at it"),
///     Some(received) => println!("{received}"), // interrupt signal received
///     None => println!("something else"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Received {
    signal: i32,
}

impl Received {
    /// The number of the signal.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::process;
    /// use go_context::{signal::Received, Cause};
    ///
    /// /// Ends the process with the status that shells give to one ended by this signal.
    /// fn exit(cause: &Cause) -> ! {
    ///     let received = cause.downcast_ref::<Received>();
    ///     process::exit(received.map_or(1, |received| 128 + received.signal()))
    /// }
    /// ```
    #[must_use]
    pub const fn signal(&self) -> i32 {
        self.signal
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match names::name(self.signal) {
            Some(name) => write!(f, "{name} signal received"),
            None => write!(f, "signal {} received", self.signal),
        }
    }
}

impl StdError for Received {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&Error::Canceled)
    }
}
