//! Threads that wait for the done channel of a custom context which does not call back.

use std::thread;
use std::time::Duration;

use crossbeam_channel::{after, never, select_biased, Receiver};

use super::run_on_pool;

/// How long a thread stays after its context has lost its last child, in case a new one follows.
const LINGER: Duration = Duration::from_millis(100);

/// Starts a thread that waits until `done` is disconnected and then calls `on_done`.
///
/// It ends when `control` is disconnected, or a moment after a message there if `end_if_idle` returns
/// `true`. If the system refuses the thread, the wait runs on a pool thread.
pub(crate) fn start(
    done: Receiver<()>,
    control: Receiver<()>,
    end_if_idle: impl Fn() -> bool + Clone + Send + 'static,
    on_done: impl FnOnce() + Clone + Send + 'static,
) {
    let wait = move || wait_for(&done, &control, end_if_idle, on_done);
    // Not one of the threads for callbacks, of which there is only a limited number.
    let thread = thread::Builder::new().name("go-ctx-watch".into());
    if thread.spawn(wait.clone()).is_err() {
        run_on_pool(vec![Box::new(wait)]);
    }
}

fn wait_for(
    done: &Receiver<()>,
    control: &Receiver<()>,
    end_if_idle: impl Fn() -> bool,
    on_done: impl FnOnce(),
) {
    let mut lingered = never();
    loop {
        select_biased! {
            recv(control) -> message => match message {
                Ok(()) => lingered = after(LINGER),
                Err(_) => return,
            },
            // A message means nothing; the channel has to be disconnected.
            recv(done) -> message => if message.is_err() {
                return on_done();
            },
            recv(lingered) -> _ => match end_if_idle() {
                true => return,
                false => lingered = never(),
            },
        }
    }
}
