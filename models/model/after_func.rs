//! Callbacks: registered, taken back and started.

use super::*;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Counts, as no step of the model.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn one_more(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

fn counting(ctx: &Context) -> (crate::AfterFunc, Count) {
    let runs = Count::default();
    let after_func = ctx.after_func({
        let runs = runs.clone();
        move || runs.one_more()
    });
    (after_func, runs)
}

#[test]
fn a_callback_is_stopped_or_runs_once() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let (after_func, runs) = counting(&ctx);
        let stopper = go(move || after_func.stop());
        cancel.cancel("x");
        let stopped = stopper.join().unwrap();
        pool::join_all();
        assert_eq!(runs.get() + usize::from(stopped), 1);
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn of_two_stops_and_a_cancel_one_wins() {
    in_many_orders(|| {
        let (ctx, cancel) = root();
        let (after_func, runs) = counting(&ctx);
        let after_func = Arc::new(after_func);
        let stopper = || {
            let after_func = after_func.clone();
            go(move || after_func.stop())
        };
        let stoppers = [stopper(), stopper()];
        cancel.cancel("x");
        assert!(!after_func.stop(), "cancel has returned");
        let stopped = stoppers.map(|stopper| usize::from(stopper.join().unwrap()));
        pool::join_all();
        assert_eq!(runs.get() + stopped[0] + stopped[1], 1);
    });
}

#[test]
fn a_callback_registered_during_a_cancel_runs() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let _ = ctx.err();
        let registrar = go({
            let ctx = ctx.clone();
            move || counting(&ctx)
        });
        cancel.cancel("x");
        let (_after_func, runs) = registrar.join().unwrap();
        pool::join_all();
        assert_eq!(runs.get(), 1);
    });
}

#[test]
fn a_callback_finds_its_context_done() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let registrar = go(move || {
            let seen = ctx.clone();
            drop(ctx.after_func(move || {
                assert!(seen.err().is_some(), "no error");
                assert!(is_closed(&done), "the channel is open");
            }));
        });
        cancel.cancel("x");
        registrar.join().unwrap();
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn who_stops_and_waits_finds_the_callback_over() {
    in_many_orders(|| {
        let (ctx, cancel) = root();
        let (began, ended) = (Count::default(), Count::default());
        let after_func = ctx.after_func({
            let (ctx, began, ended) = (ctx.clone(), began.clone(), ended.clone());
            move || {
                began.one_more();
                assert_done(&ctx);
                ended.one_more();
            }
        });
        let waiter = go(move || {
            let stopped = after_func.stop_and_wait();
            assert_eq!(began.get(), ended.get(), "it is still running");
            assert_eq!(ended.get() + usize::from(stopped), 1);
        });
        cancel.cancel("x");
        waiter.join().unwrap();
    });
}

#[test]
fn a_callback_of_an_abandoned_context_runs_once() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = seen_child(&parent);
        let (after_func, runs) = counting(&ctx);
        let dropper = go(move || drop((ctx, cancel)));
        cancel_parent.cancel("x");
        assert!(!after_func.stop(), "cancel has returned");
        dropper.join().unwrap();
        pool::join_all();
        assert_eq!(runs.get(), 1);
    });
}
