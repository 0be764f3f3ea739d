//! One thread for all deadlines.
//!
//! It sleeps in a `select!` over the alarm for the earliest deadline and a channel that wakes it
//! when an earlier one comes in. It runs no code of the user's; see `Expire`.
//!
//! Each lane of threads has a queue, and they meet only in the time of the next alarm. Who puts a
//! timer in looks at that time afterwards. The thread says `NEVER` there before it looks into the
//! queues. So, by the lock of the queue, either it finds the timer, or the timer finds an alarm that
//! is later than itself and wakes the thread.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, bounded, never, select, Receiver, Sender};
use crossbeam_utils::{Backoff, CachePadded};
use once_cell::sync::Lazy;

use crate::lane::Lanes;
use crate::sync::{AtomicBool, AtomicCell, Mutex, Ordering, Weak};
use crate::unwind;

/// What a deadline does when it passes.
pub(crate) trait Expire: Send + Sync {
    /// Called on the timer thread, with no lock held. Must not run or wait for foreign code.
    fn expire(self: crate::sync::Arc<Self>);
}

/// A timer's place in its queue. The number tells apart those due at the same moment.
pub(crate) type Key = (Instant, usize);

static TIMER: Lazy<Timer> = Lazy::new(|| Timer {
    queues: Lanes::new(CachePadded::default),
    alarm: AtomicCell::new(NEVER),
    wake: bounded(1),
    running: AtomicBool::new(false),
    start: Instant::now(),
});

struct Timer {
    queues: Lanes<CachePadded<Mutex<Queue>>>,
    /// When the thread will next look by itself, in nanoseconds after `start`. It may be too early,
    /// for a timer since taken out; it is never too late.
    alarm: AtomicCell<u64>,
    wake: (Sender<()>, Receiver<()>),
    /// Whether the thread has been started.
    running: AtomicBool,
    start: Instant,
}

const NEVER: u64 = u64::MAX;

/// How long before an alarm the thread gets up at most.
const LEAD: Duration = Duration::from_micros(200);

#[derive(Default)]
struct Queue {
    timers: BTreeMap<Key, Weak<dyn Expire>>,
}

impl Queue {
    /// Takes out what is due at `now`, and says when the next will be.
    fn take_due(
        &mut self,
        now: Instant,
        due: &mut Vec<(Key, Weak<dyn Expire>)>,
    ) -> Option<Instant> {
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                return Some(first.key().0);
            }
            due.push(first.remove_entry());
        }
        None
    }
}

/// The lane in which this thread puts its timers.
pub(crate) fn my_lane() -> u8 {
    TIMER.queues.my_lane()
}

/// Has `timer` expire at `key.0`, never before. The first call starts the thread.
///
/// If the system refuses the thread, the next call tries again.
pub(crate) fn insert(lane: u8, key: Key, timer: Weak<dyn Expire>) {
    TIMER.queues.get(lane).lock().timers.insert(key, timer);
    let alarm = TIMER.offset(key.0);
    if alarm < TIMER.alarm.load() {
        TIMER.alarm.fetch_min(alarm);
        // A full channel says that the thread is about to look anyway.
        let _ = TIMER.wake.0.try_send(());
    }
    if !TIMER.running.load(Ordering::Relaxed) && !TIMER.running.swap(true, Ordering::Relaxed) {
        let thread = thread::Builder::new().name("go-ctx-timer".into());
        if thread.spawn(run).is_err() {
            TIMER.running.store(false, Ordering::Relaxed);
        }
    }
}

/// Takes a timer out, if it is still there.
pub(crate) fn remove(lane: u8, key: Key) {
    let removed = TIMER.queues.get(lane).lock().timers.remove(&key);
    drop(removed); // with the lock given back
}

impl Timer {
    fn offset(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(after).unwrap_or(NEVER - 1)
    }

    /// Sets the alarm for the next timer, and returns those that are due at `now`, earliest first.
    fn look(&self, now: Instant) -> Vec<Weak<dyn Expire>> {
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

    /// When the alarm is set for; `None` if it is not, or for a time that there is not.
    fn alarm(&self) -> Option<Instant> {
        match self.alarm.load() {
            NEVER => None,
            offset => self.start.checked_add(Duration::from_nanos(offset)),
        }
    }

    /// Sleeps until the alarm, or until a timer comes in that is due before.
    ///
    /// A sleeping thread is woken late, by about as much each time. So it has itself woken by that
    /// much earlier, and waits for the last moments awake.
    fn sleep(&self, lead: &mut Duration) {
        let alarm = self.alarm();
        let from = Instant::now();
        let nap = alarm.map(|alarm| {
            let left = alarm.saturating_duration_since(from);
            left.saturating_sub(*lead)
        });
        select! {
            recv(nap.map_or_else(never, after)) -> _ => {}
            recv(self.wake.1) -> _ => return,
        }
        let Some((alarm, nap)) = alarm.zip(nap) else {
            return;
        };
        if !nap.is_zero() {
            let late = from.elapsed().saturating_sub(nap);
            *lead = ((*lead * 7 + late) / 8).min(LEAD);
        }
        let backoff = Backoff::new();
        while Instant::now() < alarm && self.wake.1.is_empty() {
            backoff.snooze();
        }
    }
}

fn run() {
    let mut lead = Duration::ZERO;
    loop {
        let due = TIMER.look(Instant::now());
        if due.is_empty() {
            TIMER.sleep(&mut lead);
        }
        for timer in due.iter().filter_map(Weak::upgrade) {
            unwind::contain(|| timer.expire());
        }
    }
}
