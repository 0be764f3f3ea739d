//! Threads for callbacks: as many as are needed at once, kept for a while when idle.
//!
//! A task goes to an idle thread by rendezvous; where none waits, a new thread is started for it.
//! So no task ever waits for another to end. Only when the system refuses a thread do tasks queue
//! up, for the first thread that comes free or can be started.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, select, unbounded, Receiver, Sender};
use once_cell::sync::Lazy;

use crate::unwind;

pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// How long a thread waits for its next task before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

static POOL: Lazy<Pool> = Lazy::new(|| Pool {
    idle: bounded(0),
    backlog: unbounded(),
});

struct Pool {
    /// Rendezvous with a thread that has nothing to do.
    idle: (Sender<Task>, Receiver<Task>),
    /// Tasks for threads about to start.
    backlog: (Sender<Task>, Receiver<Task>),
}

/// Runs `task` on a thread of its own. Does not wait for it, and does not panic.
pub(crate) fn start(task: Task) {
    let Err(refused) = POOL.idle.0.try_send(task) else {
        return;
    };
    // Neither channel can be disconnected: both ends live in the static.
    let _ = POOL.backlog.0.send(refused.into_inner());
    // If this fails the task stays in the backlog; see the head of this file.
    let _ = thread::Builder::new()
        .name("go-context-callback".into())
        .spawn(work);
}

fn work() {
    if let Ok(task) = POOL.backlog.1.try_recv() {
        unwind::contain(task);
    }
    loop {
        select! {
            recv(POOL.backlog.1) -> task => task.into_iter().for_each(unwind::contain),
            recv(POOL.idle.1) -> task => task.into_iter().for_each(unwind::contain),
            default(KEEP_ALIVE) => return,
        }
    }
}
