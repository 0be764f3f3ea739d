//! Contexts with two parents.

use super::*;

use crate::runtime::sync::Mutex;

#[test]
fn merge_cancelled_from_both_sides_has_one_cause() {
    in_all_orders(|| {
        let (left, cancel_left) = root();
        let (right, cancel_right) = root();
        let (ctx, _cancel) = merge(&left, &right);
        let other = spawn({
            let ctx = ctx.clone();
            move || {
                cancel_right.cancel("right");
                assert!(
                    ctx.err().is_some(),
                    "cancel has returned, and a merge is not done"
                );
                cause(&ctx)
            }
        });
        cancel_left.cancel("left");
        assert_done(&ctx);
        let seen = cause(&ctx);
        assert_eq!(other.join().unwrap(), seen, "two causes");
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn merge_derived_during_cancel_of_both_is_done() {
    in_many_orders(|| {
        let (left, cancel_left) = root();
        let (right, cancel_right) = root();
        let (below_right, _cancel) = child(&right);
        let made: Arc<Mutex<Option<Pair>>> = Arc::default();
        let assert_finished = |made: &Option<Pair>| {
            if let Some((ctx, done)) = made {
                assert_closed(done);
                assert_done(ctx);
            }
        };
        let others = [
            spawn({
                let (left, made) = (left.clone(), made.clone());
                move || {
                    let (ctx, _cancel) = merge(&left, &below_right);
                    let (ctx, _cancel) = with_timeout(&ctx);
                    let done = ctx.done();
                    *made.lock() = Some((ctx, done));
                }
            }),
            spawn({
                let made = made.clone();
                move || {
                    let before = made.lock().clone();
                    cancel_right.cancel("right");
                    assert_finished(&before);
                }
            }),
            spawn(timer::fire),
        ];
        let before = made.lock().clone();
        cancel_left.cancel("left");
        assert_finished(&before);
        join(others);
        let after = made.lock().take();
        assert_finished(&after);
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn merge_dropped_during_cancel_of_both_is_done() {
    in_many_orders(|| {
        let (left, cancel_left) = root();
        let (right, cancel_right) = root();
        let (ctx, cancel) = merge(&left, &right);
        let done = [ctx.done()];
        let others = [
            spawn(move || drop((ctx, cancel))),
            spawn_cancel(cancel_right, "right", &done),
        ];
        cancel_left.cancel("left");
        done.iter().for_each(assert_closed);
        join(others);
    });
}

/// The cancellation may be the last owner of the merge when it comes to it by one parent. Coming by
/// the other, it must not wait for a drop that it has put off itself.
#[test]
fn merge_with_itself_dropped_during_cancel() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = merge(&parent, &parent);
        let dropper = spawn(move || drop((ctx, cancel)));
        cancel_parent.cancel("x");
        dropper.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn merge_with_child_dropped_during_cancel() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        let (low, cancel_low) = registered_child(&parent);
        let (ctx, cancel) = merge(&parent, &low);
        let done = ctx.done();
        let dropper = spawn(move || drop((ctx, cancel)));
        let other = spawn(move || cancel_low.cancel("low"));
        cancel_parent.cancel("x");
        assert_closed(&done);
        dropper.join().unwrap();
        other.join().unwrap();
    });
}
