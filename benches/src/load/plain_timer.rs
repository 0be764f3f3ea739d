//! A plain hand-written timer: a map under a mutex, and a thread that waits on a condition variable until
//! the first entry is due.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

#[derive(Clone, Default)]
pub(super) struct PlainTimer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    entries: BTreeMap<(Instant, u64), Arc<AtomicBool>>,
    /// Distinguishes entries that are due at the same time.
    inserted: u64,
}

pub(super) struct PlainTimeout {
    key: (Instant, u64),
    expired: Arc<AtomicBool>,
}

impl PlainTimer {
    /// Starts the thread of the timer.
    pub(super) fn start() -> PlainTimer {
        let timer = PlainTimer::default();
        let shared = timer.shared.clone();
        thread::spawn(move || shared.expire_for_ever());
        timer
    }

    pub(super) fn insert(&self, at: Instant) -> PlainTimeout {
        let expired = Arc::new(AtomicBool::new(false));
        let mut queue = self.shared.queue.lock().unwrap();
        queue.inserted += 1;
        let key = (at, queue.inserted);
        queue.entries.insert(key, expired.clone());
        let is_first = queue.entries.first_key_value().is_some_and(|e| *e.0 == key);
        drop(queue);
        if is_first {
            self.shared.changed.notify_one();
        }
        PlainTimeout { key, expired }
    }

    pub(super) fn remove(&self, timeout: &PlainTimeout) {
        let mut queue = self.shared.queue.lock().unwrap();
        queue.entries.remove(&timeout.key);
    }
}

impl PlainTimeout {
    pub(super) fn has_expired(&self) -> bool {
        self.expired.load(Ordering::Acquire)
    }
}

impl Shared {
    fn expire_for_ever(&self) {
        let mut queue = self.queue.lock().unwrap();
        loop {
            let now = Instant::now();
            queue = match queue.entries.first_entry() {
                None => self.changed.wait(queue).unwrap(),
                Some(first) if first.key().0 <= now => {
                    first.remove().store(true, Ordering::Release);
                    queue
                }
                Some(first) => {
                    let until_due = first.key().0 - now;
                    self.changed.wait_timeout(queue, until_due).unwrap().0
                }
            };
        }
    }
}
