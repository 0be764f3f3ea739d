//! What several modules share: assertions and custom contexts.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, Sender, TryRecvError};
use go_context::{Cause, Context, CustomContext, Error, Key};
use support::custom::PassThrough;
use support::{lock, LIMIT};

/// A deadline that a test waits for.
pub(crate) const SHORT: Duration = Duration::from_millis(1);

/// A name for a value.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Name(pub(crate) &'static str);

impl Key for Name {
    type Value = &'static str;
}

/// Asserts that the context is done now, with this error.
#[track_caller]
pub(crate) fn assert_err(ctx: &Context, err: Error) {
    let done = ctx.done().try_recv();
    assert_eq!(done, Err(TryRecvError::Disconnected), "{ctx}");
    assert_eq!(ctx.err(), Some(err), "{ctx}");
    assert!(ctx.cause().is_some(), "{ctx}");
}

/// Asserts that the context is done with this very cause.
#[track_caller]
pub(crate) fn assert_cause(ctx: &Context, err: Error, cause: &Cause) {
    assert_err(ctx, err);
    let found = ctx.cause().expect("it is done");
    assert!(Arc::ptr_eq(&found, cause), "{ctx}: {found}, not {cause}");
}

/// Asserts that the context is done and was given no cause, so that its error is the cause.
#[track_caller]
pub(crate) fn assert_no_cause(ctx: &Context, err: Error) {
    assert_err(ctx, err);
    let found = ctx.cause().expect("it is done");
    assert_eq!(found.downcast_ref(), Some(&err), "{ctx}: {found}");
}

/// Polls until there is a result.
#[track_caller]
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < LIMIT, "it never comes");
        thread::yield_now();
    }
}

pub(crate) fn forward(ctx: &Context) -> Context {
    Context::custom(PassThrough(ctx.clone()))
}

/// A context that a test cancels: it has a channel and an error of its own, and everything else from
/// the context that it wraps.
#[derive(Clone)]
pub(crate) struct Own(Arc<OwnState>);

struct OwnState {
    wrapped: Option<Context>,
    done: Receiver<()>,
    open: Mutex<Option<Sender<()>>>,
    err: Mutex<Option<Error>>,
}

impl Own {
    pub(crate) fn new(wrapped: Option<&Context>) -> Own {
        let (open, done) = bounded(0);
        Own(Arc::new(OwnState {
            wrapped: wrapped.cloned(),
            done,
            open: Mutex::new(Some(open)),
            err: Mutex::new(None),
        }))
    }

    pub(crate) fn context(&self) -> Context {
        Context::custom(self.clone())
    }

    /// The first call counts.
    pub(crate) fn cancel(&self, err: Error) {
        lock(&self.0.err).get_or_insert(err);
        drop(lock(&self.0.open).take());
    }
}

impl CustomContext for Own {
    fn done(&self) -> Receiver<()> {
        self.0.done.clone()
    }
    fn err(&self) -> Option<Error> {
        *lock(&self.0.err)
    }
    fn wrapped(&self) -> Option<&Context> {
        self.0.wrapped.as_ref()
    }
}

/// A context that never closes its channel: only its `after_func` reports that it is done.
#[derive(Clone)]
pub(crate) struct Service(Arc<ServiceState>);

struct ServiceState {
    done: Receiver<()>,
    _open: Sender<()>,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    err: Option<Error>,
    next: usize,
    functions: Vec<(usize, Box<dyn FnOnce() + Send>)>,
}

impl Service {
    pub(crate) fn new() -> Service {
        let (open, done) = bounded(0);
        Service(Arc::new(ServiceState {
            done,
            _open: open,
            registry: Mutex::default(),
        }))
    }

    pub(crate) fn context(&self) -> Context {
        Context::custom(self.clone())
    }

    /// Starts all registered functions, each on a thread of its own.
    pub(crate) fn cancel(&self) {
        let mut registry = lock(&self.0.registry);
        registry.err = Some(Error::Canceled);
        for (_, f) in registry.functions.drain(..) {
            thread::spawn(f);
        }
    }

    /// How many functions are registered now.
    pub(crate) fn registered(&self) -> usize {
        lock(&self.0.registry).functions.len()
    }
}

impl CustomContext for Service {
    fn done(&self) -> Receiver<()> {
        self.0.done.clone()
    }
    fn err(&self) -> Option<Error> {
        lock(&self.0.registry).err
    }
    fn after_func(&self, f: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        let mut registry = lock(&self.0.registry);
        let id = registry.next;
        registry.next += 1;
        registry.functions.push((id, f));
        let service = self.clone();
        Some(Box::new(move || {
            let mut registry = lock(&service.0.registry);
            registry.functions.retain(|(known, _)| *known != id);
        }))
    }
}
