//! A node that nobody has looked at, and how it settles.
//!
//! Most contexts are derived, handed on and dropped, and nobody ever waits for one or asks it
//! anything. So a node makes itself known to those who can end it only when somebody first looks at
//! it: asks for its error or its channel, or hangs a callback or a settled child on it. Until then it
//! is as done as its parent is.
//!
//! What a node waits for besides its one parent cannot be told afterwards: whether a deadline passed
//! before the parent was cancelled, which of two parents was first. A node with more than one end to
//! it, or under a custom context, settles when it is made.

use std::time::Instant;

use super::{error, is_claimed, phase, Child, Kind, Node, Presence, LOOSE, OPEN};
use crate::cancellation::Cancellation;
use crate::error::{Cause, Error};
use crate::sync::{Arc, Ordering};

impl Node {
    pub(super) fn is_loose(&self) -> bool {
        self.phase.load(Ordering::Acquire) == LOOSE
    }

    pub(super) fn settled(self) -> Arc<Node> {
        let node = Arc::new(self);
        node.settle();
        node
    }

    /// Makes the node known to those who can end it; its parents first, however many above it
    /// nobody has looked at.
    pub(super) fn settle(self: &Arc<Self>) {
        let mut below = Vec::new();
        let mut node = self;
        loop {
            let parents = node.ties().map(|(_, tie)| &tie.parent);
            if let Some(parent) = parents.into_iter().find(|parent| parent.is_loose()) {
                below.push(node);
                node = parent;
                continue;
            }
            node.enrol();
            match below.pop() {
                Some(child) => node = child,
                None => return,
            }
        }
    }

    /// Settles a node whose parents are settled. Several threads may be at it.
    fn enrol(self: &Arc<Self>) {
        self.hub();
        let (mut entered, mut ended) = (false, false);
        for (rank, tie) in self.ties() {
            if !tie.parent.is_cancellable() {
                continue;
            }
            let child = Child::Node(Arc::downgrade(self), rank);
            match tie.parent.admit(child, &tie.slot) {
                Ok(admitted) => entered |= admitted,
                Err(found) => {
                    ended = self.inherit(&tie.parent, found);
                    break;
                }
            }
        }
        let change = (Ordering::AcqRel, Ordering::Acquire);
        match self.phase.compare_exchange(LOOSE, OPEN, change.0, change.1) {
            Ok(_) => self.arm(),
            // It was done before it had its place, so it has to leave it. Unless another thread had
            // opened it meanwhile: then it may have descendants, and whoever has claimed it takes it
            // out of its place when they are done.
            Err(phase) if entered && is_claimed(phase) => {
                let claim = self.cancellation();
                if ended || claim.map_or(true, |claim| claim.is_settled()) {
                    drop(self.detach(Presence::Held));
                }
            }
            Err(_) => {}
        }
    }

    /// Ends a loose node as its parent has ended. False if it is not loose any more.
    fn inherit(&self, parent: &Node, found: u8) -> bool {
        parent.wait_closed(found); // not to be done before the parent is
        let (error, cancellation) = match &parent.kind {
            Kind::Custom(foreign) => {
                let (error, cause) = foreign.end();
                (error, cause.map(Cancellation::settled))
            }
            _ => (error(found), parent.cancellation()),
        };
        self.end_loose(error, cancellation)
    }

    /// Cancels a loose node, of which nobody has to be told. False if it is not loose any more.
    pub(super) fn cancel_loose(self: &Arc<Self>, cause: Option<&Cause>) -> bool {
        if let Some(parent) = self.parent().filter(|parent| parent.is_cancellable()) {
            if parent.is_loose() {
                parent.settle();
            }
            let found = parent.phase.load(Ordering::Acquire);
            if is_claimed(found) {
                return self.inherit(parent, found);
            }
        }
        if self.is_due() {
            self.settle();
            return false;
        }
        self.end_loose(Error::Canceled, cause.cloned().map(Cancellation::settled))
    }

    fn end_loose(&self, error: Error, cancellation: Option<Arc<Cancellation>>) -> bool {
        let end = || {
            let (from, to) = (LOOSE, phase(error));
            self.phase
                .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        if cancellation.is_none() {
            return end();
        }
        let mut state = self.hub().state.lock();
        if self.phase.load(Ordering::Relaxed) != LOOSE {
            return false;
        }
        state.cancellation = cancellation;
        let ended = end();
        let refused = if ended {
            None
        } else {
            state.cancellation.take()
        };
        drop(state);
        drop(refused);
        ended
    }

    /// Whether the node's own deadline has passed.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.kind, Kind::Deadline { .. })
            && self.deadline.is_some_and(|at| at <= Instant::now())
    }
}
