//! Threads for callbacks: as many as are needed at once, kept for a while when idle.
//!
//! A task goes to an idle thread by rendezvous; where none waits, a new thread is started for it. So
//! no task waits for another to end, until there are more threads than a process can do with or the
//! system refuses one: then tasks queue up, for the first thread that comes free or can be started. A
//! thread that was refused is asked for again, by a timer.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select, unbounded, Receiver, Sender};
use once_cell::sync::Lazy;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, Weak};
use crate::timer::{self, Expire};
use crate::unwind;

pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// How long a thread waits for its next task before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How many threads there are at most. With some ten thousand more Linux runs out of memory maps,
/// and std aborts the process instead of refusing the thread.
const MAX_THREADS: usize = 8192;

/// How long after the system has refused a thread the next one is asked for.
const RETRY: Duration = Duration::from_millis(10);

static POOL: Lazy<Pool> = Lazy::new(Pool::new);

struct Pool {
    /// Rendezvous with a thread that has nothing to do.
    idle: (Sender<Task>, Receiver<Task>),
    /// Tasks for threads about to start.
    backlog: (Sender<Task>, Receiver<Task>),
    threads: AtomicUsize,
    retry: Arc<Retry>,
}

/// Runs `task` on a thread of its own. Does not wait for it, and does not panic.
pub(crate) fn start(task: Task) {
    let Err(refused) = POOL.idle.0.try_send(task) else {
        return;
    };
    // Neither channel can be disconnected: both ends live in the static.
    let _ = POOL.backlog.0.send(refused.into_inner());
    if !POOL.add_thread() {
        POOL.retry_later();
    }
}

impl Pool {
    fn new() -> Pool {
        Pool {
            idle: bounded(0),
            backlog: unbounded(),
            threads: AtomicUsize::new(0),
            retry: Arc::default(),
        }
    }

    /// Starts a thread, if there may be one more. False if the system refuses it.
    fn add_thread(&self) -> bool {
        if !self.enter() {
            return true;
        }
        let thread = thread::Builder::new().name("go-ctx-callback".into());
        let granted = thread.spawn(work).is_ok();
        if !granted {
            self.leave();
        }
        granted
    }

    fn retry_later(&self) {
        if !self.retry.pending.swap(true, Ordering::SeqCst) {
            let retry: Weak<Retry> = Arc::downgrade(&self.retry);
            let key = (Instant::now() + RETRY, Arc::as_ptr(&self.retry) as usize);
            timer::insert(timer::my_lane(), key, retry);
        }
    }

    /// Counts one thread more, if there may be one.
    fn enter(&self) -> bool {
        let among = self.threads.fetch_add(1, Ordering::SeqCst) < MAX_THREADS;
        if !among {
            self.leave();
        }
        among
    }

    fn leave(&self) {
        self.threads.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The timer that asks for threads again.
#[derive(Default)]
struct Retry {
    pending: AtomicBool,
}

impl Expire for Retry {
    fn expire(self: Arc<Self>) {
        self.pending.store(false, Ordering::SeqCst);
        // As many as are needed if none of the tasks is to wait for another.
        if !(0..POOL.backlog.1.len()).all(|_| POOL.add_thread()) {
            POOL.retry_later();
        }
    }
}

fn work() {
    loop {
        // A thread that was started for a task finds it here, unless another came free before.
        while let Ok(task) = POOL.backlog.1.try_recv() {
            unwind::contain(task);
        }
        select! {
            recv(POOL.backlog.1) -> task => task.into_iter().for_each(unwind::contain),
            recv(POOL.idle.1) -> task => task.into_iter().for_each(unwind::contain),
            default(KEEP_ALIVE) => {
                POOL.leave();
                // One that was not let in beside this thread may have left a task behind.
                if POOL.backlog.1.is_empty() || !POOL.enter() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_threads_are_let_in() {
        let pool = Pool::new();
        assert!((0..MAX_THREADS).all(|_| pool.enter()));
        for _ in 0..3 {
            assert!(!pool.enter());
            pool.leave();
            assert!(pool.enter());
        }
        assert!(!pool.enter());
    }
}
