//! Groups: scoped threads with one context and one end. Go's errgroup on std's scopes.
//!
//! What a worker leaves behind goes this way, and no other: its error or its panic is recorded, the
//! group is cancelled, its channel is disconnected, its slot comes free. So whoever sees a later step
//! finds the earlier ones taken. The group has one lock, under which nothing of the user's runs and
//! no other lock is taken.

use std::any::Any;
use std::fmt::{self, Display};
use std::io;
use std::marker::PhantomData;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use crossbeam_channel::{bounded, select_biased, Receiver, Sender};

use crate::cancel::CancelCauseFunc;
use crate::context::Context;
use crate::error::{into_cause, Cause};
use crate::sync::{thread, Mutex};
use crate::unwind;

impl Context {
    /// Runs a group of threads that may borrow from the stack: Go's errgroup, on
    /// [`std::thread::scope`].
    ///
    /// `f` gets a [`Scope`] to spawn workers with, and each worker gets the group's own context, a
    /// child of this one. The first error that a worker returns cancels that context, with the text
    /// of the error as its cause, so that the others stop, and new ones are not started. When all of
    /// them have ended, and `f` has, the group's context is done in any case, and `scope` returns.
    ///
    /// It blocks until then, for no thread outlives it. (As with std's scope, what a worker's thread
    /// may still be doing by then is to drop its thread-locals.)
    ///
    /// The type of the error is yours, and usually has to be said, as in the example. It has to be made
    /// from an [`io::Error`], for there may be no thread to be had; `io::Error` itself serves,
    /// `anyhow::Error`, a `Box<dyn std::error::Error + Send + Sync>`, or an enum with such a variant.
    ///
    /// # Errors
    ///
    /// - The first error of a worker, first in time. [`scope_all`](Context::scope_all) has them all.
    /// - The `io::Error` of the system if a thread cannot be spawned. It counts as a worker's error.
    /// - The context's own [`Error`](crate::Error), made an `io::Error`, if nothing failed but work was
    ///   not started because the context was done. So `Ok` says that each worker that was asked for
    ///   has run, and succeeded.
    ///
    /// A cancelled context alone is no error: workers that return `Ok` have succeeded.
    ///
    /// # Panics
    ///
    /// A panic of a worker, or of `f`, cancels the group just as an error does, and is resumed here
    /// when all have ended, whatever else failed. Of several it is the first.
    ///
    /// # Differences from errgroup
    ///
    /// A group that has failed starts no more work, a panic reaches the caller, and a group ends with
    /// its scope, where it cannot be used again:
    ///
    /// ```compile_fail,E0521
    /// # use std::io;
    /// let mut escaped = None;
    /// let _: Result<(), io::Error> = go_context::Context::background().scope(|s| escaped = Some(s));
    /// ```
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{fs, io};
    /// use go_context::Context;
    ///
    /// fn lines(ctx: &Context, path: &str) -> Result<usize, io::Error> {
    ///     ctx.check()?;
    ///     Ok(fs::read_to_string(path)?.lines().count())
    /// }
    ///
    /// let paths = ["Cargo.toml", "README.md", "no such file"];
    /// let counted: Result<(), io::Error> = Context::background().scope(|s| {
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

    /// [`scope`](Context::scope), with all the errors of the workers, in the order in which they were
    /// spawned.
    ///
    /// The first error in time cancels the group all the same: the others are of workers that failed
    /// besides, or because of it.
    ///
    /// # Errors
    ///
    /// As with `scope`, and never an empty list.
    ///
    /// # Panics
    ///
    /// As with `scope`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let all: Result<(), Vec<io::Error>> = Context::background().scope_all(|s| {
    ///     for name in ["first", "second"] {
    ///         s.spawn(move |ctx| -> Result<(), _> {
    ///             if name == "first" {
    ///                 ctx.wait();
    ///             }
    ///             Err(io::Error::other(name))
    ///         });
    ///     }
    /// });
    /// let texts: Vec<String> = all.unwrap_err().iter().map(io::Error::to_string).collect();
    /// assert_eq!(texts, ["first", "second"]);
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

/// Spawns the workers of a group. See [`Context::scope`].
///
/// It can be copied, and moved into a worker, which may then spawn others:
///
/// ```
/// use std::{fs, io, path::Path, sync::atomic::{AtomicU64, Ordering}};
/// use go_context::{Context, Scope};
///
/// /// The size of all files below a directory, with a thread for each directory.
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
/// Context::background().scope(|s| visit(s, Path::new("src"), &size))??;
/// assert!(size.into_inner() > 0);
/// # Ok::<(), io::Error>(())
/// ```
pub struct Scope<'scope, 'env: 'scope, E> {
    group: &'scope Group<E>,
    threads: &'scope dyn Threads<'scope>,
    /// `'env` stays as it is, as in std's scope: what outlives the scope can be borrowed, and no more.
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
    /// The group's context, which the workers get too.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{io, time::Duration};
    /// use go_context::Context;
    ///
    /// let failed: Result<_, io::Error> = Context::background().scope(|s| {
    ///     s.spawn(|_| -> Result<(), _> { Err(io::Error::other("no more disk")) });
    ///     s.context().wait(); // `f` can watch the group as well as its workers can
    /// });
    /// assert_eq!(failed.unwrap_err().to_string(), "no more disk");
    /// ```
    #[must_use]
    pub fn context(self) -> &'scope Context {
        &self.group.ctx
    }

    /// Lets at most `limit` workers run at once: errgroup's `SetLimit`. At first there is no limit.
    ///
    /// It may be changed at any time. Workers that run are left alone; with a limit of zero none is
    /// started until it is raised.
    ///
    /// Without a limit there are as many threads as workers, and some ten thousand of them at once are
    /// more than most systems can bear.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let ended: io::Result<()> = ctx.scope(|s| {
    ///     s.set_limit(1);
    ///     s.spawn(|ctx| Ok(ctx.wait()));
    ///     assert!(s.try_spawn(|_| Ok(())).is_err());
    ///     s.set_limit(2);
    ///     assert!(s.try_spawn(|_| Ok(())).is_ok());
    ///     cancel.cancel();
    /// });
    /// assert!(ended.is_ok());
    /// ```
    pub fn set_limit(self, limit: usize) {
        self.group.state.lock().limit = limit;
        self.group.nudge();
    }

    /// Starts a worker on a thread of its own: errgroup's `Go`.
    ///
    /// Blocks while as many workers run as the [limit](Scope::set_limit) allows. That ends with the
    /// group's context: when it is done, `f` is dropped and not run. A worker that spawns holds its
    /// own slot meanwhile, so where all of them do it they may wait for each other; use
    /// [`try_spawn`](Scope::try_spawn) there.
    ///
    /// The channel that is returned brings what the worker returns, if that is `Ok`. If it fails,
    /// panics or is not run, the channel is disconnected with nothing in it, and the group's context is
    /// done. Receive from it to join the worker, with [`Context::recv`] to do so under a context, or
    /// drop it.
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
    /// A worker cannot borrow what `f` owns, for it may run longer:
    ///
    /// ```compile_fail,E0597
    /// # use std::io;
    /// let _: io::Result<()> = go_context::Context::background().scope(|s| {
    ///     let numbers = vec![1, 2, 3];
    ///     for number in &numbers {
    ///         s.spawn(move |_| Ok(println!("{number}")));
    ///     }
    /// });
    /// ```
    ///
    /// nor anything that has to stay on its thread:
    ///
    /// ```compile_fail,E0277
    /// # use std::{cell::Cell, io};
    /// let count = Cell::new(0);
    /// let _: io::Result<()> = go_context::Context::background().scope(|s| {
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

    /// [`spawn`](Scope::spawn) on a thread with a name, or with a stack of another size.
    ///
    /// # Panics
    ///
    /// If the name has a null byte in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{io, thread};
    /// use go_context::Context;
    ///
    /// let ended: io::Result<()> = Context::background().scope(|s| {
    ///     let thread = thread::Builder::new().name("fetch".into()).stack_size(64 * 1024);
    ///     let name = s.spawn_with(thread, |_| Ok(thread::current().name().map(String::from)));
    ///     assert_eq!(name.recv().unwrap().unwrap(), "fetch");
    /// });
    /// assert!(ended.is_ok());
    /// ```
    pub fn spawn_with<F, R>(self, thread: thread::Builder, f: F) -> Receiver<R>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        match self.group.wait_for_slot() {
            Some(slot) => self.start(slot, thread, f),
            None => {
                drop(f); // which may panic: not with a channel about to be returned, that would leak
                bounded(1).1
            }
        }
    }

    /// Starts a worker if a slot is free and the group's context is not done: errgroup's `TryGo`.
    /// Does not block.
    ///
    /// # Errors
    ///
    /// What was to be run, if it was not. That is no error of the group.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    ///
    /// fn sum(s: go_context::Scope<'_, '_, io::Error>, numbers: &[u64]) -> io::Result<u64> {
    ///     Ok(numbers.iter().sum())
    /// }
    /// Context::background().scope(|s| {
    ///     s.set_limit(1);
    ///     for numbers in [[1, 2], [3, 4]] {
    ///         // Where all threads are busy this one does it.
    ///         if let Err(f) = s.try_spawn(move |_| sum(s, &numbers)) {
    ///             f(s.context())?;
    ///         }
    ///     }
    ///     Ok::<(), io::Error>(())
    /// })??;
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn try_spawn<F, R>(self, f: F) -> Result<Receiver<R>, F>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        self.try_spawn_with(thread::Builder::new(), f)
    }

    /// [`try_spawn`](Scope::try_spawn) on a thread with a name, or with a stack of another size.
    ///
    /// # Errors
    ///
    /// As with `try_spawn`.
    ///
    /// # Panics
    ///
    /// If the name has a null byte in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{io, thread};
    /// use go_context::Context;
    ///
    /// let ended: io::Result<()> = Context::background().scope(|s| {
    ///     let thread = thread::Builder::new().name("spare".into());
    ///     assert!(s.try_spawn_with(thread, |_| Ok(())).is_ok());
    /// });
    /// assert!(ended.is_ok());
    /// ```
    pub fn try_spawn_with<F, R>(self, thread: thread::Builder, f: F) -> Result<Receiver<R>, F>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        match self.group.slot() {
            Some(slot) => Ok(self.start(slot, thread, f)),
            None => Err(f),
        }
    }

    fn start<F, R>(self, slot: Slot<'scope, E>, thread: thread::Builder, f: F) -> Receiver<R>
    where
        F: FnOnce(&Context) -> Result<R, E> + Send + 'scope,
        R: Send + 'scope,
    {
        let (result, receiver) = bounded(1);
        let (group, index) = (slot.group, slot.index);
        let work = Box::new(move || {
            group.catch(|| match f(&group.ctx) {
                Ok(value) => drop(result.send(value)), // perhaps to nobody
                Err(err) => group.fail(index, err),
            });
            group.catch(|| drop(result));
            drop(slot);
        });
        if let Err(err) = self.threads.start(thread, work) {
            group.catch(|| group.fail(index, E::from(err)));
        }
        receiver
    }
}

/// std's scope, without its second lifetime, which is that of a variable in [`run`].
trait Threads<'scope>: Sync {
    fn start(
        &'scope self,
        thread: thread::Builder,
        work: Box<dyn FnOnce() + Send + 'scope>,
    ) -> io::Result<()>;
}

impl<'scope> Threads<'scope> for thread::Scope<'scope, '_> {
    fn start(
        &'scope self,
        thread: thread::Builder,
        work: Box<dyn FnOnce() + Send + 'scope>,
    ) -> io::Result<()> {
        thread.spawn_scoped(self, work).map(drop)
    }
}

/// Runs `f` and the workers it spawns. The errors are in the order of time, at most so many of them.
fn run<'env, T, E, F>(parent: &Context, most_errors: usize, f: F) -> Result<T, Vec<(usize, E)>>
where
    F: for<'scope> FnOnce(Scope<'scope, 'env, E>) -> T,
    E: Display + From<io::Error> + Send,
{
    let (ctx, cancel) = parent.with_cancel_cause();
    let group = Group {
        ctx,
        cancel,
        most_errors,
        state: Mutex::new(State::default()),
        freed: bounded(1),
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
    group.catch(|| group.answer_for_refused());
    group.catch(|| drop(group.cancel.clone().drop_guard()));
    if group.has_failed() {
        group.catch(|| drop(value.take()));
    }

    let state = group.state.into_inner();
    if let Some(payload) = state.panic {
        // Another panic on the way would abort the process.
        for err in state.errors {
            unwind::contain(|| drop(err));
        }
        resume_unwind(payload);
    }
    value.ok_or(state.errors)
}

struct Group<E> {
    ctx: Context,
    cancel: CancelCauseFunc,
    /// How many errors to keep.
    most_errors: usize,
    state: Mutex<State<E>>,
    /// Says that a slot may be free, to one of those who wait. Who gets it passes it on.
    freed: (Sender<()>, Receiver<()>),
}

struct State<E> {
    limit: usize,
    active: usize,
    /// How many slots have been given so far.
    started: usize,
    /// Whether work was not started because the context was done.
    refused: bool,
    /// With the number of the worker, in the order of time.
    errors: Vec<(usize, E)>,
    panic: Option<Box<dyn Any + Send>>,
    /// Why the group was cancelled: by the first of its errors and panics.
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
    /// Waits for a slot. `None`: the group's context is done.
    fn wait_for_slot(&self) -> Option<Slot<'_, E>> {
        let mut told = false;
        loop {
            if let Some(slot) = self.slot() {
                if told {
                    self.nudge();
                }
                return Some(slot);
            }
            if self.ctx.err().is_some() {
                self.state.lock().refused = true;
                return None;
            }
            select_biased! {
                recv(self.ctx.done()) -> _ => {}
                recv(self.freed.1) -> _ => told = true,
            }
        }
    }

    fn slot(&self) -> Option<Slot<'_, E>> {
        let mut state = self.state.lock();
        if state.active >= state.limit {
            return None;
        }
        state.active += 1;
        state.started += 1;
        let slot = Slot {
            group: self,
            index: state.started,
        };
        drop(state);
        // Asked only now: the slot may be that of a worker which has failed.
        self.ctx.err().is_none().then_some(slot)
    }

    /// To be called with the lock released, when a slot may have come free.
    fn nudge(&self) {
        let _ = self.freed.0.try_send(()); // full: somebody is being told already
    }

    /// Runs a step of a worker. A panic in it ends the group.
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
        // The panic to be told is the one on record, not what this leads to.
        unwind::contain(|| {
            self.end(text, |state| match state.panic {
                Some(_) => later = Some(payload),
                None => state.panic = Some(payload),
            });
        });
        unwind::contain(|| drop(later));
    }

    fn has_failed(&self) -> bool {
        let state = self.state.lock();
        state.panic.is_some() || !state.errors.is_empty()
    }

    /// Cancels the group, with the text of whoever came first.
    fn end(&self, text: String, record: impl FnOnce(&mut State<E>)) {
        let own = into_cause(text);
        let mut state = self.state.lock();
        record(&mut state);
        let first = state.cause.get_or_insert(own).clone();
        drop(state);
        self.cancel.cancel(first);
    }
}

impl<E: Display + From<io::Error>> Group<E> {
    fn fail(&self, index: usize, err: E) {
        let mut text = String::new();
        self.catch(|| text = err.to_string());
        let mut surplus = None;
        self.catch(|| {
            self.end(text, |state| {
                if state.errors.len() < self.most_errors {
                    state.errors.push((index, err));
                } else {
                    surplus = Some(err);
                }
            });
        });
        self.catch(|| drop(surplus));
    }

    /// Work that was not started is an error, if there is no other.
    fn answer_for_refused(&self) {
        let state = self.state.lock();
        let only = state.refused && state.errors.is_empty();
        drop(state);
        if let (true, Some(err)) = (only, self.ctx.err()) {
            let err = E::from(err.into());
            self.state.lock().errors.push((0, err));
        }
    }
}

/// The right to run one worker.
struct Slot<'a, E> {
    group: &'a Group<E>,
    index: usize,
}

impl<E> Drop for Slot<'_, E> {
    fn drop(&mut self) {
        self.group.state.lock().active -= 1;
        self.group.nudge();
    }
}
