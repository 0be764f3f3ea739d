//! A function registered by `Context::after_func`. It is run once or taken back, never both.

use std::mem;

use super::children::ChildSlot;
use crate::runtime::sync::thread::{self, ThreadId};
use crate::runtime::sync::{Arc, Condvar, Mutex};
use crate::runtime::Task;

pub(crate) struct Callback {
    stage: Mutex<Stage>,
    finished: Condvar,
    /// Its place among the node's children.
    pub(crate) slot: ChildSlot,
}

enum Stage {
    Waiting(Task),
    /// Taken to run, and not running yet.
    Taken,
    Running(ThreadId),
    /// Has run, or never will.
    Finished,
}

impl Callback {
    pub(crate) fn new(task: Task) -> Callback {
        Callback {
            stage: Mutex::new(Stage::Waiting(task)),
            finished: Condvar::new(),
            slot: ChildSlot::default(),
        }
    }

    /// Decides that the function runs, and returns a task that runs it. Returns `None` if that was
    /// decided before, or the function was taken back.
    pub(crate) fn take_to_run(self: Arc<Self>) -> Option<Task> {
        let function = self.take(Stage::Taken)?;
        Some(Box::new(move || {
            let finish_on_exit = FinishOnExit(self);
            *finish_on_exit.0.stage.lock() = Stage::Running(thread::current().id());
            function();
        }))
    }

    /// Takes the function back, for the caller to drop. Returns `None` if it is to run, or was taken
    /// back before.
    pub(crate) fn take_back(&self) -> Option<Task> {
        self.take(Stage::Finished)
    }

    /// Waits until the function has run or was taken back, unless this thread is running it.
    pub(crate) fn wait(&self) {
        let this = thread::current().id();
        let stage = self.stage.lock();
        let stage = self.finished.wait_while(stage, |stage| match stage {
            Stage::Waiting(_) | Stage::Taken => true,
            Stage::Running(thread) => *thread != this,
            Stage::Finished => false,
        });
        drop(stage);
    }

    fn take(&self, next: Stage) -> Option<Task> {
        let mut stage = self.stage.lock();
        match mem::replace(&mut *stage, Stage::Finished) {
            Stage::Waiting(function) => {
                *stage = next;
                Some(function)
            }
            other => {
                *stage = other;
                None
            }
        }
    }
}

/// Reports that the function has run, even if it panics.
struct FinishOnExit(Arc<Callback>);

impl Drop for FinishOnExit {
    fn drop(&mut self) {
        *self.0.stage.lock() = Stage::Finished;
        self.0.finished.notify_all();
    }
}
