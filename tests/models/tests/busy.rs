//! Cancellations that meet below: each waits at the nodes that are busy for another.

use super::*;

#[test]
fn cancel_waits_for_busy_child() {
    in_all_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = child(&top);
        let (low, _cancel) = child(&middle);
        let done = [low.done()];
        let other = spawn_cancel(cancel_middle, "middle", &done);
        cancel_top.cancel("top");
        done.iter().for_each(assert_closed);
        other.join().unwrap();
        assert_eq!(cause(&low), cause(&middle));
    });
}

/// The cancellation in the middle waits for the one below, and the one above for both.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancels_on_one_chain_wait_for_each_other() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = child(&top);
        let (low, cancel_low) = child(&middle);
        let last = [child(&low), child(&low)];
        let side = child(&middle);
        let done = [&last[0], &last[1], &side].map(|(ctx, _)| ctx.done());
        let others = [
            spawn_cancel(cancel_low, "low", &done[..2]),
            spawn_cancel(cancel_middle, "middle", &done),
        ];
        cancel_top.cancel("top");
        done.iter().for_each(assert_closed);
        join(others);
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancels_of_both_parents_wait_below_a_merge() {
    in_many_orders(|| {
        let (left, cancel_left) = root();
        let (right, cancel_right) = root();
        let (merged, _cancel) = merge(&left, &right);
        let low = [child(&merged), child(&merged)];
        let done = low.each_ref().map(|(ctx, _)| ctx.done());
        let other = spawn_cancel(cancel_right, "right", &done);
        cancel_left.cancel("left");
        done.iter().for_each(assert_closed);
        other.join().unwrap();
        assert!(low.iter().all(|(ctx, _)| cause(ctx) == cause(&merged)));
    });
}

/// Above a merge the ways part and meet again.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancels_in_a_diamond_do_not_deadlock() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (left, cancel_left) = child(&top);
        let (right, cancel_right) = child(&top);
        let (merged, cancel_merged) = merge(&left, &right);
        let (low, _cancel) = child(&merged);
        let done = [low.done()];
        let others = [
            spawn_cancel(cancel_left, "left", &done),
            spawn_cancel(cancel_right, "right", &done),
            spawn(move || cancel_merged.cancel()),
        ];
        cancel_top.cancel("top");
        done.iter().for_each(assert_closed);
        join(others);
    });
}

/// A merge whose parents are above each other is dropped. One cancellation may be its last owner while
/// it waits for another, which then must not wait for the drop.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancels_around_a_dropped_merge_do_not_deadlock() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = registered_child(&top);
        let (low, _cancel) = registered_child(&middle);
        let (merged, cancel_merged) = merge(&top, &low);
        let others = [
            spawn(move || drop((merged, cancel_merged))),
            spawn(move || cancel_middle.cancel("middle")),
        ];
        cancel_top.cancel("top");
        assert!(low.err().is_some());
        join(others);
    });
}

/// A node in the way of two cancellations is dropped, with a child of its own.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancels_of_both_parents_wait_for_dropped_merge() {
    in_many_orders(|| {
        let (left, cancel_left) = root();
        let (right, cancel_right) = root();
        let (merged, cancel_merged) = merge(&left, &right);
        let (low, cancel_low) = child(&merged);
        let done = [merged.done(), low.done()];
        let others = [
            spawn(move || drop((merged, cancel_merged))),
            spawn(move || drop((low, cancel_low))),
            spawn_cancel(cancel_right, "right", &done),
        ];
        cancel_left.cancel("left");
        done.iter().for_each(assert_closed);
        join(others);
    });
}
