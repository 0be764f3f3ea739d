//! One cancellation's way down the tree.

use std::mem;

use super::{is_claimed, phase, Child, Kind, Node, Presence, Rank, CLOSING};
use crate::cancellation::{self, Cancellation};
use crate::error::{Cause, Error};
use crate::foreign::Watch;
use crate::pool::{self, Task};
use crate::slab;
use crate::sync::{Arc, Ordering, Weak};
use crate::timer::Expire;
use crate::unwind::FirstPanic;

/// On the timer thread, which must run no code of the user's and has no time to start many callbacks:
/// what there is of that is for another.
impl Expire for Node {
    fn expire(self: Arc<Self>) {
        let mut aftermath = self.time_out();
        aftermath.bury(self);
        aftermath.hand_over();
    }
}

/// Cancels a node and all its descendants. When it returns they are done, whoever cancelled them;
/// what there is to do after that is for the caller to drop.
pub(crate) fn cancel(root: &Arc<Node>, error: Error, cause: Option<Cause>) -> Aftermath {
    let mut walk = Walk {
        error,
        has_cause: cause.is_some(),
        own: cause.map(|cause| Cancellation::new(Some(cause))),
        met: Vec::new(),
        leaving: 0,
        pending: Vec::new(),
        merges: Vec::new(),
        aftermath: Aftermath::default(),
    };
    let claimed = walk.visit(root);
    while let Some(children) = walk.pending.last_mut() {
        match children.next() {
            Some(Child::Node(child, rank)) => walk.descend(&child, rank),
            Some(Child::Callback(callback)) => walk.aftermath.ready.extend(callback.start()),
            None => drop(walk.pending.pop()),
        }
    }
    match &walk.own {
        Some(own) => own.settle(&mut walk.met, walk.leaving),
        None => cancellation::wait_all(&mut walk.met),
    }

    let mut aftermath = walk.aftermath;
    if claimed {
        aftermath.keep(root.detach(Presence::Held));
    }
    for merge in walk.merges {
        aftermath.keep(merge.detach(Presence::Held));
        aftermath.bury(merge);
    }
    let held = walk.met.into_iter().chain(walk.own);
    aftermath
        .cancellations
        .extend(held.filter_map(Arc::into_inner));
    aftermath
}

/// The way of one cancellation down from its root. Each node is claimed and closed as it is met.
struct Walk {
    error: Error,
    has_cause: bool,
    /// Made when the first node needs it.
    own: Option<Arc<Cancellation>>,
    /// Cancellations that were there first.
    met: Vec<Arc<Cancellation>>,
    /// How many entries were of nodes about to be dropped.
    leaving: usize,
    /// What is left of the tables of claimed nodes, the deepest last.
    pending: Vec<slab::IntoIter<Child>>,
    /// Claimed nodes that have another parent to leave.
    merges: Vec<Arc<Node>>,
    aftermath: Aftermath,
}

impl Walk {
    fn descend(&mut self, child: &Weak<Node>, rank: Rank) {
        let Some(child) = child.upgrade() else {
            self.leaving += 1;
            return;
        };
        if let Some(tie) = child.tie(rank) {
            tie.slot.store(slab::NONE, Ordering::Relaxed);
        }
        if self.visit(&child) && matches!(child.kind, Kind::Merge(_)) {
            self.merges.push(child);
        } else {
            self.aftermath.bury(child);
        }
    }

    /// Claims a node and closes it; false if another cancellation was there first.
    fn visit(&mut self, node: &Node) -> bool {
        let Some(hub) = node.hub.get() else {
            return false; // it ended when nobody had looked at it yet
        };
        let mut state = hub.state.lock();
        let closing = hub.done.is_made();
        let done = phase(self.error);
        let claimed = if closing { done | CLOSING } else { done };
        // Who has settled it may not have said so yet, and who ends it before has no need of the lock.
        let claim = node
            .phase
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |found| {
                (!is_claimed(found)).then_some(claimed)
            });
        if claim.is_err() {
            let first = state.cancellation.clone();
            drop(state);
            if let Some(first) = first.filter(|first| !first.is_settled()) {
                cancellation::meet(&mut self.met, first);
            }
            return false;
        }
        let children = mem::take(&mut state.children);
        let watch = state.watch.take();
        if self.has_cause || closing || !children.is_empty() {
            let own = self.own.get_or_insert_with(|| Cancellation::new(None));
            state.cancellation = Some(own.clone());
        }
        drop(state);
        if closing {
            hub.done.close();
            node.phase.store(done, Ordering::Release);
        }
        node.disarm();
        self.aftermath.watches.extend(watch.map(|watch| *watch));
        if !children.is_empty() {
            self.pending.push(children.into_iter());
        }
        true
    }
}

/// What there is to do when all are done: callbacks to start, and things to drop of which the
/// cancellation was the last holder, which may run a `Drop` of the user's.
#[must_use]
#[derive(Default)]
pub(crate) struct Aftermath {
    ready: Vec<Task>,
    /// Nodes whose last handle went away while the cancellation passed.
    nodes: Vec<Node>,
    /// Cancellations that no node keeps, with their causes.
    cancellations: Vec<Cancellation>,
    /// What watched custom contexts for nodes that are done now.
    watches: Vec<Watch>,
}

impl Aftermath {
    fn bury(&mut self, node: Arc<Node>) {
        if let Some(node) = Arc::into_inner(node) {
            self.keep(node.detach(Presence::Gone));
            self.nodes.push(node);
        }
    }

    fn keep(&mut self, watches: [Option<Watch>; 2]) {
        self.watches.extend(watches.into_iter().flatten());
    }

    /// Has another thread do it, if there is anything to do.
    pub(crate) fn hand_over(self) {
        if !self.is_empty() {
            pool::start(Box::new(move || drop(self)));
        }
    }

    fn is_empty(&self) -> bool {
        self.ready.is_empty()
            && self.nodes.is_empty()
            && self.cancellations.is_empty()
            && self.watches.is_empty()
    }
}

impl Drop for Aftermath {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        self.ready.drain(..).for_each(pool::start);
        let mut panics = FirstPanic::default();
        for node in self.nodes.drain(..) {
            panics.catch(|| drop(node));
        }
        for cancellation in self.cancellations.drain(..) {
            panics.catch(|| drop(cancellation));
        }
        self.watches.clear(); // they contain their panics themselves
        panics.resume();
    }
}
