//! The drop of a node, when its last handle goes: the context is cancelled by that.

use std::{iter, mem};

use super::children::Child;
use super::origin::Origin;
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
        if self.parent.is_some() || self.needs_teardown() {
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

    /// Returns whether the node has to be closed or unlinked, or its own drop may run user code.
    fn needs_teardown(&self) -> bool {
        let is_registered = match self.phase.load() {
            Phase::Unregistered => false,
            Phase::Done(_) => self.slot.is_set(),
            Phase::Open | Phase::Closing(_) => self.is_cancellable(),
        };
        is_registered || self.drop_may_run_user_code()
    }

    /// Returns whether dropping the node may run user code, even if its parent stays alive.
    pub(super) fn drop_may_run_user_code(&self) -> bool {
        self.extra.get().is_some()
    }

    /// Ends a node that has no handle left. Returns its parent, for the caller to drop.
    fn teardown(&mut self, panics: &mut FirstPanic) -> Option<Arc<Node>> {
        if !self.needs_teardown() {
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
            origin: Origin::NONE, // there is no handle left to ask
        };
        let Ok(Some(table)) = self.claim_and_close(end, deferred) else {
            return;
        };
        let shards = self.shards().into_iter().flat_map(Sharded::iter);
        let tables = shards.map(|table| mem::take(&mut *table.lock()));
        // There are no nodes among the children: each would own this one.
        for child in iter::once(table).chain(tables).flatten() {
            match child {
                Child::Callback(callback) => deferred.callbacks.extend(callback.take_to_run()),
                Child::Waiter(waiter) => waiter.wake(),
                Child::Node(..) => {}
            }
        }
    }
}
