//! The drop of a node, when its last handle goes: the context is cancelled by that.

use std::mem;

use super::children::{Child, Table};
use super::external::Unregister;
use super::phase::{CauseIn, End, Phase};
use super::register::Unlink;
use super::{Extra, Node};
use crate::error::Error;
use crate::runtime::sync::Arc;
use crate::runtime::timer;
use crate::runtime::unwind::{drop_nested, FirstPanic};

impl Drop for Node {
    #[inline]
    fn drop(&mut self) {
        if self.parent.is_some() || !self.owns_only_parent() {
            self.drop_chain();
        }
    }
}

impl Node {
    /// Drops a long chain of parents in a loop, because the stack of the thread may be small.
    fn drop_chain(&mut self) {
        let mut panics = FirstPanic::default();
        let mut next = self.teardown(&mut panics);
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut node| node.teardown(&mut panics));
        }
        panics.resume();
    }

    /// Returns whether the node is in no table, and owns nothing that needs more than to be freed.
    fn owns_only_parent(&self) -> bool {
        let is_left = match self.phase.load() {
            Phase::Unregistered => true,
            Phase::Done(_) => !self.slot.is_set(),
            Phase::Open | Phase::Closing(_) => !self.is_cancellable(),
        };
        is_left && self.is_plain()
    }

    /// Returns whether nothing in it but the parent may run code of the user's when it is dropped.
    pub(super) fn is_plain(&self) -> bool {
        self.extra.get().is_none()
    }

    /// Ends a node that has no handle left. Returns its parent, for the caller to drop.
    fn teardown(&mut self, panics: &mut FirstPanic) -> Option<Arc<Node>> {
        if self.owns_only_parent() {
            return self.parent.take();
        }
        let is_open = self.phase.load() == Phase::Open && self.is_cancellable();
        let callbacks = if is_open {
            self.close_abandoned()
        } else {
            Vec::new()
        };
        // Before any code of the user's runs: a cancellation may be waiting.
        let unregister = self.unlink(Unlink::Dropping);
        timer::hand_over(callbacks);
        unregister.into_iter().for_each(Unregister::call);
        if let Some(Extra::External(external)) = self.extra.get() {
            external.stop_watch().into_iter().for_each(Unregister::call);
        }
        let extra = mem::take(&mut self.extra);
        panics.catch(|| drop_nested(extra));
        self.parent.take()
    }

    /// Cancels a node that has no handle left. Returns the callbacks to run.
    fn close_abandoned(&mut self) -> Vec<timer::Task> {
        self.phase.claim(Phase::Done(End {
            error: Error::Canceled,
            cause: CauseIn::Error,
        }));
        if let Some(done) = self.done.get() {
            done.close();
        }
        let state = self.state.get_mut();
        let timer = state.take_timer();
        let mut tables = vec![mem::take(&mut state.children)];
        timer.into_iter().for_each(timer::remove);
        if let Some(shards) = self.shards() {
            tables.extend(shards.iter().map(|table| mem::take(&mut *table.lock())));
        }
        // There are no nodes among the children: each would own this one.
        let children = tables.into_iter().flat_map(Table::into_iter);
        let callbacks = children.filter_map(|child| match child {
            Child::Callback(callback) => callback.take_to_run(),
            Child::Node(..) => None,
        });
        callbacks.collect()
    }
}
