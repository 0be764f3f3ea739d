//! Parents from which many threads derive at once. In a model two collisions make a parent contended.

use super::*;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::runtime::sync::Mutex;

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn contended_parent_cancelled_while_deriving() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        // A lock of the model, because contexts are cloned under it.
        let derived: Arc<Mutex<Vec<Pair>>> = Arc::default();
        let deriver = || {
            let (parent, derived) = (parent.clone(), derived.clone());
            spawn(move || {
                for _ in 0..3 {
                    let (ctx, _cancel) = child(&parent);
                    let done = ctx.done();
                    derived.lock().push((ctx, done));
                }
                assert!(parent.err().is_none() || is_closed(&parent.done()));
            })
        };
        let others = [deriver(), deriver(), deriver()];
        drop(parent);
        let before = derived.lock().clone();
        cancel.cancel("x");
        for (ctx, done) in &before {
            assert_closed(done);
            assert_done(ctx);
        }
        join(others);
        let after = std::mem::take(&mut *derived.lock());
        assert_eq!(after.len(), 9);
        for (ctx, done) in &after {
            assert!(is_closed(done), "a lost child");
            assert_eq!(cause(ctx), "x");
        }
    });
}

/// The children in the table of the node itself are dropped before.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn contended_parent_with_children_in_shards_only() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let deriver = || {
            let parent = parent.clone();
            spawn(move || {
                for _ in 0..3 {
                    drop(registered_child(&parent));
                }
                registered_child(&parent)
            })
        };
        let kept = join([deriver(), deriver(), deriver()]);
        cancel.cancel("x");
        kept.iter().for_each(|(ctx, _)| assert_done(ctx));
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn contended_children_dropped_during_cancel() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let seen: Arc<std::sync::Mutex<Vec<Receiver<()>>>> = Arc::default();
        let deriver = || {
            let (parent, seen) = (parent.clone(), seen.clone());
            spawn(move || {
                for _ in 0..3 {
                    let (ctx, cancel) = child(&parent);
                    let done = ctx.done();
                    seen.lock().unwrap().push(done);
                    drop((ctx, cancel));
                }
            })
        };
        let others = [deriver(), deriver(), deriver()];
        let kept: Vec<_> = (0..2).map(|_| registered_child(&parent)).collect();
        let before = seen.lock().unwrap().clone();
        cancel.cancel("x");
        before.iter().for_each(assert_closed);
        kept.iter().for_each(|(ctx, _)| assert_done(ctx));
        join(others);
        let after = seen.lock().unwrap().clone();
        assert!(after.iter().all(is_closed));
    });
}

/// Its table is split while its handles are dropped.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn contended_parent_is_cancelled_by_last_drop() {
    in_many_orders(|| {
        let (parent, cancel) = root();
        let done = parent.done();
        let deriver = || {
            let parent = parent.clone();
            spawn(move || {
                for _ in 0..3 {
                    drop(registered_child(&parent));
                }
            })
        };
        let others = [deriver(), deriver(), deriver()];
        drop((parent, cancel));
        join(others);
        assert!(
            is_closed(&done),
            "the last handle is dropped, and it is open"
        );
    });
}

fn callbacks(end: fn(Context, CancelCauseFunc)) {
    let (parent, cancel) = root();
    let runs = Arc::new(AtomicUsize::new(0));
    let registrar = || {
        let (parent, runs) = (parent.clone(), runs.clone());
        spawn(move || {
            let register = || {
                let runs = runs.clone();
                parent.after_func(move || {
                    runs.fetch_add(1, SeqCst);
                })
            };
            let [_, stopped, _] = [0; 3].map(|_| register());
            usize::from(stopped.stop())
        })
    };
    let others = [registrar(), registrar(), registrar()];
    end(parent, cancel);
    let stopped: usize = join(others).iter().sum();
    timer::join_all();
    assert_eq!(runs.load(SeqCst) + stopped, 9);
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn contended_callbacks_run_once_after_cancel() {
    in_many_orders(|| callbacks(|_parent, cancel| cancel.cancel("x")));
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn contended_callbacks_run_once_after_last_drop() {
    in_many_orders(|| callbacks(|parent, cancel| drop((parent, cancel))));
}

/// Two cancellations meet in a table that is split.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn contended_child_cancelled_from_above_and_by_itself() {
    in_many_orders(|| {
        let (top, cancel_top) = root();
        let (parent, cancel) = child(&top);
        let deriver = || {
            let parent = parent.clone();
            spawn(move || {
                let derived: Vec<_> = (0..3).map(|_| registered_child(&parent)).collect();
                derived
            })
        };
        let others = [deriver(), deriver(), deriver()];
        let kept: Vec<_> = (0..2).map(|_| registered_child(&parent)).collect();
        let canceler = spawn(move || cancel.cancel("own"));
        cancel_top.cancel("top");
        kept.iter().for_each(|(ctx, _)| assert_done(ctx));
        canceler.join().unwrap();
        for (ctx, _cancel) in join(others).iter().flatten() {
            assert_done(ctx);
            assert_eq!(cause(ctx), cause(&parent));
        }
    });
}
