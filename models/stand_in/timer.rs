//! Stands in for `src/timer.rs`: the schedule is real, and a model says when time passes.

use std::time::{Duration, Instant};

pub(crate) use crate::schedule::Key;
use crate::schedule::Schedule;
use crate::sync::{checker, Arc, Weak};

pub(crate) trait Expire: Send + Sync {
    fn expire(self: Arc<Self>);
}

checker::lazy_static! {
    static ref TIMER: Schedule<Weak<dyn Expire>> = Schedule::new(Instant::now());
}

pub(crate) fn my_lane() -> u8 {
    TIMER.my_lane()
}

pub(crate) fn insert(lane: u8, key: Key, timer: Weak<dyn Expire>) {
    TIMER.insert(lane, key, timer);
}

pub(crate) fn remove(lane: u8, key: Key) {
    drop(TIMER.remove(lane, key));
}

/// What the timer's thread does when an hour and more has passed.
pub(crate) fn fire() {
    for timer in TIMER.look(Instant::now() + Duration::from_secs(7200)) {
        if let Some(timer) = timer.upgrade() {
            timer.expire();
        }
    }
}

/// Whether there are timers left. Takes them out.
pub(crate) fn is_empty() -> bool {
    TIMER
        .look(Instant::now() + Duration::from_secs(7200))
        .is_empty()
}
