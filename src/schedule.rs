//! Which timers there are and what is due: all of it that takes neither a clock nor a thread.
//!
//! Each lane of threads has a queue, and they meet only in the time of the next alarm. Who puts a
//! timer in looks at that time afterwards. Who looks for what is due says `NEVER` there before it
//! looks into the queues. So, by the lock of the queue, either it finds the timer, or the timer finds
//! an alarm that is later than itself and has the thread woken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::lane::Lanes;
use crate::sync::{AtomicCell, Mutex};

/// A timer's place in its queue. The number tells apart those due at the same moment.
pub(crate) type Key = (Instant, usize);

pub(crate) struct Schedule<T> {
    queues: Lanes<CachePadded<Mutex<Queue<T>>>>,
    /// When to look next, in nanoseconds after `start`. It may be too early, for a timer since taken
    /// out; it is never too late.
    alarm: AtomicCell<u64>,
    start: Instant,
}

const NEVER: u64 = u64::MAX;

struct Queue<T>(BTreeMap<Key, T>);

impl<T> Queue<T> {
    /// Takes out what is due at `now`, and says when the next will be.
    fn take_due(&mut self, now: Instant, due: &mut Vec<(Key, T)>) -> Option<Instant> {
        while let Some(first) = self.0.first_entry() {
            if first.key().0 > now {
                return Some(first.key().0);
            }
            due.push(first.remove_entry());
        }
        None
    }
}

impl<T> Schedule<T> {
    /// One for timers that are due after `start`. Those before it are due then.
    pub(crate) fn new(start: Instant) -> Schedule<T> {
        let queue = || CachePadded::new(Mutex::new(Queue(BTreeMap::new())));
        Schedule {
            queues: Lanes::new(queue),
            alarm: AtomicCell::new(NEVER),
            start,
        }
    }

    /// The lane in which this thread puts its timers.
    pub(crate) fn my_lane(&self) -> u8 {
        self.queues.my_lane()
    }

    /// Puts a timer in, and says whether it comes before the alarm: then somebody has to be told.
    pub(crate) fn insert(&self, lane: u8, key: Key, timer: T) -> bool {
        self.queues.get(lane).lock().0.insert(key, timer);
        let at = self.offset(key.0);
        let is_first = at < self.alarm.load();
        if is_first {
            self.alarm.fetch_min(at);
        }
        is_first
    }

    /// Takes a timer out, if it is still there.
    pub(crate) fn remove(&self, lane: u8, key: Key) -> Option<T> {
        self.queues.get(lane).lock().0.remove(&key)
    }

    /// Sets the alarm for the next timer, and takes out those that are due at `now`, earliest first.
    pub(crate) fn look(&self, now: Instant) -> Vec<T> {
        self.alarm.store(NEVER);
        let mut due = Vec::new();
        for queue in self.queues.iter() {
            if let Some(next) = queue.lock().take_due(now, &mut due) {
                self.alarm.fetch_min(self.offset(next));
            }
        }
        due.sort_by_key(|(key, _)| *key);
        due.into_iter().map(|(_, timer)| timer).collect()
    }

    /// When to look next; `None` if nothing will be due, or only at a time that there is not.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        match self.alarm.load() {
            NEVER => None,
            offset => self.start.checked_add(Duration::from_nanos(offset)),
        }
    }

    fn offset(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(after).unwrap_or(NEVER - 1)
    }
}

#[cfg(all(test, not(model)))]
mod tests;
