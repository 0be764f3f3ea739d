//! Children and callbacks: how they get into the tables of their parents, and out again.
//!
//! A node is registered under its own lock, so that one thread does it, and a cancellation from above
//! that finds the node in its parent's table waits until that is finished. Only a thread that ends an
//! unregistered node does without the lock; then the node leaves the tables again.

use std::mem;

use super::children::{Child, ChildSlot, ShardedTable, CONTENDED_AFTER, MAX_SHARD_SLOTS};
use super::done::DoneChannels;
use super::external::{External, Unregister, WatchStep};
use super::origin::Origin;
use super::phase::{CauseIn, End, LinkIndex};
use super::{Callback, Kind, Node, State};
use crate::runtime::sharded::Sharded;
use crate::runtime::sync::{Arc, MutexGuard, Ordering};
use crate::runtime::timestamp::Timestamp;
use crate::runtime::unwind::FirstPanic;
use crate::runtime::{run_on_pool, timer};

/// Whether a node that leaves its parents is alive or being dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unlink {
    Alive,
    Dropping,
}

impl Node {
    /// Registers the node with its parents and the timer, and before that all unregistered ancestors.
    pub(super) fn register(self: &Arc<Self>) {
        if self.is_unregistered() {
            self.register_ancestors();
            self.register_self(self.deadline_passed(), false);
        }
    }

    pub(super) fn register_ancestors(self: &Arc<Self>) {
        let (mut below, mut node) = (Vec::new(), self);
        loop {
            if let Some(parent) = node.parents().find(|parent| parent.is_unregistered()) {
                below.push(mem::replace(&mut node, parent));
                continue;
            }
            let Some(child) = below.pop() else { return };
            node.register_self(node.deadline_passed(), false);
            node = child;
        }
    }

    pub(super) fn is_unregistered(&self) -> bool {
        self.phase.is_unregistered()
    }

    /// Registers a node whose parents are registered: inserts it into their tables, arms its timer and
    /// begins to watch custom parents. Ends it if a parent is done or `deadline_passed`. Makes its
    /// done channel at once if `with_done`. May run user code.
    pub(super) fn register_self(self: &Arc<Self>, deadline_passed: bool, with_done: bool) {
        for parent in self.parents() {
            parent.propagate_external();
        }
        let mut state = self.state.lock();
        if !self.is_unregistered() {
            return;
        }
        let inserted = self.insert_into_parents();
        if inserted.is_ok() && self.phase.open() {
            let is_pending = self.kind == Kind::Deadline && !deadline_passed;
            let armed = is_pending.then(|| self.arm(&mut state));
            if with_done {
                self.done.get_or_init(DoneChannels::new);
            }
            drop(state);
            armed.into_iter().for_each(timer::wake_for);
            if deadline_passed {
                self.propagate(self.deadline_end(Timestamp::now())).run();
            }
            let mut panics = FirstPanic::default();
            for parent in self.parents() {
                panics.catch(|| parent.watch_external());
            }
            return panics.resume();
        }
        let unregister = self.unlink(Unlink::Alive);
        drop(state);
        if let Err(index) = inserted {
            self.finish_like_parent(index);
        }
        unregister.into_iter().for_each(Unregister::call);
    }

    /// Fails with the link to a parent that has been claimed.
    fn insert_into_parents(self: &Arc<Self>) -> Result<(), LinkIndex> {
        for index in LinkIndex::ALL {
            let link = self
                .link(index)
                .filter(|(parent, _)| parent.is_cancellable());
            if let Some((parent, slot)) = link {
                let child = Child::Node(Arc::downgrade(self), index);
                if !parent.insert_child(child, slot) {
                    return Err(index);
                }
            }
        }
        Ok(())
    }

    /// Ends an unregistered node as its parent has ended, once the parent's channels are closed.
    fn finish_like_parent(&self, index: LinkIndex) {
        let Some((parent, _)) = self.link(index) else {
            return;
        };
        parent.wait_closed();
        let end = match (parent.external(), parent.phase.load().end()) {
            (Some(external), _) => End {
                error: parent.outcome(external).error,
                cause: CauseIn::Custom(index),
                origin: Origin::NONE,
            },
            (None, Some(end)) => End::of_parent(end.error, index),
            (None, None) => return,
        };
        self.phase.finish_unregistered(end);
    }

    /// Ends an unregistered node if one of its ancestors is done or its own deadline has passed.
    #[inline]
    pub(super) fn end_if_due(self: &Arc<Self>) {
        if !self.is_unregistered() {
            return; // without a look at the clock
        }
        match self.deadline_passed() {
            true => self.register(),
            false => drop(self.ancestors_err()),
        }
    }

    /// Inserts a child into the table of this node. Returns `false` if the node has been claimed.
    fn insert_child(&self, child: Child, slot: &ChildSlot) -> bool {
        if let Some(shards) = self.shards() {
            let index = shards.index();
            let mut table = shards.get(index).lock();
            if table.slots() < MAX_SHARD_SLOTS {
                return slot.insert(child, &mut table, Some(index), &self.phase);
            }
        }
        let mut state = self.lock_to_insert();
        slot.insert(child, &mut state.children, None, &self.phase)
    }

    /// Locks the node. After `CONTENDED_AFTER` contended attempts also creates the shards, which later
    /// children use. A custom context gets none, because its watch needs all children in one table.
    fn lock_to_insert(&self) -> MutexGuard<'_, State> {
        if let Some(state) = self.state.try_lock() {
            return state;
        }
        let state = self.state.lock();
        let contention = self.contention.load(Ordering::Relaxed);
        if contention < CONTENDED_AFTER {
            self.contention.store(contention + 1, Ordering::Relaxed);
        } else if self.kind != Kind::Custom && self.phase.is_open() {
            // Under the lock and while the node is open, so that a claim finds it.
            let shards = &self.done.get_or_init(DoneChannels::new).children;
            shards.get_or_init(|| Box::new(Sharded::new(Default::default)));
        }
        state
    }

    /// Returns the tables of a contended node.
    pub(super) fn shards(&self) -> Option<&ShardedTable> {
        self.done.get()?.children.get()
    }

    /// Removes a child from the table of this node. If this removed the last child of a custom context,
    /// returns the `Unregister` of its watch. Fails if a cancellation has taken the table.
    fn remove_child(&self, slot: &ChildSlot) -> Result<Option<Unregister>, ()> {
        if let Some((shard, shards)) = slot.shard().zip(self.shards()) {
            let removed = slot.remove(&mut shards.get(shard).lock());
            return removed.map(|_| None).ok_or(());
        }
        let mut state = self.state.lock();
        let removed = slot.remove(&mut state.children).ok_or(())?;
        let external = self.external().filter(|_| state.children.is_empty());
        let unregister = external.and_then(External::last_child_removed);
        drop(state);
        drop(removed);
        Ok(unregister)
    }

    /// Takes the node out of the tables of its parents.
    ///
    /// A cancellation that has taken a parent's table will visit the node and find it done. If the node
    /// is being dropped, that cancellation cannot upgrade its weak reference, so it waits for
    /// `report_dropped`.
    pub(super) fn unlink(&self, unlink: Unlink) -> Vec<Unregister> {
        let mut unregister = Vec::new();
        for index in LinkIndex::ALL {
            let Some((parent, slot)) = self.link(index).filter(|(_, slot)| slot.is_set()) else {
                continue;
            };
            match parent.remove_child(slot) {
                Ok(registered) => unregister.extend(registered),
                Err(()) if unlink == Unlink::Dropping => {
                    slot.clear();
                    parent.report_dropped();
                }
                Err(()) => {}
            }
        }
        unregister
    }

    /// Counts a child that was dropped, and is closed, after a cancellation had taken the table with it.
    /// That cancellation waits for this.
    fn report_dropped(&self) {
        self.make_progress(|state| state.dropped += 1);
    }

    /// Registers `callback` to run once the node is done, or schedules it now if it is.
    pub(crate) fn add_callback(self: &Arc<Self>, callback: &Arc<Callback>) {
        if !self.add_child(Child::Callback(callback.clone()), &callback.slot) {
            run_on_pool(callback.clone().take_to_run().into_iter().collect());
        }
    }

    /// Adds a child that is not a node. Returns `false` if the node is done.
    pub(super) fn add_child(self: &Arc<Self>, child: Child, slot: &ChildSlot) -> bool {
        timer::retry_refused();
        self.register();
        self.propagate_external();
        let is_added = self.insert_child(child, slot);
        match is_added {
            true => self.watch_external(),
            false => self.wait_closed(), // what the child does next finds its context done
        }
        is_added
    }

    /// Gives back the slot of a child that was added.
    pub(crate) fn remove_added(&self, slot: &ChildSlot) {
        if let Ok(Some(unregister)) = self.remove_child(slot) {
            unregister.call();
        }
    }

    /// Propagates the end of a custom context that is done, unless that has begun.
    pub(super) fn propagate_external(self: &Arc<Self>) {
        let is_over = |external: &External| self.phase.is_open() && external.is_done();
        if self.external().is_some_and(is_over) {
            self.end_external();
        }
    }

    /// Propagates the end of a custom context that is done.
    fn end_external(self: &Arc<Self>) {
        let end = match (&self.parent, self.external()) {
            // It ends like the context it wraps.
            (Some(parent), _) => match parent.err() {
                Some(error) => End::of_parent(error, LinkIndex::First),
                None => return, // that context's cancellation will reach this node
            },
            (None, Some(external)) => End {
                error: self.outcome(external).error,
                cause: CauseIn::Node,
                origin: Origin::NONE,
            },
            (None, None) => return,
        };
        self.propagate(end).run();
    }

    /// Starts to watch a custom context that has children, so that its end reaches them. Calls user
    /// code. A child of the context it wraps needs no watch.
    fn watch_external(self: &Arc<Self>) {
        let (Some(external), None) = (self.external(), &self.parent) else {
            return;
        };
        let node = Arc::downgrade(self);
        let on_done = move || {
            if let Some(node) = node.upgrade() {
                node.end_external();
            }
        };
        let state = self.state.lock();
        let step = external.begin_watch(!state.children.is_empty());
        drop(state);
        match step {
            WatchStep::None => {}
            WatchStep::StartThread(control) => external.start_thread(control, self, on_done),
            WatchStep::CallAfterFunc => {
                let mut panics = FirstPanic::default();
                let mut registered = None;
                panics.catch(|| registered = external.after_func(on_done.clone()));
                let state = self.state.lock();
                let is_needed = !state.children.is_empty();
                let (step, unregister) = external.store_registration(registered, is_needed);
                drop(state);
                if let WatchStep::StartThread(control) = step {
                    external.start_thread(control, self, on_done);
                }
                unregister.into_iter().for_each(Unregister::call);
                panics.resume();
            }
        }
    }
}
