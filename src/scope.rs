//! Groups: scoped threads that share a context. Go's errgroup on std's scopes.
//!
//! A worker finishes in this order: its error or its panic is recorded, the group is cancelled, its
//! channel is disconnected, its permit is released. So a thread that observes one of these steps
//! also observes those before it. The group has one lock, under which no user code runs and no
//! other lock is taken.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;
use std::marker::PhantomData;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe, Location};
use std::time::Duration;

use crossbeam_channel::{bounded, select_biased, Receiver, Sender};
use once_cell::sync::OnceCell;

use crate::context::Context;
use crate::enter::Hooks;
use crate::error::{into_cause, Cause};
use crate::runtime::sync::{thread, Arc, Mutex};
use crate::runtime::{timer, unwind};
use crate::tree::{CancelledBy, Node, Origin};

/// # Groups
impl Context {
    /// Runs a group of threads that may borrow from the stack, and blocks until all of them have
    /// finished. Equivalent to Go's errgroup, on [`std::thread::scope`].
    ///
    /// `f` receives a [`Scope`] for spawning workers. Each worker receives the group's context, a
    /// child of this one. The first error, of a worker or of `f` itself, cancels the group's
    /// context, with the text of the error as the cause. Then the others can stop, and no more
    /// workers are started.
    ///
    /// When `scope` returns, `f` and all workers have returned, and the group's context is done.
    /// (As with std's scope, the workers' threads may still be dropping thread-locals.)
    ///
    /// # Errors
    ///
    /// Returns the error that occurred first. [`scope_all`](Context::scope_all) returns all of them.
    ///
    /// You choose the error type `E`, and usually have to annotate it. It only has to implement
    /// [`Display`] and [`Send`], and may borrow: for example [`io::Error`], `anyhow::Error`,
    /// `Box<dyn std::error::Error + Send + Sync>`, [`Error`](crate::Error) or `String`.
    ///
    /// A context that is done is not an error by itself: workers are started even then, and if all
    /// of them return `Ok`, so does `scope`.
    ///
    /// # Panics
    ///
    /// If a worker or `f` panics, the group is cancelled as by an error, and the panic is resumed
    /// when all workers have returned. Of several panics it is the first. A panic takes precedence
    /// over errors.
    ///
    /// # Differences from errgroup
    ///
    /// - The function that starts the workers can fail, too, and its error counts like a worker's.
    /// - A group that has failed or was [cancelled](Scope::cancel) starts no more workers.
    /// - If the limit is reached and the context is done, a worker runs on the calling thread.
    /// - The limit may be changed while workers are running.
    /// - The cause is the text of the error, because the error itself is returned.
    /// - A panic of a worker is resumed in the caller. In Go it ends the process.
    /// - A group always has a context, and cannot be used after its scope:
    ///
    /// ```compile_fail,E0521
    /// # use std::io;
    /// # let bg = go_context::Context::background();
    /// let mut escaped = None;
    /// let _: io::Result<()> = bg.scope(|s| Ok(escaped = Some(s)));
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
    /// fn count(ctx: &Context, paths: &[&str]) -> io::Result<usize> {
    ///     ctx.scope(|s| {
    ///         s.set_limit(4);
    ///         let counts: Vec<_> = paths
    ///             .iter()
    ///             .map(|path| s.spawn(|ctx| lines(ctx, path)))
    ///             .collect();
    ///         Ok(counts.iter().filter_map(|count| count.recv().ok()).sum())
    ///     })
    /// }
    ///
    /// let bg = Context::background();
    /// assert!(count(&bg, &["Cargo.toml", "README.md"])? > 10);
    /// let err = count(&bg, &["Cargo.toml", "no such file"]).unwrap_err();
    /// assert_eq!(err.kind(), io::ErrorKind::NotFound);
    /// # Ok::<(), io::Error>(())
    /// ```
    ///
    /// The error of `f` stops the workers, for example if something that they need is missing:
    ///
    /// ```
    /// use std::{fs::File, io, time::Duration};
    /// use go_context::Context;
    ///
    /// let sent = Context::background().scope(|s| -> io::Result<_> {
    ///     s.spawn(|ctx| {
    ///         while ctx.sleep(Duration::from_secs(1)).is_ok() {
    ///             println!("still at work");
    ///         }
    ///         Ok(())
    ///     });
    ///     let file = File::open("no such file")?;
    ///     file.metadata()
    /// });
    /// assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::NotFound);
    /// ```
    #[track_caller]
    pub fn scope<'env, T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: for<'scope> FnOnce(Scope<'scope, 'env, E>) -> Result<T, E>,
        E: Display + Send + 'env,
    {
        run(self, 1, f).map_err(|mut errors| errors.swap_remove(0).1)
    }

    /// Runs a group like [`scope`](Context::scope), but returns all errors: that of `f` first, and
    /// then those of the workers, in the order in which the workers were spawned.
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
    ///     Ok(())
    /// });
    /// let errors = all.unwrap_err();
    /// assert_eq!(errors[0].to_string(), "first");
    /// assert_eq!(errors[1].to_string(), "second");
    /// ```
    #[track_caller]
    pub fn scope_all<'env, T, E, F>(&self, f: F) -> Result<T, Vec<E>>
    where
        F: for<'scope> FnOnce(Scope<'scope, 'env, E>) -> Result<T, E>,
        E: Display + Send + 'env,
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
///     Ok(s.context().check()?)
/// }
///
/// let size = AtomicU64::new(0);
/// let src = Path::new("src");
/// Context::background().scope(|s| visit(s, src, &size))?;
/// assert!(size.into_inner() > 0);
/// # Ok::<(), io::Error>(())
/// ```
pub struct Scope<'scope, 'env: 'scope, E: 'env> {
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

impl<'scope, E: Display + Send> Scope<'scope, '_, E> {
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
    ///     Ok(())
    /// });
    /// assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
    /// ```
    #[must_use]
    pub fn context(self) -> &'scope Context {
        &self.group.ctx
    }

    /// Cancels the group's context with a cause. The group does not fail because of that.
    ///
    /// It is for a group that has what it wanted, so that the remaining workers can stop. Errors
    /// that workers return from now on are dropped, and no more workers are started. Panics are
    /// still resumed, and an error of the function that was passed to [`Context::scope`] is still
    /// returned.
    ///
    /// # Examples
    ///
    /// The first answer wins:
    ///
    /// ```
    /// use go_context::crossbeam_channel::bounded;
    /// use go_context::{Context, Error};
    ///
    /// fn ask(ctx: &Context, server: &str) -> Result<String, Error> {
    ///     if server == "slow" {
    ///         ctx.wait();
    ///     }
    ///     ctx.check()?;
    ///     Ok(format!("the answer of {server}"))
    /// }
    ///
    /// let first = Context::background().scope(|s| -> Result<_, Error> {
    ///     let (answer, answers) = bounded(1);
    ///     for server in ["slow", "quick"] {
    ///         let answer = answer.clone();
    ///         s.spawn(move |ctx| {
    ///             // The channel is full if another server was first.
    ///             let _ = answer.try_send(ask(ctx, server)?);
    ///             s.cancel("another server has answered");
    ///             Ok(())
    ///         });
    ///     }
    ///     drop(answer);
    ///     Ok(answers.recv().ok())
    /// });
    /// assert_eq!(first, Ok(Some("the answer of quick".to_string())));
    /// ```
    #[track_caller]
    pub fn cancel(self, cause: impl Into<Box<dyn StdError + Send + Sync>>) {
        let end = (into_cause(cause), Origin::here(CancelledBy::Func));
        self.group
            .cancel_with(end, |state| state.is_cancelled = true);
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
    ///     Ok(())
    /// });
    /// assert!(result.is_ok());
    /// ```
    pub fn set_limit(self, limit: usize) {
        self.group.state.lock().limit = limit;
        self.group.notify_waiter();
    }

    /// Starts a worker on a thread of its own. Equivalent to errgroup's `Go`.
    ///
    /// Blocks while as many workers are running as the [limit](Scope::set_limit) allows. If the
    /// group's context becomes done meanwhile, because that of its parent does, the worker runs on
    /// the calling thread. If the group has failed or was [cancelled](Scope::cancel), `f` is dropped
    /// instead of run.
    ///
    /// A worker that calls `spawn` counts as running while it is blocked, so workers that all do
    /// this can deadlock; use [`try_spawn`](Scope::try_spawn) there.
    ///
    /// Returns a channel that receives the worker's value if the worker returns `Ok`. If the worker
    /// fails, panics or is not run, the channel is disconnected without a message, and the group's
    /// context is done. Receive from the channel to join the worker, for example with
    /// [`Context::recv`], or drop it.
    ///
    /// # Panics
    ///
    /// Panics if the system refuses the thread, as std's `spawn` does. Use
    /// [`try_spawn`](Scope::try_spawn) or [`spawn_with`](Scope::spawn_with) to handle this.
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
    ///     Ok(parts.iter().filter_map(|part| part.recv().ok()).sum())
    /// });
    /// assert_eq!(sum.unwrap(), 5050);
    /// ```
    ///
    /// A function that spawns workers takes a `Scope`. The second lifetime matters only to the
    /// function that creates the scope:
    ///
    /// ```
    /// use std::{fs, io};
    /// use go_context::{crossbeam_channel::Receiver, Context, Scope};
    ///
    /// fn read<'scope>(
    ///     s: Scope<'scope, '_, io::Error>,
    ///     path: &'scope str,
    /// ) -> Receiver<String> {
    ///     s.spawn(move |_| fs::read_to_string(path))
    /// }
    ///
    /// let path = String::from("Cargo.toml");
    /// let text = Context::background().scope(|s| Ok(read(s, &path).recv()))?;
    /// assert!(text.unwrap().contains("go-context"));
    /// # Ok::<(), io::Error>(())
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
    ///     Ok(())
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
    ///     Ok(())
    /// });
    /// ```
    #[track_caller]
    pub fn spawn<F, R>(self, f: F) -> Receiver<R>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        self.spawn_with(thread::Builder::new(), f)
            .expect("failed to spawn thread")
    }

    /// Starts a worker like [`spawn`](Scope::spawn), on a thread with a given name or stack size.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it refuses the thread. `f` is dropped then. The group does
    /// not fail because of that.
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
    /// let is_fetch = Context::background().scope(|s| -> io::Result<_> {
    ///     let thread = thread::Builder::new()
    ///         .name("fetch".into())
    ///         .stack_size(64 * 1024); // bytes
    ///     let is_fetch = s.spawn_with(thread, |_| {
    ///         Ok(thread::current().name() == Some("fetch"))
    ///     })?;
    ///     Ok(is_fetch.recv())
    /// });
    /// assert_eq!(is_fetch?, Ok(true));
    /// # Ok::<(), io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_with<F, R>(self, thread: thread::Builder, f: F) -> io::Result<Receiver<R>>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        match self.group.acquire(Location::caller()) {
            Ok(permit) => self.start_worker(permit, thread, f).map_err(|(err, _)| err),
            Err(NoPermit::ContextDone(worker)) => {
                let (result, receiver) = bounded(1);
                self.group.run_worker(worker, f, result);
                Ok(receiver)
            }
            Err(NoPermit::LimitReached | NoPermit::GroupOver) => {
                drop(f); // may panic, so before the channel is made, which would leak
                Ok(bounded(1).1)
            }
        }
    }

    /// Starts a worker unless the [limit](Scope::set_limit) is reached. Equivalent to errgroup's
    /// `TryGo`. Neither blocks nor panics.
    ///
    /// # Errors
    ///
    /// Returns `f` if it was not started: because of the limit, because the system refuses the
    /// thread, or because the group has failed or was [cancelled](Scope::cancel). The group does not
    /// fail because of that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let result: io::Result<()> = Context::background().scope(|s| {
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
    ///     Ok(())
    /// });
    /// assert!(result.is_ok());
    /// ```
    #[track_caller]
    pub fn try_spawn<F, R>(self, f: F) -> Result<Receiver<R>, F>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        match self.group.try_acquire(Location::caller()) {
            Ok(permit) => self
                .start_worker(permit, thread::Builder::new(), f)
                .map_err(|(_, f)| f),
            Err(_) => Err(f),
        }
    }

    /// Fails with `f` if the system refuses the thread.
    fn start_worker<F, R>(
        self,
        permit: Permit<'scope, E>,
        thread: thread::Builder,
        f: F,
    ) -> Result<Receiver<R>, (io::Error, F)>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        let (result, receiver) = bounded(1);
        // Shared with the thread, because a thread that is refused drops what it was given.
        let f = Arc::new(Mutex::new(Some(f)));
        let work = {
            let f = f.clone();
            move || {
                let taken = f.lock().take();
                if let Some(f) = taken {
                    permit.group.run_worker(permit.worker, f, result);
                }
                drop(permit);
            }
        };
        let started = self.threads.spawn(thread, Box::new(work));
        started.map(|()| receiver).map_err(|err| {
            let f = f.lock().take();
            (err, f.expect("only the thread takes it"))
        })
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

/// Runs `f` and the workers it spawns. Returns the first `most_errors` errors, in any order, each
/// with the index of its worker, or 0 for `f`.
#[track_caller]
fn run<'env, T, E, F>(parent: &Context, most_errors: usize, f: F) -> Result<T, Vec<(usize, E)>>
where
    F: for<'scope> FnOnce(Scope<'scope, 'env, E>) -> Result<T, E>,
    E: Display + Send + 'env,
{
    timer::retry_refused();
    let at = Location::caller();
    let node = Node::group(parent.node.clone());
    let group = Group {
        ctx: parent.child(&node),
        hooks: parent.hooks(),
        node,
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
        let function = Worker { index: 0, at };
        group.catch(function, || match f(scope) {
            Ok(returned) => value = Some(returned),
            Err(err) => group.fail(function, err),
        });
    });
    let function = Worker { index: 0, at };
    let ended = Origin::cancelled(CancelledBy::Group, at);
    group.catch(function, || group.node.cancel(ended));
    if group.has_failed() {
        group.catch(function, || drop(value.take()));
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
    node: Arc<Node>,
    hooks: Hooks,
    /// The maximum number of errors to keep.
    most_errors: usize,
    state: Mutex<State<E>>,
    /// Receives a token when a permit may be free. A waiting thread that takes it sends it on.
    permit_freed: (Sender<()>, Receiver<()>),
}

struct State<E> {
    limit: usize,
    active: usize,
    /// How many workers have been started so far.
    started: usize,
    /// Why the group was cancelled: the first error or panic, or the argument of `Scope::cancel`, and where.
    /// No worker is started from then on.
    end: Option<(Cause, Origin)>,
    /// Whether `Scope::cancel` was called, after which errors of workers do not count.
    is_cancelled: bool,
    /// How many errors have occurred.
    failures: usize,
    /// Each with the index of its worker.
    errors: Vec<(usize, E)>,
    panic: Option<Box<dyn Any + Send>>,
}

impl<E> Default for State<E> {
    fn default() -> Self {
        State {
            limit: usize::MAX,
            active: 0,
            started: 0,
            end: None,
            is_cancelled: false,
            failures: 0,
            errors: Vec::new(),
            panic: None,
        }
    }
}

impl<E> State<E> {
    fn next_worker(&mut self, at: &'static Location<'static>) -> Worker {
        self.started += 1;
        Worker {
            index: self.started,
            at,
        }
    }
}

/// Why a worker gets no permit.
enum NoPermit {
    LimitReached,
    /// The limit is reached, and the context is done.
    ContextDone(Worker),
    /// The group has failed or was cancelled.
    GroupOver,
}

impl<E> Group<E> {
    /// Waits for a permit, until the context is done.
    fn acquire(&self, at: &'static Location<'static>) -> Result<Permit<'_, E>, NoPermit> {
        let mut was_notified = false;
        loop {
            // Before the attempt, which finds out whether that is the end of the group.
            let is_done = self.ctx.err().is_some();
            match self.try_acquire(at) {
                Err(NoPermit::LimitReached) if is_done => {
                    let worker = self.state.lock().next_worker(at);
                    return Err(NoPermit::ContextDone(worker));
                }
                Err(NoPermit::LimitReached) => {}
                acquired => {
                    if was_notified {
                        self.notify_waiter();
                    }
                    return acquired;
                }
            }
            select_biased! {
                recv(self.ctx.done()) -> _ => {}
                recv(self.permit_freed.1) -> _ => was_notified = true,
                recv(timer::retry_channel()) -> _ => {}
            }
        }
    }

    fn try_acquire(&self, at: &'static Location<'static>) -> Result<Permit<'_, E>, NoPermit> {
        let mut state = self.state.lock();
        if let Some((cause, origin)) = state.end.clone() {
            drop(state);
            // The thread that has recorded the cause may not have cancelled the context yet.
            self.node.cancel_with(cause, origin);
            return Err(NoPermit::GroupOver);
        }
        if state.active >= state.limit {
            return Err(NoPermit::LimitReached);
        }
        state.active += 1;
        Ok(Permit {
            group: self,
            worker: state.next_worker(at),
        })
    }

    /// Wakes a waiting thread when a permit may be free. Must be called with the lock released.
    fn notify_waiter(&self) {
        let _ = self.permit_freed.0.try_send(()); // full: a token is there already
    }

    /// Runs a step of a worker. If it panics, the panic is recorded and the group is cancelled.
    fn catch(&self, worker: Worker, step: impl FnOnce()) {
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
        let failure = Failure::panic(worker, text);
        let end = (Arc::new(failure) as Cause, worker.failed());
        let mut later = None;
        // Only the recorded panic is resumed, not those that this leads to.
        unwind::swallow_panic(|| {
            self.cancel_with(end, |state| match state.panic {
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

    /// Records why the group ends, and cancels its context with the cause that was recorded first.
    fn cancel_with(&self, end: (Cause, Origin), record: impl FnOnce(&mut State<E>)) {
        let mut state = self.state.lock();
        record(&mut state);
        let (cause, origin) = state.end.get_or_insert_with(|| end.clone()).clone();
        drop(state);
        self.node.cancel_with(cause, origin);
    }
}

impl<E: Display> Group<E> {
    fn run_worker<R>(
        &self,
        worker: Worker,
        f: impl FnOnce(&Context) -> Result<R, E>,
        result: Sender<R>,
    ) {
        let work = || {
            self.catch(worker, || match f(&self.ctx) {
                Ok(value) => drop(result.send(value)), // the receiver may have been dropped
                Err(err) => self.fail(worker, err),
            });
            self.catch(worker, || drop(result));
        };
        self.catch(worker, || self.hooks.run(work)); // a hook may panic
    }

    /// Records an error of a worker, or of the function that spawns them, and cancels the group.
    fn fail(&self, worker: Worker, err: E) {
        let (written, is_written) = bounded(0);
        let cause = Arc::new(Failure::error(worker, is_written));
        let (mut is_first, mut is_kept) = (false, false);
        self.catch(worker, || {
            self.cancel_with((cause.clone(), worker.failed()), |state| {
                is_first = state.end.is_none();
                if worker.index == 0 || !state.is_cancelled {
                    is_kept = state.failures < self.most_errors;
                    state.failures += 1;
                }
            });
        });
        if is_first {
            self.catch(worker, || drop(cause.text.set(err.to_string())));
        }
        drop(written);
        if is_kept {
            self.state.lock().errors.push((worker.index, err));
        } else {
            self.catch(worker, || drop(err));
        }
    }
}

/// A worker of a group, or the function that spawns them.
#[derive(Clone, Copy)]
struct Worker {
    /// The number of the worker, from 1, or 0 for the function.
    index: usize,
    /// Where it was spawned, or the group was started.
    at: &'static Location<'static>,
}

impl Worker {
    /// Returns the origin of the cancellation when it has failed.
    fn failed(self) -> Origin {
        Origin::cancelled(CancelledBy::Group, self.at)
    }
}

/// The first failure of a group, as a cause. The group is cancelled before the text of an error is written,
/// because the error's `Display` is code of the user's, which may block.
pub(crate) struct Failure {
    worker: Worker,
    /// The name of the worker's thread.
    thread: Option<String>,
    is_panic: bool,
    text: OnceCell<String>,
    /// The thread that writes the text. It does not wait for it.
    writer: thread::ThreadId,
    /// Disconnected when there is a text, or when `Display` has panicked.
    is_written: Receiver<()>,
}

/// How long a thread that asks for the text waits for it.
const TEXT_LIMIT: Duration = Duration::from_secs(10);

impl Failure {
    fn error(worker: Worker, is_written: Receiver<()>) -> Failure {
        let thread = thread::current();
        Failure {
            worker,
            thread: thread.name().map(str::to_owned),
            is_panic: false,
            text: OnceCell::new(),
            writer: thread.id(),
            is_written,
        }
    }

    fn panic(worker: Worker, text: String) -> Failure {
        Failure {
            is_panic: true,
            text: OnceCell::with_value(text),
            ..Failure::error(worker, bounded(0).1)
        }
    }

    fn text(&self) -> &str {
        if self.text.get().is_none() && thread::current().id() != self.writer {
            let _ = self.is_written.recv_timeout(TEXT_LIMIT);
        }
        self.text.get().map_or("worker failed", String::as_str)
    }

    /// Returns what has failed, and how.
    pub(crate) fn describe(&self) -> String {
        let subject = match (self.worker.index, &self.thread) {
            (0, _) => "the group's function".to_owned(),
            (index, None) => format!("worker {index}"),
            (index, Some(thread)) => format!("worker {index} on thread {thread:?}"),
        };
        match self.is_panic {
            true => format!("{subject} {}", self.text()),
            false => format!("{subject} failed: {}", self.text()),
        }
    }
}

/// Writes the text of the error, or what has panicked and how.
impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_panic, self.worker.index) {
            (false, _) => f.pad(self.text()),
            (true, 0) => f.write_str(&self.describe()),
            (true, _) => write!(f, "{} (spawned at {})", self.describe(), self.worker.at),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(), f)
    }
}

impl StdError for Failure {}

/// A permit to run one worker, which counts as running until the permit is dropped.
struct Permit<'a, E> {
    group: &'a Group<E>,
    worker: Worker,
}

impl<E> Drop for Permit<'_, E> {
    fn drop(&mut self) {
        self.group.state.lock().active -= 1;
        self.group.notify_waiter();
    }
}
