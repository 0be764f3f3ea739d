//! Custom contexts: how their end reaches descendants, what watches them, and what happens if one is
//! implemented wrongly.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, never, unbounded, Receiver, Sender};
use go_context::{CancelCauseFunc, CancelFunc, Cause, Context, CustomContext, Error, Key, Lookup};
use support::custom::Registry;
use support::{
    assert_done, assert_ends, assert_open, callback, cause, in_time, is_closed, is_open, panics,
    stoppable_callback, wait_until, Tag, Task, CANCELED, HOUR, LIMIT,
};

// Contexts to test with

type Ask<T> = Box<dyn Fn() -> T + Send + Sync>;
type Service = Box<dyn Fn(Task) -> Option<Task> + Send + Sync>;

/// A configurable context. Before each answer it calls `hook` with the method's name.
struct Mock {
    done: Ask<Receiver<()>>,
    err: Ask<Option<Error>>,
    cause: Option<Cause>,
    deadline: Option<Instant>,
    service: Option<Service>,
    wrapped: Option<Context>,
    hook: Hook,
}

/// The drop counts as a method too.
struct Hook(Box<dyn Fn(&str) + Send + Sync>);

impl Drop for Hook {
    fn drop(&mut self) {
        (self.0)("drop");
    }
}

impl Mock {
    /// Its `err` agrees with its channel.
    fn new(done: Receiver<()>) -> Mock {
        let channel = done.clone();
        Mock {
            done: Box::new(move || done.clone()),
            err: Box::new(move || is_closed(&channel).then_some(Error::Canceled)),
            cause: None,
            deadline: None,
            service: None,
            wrapped: None,
            hook: Hook(Box::new(|_| ())),
        }
    }

    /// Passes the channel of another context through.
    fn around(inner: &Context) -> Mock {
        let (done, err) = (inner.clone(), inner.clone());
        Mock {
            done: Box::new(move || done.done()),
            err: Box::new(move || err.err()),
            wrapped: Some(inner.clone()),
            ..Mock::new(never())
        }
    }

    fn err(self, err: impl Fn() -> Option<Error> + Send + Sync + 'static) -> Mock {
        let err = Box::new(err);
        Mock { err, ..self }
    }

    fn service(self, service: impl Fn(Task) -> Option<Task> + Send + Sync + 'static) -> Mock {
        let service: Option<Service> = Some(Box::new(service));
        Mock { service, ..self }
    }

    fn hook(self, hook: impl Fn(&str) + Send + Sync + 'static) -> Mock {
        let hook = Hook(Box::new(hook));
        Mock { hook, ..self }
    }

    fn context(self) -> Context {
        Context::custom(self)
    }
}

impl CustomContext for Mock {
    fn done(&self) -> Receiver<()> {
        (self.hook.0)("done");
        (self.done)()
    }

    fn err(&self) -> Option<Error> {
        (self.hook.0)("err");
        (self.err)()
    }

    fn cause(&self) -> Option<Cause> {
        (self.hook.0)("cause");
        self.cause.clone()
    }

    fn deadline(&self) -> Option<Instant> {
        (self.hook.0)("deadline");
        self.deadline
    }

    fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
        (self.hook.0)("value");
        if let Some(wrapped) = &self.wrapped {
            lookup.forward(wrapped);
        }
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        (self.hook.0)("after_func");
        self.service.as_ref().and_then(|service| service(f))
    }

    fn wrapped(&self) -> Option<&Context> {
        self.wrapped.as_ref()
    }

    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.hook.0)("name");
        f.write_str("mock")
    }
}

/// The functions registered with a [`Mock`], and how many were registered and unregistered.
#[derive(Default)]
struct Bell {
    waiting: Registry,
    given: AtomicUsize,
    called_off: AtomicUsize,
}

impl Bell {
    fn context() -> (Arc<Bell>, Context, Sender<()>) {
        let (close, done) = channel();
        let bell = Arc::new(Bell::default());
        let ctx = bell.mock(done).context();
        (bell, ctx, close)
    }

    fn mock(self: &Arc<Bell>, done: Receiver<()>) -> Mock {
        let bell = self.clone();
        Mock::new(done).service(move |f| Some(bell.clone().register(f)))
    }

    /// Calls `hook` when a function is unregistered as well.
    fn mock_with_hook(
        self: &Arc<Bell>,
        done: Receiver<()>,
        hook: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> Mock {
        let (bell, in_stop) = (self.clone(), hook.clone());
        let service = move |f| {
            let stop = bell.clone().register(f);
            let in_stop = in_stop.clone();
            Some(Box::new(move || {
                in_stop("stop");
                stop();
            }) as Task)
        };
        Mock::new(done).service(service).hook(hook)
    }

    fn register(self: Arc<Bell>, f: Task) -> Task {
        self.given.fetch_add(1, Ordering::SeqCst);
        let unregister = self.waiting.register(f);
        Box::new(move || {
            self.called_off.fetch_add(1, Ordering::SeqCst);
            unregister();
        })
    }

    fn ring(&self) {
        self.waiting.call_all();
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }
}

fn channel() -> (Sender<()>, Receiver<()>) {
    bounded(0)
}

#[derive(PartialEq, Eq)]
struct Other(u8);

impl Key for Other {
    type Value = usize;
}

const DEADLINE_EXCEEDED: &str = "context deadline exceeded";

// How the end reaches descendants

#[test]
fn custom_done_cancels_descendants() {
    let (close, done) = channel();
    let why = cause("the plug was pulled");
    let ctx = Context::custom(Mock {
        cause: Some(why.clone()),
        ..Mock::new(done).err(|| Some(Error::DeadlineExceeded))
    });
    let (child, _cancel) = ctx.with_cancel();
    let (timed, _cancel) = ctx.with_timeout(HOUR);
    let value = ctx.with_value(Tag(0), 1);
    let (grandchild, _cancel) = value.with_cancel_cause();
    let detached = ctx.without_cancel();
    let (tell, ran) = bounded(1);
    let below = grandchild.clone();
    let _after = ctx.after_func(move || tell.send(below.err()).unwrap());
    for open in [&ctx, &child, &timed, &value, &grandchild] {
        assert_open(open);
    }
    drop(close);
    for ended in [&ctx, &child, &timed, &value, &grandchild] {
        assert_ends(ended, Error::DeadlineExceeded, "the plug was pulled");
        assert!(Arc::ptr_eq(&ended.cause().unwrap(), &why));
    }
    let seen = ran.recv_timeout(LIMIT).unwrap();
    assert_eq!(seen, Some(Error::DeadlineExceeded));
    assert_open(&detached);
}

#[test]
fn child_of_done_custom_is_done() {
    let (close, done) = channel();
    let bell = Arc::new(Bell::default());
    drop(close);
    let ctx = bell.mock(done).context();
    let (child, _cancel) = ctx.with_cancel();
    assert_done(&child, Error::Canceled, CANCELED);
    let (past, _cancel) = ctx.with_deadline_cause(Instant::now(), "too late");
    assert_done(&past, Error::Canceled, CANCELED);
    assert_eq!(bell.given.load(Ordering::SeqCst), 0);

    let (after, ran) = stoppable_callback(&ctx);
    assert!(!after.stop());
    ran.recv_timeout(LIMIT).unwrap();
}

#[test]
fn child_cancelled_before_custom_keeps_cause() {
    let (close, done) = channel();
    let ctx = Mock::new(done).context();
    let (child, cancel) = ctx.with_cancel_cause();
    let (witness, _cancel) = ctx.with_cancel();
    cancel.cancel("own");
    assert_open(&ctx);
    drop(close);
    assert_ends(&witness, Error::Canceled, CANCELED);
    assert_done(&child, Error::Canceled, "own");
}

#[test]
fn err_and_cause_are_called_once() {
    let (close, done) = channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let ctx = Mock::new(done)
        .err(move || match count.fetch_add(1, Ordering::SeqCst) {
            0 => Some(Error::DeadlineExceeded),
            _ => Some(Error::Canceled),
        })
        .context();
    let (child, _cancel) = ctx.with_cancel();
    drop(close);
    assert_ends(&child, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    assert_done(&ctx, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    let (late, _cancel) = ctx.with_cancel();
    assert_done(&late, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    // Child and context may both have called it at the same time.
    assert!(asked.load(Ordering::SeqCst) <= 2);
}

#[test]
fn child_derived_while_done_closes_is_done() {
    for round in 0..300 {
        let (close, done) = channel();
        let ctx = Mock::new(done).context();
        let start = Arc::new(Barrier::new(2));
        let closer = thread::spawn({
            let start = start.clone();
            move || {
                start.wait();
                for _ in 0..round % 30 {
                    std::hint::spin_loop();
                }
                drop(close);
            }
        });
        start.wait();
        let children = [(); 5].map(|()| ctx.with_cancel());
        closer.join().unwrap();
        for (child, _) in &children {
            assert_ends(child, Error::Canceled, CANCELED);
        }
    }
}

#[test]
fn dropped_custom_runs_callbacks_and_ends_watch() {
    let (bell, ctx, close) = Bell::context();
    let ran = callback(&ctx);
    assert_eq!(bell.len(), 1);
    drop(ctx);
    ran.recv_timeout(LIMIT).unwrap();
    assert_eq!(bell.len(), 0);
    drop(close);
}

/// In Go a value between the two hides the method, and a goroutine watches instead.
#[test]
fn custom_after_func_behind_value_is_called() {
    let (_close, done) = channel();
    let bell = Arc::new(Bell::default());
    let valued = bell.mock(done).context().with_value(Tag(0), 1);
    let (_child, _cancel) = valued.with_cancel();
    assert_eq!(bell.given.load(Ordering::SeqCst), 1);
}

#[test]
fn custom_never_done_is_not_watched() {
    let bell = Arc::new(Bell::default());
    let ctx = bell.mock(never()).context();
    assert!(!ctx.is_cancellable());
    assert!(!ctx.with_value(Tag(0), 1).is_cancellable());
    let (child, cancel) = ctx.with_cancel();
    let after = ctx.after_func(|| unreachable!());
    assert_eq!(bell.given.load(Ordering::SeqCst), 0);
    assert!(after.stop());
    cancel.cancel();
    assert_done(&child, Error::Canceled, CANCELED);
    assert_open(&ctx);
}

#[test]
fn custom_displays_type_name() {
    struct Plain;
    impl CustomContext for Plain {
        fn done(&self) -> Receiver<()> {
            never()
        }
        fn err(&self) -> Option<Error> {
            None
        }
    }
    let (child, _cancel) = Context::custom(Plain).with_cancel();
    let name = std::any::type_name::<Plain>();
    assert_eq!(child.to_string(), format!("{name}.WithCancel"));

    let mock = Mock::new(never()).context().without_cancel();
    assert_eq!(mock.to_string(), "mock.WithoutCancel");
}

// Wrappers

#[test]
fn cancel_through_wrapper_is_complete() {
    let (inner, cancel) = Context::background().with_cancel_cause();
    let wrapper = Mock::around(&inner).context();
    let value = wrapper.with_value(Tag(0), 1);
    let outer = Mock::around(&value).context();
    let (child, _cancel) = outer.with_cancel();
    let (grandchild, _cancel) = child.with_timeout(HOUR);
    let after = outer.after_func(|| ());
    let all = [&inner, &wrapper, &value, &outer, &child, &grandchild];
    all.into_iter().for_each(assert_open);
    cancel.cancel("why");
    for ctx in all {
        assert_eq!(ctx.err(), Some(Error::Canceled));
        assert!(is_closed(&ctx.done()));
    }
    for ctx in [&inner, &child, &grandchild] {
        assert_eq!(ctx.cause().unwrap().to_string(), "why");
    }
    assert!(!after.stop());
}

#[test]
fn wrapper_of_done_context_is_done() {
    let (inner, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let wrapper = Mock::around(&inner).context();
    assert_done(&wrapper, Error::Canceled, CANCELED);
    let (child, _cancel) = wrapper.with_cancel();
    assert_done(&child, Error::Canceled, CANCELED);
}

#[test]
fn child_cancel_leaves_wrapper_open() {
    let (inner, _cancel) = Context::background().with_cancel();
    let wrapper = Mock::around(&inner).context();
    let (child, cancel) = wrapper.with_cancel();
    cancel.cancel();
    assert_done(&child, Error::Canceled, CANCELED);
    assert_open(&wrapper);
    assert_open(&inner);
}

#[test]
fn wrapper_defaults_to_wrapped() {
    struct Thin(Context);
    impl CustomContext for Thin {
        fn wrapped(&self) -> Option<&Context> {
            Some(&self.0)
        }
        fn done(&self) -> Receiver<()> {
            self.0.done()
        }
        fn err(&self) -> Option<Error> {
            self.0.err()
        }
    }
    let at = Instant::now() + HOUR;
    let (inner, _cancel) = Context::background().with_deadline(at);
    let (inner, cancel) = inner.with_value(Tag(0), 7).with_cancel_cause();
    let thin = Context::custom(Thin(inner.clone()));
    let thinner = Context::custom(Thin(thin.clone()));
    for ctx in [&thin, &thinner] {
        assert_eq!(ctx.deadline(), Some(at));
        assert_eq!(ctx.value(&Tag(0)), Some(&7));
        assert_eq!(ctx.value(&Tag(1)), None);
        assert!(ctx.done().same_channel(&inner.done()));
        assert_open(ctx);
    }
    let why = cause("why");
    cancel.cancel(why.clone());
    for ctx in [&thin, &thinner] {
        assert_done(ctx, Error::Canceled, "why");
        assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &why));
    }
}

#[test]
fn wrapper_err_reaches_only_later_children() {
    let (inner, cancel) = Context::background().with_cancel();
    let wrapper = Mock::around(&inner)
        .err(|| Some(Error::DeadlineExceeded))
        .context();
    let (before, _cancel) = wrapper.with_cancel();
    assert_open(&wrapper);
    cancel.cancel();
    let (after, _cancel) = wrapper.with_cancel();
    assert_done(&before, Error::Canceled, CANCELED);
    assert_done(&wrapper, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    assert_done(&after, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
}

#[test]
fn wrapper_with_own_done_is_done_when_it_closes() {
    let (close, done) = channel();
    let (inner, cancel) = Context::background().with_cancel();
    let own = done.clone();
    let wrapper = Context::custom(Mock {
        done: Box::new(move || own.clone()),
        ..Mock::around(&inner)
    });
    let (child, _cancel) = wrapper.with_cancel();
    cancel.cancel();
    let (late, _cancel) = wrapper.with_cancel();
    for open in [&wrapper, &child, &late] {
        assert_open(open);
    }
    drop(close);
    for ended in [&wrapper, &child, &late] {
        assert_ends(ended, Error::Canceled, CANCELED);
    }
}

#[test]
fn wrapper_of_wrapper_is_looked_through() {
    let (close, done) = channel();
    let (ours, cancel) = Context::background().with_cancel_cause();
    // The middle one has its own channel, so the context inside reaches only up to it.
    let own = done.clone();
    let middle = Context::custom(Mock {
        done: Box::new(move || own.clone()),
        cause: Some(cause("from the middle")),
        ..Mock::around(&ours)
    });
    let top = Mock::around(&middle).context();
    let (child, _cancel) = top.with_cancel();
    cancel.cancel("from below");
    assert_open(&top);
    assert_open(&child);
    drop(close);
    assert_ends(&child, Error::Canceled, "from the middle");
    assert_ends(&top, Error::Canceled, CANCELED);
}

#[test]
fn wrapper_of_watched_custom_is_cancelled() {
    let (bell, root, close) = Bell::context();
    let wrapper = Mock::around(&root).context();
    let (child, _cancel) = wrapper.with_cancel();
    assert_eq!(bell.len(), 1);
    drop(close);
    bell.ring();
    assert_done(&child, Error::Canceled, CANCELED);
    assert_done(&wrapper, Error::Canceled, CANCELED);
}

// With an `after_func` of its own

#[test]
fn custom_after_func_serves_all_children() {
    let (bell, ctx, _close) = Bell::context();
    for turn in 1..=3 {
        assert_eq!(bell.len(), 0);
        let mut children: Vec<_> = (0..100).map(|_| ctx.with_cancel()).collect();
        let callbacks: Vec<_> = (0..100).map(|_| ctx.after_func(|| ())).collect();
        let (merged, cancel_merged) = Context::background().merge(&ctx);
        let wrapper = Mock::around(&ctx).context();
        assert_eq!((bell.len(), bell.given.load(Ordering::SeqCst)), (1, turn));
        for (_, cancel) in children.split_off(50) {
            cancel.cancel();
        }
        drop(children);
        assert!(callbacks.iter().all(|callback| callback.stop()));
        drop(wrapper);
        assert_eq!(bell.len(), 1);
        cancel_merged.cancel();
        assert_eq!((bell.len(), bell.given.load(Ordering::SeqCst)), (0, turn));
        assert_done(&merged, Error::Canceled, CANCELED);
    }
    assert_eq!(bell.called_off.load(Ordering::SeqCst), 3);
}

#[test]
fn custom_after_func_is_stopped_by_expiry() {
    let (bell, ctx, _close) = Bell::context();
    let (soon, _cancel) = ctx.with_timeout(Duration::from_millis(1));
    assert_ends(&soon, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    wait_until("it is still registered", || bell.len() == 0);
    let (past, _cancel) = ctx.with_deadline(Instant::now());
    assert_done(&past, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    wait_until("it is still registered", || bell.len() == 0);
}

#[test]
fn custom_after_func_f_returns_with_all_done() {
    let (bell, ctx, close) = Bell::context();
    let (child, _cancel) = ctx.with_cancel();
    let (grandchild, _cancel) = child.with_cancel();
    let after = ctx.after_func(|| ());
    drop(close);
    bell.ring();
    for ctx in [&ctx, &child, &grandchild] {
        assert_done(ctx, Error::Canceled, CANCELED);
    }
    assert!(!after.stop());
}

/// The service itself records that it has called the function, and may hold a lock of its own.
#[test]
fn custom_after_func_is_not_stopped_inside_f() {
    let (bell, ctx, close) = Bell::context();
    let (child, _cancel) = ctx.with_cancel();
    drop(close);
    bell.ring();
    assert_done(&child, Error::Canceled, CANCELED);
    assert_eq!(bell.called_off.load(Ordering::SeqCst), 0);
}

#[test]
fn custom_after_func_may_call_f_at_once() {
    in_time(|| {
        let (_close, done) = channel();
        let ctx = Mock::new(done)
            .service(|f| {
                f();
                Some(Box::new(|| ()))
            })
            .context();
        let (child, _cancel) = ctx.with_cancel();
        assert_done(&child, Error::Canceled, CANCELED);
        let (timed, _cancel) = ctx.with_timeout(HOUR);
        assert_done(&timed, Error::Canceled, CANCELED);
        let (after, ran) = stoppable_callback(&ctx);
        assert!(!after.stop());
        ran.recv_timeout(LIMIT).unwrap();
    });
}

#[test]
fn custom_after_func_at_once_for_merge() {
    in_time(|| {
        let at_once = || {
            let call = |f: Task| {
                f();
                Some(Box::new(|| ()) as Task)
            };
            Mock::new(bounded(0).1).err(|| None).service(call)
        };
        // The sender is dropped, but a receiver that is never closed would behave the same.
        let (after, ran) = stoppable_callback(&at_once().context());
        assert!(!after.stop());
        ran.recv_timeout(LIMIT).unwrap();

        let (_close, done) = channel();
        let open = Context::custom(Mock {
            done: Box::new(move || done.clone()),
            ..at_once()
        });
        let (live, _cancel) = Context::background().with_cancel();
        let (merged, _cancel) = open.merge(&live);
        assert_done(&merged, Error::Canceled, CANCELED);
        let (merged, _cancel) = live.merge(&open);
        assert_done(&merged, Error::Canceled, CANCELED);
    });
}

#[test]
fn custom_after_func_may_call_f_and_return_none() {
    let (_close, done) = channel();
    let ctx = Mock::new(done)
        .service(|f| {
            f();
            None
        })
        .context();
    let (child, _cancel) = ctx.with_cancel();
    assert_done(&child, Error::Canceled, CANCELED);
}

#[test]
fn custom_after_func_f_may_be_called_late() {
    let (bell, ctx, close) = Bell::context();
    let (child, cancel) = ctx.with_cancel();
    let first = bell.waiting.take_all();
    cancel.cancel(); // the first is unregistered, in vain
    let (second, _cancel) = ctx.with_cancel();
    drop(close);
    let callers: Vec<_> = first
        .into_iter()
        .chain(bell.waiting.take_all())
        .map(thread::spawn)
        .collect();
    assert_eq!(callers.len(), 2);
    callers
        .into_iter()
        .for_each(|caller| caller.join().unwrap());
    assert_done(&child, Error::Canceled, CANCELED);
    assert_done(&second, Error::Canceled, CANCELED);
}

#[test]
fn custom_after_func_f_after_drop_does_nothing() {
    let (bell, ctx, _close) = Bell::context();
    let (child, _cancel) = ctx.with_cancel();
    let late = bell.waiting.take_all();
    drop((child, _cancel, ctx));
    assert_eq!(late.len(), 1);
    late.into_iter().for_each(|f| f());
}

/// The service loses the function. Deriving the next child finds the context done.
#[test]
fn child_sees_done_that_after_func_missed() {
    let (close, done) = channel();
    let ctx = Mock::new(done)
        .service(|f| {
            drop(f);
            Some(Box::new(|| ()))
        })
        .context();
    let (child, _cancel) = ctx.with_cancel();
    drop(close);
    let (late, _cancel) = ctx.with_cancel();
    assert_done(&late, Error::Canceled, CANCELED);
    assert_done(&child, Error::Canceled, CANCELED);
}

// Wrong implementations

#[test]
fn custom_err_with_open_done_cancels_nothing() {
    let (close, done) = channel();
    let ctx = Context::custom(Mock {
        cause: Some(cause("already")),
        ..Mock::new(done).err(|| Some(Error::DeadlineExceeded))
    });
    let (child, _cancel) = ctx.with_cancel();
    let (grandchild, _cancel) = child.with_cancel();
    for open in [&ctx, &child, &grandchild] {
        assert_open(open);
        assert!(open.is_cancellable());
    }
    drop(close);
    for ended in [&ctx, &child, &grandchild] {
        assert_ends(ended, Error::DeadlineExceeded, "already");
    }
}

#[test]
fn custom_done_without_err_is_canceled() {
    let (close, done) = channel();
    let ctx = Mock::new(done).err(|| None).context();
    let (child, _cancel) = ctx.with_cancel();
    drop(close);
    for ended in [&ctx, &child, &ctx.with_cancel().0] {
        assert_ends(ended, Error::Canceled, CANCELED);
    }
}

#[test]
fn custom_done_messages_are_ignored() {
    let (messages, done) = channel();
    let ctx = Mock::new(done).context();
    let (child, _cancel) = ctx.with_cancel();
    // Only the watcher can take a message here, and it takes the next only if it keeps watching.
    for _ in 0..3 {
        messages.send_timeout((), LIMIT).unwrap();
        assert_eq!(child.err(), None);
    }
    drop(messages);
    assert_ends(&child, Error::Canceled, CANCELED);
}

#[test]
fn custom_done_closed_behind_messages_is_seen() {
    let (messages, done) = unbounded();
    let ctx = Mock::new(done).err(|| None).context();
    for _ in 0..3 {
        messages.send(()).unwrap();
    }
    assert_eq!(ctx.err(), None);
    for _ in 0..3 {
        messages.send(()).unwrap();
    }
    drop(messages);
    let (child, _cancel) = ctx.with_cancel();
    assert_done(&child, Error::Canceled, CANCELED);
    assert_done(&ctx, Error::Canceled, CANCELED);
}

#[test]
fn sleep_ignores_custom_done_messages() {
    let (messages, done) = channel();
    let ctx = Mock::new(done).context();
    let awake = Arc::new(AtomicBool::new(false));
    let sender = thread::spawn({
        let awake = awake.clone();
        move || {
            while !awake.load(Ordering::SeqCst) {
                let _ = messages.send_timeout((), Duration::from_millis(1));
            }
        }
    });
    let (start, time) = (Instant::now(), Duration::from_millis(100));
    let slept = ctx.sleep(time);
    let long = start.elapsed();
    awake.store(true, Ordering::SeqCst);
    assert_eq!(slept, Ok(()));
    assert!(long >= time, "it slept for {long:?}");
    sender.join().unwrap();
    assert_eq!(ctx.sleep(HOUR), Err(Error::Canceled));
}

#[test]
fn custom_err_or_cause_panicking_counts_as_none() {
    for method in ["err", "cause"] {
        let (close, done) = channel();
        let mut mock = Mock::new(done).err(|| Some(Error::DeadlineExceeded));
        mock.cause = Some(cause("why"));
        let ctx = mock
            .hook(move |called| assert!(called != method, "{method} fails"))
            .context();
        let (child, _cancel) = ctx.with_cancel();
        drop(close);
        let (err, why) = match method {
            "err" => (Error::Canceled, "why"),
            _ => (Error::DeadlineExceeded, DEADLINE_EXCEEDED),
        };
        for ended in [&child, &ctx, &ctx.with_cancel().0] {
            assert_ends(ended, err, why);
        }
    }
}

#[test]
fn custom_drop_panics_after_all_else() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    #[derive(PartialEq, Eq)]
    struct Kept;
    impl Key for Kept {
        type Value = Flag;
    }

    let (_close, done) = channel();
    let ctx = Mock::new(done)
        .hook(|called| assert!(called != "drop", "the drop fails"))
        .context();
    let dropped = Arc::new(AtomicBool::new(false));
    let (child, cancel) = ctx
        .with_value(Kept, Flag(dropped.clone()))
        .with_cancel_cause();
    let (open, listen) = (child.done(), child.done());
    let ran = callback(&child);
    drop((ctx, cancel));
    assert!(is_open(&open));
    assert!(panics(|| drop(child)));
    assert!(is_closed(&listen));
    assert!(dropped.load(Ordering::SeqCst));
    ran.recv_timeout(LIMIT).unwrap();
}

#[test]
fn several_panicking_drops_resume_one() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("the value fails");
        }
    }
    #[derive(PartialEq, Eq)]
    struct Kept;
    impl Key for Kept {
        type Value = Fails;
    }
    let mock = || {
        let (_, done) = channel();
        Mock::new(done).hook(|called| assert!(called != "drop", "the drop fails"))
    };
    let inner = mock().context().with_value(Kept, Fails);
    let outer = Context::custom(Mock {
        wrapped: Some(inner),
        ..Mock::new(never())
    });
    let (ctx, cancel) = outer.with_value(Kept, Fails).merge(&mock().context());
    drop((outer, cancel));
    assert!(panics(|| drop(ctx)));
}

#[test]
fn custom_after_func_panic_is_contained() {
    type Derive = fn(&Context);
    let derive: [(&str, Derive); 7] = [
        ("with_cancel", |ctx| drop(ctx.with_cancel())),
        ("with_timeout", |ctx| drop(ctx.with_timeout(HOUR))),
        ("with_deadline", |ctx| {
            drop(ctx.with_deadline(Instant::now() + HOUR))
        }),
        ("merge", |ctx| drop(ctx.merge(&Context::background()))),
        ("merge as other", |ctx| {
            drop(Context::background().merge(ctx))
        }),
        ("custom", |ctx| drop(Mock::around(ctx).context())),
        ("after_func", |ctx| drop(ctx.after_func(|| ()))),
    ];
    for (name, derive) in derive {
        let (close, done) = channel();
        let first = AtomicBool::new(true);
        let ctx = Mock::new(done)
            .service(move |_| {
                assert!(!first.swap(false, Ordering::SeqCst), "the service fails");
                None
            })
            .context();
        assert!(panics(|| derive(&ctx)), "{name}");
        assert_open(&ctx);
        let (child, _cancel) = ctx.with_cancel();
        assert_open(&child);
        drop(close);
        let news = child.done().recv_timeout(LIMIT);
        assert!(news.unwrap_err().is_disconnected(), "after {name}");
        assert_done(&child, Error::Canceled, CANCELED);
    }
}

#[test]
fn child_derived_during_after_func_panic_is_done() {
    let (close, done) = channel();
    let me: Arc<Mutex<Option<Context>>> = Arc::default();
    let sibling: Arc<Mutex<Option<Context>>> = Arc::default();
    let (myself, keep) = (me.clone(), sibling.clone());
    let ctx = Mock::new(done)
        .service(move |_| {
            let ctx = myself.lock().unwrap().take()?;
            let (child, cancel) = ctx.with_cancel();
            drop(cancel);
            *keep.lock().unwrap() = Some(child);
            panic!("the service fails");
        })
        .context();
    *me.lock().unwrap() = Some(ctx.clone());
    assert!(panics(|| drop(ctx.with_cancel())));
    let sibling = sibling.lock().unwrap().take().unwrap();
    assert_open(&sibling);
    drop(close);
    assert_ends(&sibling, Error::Canceled, CANCELED);
}

#[test]
fn custom_stop_panic_is_contained() {
    let (close, done) = channel();
    let first = AtomicBool::new(true);
    let ctx = Mock::new(done)
        .service(move |f| {
            drop(f);
            first
                .swap(false, Ordering::SeqCst)
                .then(|| Box::new(|| panic!("the stop fails")) as Task)
        })
        .context();
    let (child, cancel) = ctx.with_cancel();
    cancel.cancel();
    assert_done(&child, Error::Canceled, CANCELED);
    let (next, _cancel) = ctx.with_cancel();
    drop(close);
    assert_ends(&next, Error::Canceled, CANCELED);
}

#[test]
fn custom_done_is_taken_from_first_call() {
    let (close, done) = channel();
    let first = Mutex::new(Some(done.clone()));
    let ctx = Context::custom(Mock {
        // All except the first are closed, which has no effect.
        done: Box::new(move || {
            let first = first.lock().unwrap().take();
            first.unwrap_or_else(|| channel().1)
        }),
        ..Mock::new(never()).err(|| Some(Error::DeadlineExceeded))
    });
    let (child, _cancel) = ctx.with_cancel();
    assert_open(&ctx);
    assert_open(&child);
    assert!(ctx.done().same_channel(&done));
    drop(close);
    assert_ends(&child, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    assert_done(&ctx, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
}

#[test]
fn custom_err_can_cancel_child() {
    let (close, done) = channel();
    let held: Arc<Mutex<Option<CancelCauseFunc>>> = Arc::default();
    let cancel = held.clone();
    let ctx = Mock::new(done)
        .err(move || {
            let cancel = cancel.lock().unwrap().take();
            cancel
                .into_iter()
                .for_each(|cancel| cancel.cancel("from err"));
            Some(Error::DeadlineExceeded)
        })
        .context();
    let (child, cancel) = ctx.with_cancel_cause();
    let (grandchild, _cancel) = child.with_cancel();
    let (sibling, _cancel) = ctx.with_cancel();
    *held.lock().unwrap() = Some(cancel);
    drop(close);
    assert_ends(&child, Error::Canceled, "from err");
    assert_ends(&grandchild, Error::Canceled, "from err");
    assert_ends(&sibling, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
}

#[test]
fn custom_value_panic_reaches_caller() {
    let (close, done) = channel();
    let ctx = Mock::new(done)
        .hook(|called| assert!(called != "value", "the value fails"))
        .context();
    let (child, _cancel) = ctx.with_value(Tag(0), 3).with_cancel();
    assert!(panics(|| assert_eq!(child.value(&Tag(1)), None)));
    assert_eq!(child.value(&Tag(0)), Some(&3));
    assert_open(&child);
    drop(close);
    assert_ends(&child, Error::Canceled, CANCELED);
}

#[test]
fn custom_deadline_is_called_once() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mock = |panics: bool| {
        let (close, done) = channel();
        let calls = calls.clone();
        let mock = Mock::new(done).hook(move |called| {
            if called == "deadline" {
                calls.fetch_add(1, Ordering::SeqCst);
                assert!(!panics, "fails");
            }
        });
        (mock, close)
    };
    let (fails, _close) = mock(true);
    assert!(panics(|| drop(fails.context())));
    assert_eq!(calls.swap(0, Ordering::SeqCst), 1);

    let (answers, _close) = mock(false);
    let ctx = answers.context();
    let (child, _cancel) = ctx.with_cancel();
    assert_eq!((ctx.deadline(), child.deadline()), (None, None));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn custom_past_deadline_does_not_end_child() {
    let (close, done) = channel();
    let past = Instant::now();
    let ctx = Context::custom(Mock {
        deadline: Some(past),
        ..Mock::new(done)
    });
    assert_eq!(ctx.deadline(), Some(past));
    let (later, _cancel) = ctx.with_deadline(past + Duration::from_nanos(1));
    let (much_later, _cancel) = ctx.with_timeout_cause(HOUR, "unused");
    for open in [&ctx, &later, &much_later] {
        assert_open(open);
        assert_eq!(open.deadline(), Some(past));
    }
    assert_eq!(later.to_string(), "mock.WithCancel");
    let (earlier, _cancel) = ctx.with_deadline_cause(past - Duration::from_nanos(1), "earlier");
    assert_done(&earlier, Error::DeadlineExceeded, "earlier");
    let (equal, _cancel) = ctx.with_deadline_cause(past, "equal");
    assert_done(&equal, Error::DeadlineExceeded, "equal");
    drop(close);
    assert_ends(&later, Error::Canceled, CANCELED);
    assert_ends(&much_later, Error::Canceled, CANCELED);
}

#[test]
fn deadline_below_custom_fires() {
    let (_close, done) = channel();
    let ctx = Context::custom(Mock {
        deadline: Some(Instant::now() + HOUR),
        ..Mock::new(done)
    });
    let at = Instant::now() + Duration::from_millis(5);
    let (child, _cancel) = ctx.with_deadline_cause(at, "late");
    assert_eq!(child.deadline(), Some(at));
    assert_ends(&child, Error::DeadlineExceeded, "late");
    assert!(Instant::now() >= at);
    assert_open(&ctx);
}

// Values

#[test]
fn lookup_debug_shows_whether_answered() {
    struct Printing(Sender<String>, usize);
    impl CustomContext for Printing {
        fn done(&self) -> Receiver<()> {
            never()
        }
        fn err(&self) -> Option<Error> {
            None
        }
        fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
            self.0.send(format!("{lookup:?}")).unwrap();
            lookup.answer(&Tag(0), &self.1);
            self.0.send(format!("{lookup:?}")).unwrap();
        }
    }
    let (print, printed) = bounded(2);
    let ctx = Context::custom(Printing(print, 7));
    assert_eq!(ctx.value(&Tag(0)), Some(&7));
    let lines: Vec<_> = printed.try_iter().collect();
    assert_eq!(
        lines,
        ["Lookup { found: false, .. }", "Lookup { found: true, .. }"]
    );
}

#[test]
fn lookup_keeps_first_answer() {
    struct Values {
        own: [usize; 3],
        inner: Context,
    }
    impl CustomContext for Values {
        fn done(&self) -> Receiver<()> {
            never()
        }
        fn err(&self) -> Option<Error> {
            None
        }
        fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
            lookup
                .answer(&Tag(0), &self.own[0])
                .answer(&Tag(0), &self.own[1])
                .answer(&Other(1), &self.own[2])
                .forward(&self.inner)
                .answer(&Tag(3), &self.own[1]);
        }
    }
    let inner = Context::background()
        .with_value(Tag(0), 10)
        .with_value(Tag(1), 11)
        .with_value(Other(1), 12)
        .with_value(Tag(3), 13);
    let ctx = Context::custom(Values {
        own: [0, 1, 2],
        inner,
    });
    let (child, _cancel) = ctx.with_value(Tag(4), 20).with_cancel();
    for ctx in [&ctx, &child, &child.without_cancel()] {
        assert_eq!(ctx.value(&Tag(0)), Some(&0));
        assert_eq!(ctx.value(&Tag(1)), Some(&11));
        assert_eq!(ctx.value(&Other(1)), Some(&2));
        assert_eq!(ctx.value(&Other(0)), None);
        assert_eq!(ctx.value(&Tag(3)), Some(&13));
    }
    assert_eq!(child.value(&Tag(4)), Some(&20));
    assert_eq!(ctx.value(&Tag(4)), None);
}

// Where and how user code is called

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps user code that is called by itself from calling itself again.
struct Inside;

impl Inside {
    fn enter() -> Option<Inside> {
        (!INSIDE.replace(true)).then(|| Inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// Uses a context in every way.
fn use_fully(ctx: &Context, cancel: &CancelFunc) {
    let Some(_inside) = Inside::enter() else {
        return;
    };
    let (child, cancel_child) = ctx.with_cancel();
    let (timed, _cancel) = ctx.with_timeout(HOUR);
    let (merged, _cancel) = child.merge(ctx);
    let wrapper = Mock::around(ctx).context();
    let after = ctx.after_func(|| ());
    after.stop();
    cancel_child.cancel();
    assert_eq!(child.err(), Some(Error::Canceled));
    let all = [ctx, &child, &timed, &merged, &wrapper];
    for ctx in all {
        let _ = (ctx.err(), ctx.cause(), ctx.deadline(), ctx.done());
        let _ = (ctx.value(&Tag(9)), ctx.to_string());
    }
    cancel.cancel();
}

#[test]
fn custom_methods_are_called_without_lock() {
    in_time(|| {
        let (close, done) = channel();
        let called: Arc<Mutex<Vec<String>>> = Arc::default();
        let me: Arc<Mutex<Option<Context>>> = Arc::default();
        let (parent, cancel_parent) = Context::background().with_cancel();
        let use_all = {
            let (called, me) = (called.clone(), me.clone());
            move |method: &str| {
                called.lock().unwrap().push(method.into());
                let me = me.lock().unwrap().clone();
                use_fully(&me.unwrap_or_else(Context::background), &cancel_parent);
            }
        };
        let bell = Arc::new(Bell::default());
        let ctx = bell.mock_with_hook(done, use_all).context();
        *me.lock().unwrap() = Some(ctx.clone());
        let (child, cancel) = ctx.with_cancel();
        let (merged, cancel_merged) = parent.merge(&ctx);
        let (timed, cancel_timed) = ctx.with_timeout(Duration::from_millis(1));
        assert_ends(&timed, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
        assert_eq!(child.value(&Tag(0)), None);
        assert_eq!(child.to_string(), "mock.WithCancel");
        cancel.cancel();
        drop((merged, cancel_merged, timed, cancel_timed, child, cancel));
        wait_until("all are unregistered", || bell.len() == 0);
        let (last, cancel) = ctx.with_cancel();
        drop(close);
        bell.ring();
        assert_done(&last, Error::Canceled, CANCELED);
        *me.lock().unwrap() = None;
        drop((ctx, last, cancel));
        let methods = [
            "done",
            "err",
            "cause",
            "deadline",
            "value",
            "after_func",
            "name",
            "stop",
            "drop",
        ];
        for method in methods {
            wait_until(method, || {
                called.lock().unwrap().iter().any(|called| called == method)
            });
        }
    });
}

#[test]
fn custom_methods_are_not_called_on_timer_thread() {
    let threads: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let here = {
        let threads = threads.clone();
        move |method: &str| {
            let thread = thread::current().name().unwrap_or_default().to_string();
            threads.lock().unwrap().push((method.into(), thread));
        }
    };
    let bell = Arc::new(Bell::default());
    let (_close, done) = channel();
    let root = bell.mock_with_hook(done, here.clone()).context();
    let soon = Duration::from_millis(1);

    // The last child is unregistered, which calls the custom context's stop function.
    let (timed, _cancel) = root.with_timeout(soon);
    assert_ends(&timed, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    wait_until("it is still registered", || bell.len() == 0);

    // So is a merge, although the custom context has no link to its other parent.
    let (other, _cancel) = Context::background().with_timeout(soon);
    let (merged, _cancel) = root.merge(&other);
    assert_ends(&merged, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    wait_until("it is still registered", || bell.len() == 0);

    // A wrapper is done with the context it wraps, and so are its descendants.
    let (inner, _cancel) = Context::background().with_timeout(soon);
    let wrapper = Mock::around(&inner).hook(here).context();
    let (child, _cancel) = wrapper.with_cancel();
    let ran = callback(&wrapper);
    assert_ends(&child, Error::DeadlineExceeded, DEADLINE_EXCEEDED);
    ran.recv_timeout(LIMIT).unwrap();
    assert_done(&wrapper, Error::DeadlineExceeded, DEADLINE_EXCEEDED);

    let threads = threads.lock().unwrap();
    assert!(threads.iter().any(|(method, _)| method == "stop"));
    let here = thread::current().name().unwrap_or_default().to_string();
    for (method, thread) in threads.iter() {
        let allowed = *thread == here || thread.contains("callback");
        assert!(allowed, "{method} is called on {thread}");
    }
}
