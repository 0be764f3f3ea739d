//! The queues of timers, without a clock or a thread: an indexed 4-ary heap for each shard.
//!
//! The queues share `next_wake`, the time of the next wake-up. [`TimerQueues::insert`] adds a timer
//! to a queue and then reads `next_wake`. [`TimerQueues::take_due`] stores `NEVER` there and then
//! scans the queues. Suppose thread A inserts while thread B scans. Each takes the lock of the
//! queue: if A takes it first, B finds the timer; if B does, A reads `NEVER` or what B stored after
//! it, finds its timer earlier than that, and wakes the timer thread. Therefore no timer is missed.

use std::ptr;

use crossbeam_utils::CachePadded;

use super::sharded::Sharded;
use super::slab::{Slab, SPARE};
use super::sync::{AtomicCell, Mutex, Weak};
use super::timestamp::Timestamp;

pub(crate) struct TimerQueues<T> {
    queues: Sharded<CachePadded<Mutex<Queue<T>>>>,
    /// When to wake next, as a [`Timestamp`]. It may be too early, for a timer that has been removed
    /// since; it is never too late.
    next_wake: AtomicCell<u64>,
}

/// A timer, until it is removed or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId {
    pub(crate) shard: u8,
    pub(crate) slot: u32,
}

/// What [`TimerQueues::insert`] has done.
#[derive(Clone, Copy)]
pub(crate) struct Inserted {
    pub(crate) id: TimerId,
    /// Whether the timer is due before the next wake-up, so that the timer thread must be woken.
    pub(crate) must_wake: bool,
}

const NEVER: u64 = Timestamp::NONE.0;

impl<T> TimerQueues<T> {
    pub(crate) fn new() -> TimerQueues<T> {
        TimerQueues {
            queues: Sharded::new(|| CachePadded::new(Mutex::new(Queue::default()))),
            next_wake: AtomicCell::new(NEVER),
        }
    }

    /// Returns the shard in which this thread inserts.
    pub(crate) fn shard(&self) -> u8 {
        self.queues.index()
    }

    pub(crate) fn insert(&self, shard: u8, Timestamp(at): Timestamp, timer: T) -> Inserted {
        let mut queue = self.queues.get(shard).lock();
        let (slot, is_first) = queue.insert(at, timer);
        drop(queue);
        // The time of the next wake-up is never later than the first timer of a queue.
        let must_wake = is_first && at < self.next_wake.load();
        if must_wake {
            self.next_wake.fetch_min(at);
        }
        let id = TimerId { shard, slot };
        Inserted { id, must_wake }
    }

    /// Removes a timer if it is still there. `is_it` recognizes it, because a slot is used again.
    pub(crate) fn remove(&self, id: TimerId, is_it: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut queue = self.queues.get(id.shard).lock();
        queue.remove(id.slot, is_it)
    }

    /// Takes out at most `most` of the timers due at `now`, each queue's earliest first, and sets the
    /// time of the next wake-up. If more are due, that time is not later than `now`.
    pub(crate) fn take_due(&self, now: Timestamp, most: usize) -> Vec<T> {
        self.next_wake.store(NEVER);
        let mut due = Vec::new();
        for queue in self.queues.iter() {
            let mut queue = queue.lock();
            while let Some(first) = queue.heap.first().map(|first| first.at) {
                if first > now.0 || due.len() == most {
                    self.next_wake.fetch_min(first);
                    break;
                }
                due.extend(queue.remove_at(0).map(|timer| (first, timer)));
            }
        }
        due.sort_by_key(|(at, _)| *at);
        due.into_iter().map(|(_, timer)| timer).collect()
    }

    /// Returns when to wake next.
    pub(crate) fn next_wake(&self) -> Timestamp {
        Timestamp(self.next_wake.load())
    }
}

/// An indexed heap: each timer's slot holds its position in the heap, so that it can be removed.
struct Queue<T> {
    /// No entry is earlier than its parent, which for the entry at `i` is at `(i - 1) / ARITY`.
    heap: Vec<Entry>,
    /// Each timer with its position in the heap.
    timers: Slab<(u32, T)>,
    /// How many timers were inserted.
    inserted: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    at: u64,
    /// Of two timers at the same time, the one inserted first expires first.
    number: u32,
    slot: u32,
}

impl Entry {
    fn is_before(self, other: Entry) -> bool {
        let is_older = || (self.number.wrapping_sub(other.number) as i32) < 0;
        self.at < other.at || self.at == other.at && is_older()
    }
}

const ARITY: usize = 4;

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            heap: Vec::new(),
            timers: Slab::default(),
            inserted: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Returns the slot of the timer, and whether it is the earliest.
    fn insert(&mut self, at: u64, timer: T) -> (u32, bool) {
        let slot = self.timers.insert((0, timer));
        let number = self.inserted;
        self.inserted = number.wrapping_add(1);
        self.heap.push(Entry { at, number, slot });
        let is_first = self.sift_up(self.heap.len() - 1) == 0;
        (slot, is_first)
    }

    fn remove(&mut self, slot: u32, is_it: impl FnOnce(&T) -> bool) -> Option<T> {
        let (position, timer) = self.timers.get_mut(slot)?;
        let position = *position as usize;
        is_it(timer).then(|| self.remove_at(position)).flatten()
    }

    fn remove_at(&mut self, position: usize) -> Option<T> {
        let removed = self.heap.swap_remove(position);
        if position < self.heap.len() {
            let position = self.sift_up(position);
            self.sift_down(position);
        }
        let (_, timer) = self.timers.remove(removed.slot)?;
        if self.heap.is_empty() {
            self.heap.shrink_to(SPARE);
        }
        Some(timer)
    }

    fn sift_up(&mut self, mut position: usize) -> usize {
        let entry = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if !entry.is_before(self.heap[parent]) {
                break;
            }
            self.place(self.heap[parent], position);
            position = parent;
        }
        self.place(entry, position);
        position
    }

    fn sift_down(&mut self, mut position: usize) {
        let entry = self.heap[position];
        loop {
            let first = ARITY * position + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let earliest =
                children.reduce(
                    |one, other| match self.heap[other].is_before(self.heap[one]) {
                        true => other,
                        false => one,
                    },
                );
            match earliest.filter(|&child| self.heap[child].is_before(entry)) {
                Some(child) => {
                    self.place(self.heap[child], position);
                    position = child;
                }
                None => break self.place(entry, position),
            }
        }
    }

    fn place(&mut self, entry: Entry, position: usize) {
        self.heap[position] = entry;
        if let Some((index, _)) = self.timers.get_mut(entry.slot) {
            *index = position as u32;
        }
    }
}

/// Returns whether a timer is that of `owner`, or of another owner that is being dropped, and so will
/// never expire. A node may have been moved out of its `Arc` by then, so the address alone would not do.
pub(crate) fn is_of<T, O: ?Sized>(timer: &Weak<O>, owner: &T) -> bool {
    timer.strong_count() == 0 || ptr::eq(timer.as_ptr().cast(), owner)
}

#[cfg(all(test, not(model)))]
mod tests;
