//! Callbacks: when they run, where they run, and how they are stopped.

use std::collections::HashSet;
use std::sync::{Arc, Barrier};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, RecvTimeoutError, TryRecvError};
use go_context::{Context, Error};
use support::{cancelled, in_time, Name, HOUR, LIMIT};

const SOON: Duration = Duration::from_millis(5);

/// A callback, and a channel that gets the thread it runs on, or is closed if it is dropped instead.
fn callback() -> (impl FnOnce() + Send + 'static, Receiver<Thread>) {
    let (tx, fate) = bounded(1);
    let f = move || tx.send(thread::current()).expect("the test receives");
    (f, fate)
}

/// Waits until the callback runs, and returns its thread; `None` if it is dropped instead.
#[track_caller]
fn fate(fate: &Receiver<Thread>) -> Option<Thread> {
    match fate.recv_timeout(LIMIT) {
        Ok(thread) => Some(thread),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("the callback neither runs nor goes"),
    }
}

/// Asserts that the callback runs, once and on a thread of its own, and is dropped.
#[track_caller]
fn assert_runs(of: &Receiver<Thread>) {
    let thread = fate(of).expect("the callback runs");
    assert_ne!(thread.id(), thread::current().id());
    assert_eq!(thread.name(), Some("go-ctx-callback"));
    assert!(fate(of).is_none());
}

/// Asserts that the callback has been dropped without running.
#[track_caller]
fn assert_gone(of: &Receiver<Thread>) {
    assert_eq!(
        of.try_recv().map(|thread| thread.id()),
        Err(TryRecvError::Disconnected)
    );
}

#[test]
fn after_func_runs_once_on_another_thread() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (f, of_f) = callback();
    let _callback = ctx.after_func(f);
    assert!(of_f.is_empty());
    cancel.cancel();
    cancel.cancel();
    assert_runs(&of_f);
}

#[test]
fn after_func_does_not_run_on_timer_thread() {
    let (ctx, _cancel) = Context::background().with_timeout(SOON);
    let (f, of_f) = callback();
    ctx.after_func(f);
    assert_runs(&of_f);
    assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
}

#[test]
fn after_func_on_done_context_runs_at_once() {
    let (expired, _cancel) = Context::background().with_timeout(Duration::ZERO);
    let (unborn, _cancel) = cancelled().with_cancel();
    for ctx in [cancelled(), expired, unborn] {
        let (f, of_f) = callback();
        let started = ctx.after_func(f);
        assert!(!started.stop());
        assert_runs(&of_f);
        assert!(!started.stop());
    }
}

#[test]
fn after_func_on_value_context_runs() {
    let (parent, cancel) = Context::background().with_cancel();
    let (f, of_f) = callback();
    let _callback = parent.with_value(Name, "gopher".into()).after_func(f);
    let stopped = parent
        .with_value(Name, "gopher".into())
        .after_func(|| unreachable!());
    assert!(stopped.stop());
    cancel.cancel();
    assert_runs(&of_f);
}

#[test]
fn cancel_runs_after_func_of_every_descendant() {
    let (root, cancel) = Context::background().with_cancel();
    let mut chain = vec![root];
    for _ in 0..10 {
        let (child, _cancel) = chain[chain.len() - 1].with_cancel();
        chain.push(child);
    }
    let fates: Vec<_> = chain
        .iter()
        .flat_map(|ctx| [ctx, ctx])
        .map(|ctx| {
            let (f, of_f) = callback();
            ctx.after_func(f);
            of_f
        })
        .collect();
    cancel.cancel();
    fates.iter().for_each(assert_runs);
}

#[test]
fn child_cancel_runs_only_after_func_of_child() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (child, cancel) = parent.with_cancel();
    let (f, of_f) = callback();
    let (g, of_g) = callback();
    child.after_func(f);
    let of_parent = parent.after_func(g);
    cancel.cancel();
    assert_runs(&of_f);
    assert!(of_parent.stop(), "the parent is open still");
    assert_gone(&of_g);
}

#[test]
fn stopped_after_func_never_runs() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (f, of_f) = callback();
    let stopped = ctx.after_func(f);
    assert!(stopped.stop());
    // It has been dropped, so nothing is left that could run.
    assert_gone(&of_f);
    assert!(!stopped.stop());
    cancel.cancel();
    assert!(!stopped.stop());
}

#[test]
fn stop_after_cancel_returns_false() {
    for _ in 0..500 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (f, of_f) = callback();
        let started = ctx.after_func(f);
        cancel.cancel();
        assert!(!started.stop());
        assert!(fate(&of_f).is_some());
    }
}

#[test]
fn stop_in_callback_and_after_it_returns_false() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (handle_tx, handle) = bounded(1);
    let (tx, rx) = bounded(1);
    let started = Arc::new(ctx.after_func(move || {
        let started: Arc<go_context::AfterFunc> = handle.recv().expect("it is sent");
        tx.send(started.stop()).expect("the test receives");
    }));
    handle_tx.send(started.clone()).expect("f listens");
    cancel.cancel();
    assert_eq!(rx.recv_timeout(LIMIT), Ok(false));
    assert_eq!(rx.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
    assert!(!started.stop());
}

#[test]
fn stop_does_not_wait_for_running_callback() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (release, released) = bounded::<()>(1);
    let (tx, rx) = bounded(2);
    let started = ctx.after_func(move || {
        tx.send(true).expect("the test receives");
        let in_time = released.recv_timeout(LIMIT).is_ok();
        tx.send(in_time).expect("the test receives");
    });
    cancel.cancel();
    assert_eq!(rx.recv_timeout(LIMIT), Ok(true));
    assert!(!started.stop());
    release.send(()).expect("the callback waits");
    assert_eq!(rx.recv_timeout(LIMIT), Ok(true));
}

#[test]
fn cancel_does_not_wait_for_callbacks() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (child, _cancel) = ctx.with_cancel();
    let (release, released) = bounded::<()>(2);
    let (tx, rx) = bounded(2);
    for ctx in [&ctx, &child] {
        let (tx, released) = (tx.clone(), released.clone());
        ctx.after_func(move || {
            let in_time = released.recv_timeout(LIMIT).is_ok();
            tx.send(in_time).expect("the test receives");
        });
    }
    cancel.cancel();
    for _ in 0..2 {
        release.send(()).expect("the callbacks wait");
    }
    for _ in 0..2 {
        assert_eq!(rx.recv_timeout(LIMIT), Ok(true));
    }
}

#[test]
fn blocked_callback_delays_no_deadline() {
    let (ctx, _cancel) = Context::background().with_timeout(SOON);
    let (tx, rx) = bounded(1);
    ctx.after_func(move || {
        let (other, _cancel) = Context::background().with_timeout(SOON);
        let end = other.done().recv_timeout(LIMIT);
        tx.send(end).expect("the test receives");
    });
    let end = rx.recv().expect("the callback sends");
    assert_eq!(end, Err(RecvTimeoutError::Disconnected));
}

#[test]
fn dropped_after_func_still_runs() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (f, of_f) = callback();
    drop(ctx.after_func(f));
    cancel.cancel();
    assert_runs(&of_f);
}

#[test]
fn concurrent_stops_return_true_once() {
    for _ in 0..200 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (f, of_f) = callback();
        let callback = ctx.after_func(f);
        let start = Barrier::new(8);
        let stopped: usize = thread::scope(|s| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    s.spawn(|| {
                        start.wait();
                        usize::from(callback.stop())
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(stopped, 1);
        cancel.cancel();
        assert_gone(&of_f);
    }
}

#[test]
fn stop_racing_cancel_either_stops_or_runs() {
    for _ in 0..1_000 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (f, of_f) = callback();
        let callback = ctx.after_func(f);
        let start = Barrier::new(2);
        let stopped = thread::scope(|s| {
            s.spawn(|| {
                start.wait();
                cancel.cancel();
            });
            start.wait();
            callback.stop()
        });
        assert_eq!(fate(&of_f).is_none(), stopped);
    }
}

#[test]
fn after_func_during_cancel_runs_on_done_context() {
    for _ in 0..500 {
        let (ctx, cancel) = Context::background().with_cancel_cause();
        let done = ctx.done();
        let (tx, rx) = unbounded();
        let start = Barrier::new(3);
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    start.wait();
                    let (done, inner, tx) = (done.clone(), ctx.clone(), tx.clone());
                    ctx.after_func(move || {
                        let seen = (done.try_recv(), inner.err(), inner.cause().is_some());
                        tx.send(seen).expect("the test receives");
                    });
                });
            }
            start.wait();
            cancel.cancel("enough");
        });
        for _ in 0..2 {
            let seen = rx.recv_timeout(LIMIT).expect("the callback runs");
            let expected = (Err(TryRecvError::Disconnected), Some(Error::Canceled), true);
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn stop_leaves_other_callbacks() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (handles, fates): (Vec<_>, Vec<_>) = (0..100)
        .map(|_| {
            let (f, of_f) = callback();
            (ctx.after_func(f), of_f)
        })
        .unzip();
    for handle in handles.iter().step_by(2) {
        assert!(handle.stop());
    }
    // New callbacks reuse the slots of the stopped ones, whose second `stop` must not remove them.
    let (late, late_fates): (Vec<_>, Vec<_>) = (0..50)
        .map(|_| {
            let (f, of_f) = callback();
            (ctx.after_func(f), of_f)
        })
        .unzip();
    for handle in handles.iter().step_by(2) {
        assert!(!handle.stop());
    }
    assert!(late[7].stop());
    cancel.cancel();
    for (n, of_f) in fates.iter().enumerate() {
        if n % 2 == 0 {
            assert_gone(of_f);
        } else {
            assert_runs(of_f);
        }
    }
    for (n, of_f) in late_fates.iter().enumerate() {
        if n == 7 {
            assert_gone(of_f);
        } else {
            assert_runs(of_f);
        }
    }
}

#[test]
fn callbacks_waiting_for_each_other_all_finish() {
    const MANY: usize = 64;
    let (ctx, cancel) = Context::background().with_cancel();
    let barrier = Arc::new(Barrier::new(MANY));
    let (tx, rx) = unbounded();
    for _ in 0..MANY {
        let (barrier, tx) = (barrier.clone(), tx.clone());
        ctx.after_func(move || {
            barrier.wait();
            tx.send(thread::current().id()).expect("the test receives");
        });
    }
    cancel.cancel();
    let threads: HashSet<_> = (0..MANY)
        .map(|_| rx.recv_timeout(LIMIT).expect("the callback finishes"))
        .collect();
    assert_eq!(threads.len(), MANY);
}

#[test]
fn callback_thread_is_reused() {
    let ctx = cancelled();
    let mut seen = HashSet::new();
    let start = Instant::now();
    loop {
        let (f, of_f) = callback();
        ctx.after_func(f);
        let thread = fate(&of_f).expect("the callback runs");
        if !seen.insert(thread.id()) {
            break;
        }
        assert!(start.elapsed() < LIMIT, "each callback has a new thread");
        thread::yield_now(); // the thread may not be idle yet
    }
}

#[test]
fn callback_sees_err_cause_and_closed_done() {
    let bg = Context::background();
    let (cancelled, cancel) = bg.with_cancel_cause();
    let (child, _cancel) = cancelled.with_cancel();
    let (expired, _cancel) = bg.with_timeout_cause(SOON, "too slow");
    let (tx, rx) = unbounded();
    for ctx in [&cancelled, &child, &expired] {
        let (inner, tx) = (ctx.clone(), tx.clone());
        ctx.after_func(move || {
            let cause = inner.cause().map(|cause| cause.to_string());
            let seen = (inner.done().try_recv(), inner.err(), cause);
            tx.send(seen).expect("the test receives");
        });
    }
    let disconnected = Err(TryRecvError::Disconnected);
    assert_eq!(
        rx.recv_timeout(LIMIT).expect("the deadline passes"),
        (
            disconnected,
            Some(Error::DeadlineExceeded),
            Some("too slow".into())
        )
    );
    cancel.cancel("enough");
    for _ in 0..2 {
        assert_eq!(
            rx.recv_timeout(LIMIT).expect("both are cancelled"),
            (disconnected, Some(Error::Canceled), Some("enough".into()))
        );
    }
}

#[test]
fn callback_can_cancel_derive_and_register() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (ctx, cancel) = parent.with_cancel_cause();
    let (other, cancel_other) = Context::background().with_cancel();
    let (tx, rx) = bounded(1);
    let (g, of_g) = callback();
    let (h, of_h) = callback();
    let (inner, above) = (ctx.clone(), parent.clone());
    let again = cancel.clone();
    ctx.after_func(move || {
        again.cancel("again");
        cancel_parent.cancel("from below");
        cancel_other.cancel();
        let (child, _cancel) = inner.with_timeout(HOUR);
        inner.after_func(g);
        above.after_func(h);
        tx.send(child).expect("the test receives");
    });
    cancel.cancel("first");

    let child = rx.recv_timeout(LIMIT).expect("the callback gets through");
    assert_eq!(child.err(), Some(Error::Canceled));
    assert_eq!(child.cause().unwrap().to_string(), "first");
    assert_eq!(ctx.cause().unwrap().to_string(), "first");
    assert_eq!(parent.cause().unwrap().to_string(), "from below");
    assert_eq!(other.err(), Some(Error::Canceled));
    assert_runs(&of_g);
    assert_runs(&of_h);
}

#[test]
fn callback_can_wait_for_another_it_registers() {
    let ctx = cancelled();
    let (tx, rx) = bounded(1);
    let inner = ctx.clone();
    ctx.after_func(move || {
        let (f, of_f) = callback();
        inner.after_func(f);
        assert_runs(&of_f);
        tx.send(()).expect("the test receives");
    });
    assert_eq!(rx.recv_timeout(LIMIT), Ok(()));
}

#[test]
fn after_func_on_background_never_runs() {
    let (parent, cancel) = Context::background().with_cancel();
    let detached = parent.without_cancel();
    cancel.cancel();
    for ctx in [
        Context::background(),
        Context::todo(),
        Context::background().with_value(Name, "gopher".into()),
        detached.with_value(Name, "gopher".into()),
        detached,
    ] {
        let (f, of_f) = callback();
        let handle = ctx.after_func(f);
        assert!(handle.stop(), "{ctx}");
        assert_gone(&of_f);
        assert!(!handle.stop(), "{ctx}");

        // It will never run, so it is dropped with its handle.
        let (f, of_f) = callback();
        let handle = ctx.after_func(f);
        assert!(of_f.is_empty());
        drop(handle);
        assert_gone(&of_f);
    }
}

#[test]
fn dropped_context_runs_its_callbacks() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (child, _) = parent.with_cancel();
    let (timed, _) = parent.with_timeout(HOUR);
    for ctx in [child, timed] {
        let (f, of_f) = callback();
        let handle = ctx.after_func(f);
        drop(ctx);
        assert!(!handle.stop());
        assert_runs(&of_f);
    }
    assert_eq!(parent.err(), None);
}

#[test]
fn dropped_chain_runs_all_its_callbacks() {
    let mut ctx = Context::background();
    let mut fates = Vec::new();
    for _ in 0..10 {
        ctx = ctx.with_cancel().0;
        let (f, of_f) = callback();
        ctx.after_func(f);
        fates.push(of_f);
    }
    assert!(fates.iter().all(Receiver::is_empty));
    drop(ctx);
    fates.iter().for_each(assert_runs);
}

#[test]
fn stop_breaks_cycle_of_callback_and_context() {
    let (ctx, cancel) = Context::background().with_cancel();
    let done = ctx.done();
    let handle = ctx.after_func({
        let ctx = ctx.clone();
        move || drop(ctx)
    });
    drop((ctx, cancel));
    assert_eq!(done.try_recv(), Err(TryRecvError::Empty));
    assert!(handle.stop());
    assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
}

/// Reports on which thread it is dropped, after using a context there.
struct UsesOnDrop {
    ctx: Context,
    fate: go_context::crossbeam_channel::Sender<Thread>,
}

impl Drop for UsesOnDrop {
    fn drop(&mut self) {
        let (child, cancel) = self.ctx.with_timeout(HOUR);
        let callback = self.ctx.after_func(|| ());
        callback.stop();
        cancel.cancel();
        assert!(child.err().is_some());
        let _ = self.fate.send(thread::current());
    }
}

#[test]
fn stop_drops_callback_without_lock() {
    in_time(|| {
        let (parent, _cancel) = Context::background().with_cancel();
        let (ctx, _cancel) = parent.with_cancel();
        for used in [&ctx, &parent] {
            let (fate, of_f) = bounded(1);
            let used = UsesOnDrop {
                ctx: used.clone(),
                fate,
            };
            let handle = ctx.after_func(move || drop(used));
            assert!(of_f.is_empty());
            assert!(handle.stop());
            let thread = of_f.try_recv().expect("it goes before stop returns");
            assert_eq!(thread.id(), thread::current().id());
        }
    });
}

#[test]
fn callback_is_dropped_on_the_thread_that_ran_it() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (fate_tx, of_f) = bounded(1);
    let (ran_tx, ran) = bounded(1);
    let used = UsesOnDrop {
        ctx: ctx.clone(),
        fate: fate_tx,
    };
    ctx.after_func(move || {
        let _used = &used;
        ran_tx
            .send(thread::current().id())
            .expect("the test receives");
    });
    cancel.cancel();
    let ran_on = ran.recv_timeout(LIMIT).expect("the callback runs");
    let thread = fate(&of_f).expect("the callback is dropped");
    assert_eq!(thread.id(), ran_on);
}

#[test]
fn stop_after_context_is_dropped_returns_false() {
    let (f, of_f) = callback();
    let abandoned = thread::spawn(|| Context::background().with_cancel().0.after_func(f));
    let handle = abandoned.join().expect("no panic");
    assert_runs(&of_f);
    assert!(!handle.stop());
}
