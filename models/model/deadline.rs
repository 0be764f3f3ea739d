//! Deadlines that pass while contexts are cancelled, looked at and dropped.

use super::*;

use crate::Error;

fn with_timeout(parent: &Context) -> (Context, crate::CancelFunc) {
    let (ctx, cancel) = parent.with_timeout(HOUR);
    (counted(ctx), cancel)
}

#[test]
fn a_deadline_and_a_cancel_agree_on_who_was_first() {
    in_all_orders(|| {
        let (ctx, cancel) = with_timeout(&Context::background());
        let done = ctx.done();
        let time = go(timer::fire);
        cancel.cancel();
        assert!(is_closed(&done));
        let first = ctx.err();
        time.join().unwrap();
        assert_eq!(ctx.err(), first);
    });
}

#[test]
fn a_deadline_passes_while_its_context_is_dropped() {
    in_all_orders(|| {
        let (ctx, cancel) = with_timeout(&Context::background());
        let done = ctx.done();
        let time = go(timer::fire);
        drop((ctx, cancel));
        time.join().unwrap();
        pool::join_all();
        assert!(is_closed(&done));
    });
}

/// A context that is armed while it is cancelled leaves no timer.
#[test]
fn a_first_look_at_a_timeout_during_its_cancel_leaves_no_timer() {
    in_all_orders(|| {
        let (ctx, cancel) = with_timeout(&Context::background());
        let looker = go({
            let ctx = ctx.clone();
            move || {
                let _ = ctx.err();
            }
        });
        cancel.cancel();
        looker.join().unwrap();
        assert_eq!(ctx.err(), Some(Error::Canceled));
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_deadline_passes_while_all_else_happens() {
    in_many_orders(|| {
        let (parent, cancel_parent) = with_timeout(&Context::background());
        let (ctx, cancel) = child(&parent);
        let looker = |ctx: &Context| {
            let ctx = ctx.clone();
            go(move || {
                let done = ctx.done();
                if ctx.err().is_some() {
                    assert!(is_closed(&done));
                }
            })
        };
        let others = [
            looker(&ctx),
            looker(&parent),
            go(timer::fire),
            go(move || cancel.cancel("x")),
        ];
        cancel_parent.cancel();
        assert_done(&parent);
        assert_done(&ctx);
        for other in others {
            other.join().unwrap();
        }
        if cause(&ctx) != "x" {
            assert_eq!(ctx.err(), parent.err());
            assert_eq!(cause(&ctx), cause(&parent));
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_timeout_under_a_context_that_is_cancelled_meanwhile_leaves_no_timer() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let deriver = go({
            let parent = parent.clone();
            move || {
                let (ctx, _cancel) = with_timeout(&parent);
                let done = ctx.done();
                (ctx, done)
            }
        });
        let time = go(timer::fire);
        cancel.cancel("x");
        let (ctx, done) = deriver.join().unwrap();
        time.join().unwrap();
        assert_done(&ctx);
        assert!(is_closed(&done));
        assert!(ctx.err() == Some(Error::DeadlineExceeded) || cause(&ctx) == "x");
    });
}
