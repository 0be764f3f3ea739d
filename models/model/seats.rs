//! Contexts from which many threads derive. In a model two derivations are many.

use super::*;

use crate::sync::Mutex;
use crate::Key;

#[derive(PartialEq, Eq)]
struct Token;

impl Key for Token {
    type Value = Arc<()>;
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn children_in_seats_are_cancelled_and_leave_nothing() {
    in_many_orders(|| {
        let value = Arc::new(());
        let base = Context::background().with_value(Token, value.clone());
        let (parent, cancel) = child(&base);
        drop(parent.with_cancel()); // this thread is the first
                                    // A lock of the model, for contexts are cloned under it, which is a step.
        let derived: Arc<Mutex<Vec<Pair>>> = Arc::default();
        let deriver = |times: usize, look: bool| {
            let (parent, derived) = (parent.clone(), derived.clone());
            go(move || {
                for _ in 0..times {
                    let (ctx, _cancel) = child(&parent);
                    assert!(ctx.value(&Token).is_some());
                    if look {
                        let done = ctx.done();
                        derived.lock().push((ctx, done));
                    }
                }
            })
        };
        let others = [deriver(3, true), deriver(3, true), deriver(3, false)];
        drop(parent);
        let before = derived.lock().clone();
        cancel.cancel("x");
        for (ctx, done) in &before {
            assert!(
                is_closed(done),
                "cancel has returned, and a child is not done"
            );
            assert_done(ctx);
        }
        for other in others {
            other.join().unwrap();
        }
        let after = std::mem::take(&mut *derived.lock());
        for (ctx, done) in &after {
            assert!(is_closed(done));
            assert_eq!(cause(ctx), "x");
        }
        drop((before, after, base));
        assert_eq!(Arc::strong_count(&value), 1, "values are left");
    });
}

/// Only the last handle ends it, and breaks the circle.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_crowded_context_that_is_only_dropped_leaves_nothing() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        drop(parent.with_cancel());
        let done = parent.done();
        let deriver = || {
            let parent = parent.clone();
            go(move || {
                for _ in 0..3 {
                    drop(parent.with_cancel());
                }
                let _ = parent.clone().err();
            })
        };
        let others = [deriver(), deriver(), deriver()];
        drop((parent, cancel));
        for other in others {
            other.join().unwrap();
        }
        assert!(is_closed(&done), "nobody holds it, and it is not done");
    });
}

/// Also in a seat to which the cancel has not come.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn a_child_of_a_crowded_context_that_is_done_is_born_done() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        drop(parent.with_cancel());
        let deriver = go({
            let parent = parent.clone();
            move || {
                for _ in 0..2 {
                    drop(parent.with_cancel());
                }
                drop(seen_child(&parent)); // in a seat
                if parent.err().is_some() {
                    let (late, _cancel) = child(&parent);
                    assert!(late.err().is_some(), "born open under a done parent");
                    assert_eq!(cause(&late), "x");
                    assert!(is_closed(&late.done()));
                }
            }
        });
        cancel.cancel("x");
        deriver.join().unwrap();
    });
}
