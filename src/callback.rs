//! A function registered by `Context::after_func`: it is started once or taken back, never both.

use crate::pool::Task;
use crate::sync::{AtomicU32, Mutex};

pub(crate) struct Callback {
    task: Mutex<Option<Task>>,
    /// Its slot in the node's table. Written under the node's lock.
    pub(crate) slot: AtomicU32,
}

impl Callback {
    pub(crate) fn new(task: Task) -> Callback {
        Callback {
            task: Mutex::new(Some(task)),
            slot: AtomicU32::new(0),
        }
    }

    /// Takes the function, to start it or to drop it: whoever gets it has decided which.
    pub(crate) fn take(&self) -> Option<Task> {
        self.task.lock().take()
    }
}
