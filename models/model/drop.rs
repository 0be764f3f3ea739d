//! Handles that go, the last of them too, against cancels.

use super::*;

use std::sync::Mutex;

#[test]
fn a_context_dropped_during_its_own_cancel_is_done_once() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let dropper = go(move || drop(ctx));
        cancel.cancel("x");
        assert!(
            is_closed(&done),
            "cancel has returned, and the channel is open"
        );
        drop(cancel);
        dropper.join().unwrap();
    });
}

/// The last handle goes while a cancel from above is on its way to it.
#[test]
fn a_context_abandoned_during_a_cancel_from_above_is_done_when_that_returns() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = seen_child(&parent);
        let done = ctx.done();
        let dropper = go(move || drop((ctx, cancel)));
        cancel_parent.cancel("x");
        assert!(
            is_closed(&done),
            "cancel has returned, and a descendant is not done"
        );
        dropper.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn contexts_abandoned_by_several_threads_are_done_when_a_cancel_returns() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let (grandchild, cancel_grandchild) = child(&ctx);
        let seen: Arc<Mutex<Vec<Receiver<()>>>> = Arc::default();
        let others = [
            go({
                let (grandchild, seen) = (grandchild.clone(), seen.clone());
                move || {
                    let done = grandchild.done();
                    seen.lock().unwrap().push(done);
                }
            }),
            go({
                let ctx = ctx.clone();
                move || drop((ctx, grandchild, cancel_grandchild))
            }),
            go(move || drop((ctx, cancel))),
        ];
        let before = seen.lock().unwrap().clone();
        cancel_parent.cancel("x");
        assert!(
            before.iter().all(is_closed),
            "cancel has returned, and a channel is open"
        );
        for other in others {
            other.join().unwrap();
        }
        let after = seen.lock().unwrap().clone();
        assert!(after.iter().all(is_closed));
    });
}

/// What holds a context last may be the cancel that passes.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_chain_abandoned_during_a_cancel_is_let_go_by_who_comes_last() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = seen_child(&parent);
        let (grandchild, cancel_grandchild) = seen_child(&ctx);
        let done = [ctx.done(), grandchild.done()];
        drop((ctx, cancel));
        let dropper = go(move || drop(grandchild));
        let canceler = go(move || cancel_grandchild.cancel("y"));
        cancel_parent.cancel("x");
        assert!(done.iter().all(is_closed));
        drop((parent, cancel_parent));
        dropper.join().unwrap();
        canceler.join().unwrap();
    });
}
