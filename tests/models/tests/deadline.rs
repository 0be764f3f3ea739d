//! Deadlines that pass while contexts are cancelled, asked and dropped.

use super::*;

use crate::Error;

#[test]
fn deadline_and_cancel_keep_one_error() {
    in_all_orders(|| {
        let (ctx, cancel) = with_timeout(&Context::background());
        let done = ctx.done();
        let time = spawn(timer::fire);
        cancel.cancel();
        assert_closed(&done);
        let first = ctx.err();
        time.join().unwrap();
        assert_eq!(ctx.err(), first);
    });
}

#[test]
fn deadline_of_dropped_context_closes_done() {
    in_all_orders(|| {
        let (ctx, cancel) = with_timeout(&Context::background());
        let done = ctx.done();
        let time = spawn(timer::fire);
        drop((ctx, cancel));
        time.join().unwrap();
        timer::join_all();
        assert!(is_closed(&done));
    });
}

#[test]
fn timeout_registered_during_cancel_leaves_no_timer() {
    in_all_orders(|| {
        let (ctx, cancel) = with_timeout(&Context::background());
        let reader = spawn({
            let ctx = ctx.clone();
            move || register(&ctx)
        });
        cancel.cancel();
        reader.join().unwrap();
        assert_eq!(ctx.err(), Some(Error::Canceled));
    });
}

/// A node is moved when it is dropped as the parent of another.
#[test]
fn timeout_dropped_with_its_child_leaves_no_timer() {
    in_all_orders(|| {
        let (parent, cancel_parent) = with_timeout(&Context::background());
        let (ctx, cancel) = registered_child(&parent);
        let dropper = spawn(move || drop((parent, cancel_parent)));
        drop((ctx, cancel));
        dropper.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn deadline_against_two_cancels_and_two_readers() {
    in_many_orders(|| {
        let (parent, cancel_parent) = with_timeout(&Context::background());
        let (ctx, cancel) = child(&parent);
        let reader = |ctx: &Context| {
            let ctx = ctx.clone();
            spawn(move || {
                let done = ctx.done();
                if ctx.err().is_some() {
                    assert!(is_closed(&done));
                }
            })
        };
        let others = [
            reader(&ctx),
            reader(&parent),
            spawn(timer::fire),
            spawn(move || cancel.cancel("x")),
        ];
        cancel_parent.cancel();
        assert_done(&parent);
        assert_done(&ctx);
        join(others);
        if cause(&ctx) != "x" {
            assert_eq!(ctx.err(), parent.err());
            assert_eq!(cause(&ctx), cause(&parent));
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn timeout_derived_during_cancel_leaves_no_timer() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let deriver = spawn({
            let parent = parent.clone();
            move || {
                let (ctx, _cancel) = with_timeout(&parent);
                let done = ctx.done();
                (ctx, done)
            }
        });
        let time = spawn(timer::fire);
        cancel.cancel("x");
        let (ctx, done) = deriver.join().unwrap();
        time.join().unwrap();
        assert_done(&ctx);
        assert!(is_closed(&done));
        assert!(ctx.err() == Some(Error::DeadlineExceeded) || cause(&ctx) == "x");
    });
}
