//! One cancellation's way down the tree.
//!
//! It claims each node, closes its channels and goes on to its children, depth first. A node with
//! children is busy meanwhile. A cancellation that comes to a node which another has claimed waits
//! until that node is no longer busy; therefore all nodes below are done when it returns.
//!
//! Cancellations cannot wait for each other in a circle. Suppose thread A waits at node X, which is
//! busy for thread B. All nodes that are busy for A are ancestors of X, because A has finished every
//! other one. If B waits at a node Y that is busy for A, then X is an ancestor of Y in the same way,
//! and Y one of X; but no node is an ancestor of itself. The same holds for a longer circle, and for
//! nodes with two parents.
//!
//! A child whose last handle was dropped just now cannot be claimed any more. Another thread is dropping
//! it (`abandon.rs`). It closes the child and calls `report_dropped` (`register.rs`) on the parent; the
//! cancellation waits for that report.

use std::mem;

use super::children::{Child, Table};
use super::external::Unregister;
use super::origin::Origin;
use super::phase::{CauseIn, End, LinkIndex, Phase};
use super::register::Unlink;
use super::{Node, State};
use crate::error::{Cause, Error};
use crate::runtime::slab;
use crate::runtime::sync::Arc;
use crate::runtime::unwind::FirstPanic;
use crate::runtime::{run_on_pool, timer, Task};

impl Node {
    /// Cancels the node and all its descendants. When it returns they are done, even if another
    /// thread is cancelling some of them.
    #[inline]
    pub(crate) fn cancel(self: &Arc<Self>, origin: Origin) {
        timer::retry_refused();
        self.end_if_due();
        if let Some(deferred) = self.cancel_and_defer(CauseIn::Error, origin) {
            deferred.run();
        }
    }

    /// Like `cancel`, with a cause.
    pub(crate) fn cancel_with(self: &Arc<Self>, cause: Cause, origin: Origin) {
        timer::retry_refused();
        self.cancel_with_and_defer(cause, origin).run();
    }

    /// Like `cancel_with`, on a thread of the crate, which must not run code of the user's: the pool drops
    /// what may own any.
    #[cfg_attr(not(feature = "signal"), allow(dead_code))]
    pub(crate) fn cancel_by_signal(self: &Arc<Self>, cause: Cause) {
        let deferred = self.cancel_with_and_defer(cause, Origin::SIGNAL);
        run_on_pool(deferred.into_tasks());
    }

    fn cancel_with_and_defer(self: &Arc<Self>, cause: Cause, origin: Origin) -> Deferred {
        self.end_if_due();
        let (cause, origin, unused) = self.store_cause(cause, origin);
        let deferred = self.cancel_and_defer(cause, origin);
        let mut deferred = deferred.unwrap_or_default();
        unused
            .into_iter()
            .for_each(|cause| deferred.add(|| drop(cause)));
        deferred
    }

    /// Cancels the node and all its descendants, and returns what may run user code, for the caller to
    /// run or hand over. Returns `None` if the node was unregistered: then there is nothing more to do.
    #[inline]
    fn cancel_and_defer(self: &Arc<Self>, cause: CauseIn, origin: Origin) -> Option<Deferred> {
        let end = End {
            error: Error::Canceled,
            cause,
            origin,
        };
        let is_finished = self.phase.finish_unregistered(end);
        (!is_finished).then(|| self.propagate(end))
    }

    /// Cancels a registered node and all its descendants. Returns what is left to do.
    pub(super) fn propagate(self: &Arc<Self>, end: End) -> Deferred {
        let mut deferred = Deferred::default();
        match self.claim_and_close(end, &mut deferred) {
            // The most frequent case needs no `Propagation`.
            Ok(None) => deferred.unregister(self.unlink(Unlink::Alive)),
            Err(()) => self.wait_subtree_done(),
            Ok(Some(children)) => {
                let mut propagation = Propagation {
                    next: None,
                    stack: vec![Frame::new(self.clone(), end.error, children)],
                    deferred,
                };
                propagation.run();
                deferred = propagation.deferred;
            }
        }
        deferred
    }

    /// Claims the node, closes its channels and calls off what would end it. Returns its children if it is
    /// busy with them; fails if another cancellation has claimed it.
    pub(super) fn claim_and_close(
        &self,
        end: End,
        deferred: &mut Deferred,
    ) -> Result<Option<Table>, ()> {
        let mut state = self.state.lock();
        let done = self.done.get();
        if !self.phase.claim(match done {
            Some(_) => Phase::Closing(end),
            None => Phase::Done(end),
        }) {
            return Err(());
        }
        let children = mem::take(&mut state.children);
        state.is_busy = !children.is_empty() || self.shards().is_some();
        let children = state.is_busy.then_some(children);
        let timer = state.take_timer();
        drop(state);
        if let Some(done) = done {
            done.close();
            self.phase.close(end);
        }
        if let Some(timer) = timer {
            timer::remove(timer, self);
        }
        if let Some(external) = self.external() {
            deferred.unregister(external.stop_watch());
        }
        Ok(children)
    }

    /// Waits until the node, which another cancellation has claimed, and all its descendants are done,
    /// because they must be when `cancel` returns.
    fn wait_subtree_done(&self) {
        self.wait_closed();
        let mut state = self.state.lock();
        if state.is_busy {
            state.is_awaited = true;
            drop(self.progress.wait_while(state, |state| state.is_busy));
        }
    }

    /// Returns whether the node and all its descendants are done, without waiting for a cancellation.
    fn is_subtree_done(&self) -> bool {
        matches!(self.phase.load(), Phase::Done(_)) && !self.state.lock().is_busy
    }

    /// Records that all descendants are done, and wakes the cancellations that wait for that.
    fn clear_busy(&self) {
        self.make_progress(|state| state.is_busy = false);
    }

    /// Changes something that cancellations wait for, and wakes them.
    pub(super) fn make_progress(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let is_awaited = state.is_awaited;
        drop(state);
        if is_awaited {
            self.progress.notify_all();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Waits for other threads where it has to.
    Thorough,
    /// Neither waits nor does much at once: for the timer thread.
    Brief,
}

/// A cancellation under way.
pub(super) struct Propagation {
    /// The node to visit next.
    next: Option<Visit>,
    /// The busy nodes, each a child of the one before.
    stack: Vec<Frame>,
    pub(super) deferred: Deferred,
}

struct Visit {
    node: Arc<Node>,
    end: End,
}

/// A claimed node, and those of its children that have not been visited.
struct Frame {
    node: Arc<Node>,
    error: Error,
    children: slab::IntoIter<Child>,
    /// The shard of the table to take when these have been visited.
    next_shard: u8,
    /// How many children were being dropped when the cancellation came to them.
    dropping: u32,
}

impl Propagation {
    /// Begins at a registered node.
    pub(super) fn at(node: Arc<Node>, end: End) -> Propagation {
        Propagation {
            next: Some(Visit { node, end }),
            stack: Vec::new(),
            deferred: Deferred::default(),
        }
    }

    /// Runs to the end, and waits for other threads where it has to.
    pub(super) fn run(&mut self) {
        while self.step(Pace::Thorough) {}
    }

    /// Makes at most so many steps, and stops earlier if it would have to wait for another thread or to
    /// wake very many. Returns whether it has come to the end.
    pub(super) fn run_briefly(&mut self, steps: &mut u32) -> bool {
        while *steps > 0 && self.step(Pace::Brief) {
            *steps -= 1;
        }
        self.next.is_none() && self.stack.is_empty()
    }

    /// Makes one step. Returns `false` if there is none to make.
    fn step(&mut self, pace: Pace) -> bool {
        if let Some(visit) = self.next.take() {
            return self.visit(visit, pace);
        }
        let Some(frame) = self.stack.last_mut() else {
            return false;
        };
        match frame.next_child() {
            Some(Child::Node(child, index)) => match child.upgrade() {
                Some(node) => self.next = Some(frame.descend(node, index)),
                None => frame.dropping += 1,
            },
            Some(Child::Callback(callback)) => {
                self.deferred.callbacks.extend(callback.take_to_run());
            }
            Some(Child::Waiter(waiter)) => waiter.wake(),
            None => {
                if !frame.wait_for_drops(pace) {
                    return false;
                }
                if let Some(frame) = self.stack.pop() {
                    frame.node.clear_busy();
                    self.leave(frame.node);
                }
            }
        }
        true
    }

    /// Claims and closes the node, and pushes it if it has children; otherwise leaves it. A node that
    /// another cancellation has claimed is waited for. Returns `false`, with the visit put back, if a
    /// brief cancellation has to stop here.
    fn visit(&mut self, visit: Visit, pace: Pace) -> bool {
        let Visit { node, end } = visit;
        let has_several_channels = || node.done.get().is_some_and(|done| done.has_several());
        let ended = match pace == Pace::Brief && has_several_channels() {
            true => Err(()),
            false => node.claim_and_close(end, &mut self.deferred),
        };
        match ended {
            Ok(Some(children)) => self.stack.push(Frame::new(node, end.error, children)),
            Err(()) if pace == Pace::Brief && !node.is_subtree_done() => {
                self.next = Some(Visit { node, end });
                return false;
            }
            Ok(None) => self.leave(node),
            Err(()) => {
                node.wait_subtree_done();
                self.leave(node);
            }
        }
        true
    }

    /// Takes a node that is done, with all its descendants, out of the tables of its parents.
    fn leave(&mut self, node: Arc<Node>) {
        self.deferred.unregister(node.unlink(Unlink::Alive));
        let Some(node) = Arc::into_inner(node) else {
            return;
        };
        // This was the last handle, so the drop may run code of the user's: of the node itself, or of a
        // parent that it alone owns. A parent can be owned by this node alone only if the stack is empty;
        // otherwise the parent is on the stack.
        if self.stack.is_empty() || node.drop_may_run_user_code() {
            // At once: a cancellation may be waiting for the report, perhaps this one.
            self.deferred.unregister(node.unlink(Unlink::Dropping));
            self.deferred.add(|| drop(node));
        }
    }
}

impl Frame {
    /// Begins with the children that the claim of the node has taken; shards are taken later.
    fn new(node: Arc<Node>, error: Error, children: Table) -> Frame {
        Frame {
            node,
            error,
            children: children.into_iter(),
            next_shard: 0,
            dropping: 0,
        }
    }

    /// Returns the next child: those of the node's own table, then those of each shard.
    fn next_child(&mut self) -> Option<Child> {
        loop {
            if let Some(child) = self.children.next() {
                return Some(child);
            }
            let shards = self.node.shards()?;
            if self.next_shard == shards.len() {
                return None;
            }
            let table = mem::take(&mut *shards.get(self.next_shard).lock());
            self.children = table.into_iter();
            self.next_shard += 1;
        }
    }

    /// Returns the visit of a child, whose slot is cleared so that its drop is not reported.
    fn descend(&self, node: Arc<Node>, index: LinkIndex) -> Visit {
        if let Some((_, slot)) = node.link(index) {
            slot.clear();
        }
        let end = End::of_parent(self.error, index);
        Visit { node, end }
    }

    /// Waits until the children that were being dropped are done, because they cannot be visited.
    /// Returns whether they are: always, except if the pace is brief, because then it does not wait.
    fn wait_for_drops(&self, pace: Pace) -> bool {
        if self.dropping == 0 {
            return true;
        }
        let mut state = self.node.state.lock();
        if pace == Pace::Thorough {
            state.is_awaited = true;
            let progress = &self.node.progress;
            state = progress.wait_while(state, |state| state.dropped < self.dropping);
        }
        state.dropped >= self.dropping
    }
}

/// What is left to do when all nodes are done.
#[must_use]
#[derive(Default)]
pub(super) struct Deferred {
    /// Callbacks to run.
    pub(super) callbacks: Vec<Task>,
    /// What may run other code of the user's, such as the drop of a cause.
    later: Vec<Task>,
}

impl Deferred {
    fn add(&mut self, task: impl FnOnce() + Send + 'static) {
        self.later.push(Box::new(task));
    }

    pub(super) fn unregister(&mut self, unregister: impl IntoIterator<Item = Unregister>) {
        for unregister in unregister {
            self.add(|| unregister.call());
        }
    }

    pub(super) fn run(self) {
        run_on_pool(self.callbacks);
        let mut panics = FirstPanic::default();
        self.later.into_iter().for_each(|task| panics.catch(task));
        panics.resume();
    }

    /// Returns all of it for the pool, for a thread that must not run the user's code.
    pub(super) fn into_tasks(mut self) -> Vec<Task> {
        self.callbacks.append(&mut self.later);
        self.callbacks
    }
}
