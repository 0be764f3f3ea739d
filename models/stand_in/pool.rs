//! Stands in for `src/pool.rs`: a thread of the model for each task.

use crate::sync::checker;
use crate::sync::thread::{self, JoinHandle};
use crate::unwind;

pub(crate) type Task = Box<dyn FnOnce() + Send>;

checker::lazy_static! {
    static ref RUNNING: std::sync::Mutex<Vec<JoinHandle<()>>> = Default::default();
}

pub(crate) fn start(task: Task) {
    let thread = thread::spawn(move || unwind::contain(task));
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
