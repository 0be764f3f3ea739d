//! One thread for all deadlines.
//!
//! It sleeps in a `select!` over the alarm for the earliest deadline and a channel that wakes it
//! when an earlier one comes in. It runs no code of the user's; see `Expire`.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{after, bounded, never, select, Receiver, Sender};
use once_cell::sync::Lazy;

use crate::sync::{Mutex, Weak};
use crate::unwind;

/// What a deadline does when it passes.
pub(crate) trait Expire: Send + Sync {
    /// Called on the timer thread, with no lock held. Must not run or wait for foreign code.
    fn expire(self: crate::sync::Arc<Self>);
}

/// A timer's place in the queue. The number tells apart those due at the same moment.
pub(crate) type Key = (Instant, usize);

static TIMER: Lazy<Timer> = Lazy::new(|| Timer {
    queue: Mutex::new(Queue::default()),
    wake: bounded(1),
});

struct Timer {
    queue: Mutex<Queue>,
    wake: (Sender<()>, Receiver<()>),
}

#[derive(Default)]
struct Queue {
    timers: BTreeMap<Key, Weak<dyn Expire>>,
    /// When the thread will next look by itself. It may be too early, for a timer since taken out;
    /// it is never too late.
    alarm: Option<Instant>,
    /// Whether the thread has been started.
    running: bool,
}

impl Queue {
    /// Puts a timer in; true if the thread has to be told.
    fn insert(&mut self, key: Key, timer: Weak<dyn Expire>) -> bool {
        self.timers.insert(key, timer);
        let earliest = self.alarm.map_or(true, |alarm| key.0 < alarm);
        if earliest {
            self.alarm = Some(key.0);
        }
        earliest
    }

    /// Takes out what is due at `now`, earliest first, and sets the alarm for the rest.
    fn take_due(&mut self, now: Instant) -> Vec<Weak<dyn Expire>> {
        let mut due = Vec::new();
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                break;
            }
            due.push(first.remove());
        }
        self.alarm = self.timers.keys().next().map(|key| key.0);
        due
    }
}

/// Has `timer` expire at `key.0`, never before. The first call starts the thread.
///
/// If the system refuses the thread, the next call tries again.
pub(crate) fn insert(key: Key, timer: Weak<dyn Expire>) {
    let mut queue = TIMER.queue.lock();
    let wake = queue.insert(key, timer);
    let start = !queue.running;
    queue.running = true;
    drop(queue);
    if start {
        let thread = thread::Builder::new().name("go-ctx-timer".into());
        if thread.spawn(run).is_err() {
            TIMER.queue.lock().running = false;
        }
    } else if wake {
        // A full channel says that the thread is about to look anyway.
        let _ = TIMER.wake.0.try_send(());
    }
}

/// Takes a timer out, if it is still there.
pub(crate) fn remove(key: Key) {
    let removed = TIMER.queue.lock().timers.remove(&key);
    drop(removed); // with the lock given back
}

fn run() {
    loop {
        let mut queue = TIMER.queue.lock();
        let due = queue.take_due(Instant::now());
        let alarm = queue.alarm;
        drop(queue);
        if due.is_empty() {
            let alarm = alarm.map_or_else(never, |at| {
                after(at.saturating_duration_since(Instant::now()))
            });
            select! {
                recv(alarm) -> _ => {}
                recv(TIMER.wake.1) -> _ => {}
            }
        }
        for timer in due.iter().filter_map(Weak::upgrade) {
            unwind::contain(|| timer.expire());
        }
    }
}
