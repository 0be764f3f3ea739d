//! Stands in for `src/pool.rs`: a thread of the model for each task. A panic there ends the model.

use crate::sync::checker;
use crate::sync::thread::{self, JoinHandle};

pub(crate) type Task = Box<dyn FnOnce() + Send>;

checker::lazy_static! {
    static ref RUNNING: std::sync::Mutex<Vec<JoinHandle<()>>> = Default::default();
}

pub(crate) fn start(task: Task) {
    let thread = thread::spawn(task);
    RUNNING.lock().unwrap().push(thread);
}

/// Waits for all tasks, those that others start among them.
pub(crate) fn join_all() {
    loop {
        let next = RUNNING.lock().unwrap().pop();
        match next {
            Some(thread) => thread.join().unwrap(),
            None => return,
        }
    }
}
