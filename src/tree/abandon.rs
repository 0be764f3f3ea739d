//! The drop of a node, when its last handle goes: the context is cancelled by that.

use std::{iter, mem};

use super::children::Child;
use super::phase::{CauseIn, End, Phase};
use super::propagate::Deferred;
use super::register::Unlink;
use super::Node;
use crate::error::Error;
use crate::runtime::sharded::Sharded;
use crate::runtime::sync::Arc;
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
        let mut deferred = Deferred::default();
        if self.phase.is_open() && self.is_cancellable() {
            self.close_abandoned(&mut deferred);
        }
        // Before any code of the user's runs: a cancellation may be waiting.
        deferred.unregister(self.unlink(Unlink::Dropping));
        panics.catch(|| deferred.run());
        let extra = mem::take(&mut self.extra);
        panics.catch(|| drop_nested(extra));
        self.parent.take()
    }

    /// Claims and closes a node that nothing has ended.
    fn close_abandoned(&self, deferred: &mut Deferred) {
        let end = End {
            error: Error::Canceled,
            cause: CauseIn::Error,
        };
        let Ok(Some(table)) = self.claim_and_close(end, deferred) else {
            return;
        };
        let shards = self.shards().into_iter().flat_map(Sharded::iter);
        let tables = shards.map(|table| mem::take(&mut *table.lock()));
        // There are no nodes among the children: each would own this one.
        for child in iter::once(table).chain(tables).flatten() {
            if let Child::Callback(callback) = child {
                deferred.callbacks.extend(callback.take_to_run());
            }
        }
    }
}
