//! Replaces `src/runtime/timer.rs` and the pool: the queues are real, a model says when time passes,
//! and each task has a thread of the model. A panic there ends the model.

use std::time::{Duration, Instant};

use crossbeam_channel::{never, Receiver};

use super::sync::checker;
use super::sync::thread::{self, JoinHandle};
use super::sync::{Arc, Weak};
use super::timer_queue::{is_of, TimerQueues};
pub(crate) use super::timer_queue::{Inserted, TimerId};
use super::timestamp::Timestamp;

pub(crate) type Task = Box<dyn FnOnce() + Send>;

pub(crate) trait OnExpire: Send + Sync {
    fn expire(self: Arc<Self>, now: Timestamp, steps: &mut u32, rest: &mut Vec<Task>);
}

type Timer = Weak<dyn OnExpire>;

checker::lazy_static! {
    static ref QUEUES: TimerQueues<Timer> = TimerQueues::new();
    static ref RUNNING: std::sync::Mutex<Vec<JoinHandle<()>>> = Default::default();
}

pub(crate) fn insert(at: Timestamp, timer: Timer) -> Inserted {
    QUEUES.insert(QUEUES.shard(), at, timer)
}

pub(crate) fn wake_for(_: Inserted) {}

pub(crate) fn remove<T>(id: TimerId, owner: &T) {
    drop(QUEUES.remove(id, |timer| is_of(timer, owner)));
}

pub(crate) fn run_on_pool(tasks: Vec<Task>) {
    for task in tasks {
        let thread = thread::spawn(task);
        RUNNING.lock().unwrap().push(thread);
    }
}

pub(crate) fn run_on_pool_first(work: Task) {
    run_on_pool(vec![work]);
}

pub(crate) fn retry_refused() {}

pub(crate) fn longest_wait() -> Option<Duration> {
    None
}

pub(crate) fn retry_channel() -> Receiver<Instant> {
    never()
}

/// Does what the timer thread does when an hour and more has passed.
pub(crate) fn fire() {
    let mut rest = Vec::new();
    for timer in take_all().iter().filter_map(Weak::upgrade) {
        timer.expire(later(), &mut 6, &mut rest);
    }
    run_on_pool(rest);
}

/// Waits for all tasks, including those that other tasks hand over.
pub(crate) fn join_all() {
    loop {
        let next = RUNNING.lock().unwrap().pop();
        match next {
            Some(thread) => thread.join().unwrap(),
            None => return,
        }
    }
}

/// Returns how many timers are left, and removes them.
pub(crate) fn remove_all() -> usize {
    take_all().len()
}

fn take_all() -> Vec<Timer> {
    QUEUES.take_due(later(), usize::MAX)
}

fn later() -> Timestamp {
    (Instant::now() + Duration::from_secs(7200)).into()
}
