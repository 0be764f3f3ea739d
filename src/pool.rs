//! Threads for callbacks: as many as are needed at once, kept for a while when idle.
//!
//! A task goes to an idle thread by rendezvous; where none waits, a new thread is started for it. So
//! no task waits for another to end, until there are more threads than a process can do with or the
//! system refuses one: then tasks queue up, for the first thread that comes free or can be started.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, select, unbounded, Receiver, Sender};
use once_cell::sync::Lazy;

use crate::sync::{AtomicUsize, Ordering};
use crate::unwind;

pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// How long a thread waits for its next task before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How many threads there are at most. With some ten thousand more Linux runs out of memory maps,
/// and std aborts the process instead of refusing the thread.
const MAX_THREADS: usize = 8192;

static POOL: Lazy<Pool> = Lazy::new(|| Pool {
    idle: bounded(0),
    backlog: unbounded(),
    threads: AtomicUsize::new(0),
});

struct Pool {
    /// Rendezvous with a thread that has nothing to do.
    idle: (Sender<Task>, Receiver<Task>),
    /// Tasks for threads about to start.
    backlog: (Sender<Task>, Receiver<Task>),
    threads: AtomicUsize,
}

/// Runs `task` on a thread of its own. Does not wait for it, and does not panic.
pub(crate) fn start(task: Task) {
    let Err(refused) = POOL.idle.0.try_send(task) else {
        return;
    };
    // Neither channel can be disconnected: both ends live in the static.
    let _ = POOL.backlog.0.send(refused.into_inner());
    if POOL.enter() {
        let thread = thread::Builder::new().name("go-ctx-callback".into());
        if thread.spawn(work).is_err() {
            POOL.leave(); // the task stays in the backlog; see the head of this file
        }
    }
}

impl Pool {
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
