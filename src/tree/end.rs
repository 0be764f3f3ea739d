//! The end of a node that nobody holds: it is cancelled by that.

use std::mem;

use super::{Child, Kind, Node, Presence, CANCELED, OPEN};
use crate::pool::{self, Task};
use crate::sync::{Arc, Ordering};
use crate::unwind::FirstPanic;

impl Drop for Node {
    #[inline]
    fn drop(&mut self) {
        if self.tie.is_some() || !self.is_bare() {
            self.let_go();
        }
    }
}

impl Node {
    /// A long chain is let go in a loop: the stack of the thread that drops the last handle may be
    /// small.
    fn let_go(&mut self) {
        let mut panics = FirstPanic::default();
        let mut more = Vec::new();
        let mut next = match self.is_bare() {
            true => self.take_parent(),
            false => self.abandon(&mut panics, &mut more),
        };
        while let Some(mut parent) = next.or_else(|| more.pop()) {
            next = match Arc::get_mut(&mut parent) {
                // The most frequent case, in which the node need not be moved.
                Some(node) if node.is_bare() => node.take_parent(),
                _ => Arc::into_inner(parent)
                    .and_then(|mut node| node.abandon(&mut panics, &mut more)),
            };
        }
        panics.resume();
    }

    /// Whether it owns nothing but its hold on its parent.
    fn is_bare(&self) -> bool {
        self.kind.is_plain() && self.hub.get().is_none()
    }

    /// The end of a node that nobody holds. Returns its parent, for the caller to let go; if it has
    /// a second one, that goes into `more`.
    fn abandon(&mut self, panics: &mut FirstPanic, more: &mut Vec<Arc<Node>>) -> Option<Arc<Node>> {
        if self.hub.get().is_some() {
            self.close_down(panics);
        }
        if !self.kind.is_plain() {
            match mem::replace(&mut self.kind, Kind::Detached) {
                Kind::Merge(second) => more.extend(second.map(|tie| tie.parent)),
                kind => panics.catch(|| drop(kind)),
            }
        }
        self.take_parent()
    }

    fn take_parent(&mut self) -> Option<Arc<Node>> {
        self.tie.take().map(|tie| tie.parent)
    }

    /// Ends what others have left at a node that nobody holds.
    fn close_down(&mut self, panics: &mut FirstPanic) {
        let open = self.is_cancellable() && self.phase.load(Ordering::Relaxed) == OPEN;
        if open {
            self.phase.store(CANCELED, Ordering::Relaxed);
            self.hub().done.close();
            self.disarm();
        }
        let state = mem::take(&mut *self.hub().state.lock());
        let mut ready: Vec<Task> = Vec::new();
        if open {
            // Nodes there are none among them: they would hold this one.
            ready.extend(state.children.into_iter().filter_map(|child| match child {
                Child::Callback(callback) => callback.start(),
                Child::Node(..) => None,
            }));
        }
        let watches = self.detach(Presence::Gone);
        ready.into_iter().for_each(pool::start);
        drop((state.watch, watches));
        if let Some(cancellation) = state.cancellation {
            panics.catch(|| drop(cancellation));
        }
    }
}

impl Kind {
    /// Whether there is nothing in it that has to be dropped.
    fn is_plain(&self) -> bool {
        match self {
            Kind::Todo | Kind::Cancel | Kind::Detached | Kind::Seat => true,
            Kind::Deadline { cause, .. } => cause.is_none(),
            Kind::Signals(_) | Kind::Merge(_) | Kind::Custom(_) => false,
        }
    }
}
