//! `with_enter`: which work its hooks run around, in which order, and what a hook may do wrong.

use std::io;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use go_context::crossbeam_channel::{bounded, Receiver};
use go_context::{CancelFunc, Context, Error};
use support::blocked::block;
use support::custom::{OwnDone, PassThrough};
use support::{assert_closes, cancelled, lock, receive, Name, CANCELED};

/// What hooks and their work have done, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, text: impl Into<String>) {
        lock(&self.0).push(text.into());
    }

    fn take(&self) -> String {
        lock(&self.0).drain(..).collect::<Vec<_>>().join(" ")
    }

    /// Returns a hook that writes its name and a bracket around its work.
    fn hook(&self, name: &'static str) -> impl Fn(&mut dyn FnMut()) + Send + Sync + 'static {
        let log = self.clone();
        move |work| {
            log.add(format!("{name}("));
            work();
            log.add(")");
        }
    }

    /// Returns work that writes that it is done.
    fn work(&self) -> impl FnOnce() + Send + 'static {
        let log = self.clone();
        move || log.add("work")
    }

    /// Work of a worker.
    fn worker(&self) -> Result<(), Error> {
        self.add("work");
        Ok(())
    }

    /// Registers a callback and cancels. Returns what has been done when the callback and its hooks have
    /// returned.
    fn of_callback(&self, ctx: &Context, cancel: impl FnOnce()) -> String {
        let callback = ctx.after_func(self.work());
        cancel();
        assert!(!callback.stop_and_wait(), "it has run");
        self.take()
    }

    /// Runs a group of one worker. Returns what has been done.
    fn of_worker(&self, ctx: &Context) -> String {
        let ended = ctx.scope(|s| {
            s.spawn(|_| self.worker());
            Ok(())
        });
        assert_eq!(ended, Ok(()));
        self.take()
    }
}

fn with_cancel() -> (Context, CancelFunc) {
    Context::background().with_cancel()
}

// Which work

#[test]
fn hook_runs_around_worker() {
    let log = Log::default();
    let ctx = Context::background().with_enter(log.hook("hook"));
    assert_eq!(log.of_worker(&ctx), "hook( work )");

    let ended = ctx.scope_all(|s| {
        log.add("f");
        let worker = s.spawn(|_| log.worker());
        assert_closes_after_result(&worker);
        let worker = s.try_spawn(|_| log.worker()).ok().unwrap();
        assert_closes_after_result(&worker);
        let worker = s.spawn_with(thread::Builder::new(), |_| log.worker());
        assert_closes_after_result(&worker.unwrap());
        Ok(())
    });
    assert_eq!(ended, Ok(()));
    let all = log.take();
    // The result of a worker is sent within the hook.
    let opened = all.matches("hook( work").count();
    assert_eq!((opened, all.matches(')').count()), (3, 3), "{all}");
    assert!(
        all.starts_with("f hook("),
        "the function is not a worker: {all}"
    );
}

#[track_caller]
fn assert_closes_after_result(worker: &Receiver<()>) {
    receive(worker);
    assert_closes(worker);
}

#[test]
fn hook_runs_on_the_thread_of_the_work() {
    let threads: Arc<Mutex<Vec<_>>> = Arc::default();
    let add = {
        let threads = threads.clone();
        move || lock(&threads).push(thread::current().id())
    };
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_enter({
        let add = add.clone();
        move |work| {
            add();
            work();
            add();
        }
    });
    let ended = ctx.scope(|s| {
        s.spawn(|_| {
            add();
            Ok::<_, Error>(())
        });
        Ok(())
    });
    assert_eq!(ended, Ok(()));
    let callback = ctx.after_func(add);
    cancel.cancel();
    callback.stop_and_wait();
    let threads = lock(&threads).clone();
    assert_eq!(threads.len(), 6);
    for work in threads.chunks(3) {
        assert!(work.iter().all(|thread| *thread == work[0]));
        assert_ne!(work[0], thread::current().id());
    }
}

/// The limit is reached and the context is done, so the worker runs on the calling thread.
#[test]
fn hook_runs_around_worker_on_the_calling_thread() {
    let log = Log::default();
    let ctx = cancelled().with_enter(log.hook("hook"));
    let ended = ctx.scope(|s| {
        s.set_limit(0);
        let (caller, log) = (thread::current().id(), &log);
        let worker = s.spawn(move |_| {
            assert_eq!(thread::current().id(), caller);
            log.worker()
        });
        log.add("spawned");
        receive(&worker);
        Ok(())
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(log.take(), "hook( work ) spawned");
}

#[test]
fn hook_runs_around_callback() {
    let log = Log::default();
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_enter(log.hook("hook"));
    let text = log.of_callback(&ctx, || cancel.cancel());
    assert_eq!(text, "hook( work )");
    // Under a done context, too.
    assert_eq!(log.of_callback(&ctx, || ()), "hook( work )");
}

#[test]
fn hook_does_not_run_for_stopped_callback() {
    let log = Log::default();
    let (ctx, cancel) = with_cancel();
    let callback = ctx.with_enter(log.hook("hook")).after_func(log.work());
    assert!(callback.stop());
    cancel.cancel();
    assert_eq!(log.of_callback(&ctx, || ()), "work");
}

#[test]
fn hook_runs_around_interrupt() {
    let log = Log::default();
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_enter(log.hook("hook"));
    let (interrupt, interrupted) = bounded::<()>(0);
    let work = log.work();
    let result: Result<(), Error> = ctx.interruptible(
        move || {
            work();
            drop(interrupt);
        },
        || {
            log.add("call");
            cancel.cancel();
            assert_closes(&interrupted);
            Err(Error::Canceled)
        },
    );
    assert_eq!(result, Err(Error::Canceled));
    assert_eq!(log.take(), "call hook( work )");
}

/// Its callback, which wakes the thread, is none of the user's.
#[test]
fn hook_does_not_run_for_wait_while() {
    let log = Log::default();
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_enter(log.hook("hook"));
    let pair = Arc::new((Mutex::new(()), Condvar::new()));
    let waiter = block(move || ctx.wait_while(&pair, |()| true).map(drop));
    cancel.cancel();
    assert_eq!(receive(&waiter), Err(Error::Canceled));
    assert_eq!(log.take(), "");
}

// Which hooks

#[test]
fn hooks_of_ancestors_run_around_those_of_descendants() {
    let log = Log::default();
    let (outer, cancel) = Context::background()
        .with_enter(log.hook("a"))
        .with_enter(log.hook("b"))
        .with_cancel();
    let (inner, _cancel) = outer.named("x").with_enter(log.hook("c")).with_cancel();
    let inner = inner.with_enter(log.hook("d"));
    assert_eq!(log.of_worker(&inner), "a( b( c( d( work ) ) ) )");
    let nested = inner.scope(|s| {
        s.spawn(|ctx| {
            ctx.scope(|s| {
                s.spawn(|_| log.worker());
                Ok::<_, Error>(())
            })
        });
        Ok(())
    });
    assert_eq!(nested, Ok(()));
    let text = log.take();
    let four = "a( b( c( d(";
    assert_eq!(text, format!("{four} {four} work ) ) ) ) ) ) ) )"));
    let text = log.of_callback(&inner, || cancel.cancel());
    assert_eq!(text, "a( b( c( d( work ) ) ) )");
}

#[test]
fn hook_applies_to_its_handle_and_descendants_only() {
    let log = Log::default();
    let (ctx, _cancel) = with_cancel();
    let hooked = ctx.with_enter(log.hook("hook"));
    let (sibling, _cancel) = ctx.with_cancel();
    let (child, _cancel) = hooked.with_cancel();
    for (ctx, text) in [(&ctx, "work"), (&sibling, "work"), (&child, "hook( work )")] {
        assert_eq!(log.of_worker(ctx), text);
    }
}

#[test]
fn hook_added_after_registration_does_not_apply() {
    let log = Log::default();
    let (ctx, cancel) = with_cancel();
    let callback = ctx.after_func(log.work());
    let hooked = ctx.with_enter(log.hook("late"));
    cancel.cancel();
    assert!(!callback.stop_and_wait());
    assert_eq!(log.take(), "work");

    let ended = Context::background().scope(|s| {
        let hooked = s.context().with_enter(log.hook("late"));
        s.spawn(|_| log.worker());
        drop(hooked);
        Ok(())
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(log.take(), "work");
    drop(hooked);
}

#[test]
fn hook_runs_through_merge_without_cancel_and_value() {
    let log = Log::default();
    let (first, _cancel) = with_cancel();
    let (second, _cancel) = with_cancel();
    let first = first.with_enter(log.hook("a"));
    let second = second.with_enter(log.hook("b"));
    let text = log.of_worker(&first.merge(&second).0);
    assert_eq!(text, "b( a( work ) )");
    let text = log.of_worker(&second.merge(&with_cancel().0).0);
    assert_eq!(text, "b( work )");
    let text = log.of_worker(&with_cancel().0.merge(&second).0);
    assert_eq!(text, "b( work )");
    let apart = first.without_cancel();
    assert_eq!(log.of_worker(&apart), "a( work )");
    let below = first.with_value(Name, "value".into());
    assert_eq!(log.of_worker(&below), "a( work )");
}

/// Both parents of a merge have it.
#[test]
fn shared_hook_runs_once() {
    let log = Log::default();
    let root = Context::background().with_enter(log.hook("root"));
    let (first, _cancel) = root.with_cancel();
    let (second, _cancel) = root.with_cancel();
    let (merged, _cancel) = first.merge(&second);
    let (again, _cancel) = merged.merge(&first);
    assert_eq!(log.of_worker(&again), "root( work )");

    // Outside the hooks of its descendants, on whichever side they are.
    let first = first.with_enter(log.hook("a"));
    let second = second.with_enter(log.hook("b"));
    let (merged, _cancel) = first.merge(&second);
    assert_eq!(log.of_worker(&merged), "root( b( a( work ) ) )");
}

#[test]
fn hook_runs_through_custom_context_that_wraps() {
    let log = Log::default();
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_enter(log.hook("a")).with_enter(log.hook("b"));
    let customs = [
        Context::custom(PassThrough(ctx.clone())),
        Context::custom(OwnDone(ctx.clone(), ctx.done())),
    ];
    for custom in &customs {
        assert_eq!(log.of_worker(custom), "a( b( work ) )");
        let child = custom.with_cancel().0.with_enter(log.hook("c"));
        assert_eq!(log.of_worker(&child), "a( b( c( work ) ) )");
    }
    let text = log.of_callback(&customs[0], || cancel.cancel());
    assert_eq!(text, "a( b( work ) )");
}

#[test]
fn thousand_hooks_run_in_order() {
    let log = Log::default();
    let mut ctx = Context::background();
    for _ in 0..1000 {
        ctx = ctx.with_enter(log.hook("hook"));
    }
    let text = log.of_worker(&ctx);
    assert_eq!(
        text,
        format!("{}work{}", "hook( ".repeat(1000), " )".repeat(1000))
    );
}

// What a hook may do wrong

/// Returns what a worker and a callback do under a hook that must not panic.
fn under(hook: impl Fn(&mut dyn FnMut(), &Log) + Send + Sync + Clone + 'static) -> [String; 2] {
    let log = Log::default();
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_enter({
        let log = log.clone();
        move |work| hook(work, &log)
    });
    let ctx = ctx.with_enter(log.hook("inner"));
    [
        log.of_worker(&ctx),
        log.of_callback(&ctx, || cancel.cancel()),
    ]
}

#[test]
fn hook_that_does_not_call_its_argument_has_work_done_afterwards() {
    let texts = under(|_, log| log.add("none"));
    assert_eq!(texts, ["none inner( work )"; 2]);
}

#[test]
fn hook_that_calls_its_argument_twice_has_work_done_once() {
    let texts = under(|work, log| {
        work();
        log.add("again");
        work();
    });
    assert_eq!(texts, ["inner( work ) again"; 2]);
}

/// Returns the text of the panic with which a group of one worker ends, and of the group's cause.
fn panic_of_worker(log: &Log, ctx: &Context) -> (&'static str, String) {
    let mut group = None;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        ctx.scope(|s| {
            group = Some(s.context().clone());
            s.spawn(|_| log.worker());
            Ok(())
        })
    }));
    let panic = ended.expect_err("the panic is resumed");
    let cause = group.unwrap().cause().unwrap().to_string();
    let text: &&str = panic.downcast_ref().expect("the panic of the hook");
    (*text, cause)
}

#[test]
fn hook_panicking_before_or_after_its_work_has_it_done_once() {
    let log = Log::default();
    for before in [true, false] {
        let (ctx, cancel) = with_cancel();
        let hook = move |work: &mut dyn FnMut()| {
            if !before {
                work();
            }
            resume_unwind(Box::new("hook"))
        };
        let ctx = ctx.with_enter(hook).with_enter(log.hook("inner"));
        let (text, cause) = panic_of_worker(&log, &ctx);
        assert_eq!(text, "hook");
        let expected = "worker 1 panicked: hook (spawned at ";
        assert!(cause.starts_with(expected), "{cause}");
        assert_eq!(log.take(), "inner( work )");
        // The panic in a callback is contained, and other callbacks run.
        let callbacks = [ctx.after_func(log.work()), ctx.after_func(log.work())];
        cancel.cancel();
        assert!(callbacks.iter().all(|callback| !callback.stop_and_wait()));
        assert_eq!(log.take().matches("work").count(), 2);
    }
}

/// The hook sees the panic of a callback pass, and a worker return.
#[test]
fn panic_of_work_within_hook() {
    let log = Log::default();
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_enter(log.hook("hook"));
    let work = log.work();
    let callback = ctx.after_func(|| {
        work();
        resume_unwind(Box::new("callback"))
    });
    let group = catch_unwind(AssertUnwindSafe(|| {
        ctx.scope(|s| -> io::Result<()> {
            s.spawn(|_| -> io::Result<()> { resume_unwind(Box::new("worker")) });
            Ok(())
        })
    }));
    assert_eq!(group.unwrap_err().downcast_ref(), Some(&"worker"));
    assert_eq!(log.take(), "hook( )");
    cancel.cancel();
    assert!(!callback.stop_and_wait());
    assert_eq!(log.take(), "hook( work");
}

#[test]
fn error_of_worker_within_hook_is_the_groups() {
    let log = Log::default();
    let ctx = Context::background().with_enter(log.hook("hook"));
    let ended = ctx.scope(|s| {
        s.spawn(|_| Err::<(), _>("error"));
        assert_closes(&s.context().done());
        Ok(())
    });
    assert_eq!(ended, Err("error"));
    assert_eq!(log.take(), "hook( )");
}

#[test]
fn hook_changes_nothing_else() {
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_value(Name, "value".into());
    let hooked = ctx.with_enter(|work| work());
    assert_eq!(hooked.to_string(), ctx.to_string());
    assert!(hooked.done().same_channel(&ctx.done()));
    assert_eq!(hooked.value(&Name), ctx.value(&Name));
    cancel.cancel();
    assert_eq!(hooked.err(), Some(Error::Canceled));
    assert_eq!(hooked.cause().unwrap().to_string(), CANCELED);
}

/// It is dropped with the handles, and may own what has a drop of its own.
#[test]
fn hook_is_dropped_with_the_last_handle() {
    let kept = Arc::new(());
    let (ctx, _cancel) = with_cancel();
    let hooked = ctx.with_enter({
        let kept = kept.clone();
        move |work| {
            let _kept = &kept;
            work();
        }
    });
    let (child, _cancel) = hooked.with_cancel();
    let callback = hooked.after_func(|| ());
    drop(hooked);
    assert_eq!(Arc::strong_count(&kept), 2);
    drop(child);
    assert_eq!(Arc::strong_count(&kept), 2, "the callback has it");
    assert!(callback.stop());
    drop(callback);
    assert_eq!(Arc::strong_count(&kept), 1);
}
