//! A thread that waits for a context in a system call: a child that a cancellation wakes in place.

#![cfg_attr(not(feature = "net"), allow(dead_code))]

use std::task::Waker;

use super::children::{Child, ChildSlot};
use super::Node;
use crate::runtime::sync::Arc;

/// May be used for one wait after the other, but only for one at a time.
pub(crate) struct Waiter {
    waker: Waker,
    /// Its place among the node's children.
    pub(super) slot: ChildSlot,
}

impl Waiter {
    /// `waker` is called on the cancelling thread or on the timer thread, so it must neither block nor run
    /// code of the user's. It may be called late, when the next wait has begun.
    pub(crate) fn new(waker: Waker) -> Arc<Waiter> {
        Arc::new(Waiter {
            waker,
            slot: ChildSlot::default(),
        })
    }

    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }
}

impl Node {
    /// Registers the waiter to be woken once the node is done. Returns `false` if it is done.
    pub(crate) fn add_waiter(self: &Arc<Self>, waiter: &Arc<Waiter>) -> bool {
        self.add_child(Child::Waiter(waiter.clone()), &waiter.slot)
    }

    /// Unregisters a waiter.
    pub(crate) fn remove_waiter(&self, waiter: &Waiter) {
        self.remove_added(&waiter.slot);
        waiter.slot.clear(); // a cancellation may have taken the table
    }
}
