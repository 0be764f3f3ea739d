//! Cancels against each other, and against those who derive.

use super::*;

#[test]
fn two_cancels_of_one_context() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let other = go({
            let (ctx, cancel) = (ctx.clone(), cancel.clone());
            move || {
                cancel.cancel("other");
                assert_done(&ctx);
                cause(&ctx)
            }
        });
        cancel.cancel("one");
        assert!(is_closed(&done));
        let seen = cause(&ctx);
        assert_eq!(other.join().unwrap(), seen, "two causes");
    });
}

#[test]
fn two_cancels_of_one_context_that_nobody_has_looked_at() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let other = go({
            let (ctx, cancel) = (ctx.clone(), cancel.clone());
            move || {
                cancel.cancel("other");
                cause(&ctx)
            }
        });
        cancel.cancel("one");
        let seen = cause(&ctx);
        assert_eq!(other.join().unwrap(), seen, "two causes");
    });
}

/// The one above comes to what the one below has claimed and not yet closed.
#[test]
fn a_cancel_returns_when_what_another_has_claimed_is_done() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = seen_child(&parent);
        let done = ctx.done();
        let below = go(move || cancel.cancel("below"));
        cancel_parent.cancel("above");
        assert!(
            is_closed(&done),
            "cancel has returned, and a child is not done"
        );
        let seen = cause(&ctx);
        below.join().unwrap();
        assert_eq!(cause(&ctx), seen);
        assert_eq!(cause(&parent), "above");
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_cancel_above_and_one_below_agree_on_all() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let (grandchild, _cancel) = child(&ctx);
        let above = go({
            let all = [parent.clone(), ctx.clone(), grandchild.clone()];
            move || {
                cancel_parent.cancel("above");
                all.iter().for_each(assert_done);
            }
        });
        let below = go({
            let all = [ctx.clone(), grandchild.clone()];
            move || {
                cancel.cancel("below");
                all.iter().for_each(assert_done);
                all.each_ref().map(cause)
            }
        });
        let _ = grandchild.err();
        above.join().unwrap();
        let seen = below.join().unwrap();
        assert_eq!(cause(&parent), "above");
        assert_eq!(cause(&ctx), cause(&grandchild));
        assert_eq!(seen, [cause(&ctx), cause(&grandchild)]);
    });
}

/// The one in the middle meets the one below, and is to be found by the one above until that is done.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn three_cancels_on_one_chain() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = child(&top);
        let (low, cancel_low) = child(&middle);
        let (last, _cancel) = child(&low);
        let done = last.done();
        let others = [
            go(move || cancel_low.cancel("low")),
            go(move || cancel_middle.cancel("middle")),
        ];
        cancel_top.cancel("top");
        assert!(
            is_closed(&done),
            "cancel has returned, and a descendant is not done"
        );
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn a_child_derived_during_a_cancel_is_not_lost() {
    in_all_orders(|| {
        let (parent, cancel) = root();
        let _ = parent.err();
        let deriver = go({
            let parent = parent.clone();
            move || {
                let (ctx, _cancel) = seen_child(&parent);
                ctx
            }
        });
        cancel.cancel("x");
        let ctx = deriver.join().unwrap();
        assert_done(&ctx);
        assert_eq!(cause(&ctx), "x");
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn descendants_derived_during_a_cancel_are_born_done_or_cancelled() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let done = parent.done();
        let deriver = go({
            let parent = parent.clone();
            move || {
                let was = parent.err();
                let (ctx, _cancel) = child(&parent);
                let (grandchild, _cancel) = child(&ctx);
                let err = grandchild.err();
                assert!(
                    was.is_none() || err.is_some(),
                    "born open under a done parent"
                );
                let done = grandchild.done();
                assert!(err.is_none() || is_closed(&done));
                ([ctx, grandchild], done)
            }
        });
        let looker = go({
            let parent = parent.clone();
            move || assert!(!is_closed(&parent.done()) || parent.err().is_some())
        });
        cancel.cancel("x");
        assert!(is_closed(&done));
        let (both, done) = deriver.join().unwrap();
        looker.join().unwrap();
        both.iter().for_each(assert_done);
        assert!(is_closed(&done));
        assert_eq!(both.each_ref().map(cause), ["x", "x"]);
    });
}

/// Attach against detach: the slot that one gives back the other may get.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn children_that_come_and_go_during_a_cancel_are_cancelled_or_gone() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let coming_and_going = || {
            let parent = parent.clone();
            go(move || {
                for _ in 0..2 {
                    drop(seen_child(&parent));
                }
                seen_child(&parent)
            })
        };
        let others = [coming_and_going(), coming_and_going()];
        let (stays, _cancel) = seen_child(&parent);
        cancel.cancel("x");
        assert_done(&stays);
        for other in others {
            let (ctx, _cancel) = other.join().unwrap();
            assert_done(&ctx);
            assert_eq!(cause(&ctx), "x");
        }
    });
}
