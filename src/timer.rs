//! One thread for all deadlines.
//!
//! It sleeps in a `select!` over the alarm for the earliest deadline and a channel that wakes it
//! when an earlier one comes in. It runs no code of the user's; see `Expire`. What is due when, and
//! how none is missed, is in `schedule.rs`.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{after, bounded, never, select, Receiver, Sender};
use crossbeam_utils::Backoff;
use once_cell::sync::Lazy;

pub(crate) use crate::schedule::Key;
use crate::schedule::Schedule;
use crate::sync::{Arc, AtomicBool, Ordering, Weak};
use crate::unwind;

/// What a deadline does when it passes.
pub(crate) trait Expire: Send + Sync {
    /// Called on the timer thread, with no lock held. Must not run or wait for foreign code.
    fn expire(self: Arc<Self>);
}

static TIMER: Lazy<Timer> = Lazy::new(|| Timer {
    schedule: Schedule::new(Instant::now()),
    wake: bounded(1),
    running: AtomicBool::new(false),
});

struct Timer {
    schedule: Schedule<Weak<dyn Expire>>,
    wake: (Sender<()>, Receiver<()>),
    /// Whether the thread has been started.
    running: AtomicBool,
}

/// How long before an alarm the thread gets up at most.
const LEAD: Duration = Duration::from_micros(200);

/// The lane in which this thread puts its timers.
pub(crate) fn my_lane() -> u8 {
    TIMER.schedule.my_lane()
}

/// Has `timer` expire at `key.0`, never before. The first call starts the thread.
///
/// If the system refuses the thread, the next call tries again.
pub(crate) fn insert(lane: u8, key: Key, timer: Weak<dyn Expire>) {
    if TIMER.schedule.insert(lane, key, timer) {
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
    drop(TIMER.schedule.remove(lane, key));
}

impl Timer {
    /// Sleeps until the alarm, or until a timer comes in that is due before.
    ///
    /// A sleeping thread is woken late, by about as much each time. So it has itself woken by that
    /// much earlier, and waits for the last moments awake.
    fn sleep(&self, lead: &mut Duration) {
        let alarm = self.schedule.alarm();
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
        let due = TIMER.schedule.look(Instant::now());
        if due.is_empty() {
            TIMER.sleep(&mut lead);
        }
        for timer in due.iter().filter_map(Weak::upgrade) {
            unwind::contain(|| timer.expire());
        }
    }
}
