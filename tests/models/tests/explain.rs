//! Explanations of contexts that several ends race for: each agrees with the error and the cause, and
//! never changes.

use super::*;

use crate::{Cause, EndKind, Error, Explanation};

/// Cancels with the line of the call as the cause.
macro_rules! cancel_here {
    ($cancel:expr) => {
        $cancel.cancel(line!().to_string())
    };
}

/// What an explanation consists of, except for the lateness.
#[derive(Clone, Debug, PartialEq)]
struct Summary {
    error: Error,
    cause: String,
    kind: EndKind,
    depth: usize,
    line: Option<u32>,
}

fn summary(explanation: &Explanation) -> Summary {
    Summary {
        error: explanation.error(),
        cause: explanation.cause().to_string(),
        kind: explanation.kind(),
        depth: explanation.origin_depth(),
        line: explanation.cancelled_at().map(|at| at.line()),
    }
}

/// Asks for an explanation, which the context may not have yet.
fn ask(ctx: &Context) -> Option<Summary> {
    let explanation = ctx.explain()?;
    assert_agrees(ctx, &explanation);
    Some(summary(&explanation))
}

#[track_caller]
fn assert_agrees(ctx: &Context, explanation: &Explanation) {
    assert_eq!(ctx.err(), Some(explanation.error()));
    let cause = ctx.cause().expect("done");
    if !cause.is::<Error>() {
        let is_same = Cause::ptr_eq(&cause, explanation.cause());
        assert!(is_same, "{cause} and {}", explanation.cause());
    }
    let line = explanation.cancelled_at().map(|at| at.line());
    match explanation.kind() {
        EndKind::Deadline => {
            assert_eq!(explanation.error(), Error::DeadlineExceeded);
            assert_eq!(line, None);
        }
        kind => {
            assert_eq!(
                (kind, explanation.error()),
                (EndKind::Cancelled, Error::Canceled)
            );
            let line = line.expect("a place").to_string();
            assert!(
                cause.is::<Error>() || cause.to_string() == line,
                "{cause} at {line}"
            );
        }
    }
}

/// Asserts that each context ended where its explanation says. They are done, each a child of the next.
#[track_caller]
fn assert_explained(contexts: &[&Context]) -> Vec<Summary> {
    let all = contexts.iter().map(|ctx| ask(ctx).expect("done"));
    let all: Vec<Summary> = all.collect();
    for (ctx, one) in all.iter().enumerate() {
        let depth = one.depth;
        if depth > 0 {
            let above = Summary {
                depth: depth - 1,
                ..one.clone()
            };
            assert_eq!(all[ctx + 1], above, "the parent has another end");
        }
    }
    all
}

/// Cancels with two functions on two threads, each of which then asks.
fn cancel_both(
    ctx: &Context,
    one: CancelCauseFunc,
    other: CancelCauseFunc,
) -> [Option<Summary>; 2] {
    let other = spawn({
        let ctx = ctx.clone();
        move || {
            cancel_here!(other);
            ask(&ctx)
        }
    });
    cancel_here!(one);
    let seen = ask(ctx);
    [seen, other.join().unwrap()]
}

#[test]
fn explanation_of_two_cancels_is_that_of_the_cause() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let seen = cancel_both(&ctx, cancel_parent, cancel);
        let last = assert_explained(&[&ctx, &parent]).swap_remove(0);
        assert_eq!(seen, [Some(last.clone()), Some(last)]);
    });
}

/// One thread may store its cause, and the other may end the context.
#[test]
fn explanation_of_one_context_is_that_of_the_cause() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let seen = cancel_both(&ctx, cancel.clone(), cancel);
        let last = assert_explained(&[&ctx]).swap_remove(0);
        assert_eq!(seen, [Some(last.clone()), Some(last)]);
    });
}

#[test]
fn explanation_of_registered_child_is_that_of_the_cause() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let _done = ctx.done();
        let seen = cancel_both(&ctx, cancel_parent, cancel);
        let last = assert_explained(&[&ctx, &parent]).swap_remove(0);
        assert_eq!(seen, [Some(last.clone()), Some(last)]);
    });
}

#[test]
fn explanation_of_deadline_and_cancel_is_that_of_the_error() {
    in_all_orders(|| {
        let (ctx, cancel) = with_timeout(&Context::background());
        let _done = ctx.done();
        let time = spawn({
            let ctx = ctx.clone();
            move || {
                timer::fire();
                ask(&ctx)
            }
        });
        cancel.cancel();
        let seen = ask(&ctx);
        let other = time.join().unwrap();
        let last = assert_explained(&[&ctx]).swap_remove(0);
        assert_eq!(seen, Some(last.clone()));
        assert!(other.is_none() || other == Some(last));
    });
}

/// Two ancestors are cancelled while two threads ask, and a third registers the context.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn explanations_are_the_same_for_two_threads() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = child(&top);
        let (ctx, _cancel) = child(&middle);
        let asks = || {
            let ctx = ctx.clone();
            spawn(move || [ask(&ctx), ask(&ctx)])
        };
        let asked = [asks(), asks()];
        let registrar = spawn({
            let ctx = ctx.clone();
            move || register(&ctx)
        });
        let below = spawn(move || cancel_here!(cancel_middle));
        cancel_here!(cancel_top);
        let asked = join(asked);
        registrar.join().unwrap();
        below.join().unwrap();
        let last = assert_explained(&[&ctx, &middle, &top]).swap_remove(0);
        for seen in asked.into_iter().flatten().flatten() {
            assert_eq!(seen, last);
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn explanations_of_deadline_against_cancels_are_the_same() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (middle, cancel_middle) = with_timeout(&top);
        let (ctx, _cancel) = child(&middle);
        let asks = || {
            let ctx = ctx.clone();
            spawn(move || ask(&ctx))
        };
        let asked = [asks(), asks()];
        let time = spawn(timer::fire);
        let below = spawn(move || cancel_middle.cancel());
        cancel_here!(cancel_top);
        let asked = join(asked);
        time.join().unwrap();
        below.join().unwrap();
        let last = assert_explained(&[&ctx, &middle, &top]).swap_remove(0);
        for seen in asked.into_iter().flatten() {
            assert_eq!(seen, last);
        }
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn explanation_of_merge_is_that_of_the_first_end() {
    in_many_orders(|| {
        let (first, cancel_first) = root();
        let (second, cancel_second) = root();
        let (merged, _cancel) = merge(&first, &second);
        let (ctx, _cancel) = child(&merged);
        let seen = cancel_both(&ctx, cancel_first, cancel_second);
        let [last, of_merged] = [&ctx, &merged].map(|ctx| ask(ctx).expect("done"));
        assert_eq!(seen, [Some(last.clone()), Some(last.clone())]);
        assert_eq!((last.depth, of_merged.depth), (2, 1));
        let parents = [&first, &second].map(|parent| ask(parent).expect("done"));
        assert!(
            parents.contains(&Summary { depth: 0, ..last }),
            "neither parent's end"
        );
    });
}
