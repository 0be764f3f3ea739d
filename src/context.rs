//! The handle to a context: a node of the cancellation tree, and a list of values.

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

/// A cancellation signal, a deadline and request-scoped values, shared by everything working on one
/// task. Equivalent to Go's `context.Context`.
///
/// A `Context` is a cheap handle that can be cloned, sent to other threads and borrowed by scoped
/// threads. A context derived from it is its child. Cancelling a parent cancels its children, but
/// cancelling a child does not affect its parent. By convention a context is the first argument of
/// a function and is called `ctx`.
///
/// # Ownership
///
/// A child keeps its parent alive; a parent does not keep its children alive. The handles to a
/// context are each `Context`, [`CancelFunc`], [`CancelCauseFunc`] and
/// [`DropGuard`](crate::DropGuard) of it, and its descendants. Dropping the last one cancels the
/// context: its done channel disconnects, its after-funcs run, and it is removed from the timer and
/// from its parent. A receiver from [`done`](Context::done) and an [`AfterFunc`] are not handles.
/// So forgetting to call `cancel` does not leak, as it does in Go.
///
/// This is the only intentional behavioural difference from Go. It matters when you keep only the
/// receiver:
///
/// ```
/// use std::time::Duration;
/// use go_context::{crossbeam_channel::TryRecvError, Context};
///
/// let hour = Duration::from_secs(3600);
/// // The context is dropped at the end of this line, and done by that.
/// let done = Context::background().with_timeout(hour).0.done();
/// assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
///
/// let (ctx, _cancel) = Context::background().with_timeout(hour);
/// assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
/// ```
///
/// What a context owns must not own the context. The following are reference cycles: they are never
/// freed, and dropping the other handles does not cancel the context.
///
/// - A function given to [`after_func`](Context::after_func) that owns the context or a descendant.
///   This cycle ends when the function has run or is stopped.
/// - A value, for example a `Mutex`, that owns a context which carries it.
/// - A cause that owns the context it was given to, or a descendant.
///
/// # Panics
///
/// The only panic of its own is when a context would get more than 2³¹ live children, callbacks
/// included. If your own code panics, such as a key's `==` or the `Drop` of a value, of a cause or
/// of a function, so does the call that ran it; a panic in a `Drop` is resumed after everything
/// else has been dropped.
#[derive(Clone, Default)]
pub struct Context {
    /// `None` if there is no node between the context and `context.Background`.
    pub(crate) node: Option<Arc<Node>>,
    pub(crate) values: Values,
}

/// # Roots
impl Context {
    /// Returns the root context, for `main`, initialisation, tests and the top of a request. It is
    /// never done, and has neither a deadline nor values.
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
    ///
    /// Behaves like [`background`](Context::background) but displays as `context.TODO`. Use it
    /// while migrating code to contexts; finished code should not contain it.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// fn handler(ctx: &Context) -> String {
    ///     ctx.to_string()
    /// }
    /// assert_eq!(handler(&Context::todo()), "context.TODO"); // the caller has no context yet
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
    /// Creates a child that can be cancelled.
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
    pub fn with_cancel(&self) -> (Context, CancelFunc) {
        let (ctx, node) = self.child(Node::with_cancel);
        (ctx, CancelFunc::new(node))
    }

    /// Creates a child that can be cancelled with a cause, which [`cause`](Context::cause) returns.
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
    pub fn with_cancel_cause(&self) -> (Context, CancelCauseFunc) {
        let (ctx, node) = self.child(Node::with_cancel);
        (ctx, CancelCauseFunc::new(node))
    }

    /// Creates a child that is done after `timeout`, counted from now.
    ///
    /// Like [`with_deadline`](Context::with_deadline). With a timeout of zero the child is done at
    /// once. A timeout that ends more than 438 years after the start of the process, such as
    /// [`Duration::MAX`], sets no deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::{crossbeam_channel::{never, select}, Context};
    ///
    /// let (ctx, cancel) = Context::background().with_timeout(Duration::from_millis(5));
    /// let _cancel_on_exit = cancel.drop_guard();
    /// let work = never::<String>();
    /// select! {
    ///     recv(work) -> _ => unreachable!(),
    ///     recv(ctx.done()) -> _ => {
    ///         assert_eq!(ctx.err().unwrap().to_string(), "context deadline exceeded");
    ///     }
    /// }
    ///
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::MAX);
    /// assert_eq!(ctx.deadline(), None);
    /// ```
    #[inline]
    pub fn with_timeout(&self, timeout: Duration) -> (Context, CancelFunc) {
        self.timed(Deadline::after(timeout), !timeout.is_zero(), None)
    }

    /// Creates a child like [`with_timeout`](Context::with_timeout), with a cause for when the
    /// timeout has passed. If the context is cancelled before that, `cause` is not used.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::{Context, Error};
    ///
    /// let bg = Context::background();
    /// let (ctx, cancel) = bg.with_timeout_cause(Duration::from_secs(60), "too slow");
    /// cancel.cancel();
    /// assert!(ctx.cause().unwrap().is::<Error>());
    /// ```
    pub fn with_timeout_cause(
        &self,
        timeout: Duration,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> (Context, CancelFunc) {
        self.timed(
            Deadline::after(timeout),
            !timeout.is_zero(),
            Some(into_cause(cause)),
        )
    }

    /// Creates a child that is done at `deadline`, an [`Instant`] or a
    /// [`SystemTime`](std::time::SystemTime).
    ///
    /// The child is never done before its deadline; it may be done slightly later, depending on how
    /// long the OS takes to wake a thread. If the deadline has passed, the child is done at once,
    /// with [`Error::DeadlineExceeded`]. If the parent's deadline is earlier, the child has that
    /// one.
    ///
    /// One timer thread serves all deadlines; it is started lazily, by the first deadline that is
    /// registered. A deadline under a parent that can be cancelled is registered when it is made,
    /// and any other one when the context is first [observed](crate#contexts-form-a-tree). If the
    /// thread cannot be spawned, deadlines fire once a [later call](crate#refused-threads) succeeds
    /// in starting it. It inherits the CPU affinity and the niceness of the thread that starts it,
    /// so a thread that is pinned or niced should not set the first deadline of a process: all
    /// deadlines would be later.
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
    /// let (child, _cancel) = ctx.with_deadline(soon + Duration::from_secs(60));
    /// assert_eq!(child.deadline(), Some(soon));
    /// assert_eq!(child.wait(), Error::DeadlineExceeded);
    /// assert!(Instant::now() >= soon);
    /// ```
    pub fn with_deadline(&self, deadline: impl Into<Deadline>) -> (Context, CancelFunc) {
        self.timed(deadline.into(), false, None)
    }

    /// Creates a child like [`with_deadline`](Context::with_deadline), with a cause for when the
    /// deadline passes. If the context is cancelled before the deadline, `cause` is not used.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Instant;
    /// use go_context::{Context, Error};
    ///
    /// let (ctx, _cancel) = Context::background().with_deadline_cause(Instant::now(), "too slow");
    /// assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
    /// assert_eq!(ctx.cause().unwrap().to_string(), "too slow");
    /// ```
    pub fn with_deadline_cause(
        &self,
        deadline: impl Into<Deadline>,
        cause: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> (Context, CancelFunc) {
        self.timed(deadline.into(), false, Some(into_cause(cause)))
    }

    /// Creates a child with one more value.
    ///
    /// Use values for request-scoped data that crosses many functions, such as an id or a user, and
    /// not for optional arguments of a function. Values are shared, never copied: all descendants
    /// see the same one, and a change to a `Mutex` or an atomic stored as a value is visible to
    /// all. A parent does not see its child's values, and of two values under the same key the
    /// nearest is found.
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
            node: self.node.clone(),
            values: self.values.with(key, value, self.depth()),
        }
    }

    /// Creates a child with the values of its parent, but neither its cancellation nor its
    /// deadline: for work that must continue when a request is over, such as cleaning up or writing
    /// a log.
    ///
    /// The child cannot be cancelled itself; derive from it to set a limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let (request, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let (cleanup, _cancel) = request.without_cancel().with_timeout(Duration::from_secs(60));
    /// assert!(cleanup.err().is_none());
    /// ```
    #[must_use]
    pub fn without_cancel(&self) -> Context {
        self.child(Node::without_cancel).0
    }

    /// Creates a child of two parents. It is done when either parent is, with the error and cause
    /// of the first. It has the earlier of their deadlines; values of this context take precedence
    /// over those of `other`. Go has no equivalent.
    ///
    /// No thread is used. The child is unregistered from both parents as soon as it is done or
    /// dropped.
    ///
    /// # Examples
    ///
    /// Work that stops when the request is over or the server shuts down, whichever is first:
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let (server, shut_down) = Context::background().with_cancel_cause();
    /// let (request, _cancel) = Context::background().with_timeout(Duration::from_secs(60));
    ///
    /// let (ctx, cancel) = request.merge(&server);
    /// let _cancel_on_exit = cancel.drop_guard();
    /// assert_eq!(ctx.deadline(), request.deadline());
    /// shut_down.cancel("going down");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "going down");
    /// assert!(request.err().is_none());
    /// ```
    pub fn merge(&self, other: &Context) -> (Context, CancelFunc) {
        let depth = self.depth();
        let [first, second] = [self, other].map(|ctx| ctx.node.clone());
        let node = Node::merge(first, second, depth);
        let ctx = Context {
            node: Some(node.clone()),
            values: MergedValues::join(self, other, depth),
        };
        (ctx, CancelFunc::new(node))
    }
}

/// # Callbacks
impl Context {
    /// Schedules `f` to run once, on another thread, when the context is done; immediately if it is
    /// done already. Equivalent to Go's `context.AfterFunc`.
    ///
    /// Callbacks never run on the cancelling thread, and a callback may block. They run on threads
    /// named `go-ctx-callback`, which are kept for a few seconds and used again. Threads are added
    /// only while the queue does not move, which is checked every millisecond: short callbacks
    /// share a few threads, and each one that blocks gets its own within a few milliseconds. There
    /// are at most 8192 threads; beyond that, callbacks wait for a thread that becomes free. If a
    /// thread cannot be spawned, this is tried again every 10 ms.
    ///
    /// A panic in `f` is reported by the panic hook and otherwise contained. When `f` starts, the
    /// context's done channel is disconnected and its error and cause are set.
    ///
    /// The context owns `f`. If `f` captures the context or a descendant, that is a reference
    /// cycle, and the context is not cancelled by dropping handles. On a context that [cannot be
    /// cancelled](Context::is_cancellable) `f` never runs and is dropped with the [`AfterFunc`].
    ///
    /// # Examples
    ///
    /// A callback that interrupts a wait which takes no context:
    ///
    /// ```
    /// use std::sync::{Arc, Condvar, Mutex};
    /// use std::time::Duration;
    /// use go_context::{Context, Error};
    ///
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
    /// let pair = Arc::new((Mutex::new(()), Condvar::new()));
    /// let stop = ctx.after_func({
    ///     let pair = pair.clone();
    ///     move || {
    ///         let _locked = pair.0.lock().unwrap(); // so that no waiter misses it
    ///         pair.1.notify_all();
    ///     }
    /// });
    ///
    /// let mut locked = pair.0.lock().unwrap();
    /// while ctx.err().is_none() {
    ///     locked = pair.1.wait(locked).unwrap();
    /// }
    /// assert!(!stop.stop());
    /// assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
    /// ```
    ///
    /// A callback may outlive the caller, so it cannot borrow:
    ///
    /// ```compile_fail,E0373
    /// let ctx = go_context::Context::background();
    /// let text = String::from("mine");
    /// ctx.after_func(|| println!("{}", &text));
    /// ```
    ///
    /// and it must be `Send`:
    ///
    /// ```compile_fail,E0277
    /// let ctx = go_context::Context::background();
    /// let count = std::rc::Rc::new(1);
    /// ctx.after_func(move || println!("{count}"));
    /// ```
    pub fn after_func(&self, f: impl FnOnce() + Send + 'static) -> AfterFunc {
        AfterFunc::new(self.node.as_ref(), Box::new(f))
    }
}

/// # State and values
impl Context {
    /// Returns a channel that disconnects when the context is done, and never carries a message.
    ///
    /// Use it in a `select!` with other channels, like `ctx.Done()` in Go. `select!` picks a ready
    /// channel at random; if a done context must win over ready work, use `select_biased!` and name
    /// `done` first. A disconnected channel stays ready for ever, so a loop must return or stop
    /// selecting on it.
    ///
    /// All calls on one thread return the same channel. The first call creates it, so a context
    /// that is never waited for does not pay for one. Another thread may get another channel, so
    /// that the two do not contend for its lock. A cancellation closes all of them, one after the
    /// other. Once any thread has seen one of them closed, [`err`](Context::err) returns `Some` and
    /// `done` returns only closed channels; once `err` returns `Some`, all of them are closed.
    ///
    /// On a context that [cannot be cancelled](Context::is_cancellable) it is
    /// [`never()`](crossbeam_channel::never). The receiver is not a handle: if only receivers are
    /// left, the context is cancelled (see [above](Context#ownership)).
    ///
    /// The first call registers the context with its parent and its timer.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::{crossbeam_channel::{select, unbounded}, Context};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let (_jobs_tx, jobs) = unbounded::<u32>();
    /// cancel.cancel();
    /// select! {
    ///     recv(ctx.done()) -> _ => println!("stopped: {}", ctx.err().unwrap()),
    ///     recv(jobs) -> job => unreachable!("{job:?}"),
    /// }
    /// ```
    #[must_use]
    #[inline]
    pub fn done(&self) -> Receiver<()> {
        timer::retry_refused();
        self.node.as_ref().map_or_else(never, |node| node.done())
    }

    /// Returns why the context is done, or `None` if it is not.
    ///
    /// It agrees with [`done`](Context::done) on every thread and in either order: it is `Some`
    /// exactly if the channel is disconnected. Once it is `Some` it does not change.
    ///
    /// It is cheap enough to be called in a loop. The first few calls ask the ancestors; after a
    /// number of them the context is registered with its parent, and each further call is a single
    /// load. A context with a deadline of its own is registered by the first call at the latest.
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

    /// Returns [`err`](Context::err) as a `Result`, for the `?` operator.
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
    /// assert_eq!(sum(&Context::background(), &[1, 2, 3]), Ok(6));
    /// ```
    #[inline]
    pub fn check(&self) -> Result<(), Error> {
        self.err().map_or(Ok(()), Err)
    }

    /// Returns the reason for the cancellation: the cause passed to the first cancellation of this
    /// context or an ancestor, or the [`Error`] itself if none was given. `None` if the context is
    /// not done. Equivalent to Go's `context.Cause`.
    ///
    /// A cause is stored once, where the cancellation began, and not copied to the descendants. So
    /// a call takes time in proportion to the number of levels up to there.
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
    /// It does not change when the context is done.
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

    /// Returns the time until the deadline: `None` if there is none, zero if it has passed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(60));
    /// assert!(ctx.remaining().unwrap() <= Duration::from_secs(60));
    /// assert_eq!(Context::background().remaining(), None);
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns whether the context can ever be done. Equivalent to Go's `ctx.Done() != nil`.
    ///
    /// It is false for [`background`](Context::background), [`todo`](Context::todo),
    /// [`without_cancel`](Context::without_cancel) and a custom context whose `done` is
    /// [`never()`](crossbeam_channel::never), and for values on top of them.
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

    /// Returns the value under `key` in this context or in the nearest ancestor that has one. See
    /// [`Key`].
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
    /// let ctx = Context::background().with_value(Counter::Hits, AtomicU32::new(0));
    /// let (child, _cancel) = ctx.with_cancel();
    /// child.value(&Counter::Hits).unwrap().fetch_add(1, Ordering::Relaxed);
    /// assert_eq!(ctx.value(&Counter::Hits).unwrap().load(Ordering::Relaxed), 1);
    /// assert!(ctx.value(&Counter::Misses).is_none());
    /// ```
    #[must_use]
    #[inline]
    pub fn value<K: Key>(&self, key: &K) -> Option<&K::Value> {
        self.values.get(key)
    }
}

impl Context {
    /// Creates a child with the values of this context, and the node that `derive` makes of the
    /// parent's node and the child's depth.
    #[inline(always)]
    pub(crate) fn child(
        &self,
        derive: impl FnOnce(Option<Arc<Node>>, u32) -> Arc<Node>,
    ) -> (Context, Arc<Node>) {
        let node = derive(self.node.clone(), self.depth());
        let ctx = Context {
            node: Some(node.clone()),
            values: self.values.clone(),
        };
        (ctx, node)
    }

    #[inline]
    fn timed(
        &self,
        deadline: Deadline,
        is_ahead: bool,
        cause: Option<Cause>,
    ) -> (Context, CancelFunc) {
        let (ctx, node) = self.child(|parent, depth| {
            Node::with_deadline(parent, depth, deadline.timestamp(), is_ahead, cause)
        });
        (ctx, CancelFunc::new(node))
    }

    /// Returns the depth of a child, which is one more than the context's own.
    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        let node = self.node.as_ref().map_or(0, |node| node.depth());
        node.max(self.values.depth()).saturating_add(1)
    }
}

// A `Node` is unwind safe. Whether a user's value is, is up to the user.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}
