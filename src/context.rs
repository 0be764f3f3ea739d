//! The handle: a place in the cancellation tree, and a list of values.

use std::error::Error as StdError;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use crossbeam_channel::{never, Receiver};

use crate::after_func::AfterFunc;
use crate::cancel::{CancelCauseFunc, CancelFunc};
use crate::deadline::Deadline;
use crate::error::{into_cause, Cause, Error};
use crate::sync::Arc;
use crate::tree::{Hold, Node};
use crate::value::{Key, Values};

/// Carries a cancellation, a deadline and values to all who work on one task: Go's
/// `context.Context`.
///
/// A `Context` is a cheap handle, to be cloned, sent to other threads and borrowed by scoped ones.
/// Deriving from it makes a child; a child is cancelled with its parent, never the other way. By
/// custom it is the first argument of a function and is called `ctx`.
///
/// # Who holds whom
///
/// A child keeps its parent alive; a parent never keeps a child alive. A context that nobody holds
/// any more (no `Context`, [`CancelFunc`], [`DropGuard`](crate::DropGuard) or descendant) is
/// thereby cancelled: its done channel disconnects, its after-funcs run, its timer and its place in
/// the parent are given back. A receiver from [`done`](Context::done) and an [`AfterFunc`] hold
/// nothing. So a forgotten `cancel` cannot leak, which in Go it does; this is the one deliberate
/// difference from Go in what happens, and here it can bite:
///
/// ```
/// use std::time::Duration;
/// use go_context::{crossbeam_channel::TryRecvError, Context};
///
/// let hour = Duration::from_secs(3600);
/// // Nobody keeps the context, so it is done when this line is.
/// let done = Context::background().with_timeout(hour).0.done();
/// assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
///
/// let (ctx, _cancel) = Context::background().with_timeout(hour);
/// assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
/// ```
///
/// # Panics
///
/// Nothing here panics by itself, but for a context that is derived where the parent has 2³² − 1 live
/// children. What your own code does, such as a key's `==` or the `Drop` of a value, of a cause or of
/// a function, does it in the call that led to it; a `Drop` that panics does so after everything else
/// has been dropped.
#[derive(Clone, Default)]
pub struct Context {
    /// `None`: nothing above can be cancelled, and `Display` begins at `context.Background`.
    pub(crate) node: Option<Hold>,
    pub(crate) values: Values,
}

impl Context {
    /// The root for `main`, for initialisation, for tests and for the top of a request. It is never
    /// done, has no deadline and no values.
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

    /// The root that says: a context belongs here, find it.
    ///
    /// It behaves as [`background`](Context::background) does and prints otherwise. Use it while
    /// code is being taught to pass contexts on, and search for it before you are done; it has no
    /// place in a finished program.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// fn handler(ctx: &Context) -> String {
    ///     ctx.to_string()
    /// }
    /// assert_eq!(handler(&Context::todo()), "context.TODO"); // the caller has none to give yet
    /// ```
    #[must_use]
    pub fn todo() -> Context {
        Context {
            node: Some(Node::todo()),
            values: Values::default(),
        }
    }

    /// A child that can be cancelled by itself.
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
    /// There is no nil to derive from, as there is in Go:
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

    /// A child that can be cancelled with a cause, for [`cause`](Context::cause) to tell.
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

    /// A child that is done at `deadline`, an [`Instant`] or a
    /// [`SystemTime`](std::time::SystemTime).
    ///
    /// It is never done early by the deadline, and it is late by what the machine needs to wake a
    /// thread. A deadline that has passed makes a child that is done already, with
    /// [`Error::DeadlineExceeded`]; where the parent's comes first, the child has the parent's.
    ///
    /// The first deadline of a process that anybody waits for starts a thread, the only one for all
    /// deadlines. Should the system refuse it, they are kept as soon as the next deadline gets it.
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
        self.timed(deadline.into(), None)
    }

    /// [`with_deadline`](Context::with_deadline), with a cause for when the deadline passes. A
    /// `cancel` before has its own cause, or none.
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
        self.timed(deadline.into(), Some(into_cause(cause)))
    }

    /// A child that is done when `timeout` has passed from now on.
    ///
    /// As [`with_deadline`](Context::with_deadline). A timeout of zero has passed; one too long for
    /// an `Instant`, such as [`Duration::MAX`], sets no deadline.
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
        self.timed(Deadline::after(timeout), None)
    }

    /// [`with_timeout`](Context::with_timeout), with a cause for when the time is over.
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
        self.timed(Deadline::after(timeout), Some(into_cause(cause)))
    }

    /// A child that carries one value more.
    ///
    /// Values are for what belongs to a request and crosses many functions, such as an id or a
    /// user; not for a function's own arguments. They are shared, never copied: all descendants see
    /// the same one, and a `Mutex` or an atomic stored as a value is seen changed by all. A parent
    /// does not see its child's values, and of two under the same key the nearest is found.
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

    /// A child with the values of its parent, but neither its cancellation nor its deadline: for
    /// work that has to go on when a request is over, such as to clean up or to write a log.
    ///
    /// It cannot be cancelled itself; derive from it to set a limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let (request, cancel) = Context::background().with_cancel();
    /// cancel.cancel();
    /// let (cleanup, _cancel) = request.without_cancel().with_timeout(Duration::from_secs(1));
    /// assert!(cleanup.err().is_none());
    /// ```
    #[must_use]
    pub fn without_cancel(&self) -> Context {
        self.child(Node::without_cancel).0
    }

    /// A channel that disconnects when the context is done, and never carries a message.
    ///
    /// It is there for a `select!` beside other channels, as `ctx.Done()` is in Go. Of several
    /// channels that are ready `select!` takes one at random; where a context that is done must
    /// win over work that is ready, use `select_biased!` and name `done` first. A loop must leave,
    /// or stop listening, once it has seen the channel disconnected: it stays ready for ever.
    ///
    /// Each call on one thread gives the same channel. It is made by the first call, so a context on
    /// which nobody waits never pays for it. Another thread may get another channel, so that the two
    /// do not wait for each other when they use theirs. All of them close at the cancellation, one
    /// just after the other; who has seen one closed finds the error and is given no open one, and
    /// who finds the error will see them all closed. On a context that [cannot be cancelled](Context::is_cancellable) it
    /// is [`never()`](crossbeam_channel::never). The receiver does not hold the context: if it is
    /// all that is left, the context is cancelled (see [above](Context#who-holds-whom)).
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
        self.node.as_ref().map_or_else(never, |node| node.done())
    }

    /// Why the context is done; `None` while it is not.
    ///
    /// It agrees with [`done`](Context::done) on every thread and in either order: it is `Some`
    /// exactly if the channel is disconnected. Once it is `Some` it stays as it is. It does not
    /// block, and is cheap enough to be asked in a loop.
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
        self.node.as_ref()?.err()
    }

    /// What lies behind [`err`](Context::err): the cause that the first cancellation gave, whether
    /// it was of this context or of one above. Without one it is the [`Error`] itself; `None` while
    /// the context is not done. Go's `context.Cause`.
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

    /// When the context will be done at the latest: the earliest deadline of it and those above,
    /// `None` without one. It stays the same once the context is done.
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

    /// The value under `key` in this context or the nearest above that has one. See [`Key`].
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

    /// Has `f` run once, on a thread of its own, when the context is done; at once if it is. Go's
    /// `context.AfterFunc`.
    ///
    /// It never runs on the thread that cancels, and callbacks run beside one another, so one may
    /// block. The threads are kept for a few seconds and used again; there are as many as there are
    /// callbacks that run at once. Beyond 8192, or where the system refuses a thread, `f` runs on the
    /// next that comes free or can be started, which is tried again every 10 ms. A panic in `f` is
    /// reported by the panic hook and harms nobody else. When `f` starts, the context's done channel
    /// is disconnected and its error and cause are set.
    ///
    /// The context owns `f`, so an `f` that owns the context, or a descendant, keeps it from ever
    /// being abandoned. On a context that [cannot be cancelled](Context::is_cancellable) `f` never
    /// runs, and goes with the `AfterFunc`.
    ///
    /// # Examples
    ///
    /// A callback that ends a wait which knows nothing of contexts:
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
    ///         let _locked = pair.0.lock().unwrap(); // or a waiter might just miss it
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
    /// It may outlive the caller, so it can borrow nothing:
    ///
    /// ```compile_fail,E0373
    /// let ctx = go_context::Context::background();
    /// let text = String::from("mine");
    /// ctx.after_func(|| println!("{}", &text));
    /// ```
    ///
    /// and it goes to another thread:
    ///
    /// ```compile_fail,E0277
    /// let ctx = go_context::Context::background();
    /// let count = std::rc::Rc::new(1);
    /// ctx.after_func(move || println!("{count}"));
    /// ```
    pub fn after_func(&self, f: impl FnOnce() + Send + 'static) -> AfterFunc {
        AfterFunc::new(self.node.as_deref(), Box::new(f))
    }

    /// [`err`](Context::err) for the `?` in a loop.
    ///
    /// # Errors
    ///
    /// The context's error, if it is done.
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

    /// The time left until the deadline: `None` without one, zero once it has passed.
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

    /// Whether the context can ever be done: Go's `ctx.Done() != nil`.
    ///
    /// False for [`background`](Context::background), [`todo`](Context::todo) and
    /// [`without_cancel`](Context::without_cancel), and for values on top of them. There is no need
    /// to watch such a context.
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

    /// A child with the values of this context, at the node that `derive` makes. It is given the
    /// parent, which is this context's node or this thread's seat at it, and the depth of the child.
    #[inline(always)]
    pub(crate) fn child(
        &self,
        derive: impl FnOnce(Option<Arc<Node>>, u32) -> Arc<Node>,
    ) -> (Context, Arc<Node>) {
        let (parent, values) = match &self.node {
            Some(hold) => {
                let (parent, values) = hold.place(&self.values);
                (Some(parent), values)
            }
            None => (None, self.values.clone()),
        };
        let node = derive(parent, self.depth());
        let ctx = Context {
            node: Some(Hold::new(node.clone())),
            values,
        };
        (ctx, node)
    }

    #[inline]
    fn timed(&self, deadline: Deadline, cause: Option<Cause>) -> (Context, CancelFunc) {
        let (ctx, node) = self.child(|parent, depth| match deadline.instant() {
            Some(at) => Node::with_deadline(parent, depth, at, cause),
            None => Node::with_cancel(parent, depth),
        });
        (ctx, CancelFunc::new(node))
    }

    /// The depth of a child: one more than the context's own.
    #[inline]
    pub(crate) fn depth(&self) -> u32 {
        let node = self.node.as_ref().map_or(0, |node| node.depth());
        node.max(self.values.depth()).saturating_add(1)
    }
}

// As its node is; and what a value of the user's may be after a panic, its owner has to say.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}
