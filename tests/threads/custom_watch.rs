//! Custom contexts whose `after_func` blocks, and the threads that watch those without one.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, RecvTimeoutError, Sender};
use go_context::{CancelFunc, Context, CustomContext, Error};
use support::custom::{Channel, Registry};
use support::process::in_child_alone;
use support::threads::{threads_named, WATCH};
use support::{is_closed, test_name, wait_until, Task, LIMIT};

#[track_caller]
fn assert_closes(done: &Receiver<()>, what: &str) {
    let end = done.recv_timeout(LIMIT);
    assert_eq!(end, Err(RecvTimeoutError::Disconnected), "{what}");
}

#[track_caller]
fn assert_canceled(ctx: &Context, what: &str) {
    assert_closes(&ctx.done(), what);
    assert_eq!(ctx.err(), Some(Error::Canceled), "{what}");
}

#[track_caller]
fn wait_for_no_watch() {
    wait_until("the watch threads have ended", || threads_named(WATCH) == 0);
}

// An `after_func` that blocks

/// What the blocked call of `after_func` returns, and all later ones.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    None,
    Stop,
}

/// A context whose first `after_func` blocks until the test lets it return.
struct Slow {
    done: Receiver<()>,
    answer: Answer,
    begins: Sender<()>,
    release: Receiver<()>,
    was_called: AtomicBool,
    registry: Registry,
}

impl CustomContext for Slow {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    fn err(&self) -> Option<Error> {
        is_closed(&self.done).then_some(Error::Canceled)
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        if !self.was_called.swap(true, Ordering::SeqCst) {
            self.begins.send(()).unwrap();
            let _ = self.release.recv();
        }
        if self.answer == Answer::None {
            return None;
        }
        Some(self.registry.register(f))
    }
}

/// A [`Slow`] with two children: the first being derived by another thread, which is blocked in
/// `after_func`, the second derived meanwhile.
struct Blocked {
    what: String,
    ctx: Context,
    close: Option<Sender<()>>,
    release: Option<Sender<()>>,
    registry: Registry,
    first: Receiver<(Context, CancelFunc)>,
    second: Option<(Context, CancelFunc)>,
}

impl Blocked {
    fn new(answer: Answer) -> Blocked {
        let what = format!("after_func returns {answer:?}");
        let (close, done) = bounded(0);
        let (begins, begun) = unbounded();
        let (release, released) = bounded(0);
        let registry = Registry::default();
        let ctx = Context::custom(Slow {
            done,
            answer,
            begins,
            release: released,
            was_called: AtomicBool::new(false),
            registry: registry.clone(),
        });
        let first = derive(&ctx);
        assert_eq!(begun.recv_timeout(LIMIT), Ok(()), "{what}");
        // On another thread as well, as it might block.
        let second = derive(&ctx).recv_timeout(LIMIT).expect(&what);
        assert_eq!(second.0.err(), None, "{what}");
        let second = Some(second);
        Blocked {
            what,
            ctx,
            close: Some(close),
            release: Some(release),
            registry,
            first,
            second,
        }
    }

    /// Makes `after_func` return, and waits for the first child.
    #[track_caller]
    fn release(&mut self) -> (Context, CancelFunc) {
        drop(self.release.take());
        self.first.recv_timeout(LIMIT).expect(&self.what)
    }
}

/// Derives a child on a thread of its own, and asks for its done channel, so that it is registered.
fn derive(ctx: &Context) -> Receiver<(Context, CancelFunc)> {
    let (send, receive) = bounded(1);
    let ctx = ctx.clone();
    thread::spawn(move || {
        let child = ctx.with_cancel();
        drop(child.0.done());
        send.send(child)
    });
    receive
}

#[test]
fn after_func_blocked_does_not_delay_other_child() {
    in_child_alone(test_name!(), || {
        for answer in [Answer::None, Answer::Stop] {
            let mut blocked = Blocked::new(answer);
            let what = blocked.what.clone();
            let second = blocked.second.take().unwrap();
            let done = second.0.done();
            assert!(!is_closed(&done), "{what}");
            drop(blocked.close.take());
            assert_closes(&done, &what);
            assert_canceled(&second.0, &what);

            // The blocked call loses nothing and leaves nothing.
            let first = blocked.release();
            assert_canceled(&first.0, &what);
            assert_canceled(&blocked.ctx, &what);
            drop((first, second));
            wait_until("the function is called off", || blocked.registry.is_empty());
            wait_for_no_watch();
        }
    });
}

#[test]
fn after_func_blocked_then_serves_both_children() {
    in_child_alone(test_name!(), || {
        for answer in [Answer::None, Answer::Stop] {
            let mut blocked = Blocked::new(answer);
            let what = blocked.what.clone();
            let second = blocked.second.take().unwrap();
            let first = blocked.release();
            let done = [&first, &second].map(|(ctx, _)| ctx.done());
            assert!(!done.iter().any(is_closed), "{what}");
            assert_eq!(
                blocked.registry.is_empty(),
                answer == Answer::None,
                "{what}"
            );

            drop(blocked.close.take());
            blocked.registry.call_all();
            done.iter().for_each(|done| assert_closes(done, &what));
            for (child, _) in [&first, &second] {
                assert_canceled(child, &what);
            }
            assert!(blocked.registry.is_empty(), "{what}");
            wait_for_no_watch();
        }
    });
}

#[test]
fn after_func_blocked_is_stopped_with_children() {
    in_child_alone(test_name!(), || {
        for answer in [Answer::None, Answer::Stop] {
            let mut blocked = Blocked::new(answer);
            let what = blocked.what.clone();
            drop(blocked.second.take());
            drop(blocked.release());
            wait_until("the function is called off", || blocked.registry.is_empty());
            wait_for_no_watch();

            // The next child is registered like the first.
            let (child, _cancel) = blocked.ctx.with_cancel();
            let done = child.done();
            assert!(!is_closed(&done), "{what}");
            drop(blocked.close.take());
            blocked.registry.call_all();
            assert_closes(&done, &what);
            assert_canceled(&child, &what);
            drop(child);
            wait_for_no_watch();
        }
    });
}

// No `after_func`

/// The threads of this process: numbers and names.
fn named_threads() -> BTreeMap<String, String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let named = tasks.filter_map(|task| {
        let task = task.ok()?;
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let number = task.file_name().into_string().ok()?;
        Some((number, name.trim_end().to_string()))
    });
    named.collect()
}

#[test]
fn watch_thread_is_shared_by_successive_children() {
    in_child_alone(test_name!(), || {
        let before = named_threads();
        let (close, done) = bounded(0);
        let ctx = Context::custom(Channel(done));
        let mut seen = BTreeMap::new();
        let mut gaps = 0;
        let mut dropped = Instant::now();
        for _ in 0..1000 {
            let child = ctx.with_cancel();
            drop(child.0.done());
            // A thread may end when there has been no child for a while: this one was stopped so long.
            gaps += usize::from(dropped.elapsed() > Duration::from_millis(1));
            seen.extend(named_threads());
            dropped = Instant::now();
            drop(child);
        }
        // A thread has its name only when it runs, so another name than a watch's is that of its parent.
        seen.retain(|number, name| !before.contains_key(number) && !name.contains("callback"));
        let started = seen.len();
        assert!(started <= 2 + gaps, "{started} threads, {gaps} gaps");
        wait_for_no_watch();

        let (child, _cancel) = ctx.with_cancel();
        drop(close);
        assert_canceled(&child, "the last child");
    });
}
