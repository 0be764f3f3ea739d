//! `AfterFunc::stop_and_wait`: once it has returned, the callback is not running and will not run.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, Sender};
use go_context::{AfterFunc, Context};
use support::{in_time, stoppable_callback, LIMIT};

/// How long a callback waits for a `stop_and_wait` that returns too early. It makes no difference if
/// none does.
const PATIENCE: Duration = Duration::from_millis(50);

/// A callback that ends when a call that should wait for it returns too early, or after
/// [`PATIENCE`], and then records that it has ended.
struct Slow {
    started: Receiver<()>,
    returned: Sender<()>,
    over: Arc<AtomicBool>,
}

impl Slow {
    fn register(ctx: &Context) -> (AfterFunc, Slow) {
        let (start, started) = bounded(1);
        let (returned, early) = bounded(64);
        let over = Arc::new(AtomicBool::new(false));
        let end = over.clone();
        let after = ctx.after_func(move || {
            start.send(()).unwrap();
            let _ = early.recv_timeout(PATIENCE);
            end.store(true, Ordering::SeqCst);
        });
        let slow = Slow {
            started,
            returned,
            over,
        };
        (after, slow)
    }

    /// Calls `stop_and_wait`, which must return when the callback has ended.
    #[track_caller]
    fn outwait(&self, after: &AfterFunc) {
        let stopped = after.stop_and_wait();
        let over = self.over.load(Ordering::SeqCst);
        let _ = self.returned.send(());
        assert!(over, "the function is still running");
        assert!(!stopped);
    }
}

#[test]
fn stop_and_wait_before_end_returns_true_once() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (after, ran) = stoppable_callback(&ctx);
    assert!(after.stop_and_wait());
    // The callback has been dropped, and with it the only sender.
    assert!(ran.try_recv().unwrap_err().is_disconnected());
    assert!(!after.stop_and_wait());
    assert!(!after.stop());
    cancel.cancel();
    assert!(!after.stop_and_wait());
}

#[test]
fn stop_and_wait_on_background_returns_at_once() {
    for ctx in [Context::background(), Context::todo().without_cancel()] {
        let after = ctx.after_func(|| unreachable!());
        assert!(after.stop_and_wait());
        assert!(!after.stop_and_wait());
    }
}

#[test]
fn stop_and_wait_after_stop_does_not_wait() {
    in_time(|| {
        let (ctx, _cancel) = Context::background().with_cancel();
        let after = ctx.after_func(|| unreachable!());
        assert!(after.stop());
        assert!(!after.stop_and_wait());
    });
}

#[test]
fn stop_and_wait_waits_for_running_callback() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (after, slow) = Slow::register(&ctx);
    cancel.cancel();
    slow.started.recv_timeout(LIMIT).unwrap();
    slow.outwait(&after);
    assert!(!in_time(move || after.stop_and_wait()));
}

#[test]
fn stop_and_wait_waits_for_starting_callback() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (after, slow) = Slow::register(&ctx);
    cancel.cancel();
    slow.outwait(&after);

    // Of many that are started at once some have no thread yet.
    let (ctx, cancel) = Context::background().with_cancel();
    let ran = Arc::new(AtomicUsize::new(0));
    let all: Vec<AfterFunc> = (0..200)
        .map(|_| {
            let ran = ran.clone();
            ctx.after_func(move || {
                ran.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    cancel.cancel();
    for (number, after) in all.iter().rev().enumerate() {
        assert!(!after.stop_and_wait());
        assert!(ran.load(Ordering::SeqCst) > number);
    }
}

#[test]
fn stop_and_wait_waits_whatever_ended_context() {
    // Done before.
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let (after, slow) = Slow::register(&ctx);
    slow.outwait(&after);

    // A deadline.
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    let (after, slow) = Slow::register(&ctx);
    slow.started.recv_timeout(LIMIT).unwrap();
    slow.outwait(&after);

    // A parent.
    let (parent, cancel) = Context::background().with_cancel();
    let (ctx, _cancel) = parent.with_cancel();
    let (after, slow) = Slow::register(&ctx);
    cancel.cancel();
    slow.outwait(&after);

    // Its last handle is dropped.
    let (ctx, cancel) = Context::background().with_cancel();
    let (after, slow) = Slow::register(&ctx);
    drop((ctx, cancel));
    slow.outwait(&after);
}

#[test]
fn stop_and_wait_on_many_threads_all_wait() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (after, slow) = Slow::register(&ctx);
    let start = Barrier::new(9);
    thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                start.wait();
                slow.outwait(&after);
            });
        }
        cancel.cancel();
        start.wait();
    });
}

#[test]
fn stop_and_wait_on_many_threads_returns_true_once() {
    for _ in 0..200 {
        let (ctx, _cancel) = Context::background().with_cancel();
        let after = ctx.after_func(|| unreachable!());
        let stopped = AtomicUsize::new(0);
        let start = Barrier::new(8);
        thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    start.wait();
                    stopped.fetch_add(after.stop_and_wait().into(), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(stopped.into_inner(), 1);
    }
}

#[test]
fn stop_and_wait_racing_cancel_stops_or_has_run() {
    for _ in 0..2000 {
        let (ctx, cancel) = Context::background().with_cancel();
        let ran = Arc::new(AtomicBool::new(false));
        let runs = ran.clone();
        let after = ctx.after_func(move || runs.store(true, Ordering::SeqCst));
        let start = Barrier::new(2);
        thread::scope(|s| {
            s.spawn(|| {
                start.wait();
                cancel.cancel();
            });
            start.wait();
            let stopped = after.stop_and_wait();
            assert_eq!(ran.load(Ordering::SeqCst), !stopped);
        });
    }
}

#[test]
fn stop_and_wait_inside_callback_does_not_wait() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (hand, handed) = bounded::<Arc<AfterFunc>>(1);
    let (tell, told) = bounded(1);
    let after = ctx.after_func(move || {
        let itself = handed.recv().unwrap();
        tell.send(itself.stop_and_wait()).unwrap();
    });
    cancel.cancel();
    let after = Arc::new(after);
    hand.send(after.clone()).unwrap();
    assert_eq!(told.recv_timeout(LIMIT), Ok(false));
    // Other threads wait as usual.
    assert!(!in_time(move || after.stop_and_wait()));
}

/// The captures of a callback are dropped inside it, at its end.
#[test]
fn stop_and_wait_in_callback_drop_does_not_wait() {
    struct Waits(Receiver<Arc<AfterFunc>>, Sender<bool>);
    impl Drop for Waits {
        fn drop(&mut self) {
            let itself = self.0.recv().unwrap();
            self.1.send(itself.stop_and_wait()).unwrap();
        }
    }
    let (ctx, cancel) = Context::background().with_cancel();
    let (hand, handed) = bounded(1);
    let (tell, told) = bounded(1);
    let waits = Waits(handed, tell);
    let after = Arc::new(ctx.after_func(move || drop(waits)));
    hand.send(after.clone()).unwrap();
    cancel.cancel();
    assert_eq!(told.recv_timeout(LIMIT), Ok(false));
}

#[test]
fn stop_and_wait_inside_other_callback_waits() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (after, slow) = Slow::register(&ctx);
    let (tell, told) = bounded(1);
    let _other = ctx.after_func(move || {
        // A panic does not leave the thread, so its message is passed on.
        let result = catch_unwind(AssertUnwindSafe(|| slow.outwait(&after)));
        tell.send(result.is_ok()).unwrap();
    });
    cancel.cancel();
    assert_eq!(told.recv_timeout(LIMIT), Ok(true));
}

#[test]
fn stop_and_wait_returns_after_drop_of_captures() {
    for fails in [false, true] {
        let (ctx, cancel) = Context::background().with_cancel();
        let held = Arc::new(());
        let gone: Weak<()> = Arc::downgrade(&held);
        let after = ctx.after_func(move || {
            let _held = &held;
            assert!(!fails, "the function fails");
        });
        cancel.cancel();
        assert!(!after.stop_and_wait());
        assert!(gone.upgrade().is_none());
    }

    let (ctx, _cancel) = Context::background().with_cancel();
    let held = Arc::new(());
    let gone = Arc::downgrade(&held);
    let after = ctx.after_func(move || drop(held));
    assert!(after.stop_and_wait());
    assert!(gone.upgrade().is_none());
}

#[test]
fn stop_and_wait_waits_for_panicking_callback() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (start, started) = bounded(1);
    let (go, going) = bounded::<()>(1);
    let after = Arc::new(ctx.after_func(move || {
        start.send(()).unwrap();
        going.recv().unwrap();
        panic!("the function fails");
    }));
    cancel.cancel();
    started.recv_timeout(LIMIT).unwrap();
    let waiting = after.clone();
    let waiter = thread::spawn(move || in_time(move || waiting.stop_and_wait()));
    go.send(()).unwrap();
    assert!(!waiter.join().unwrap());
    assert!(!in_time(move || after.stop_and_wait()));
}

#[test]
fn stop_and_wait_ignores_other_callbacks() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (go, going) = bounded::<()>(1);
    let blocked = ctx.after_func(move || going.recv().unwrap());
    let free = ctx.after_func(|| ());
    cancel.cancel();
    assert!(!in_time(move || free.stop_and_wait()));
    go.send(()).unwrap();
    assert!(!blocked.stop_and_wait());
}

#[test]
fn stop_and_drop_do_not_wait_for_callback() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (go, going) = bounded::<()>(1);
    let (tell, over) = bounded(1);
    let after = ctx.after_func(move || {
        going.recv().unwrap();
        tell.send(Instant::now()).unwrap();
    });
    cancel.cancel();
    assert!(!after.stop());
    drop(after);
    go.send(()).unwrap();
    over.recv_timeout(LIMIT).unwrap();
}

/// Its purpose: to free what the callback uses.
#[test]
fn stop_and_wait_synchronizes_with_callback() {
    for _ in 0..500 {
        let (ctx, cancel) = Context::background().with_cancel();
        let resource = Arc::new(Mutex::new(Some(Vec::new())));
        let used = resource.clone();
        let after = ctx.after_func(move || {
            let mut used = used.lock().unwrap();
            used.as_mut().expect("it is still there").push(1);
        });
        let canceller = thread::spawn(move || cancel.cancel());
        let stopped = after.stop_and_wait();
        let taken = resource.lock().unwrap().take();
        assert_eq!(taken.unwrap().len(), usize::from(!stopped));
        canceller.join().unwrap();
        // A callback that ran too late would have poisoned it.
        assert!(!resource.is_poisoned());
    }
}
