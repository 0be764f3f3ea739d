//! What holds at any time, whatever other threads do.

use std::panic::{self, Location};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Instant;

use go_context::crossbeam_channel::Receiver;
use go_context::{AfterFunc, Cause, Context, Error};
use support::is_closed;

/// How many violations there were.
pub(crate) static BROKEN: AtomicU64 = AtomicU64::new(0);
/// For that many the place is printed.
const TOLD: u64 = 20;

/// Counts and prints a violation if the condition is false.
#[track_caller]
pub(crate) fn must(holds: bool, what: &str) {
    if !holds && BROKEN.fetch_add(1, Ordering::SeqCst) < TOLD {
        eprintln!("soak: {what} ({})", Location::caller());
    }
}

/// How many tokens there are.
pub(crate) static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Is owned by everything that a context owns, so that it is missed if that is leaked.
#[derive(Debug)]
pub(crate) struct Token(());

impl Token {
    pub(crate) fn new() -> Token {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Token(())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Error, cause and channel agree, in whatever order they are read, and no deadline is early.
pub(crate) fn look(ctx: &Context, done_first: bool) -> Option<Error> {
    if done_first && is_closed(&ctx.done()) {
        must(ctx.err().is_some(), "a context is done and has no error");
    }
    let err = ctx.err()?;
    must(
        is_closed(&ctx.done()),
        "a context has an error and is not done",
    );
    must(ctx.cause().is_some(), "a context has an error and no cause");
    must(ctx.err() == Some(err), "an error has changed");
    if err == Error::DeadlineExceeded {
        // It may have been a later one, of an ancestor.
        let passed = ctx.deadline().is_some_and(|at| at <= Instant::now());
        must(passed, "a deadline is early");
    }
    Some(err)
}

/// Checks a context that must be done.
pub(crate) fn must_be_done(ctx: &Context, what: &str) {
    must(look(ctx, false).is_some(), what);
}

/// The cause of a done context, if one was given.
pub(crate) fn is_because(ctx: &Context, given: &Cause) -> bool {
    ctx.cause().is_some_and(|cause| Arc::ptr_eq(&cause, given))
}

/// A child of a done context is done at once, with the same error and cause.
pub(crate) fn must_be_born_as(child: &Context, parent: Option<(Error, Cause)>) {
    let Some((err, cause)) = parent else { return };
    must(child.err() == Some(err), "a child is not born done");
    let plain = cause.is::<Error>();
    let same =
        is_because(child, &cause) || plain && child.cause().is_some_and(|it| it.is::<Error>());
    must(same, "a child has another cause");
}

/// The payload of an intended panic.
pub(crate) struct Planned;

/// How many such panics there were.
pub(crate) static PANICS: AtomicU64 = AtomicU64::new(0);

/// Suppresses the messages of intended panics.
pub(crate) fn expect_planned_panics() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| match info.payload().is::<Planned>() {
        true => drop(PANICS.fetch_add(1, Ordering::Relaxed)),
        false => hook(info),
    }));
}

/// What happened to all functions that were given to `after_func`.
#[derive(Default)]
pub(crate) struct Fates {
    pub(crate) registered: AtomicU64,
    pub(crate) ran: AtomicU64,
    pub(crate) stopped: AtomicU64,
    /// On contexts that are never done: dropped with their handles.
    pub(crate) idle: AtomicU64,
}

pub(crate) static FATES: Fates = Fates {
    registered: AtomicU64::new(0),
    ran: AtomicU64::new(0),
    stopped: AtomicU64::new(0),
    idle: AtomicU64::new(0),
};

impl Fates {
    /// Must be called when there is no context left.
    pub(crate) fn must_be_decided(&self) {
        let [registered, ran, stopped, idle] =
            [&self.registered, &self.ran, &self.stopped, &self.idle].map(load);
        must(
            registered == ran + stopped + idle,
            "a function neither ran nor was stopped",
        );
    }
}

pub(crate) fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::SeqCst)
}

/// A function that runs once or is stopped, and never both.
pub(crate) struct Function {
    handle: AfterFunc,
    is_idle: bool,
    fate: Arc<Fate>,
}

#[derive(Default)]
struct Fate {
    began: AtomicBool,
    ended: AtomicBool,
    was_stopped: AtomicBool,
}

impl Function {
    /// Registers a function that counts, and does `what`. When it runs, `done` is closed.
    pub(crate) fn new(
        ctx: &Context,
        done: Option<Receiver<()>>,
        what: impl FnOnce() + Send + 'static,
    ) -> Function {
        FATES.registered.fetch_add(1, Ordering::Relaxed);
        let is_idle = !ctx.is_cancellable();
        if is_idle {
            FATES.idle.fetch_add(1, Ordering::Relaxed);
        }
        let (fate, token) = (Arc::<Fate>::default(), Token::new());
        let handle = ctx.after_func({
            let fate = fate.clone();
            move || {
                let _token = token;
                let ran_before = fate.began.swap(true, Ordering::SeqCst);
                must(!ran_before, "a function has run twice");
                let was_stopped = fate.was_stopped.load(Ordering::SeqCst);
                must(!was_stopped, "a function runs that was stopped");
                must(
                    done.as_ref().map_or(true, is_closed),
                    "a function runs and the context is not done",
                );
                FATES.ran.fetch_add(1, Ordering::Relaxed);
                let _ended = Ended(fate);
                what();
            }
        });
        Function {
            handle,
            is_idle,
            fate,
        }
    }

    pub(crate) fn stop(self) {
        self.judge(self.handle.stop());
    }

    pub(crate) fn stop_and_wait(self) {
        let stopped = self.handle.stop_and_wait();
        self.judge(stopped);
        let over = stopped || self.fate.ended.load(Ordering::SeqCst);
        must(over, "a function runs on that was waited for");
    }

    fn judge(&self, stopped: bool) {
        if stopped {
            self.fate.was_stopped.store(true, Ordering::SeqCst);
            let began = self.fate.began.load(Ordering::SeqCst);
            must(!began, "a function was stopped that had run");
            if !self.is_idle {
                FATES.stopped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Records the end of a function, even if that is a panic.
struct Ended(Arc<Fate>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}
