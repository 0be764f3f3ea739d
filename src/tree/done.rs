//! The channels behind `Context::done`: made by the first call, closed once.
//!
//! The receivers of one channel share its lock, its count and its list of waiting threads. So the
//! thread that asks first gets the first channel, and others get one for each shard of threads. The
//! channels close one after the other, always in the same order, so a thread waits for all of them
//! by waiting for the last.

use crossbeam_channel::{unbounded, Receiver};
use once_cell::race::OnceBox;
use once_cell::sync::Lazy;

use super::children::ShardedTable;
use crate::runtime::sharded::Sharded;
use crate::runtime::sync::{thread_number, OneShotEvent};

pub(crate) struct DoneChannels {
    /// The number of the thread that asked first, and its channel.
    first: (u32, OneShotEvent),
    others: OnceBox<Sharded<OnceBox<OneShotEvent>>>,
    /// The children of a contended node. They are here so that a node that has neither channels nor
    /// shards is smaller by a pointer.
    pub(crate) children: OnceBox<ShardedTable>,
}

impl DoneChannels {
    /// Creates the channel for this thread.
    pub(crate) fn new() -> Box<DoneChannels> {
        Box::new(DoneChannels {
            first: (thread_number(), OneShotEvent::new()),
            others: OnceBox::new(),
            children: OnceBox::new(),
        })
    }

    /// Returns this thread's channel, if it has been made.
    #[inline]
    pub(crate) fn for_this_thread(&self) -> Option<Receiver<()>> {
        let (thread, first) = &self.first;
        let mine = match *thread == thread_number() {
            true => first,
            false => self.others.get()?.mine().get()?,
        };
        Some(mine.receiver().clone())
    }

    /// Returns this thread's channel if it has been made, and the first one otherwise.
    pub(crate) fn any(&self) -> Receiver<()> {
        self.for_this_thread()
            .unwrap_or_else(|| self.first.1.receiver().clone())
    }

    /// Returns this thread's channel, and makes it if need be. The caller holds the node's lock.
    pub(crate) fn make_for_this_thread(&self) -> Receiver<()> {
        self.for_this_thread().unwrap_or_else(|| {
            let others = || Box::new(Sharded::new(OnceBox::new));
            let channel = self.others.get_or_init(others).mine();
            let channel = channel.get_or_init(|| Box::new(OneShotEvent::new()));
            channel.receiver().clone()
        })
    }

    pub(crate) fn contains(&self, receiver: &Receiver<()>) -> bool {
        self.events()
            .any(|event| event.receiver().same_channel(receiver))
    }

    /// Returns whether several threads have asked, so that closing takes a while.
    pub(crate) fn has_several(&self) -> bool {
        self.others.get().is_some()
    }

    /// Disconnects every receiver and wakes the waiting threads.
    pub(crate) fn close(&self) {
        self.events().for_each(OneShotEvent::set);
    }

    /// Returns whether a receiver has been disconnected.
    pub(crate) fn is_closing(&self) -> bool {
        self.events().any(OneShotEvent::is_set)
    }

    /// Waits until every receiver is disconnected.
    pub(crate) fn wait_closed(&self) {
        if let Some(last) = self.events().last() {
            last.wait();
        }
    }

    fn events(&self) -> impl Iterator<Item = &OneShotEvent> {
        let others = self.others.get().into_iter().flat_map(Sharded::iter);
        std::iter::once(&self.first.1).chain(others.filter_map(OnceBox::get))
    }
}

/// Returns the channel of every context that was done before its channel was asked for. It has the
/// list flavour, which is polled without a lock.
#[inline]
pub(crate) fn closed() -> Receiver<()> {
    static CLOSED: Lazy<Sharded<Receiver<()>>> = Lazy::new(|| Sharded::new(|| unbounded().1));
    CLOSED.mine().clone()
}
