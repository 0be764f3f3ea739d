//! How many threads watch custom contexts.

use std::mem;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, TryRecvError};
use go_context::{AfterFunc, CancelFunc, Context, CustomContext, Error};
use support::custom::{OwnDone, PassThrough};
use support::process::in_child_alone;
use support::threads::{contend, thread_count};
use support::{test_name, Tag, Task, LIMIT};

/// A context with its own channel, and with a list of functions if it has an `after_func`.
struct Own {
    done: Receiver<()>,
    list: Option<Arc<Mutex<Vec<Task>>>>,
}

impl CustomContext for Own {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    fn err(&self) -> Option<Error> {
        (self.done.try_recv() == Err(TryRecvError::Disconnected)).then_some(Error::Canceled)
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        self.list.as_ref()?.lock().unwrap().push(f);
        Some(Box::new(|| ()))
    }
}

/// Children of all kinds that need no thread of their own.
type Family = (Vec<(Context, CancelFunc)>, Vec<AfterFunc>);

fn family(ctx: &Context) -> Family {
    let value = ctx.with_value(Tag(0), 0);
    let shell = Context::custom(PassThrough(ctx.clone()));
    let children = (0..1000).map(|n| match n % 4 {
        0 => ctx.with_cancel(),
        1 => value.with_cancel(),
        2 => shell.with_cancel(),
        _ => Context::background().merge(ctx),
    });
    let callbacks = (0..1000).map(|_| ctx.after_func(|| ()));
    (children.collect(), callbacks.collect())
}

/// Stops the callbacks, so that none needs a thread, and drops the children.
fn part((children, callbacks): Family) {
    assert!(callbacks.iter().all(AfterFunc::stop));
    drop(children);
}

/// Idle threads end after a while.
#[track_caller]
fn wait_for_threads(expected: usize) {
    let start = Instant::now();
    while thread_count() != expected {
        assert!(start.elapsed() < LIMIT, "{} threads", thread_count());
        thread::sleep(Duration::from_millis(10));
    }
}

fn assert_end((children, callbacks): Family) {
    for (child, _) in &children {
        assert!(child.done().recv_timeout(LIMIT).is_err());
        assert_eq!(child.err(), Some(Error::Canceled));
    }
    assert!(!callbacks.iter().any(AfterFunc::stop));
}

#[test]
fn custom_is_watched_by_one_thread_while_needed() {
    in_child_alone(test_name!(), || {
        let before = thread_count();

        // A context that passes a channel of the crate through is not watched.
        let (inner, cancel) = Context::background().with_cancel();
        let shell = Context::custom(PassThrough(inner));
        let children = family(&shell);
        assert_eq!(thread_count(), before);
        part(children);

        // Any thread may have called `done`, before or after others.
        for asked_before in [false, true] {
            let (inner, end_inner) = Context::background().with_cancel();
            let _own = asked_before.then(|| inner.done());
            let shells: Vec<Context> = (0..20)
                .map(|_| {
                    let done = thread::scope(|s| s.spawn(|| inner.done()).join().unwrap());
                    Context::custom(OwnDone(inner.clone(), done))
                })
                .collect();
            let mut families: Vec<Family> = shells.iter().map(family).collect();
            wait_for_threads(before);
            let ended = families.split_off(10);
            families.into_iter().for_each(part);
            for (_, callbacks) in &ended {
                assert!(callbacks.iter().all(AfterFunc::stop));
            }
            end_inner.cancel();
            for (children, _) in &ended {
                assert!(children.iter().all(|(child, _)| child.err().is_some()));
            }
            assert_eq!(thread_count(), before);
        }

        // Nor is one with an `after_func`.
        let list = Arc::new(Mutex::new(Vec::new()));
        let (close, done) = bounded(0);
        let telling = Context::custom(Own {
            done,
            list: Some(list.clone()),
        });
        let mut children = family(&telling);
        assert_eq!(thread_count(), before);
        children
            .1
            .drain(..)
            .for_each(|callback| assert!(callback.stop()));
        drop(close);
        let tell = mem::take(&mut *list.lock().unwrap());
        tell.into_iter().for_each(|f| f());
        assert_end(children);
        assert_eq!(thread_count(), before);

        // Others are, by one thread, from the first to the last. There are ten, so that one thread for
        // all of them would not do.
        let mut open = Vec::new();
        let watched: Vec<Context> = (0..10)
            .map(|_| {
                let (close, done) = bounded(0);
                open.push(close);
                Context::custom(Own { done, list: None })
            })
            .collect();
        assert_eq!(thread_count(), before);
        let families: Vec<Family> = watched.iter().map(family).collect();
        assert_eq!(thread_count(), before + 10);

        // When they are dropped nothing is watched, and the threads end.
        families.into_iter().for_each(part);
        wait_for_threads(before);

        // The same for contended ones.
        watched.iter().for_each(contend);
        wait_for_threads(before);
        let (child, cancel_child) = thread::scope(|s| {
            let derive = || watched[1].with_cancel();
            s.spawn(derive).join().unwrap()
        });
        wait_for_threads(before + 1);
        drop((child, cancel_child));
        wait_for_threads(before);

        // The watch begins again with new children, and ends when they are dropped.
        let (child, cancel_child) = watched[0].with_cancel();
        assert_eq!(thread_count(), before + 1);
        drop(open);
        assert!(child.done().recv_timeout(LIMIT).is_err());
        drop((child, cancel_child));
        wait_for_threads(before);

        // A done context is not watched.
        let children: Vec<_> = watched.iter().map(Context::with_cancel).collect();
        assert!(children.iter().all(|(child, _)| child.err().is_some()));
        assert_eq!(thread_count(), before);
        cancel.cancel();
        assert_eq!(shell.err(), Some(Error::Canceled));
    });
}
