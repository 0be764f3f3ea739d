//! A function registered by `Context::after_func`: it is started once or taken back, never both.

use std::mem;

use crate::pool::Task;
use crate::slab;
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Arc, AtomicU32, Condvar, Mutex};

pub(crate) struct Callback {
    stage: Mutex<Stage>,
    over: Condvar,
    /// Its slot in the node's table, as that of a `Tie`.
    pub(crate) slot: AtomicU32,
}

enum Stage {
    Waiting(Task),
    /// It has been decided that it runs.
    Started,
    Running(ThreadId),
    /// It has run, or will not.
    Over,
}

impl Callback {
    pub(crate) fn new(task: Task) -> Callback {
        Callback {
            stage: Mutex::new(Stage::Waiting(task)),
            over: Condvar::new(),
            slot: AtomicU32::new(slab::NONE),
        }
    }

    /// Decides that the function runs, and returns the task that runs it; `None` if it has been
    /// decided before.
    pub(crate) fn start(self: Arc<Self>) -> Option<Task> {
        let task = self.take(Stage::Started)?;
        Some(Box::new(move || {
            *self.stage.lock() = Stage::Running(thread::current().id());
            let _over = OnDrop(|| self.finish()); // also if it panics
            task();
        }))
    }

    /// Takes the function back, for the caller to drop; `None` if it has been decided before.
    pub(crate) fn stop(&self) -> Option<Task> {
        self.take(Stage::Over)
    }

    /// Waits until the function has run, unless it is what this thread is running.
    pub(crate) fn wait(&self) {
        let this = thread::current().id();
        let stage = self.stage.lock();
        let stage = self.over.wait_while(stage, |stage| match stage {
            Stage::Waiting(_) | Stage::Started => true,
            Stage::Running(thread) => *thread != this,
            Stage::Over => false,
        });
        drop(stage);
    }

    fn take(&self, next: Stage) -> Option<Task> {
        let mut stage = self.stage.lock();
        match mem::replace(&mut *stage, Stage::Over) {
            Stage::Waiting(task) => {
                *stage = next;
                Some(task)
            }
            decided => {
                *stage = decided;
                None
            }
        }
    }

    fn finish(&self) {
        *self.stage.lock() = Stage::Over;
        self.over.notify_all();
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
