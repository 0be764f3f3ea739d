//! Callbacks: registered, taken back and run.

use super::*;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// A counter whose changes are no steps of the model.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn increment(&self) {
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
        move || runs.increment()
    });
    (after_func, runs)
}

#[test]
fn after_func_is_stopped_or_runs_once() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let (after_func, runs) = counting(&ctx);
        let stopper = spawn(move || after_func.stop());
        cancel.cancel("x");
        let stopped = stopper.join().unwrap();
        timer::join_all();
        assert_eq!(runs.get() + usize::from(stopped), 1);
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn stop_by_two_threads_and_cancel_have_one_winner() {
    in_many_orders(|| {
        let (ctx, cancel) = root();
        let (after_func, runs) = counting(&ctx);
        let after_func = Arc::new(after_func);
        let stopper = || {
            let after_func = after_func.clone();
            spawn(move || after_func.stop())
        };
        let stoppers = [stopper(), stopper()];
        cancel.cancel("x");
        assert!(!after_func.stop(), "cancel has returned, and stop succeeds");
        let stopped = stoppers.map(|stopper| usize::from(stopper.join().unwrap()));
        timer::join_all();
        assert_eq!(runs.get() + stopped[0] + stopped[1], 1);
    });
}

#[test]
fn after_func_registered_during_cancel_runs() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        register(&ctx);
        let registrar = spawn({
            let ctx = ctx.clone();
            move || counting(&ctx)
        });
        cancel.cancel("x");
        let (_after_func, runs) = registrar.join().unwrap();
        timer::join_all();
        assert_eq!(runs.get(), 1);
    });
}

#[test]
fn after_func_finds_its_context_done() {
    in_all_orders(|| {
        let (ctx, cancel) = root();
        let done = ctx.done();
        let registrar = spawn(move || {
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
fn stop_and_wait_returns_after_the_callback() {
    in_many_orders(|| {
        let (ctx, cancel) = root();
        let (began, ended) = (Count::default(), Count::default());
        let after_func = ctx.after_func({
            let (ctx, began, ended) = (ctx.clone(), began.clone(), ended.clone());
            move || {
                began.increment();
                assert_done(&ctx);
                ended.increment();
            }
        });
        let waiter = spawn(move || {
            let stopped = after_func.stop_and_wait();
            assert_eq!(began.get(), ended.get(), "it is still running");
            assert_eq!(ended.get() + usize::from(stopped), 1);
        });
        cancel.cancel("x");
        waiter.join().unwrap();
    });
}

#[test]
fn after_func_of_dropped_context_runs_once() {
    in_all_orders(|| {
        let (parent, cancel_parent) = root();
        let (ctx, cancel) = child(&parent);
        let (after_func, runs) = counting(&ctx);
        let dropper = spawn(move || drop((ctx, cancel)));
        cancel_parent.cancel("x");
        assert!(!after_func.stop(), "cancel has returned, and stop succeeds");
        dropper.join().unwrap();
        timer::join_all();
        assert_eq!(runs.get(), 1);
    });
}
