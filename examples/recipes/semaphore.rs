//! A weighted semaphore, first come, first served. In Go: `golang.org/x/sync/semaphore`.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};

use go_context::{Context, Error};

#[derive(Clone)]
pub struct Semaphore {
    size: usize,
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    used: usize,
    queue: VecDeque<ThreadId>,
}

/// Gives back its part of the semaphore when it is dropped.
pub struct Permit(Semaphore, usize);

impl Semaphore {
    pub fn new(size: usize) -> Semaphore {
        let shared = Arc::default();
        Semaphore { size, shared }
    }

    /// Blocks until all earlier calls have returned and `n` are free. As in Go, a call that asks for
    /// more than `size` fails when the context is done, and does not delay the others.
    pub fn acquire(&self, ctx: &Context, n: usize) -> Result<Permit, Error> {
        if n > self.size {
            return Err(ctx.wait());
        }
        let me = thread::current().id();
        self.update(|state| state.queue.push_back(me));
        let acquired = ctx
            .wait_while(&self.shared, |s| s.queue[0] != me || self.size - s.used < n)
            .map(|mut state| state.used += n);
        // Wakes the next in the queue, even after an error: there may be enough for it.
        self.update(|state| state.queue.retain(|&other| other != me));
        acquired.map(|()| Permit(self.clone(), n))
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.update(|state| state.used -= self.1);
    }
}
