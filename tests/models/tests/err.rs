//! `err` of unregistered contexts, which asks their ancestors.

use super::*;

/// Returns the cause if the context is done, and asserts that a second call has the same answer.
fn ask(ctx: &Context) -> Option<String> {
    let error = ctx.err()?;
    let cause = cause(ctx);
    assert_eq!(ctx.err(), Some(error), "another error");
    assert_eq!(self::cause(ctx), cause, "another cause");
    Some(cause)
}

#[test]
fn err_during_cancel_of_parent_and_own_cancel() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let reader = spawn({
            let ctx = ctx.clone();
            move || ask(&ctx)
        });
        let other = spawn(move || cancel.cancel("own"));
        cancel_parent.cancel("above");
        let seen = reader.join().unwrap();
        other.join().unwrap();
        let cause = cause(&ctx);
        assert!(cause == "own" || cause == "above");
        assert!(seen.map_or(true, |seen| seen == cause), "another cause");
    });
}

/// The answer is written into all nodes on the way. One of them is cancelled meanwhile.
#[test]
fn err_during_cancel_between_agrees_with_parent() {
    in_all_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = child(&top);
        let (low, _cancel) = child(&middle);
        cancel_top.cancel("top");
        let reader = spawn({
            let low = low.clone();
            move || ask(&low).expect("an ancestor is done")
        });
        cancel_middle.cancel("middle");
        let seen = reader.join().unwrap();
        assert_eq!(seen, cause(&low));
        assert_eq!(seen, cause(&middle));
        assert_eq!(seen, "top");
    });
}

/// Two threads write the answer. One of them must not find it in the lower node only.
#[test]
fn err_by_two_threads_has_the_cause_from_above() {
    in_all_orders(|| {
        let (top, cancel_top) = root();
        let (middle, _cancel) = child(&top);
        let (low, _cancel) = child(&middle);
        cancel_top.cancel("top");
        let reader = spawn({
            let low = low.clone();
            move || ask(&low)
        });
        assert_eq!(ask(&low).as_deref(), Some("top"));
        assert_eq!(reader.join().unwrap().as_deref(), Some("top"));
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn err_of_chain_during_three_cancels_agrees() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = child(&top);
        let (low, _cancel) = child(&middle);
        let (last, cancel_last) = child(&low);
        let reader = |ctx: &Context| {
            let ctx = ctx.clone();
            spawn(move || ask(&ctx))
        };
        let readers = [reader(&middle), reader(&low), reader(&last)];
        let others = [
            spawn(move || cancel_middle.cancel("middle")),
            spawn(move || cancel_last.cancel("last")),
        ];
        cancel_top.cancel("top");
        let seen = join(readers);
        join(others);
        assert_eq!(cause(&top), "top");
        assert_eq!(cause(&low), cause(&middle));
        for (seen, ctx) in seen.iter().zip([&middle, &low, &last]) {
            assert!(seen.iter().all(|seen| *seen == cause(ctx)), "another cause");
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn err_during_deadline_of_parent_and_own_cancel() {
    in_many_orders(|| {
        let (parent, _cancel) = with_timeout(&Context::background());
        let (ctx, cancel) = child(&parent);
        let (low, _cancel) = child(&ctx);
        let reader = spawn({
            let low = low.clone();
            move || ask(&low).map(|cause| (low.err(), cause))
        });
        let time = spawn(timer::fire);
        cancel.cancel("own");
        let seen = reader.join().unwrap();
        time.join().unwrap();
        assert_eq!(low.err(), ctx.err());
        assert_eq!(cause(&low), cause(&ctx));
        let now = (low.err(), cause(&low));
        assert!(seen.map_or(true, |seen| seen == now), "another end");
    });
}

#[test]
fn err_of_last_handle_during_cancel_and_drop_above() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        drop(cancel);
        let reader = spawn(move || {
            let _ = ask(&ctx);
        });
        cancel_parent.cancel("x");
        drop((parent, cancel_parent));
        reader.join().unwrap();
    });
}

/// The call of `err` that registers the context comes during the cancellation.
#[test]
fn err_that_registers_during_cancel_of_parent() {
    in_all_orders(|| {
        let (parent, cancel) = root();
        let (ctx, _cancel) = child(&parent);
        let reader = spawn({
            let ctx = ctx.clone();
            move || {
                let answers = [0; 4].map(|_| ctx.err().is_some());
                assert!(
                    answers.windows(2).all(|two| two[0] <= two[1]),
                    "{answers:?}"
                );
                assert!(!answers[3] || cause(&ctx) == "x");
            }
        });
        cancel.cancel("x");
        assert_done(&ctx);
        reader.join().unwrap();
        assert_eq!(cause(&ctx), "x");
    });
}

/// More levels than a call of `err` passes.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn err_of_long_chain_during_cancel_agrees() {
    in_many_orders(|| {
        let (chain, mut cancels) = chain(10);
        let reader = spawn({
            let ctx = chain[10].clone();
            move || [ask(&ctx), ask(&ctx)]
        });
        let cancel_middle = cancels.remove(5);
        let other = spawn(move || cancel_middle.cancel("middle"));
        cancels[1].cancel("top");
        let seen = reader.join().unwrap();
        other.join().unwrap();
        let end = cause(&chain[10]);
        assert!(chain[5..].iter().all(|ctx| cause(ctx) == end));
        assert!(seen.into_iter().flatten().all(|seen| seen == end));
    });
}
