//! Replaces `src/runtime/watcher.rs`: a model says when the threads run.

use crossbeam_channel::{Receiver, TryRecvError};

use super::sync::{checker, is_disconnected};
use super::Task;

struct Watcher {
    done: Receiver<()>,
    control: Receiver<()>,
    end_if_idle: Box<dyn Fn() -> bool + Send>,
    on_done: Task,
    is_lingering: bool,
}

checker::lazy_static! {
    static ref WATCHERS: std::sync::Mutex<Vec<Watcher>> = Default::default();
}

pub(crate) fn start(
    done: Receiver<()>,
    control: Receiver<()>,
    end_if_idle: impl Fn() -> bool + Clone + Send + 'static,
    on_done: impl FnOnce() + Clone + Send + 'static,
) {
    WATCHERS.lock().unwrap().push(Watcher {
        done,
        control,
        end_if_idle: Box::new(end_if_idle),
        on_done: Box::new(on_done),
        is_lingering: false,
    });
}

/// Does what the threads do that have a reason to run, and then what those do that have lingered.
pub(crate) fn run_all() {
    let watchers = std::mem::take(&mut *WATCHERS.lock().unwrap());
    let staying = watchers.into_iter().filter_map(Watcher::run);
    let staying: Vec<Watcher> = staying.collect();
    WATCHERS.lock().unwrap().extend(staying);
}

/// Returns how many threads there are, after those that have a reason to end have ended.
pub(crate) fn count() -> usize {
    run_all();
    WATCHERS.lock().unwrap().len()
}

impl Watcher {
    /// Returns `None` if the thread ends.
    fn run(mut self) -> Option<Watcher> {
        loop {
            match self.control.try_recv() {
                Ok(()) => self.is_lingering = true,
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => break,
            }
        }
        if is_disconnected(&self.done) {
            (self.on_done)();
            return None;
        }
        let is_over = self.is_lingering && (self.end_if_idle)();
        self.is_lingering = false;
        (!is_over).then_some(self)
    }
}
