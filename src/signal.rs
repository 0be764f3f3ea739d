//! Cancels contexts on signals such as Ctrl-C or `kill`. Equivalent to Go's `signal.NotifyContext`.
//!
//! This module needs the crate's feature `signal`, which is off by default.
//!
//! ```no_run
//! use go_context::{signal::NotifyContext, Context};
//!
//! fn main() -> std::io::Result<()> {
//!     let root = Context::background();
//!     let (ctx, stop) = NotifyContext::new().start(&root)?;
//!     serve(&ctx); // until Ctrl-C or `kill`
//!     stop.stop();
//!     Ok(())
//! }
//!
//! fn serve(ctx: &Context) {
//!     ctx.wait();
//!     // Prints "shutting down: interrupt signal received".
//!     println!("shutting down: {}", ctx.cause().unwrap());
//! }
//! ```
//!
//! # How long signals are caught
//!
//! Signals are caught from [`start`](NotifyContext::start) until the context is done, for whatever
//! reason. After that the default disposition is restored, so pressing Ctrl-C a second time kills
//! the program immediately. With [`keep_catching`](NotifyContext::keep_catching) signals are caught
//! until [`stop`](StopFunc::stop), as in Go, and those after the first have no effect.
//!
//! Contexts are independent of each other. A signal cancels all contexts that catch it at that
//! time. Its default disposition is restored when no context catches it any more.
//!
//! When a signal cancels a context, the default disposition is restored before the context is done.
//! When something else does, such as a parent, it is restored shortly afterwards, and a signal that
//! arrives in between has no effect.
//!
//! # Signals that are no longer caught
//!
//! - A signal has its default disposition again: most signals end the process, some stop it or do
//!   nothing. A signal whose default is not known, such as a real-time signal, ends the process
//!   with the exit status 128 plus its number.
//! - On Linux, a signal that was ignored when this process first caught it (for example under
//!   `nohup`) is ignored again. If it was handled by other code, that handler keeps running all the
//!   time, and nothing else happens. On other systems this cannot be detected, and the signal is
//!   treated as if it had had its default disposition.
//!
//! Handlers are installed through [`signal-hook`](https://docs.rs/signal-hook), which never
//! uninstalls one. This has two consequences:
//!
//! - Once a signal has been caught, other signal-hook actions registered for it later do not
//!   prevent it from terminating the process while no context catches it.
//! - Child processes do not inherit that the signal is ignored.
//!
//! # Differences from Go
//!
//! - By default a second signal has its default effect.
//! - An empty list of signals is an error. In Go it means all signals.
//! - A signal that arrives during `stop` is either received, and is then the cause, or has its
//!   default effect.
//! - Dropping the [`StopFunc`] has the effect of `stop`.
//! - The texts are Go's for Linux, on all systems.
//!
//! # Windows
//!
//! The C library of Windows supports only a few signals. Of these, only [`SIGINT`] (Ctrl-C) and
//! `SIGBREAK` (Ctrl-Break) come from outside the process. A thread polls for them every 50
//! milliseconds, and [`stop`](StopFunc::stop) may block for as long.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{bounded, Receiver};

use self::catch::Registration;
use self::listen::Listener;
use crate::after_func::AfterFunc;
use crate::context::Context;
use crate::error::Error;
use crate::runtime::sync::{Arc, Mutex};
use crate::tree::{CancelledBy, Node, Origin};

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

/// Creates contexts that are cancelled by signals. Equivalent to Go's `signal.NotifyContext`.
///
/// The [module](self) describes how long signals are caught, and what they do after that.
///
/// # Examples
///
/// A loop that ends at the first Ctrl-C or `kill`. A second Ctrl-C kills the program:
///
/// ```no_run
/// use go_context::{signal::NotifyContext, Context};
///
/// let root = Context::background();
/// let (ctx, _stop) = NotifyContext::new().start(&root)?;
/// for step in 0.. {
///     if ctx.err().is_some() {
///         let cause = ctx.cause().unwrap();
///         println!("stopped before step {step}: {cause}");
///         break;
///     }
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "signals are caught only after `start`"]
pub struct NotifyContext {
    signals: Vec<i32>,
    keep: bool,
}

impl NotifyContext {
    /// Creates a builder for contexts that are cancelled by [`SIGINT`] (Ctrl-C) and [`SIGTERM`]
    /// (the default of `kill` and of service managers).
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::signal::{NotifyContext, SIGINT, SIGTERM};
    ///
    /// let both = NotifyContext::new().signals([SIGINT, SIGTERM]);
    /// assert_eq!(NotifyContext::new(), both);
    /// ```
    pub fn new() -> NotifyContext {
        NotifyContext {
            signals: vec![SIGINT, SIGTERM],
            keep: false,
        }
    }

    /// Replaces the list of signals. Duplicates are ignored.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use go_context::signal::{NotifyContext, SIGHUP, SIGINT};
    /// use go_context::Context;
    ///
    /// let notify = NotifyContext::new().signals([SIGHUP, SIGINT]);
    /// let (ctx, _stop) = notify.start(&Context::background()).unwrap();
    /// let text = "(context.Background, [hangup interrupt])";
    /// assert_eq!(ctx.to_string(), format!("signal.NotifyContext{text}"));
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

    /// Keeps catching the signals after the context is done, until [`stop`](StopFunc::stop), as in
    /// Go. Signals after the first have no effect.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use go_context::{signal::NotifyContext, Context};
    ///
    /// let notify = NotifyContext::new().keep_catching();
    /// let (ctx, stop) = notify.start(&Context::background())?;
    /// ctx.wait();
    /// // A second Ctrl-C does not interrupt this.
    /// std::fs::rename("report.new", "report")?;
    /// stop.stop();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn keep_catching(mut self) -> NotifyContext {
        self.keep = true;
        self
    }

    /// Starts to catch the signals. Returns a child of `parent` that the first of them cancels, and
    /// a [`StopFunc`] that stops catching them.
    ///
    /// A signal cancels the context with [`Error::Canceled`] and a [`Received`] as its cause. If
    /// several signals arrive at almost the same time, the cause is one of them. Otherwise the
    /// context behaves like one from [`with_cancel`](Context::with_cancel): it is done when its
    /// parent is, with the parent's error and cause.
    ///
    /// `start` may be called any number of times, including for the same signals. A thread named
    /// `go-ctx-signal` waits for the signals while they are caught. On Unix it needs one file
    /// descriptor, and one more for each signal.
    ///
    /// # Errors
    ///
    /// In all of these cases no signal is caught.
    ///
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if the list of signals is empty, or contains
    ///   a signal that does not exist or that cannot be caught, such as `SIGKILL` or `SIGSEGV`.
    /// - The error of the operating system if the thread or a file descriptor cannot be created, or
    ///   a handler cannot be installed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::signal::{NotifyContext, SIGTERM};
    /// use go_context::{Context, Error};
    ///
    /// let (parent, cancel) = Context::background().with_cancel_cause();
    /// let notify = NotifyContext::new().signals([SIGTERM]);
    /// let (ctx, _stop) = notify.start(&parent)?;
    /// cancel.cancel("closing time");
    /// assert_eq!(ctx.err(), Some(Error::Canceled));
    /// assert_eq!(ctx.cause().unwrap().to_string(), "closing time");
    ///
    /// let sigkill = 9;
    /// let notify = NotifyContext::new().signals([sigkill]);
    /// let err = notify.start(&parent).unwrap_err();
    /// assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
    /// # Ok::<(), io::Error>(())
    /// ```
    #[track_caller]
    pub fn start(&self, parent: &Context) -> io::Result<(Context, StopFunc)> {
        let (registration, listener) = Registration::start(self.signals.clone())?;
        let registration = Arc::new(registration);
        let names = names::list(&self.signals);
        let node = Node::with_signals(parent.node.clone(), names);
        let ctx = parent.child(&node);
        let stop_when_done = if self.keep {
            None
        } else if ctx.err().is_some() {
            registration.stop();
            None
        } else {
            let registration = registration.clone();
            Some(Arc::new(AfterFunc::new(
                Some(&node),
                Box::new(move || registration.stop()),
            )))
        };
        let watcher = Watcher {
            node: node.clone(),
            registration: registration.clone(),
            stop_when_done: stop_when_done.clone(),
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
            registration,
            stop_when_done,
            ended,
            thread: Mutex::new(None),
        };
        // If the thread cannot be spawned, dropping `stop` undoes the registration.
        *stop.thread.lock() = Some(thread?);
        Ok((ctx, stop))
    }
}

/// Equivalent to [`NotifyContext::new`].
impl Default for NotifyContext {
    fn default() -> NotifyContext {
        NotifyContext::new()
    }
}

/// Stops catching the signals of a context, and cancels the context. Created by
/// [`NotifyContext::start`].
///
/// Dropping it has the effect of [`stop`](StopFunc::stop), so keep it until the work is finished.
/// The pattern `_` drops it immediately:
///
/// ```
/// use go_context::{signal::NotifyContext, Context, Error};
///
/// let root = Context::background();
/// let (ctx, _) = NotifyContext::new().start(&root)?;
/// assert_eq!(ctx.err(), Some(Error::Canceled));
///
/// let (ctx, _stop) = NotifyContext::new().start(&root)?;
/// assert_eq!(ctx.err(), None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It is a [handle](Context#ownership) to the context.
#[must_use = "dropping it cancels the context; bind it to a name such as `_stop`"]
pub struct StopFunc {
    node: Arc<Node>,
    registration: Arc<Registration>,
    /// Stops the registration when the context is done. `None` if that is left to `stop`.
    stop_when_done: Option<Arc<AfterFunc>>,
    /// Disconnected when the watcher has received all signals that were caught.
    ended: Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StopFunc {
    /// Stops catching the signals. Then cancels the context with [`Error::Canceled`] and no cause,
    /// unless it is done already.
    ///
    /// When it returns, even if another thread called it first:
    ///
    /// - the default dispositions are restored, except for signals that another context catches;
    /// - the context and all its descendants are done;
    /// - the thread has finished its work and its file descriptors are closed.
    ///
    /// A signal that arrived before the call is received, and is then the cause.
    ///
    /// Blocks until the thread has ended, which runs no code of yours, and then like
    /// [`CancelFunc::cancel`](crate::CancelFunc::cancel). So `stop` may be called any number of
    /// times and from anywhere, including a callback of the context.
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
    #[track_caller]
    pub fn stop(&self) {
        self.stop_and_cancel(Origin::here(CancelledBy::Func));
    }

    fn stop_and_cancel(&self, origin: Origin) {
        if let Some(stop_when_done) = &self.stop_when_done {
            stop_when_done.stop();
        }
        self.registration.stop();
        // This is short, and never runs on the watcher's own thread, because the watcher neither
        // runs user code nor waits for it.
        let _ = self.ended.recv();
        let thread = self.thread.lock().take();
        thread.into_iter().for_each(|thread| drop(thread.join()));
        self.node.cancel(origin);
    }
}

impl Drop for StopFunc {
    fn drop(&mut self) {
        let started_at = self.node.derived_at();
        self.stop_and_cancel(Origin::cancelled(CancelledBy::Guard, started_at));
    }
}

impl fmt::Debug for StopFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopFunc").finish_non_exhaustive()
    }
}

/// The state of the thread that waits for the signals of a context.
struct Watcher {
    node: Arc<Node>,
    registration: Arc<Registration>,
    stop_when_done: Option<Arc<AfterFunc>>,
    keep: bool,
}

impl Watcher {
    /// Cancels the context when a signal arrives. Returns when no more can arrive.
    fn watch(self, mut listener: Listener) {
        while let Some(signal) = listener.wait() {
            if !self.keep {
                // Before the cancellation, so that once the context is seen done a second signal
                // has its default effect.
                self.registration.stop();
            }
            if let Some(stop_when_done) = &self.stop_when_done {
                stop_when_done.stop(); // has nothing left to do, and would need a thread for that
            }
            let cause = Arc::new(Received { signal });
            // User code is left to another thread, because a `stop` may be waiting for this one.
            self.node.cancel_by_signal(cause);
        }
    }
}

/// Reports which signal cancelled a context. It is the context's [cause](Context::cause).
///
/// It displays as in Go, for example as `interrupt signal received`. Its
/// [`source`](StdError::source) is [`Error::Canceled`].
///
/// # Examples
///
/// ```no_run
/// use go_context::signal::{NotifyContext, Received, SIGTERM};
/// use go_context::Context;
///
/// let root = Context::background();
/// let (ctx, _stop) = NotifyContext::new().start(&root)?;
/// ctx.wait();
/// match ctx.cause().unwrap().downcast_ref::<Received>() {
///     Some(received) if received.signal() == SIGTERM => {
///         println!("stopped by the service manager");
///     }
///     Some(received) => println!("{received}"),
///     None => println!("something else"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Received {
    signal: i32,
}

impl Received {
    /// Returns the number of the signal.
    ///
    /// # Examples
    ///
    /// A program that stops because of a signal should die by that signal once it has cleaned up,
    /// so that its parent can see it: a shell, for example, then stops the loop that the program
    /// runs in. The status 128 plus the number is only what a shell makes of that. Add
    /// [`signal-hook`](https://docs.rs/signal-hook) to your dependencies for this:
    ///
    /// ```no_run
    /// use std::{io, process};
    /// use go_context::{signal::{NotifyContext, Received}, Cause, Context};
    ///
    /// fn main() -> io::Result<()> {
    ///     let (ctx, _stop) = NotifyContext::new().start(&Context::background())?;
    ///     ctx.wait();
    ///     die(&ctx.cause().unwrap())
    /// }
    ///
    /// /// Restores the default effect of the signal, and raises it.
    /// fn die(cause: &Cause) -> ! {
    ///     if let Some(received) = cause.downcast_ref::<Received>() {
    ///         let _ = signal_hook::low_level::emulate_default_handler(received.signal());
    ///     }
    ///     process::exit(1) // something else cancelled the context
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
