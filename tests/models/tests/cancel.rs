//! Cancellations that meet each other, and threads that derive meanwhile.

use super::*;

#[test]
fn cancel_by_two_threads_keeps_one_cause() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let other = spawn({
            let (ctx, cancel) = (ctx.clone(), cancel.clone());
            move || {
                cancel.cancel("other");
                assert_done(&ctx);
                cause(&ctx)
            }
        });
        cancel.cancel("one");
        assert_closed(&done);
        let seen = cause(&ctx);
        assert!(seen == "one" || seen == "other", "{seen}");
        assert_eq!(other.join().unwrap(), seen, "two causes");
    });
}

#[test]
fn cancel_of_unregistered_keeps_one_cause() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let other = spawn({
            let (ctx, cancel) = (ctx.clone(), cancel.clone());
            move || {
                cancel.cancel("other");
                cause(&ctx)
            }
        });
        cancel.cancel("one");
        let seen = cause(&ctx);
        assert!(seen == "one" || seen == "other", "{seen}");
        assert_eq!(other.join().unwrap(), seen, "two causes");
    });
}

/// Two threads store a cause, and a third cancels without one.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancel_with_and_without_cause_keeps_one() {
    in_many_orders(|| {
        let (ctx, cancel) = root();
        let canceler = |text: Option<&'static str>| {
            let (ctx, cancel) = (ctx.clone(), cancel.clone());
            spawn(move || {
                match text {
                    Some(text) => cancel.cancel(text),
                    None => cancel.cancel(crate::Error::Canceled),
                }
                cause(&ctx)
            })
        };
        let registrar = spawn({
            let ctx = ctx.clone();
            move || register(&ctx)
        });
        let others = [canceler(Some("a")), canceler(Some("b")), canceler(None)];
        let seen = join(others);
        registrar.join().unwrap();
        assert!(seen.iter().all(|seen| *seen == cause(&ctx)), "two causes");
    });
}

/// The cancellation from above comes to a node that the one below has claimed and not yet closed.
#[test]
fn cancel_waits_for_cancel_of_child() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let done = ctx.done();
        let below = spawn(move || cancel.cancel("below"));
        cancel_parent.cancel("above");
        assert_closed(&done);
        let seen = cause(&ctx);
        below.join().unwrap();
        assert_eq!(cause(&ctx), seen);
        assert_eq!(cause(&parent), "above");
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn cancel_above_and_below_agree_on_causes() {
    in_many_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let (grandchild, _cancel) = child(&ctx);
        let above = spawn({
            let all = [parent.clone(), ctx.clone(), grandchild.clone()];
            move || {
                cancel_parent.cancel("above");
                all.iter().for_each(assert_done);
            }
        });
        let below = spawn({
            let all = [ctx.clone(), grandchild.clone()];
            move || {
                cancel.cancel("below");
                all.iter().for_each(assert_done);
                all.each_ref().map(cause)
            }
        });
        register(&grandchild);
        above.join().unwrap();
        let seen = below.join().unwrap();
        assert_eq!(cause(&parent), "above");
        assert_eq!(cause(&ctx), cause(&grandchild));
        assert_eq!(seen, [cause(&ctx), cause(&grandchild)]);
    });
}

#[test]
fn child_derived_during_cancel_is_done() {
    in_all_orders(|| {
        let (parent, cancel) = root();
        register(&parent);
        let deriver = spawn({
            let parent = parent.clone();
            move || {
                let (ctx, _cancel) = child(&parent);
                let done = ctx.done();
                (ctx, done)
            }
        });
        cancel.cancel("x");
        let (ctx, done) = deriver.join().unwrap();
        assert!(is_closed(&done));
        assert_done(&ctx);
        assert_eq!(cause(&ctx), "x");
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn descendants_derived_during_cancel_are_done() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let done = parent.done();
        let deriver = spawn({
            let parent = parent.clone();
            move || {
                let before = parent.err();
                let (ctx, _cancel) = child(&parent);
                let (grandchild, _cancel) = child(&ctx);
                let err = grandchild.err();
                assert!(
                    before.is_none() || err.is_some(),
                    "an open child of a done parent"
                );
                let done = grandchild.done();
                assert!(err.is_none() || is_closed(&done));
                ([ctx, grandchild], done)
            }
        });
        let reader = spawn({
            let parent = parent.clone();
            move || assert!(!is_closed(&parent.done()) || parent.err().is_some())
        });
        cancel.cancel("x");
        assert_closed(&done);
        let (both, done) = deriver.join().unwrap();
        reader.join().unwrap();
        both.iter().for_each(assert_done);
        assert!(is_closed(&done));
        assert_eq!(both.each_ref().map(cause), ["x", "x"]);
    });
}

/// A slot that one child frees may be used by another.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn children_registered_and_dropped_during_cancel() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let deriver = || {
            let parent = parent.clone();
            spawn(move || {
                for _ in 0..2 {
                    drop(registered_child(&parent));
                }
                registered_child(&parent)
            })
        };
        let others = [deriver(), deriver()];
        let (stays, _cancel) = registered_child(&parent);
        cancel.cancel("x");
        assert_done(&stays);
        for (ctx, _cancel) in join(others) {
            assert_done(&ctx);
            assert_eq!(cause(&ctx), "x");
        }
    });
}
