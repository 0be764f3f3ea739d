//! One cancellation: what it says to every node that it claims, and how far it has come.
//!
//! Two cancellations may be under way in overlapping parts of the tree. Each node is claimed by
//! one; the other *meets* it there, goes round, and waits for it at the end. Only a cancellation
//! that has finished its own nodes waits, so none waits for one that waits for it.

use std::mem;

use crate::error::Cause;
use crate::sync::{Arc, Condvar, Mutex};

pub(crate) struct Cancellation {
    cause: Option<Cause>,
    progress: Mutex<Progress>,
    finish: Condvar,
}

#[derive(Default)]
struct Progress {
    /// Whether the walk has claimed and closed all that it came to.
    finished: bool,
    /// How many nodes the walk came to when their last handle had just gone, less those that have said
    /// since that they are done. They may do so before they are counted.
    leaving: isize,
    /// The cancellations that the walk met, until they have settled too.
    met: Vec<Arc<Cancellation>>,
    /// How many threads wait for the finish. There seldom are any, and to wake nobody costs a
    /// system call.
    waiting: usize,
}

impl Progress {
    fn is_finished(&self) -> bool {
        self.finished && self.leaving == 0
    }
}

impl Cancellation {
    pub(crate) fn new(cause: Option<Cause>) -> Arc<Cancellation> {
        Arc::new(Cancellation {
            cause,
            progress: Mutex::new(Progress::default()),
            finish: Condvar::new(),
        })
    }

    /// One that claims no nodes.
    pub(crate) fn settled(cause: Cause) -> Arc<Cancellation> {
        let cancellation = Cancellation::new(Some(cause));
        cancellation.progress.lock().finished = true;
        cancellation
    }

    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Whether all its nodes are done, and all those of the cancellations that it met.
    pub(crate) fn is_settled(&self) -> bool {
        let progress = self.progress.lock();
        progress.is_finished() && progress.met.is_empty()
    }

    /// A node that the walk cannot visit any more is done.
    pub(crate) fn left(&self) {
        self.advance(|progress| progress.leaving -= 1);
    }

    fn advance(&self, step: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock();
        step(&mut progress);
        let wake = progress.waiting > 0 && progress.is_finished();
        drop(progress);
        if wake {
            self.finish.notify_all();
        }
    }

    /// Ends a walk: says that its own part is finished, waits until those it met have settled, and
    /// says that. Whom they have met is added to `met`.
    pub(crate) fn settle(&self, met: &mut Vec<Arc<Cancellation>>, leaving: usize) {
        self.advance(|progress| {
            progress.finished = true;
            progress.leaving += leaving as isize;
            progress.met.clone_from(met);
        });

        self.wait();
        wait_all(met);
        let settled = mem::take(&mut self.progress.lock().met);
        drop(settled); // with the lock given back
    }

    /// Waits until all its own nodes are done, and returns the cancellations that it met.
    fn wait(&self) -> Vec<Arc<Cancellation>> {
        let mut progress = self.progress.lock();
        progress.waiting += 1;
        let mut progress = self
            .finish
            .wait_while(progress, |progress| !progress.is_finished());
        progress.waiting -= 1;
        progress.met.clone()
    }
}

/// Adds a cancellation to a list, once.
pub(crate) fn meet(met: &mut Vec<Arc<Cancellation>>, other: Arc<Cancellation>) {
    if !met.iter().any(|known| Arc::ptr_eq(known, &other)) {
        met.push(other);
    }
}

/// Waits for all in the list, and for all whom they have met, who are added to it.
pub(crate) fn wait_all(met: &mut Vec<Arc<Cancellation>>) {
    let mut next = 0;
    while let Some(other) = met.get(next).cloned() {
        for further in other.wait() {
            meet(met, further);
        }
        next += 1;
    }
}
