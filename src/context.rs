//! The handle to a context: a node of the cancellation tree and a list of values.

use std::error::Error as StdError;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use crossbeam_channel::{never, Receiver};

use crate::after_func::AfterFunc;
use crate::cancel::{CancelCauseFunc, CancelFunc};
use crate::deadline::Deadline;
use crate::error::{into_cause, Cause, Error};
use crate::merge::MergedValues;
use crate::runtime::sync::Arc;
use crate::runtime::timer;
use crate::tree::Node;
use crate::value::{Key, Values};

/// Carries a cancellation signal, a deadline and values to everything that works on one task.
/// Equivalent to Go's `context.Context`.
///
/// A `Context` is a cheap handle: it can be cloned, sent to other threads and borrowed by scoped
/// threads, and clones are the same context. A context derived from another one is its child.
/// Cancelling a context cancels its descendants, and does not affect its parent. By convention a
/// context is the first argument of a function and is called `ctx`.
///
/// The methods are in the order [roots](#roots), [derived contexts](#derived-contexts),
/// [callbacks](#callbacks), [state and values](#state-and-values), [blocking
/// calls](#blocking-calls), [condition variables](#condition-variables), [groups](#groups), [custom
/// contexts](#custom-contexts).
///
/// # Ownership
///
/// A child keeps its parent alive, but a parent does not keep its children alive. The *handles* to
/// a context are all its [`Context`]s, [`CancelFunc`]s, [`CancelCauseFunc`]s and
/// [`DropGuard`](crate::DropGuard)s, and its descendants. Dropping the last one cancels the
/// context: its done channel is disconnected, its callbacks run, and it is removed from its parent
/// and from the timer. So forgetting to call `cancel` does not leak the context. In Go it does,
/// until the parent is cancelled.
///
/// This is the only intentional difference in behaviour from Go. It matters when you keep only a
/// receiver from [`done`](Context::done) or an [`AfterFunc`], which are not handles:
///
/// ```
/// use std::time::Duration;
/// use go_context::{crossbeam_channel::TryRecvError, Context};
///
/// let hour = Duration::from_secs(3600);
/// // The context is dropped at the end of this line, which cancels it.
/// let done = Context::background().with_timeout(hour).0.done();
/// assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
///
/// let (ctx, _cancel) = Context::background().with_timeout(hour);
/// assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
/// ```
///
/// What a context owns must not own the context. The following are reference cycles: they are not
/// freed, and dropping the other handles does not cancel the context.
///
/// - A callback of [`after_func`](Context::after_func), or a [hook](Context::with_enter) around it, that
///   owns the context or a descendant. This cycle ends when the callback has run or is stopped.
/// - A value, for example in a `Mutex`, or a hook that owns a context which carries it.
/// - A cause that owns the context it was given to, or a descendant of it.
///
/// # Panics
///
/// A call that adds a child or a callback panics if the context would then have more than 2³¹ of
/// them. If code of yours panics, such as a key's `==` or the `Drop` of a value, of a cause or of a
/// callback, so does the call that ran it. A panic in a `Drop` is resumed after everything else has
/// been dropped.
#[derive(Clone, Default)]
pub struct Context {
    /// `None` if only values have been derived from `Context::background`.
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) values: Values,
}

/// # Roots
impl Context {
    /// Returns the root context, which is never done and has neither a deadline nor values.
    /// Equivalent to Go's `context.Background`. Use it in `main`, in initialisation and tests, and
    /// as the parent of each request's context. `Context::default()` returns it too.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// let ctx = Context::background();
    /// assert!(!ctx.is_cancellable());
    /// assert_eq!(ctx.to_string(), "context.Background");
    /// ```
    #[must_use]
    pub fn background() -> Context {
        Context::default()
    }

    /// Returns a placeholder root, for code that does not have the right context to pass yet.
    /// Equivalent to Go's `context.TODO`.
    ///
    /// Behaves like [`background`](Context::background) but displays as `context.TODO`. Use it
    /// while migrating code to contexts; finished code should not contain it.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Error};
    ///
    /// fn query(ctx: &Context) -> Result<u32, Error> {
    ///     ctx.check()?;
    ///     Ok(42)
    /// }
    ///
    /// // The caller does not receive a context yet.
    /// assert_eq!(query(&Context::todo()), Ok(42));
    /// ```
    #[must_use]
    pub fn todo() -> Context {
        Context {
            node: Some(Node::todo()),
            values: Values::default(),
        }
    }
}

/// # Derived contexts
impl Context {
    /// Creates a child that can be cancelled, and the function that cancels it. Equivalent to Go's
    /// `context.WithCancel`.
    ///
    /// The child is done when it is cancelled, when its parent is done, or when its last
    /// [handle](Context#ownership) is dropped. A child of a parent that is done is done from the
    /// start.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Error};
    ///
    /// let (parent, cancel_parent) = Context::background().with_cancel();
    /// let (child, cancel_child) = parent.with_cancel();
    /// cancel_child.cancel();
    /// assert_eq!(child.err(), Some(Error::Canceled));
    /// assert_eq!(parent.err(), None);
    ///
    /// cancel_parent.cancel();
    /// let (late, _cancel) = parent.with_cancel();
    /// assert_eq!(late.err(), Some(Error::Canceled));
    /// ```
    ///
    /// Unlike in Go, there is no nil parent to derive from:
    ///
    /// ```compile_fail,E0599
    /// let parent: Option<go_context::Context> = None;
    /// let (ctx, cancel) = parent.with_cancel();
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn with_cancel(&self) -> (Context, CancelFunc) {
        let node = Node::with_cancel(self.node.clone());
        (self.child(&node), CancelFunc::new(node))
    }

    /// Creates a child like [`with_cancel`](Context::with_cancel) that can be cancelled with a
    /// cause, which [`cause`](Context::cause) then returns. Equivalent to Go's
    /// `context.WithCancelCause`.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Error};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel_cause();
    /// cancel.cancel("the client hung up");
    /// assert_eq!(ctx.err(), Some(Error::Canceled));
    /// assert_eq!(ctx.cause().unwrap().to_string(), "the client hung up");
    /// ```
    #[inline]
    #[track_caller]
    pub fn with_cancel_cause(&self) -> (Context, CancelCauseFunc) {
        let node = Node::with_cancel(self.node.clone());
        (self.child(&node), CancelCauseFunc::new(node))
    }

    /// Creates a child that is done when `timeout` has passed, counted from this call. Equivalent
    /// to Go's `context.WithTimeout`.
    ///
    /// Like [`with_deadline`](Context::with_deadline) with a deadline of now plus `timeout`. With a
    /// timeout of zero the child is done from the start. A timeout that ends more than 438 years
    /// after the start of the process, such as [`Duration::MAX`], sets no deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::crossbeam_channel::{never, select};
    /// use go_context::{Context, Error};
    ///
    /// let bg = Context::background();
    /// let (ctx, cancel) = bg.with_timeout(Duration::from_millis(5));
    /// let _cancel_on_exit = cancel.drop_guard();
    /// let work = never::<String>();
    /// select! {
    ///     recv(work) -> _ => unreachable!(),
    ///     recv(ctx.done()) -> _ => {
    ///         assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
    ///     }
    /// }
    ///
    /// let (ctx, _cancel) = bg.with_timeout(Duration::MAX);
    /// assert_eq!(ctx.deadline(), None);
    /// ```
    #[inline]
    #[track_caller]
    pub fn with_timeout(&self, timeout: Duration) -> (Context, CancelFunc) {
        self.timed(Deadline::after(timeout), Some(timeout), None)
    }

    /// Creates a child like [`with_timeout`](Context::with_timeout), with a cause for the case that
    /// the timeout passes. If the context is cancelled before that, `cause` is not used. Equivalent
    /// to Go's `context.WithTimeoutCause`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let timeout = Duration::from_millis(5);
    /// let (ctx, _cancel) =
    ///     Context::background().with_timeout_cause(timeout, "too slow");
    /// ctx.wait();
    /// assert_eq!(ctx.cause().unwrap().to_string(), "too slow");
    /// ```
    #[track_caller]
    pub fn with_timeout_cause(
        &self,
        timeout: Duration,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> (Context, CancelFunc) {
        self.timed(
            Deadline::after(timeout),
            Some(timeout),
            Some(into_cause(cause)),
        )
    }

    /// Creates a child that is done at `deadline`, an [`Instant`] or a
    /// [`SystemTime`](std::time::SystemTime). Equivalent to Go's `context.WithDeadline`.
    ///
    /// The error is then [`Error::DeadlineExceeded`]. The child is never done before its deadline;
    /// it may be done slightly later, depending on how long the OS takes to wake a thread. If the
    /// deadline has passed already, the child is done from the start. If the parent's deadline is
    /// earlier, it applies to the child too, and `deadline` has no effect.
    ///
    /// One [timer thread](crate#deadlines) serves all deadlines of the process.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use go_context::{Context, Error};
    ///
    /// let soon = Instant::now() + Duration::from_millis(5);
    /// let (ctx, _cancel) = Context::background().with_deadline(soon);
    /// assert_eq!(ctx.deadline(), Some(soon));
    ///
    /// let later = soon + Duration::from_secs(60);
    /// let (child, _cancel) = ctx.with_deadline(later);
    /// assert_eq!(child.deadline(), Some(soon));
    /// assert_eq!(child.wait(), Error::DeadlineExceeded);
    /// assert!(Instant::now() >= soon);
    /// ```
    #[track_caller]
    pub fn with_deadline(&self, deadline: impl Into<Deadline>) -> (Context, CancelFunc) {
        self.timed(deadline.into(), None, None)
    }

    /// Creates a child like [`with_deadline`](Context::with_deadline), with a cause for the case
    /// that the deadline passes. If the context is cancelled before that, `cause` is not used.
    /// Equivalent to Go's `context.WithDeadlineCause`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use go_context::{Context, Error};
    ///
    /// let deadline = Instant::now() + Duration::from_secs(60);
    /// let (ctx, cancel) =
    ///     Context::background().with_deadline_cause(deadline, "too slow");
    /// cancel.cancel();
    /// assert!(ctx.cause().unwrap().is::<Error>()); // not "too slow"
    /// ```
    #[track_caller]
    pub fn with_deadline_cause(
        &self,
        deadline: impl Into<Deadline>,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> (Context, CancelFunc) {
        self.timed(deadline.into(), None, Some(into_cause(cause)))
    }

    /// Creates a child with one more value, which [`value`](Context::value) returns for `key`.
    /// Equivalent to Go's `context.WithValue`.
    ///
    /// Use values for data of a request that many functions need, such as an id or a user, and not
    /// for optional arguments of a function. A value is shared with all descendants and never
    /// copied, so a change to a `Mutex` or an atomic is visible to all of them. Parents do not have
    /// the value. A value replaces one of an ancestor under an equal key.
    ///
    /// For cancellation the child is the same context: it is done when this one is, and it is a
    /// [handle](Context#ownership) to it.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Key};
    ///
    /// #[derive(PartialEq, Eq)]
    /// struct User;
    /// impl Key for User {
    ///     type Value = String;
    /// }
    ///
    /// let parent = Context::background();
    /// let child = parent.with_value(User, "gopher".into());
    /// assert_eq!(child.value(&User).unwrap(), "gopher");
    /// assert!(parent.value(&User).is_none());
    /// ```
    #[must_use]
    pub fn with_value<K: Key>(&self, key: K, value: K::Value) -> Context {
        Context {
            values: self.values.with(key, value, self.address()),
            node: self.node.clone(),
        }
    }

    /// Creates a child that has the values of its parent, but is never done and has no deadline.
    /// Use it for work that must continue after a request, such as a cleanup. Equivalent to Go's
    /// `context.WithoutCancel`.
    ///
    /// The child cannot be cancelled itself. Derive a context with a timeout from it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let (request, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let detached = request.without_cancel();
    /// let (cleanup, _cancel) = detached.with_timeout(Duration::from_secs(60));
    /// assert!(cleanup.err().is_none());
    /// ```
    #[must_use]
    #[track_caller]
    pub fn without_cancel(&self) -> Context {
        self.child(&Node::without_cancel(self.node.clone()))
    }

    /// Creates a child of two parents, this context and `other`. Go has no equivalent.
    ///
    /// The child is done when either parent is, with the error and the cause of the parent that is
    /// done first. Its deadline is the earlier one of theirs. Values of this context take
    /// precedence over those of `other`.
    ///
    /// No thread is used. The child is unregistered from both parents as soon as it is done or
    /// dropped.
    ///
    /// # Examples
    ///
    /// Work that stops when the request is cancelled or the server shuts down:
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let bg = Context::background();
    /// let (server, shut_down) = bg.with_cancel_cause();
    /// let (request, _cancel) = bg.with_timeout(Duration::from_secs(60));
    ///
    /// let (ctx, cancel) = request.merge(&server);
    /// let _cancel_on_exit = cancel.drop_guard();
    /// assert_eq!(ctx.deadline(), request.deadline());
    /// shut_down.cancel("shutting down");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "shutting down");
    /// assert!(request.err().is_none());
    /// ```
    #[track_caller]
    pub fn merge(&self, other: &Context) -> (Context, CancelFunc) {
        let [first, second] = [self, other].map(|ctx| ctx.node.clone());
        let node = Node::merge(first, second);
        let ctx = Context {
            values: MergedValues::join(self, other, node.address()),
            node: Some(node.clone()),
        };
        (ctx, CancelFunc::new(node))
    }
}

/// # Callbacks
impl Context {
    /// Schedules `f` to run once, on another thread, when the context is done; immediately if it is
    /// done already. Equivalent to Go's `context.AfterFunc`.
    ///
    /// Use it to interrupt an operation that does not take a context, such as a blocking read. When
    /// `f` starts, the context's done channel is disconnected and its error and cause are set. Call
    /// [`stop`](AfterFunc::stop) when `f` is no longer needed.
    ///
    /// Callbacks never run on the cancelling thread. They run on [threads of the
    /// crate](crate#callbacks), and a callback that blocks does not hold up another one for more
    /// than a few milliseconds. A panic in `f` is reported by the panic hook and otherwise has no
    /// effect.
    ///
    /// Callbacks that are still pending when `main` returns do not run. Wait for them with
    /// [`stop_and_wait`](AfterFunc::stop_and_wait).
    ///
    /// The context owns `f`. If `f` captures the context or a descendant, that is a [reference
    /// cycle](Context#ownership), and the context is not cancelled by dropping handles. On a
    /// context that [cannot be cancelled](Context::is_cancellable) `f` never runs, and is dropped
    /// with the [`AfterFunc`].
    ///
    /// # Examples
    ///
    /// A callback that ends a wait on a condition variable. ([`wait_while`](Context::wait_while)
    /// does this for you.)
    ///
    /// ```
    /// use std::sync::{Arc, Condvar, Mutex};
    /// use std::time::Duration;
    /// use go_context::{Context, Error};
    ///
    /// let timeout = Duration::from_millis(5);
    /// let (ctx, _cancel) = Context::background().with_timeout(timeout);
    /// let pair = Arc::new((Mutex::new(()), Condvar::new()));
    /// let wake = ctx.after_func({
    ///     let pair = pair.clone();
    ///     move || {
    ///         // Locked, so that the thread below cannot miss it between
    ///         // its check and its wait.
    ///         let _locked = pair.0.lock().unwrap();
    ///         pair.1.notify_all();
    ///     }
    /// });
    ///
    /// let mut locked = pair.0.lock().unwrap();
    /// while ctx.err().is_none() {
    ///     locked = pair.1.wait(locked).unwrap();
    /// }
    /// assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
    /// assert!(!wake.stop()); // too late
    /// ```
    ///
    /// A callback may outlive the caller, so it cannot borrow from it:
    ///
    /// ```compile_fail,E0373
    /// let ctx = go_context::Context::background();
    /// let text = String::from("mine");
    /// ctx.after_func(|| println!("{}", &text));
    /// ```
    ///
    /// It must also be `Send`:
    ///
    /// ```compile_fail,E0277
    /// let ctx = go_context::Context::background();
    /// let count = std::rc::Rc::new(1);
    /// ctx.after_func(move || println!("{count}"));
    /// ```
    pub fn after_func(&self, f: impl FnOnce() + Send + 'static) -> AfterFunc {
        AfterFunc::new(self.node.as_ref(), self.hooks().around(f))
    }
}

/// # State and values
impl Context {
    /// Returns a channel that is disconnected when the context is done, and never carries a
    /// message.
    ///
    /// Use it in `select!`, like `ctx.Done()` in Go. `select!` picks a ready channel at random; if
    /// a done context must take precedence over other ready channels, use `select_biased!` with
    /// `done` first. A disconnected channel stays ready, so a loop must return or stop selecting on
    /// it.
    ///
    /// All calls on one thread return the same channel; another thread may get another one, so that
    /// the two do not contend for its lock. Once any thread has seen one of them disconnected,
    /// [`err`](Context::err) returns `Some` and `done` returns only disconnected channels; once
    /// `err` returns `Some`, all of them are disconnected.
    ///
    /// The first call creates the channel and [registers](crate#cost) the context with its parent
    /// and the timer. On a context that [cannot be cancelled](Context::is_cancellable) the channel
    /// is [`never()`](crossbeam_channel::never).
    ///
    /// The receiver is not a [handle](Context#ownership): if only receivers are left, the context
    /// is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::crossbeam_channel::{select, unbounded};
    /// use go_context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let (_jobs_tx, jobs) = unbounded::<u32>();
    /// cancel.cancel();
    /// select! {
    ///     recv(ctx.done()) -> _ => println!("{}", ctx.err().unwrap()),
    ///     recv(jobs) -> job => unreachable!("{job:?}"),
    /// }
    /// ```
    #[must_use]
    #[inline]
    pub fn done(&self) -> Receiver<()> {
        timer::retry_refused();
        self.node.as_ref().map_or_else(never, |node| node.done())
    }

    /// Returns why the context is done, or `None` if it is not done. Equivalent to Go's
    /// `ctx.Err()`.
    ///
    /// The result is `Some` exactly if the channel of [`done`](Context::done) is disconnected, on
    /// every thread, whichever of the two is called first. Once it is `Some` it does not change.
    ///
    /// The call is cheap enough for a loop, and normally does not block. (While a cancellation is
    /// disconnecting the done channels, it may wait until that is finished.)
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Error};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert_eq!(ctx.err(), None);
    /// cancel.cancel();
    /// assert_eq!(ctx.err(), Some(Error::Canceled));
    /// ```
    #[must_use]
    #[inline]
    pub fn err(&self) -> Option<Error> {
        timer::retry_refused();
        self.node.as_ref()?.err()
    }

    /// Returns [`err`](Context::err) as a `Result`, for the `?` operator. Go has no equivalent.
    ///
    /// # Errors
    ///
    /// Returns the context's error if it is done.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Error};
    ///
    /// fn sum(ctx: &Context, numbers: &[u64]) -> Result<u64, Error> {
    ///     let mut sum = 0;
    ///     for number in numbers {
    ///         ctx.check()?;
    ///         sum += number;
    ///     }
    ///     Ok(sum)
    /// }
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert_eq!(sum(&ctx, &[1, 2, 3]), Ok(6));
    /// cancel.cancel();
    /// assert_eq!(sum(&ctx, &[1, 2, 3]), Err(Error::Canceled));
    /// ```
    #[inline]
    pub fn check(&self) -> Result<(), Error> {
        self.err().map_or(Ok(()), Err)
    }

    /// Returns an error with the [cause](Context::cause) if the context is done. Equivalent to Go's
    /// `return context.Cause(ctx)`.
    ///
    /// # Errors
    ///
    /// Returns the cause.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Cause, Context};
    ///
    /// fn work(ctx: &Context) -> Result<(), Cause> {
    ///     ctx.check_cause()
    /// }
    ///
    /// let (ctx, cancel) = Context::background().with_cancel_cause();
    /// assert!(work(&ctx).is_ok());
    /// cancel.cancel("the cable was cut");
    /// assert_eq!(work(&ctx).unwrap_err().to_string(), "the cable was cut");
    /// ```
    pub fn check_cause(&self) -> Result<(), Cause> {
        self.cause().map_or(Ok(()), Err)
    }

    /// Returns the reason for the cancellation: the cause passed to the first cancellation of this
    /// context or an ancestor, or the [`Error`] itself if none was given. Returns `None` if the
    /// context is not done. Equivalent to Go's `context.Cause`.
    ///
    /// A cause is stored once, in the context where the cancellation began. So a call takes time in
    /// proportion to the number of levels up to that context.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{Context, Error};
    ///
    /// let (parent, cancel) = Context::background().with_cancel_cause();
    /// let (child, _cancel_child) = parent.with_cancel();
    /// assert!(child.cause().is_none());
    /// cancel.cancel("the cable was cut");
    /// assert_eq!(child.cause().unwrap().to_string(), "the cable was cut");
    ///
    /// let (plain, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// assert_eq!(plain.cause().unwrap().downcast_ref(), Some(&Error::Canceled));
    /// ```
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.node.as_ref()?.cause()
    }

    /// Returns the earliest deadline of the context and its ancestors, or `None` if there is none.
    /// It does not change, not even when the context is done. Equivalent to Go's `ctx.Deadline()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use go_context::Context;
    ///
    /// let at = Instant::now() + Duration::from_secs(60);
    /// let (ctx, _cancel) = Context::background().with_deadline(at);
    /// assert_eq!(ctx.deadline(), Some(at));
    /// assert_eq!(ctx.without_cancel().deadline(), None);
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.node.as_ref()?.deadline()
    }

    /// Returns the time until the [deadline](Context::deadline): `None` if there is no deadline,
    /// zero if it has passed. In Go this is `time.Until` of `ctx.Deadline()`.
    ///
    /// If it returns zero, the context is done, even if the timer thread has not come to that yet.
    /// (The exception is a [custom context](Context::custom) with a deadline that it does not keep,
    /// and contexts derived from it.) In this case only, it may block like
    /// [`CancelFunc::cancel`].
    ///
    /// Some functions of std, for example
    /// [`TcpStream::set_read_timeout`](std::net::TcpStream::set_read_timeout), refuse a timeout of
    /// zero, so call [`check`](Context::check) between the two.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let bg = Context::background();
    /// assert_eq!(bg.remaining(), None);
    ///
    /// let minute = Duration::from_secs(60);
    /// let (ctx, _cancel) = bg.with_timeout(minute);
    /// assert!(ctx.remaining().unwrap() <= minute);
    /// ```
    ///
    /// A read that waits no longer than the context allows:
    ///
    /// ```no_run
    /// use std::io::{self, Read};
    /// use std::net::TcpStream;
    /// use go_context::Context;
    ///
    /// fn read(ctx: &Context, stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    ///     let remaining = ctx.remaining();
    ///     ctx.check()?; // fails if `remaining` is zero
    ///     stream.set_read_timeout(remaining)?;
    ///     stream.read(buf)
    /// }
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let node = self.node.as_ref()?;
        let remaining = node.deadline()?.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            node.expire_deadline();
        }
        Some(remaining)
    }

    /// Returns whether the context can ever be done. Equivalent to Go's `ctx.Done() != nil`.
    ///
    /// Returns `false` for [`background`](Context::background), [`todo`](Context::todo), contexts
    /// from [`without_cancel`](Context::without_cancel), custom contexts whose `done` is
    /// [`never()`](crossbeam_channel::never), and contexts derived from these with
    /// [`with_value`](Context::with_value).
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// let (ctx, _cancel) = Context::background().with_cancel();
    /// assert!(ctx.is_cancellable());
    /// assert!(!ctx.without_cancel().is_cancellable());
    /// ```
    #[must_use]
    pub fn is_cancellable(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.is_cancellable())
    }

    /// Returns the value under `key` in this context, or in the nearest ancestor that has one.
    /// Returns `None` if there is none. Equivalent to Go's `ctx.Value(key)`.
    ///
    /// Keys are compared with `==`, which is code of yours. A lookup takes time in proportion to
    /// the number of values that it passes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use go_context::{Context, Key};
    ///
    /// #[derive(PartialEq, Eq)]
    /// enum Counter { Hits, Misses }
    /// impl Key for Counter {
    ///     type Value = AtomicU32;
    /// }
    ///
    /// let bg = Context::background();
    /// let ctx = bg.with_value(Counter::Hits, AtomicU32::new(0));
    /// let (child, _cancel) = ctx.with_cancel();
    /// let hits = child.value(&Counter::Hits).unwrap();
    /// hits.fetch_add(1, Ordering::Relaxed);
    ///
    /// let hits = ctx.value(&Counter::Hits).unwrap();
    /// assert_eq!(hits.load(Ordering::Relaxed), 1);
    /// assert!(ctx.value(&Counter::Misses).is_none());
    /// ```
    #[must_use]
    #[inline]
    pub fn value<K: Key>(&self, key: &K) -> Option<&K::Value> {
        self.values.get(key)
    }

    /// Returns whether both are the same context: clones of each other, whatever their
    /// [names](Context::named). Equivalent to `==` of two contexts in Go.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// let (ctx, _cancel) = Context::background().with_cancel();
    /// assert!(ctx.ptr_eq(&ctx.clone()));
    /// assert!(!ctx.ptr_eq(&Context::background()));
    /// ```
    #[must_use]
    pub fn ptr_eq(&self, other: &Context) -> bool {
        let addresses = |ctx: &Context| (ctx.address(), ctx.values_address());
        addresses(self) == addresses(other)
    }
}

impl Context {
    /// Returns a child that has this node and the values of this context.
    #[inline(always)]
    pub(crate) fn child(&self, node: &Arc<Node>) -> Context {
        Context {
            node: Some(node.clone()),
            values: self.values.clone(),
        }
    }

    /// Returns the address of the node, or 0 if there is none.
    pub(crate) fn address(&self) -> usize {
        self.node.as_ref().map_or(0, |node| node.address())
    }

    /// Creates a child with a deadline, or a timeout and the deadline that follows from it.
    #[inline]
    #[track_caller]
    fn timed(
        &self,
        deadline: Deadline,
        timeout: Option<Duration>,
        cause: Option<Cause>,
    ) -> (Context, CancelFunc) {
        let node = Node::with_deadline(self.node.clone(), deadline.timestamp(), timeout, cause);
        (self.child(&node), CancelFunc::new(node))
    }
}

// A `Node` is unwind safe. For a value that is the user's responsibility.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}
