//! Waiters: a cancellation wakes each that is registered, and one that is used again is woken for the
//! context that it waits for.

use super::*;

use std::task::{Wake, Waker};

use crate::runtime::sync::{Condvar, Mutex};
use crate::tree::Waiter;

/// What a thread waits for: in the crate, a file descriptor.
struct WakeUp {
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl Wake for WakeUp {
    fn wake(self: std::sync::Arc<Self>) {
        *self.is_woken.lock() = true;
        self.woken.notify_all();
    }
}

/// Waits until a context is done, by one waiter after the other, as `net` does.
struct Thread(Arc<WakeUp>, Arc<Waiter>);

impl Thread {
    fn new() -> Thread {
        let wake_up = Arc::new(WakeUp {
            is_woken: Mutex::new(false),
            woken: Condvar::new(),
        });
        let waiter = Waiter::new(Waker::from(wake_up.clone()));
        Thread(wake_up, waiter)
    }

    /// Blocks for ever, which the checker reports, if a wake-up is lost.
    fn wait(&self, ctx: &Context) {
        let node = ctx.node.as_ref().expect("cancellable");
        node.add_waiter(&self.1);
        while ctx.err().is_none() {
            let is_woken = self.0.is_woken.lock();
            let is_woken = self.0.woken.wait_while(is_woken, |is_woken| !*is_woken);
            drop(is_woken);
            *self.0.is_woken.lock() = false;
        }
        node.remove_waiter(&self.1);
    }
}

#[test]
fn waiter_is_woken_by_cancel() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let waiting = spawn({
            let ctx = ctx.clone();
            move || Thread::new().wait(&ctx)
        });
        cancel.cancel("x");
        waiting.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn waiter_is_used_for_two_contexts() {
    in_many_orders(|| {
        let contexts = [(), ()].map(|()| root());
        let [one, two] = [0, 1].map(|i| contexts[i].0.clone());
        let waiting = spawn(move || {
            let thread = Thread::new();
            thread.wait(&one);
            thread.wait(&two);
        });
        let cancels = contexts.map(|(_, cancel)| spawn(move || cancel.cancel("x")));
        for cancel in cancels {
            cancel.join().unwrap();
        }
        waiting.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn waiter_of_child_is_woken_from_above_and_by_deadline() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let (ctx, _cancel) = parent.with_timeout(HOUR);
        let waiting = spawn(move || Thread::new().wait(&ctx));
        let expiry = spawn(timer::fire);
        cancel.cancel("x");
        expiry.join().unwrap();
        waiting.join().unwrap();
    });
}

#[test]
fn waiter_is_removed_or_woken() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let thread = Thread::new();
        let node = ctx.node.clone().expect("cancellable");
        node.add_waiter(&thread.1);
        let other = spawn(move || cancel.cancel("x"));
        node.remove_waiter(&thread.1);
        other.join().unwrap();
        // It can be used again, whether it was woken or not.
        let (next, cancel) = root();
        let node = next.node.clone().expect("cancellable");
        assert!(node.add_waiter(&thread.1));
        cancel.cancel("y");
        assert!(*thread.0.is_woken.lock());
        node.remove_waiter(&thread.1);
    });
}
