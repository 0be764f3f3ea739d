//! Contexts of two parents.

use super::*;

use crate::sync::Mutex;

#[test]
fn both_parents_of_a_merge_are_cancelled_at_once() {
    in_all_orders(|| {
        let (left, cancel_left) = root();
        let (right, cancel_right) = root();
        let (ctx, _cancel) = left.merge(&right);
        let ctx = counted(ctx);
        let other = go({
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
fn a_merge_is_made_while_both_its_parents_are_cancelled() {
    in_many_orders(|| {
        let (left, cancel_left) = root();
        let (right, cancel_right) = root();
        let (below_right, _cancel) = child(&right);
        let made: Arc<Mutex<Option<Pair>>> = Arc::default();
        let assert_over = |made: &Option<Pair>| {
            if let Some((ctx, done)) = made {
                assert!(
                    is_closed(done),
                    "cancel has returned, and a channel is open"
                );
                assert_done(ctx);
            }
        };
        let others = [
            go({
                let (left, made) = (left.clone(), made.clone());
                move || {
                    let (ctx, _cancel) = left.merge(&below_right);
                    let (ctx, _cancel) = counted(ctx).with_timeout(HOUR);
                    let done = ctx.done();
                    *made.lock() = Some((ctx, done));
                }
            }),
            go({
                let made = made.clone();
                move || {
                    let before = made.lock().clone();
                    cancel_right.cancel("right");
                    assert_over(&before);
                }
            }),
            go(timer::fire),
        ];
        let before = made.lock().clone();
        cancel_left.cancel("left");
        assert_over(&before);
        for other in others {
            other.join().unwrap();
        }
        let after = made.lock().take();
        assert_over(&after);
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_merge_is_dropped_while_both_its_parents_are_cancelled() {
    in_many_orders(|| {
        let (left, cancel_left) = root();
        let (right, cancel_right) = root();
        let (ctx, cancel) = left.merge(&right);
        let ctx = counted(ctx);
        let done = ctx.done();
        let others = [
            go(move || drop((ctx, cancel))),
            go({
                let done = done.clone();
                move || {
                    cancel_right.cancel("right");
                    assert!(is_closed(&done));
                }
            }),
        ];
        cancel_left.cancel("left");
        assert!(is_closed(&done));
        for other in others {
            other.join().unwrap();
        }
    });
}
