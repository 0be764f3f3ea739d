//! Handles dropped during cancellations, the last one included.

use super::*;

use std::sync::Mutex;

#[test]
fn drop_during_own_cancel_closes_done() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let dropper = spawn(move || drop(ctx));
        cancel.cancel("x");
        assert_closed(&done);
        drop(cancel);
        dropper.join().unwrap();
    });
}

#[test]
fn cancel_waits_for_child_being_dropped() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let done = ctx.done();
        let dropper = spawn(move || drop((ctx, cancel)));
        cancel_parent.cancel("x");
        assert_closed(&done);
        dropper.join().unwrap();
    });
}

/// Two cancellations, of which one waits at a busy node for the other, and that one for the drop.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancel_waits_for_grandchildren_being_dropped() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = child(&top);
        let low = [child(&middle), child(&middle)];
        let done = [low[0].0.done(), low[1].0.done()];
        let dropped = low.map(|low| spawn(move || drop(low)));
        let other = spawn_cancel(cancel_middle, "middle", &done);
        cancel_top.cancel("top");
        done.iter().for_each(assert_closed);
        join(dropped);
        other.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancel_waits_for_drops_by_several_threads() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let (grandchild, cancel_grandchild) = child(&ctx);
        let seen: Arc<Mutex<Vec<Receiver<()>>>> = Arc::default();
        let others = [
            spawn({
                let (grandchild, seen) = (grandchild.clone(), seen.clone());
                move || {
                    let done = grandchild.done();
                    seen.lock().unwrap().push(done);
                }
            }),
            spawn({
                let ctx = ctx.clone();
                move || drop((ctx, grandchild, cancel_grandchild))
            }),
            spawn(move || drop((ctx, cancel))),
        ];
        let before = seen.lock().unwrap().clone();
        cancel_parent.cancel("x");
        before.iter().for_each(assert_closed);
        join(others);
        let after = seen.lock().unwrap().clone();
        assert!(after.iter().all(is_closed));
    });
}

/// The last owner of a context may be the cancellation that passes.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn chain_dropped_during_cancel_is_freed() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let (grandchild, cancel_grandchild) = child(&ctx);
        let done = [ctx.done(), grandchild.done()];
        drop((ctx, cancel));
        let dropper = spawn(move || drop(grandchild));
        let canceler = spawn(move || cancel_grandchild.cancel("y"));
        cancel_parent.cancel("x");
        done.iter().for_each(assert_closed);
        drop((parent, cancel_parent));
        dropper.join().unwrap();
        canceler.join().unwrap();
    });
}
