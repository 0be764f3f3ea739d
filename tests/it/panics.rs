//! User code: if it panics, blocks or calls back into the crate, nothing else is affected.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::panic::{self, RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, RecvTimeoutError, TryRecvError};
use go_context::{
    AfterFunc, CancelCauseFunc, CancelFunc, Context, Deadline, DropGuard, Error, Key,
};
use support::{assert_closes, callback, in_time, panics, HOUR, LIMIT};

const SOON: Duration = Duration::from_millis(5);

/// A panic without a message from the hook.
fn blow_up() {
    panic::resume_unwind(Box::new("on purpose"));
}

/// Calls a function when it is dropped. It serves as a value and as a cause.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<F: FnMut()> fmt::Debug for OnDrop<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDrop")
    }
}

impl<F: FnMut()> fmt::Display for OnDrop<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gone soon")
    }
}

impl<F: FnMut()> std::error::Error for OnDrop<F> {}

type Foreign = Box<dyn Fn() + Send + Sync>;

/// A value that calls a function when it is dropped.
#[derive(PartialEq, Eq)]
struct Slot(u32);

impl Key for Slot {
    type Value = OnDrop<Foreign>;
}

fn on_drop(f: impl Fn() + Send + Sync + 'static) -> OnDrop<Foreign> {
    OnDrop(Box::new(f))
}

/// A value or a cause that panics in its drop.
fn bomb() -> OnDrop<Foreign> {
    on_drop(blow_up)
}

/// A key that calls a function to compare itself.
struct Compared(Foreign);

impl PartialEq for Compared {
    fn eq(&self, _: &Compared) -> bool {
        (self.0)();
        true
    }
}

impl Eq for Compared {}

impl Key for Compared {
    type Value = &'static str;
}

/// Asserts that deadlines fire and callbacks run as usual.
#[track_caller]
fn assert_unharmed() {
    let (ctx, _cancel) = Context::background().with_timeout(SOON);
    let ran = callback(&ctx);
    assert_closes(&ctx.done());
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
}

#[track_caller]
fn assert_disconnected(done: &Receiver<()>) {
    assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
}

/// Uses a context in every way, whatever calls this.
fn exercise(ctx: &Context, cancel: &CancelCauseFunc) {
    let (child, cancel_child) = ctx.with_timeout(HOUR);
    let valued = child.with_value(Slot(9), on_drop(|| ()));
    assert!(valued.value(&Slot(9)).is_some());
    assert!(ctx.value(&Slot(9)).is_none());
    drop(valued);
    let callback = ctx.after_func(|| ());
    callback.stop();
    drop((
        ctx.done(),
        ctx.cause(),
        ctx.deadline(),
        ctx.without_cancel(),
    ));
    assert!(!format!("{ctx:?} {child}").is_empty());
    cancel_child.cancel();
    cancel.cancel("from within");
    assert!(ctx.err().is_some());
    assert_disconnected(&ctx.done());
}

#[test]
fn handles_are_send_sync_and_unwind_safe() {
    fn crosses<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + 'static>(handle: T) {
        let end = thread::spawn(|| panic::catch_unwind(|| drop(handle))).join();
        assert!(end.expect("no panic").is_ok());
    }
    let (ctx, cancel) = Context::background().with_cancel();
    let (_ctx, cancel_with_cause) = ctx.with_cancel_cause();
    crosses::<AfterFunc>(ctx.after_func(|| ()));
    crosses::<Deadline>(Instant::now().into());
    crosses::<CancelFunc>(cancel.clone());
    crosses::<CancelCauseFunc>(cancel_with_cause);
    crosses::<Context>(ctx.clone());
    assert_eq!(ctx.err(), None);
    crosses::<DropGuard>(cancel.drop_guard());
    crosses::<Error>(ctx.err().expect("the guard has cancelled"));
}

#[test]
fn callback_panic_is_contained() {
    let (root, cancel) = Context::background().with_cancel();
    let mut tree = vec![root.clone()];
    for n in 0..20 {
        let (child, _cancel) = tree[n / 2].with_cancel();
        tree.push(child);
    }
    let (tx, rx) = unbounded();
    for ctx in &tree {
        for n in 0..4 {
            let tx = tx.clone();
            ctx.after_func(move || match n % 2 {
                0 => tx.send("ran").expect("the test receives"),
                _ => {
                    let _unwound = OnDrop(move || tx.send("unwound").expect("the test receives"));
                    blow_up();
                }
            });
        }
    }
    drop(tx);
    cancel.cancel();
    for ctx in &tree {
        assert_eq!(ctx.err(), Some(Error::Canceled));
        assert_disconnected(&ctx.done());
    }
    let mut ends: Vec<&str> = (0..4 * tree.len())
        .map(|_| rx.recv_timeout(LIMIT).expect("all end"))
        .collect();
    ends.sort_unstable();
    assert_eq!(ends.iter().filter(|end| **end == "ran").count(), 42);
    assert_eq!(ends.iter().filter(|end| **end == "unwound").count(), 42);

    assert_eq!(callback(&root).recv_timeout(LIMIT), Ok(()));
    assert_unharmed();
}

#[test]
fn callback_panic_payload_panic_is_contained() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (tx, rx) = bounded(2);
    for _ in 0..2 {
        let payload = tx.clone();
        ctx.after_func(move || {
            panic::resume_unwind(Box::new(OnDrop(move || {
                payload.send(()).expect("the test receives");
                blow_up();
            })))
        });
    }
    cancel.cancel();
    assert_eq!(rx.recv_timeout(LIMIT), Ok(()));
    assert_eq!(rx.recv_timeout(LIMIT), Ok(()));
    assert_eq!(callback(&ctx).recv_timeout(LIMIT), Ok(()));
    assert_unharmed();
}

#[test]
fn callback_panic_on_expiry_is_contained() {
    let all: Vec<_> = (1..50)
        .map(|millis| Context::background().with_timeout(Duration::from_millis(millis)))
        .collect();
    for (ctx, _cancel) in all.iter().step_by(2) {
        ctx.after_func(blow_up);
    }
    for (ctx, _cancel) in &all {
        assert_closes(&ctx.done());
    }
    assert_unharmed();
}

#[test]
fn value_panicking_in_drop_panics_last() {
    let drops = Arc::new(AtomicUsize::new(0));
    let count = |drops: &Arc<AtomicUsize>| {
        let drops = drops.clone();
        on_drop(move || {
            drops.fetch_add(1, Ordering::SeqCst);
        })
    };
    let (parent, _cancel) = Context::background().with_cancel();
    let (below, _) = parent.with_value(Slot(1), count(&drops)).with_cancel();
    let (done, ran) = (below.done(), callback(&below));
    let ctx = below
        .with_value(Slot(2), bomb())
        .with_value(Slot(3), count(&drops));
    drop(below);
    assert!(panics(|| drop(ctx)));
    assert_eq!(drops.load(Ordering::SeqCst), 2);
    assert_disconnected(&done);
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    assert_eq!(parent.err(), None);
    assert_unharmed();
}

#[test]
fn two_values_panicking_in_drop_do_not_abort() {
    let drops = Arc::new(AtomicUsize::new(0));
    let ctx = (0..10).fold(Context::background(), |ctx, n| {
        let drops = drops.clone();
        let bomb = on_drop(move || {
            drops.fetch_add(1, Ordering::SeqCst);
            blow_up();
        });
        ctx.with_value(Slot(n), bomb).with_cancel().0
    });
    assert!(panics(|| drop(ctx)));
    assert_eq!(drops.load(Ordering::SeqCst), 10);
}

#[test]
fn key_panicking_in_drop_still_drops_value() {
    struct Brittle;
    impl Drop for Brittle {
        fn drop(&mut self) {
            blow_up();
        }
    }
    impl PartialEq for Brittle {
        fn eq(&self, _: &Brittle) -> bool {
            true
        }
    }
    impl Eq for Brittle {}
    impl Key for Brittle {
        type Value = OnDrop<Foreign>;
    }

    let drops = Arc::new(AtomicUsize::new(0));
    let count = drops.clone();
    let value = on_drop(move || {
        count.fetch_add(1, Ordering::SeqCst);
        blow_up();
    });
    let ctx = Context::background().with_value(Brittle, value);
    assert!(panics(|| drop(ctx)));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn values_with_panicking_payloads_do_not_abort() {
    let drops = Arc::new(AtomicUsize::new(0));
    let ctx = (0..3).fold(Context::background(), |ctx, n| {
        let drops = drops.clone();
        let bomb = on_drop(move || {
            drops.fetch_add(1, Ordering::SeqCst);
            panic::resume_unwind(Box::new(bomb()));
        });
        ctx.with_value(Slot(n), bomb)
    });
    let end = panic::catch_unwind(|| drop(ctx));
    assert_eq!(drops.load(Ordering::SeqCst), 3);
    let first = end.expect_err("the first panic is passed on");
    assert!(panics(|| drop(first)));
}

#[test]
fn value_panicking_during_panic_does_not_abort() {
    let ctx = Context::background().with_cancel().0;
    let (done, ran) = (ctx.done(), callback(&ctx));
    assert!(panics(|| {
        let _dropped_late = ctx.with_value(Slot(1), bomb()).with_value(Slot(2), bomb());
        let _dropped_too = ctx;
        blow_up();
    }));
    assert_disconnected(&done);
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
}

#[test]
fn cause_panicking_in_drop_panics_last() {
    let (root, _cancel) = Context::background().with_cancel();
    let (parent, cancel_parent) = root.with_cancel_cause();
    let (child, _) = parent.with_cancel();
    let (sibling, _cancel) = root.with_cancel();
    let ran = callback(&child);
    cancel_parent.cancel(bomb());
    for ctx in [&parent, &child] {
        assert_eq!(ctx.err(), Some(Error::Canceled));
        assert_eq!(ctx.cause().unwrap().to_string(), "gone soon");
    }
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    assert!(
        !panics(|| drop((parent, cancel_parent))),
        "the child has it"
    );
    assert!(panics(|| drop(child)));
    assert_eq!(root.err(), None);
    assert_eq!(sibling.err(), None);
    assert_unharmed();
}

#[test]
fn late_cause_panicking_in_drop_panics_in_cancel() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let (child, _cancel) = ctx.with_cancel();
    cancel.cancel("first");
    assert!(panics(|| cancel.cancel(bomb())));
    for ctx in [&ctx, &child] {
        assert_eq!(ctx.cause().unwrap().to_string(), "first");
    }
    let (late, cancel_late) = ctx.with_cancel_cause();
    assert!(panics(|| cancel_late.cancel(bomb())));
    assert_eq!(late.cause().unwrap().to_string(), "first");
    assert_unharmed();
}

#[test]
fn unused_timeout_cause_panics_in_its_constructor() {
    let (parent, cancel) = Context::background().with_timeout(HOUR);
    assert!(panics(|| drop(parent.with_timeout_cause(2 * HOUR, bomb()))));
    assert_eq!(parent.err(), None);
    assert_unharmed();

    // No child has been left that would keep it alive.
    let done = parent.done();
    drop((parent, cancel));
    assert_disconnected(&done);
}

#[test]
fn two_causes_panicking_in_drop_do_not_abort() {
    let bg = Context::background();

    // Two causes of one context: its deadline's, and the one it was cancelled with.
    let (parent, cancel) = bg.with_cancel_cause();
    let (child, _) = parent.with_timeout_cause(HOUR, bomb());
    cancel.cancel(bomb());
    drop((parent, cancel));
    assert!(panics(|| drop(child)));

    // One each of parent and child.
    let (parent, _) = bg.with_timeout_cause(2 * HOUR, bomb());
    let (child, _) = parent.with_timeout_cause(HOUR, bomb());
    let done = [parent.done(), child.done()];
    drop(parent);
    assert!(panics(|| drop(child)));
    done.iter().for_each(assert_disconnected);

    // A cause and a value.
    let (timed, _) = bg.with_timeout_cause(HOUR, bomb());
    let valued = timed.with_value(Slot(1), bomb());
    drop(timed);
    assert!(panics(|| drop(valued)));
    assert_unharmed();
}

#[test]
fn cause_panicking_during_panic_does_not_abort() {
    let bg = Context::background();
    let (timed, _) = bg.with_timeout_cause(HOUR, bomb());
    assert!(panics(|| {
        let _dropped_late = timed;
        blow_up();
    }));

    let (ctx, cancel) = bg.with_cancel_cause();
    cancel.cancel(bomb());
    let guard = cancel.drop_guard();
    drop(ctx);
    assert!(panics(|| {
        let _dropped_late = guard;
        blow_up();
    }));
    assert_unharmed();
}

#[test]
fn cause_panicking_in_display_panics_in_caller() {
    struct Shy;
    impl fmt::Debug for Shy {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            blow_up();
            Ok(())
        }
    }
    impl fmt::Display for Shy {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            blow_up();
            Ok(())
        }
    }
    impl std::error::Error for Shy {}

    let (ctx, cancel) = Context::background().with_cancel_cause();
    let (child, _cancel) = ctx.with_cancel();
    let ran = callback(&child);
    cancel.cancel(Shy);
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    let cause = child.cause().expect("the context is done");
    assert!(panics(|| drop(cause.to_string())));
    assert!(panics(|| drop(format!("{cause:?}"))));
    assert_eq!(ctx.to_string(), "context.Background.WithCancel");
    assert!(format!("{ctx:?} {child:?}").contains("Canceled"));
    assert!(ctx.cause().unwrap().is::<Shy>());
    assert_unharmed();
}

#[test]
fn key_panicking_in_eq_panics_in_value() {
    let armed = Arc::new(AtomicBool::new(false));
    let key = || {
        let armed = armed.clone();
        Compared(Box::new(move || {
            if armed.load(Ordering::SeqCst) {
                blow_up();
            }
        }))
    };
    let (ctx, cancel) = Context::background().with_cancel();
    let ctx = ctx.with_value(key(), "gopher");
    let (child, _cancel) = ctx.with_cancel();
    armed.store(true, Ordering::SeqCst);
    assert!(panics(|| assert!(child.value(&key()).is_none())));
    assert!(child.value(&Slot(1)).is_none(), "another type of key");
    armed.store(false, Ordering::SeqCst);
    assert_eq!(child.value(&key()), Some(&"gopher"));
    cancel.cancel();
    assert_eq!(child.err(), Some(Error::Canceled));
    assert_unharmed();
}

#[test]
fn callback_panicking_in_drop_panics_in_stop() {
    let (ctx, cancel) = Context::background().with_cancel();
    let bomb = bomb();
    let handle = ctx.after_func(move || drop(bomb));
    let ran = callback(&ctx);
    assert!(panics(|| assert!(handle.stop())));
    assert!(!handle.stop());
    cancel.cancel();
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    assert_unharmed();
}

#[test]
fn unused_callback_panics_in_drop_of_handle() {
    for ctx in [Context::background(), Context::todo().without_cancel()] {
        let bomb = bomb();
        let handle = ctx.after_func(move || drop(bomb));
        assert!(panics(|| drop(handle)));
    }
    assert_unharmed();
}

#[test]
fn drop_guard_cancels_during_panic() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (with_cause, cancel_with_cause) = Context::background().with_cancel_cause();
    assert!(panics(|| {
        let _first = cancel.drop_guard();
        let _second = cancel_with_cause.drop_guard();
        blow_up();
    }));
    for ctx in [ctx, with_cause] {
        assert_eq!(ctx.err(), Some(Error::Canceled));
        assert!(ctx.cause().unwrap().is::<Error>());
    }
}

#[test]
fn drop_guard_of_panicking_thread_ends_the_others() {
    let (ctx, cancel) = Context::background().with_cancel();
    thread::scope(|s| {
        let others: Vec<_> = (0..3)
            .map(|_| s.spawn(|| ctx.done().recv_timeout(LIMIT)))
            .collect();
        let worker = s.spawn(|| {
            let _cancel_on_exit = cancel.drop_guard();
            blow_up();
        });
        assert!(worker.join().is_err());
        for other in others {
            let end = other.join().expect("no panic");
            assert_eq!(end, Err(RecvTimeoutError::Disconnected));
        }
    });
}

#[test]
fn context_is_usable_after_caught_panic() {
    let (ctx, cancel) = Context::background().with_cancel();
    let child = panic::catch_unwind(|| {
        let (child, _cancel) = ctx.with_cancel();
        let end = panic::catch_unwind(|| {
            let _child = ctx.with_timeout(HOUR);
            let _callback = ctx.after_func(|| ());
            blow_up();
        });
        assert!(end.is_err());
        child
    })
    .expect("the panic was caught within");
    assert_eq!(ctx.err(), None);
    cancel.cancel();
    assert_eq!(child.err(), Some(Error::Canceled));
}

#[test]
fn value_drop_can_use_its_contexts() {
    in_time(|| {
        let (parent, cancel_parent) = Context::background().with_cancel_cause();
        let (ctx, cancel) = parent.with_cancel_cause();
        let used = (ctx.clone(), parent.clone(), cancel_parent);
        let value = on_drop(move || {
            exercise(&used.0, &cancel);
            exercise(&used.1, &used.2);
        });
        drop(ctx.with_value(Slot(1), value));
        assert_eq!(ctx.cause().unwrap().to_string(), "from within");
        assert_eq!(parent.cause().unwrap().to_string(), "from within");
    });
}

#[test]
fn cause_drop_can_use_its_contexts() {
    in_time(|| {
        // The cause of a context that has been cancelled, with the last handle.
        let (parent, cancel_parent) = Context::background().with_cancel_cause();
        let (ctx, cancel) = parent.with_cancel_cause();
        let used = parent.clone();
        cancel.cancel(on_drop(move || exercise(&used, &cancel_parent)));
        drop((ctx, cancel));
        assert_eq!(parent.cause().unwrap().to_string(), "from within");
    });
    in_time(|| {
        // One that is too late, in the call that passes it.
        let (ctx, cancel) = Context::background().with_cancel_cause();
        cancel.cancel("first");
        let used = (ctx.clone(), cancel.clone());
        cancel.cancel(on_drop(move || exercise(&used.0, &used.1)));
        assert_eq!(ctx.cause().unwrap().to_string(), "first");
    });
    in_time(|| {
        // The cause of a deadline that never fired.
        let (parent, cancel_parent) = Context::background().with_cancel_cause();
        let used = parent.clone();
        let cause = on_drop(move || exercise(&used, &cancel_parent));
        drop(parent.with_timeout_cause(HOUR, cause));
        assert_eq!(parent.cause().unwrap().to_string(), "from within");
    });
}

#[test]
fn cause_into_can_use_its_contexts() {
    struct Convertible(Context, CancelCauseFunc);
    impl From<Convertible> for Box<dyn std::error::Error + Send + Sync> {
        fn from(from: Convertible) -> Self {
            exercise(&from.0, &from.1);
            "converted".into()
        }
    }

    in_time(|| {
        let (ctx, cancel) = Context::background().with_cancel_cause();
        cancel.cancel(Convertible(ctx.clone(), cancel.clone()));
        assert_eq!(ctx.cause().unwrap().to_string(), "from within");

        let (parent, cancel) = Context::background().with_cancel_cause();
        let cause = Convertible(parent.clone(), cancel);
        let (child, _cancel) = parent.with_timeout_cause(HOUR, cause);
        assert_eq!(child.cause().unwrap().to_string(), "from within");
    });
}

#[test]
fn callback_drop_can_use_its_contexts() {
    in_time(|| {
        let (parent, cancel_parent) = Context::background().with_cancel_cause();
        let (ctx, cancel) = parent.with_cancel_cause();
        let used = (ctx.clone(), parent.clone());
        let captured = on_drop(move || {
            exercise(&used.0, &cancel);
            exercise(&used.1, &cancel_parent);
        });
        let handle = ctx.after_func(move || drop(captured));
        assert!(handle.stop());
        assert_eq!(ctx.cause().unwrap().to_string(), "from within");
        assert_eq!(parent.cause().unwrap().to_string(), "from within");
    });
}

#[test]
fn key_eq_can_use_its_contexts() {
    in_time(|| {
        let (parent, cancel) = Context::background().with_cancel_cause();
        let used = parent.clone();
        let key = Compared(Box::new(move || exercise(&used, &cancel)));
        let ctx = parent.with_value(key, "gopher");
        assert_eq!(parent.err(), None);
        let found = ctx.value(&Compared(Box::new(|| ())));
        assert_eq!(found, Some(&"gopher"));
        assert_eq!(ctx.cause().unwrap().to_string(), "from within");
    });
}

#[test]
fn value_blocking_in_drop_delays_only_its_caller() {
    let (parent, cancel) = Context::background().with_cancel();
    let (dropping_tx, dropping) = bounded(1);
    let (release, released) = bounded::<()>(0);
    let value = on_drop(move || {
        dropping_tx.send(()).expect("the test receives");
        let _ = released.recv();
    });
    // Its last handle is dropped just as its deadline passes.
    let ctx = parent.with_timeout(SOON).0.with_value(Slot(1), value);
    let done = ctx.done();
    let blocked = thread::spawn(move || {
        assert_closes(&done);
        drop(ctx);
    });
    assert_eq!(dropping.recv_timeout(LIMIT), Ok(()));

    assert_unharmed();
    let (sibling, _cancel) = parent.with_cancel();
    let ran = callback(&sibling);
    cancel.cancel();
    assert_eq!(sibling.err(), Some(Error::Canceled));
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    assert!(!blocked.is_finished());
    drop(release);
    blocked.join().expect("no panic");
}

/// Drops the last handle of a context while its deadline fires, until a thread of the crate instead
/// of the test drops the cause, which then calls `then`.
#[track_caller]
fn let_the_crate_drop_a_cause(then: impl Fn() + Clone + Send + Sync + 'static) {
    let ours = thread::current().id();
    let start = Instant::now();
    let mut timeout = Duration::from_millis(100);
    loop {
        assert!(start.elapsed() < LIMIT, "it never happened");
        let (tx, dropped) = bounded(1);
        let then = then.clone();
        let cause = on_drop(move || {
            let is_ours = thread::current().id() == ours;
            tx.send(is_ours).expect("the test receives");
            if !is_ours {
                then();
            }
        });
        let (ctx, cancel) = Context::background().with_timeout_cause(timeout, cause);
        // The channel is closed first. Then it takes a while to visit all these slots, of which all
        // but one are free again.
        let _ran = callback(&ctx);
        let children: Vec<_> = (0..200_000).map(|_| ctx.with_cancel()).collect();
        for (child, _) in &children {
            let _ = child.done(); // so that it is registered
        }
        drop(children);
        if ctx.err().is_some() {
            timeout *= 2; // it has fired too early, for this machine
        }
        assert_closes(&ctx.done());
        drop((ctx, cancel));
        let is_ours = dropped.recv_timeout(LIMIT);
        if !is_ours.expect("the cause is dropped") {
            return;
        }
    }
}

#[test]
fn cause_blocking_on_expiry_delays_no_deadline() {
    let (release, released) = bounded::<()>(0);
    let_the_crate_drop_a_cause(move || {
        let _ = released.recv();
    });
    assert_unharmed();
    drop(release);
}

#[test]
fn cause_panicking_on_expiry_is_contained() {
    let_the_crate_drop_a_cause(blow_up);
    assert_unharmed();
}

type LastWords = OnDrop<Box<dyn FnMut()>>;

/// Runs `last` on a thread as it ends, when its thread-locals are being dropped. The system
/// determines the order in which they are dropped, so `before` and `after`, which are called before
/// and after this one is made, can create older and younger thread-locals.
#[track_caller]
fn at_thread_exit([before, after]: [fn(); 2], last: impl FnOnce() + Send + 'static) {
    thread_local! {
        static LAST: RefCell<Option<LastWords>> = const { RefCell::new(None) };
    }
    let mut last = Some(last);
    in_time(move || {
        before();
        let run = move || last.take().into_iter().for_each(|last| last());
        LAST.with(|slot| *slot.borrow_mut() = Some(OnDrop(Box::new(run))));
        after();
    });
}

/// For `at_thread_exit`.
const MEANWHILE: [[fn(); 2]; 3] = [[|| (), || ()], [use_contexts, || ()], [|| (), use_contexts]];

/// Uses what needs a thread-local of its own or of a channel.
fn use_contexts() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    exercise(&parent, &cancel);
    let (ctx, _cancel) = Context::background().with_timeout(SOON);
    let ran = callback(&ctx);
    assert_closes(&ctx.done());
    assert_eq!(ctx.wait(), Error::DeadlineExceeded);
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    assert!(!ctx.after_func(|| ()).stop_and_wait());
    let seven: io::Result<u32> = ctx
        .without_cancel()
        .scope(|s| Ok(s.spawn(|_| Ok(7)).recv().unwrap()));
    assert_eq!(seven.unwrap(), 7);
    let ctx = Context::background()
        .with_cancel()
        .0
        .with_value(Slot(1), bomb());
    let done = ctx.done();
    assert!(panics(|| drop(ctx)));
    assert_disconnected(&done);
}

#[test]
fn thread_local_drop_can_use_contexts() {
    for meanwhile in MEANWHILE {
        let (tx, rx) = bounded(1);
        at_thread_exit(meanwhile, move || {
            use_contexts();
            tx.send(()).expect("the test receives");
        });
        assert_eq!(rx.recv_timeout(LIMIT), Ok(()));
    }
}

#[test]
fn thread_local_context_ends_with_thread() {
    for meanwhile in MEANWHILE {
        let (ctx, _) = Context::background().with_timeout(HOUR);
        let (done, ran) = (ctx.done(), callback(&ctx));
        at_thread_exit(meanwhile, move || drop(ctx));
        assert_closes(&done);
        assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    }
}
