//! Custom contexts.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex};

use go_context::crossbeam_channel::{bounded, Receiver, Sender};
use go_context::{Context, CustomContext, Error};

use crate::{is_closed, Task};

/// Has only a channel. Its error is [`Error::Canceled`] once that is closed.
pub struct Channel(pub Receiver<()>);

impl CustomContext for Channel {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }

    fn err(&self) -> Option<Error> {
        is_closed(&self.0).then_some(Error::Canceled)
    }
}

/// Passes everything through to the context that it wraps, including its done channel.
pub struct PassThrough(pub Context);

impl CustomContext for PassThrough {
    fn done(&self) -> Receiver<()> {
        self.0.done()
    }

    fn err(&self) -> Option<Error> {
        self.0.err()
    }

    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }
}

/// Passes everything through except the done channel: it has its own.
pub struct OwnDone(pub Context, pub Receiver<()>);

impl CustomContext for OwnDone {
    fn done(&self) -> Receiver<()> {
        self.1.clone()
    }

    fn err(&self) -> Option<Error> {
        self.0.err()
    }

    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }
}

/// The functions registered with a custom context that has an `after_func` of its own.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Registered>>);

#[derive(Default)]
struct Registered {
    next: usize,
    functions: BTreeMap<usize, Task>,
}

impl Registry {
    /// Adds a function. Returns one that removes it.
    pub fn register(&self, f: Task) -> Task {
        let mut registered = self.0.lock().unwrap();
        let number = registered.next;
        registered.next += 1;
        registered.functions.insert(number, f);
        let registry = self.clone();
        Box::new(move || {
            let f = registry.0.lock().unwrap().functions.remove(&number);
            drop(f); // without the lock
        })
    }

    /// Removes all functions, and returns them in the order in which they were registered.
    pub fn take_all(&self) -> Vec<Task> {
        let functions = mem::take(&mut self.0.lock().unwrap().functions);
        functions.into_values().collect()
    }

    /// Removes all functions, and calls them.
    pub fn call_all(&self) {
        self.take_all().into_iter().for_each(|f| f());
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().functions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Ends a custom context: closes its channel and calls the functions registered with it.
#[derive(Clone)]
pub struct Lever {
    open: Arc<Mutex<Option<Sender<()>>>>,
    registered: Registry,
}

impl Lever {
    /// Also returns the channel, which is open.
    pub fn new() -> (Lever, Receiver<()>) {
        let (open, done) = bounded(0);
        let lever = Lever {
            open: Arc::new(Mutex::new(Some(open))),
            registered: Registry::default(),
        };
        (lever, done)
    }

    pub fn close(&self) {
        let open = self.open.lock().unwrap().take();
        drop(open);
        self.registered.call_all();
    }

    /// Like [`Registry::register`], but calls the function at once if the channel is closed.
    pub fn register(&self, f: Task) -> Task {
        let open = self.open.lock().unwrap();
        if open.is_some() {
            return self.registered.register(f);
        }
        drop(open);
        f();
        Box::new(|| ())
    }

    /// Returns whether no function is registered.
    pub fn is_idle(&self) -> bool {
        self.registered.is_empty()
    }
}
