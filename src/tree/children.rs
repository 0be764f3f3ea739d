//! The children and callbacks of a node: one table, or one for each shard of threads.
//!
//! A parent under which many threads derive at once is *contended*: each of them waits for its lock.
//! It gets a table for each shard, made under its lock while it is open. So suppose thread A inserts
//! a child while thread B claims the node. If A takes the lock of the table first, B finds the child
//! in it. Otherwise A finds the node claimed. Therefore no child is lost, whichever table it is.

use crossbeam_utils::CachePadded;

use super::callback::Callback;
use super::phase::{AtomicPhase, LinkIndex};
use super::waiter::Waiter;
use super::Node;
use crate::runtime::sharded::Sharded;
use crate::runtime::slab::{self, Slab};
use crate::runtime::sync::{Arc, AtomicU32, Mutex, Ordering, Weak};

/// An entry in a table of children.
pub(crate) enum Child {
    /// A child node, and which of its parent links leads here.
    Node(Weak<Node>, LinkIndex),
    Callback(Arc<Callback>),
    Waiter(Arc<Waiter>),
}

pub(crate) type Table = Slab<Child>;

/// The tables of a contended node, beside the one in its state.
pub(crate) type ShardedTable = Sharded<CachePadded<Mutex<Table>>>;

/// How often a node's lock has to be found taken before the node counts as contended. Not at once,
/// because the shards take memory.
pub(crate) const CONTENDED_AFTER: u8 = if cfg!(model) { 1 } else { 32 };

/// The place of a child in a table of its parent: an index, and the shard if the table is sharded.
///
/// Set while the child is in the table, and after a cancellation took the table until it visits the
/// child. Written under the table's lock, or by that cancellation.
pub(crate) struct ChildSlot(AtomicU32);

/// With this flag, a slot is 1 bit of flag, 6 of shard (there are at most 64) and 25 of index.
const IS_SHARDED: u32 = 1 << 31;
const INDEX_BITS: u32 = 25;

/// How many slots the table of a shard has at most. Further children go into the node's own table.
/// One less than the index allows, because the last index in shard 63 would be `slab::NONE`.
pub(crate) const MAX_SHARD_SLOTS: usize = (1 << INDEX_BITS) - 1;

impl Default for ChildSlot {
    fn default() -> Self {
        ChildSlot(AtomicU32::new(slab::NONE))
    }
}

impl ChildSlot {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != slab::NONE
    }

    pub(crate) fn clear(&self) {
        self.0.store(slab::NONE, Ordering::Release);
    }

    /// Returns the shard of a sharded table; `None` for the table in the node's state, or if a
    /// cancellation has just cleared the slot.
    pub(crate) fn shard(&self) -> Option<u8> {
        let slot = self.0.load(Ordering::Acquire);
        let is_sharded = slot != slab::NONE && slot & IS_SHARDED != 0;
        is_sharded.then_some((slot >> INDEX_BITS) as u8 & 63)
    }

    /// Inserts a child into a table, whose lock the caller holds. Returns `false` if the node has been
    /// claimed.
    pub(crate) fn insert(
        &self,
        child: Child,
        table: &mut Table,
        shard: Option<u8>,
        phase: &AtomicPhase,
    ) -> bool {
        let is_open = phase.is_open();
        if is_open {
            let shard = shard.map_or(0, |shard| IS_SHARDED | u32::from(shard) << INDEX_BITS);
            self.0.store(table.insert(child) | shard, Ordering::Release);
        }
        is_open
    }

    /// Removes the child from its table, whose lock the caller holds. Returns `None` if a
    /// cancellation has taken the table.
    pub(crate) fn remove(&self, table: &mut Table) -> Option<Child> {
        let index = match self.0.load(Ordering::Relaxed) {
            slab::NONE => return None,
            slot if slot & IS_SHARDED != 0 => slot & ((1 << INDEX_BITS) - 1),
            index => index,
        };
        let child = table.remove(index)?;
        self.clear();
        Some(child)
    }
}
