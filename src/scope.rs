//! Groups: scoped threads that share a context. Go's errgroup on std's scopes.
//!
//! A worker finishes in this order: its error or its panic is recorded, the group is cancelled, its
//! channel is disconnected, its permit is released. So a thread that observes one of these steps
//! also observes those before it. The group has one lock, under which no user code runs and no
//! other lock is taken.

use std::any::Any;
use std::fmt::{self, Display};
use std::io;
use std::marker::PhantomData;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use crossbeam_channel::{bounded, select_biased, Receiver, Sender};

use crate::cancel::CancelCauseFunc;
use crate::context::Context;
use crate::error::{into_cause, Cause};
use crate::runtime::sync::{thread, Mutex};
use crate::runtime::{timer, unwind};

/// # Groups
impl Context {
    /// Runs a group of threads that may borrow from the stack, and blocks until all of them have
    /// finished. Equivalent to Go's errgroup, on [`std::thread::scope`].
    ///
    /// `f` receives a [`Scope`] for spawning workers. Each worker receives the group's context, a
    /// child of this one. The first error that a worker returns cancels the group's context, with
    /// the text of the error as the cause. Then the other workers can stop, and no more are
    /// started.
    ///
    /// When `scope` returns, `f` and all workers have returned, and the group's context is done.
    /// (As with std's scope, the workers' threads may still be dropping thread-locals.)
    ///
    /// You choose the error type `E`, and usually have to annotate it. It must implement
    /// `From<io::Error>`, because spawning a thread can fail: for example [`io::Error`],
    /// `anyhow::Error`, `Box<dyn std::error::Error + Send + Sync>`, or an enum with such a variant.
    ///
    /// # Errors
    ///
    /// - The worker's error that occurred first. [`scope_all`](Context::scope_all) returns all.
    /// - The [`io::Error`] of the operating system if a thread cannot be spawned. It is treated
    ///   like an error of that worker.
    /// - The context's [`Error`](crate::Error), converted to an [`io::Error`], if there was no
    ///   other error but a worker was not started because the context was done. So `Ok` means that
    ///   every worker ran and succeeded.
    ///
    /// A cancelled context alone is not an error: if all workers return `Ok`, so does `scope`.
    ///
    /// # Panics
    ///
    /// If a worker or `f` panics, the group is cancelled as by an error, and the panic is resumed
    /// when all workers have returned. Of several panics it is the first. A panic takes precedence
    /// over errors.
    ///
    /// # Differences from errgroup
    ///
    /// A group that has failed starts no more workers, a panic reaches the caller, and a group
    /// cannot be used after its scope:
    ///
    /// ```compile_fail,E0521
    /// # use std::io;
    /// # let bg = go_context::Context::background();
    /// let mut escaped = None;
    /// let _: io::Result<()> = bg.scope(|s| escaped = Some(s));
    /// ```
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{fs, io};
    /// use go_context::Context;
    ///
    /// fn lines(ctx: &Context, path: &str) -> io::Result<usize> {
    ///     ctx.check()?;
    ///     Ok(fs::read_to_string(path)?.lines().count())
    /// }
    ///
    /// let paths = ["Cargo.toml", "README.md", "no such file"];
    /// let counted: io::Result<()> = Context::background().scope(|s| {
    ///     s.set_limit(4);
    ///     for path in paths {
    ///         s.spawn(move |ctx| {
    ///             println!("{path}: {}", lines(ctx, path)?);
    ///             Ok(())
    ///         });
    ///     }
    /// });
    /// assert_eq!(counted.unwrap_err().kind(), io::ErrorKind::NotFound);
    /// ```
    pub fn scope<'env, T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: for<'scope> FnOnce(Scope<'scope, 'env, E>) -> T,
        E: Display + From<io::Error> + Send,
    {
        run(self, 1, f).map_err(|mut errors| errors.swap_remove(0).1)
    }

    /// Runs a group like [`scope`](Context::scope), but returns the errors of all workers, in the
    /// order in which the workers were spawned.
    ///
    /// As in `scope`, the error that occurs first cancels the group. The others are those of
    /// workers that failed by themselves or because of the cancellation.
    ///
    /// # Errors
    ///
    /// Like `scope`. The list is not empty.
    ///
    /// # Panics
    ///
    /// Like `scope`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let bg = Context::background();
    /// let all: Result<(), Vec<io::Error>> = bg.scope_all(|s| {
    ///     for name in ["first", "second"] {
    ///         s.spawn(move |ctx| -> io::Result<()> {
    ///             if name == "first" {
    ///                 ctx.wait(); // until the second worker fails
    ///             }
    ///             Err(io::Error::other(name))
    ///         });
    ///     }
    /// });
    /// let errors = all.unwrap_err();
    /// assert_eq!(errors[0].to_string(), "first");
    /// assert_eq!(errors[1].to_string(), "second");
    /// ```
    pub fn scope_all<'env, T, E, F>(&self, f: F) -> Result<T, Vec<E>>
    where
        F: for<'scope> FnOnce(Scope<'scope, 'env, E>) -> T,
        E: Display + From<io::Error> + Send,
    {
        run(self, usize::MAX, f).map_err(|mut errors| {
            errors.sort_by_key(|(index, _)| *index);
            errors.into_iter().map(|(_, err)| err).collect()
        })
    }
}

/// Spawns the workers of a group. Created by [`Context::scope`].
///
/// # Examples
///
/// A `Scope` is `Copy`, so a worker can use it to spawn other workers:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::{fs, io, path::Path};
/// use go_context::{Context, Scope};
///
/// /// Adds up the sizes of all files under a directory, with a thread for
/// /// each directory.
/// fn visit<'scope>(
///     s: Scope<'scope, '_, io::Error>,
///     dir: &Path,
///     size: &'scope AtomicU64,
/// ) -> io::Result<()> {
///     for entry in fs::read_dir(dir)? {
///         let path = entry?.path();
///         if path.is_dir() {
///             s.spawn(move |_| visit(s, &path, size));
///         } else {
///             size.fetch_add(path.metadata()?.len(), Ordering::Relaxed);
///         }
///     }
///     s.context().check().map_err(io::Error::from)
/// }
///
/// let size = AtomicU64::new(0);
/// let src = Path::new("src");
/// Context::background().scope(|s| visit(s, src, &size))??;
/// assert!(size.into_inner() > 0);
/// # Ok::<(), io::Error>(())
/// ```
pub struct Scope<'scope, 'env: 'scope, E> {
    group: &'scope Group<E>,
    threads: &'scope dyn Threads<'scope>,
    /// Makes `'env` invariant, as in std's scope, so that only what outlives the scope can be
    /// borrowed.
    env: PhantomData<&'env mut &'env ()>,
}

impl<E> Clone for Scope<'_, '_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Scope<'_, '_, E> {}

impl<E> fmt::Debug for Scope<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("context", &self.group.ctx)
            .finish_non_exhaustive()
    }
}

impl<'scope, E> Scope<'scope, '_, E>
where
    E: Display + From<io::Error> + Send,
{
    /// Returns the group's context, which is the one that the workers receive.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let failed: io::Result<()> = Context::background().scope(|s| {
    ///     s.spawn(|_| -> io::Result<()> {
    ///         Err(io::Error::other("the disk is full"))
    ///     });
    ///     s.context().wait(); // until the group has failed
    /// });
    /// assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
    /// ```
    #[must_use]
    pub fn context(self) -> &'scope Context {
        &self.group.ctx
    }

    /// Limits the number of workers that run at the same time. Equivalent to errgroup's `SetLimit`.
    /// Initially there is no limit.
    ///
    /// The limit may be changed at any time. Running workers are not affected. With a limit of zero
    /// no worker is started until the limit is raised.
    ///
    /// Without a limit all workers run at the same time, each on a thread of its own. Most systems
    /// cannot run more than roughly ten thousand threads.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let result: io::Result<()> = ctx.scope(|s| {
    ///     s.set_limit(1);
    ///     s.spawn(|ctx| Ok(ctx.wait()));
    ///     assert!(s.try_spawn(|_| Ok(())).is_err());
    ///     s.set_limit(2);
    ///     assert!(s.try_spawn(|_| Ok(())).is_ok());
    ///     cancel.cancel(); // ends the first worker
    /// });
    /// assert!(result.is_ok());
    /// ```
    pub fn set_limit(self, limit: usize) {
        self.group.state.lock().limit = limit;
        self.group.notify_waiter();
    }

    /// Starts a worker on a thread of its own. Equivalent to errgroup's `Go`.
    ///
    /// Blocks while as many workers are running as the [limit](Scope::set_limit) allows, or until
    /// the group's context is done. If the context is done, `f` is dropped instead of run.
    ///
    /// A worker that calls `spawn` counts as running while it is blocked, so workers that all do
    /// this can deadlock; use [`try_spawn`](Scope::try_spawn) there.
    ///
    /// Returns a channel that receives the worker's value if the worker returns `Ok`. If the worker
    /// fails, panics or is not run, the channel is disconnected without a message, and the group's
    /// context is done. Receive from the channel to join the worker, for example with
    /// [`Context::recv`], or drop it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let numbers: Vec<u64> = (1..=100).collect();
    /// let sum: io::Result<u64> = Context::background().scope(|s| {
    ///     let parts: Vec<_> = numbers
    ///         .chunks(25)
    ///         .map(|part| s.spawn(|_| Ok(part.iter().sum::<u64>())))
    ///         .collect();
    ///     parts.iter().filter_map(|part| part.recv().ok()).sum()
    /// });
    /// assert_eq!(sum.unwrap(), 5050);
    /// ```
    ///
    /// A worker cannot borrow what `f` owns, because it may outlive `f`:
    ///
    /// ```compile_fail,E0597
    /// # use std::io;
    /// # let bg = go_context::Context::background();
    /// let _: io::Result<()> = bg.scope(|s| {
    ///     let numbers = vec![1, 2, 3];
    ///     for number in &numbers {
    ///         s.spawn(move |_| Ok(println!("{number}")));
    ///     }
    /// });
    /// ```
    ///
    /// It cannot borrow anything that is not `Sync` either:
    ///
    /// ```compile_fail,E0277
    /// # use std::{cell::Cell, io};
    /// # let bg = go_context::Context::background();
    /// let count = Cell::new(0);
    /// let _: io::Result<()> = bg.scope(|s| {
    ///     s.spawn(|_| Ok(count.set(1)));
    /// });
    /// ```
    pub fn spawn<F, R>(self, f: F) -> Receiver<R>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        self.spawn_with(thread::Builder::new(), f)
    }

    /// Starts a worker like [`spawn`](Scope::spawn), on a thread with a given name or stack size.
    ///
    /// # Panics
    ///
    /// Panics if the thread name contains a null byte.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{io, thread};
    /// use go_context::Context;
    ///
    /// let result: io::Result<()> = Context::background().scope(|s| {
    ///     let thread = thread::Builder::new()
    ///         .name("fetch".into())
    ///         .stack_size(64 * 1024); // bytes
    ///     let is_fetch = s.spawn_with(thread, |_| {
    ///         Ok(thread::current().name() == Some("fetch"))
    ///     });
    ///     assert_eq!(is_fetch.recv(), Ok(true));
    /// });
    /// assert!(result.is_ok());
    /// ```
    pub fn spawn_with<F, R>(self, thread: thread::Builder, f: F) -> Receiver<R>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        match self.group.acquire() {
            Some(permit) => self.start_worker(permit, thread, f),
            None => {
                drop(f); // may panic, so before the channel is made, which would leak
                bounded(1).1
            }
        }
    }

    /// Starts a worker unless the [limit](Scope::set_limit) is reached or the group's context is
    /// done. Equivalent to errgroup's `TryGo`. Does not block.
    ///
    /// # Errors
    ///
    /// Returns `f` if it was not started. The group does not fail because of that. If the thread
    /// cannot be spawned, the group fails as with [`spawn`](Scope::spawn), and `f` is not returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let result: io::Result<_> = Context::background().scope(|s| {
    ///     s.set_limit(1);
    ///     for numbers in [[1, 2], [3, 4]] {
    ///         let work = move |_: &Context| {
    ///             println!("{}", numbers.iter().sum::<u64>());
    ///             Ok(())
    ///         };
    ///         if let Err(work) = s.try_spawn(work) {
    ///             work(s.context())?; // at the limit: run it on this thread
    ///         }
    ///     }
    ///     Ok::<(), io::Error>(())
    /// });
    /// assert!(result.unwrap().is_ok());
    /// ```
    pub fn try_spawn<F, R>(self, f: F) -> Result<Receiver<R>, F>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        self.try_spawn_with(thread::Builder::new(), f)
    }

    /// Starts a worker like [`try_spawn`](Scope::try_spawn), on a thread with a given name or stack
    /// size.
    ///
    /// # Errors
    ///
    /// Like `try_spawn`.
    ///
    /// # Panics
    ///
    /// Panics if the thread name contains a null byte.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{io, thread};
    /// use go_context::Context;
    ///
    /// let result: io::Result<()> = Context::background().scope(|s| {
    ///     let thread = thread::Builder::new().name("spare".into());
    ///     assert!(s.try_spawn_with(thread, |_| Ok(())).is_ok());
    /// });
    /// assert!(result.is_ok());
    /// ```
    pub fn try_spawn_with<F, R>(self, thread: thread::Builder, f: F) -> Result<Receiver<R>, F>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        match self.group.try_acquire() {
            Some(permit) => Ok(self.start_worker(permit, thread, f)),
            None => Err(f),
        }
    }

    fn start_worker<F, R>(
        self,
        permit: Permit<'scope, E>,
        thread: thread::Builder,
        f: F,
    ) -> Receiver<R>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        let (result, receiver) = bounded(1);
        let (group, index) = (permit.group, permit.index);
        let work = Box::new(move || {
            group.catch(|| match f(&group.ctx) {
                Ok(value) => drop(result.send(value)), // the receiver may have been dropped
                Err(err) => group.fail(index, err),
            });
            group.catch(|| drop(result));
            drop(permit);
        });
        if let Err(err) = self.threads.spawn(thread, work) {
            group.catch(|| group.fail(index, E::from(err)));
        }
        receiver
    }
}

/// std's scope without its second lifetime, which [`Scope`] cannot name, because it is that of a
/// variable in [`run`].
trait Threads<'scope>: Sync {
    fn spawn(
        &'scope self,
        thread: thread::Builder,
        work: Box<dyn FnOnce() + Send + 'scope>,
    ) -> io::Result<()>;
}

impl<'scope> Threads<'scope> for thread::Scope<'scope, '_> {
    fn spawn(
        &'scope self,
        thread: thread::Builder,
        work: Box<dyn FnOnce() + Send + 'scope>,
    ) -> io::Result<()> {
        thread.spawn_scoped(self, work).map(drop)
    }
}

/// Runs `f` and the workers it spawns. Returns at most `most_errors` errors, in the order in which
/// they occurred, each with the index of its worker.
fn run<'env, T, E, F>(parent: &Context, most_errors: usize, f: F) -> Result<T, Vec<(usize, E)>>
where
    F: for<'scope> FnOnce(Scope<'scope, 'env, E>) -> T,
    E: Display + From<io::Error> + Send,
{
    timer::retry_refused();
    let (ctx, cancel) = parent.with_cancel_cause();
    let group = Group {
        ctx,
        cancel,
        most_errors,
        state: Mutex::new(State::default()),
        permit_freed: bounded(1),
    };
    let mut value = None;
    thread::scope(|threads| {
        let scope = Scope {
            group: &group,
            threads,
            env: PhantomData,
        };
        group.catch(|| value = Some(f(scope)));
    });
    group.catch(|| group.record_refused());
    group.catch(|| drop(group.cancel.clone().drop_guard()));
    if group.has_failed() {
        group.catch(|| drop(value.take()));
    }

    let state = group.state.into_inner();
    if let Some(payload) = state.panic {
        // A panic here must not prevent the first one from being resumed.
        for err in state.errors {
            unwind::swallow_panic(|| drop(err));
        }
        resume_unwind(payload);
    }
    value.ok_or(state.errors)
}

struct Group<E> {
    ctx: Context,
    cancel: CancelCauseFunc,
    /// The maximum number of errors to keep.
    most_errors: usize,
    state: Mutex<State<E>>,
    /// Receives a token when a permit may be free. A waiting thread that takes it sends it on.
    permit_freed: (Sender<()>, Receiver<()>),
}

struct State<E> {
    limit: usize,
    active: usize,
    /// How many permits have been acquired so far.
    started: usize,
    /// Whether a worker was not started because the context was done.
    refused: bool,
    /// Each with the index of its worker, in the order in which they occurred.
    errors: Vec<(usize, E)>,
    panic: Option<Box<dyn Any + Send>>,
    /// Why the group was cancelled: the first error or panic.
    cause: Option<Cause>,
}

impl<E> Default for State<E> {
    fn default() -> Self {
        State {
            limit: usize::MAX,
            active: 0,
            started: 0,
            refused: false,
            errors: Vec::new(),
            panic: None,
            cause: None,
        }
    }
}

impl<E> Group<E> {
    /// Waits for a permit. Returns `None` if the group's context is done.
    fn acquire(&self) -> Option<Permit<'_, E>> {
        let mut was_notified = false;
        loop {
            if let Some(permit) = self.try_acquire() {
                if was_notified {
                    self.notify_waiter();
                }
                return Some(permit);
            }
            if self.ctx.err().is_some() {
                self.state.lock().refused = true;
                return None;
            }
            select_biased! {
                recv(self.ctx.done()) -> _ => {}
                recv(self.permit_freed.1) -> _ => was_notified = true,
                recv(timer::retry_channel()) -> _ => {}
            }
        }
    }

    fn try_acquire(&self) -> Option<Permit<'_, E>> {
        let mut state = self.state.lock();
        if state.active >= state.limit {
            return None;
        }
        state.active += 1;
        state.started += 1;
        let permit = Permit {
            group: self,
            index: state.started,
        };
        drop(state);
        // Checked only now, because the permit may be that of a worker that has failed.
        self.ctx.err().is_none().then_some(permit)
    }

    /// Wakes a waiting thread when a permit may be free. Must be called with the lock released.
    fn notify_waiter(&self) {
        let _ = self.permit_freed.0.try_send(()); // full: a token is there already
    }

    /// Runs a step of a worker. If it panics, the panic is recorded and the group is cancelled.
    fn catch(&self, step: impl FnOnce()) {
        let Err(payload) = catch_unwind(AssertUnwindSafe(step)) else {
            return;
        };
        let text = match (
            payload.downcast_ref::<&str>(),
            payload.downcast_ref::<String>(),
        ) {
            (Some(text), _) => format!("panicked: {text}"),
            (_, Some(text)) => format!("panicked: {text}"),
            _ => "panicked".to_owned(),
        };
        let mut later = None;
        // Only the recorded panic is resumed, not those that this leads to.
        unwind::swallow_panic(|| {
            self.cancel_group(text, |state| match state.panic {
                Some(_) => later = Some(payload),
                None => state.panic = Some(payload),
            });
        });
        unwind::swallow_panic(|| drop(later));
    }

    fn has_failed(&self) -> bool {
        let state = self.state.lock();
        state.panic.is_some() || !state.errors.is_empty()
    }

    /// Records an error or a panic and cancels the group, with the text of the first one as the
    /// cause.
    fn cancel_group(&self, text: String, record: impl FnOnce(&mut State<E>)) {
        let cause = into_cause(text);
        let mut state = self.state.lock();
        record(&mut state);
        let first = state.cause.get_or_insert(cause).clone();
        drop(state);
        self.cancel.cancel(first);
    }
}

impl<E: Display + From<io::Error>> Group<E> {
    /// Records an error of a worker and cancels the group.
    fn fail(&self, index: usize, err: E) {
        let mut text = String::new();
        self.catch(|| text = err.to_string());
        let mut surplus = None;
        self.catch(|| {
            self.cancel_group(text, |state| {
                if state.errors.len() < self.most_errors {
                    state.errors.push((index, err));
                } else {
                    surplus = Some(err);
                }
            });
        });
        self.catch(|| drop(surplus));
    }

    /// Records an error if a worker was not started and there is no other error.
    fn record_refused(&self) {
        let state = self.state.lock();
        let only = state.refused && state.errors.is_empty();
        drop(state);
        if let (true, Some(err)) = (only, self.ctx.err()) {
            let err = E::from(err.into());
            self.state.lock().errors.push((0, err));
        }
    }
}

/// A permit to run one worker, which counts as running until the permit is dropped.
struct Permit<'a, E> {
    group: &'a Group<E>,
    /// How many workers have had a permit by then, including this one.
    index: usize,
}

impl<E> Drop for Permit<'_, E> {
    fn drop(&mut self) {
        self.group.state.lock().active -= 1;
        self.group.notify_waiter();
    }
}
