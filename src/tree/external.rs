//! What the tree needs of a custom context, and how its end is noticed.
//!
//! All of a custom context may be code of the user's. It is called with no lock held, and never by a
//! cancellation on its way.
//!
//! A custom context is *watched* while it has children: by itself, if its `after_func` accepts a
//! function, and otherwise by a thread that waits for its channel. Its `after_func` may block. A child
//! that is inserted meanwhile must not wait for that, so for it the thread is started in any case. The
//! thread ends a moment after the last child, so that one short child after another does not start
//! a thread each.

use std::fmt;

use crossbeam_channel::{bounded, never, Receiver, Sender, TryRecvError};
use once_cell::race::OnceBox;

use super::Node;
use crate::error::{Cause, Error};
use crate::runtime::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::runtime::{unwind, watcher, Task};

/// A custom context, as far as cancellation goes.
pub(crate) trait ExternalSource: Send + Sync {
    fn err(&self) -> Option<Error>;
    fn cause(&self) -> Option<Cause>;
    /// Registers `f` to be called when the context is done, and returns what unregisters it. Returns
    /// `None` if the context cannot do that.
    fn after_func(&self, f: Task) -> Option<Task>;
    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

pub(crate) struct External {
    source: Box<dyn ExternalSource>,
    done: Receiver<()>,
    /// How it ended: the first answer, so that it stays the same.
    outcome: OnceBox<Outcome>,
    /// Locked after the node's lock where both are needed. `stop_watch` runs without the node's lock,
    /// after the table of children has been taken.
    watch: Mutex<Watch>,
}

pub(super) struct Outcome {
    pub(super) error: Error,
    pub(super) cause: Option<Cause>,
}

#[derive(Default)]
struct Watch {
    /// Whether the context's `after_func` is being called.
    is_registering: bool,
    registered: Option<Unregister>,
    /// Sends to the thread when the last child has gone. Dropping it ends the thread.
    thread: Option<Sender<()>>,
}

/// What to do next, with the node's lock released.
pub(super) enum WatchStep {
    None,
    /// Call the context's `after_func`.
    CallAfterFunc,
    /// Start the thread.
    StartThread(Receiver<()>),
}

impl External {
    pub(crate) fn new(source: Box<dyn ExternalSource>, done: Receiver<()>) -> External {
        External {
            source,
            done,
            outcome: OnceBox::new(),
            watch: Mutex::default(),
        }
    }

    pub(super) fn is_cancellable(&self) -> bool {
        !self.done.same_channel(&never())
    }

    pub(super) fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    /// Returns whether the done channel is disconnected, whatever messages it carries.
    pub(super) fn is_done(&self) -> bool {
        (0..=self.done.len()).any(|_| self.done.try_recv() == Err(TryRecvError::Disconnected))
    }

    pub(super) fn has_outcome(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Returns how the context ended; it must be done. One that returns no error, or panics, counts as
    /// cancelled.
    pub(super) fn outcome(&self) -> &Outcome {
        if let Some(outcome) = self.outcome.get() {
            return outcome;
        }
        let (mut error, mut cause) = (None, None);
        unwind::swallow_panic(|| error = self.source.err());
        unwind::swallow_panic(|| cause = self.source.cause());
        let outcome = Outcome {
            error: error.unwrap_or(Error::Canceled),
            cause,
        };
        // If two threads have asked, the first answer counts.
        let late = self.outcome.set(Box::new(outcome));
        drop(late);
        self.outcome.get().expect("set above")
    }

    pub(crate) fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.name(f)
    }

    /// Begins to watch the context after a child was inserted, if nothing watches it yet.
    pub(super) fn begin_watch(&self, has_children: bool) -> WatchStep {
        let mut watch = self.watch.lock();
        if !has_children || watch.registered.is_some() || watch.thread.is_some() {
            return WatchStep::None;
        }
        if watch.is_registering {
            return watch.add_thread();
        }
        watch.is_registering = true;
        WatchStep::CallAfterFunc
    }

    /// Calls the context's `after_func`.
    pub(super) fn after_func(&self, on_done: impl FnOnce() + Send + 'static) -> Option<Unregister> {
        let called = Arc::new(AtomicBool::new(false));
        let f = {
            let called = called.clone();
            move || {
                called.store(true, Ordering::Relaxed);
                on_done();
            }
        };
        let stop = self.source.after_func(Box::new(f))?;
        Some(Unregister { stop, called })
    }

    /// Stores what `after_func` returned, if the context still has children. The caller must call a
    /// returned `Unregister`.
    pub(super) fn store_registration(
        &self,
        registered: Option<Unregister>,
        has_children: bool,
    ) -> (WatchStep, Option<Unregister>) {
        let mut watch = self.watch.lock();
        watch.is_registering = false;
        if !has_children {
            return (WatchStep::None, registered);
        }
        if registered.is_some() {
            watch.registered = registered;
            watch.thread = None;
        } else if watch.thread.is_none() {
            return (watch.add_thread(), None);
        }
        (WatchStep::None, None)
    }

    /// Ends the watch; the thread stays for a moment. The caller must call a returned `Unregister`.
    pub(super) fn last_child_removed(&self) -> Option<Unregister> {
        let mut watch = self.watch.lock();
        if let Some(thread) = &watch.thread {
            let _ = thread.try_send(()); // full: the thread has yet to look
        }
        watch.registered.take()
    }

    /// Ends the watch for good. The caller must call a returned `Unregister`.
    pub(super) fn stop_watch(&self) -> Option<Unregister> {
        let mut watch = self.watch.lock();
        watch.thread = None;
        watch.registered.take()
    }

    /// Starts the thread that waits for the channel and then calls `on_done`.
    pub(super) fn start_thread(
        &self,
        control: Receiver<()>,
        node: &Arc<Node>,
        on_done: impl FnOnce() + Clone + Send + 'static,
    ) {
        let node = Arc::downgrade(node);
        let end_if_idle = move || node.upgrade().map_or(true, |node| node.end_idle_watch());
        watcher::start(self.done.clone(), control, end_if_idle, on_done);
    }
}

impl Watch {
    fn add_thread(&mut self) -> WatchStep {
        let (thread, control) = bounded(1);
        self.thread = Some(thread);
        WatchStep::StartThread(control)
    }
}

impl Node {
    /// Ends the watching thread, unless the context has children again.
    fn end_idle_watch(&self) -> bool {
        let Some(external) = self.external() else {
            return true;
        };
        let state = self.state.lock();
        let is_idle = state.children.is_empty();
        if is_idle {
            external.watch.lock().thread = None;
        }
        is_idle
    }
}

/// Unregisters what a custom context was asked to call.
pub(super) struct Unregister {
    stop: Task,
    /// Whether the context has called it; then there is nothing to unregister.
    called: Arc<AtomicBool>,
}

impl Unregister {
    pub(super) fn call(self) {
        if self.called.load(Ordering::Relaxed) {
            return unwind::swallow_panic(|| drop(self));
        }
        unwind::swallow_panic(self.stop);
    }
}
