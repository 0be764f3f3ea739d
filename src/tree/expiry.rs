//! Deadlines of nodes: arm, disarm, expire.

use std::mem;

use super::origin::Origin;
use super::phase::{CauseIn, End};
use super::propagate::Propagation;
use super::{Kind, Node, State};
use crate::error::Error;
use crate::runtime::sync::{Arc, Weak};
use crate::runtime::timer::{self, Inserted, OnExpire, TimerId};
use crate::runtime::timestamp::Timestamp;
use crate::runtime::{run_on_pool_first, slab, Task};

impl Node {
    /// Adds the timer of a node that has just been registered, under the node's lock: so a claim,
    /// which takes the lock too, finds the timer.
    pub(super) fn arm(self: &Arc<Self>, state: &mut State) -> Inserted {
        let timer: Weak<Node> = Arc::downgrade(self);
        let inserted = timer::insert(self.deadline, timer);
        state.timer_shard = inserted.id.shard;
        state.timer_slot = inserted.id.slot;
        inserted
    }

    /// Returns whether the node has a deadline of its own that has passed.
    pub(super) fn deadline_passed(&self) -> bool {
        self.kind == Kind::Deadline && self.deadline.has_passed()
    }

    /// Ends a node whose own or inherited deadline has passed. When it returns the node is done, even if
    /// the timer thread or another one is about to end it.
    pub(crate) fn expire_deadline(self: &Arc<Self>) {
        let mut next = Some(self);
        while let Some(node) = next {
            if node.kind == Kind::Deadline && node.deadline == self.deadline {
                node.register();
                return node.propagate(node.deadline_end(Timestamp::now())).run();
            }
            next = node
                .parents()
                .find(|parent| parent.deadline == self.deadline);
        }
    }

    /// Returns how the node ends by its deadline, which has passed, at this moment.
    pub(super) fn deadline_end(&self, now: Timestamp) -> End {
        End {
            error: Error::DeadlineExceeded,
            cause: match self.extra.get() {
                Some(_) => CauseIn::Node,
                None => CauseIn::Error,
            },
            origin: Origin::deadline(now.saturating_since(self.deadline)),
        }
    }
}

impl State {
    /// Takes the pending timer, for the caller to remove it with the lock released.
    pub(super) fn take_timer(&mut self) -> Option<TimerId> {
        let slot = mem::replace(&mut self.timer_slot, slab::NONE);
        (slot != slab::NONE).then_some(TimerId {
            shard: self.timer_shard,
            slot,
        })
    }
}

impl OnExpire for Node {
    fn expire(self: Arc<Self>, now: Timestamp, steps: &mut u32, rest: &mut Vec<Task>) {
        let end = self.deadline_end(now);
        let mut propagation = Propagation::at(self, end);
        if propagation.run_briefly(steps) {
            rest.extend(propagation.deferred.into_tasks());
        } else {
            run_on_pool_first(Box::new(move || {
                propagation.run();
                propagation.deferred.run();
            }));
        }
    }
}
