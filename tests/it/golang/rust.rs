//! What Go has no tests for, because its types or its runtime rule it out.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, Sender};
use go_context::{
    AfterFunc, CancelCauseFunc, CancelFunc, Cause, Context, CustomContext, Deadline, DropGuard,
    Error, Key, Lookup,
};
use support::process::in_child;
use support::threads::spawn;
use support::{assert_closes, assert_open, cause, lock, receive, test_name, wait, HOUR, LIMIT};

use super::common::{assert_cause, assert_err, assert_no_cause, eventually, Name};

/// A forgotten cancel function changes nothing, but a context without handles is done.
#[test]
fn uncalled_cancel() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (ctx, cancel) = parent.with_cancel();
    drop(cancel);
    assert_open(&ctx);

    let done = ctx.done();
    let (ran, runs) = bounded(1);
    let after = ctx.after_func(move || ran.send(()).unwrap());
    drop(ctx);
    assert!(done.recv_timeout(LIMIT).is_err());
    receive(&runs);
    assert!(!after.stop());
    assert_open(&parent);
}

#[test]
fn static_assertions() {
    fn shared<T: Send + Sync + UnwindSafe + RefUnwindSafe + 'static>() {}
    fn handle<T: Clone + fmt::Debug>() {}
    fn error<T: std::error::Error + Copy + Eq>() {}
    shared::<Context>();
    shared::<CancelFunc>();
    shared::<CancelCauseFunc>();
    shared::<DropGuard>();
    shared::<Error>();
    shared::<Deadline>();
    fn sent<T: Send + Sync + 'static>() {}
    sent::<AfterFunc>();
    sent::<Cause>();
    handle::<Context>();
    handle::<CancelFunc>();
    handle::<CancelCauseFunc>();
    error::<Error>();
}

#[test]
fn panic_in_f() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let (child, _cancel_child) = ctx.with_cancel();
    let panics = ctx.after_func(|| panic!("a panic that belongs to the test"));
    let (ran, runs) = bounded(2);
    let _other = ctx.after_func({
        let ran = ran.clone();
        move || ran.send("other").unwrap()
    });
    let why = cause("because");
    cancel.cancel(why.clone());
    assert_eq!(receive(&runs), "other");
    assert!(!receive(&spawn(move || panics.stop_and_wait())));

    [&ctx, &child]
        .into_iter()
        .for_each(|ctx| assert_cause(ctx, Error::Canceled, &why));
    let _late = child.after_func(move || ran.send("late").unwrap());
    assert_eq!(receive(&runs), "late");
}

/// On a stack too small for a hundred thousand calls.
#[test]
fn deep_chains() {
    let chain = || {
        let (root, cancel) = Context::background().with_timeout(1000 * HOUR);
        let mut top = root.with_value(Name("root"), "value");
        for n in 0..100_000 {
            top = match n % 3 {
                0 => top.with_cancel().0,
                1 => top.with_value(Name("other"), "value"),
                _ => top.with_timeout(1000 * HOUR - Duration::from_secs(n)).0,
            };
        }
        assert_eq!(top.value(&Name("root")), Some(&"value"));
        assert_eq!(top.value(&Name("none")), None);
        assert!(top.deadline() < root.deadline());
        assert!(top.to_string().len() > 100_000 * ".WithCancel".len());
        assert_open(&top);
        cancel.cancel();
        assert_err(&top, Error::Canceled);
        drop(root);
        drop(cancel);
        drop(top);

        // And one that is not cancelled.
        let mut top = Context::background().with_cancel().0;
        let done = top.done();
        for _ in 0..100_000 {
            top = top.with_cancel().0;
        }
        drop(top);
        assert!(done.recv_timeout(LIMIT).is_err());
    };
    let small = thread::Builder::new().stack_size(256 * 1024);
    small.spawn(chain).unwrap().join().unwrap();
}

/// Each child frees its slot, wherever it is among the others.
#[test]
fn wide_parents() {
    let (parent, cancel) = Context::background().with_cancel();
    let children: Vec<_> = (0..100_000).map(|_| parent.with_cancel()).collect();
    let scattered = (0..children.len()).map(|n| n * 7_919 % children.len());
    let (first, last): (Vec<_>, Vec<_>) = scattered.partition(|n| n % 2 == 0);
    for n in first {
        children[n].1.cancel();
    }
    for (n, (child, _)) in children.iter().enumerate() {
        let expected = (n % 2 == 0).then_some(Error::Canceled);
        assert_eq!(child.err(), expected, "child {n}");
    }
    cancel.cancel();
    for n in last {
        assert_eq!(children[n].0.err(), Some(Error::Canceled), "child {n}");
    }
}

/// What children and callbacks own is dropped while their parent lives on.
#[test]
fn no_leak() {
    let (parent, _cancel) = Context::background().with_cancel();
    let owned = || {
        let owned = cause("owned");
        (Arc::downgrade(&owned), owned)
    };

    let (kept, why) = owned();
    let (child, cancel) = parent.with_cancel_cause();
    cancel.cancel(why);
    assert!(kept.upgrade().is_some());
    drop((child, cancel));
    assert!(kept.upgrade().is_none(), "a child that was cancelled");

    let (kept, why) = owned();
    let timed = parent.with_timeout_cause(HOUR, why);
    assert!(kept.upgrade().is_some());
    drop(timed);
    assert!(kept.upgrade().is_none(), "a child that was forgotten");

    let (kept, captured) = owned();
    let after = parent.after_func(move || drop(captured));
    assert!(kept.upgrade().is_some());
    assert!(after.stop());
    assert!(kept.upgrade().is_none(), "a callback that was stopped");

    let (kept, captured) = owned();
    let child = parent.with_cancel().0;
    let after = child.after_func(move || drop(captured));
    drop(child);
    assert!(!after.stop_and_wait());
    assert!(kept.upgrade().is_none(), "a callback that has run");
}

// User code that uses contexts from where it is called

#[test]
fn self_deadlock_in_f() {
    let (parent, cancel_parent) = Context::background().with_cancel();
    let (ctx, cancel) = parent.with_cancel();
    let itself: Arc<OnceLock<AfterFunc>> = Arc::default();
    let (ran, runs) = bounded(2);
    let after = ctx.after_func({
        let (ctx, cancel, itself) = (ctx.clone(), cancel.clone(), itself.clone());
        move || {
            cancel.cancel();
            cancel_parent.cancel();
            assert_err(&ctx.with_cancel().0, Error::Canceled);
            let after = eventually(|| itself.get());
            assert!(!after.stop());
            assert!(!after.stop_and_wait());
            ctx.after_func({
                let ran = ran.clone();
                move || ran.send("inner").unwrap()
            });
            ran.send("outer").unwrap();
        }
    });
    assert!(itself.set(after).is_ok());
    receive(&spawn(move || cancel.cancel()));
    let mut told = [receive(&runs), receive(&runs)];
    told.sort_unstable();
    assert_eq!(told, ["inner", "outer"]);
    assert_err(&parent, Error::Canceled);
}

/// Uses its own context and a child of it in every method, and calls its callbacks at once once it
/// is done.
struct Meddler {
    done: Receiver<()>,
    open: Mutex<Option<Sender<()>>>,
    calls_back: bool,
    family: Family,
    meddled: Arc<AtomicUsize>,
}

impl Meddler {
    fn family(&self) -> Option<(Context, Context, CancelFunc)> {
        lock(&self.family).clone()
    }

    /// Must not call the same method of `ctx`: that would never end.
    fn meddle(&self) {
        if let Some((ctx, child, _)) = self.family() {
            ctx.with_cancel().1.cancel();
            ctx.after_func(|| ()).stop();
            let _ = child.err();
            child.with_timeout(HOUR).1.cancel();
            self.meddled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl CustomContext for Meddler {
    fn done(&self) -> Receiver<()> {
        self.meddle();
        self.done.clone()
    }
    fn err(&self) -> Option<Error> {
        if let Some((_, child, cancel_child)) = self.family() {
            cancel_child.cancel();
            assert!(child.err().is_some());
            self.meddled.fetch_add(1, Ordering::Relaxed);
        }
        Some(Error::Canceled)
    }
    fn cause(&self) -> Option<Cause> {
        self.err();
        None
    }
    fn value<'a>(&'a self, _: &mut Lookup<'_, 'a>) {
        self.meddle();
    }
    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.meddle();
        f.write_str("meddler")
    }
    fn after_func(&self, f: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        if !self.calls_back {
            return None;
        }
        drop(lock(&self.open).take());
        f();
        Some(Box::new(|| ()))
    }
}

fn meddler(calls_back: bool) -> (Context, Sender<()>, Arc<AtomicUsize>, Family) {
    let (open, done) = bounded(0);
    let family: Family = Arc::default();
    let meddled = Arc::new(AtomicUsize::new(0));
    let ctx = Context::custom(Meddler {
        done,
        open: Mutex::new(calls_back.then(|| open.clone())),
        calls_back,
        family: family.clone(),
        meddled: meddled.clone(),
    });
    (ctx, open, meddled, family)
}

/// A context, a child of it, and how that is cancelled.
type Family = Arc<Mutex<Option<(Context, Context, CancelFunc)>>>;

#[test]
fn self_deadlock_in_a_custom_context() {
    let tried = spawn(|| {
        let (ctx, open, meddled, family) = meddler(false);
        let (child, cancel_child) = ctx.with_cancel();
        *lock(&family) = Some((ctx.clone(), child.clone(), cancel_child));
        assert_open(&child);
        assert_eq!(ctx.value(&Name("none")), None);
        assert_eq!(ctx.to_string(), "meddler");
        assert_eq!(meddled.load(Ordering::Relaxed), 2);
        drop(open);
        assert_eq!(ctx.err(), Some(Error::Canceled));
        wait(&child);
        assert_no_cause(&child, Error::Canceled);
        assert!(meddled.load(Ordering::Relaxed) > 2);
        // Otherwise the context, which owns its family, would keep itself alive.
        let family = lock(&family).take();
        drop(family);
    });
    receive(&tried);
}

/// In Go this one waits for itself.
#[test]
fn self_deadlock_in_a_custom_context_that_calls_back_at_once() {
    let tried = spawn(|| {
        let (ctx, open, ..) = meddler(true);
        drop(open);
        let (child, _cancel) = ctx.with_cancel();
        assert_no_cause(&child, Error::Canceled);
    });
    receive(&tried);
}

/// Uses contexts when it is dropped.
struct Dropped {
    ctx: Context,
    cancel: CancelFunc,
    _tell: Sender<()>,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.cancel.cancel();
        let (child, _cancel) = self.ctx.with_timeout(HOUR);
        assert_err(&child, Error::Canceled);
        self.ctx.after_func(|| ()).stop_and_wait();
    }
}

#[derive(PartialEq, Eq)]
struct Droppable;

impl Key for Droppable {
    type Value = Dropped;
}

#[test]
fn self_deadlock_in_drop() {
    let tried = spawn(|| {
        let (parent, _cancel_parent) = Context::background().with_cancel();
        let dropped = || {
            let (ctx, cancel) = parent.with_cancel();
            let (tell, told) = bounded(0);
            let value = Dropped {
                ctx: ctx.clone(),
                cancel,
                _tell: tell,
            };
            (ctx, value, told)
        };

        let (ctx, value, told) = dropped();
        drop(ctx.with_value(Droppable, value));
        assert_closes(&told);

        let (ctx, captured, told) = dropped();
        assert!(ctx.after_func(move || drop(captured)).stop());
        assert_closes(&told);
        assert_err(&ctx, Error::Canceled);

        // A running callback is the last to keep it alive.
        let (ctx, captured, told) = dropped();
        let (other, cancel_other) = Context::background().with_cancel();
        let _after = other.after_func(move || drop(captured));
        cancel_other.cancel();
        assert_closes(&told);
        assert_err(&ctx, Error::Canceled);
        assert_open(&parent);
    });
    receive(&tried);
}

/// Pending timers and callbacks do not keep a process from ending.
#[test]
fn exit_with_timers_pending() {
    in_child(test_name!(), || {
        let (ctx, cancel) = Context::background().with_timeout(HOUR);
        ctx.after_func(|| unreachable!());
        let (blocked, runs) = bounded(0);
        let expired = Context::background().with_timeout(Duration::ZERO).0;
        expired.after_func(move || {
            blocked.send(Instant::now()).unwrap();
            thread::sleep(HOUR);
        });
        receive(&runs);
        // Alive to the end of the process.
        std::mem::forget((ctx, cancel));
    });
}
