//! What keeps a context alive, and what happens when its last handle is dropped.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use go_context::crossbeam_channel::{bounded, select, Receiver, RecvTimeoutError, Sender};
use go_context::{Context, Error, Key};
use support::{assert_ran, callback, is_closed, is_open, Name, HOUR, LIMIT};

/// A cause that reports its drop, and so that of the deadline that owns it.
#[derive(Debug)]
struct Noticed(Arc<AtomicBool>);

impl Drop for Noticed {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl fmt::Display for Noticed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too slow")
    }
}

impl std::error::Error for Noticed {}

#[test]
fn child_keeps_parent_alive() {
    let (root, cancel_root) = Context::background().with_cancel_cause();
    let (parent, _) = root.with_cancel();
    let (child, _) = parent.with_timeout(HOUR);
    let leaf = child.with_value(Name, "gopher".into()).with_cancel().0;
    let dones = [&root, &parent, &child, &leaf].map(Context::done);
    let at = child.deadline();
    drop((root, parent, child));
    assert!(dones.iter().all(is_open));
    assert_eq!(leaf.deadline(), at);
    assert_eq!(leaf.value(&Name).unwrap(), "gopher");

    cancel_root.cancel("enough");
    assert!(dones.iter().all(is_closed));
    assert_eq!(leaf.cause().unwrap().to_string(), "enough");
}

#[test]
fn cancel_reaches_leaf_through_dropped_handles() {
    let (root, cancel) = Context::background().with_cancel();
    let leaf = (0..10).fold(root, |ctx, _| ctx.with_cancel().0);
    let ran = callback(&leaf);
    cancel.cancel();
    assert_eq!(leaf.err(), Some(Error::Canceled));
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
}

#[test]
fn parent_does_not_keep_child_alive() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (child, cancel) = parent.with_cancel();
    let (sibling, _cancel) = parent.with_cancel();
    let done = child.done();
    drop((child, cancel));
    assert!(is_closed(&done));
    assert!(is_open(&parent.done()));
    assert!(is_open(&sibling.done()));
}

#[test]
fn last_drop_cancels_at_once() {
    let bg = Context::background();
    let dones = [
        bg.with_cancel().0.done(),
        bg.with_cancel_cause().0.done(),
        bg.with_timeout(HOUR).0.done(),
        bg.with_value(Name, "gopher".into()).with_cancel().0.done(),
        bg.without_cancel().with_cancel().0.done(),
    ];
    assert!(dones.iter().all(is_closed));
}

#[test]
fn last_drop_runs_callbacks_and_removes_timer() {
    let gone = Arc::new(AtomicBool::new(false));
    let (ctx, cancel) = Context::background().with_timeout_cause(HOUR, Noticed(gone.clone()));
    let ran = callback(&ctx);
    let done = ctx.done();
    drop(ctx);
    assert!(is_open(&done));
    assert!(!gone.load(Ordering::SeqCst));
    drop(cancel);
    assert!(is_closed(&done));
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    assert!(gone.load(Ordering::SeqCst));
}

#[test]
fn last_drop_wakes_waiters() {
    let (ctx, cancel) = Context::background().with_cancel();
    let done = ctx.done();
    let waiter = thread::spawn(move || done.recv_timeout(LIMIT));
    drop((ctx, cancel));
    let end = waiter.join().expect("no panic");
    assert_eq!(end, Err(RecvTimeoutError::Disconnected));
}

#[test]
fn leaf_drop_cancels_chain_up_to_live_handle() {
    let (held, _cancel) = Context::background().with_cancel();
    let mut dones = Vec::new();
    let mut leaf = held.clone();
    for n in 0..10 {
        leaf = match n % 3 {
            0 => leaf.with_cancel().0,
            1 => leaf.with_timeout(HOUR).0,
            _ => leaf.with_value(Name, "gopher".into()).with_cancel().0,
        };
        dones.push((leaf.done(), callback(&leaf)));
    }
    for (done, ran) in &dones {
        assert!(is_open(done));
        assert!(ran.is_empty());
    }
    drop(leaf);
    for (done, ran) in &dones {
        assert!(is_closed(done));
        assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    }
    assert!(is_open(&held.done()));
}

#[test]
fn every_clone_keeps_context_alive() {
    let (ctx, _) = Context::background().with_cancel();
    let done = ctx.done();
    let clone = ctx.clone();
    let valued = ctx.with_value(Name, "gopher".into());
    let (child, _) = ctx.with_cancel();
    let detached = child.without_cancel();
    for handle in [ctx, clone, valued, child] {
        drop(handle);
        assert!(is_open(&done));
    }
    drop(detached);
    assert!(is_closed(&done));
}

#[test]
fn cancel_func_keeps_context_alive() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (done, ran) = (ctx.done(), callback(&ctx));
    let clone = cancel.clone();
    drop((ctx, cancel));
    assert!(is_open(&done));
    assert!(ran.is_empty());
    drop(clone);
    assert!(is_closed(&done));
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));

    let (ctx, cancel) = Context::background().with_cancel_cause();
    let done = ctx.done();
    let clone = cancel.clone();
    drop((ctx, cancel));
    assert!(is_open(&done));
    clone.cancel("enough");
    assert!(is_closed(&done));
}

#[test]
fn cancel_func_keeps_parent_alive() {
    let (parent, cancel_parent) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    let (of_parent, of_child) = (parent.done(), child.done());
    drop((parent, child, cancel_parent));
    assert!(is_open(&of_parent));
    assert!(is_open(&of_child));
    drop(cancel_child);
    assert!(is_closed(&of_parent));
    assert!(is_closed(&of_child));
}

#[test]
fn drop_guard_keeps_context_alive() {
    for with_cause in [false, true] {
        let (ctx, guard) = if with_cause {
            let (ctx, cancel) = Context::background().with_cancel_cause();
            (ctx, cancel.drop_guard())
        } else {
            let (ctx, cancel) = Context::background().with_cancel();
            (ctx, cancel.drop_guard())
        };
        let (done, ran) = (ctx.done(), callback(&ctx));
        drop(ctx);
        assert!(is_open(&done));
        assert!(ran.is_empty());
        drop(guard);
        assert!(is_closed(&done));
        assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    }
}

#[test]
fn drop_guard_cancels_context_with_other_handles() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (child, _cancel) = ctx.with_cancel();
    let other_cancel = cancel.clone();
    drop(cancel.drop_guard());
    for ctx in [&ctx, &child] {
        assert_eq!(ctx.err(), Some(Error::Canceled));
        assert!(ctx.cause().unwrap().is::<Error>());
    }
    other_cancel.cancel();
}

#[test]
fn cancel_func_drop_leaves_live_context_open() {
    let bg = Context::background();
    let (plain, cancel) = bg.with_cancel();
    drop((cancel.clone(), cancel));
    let (with_cause, cancel) = bg.with_cancel_cause();
    drop((cancel.clone(), cancel));
    let (timed, cancel) = bg.with_timeout(HOUR);
    drop((cancel.clone(), cancel));
    for ctx in [plain, with_cause, timed] {
        assert_eq!(ctx.err(), None);
        assert!(is_open(&ctx.done()));
    }
}

#[test]
fn done_receiver_does_not_keep_alive() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (done, clone) = (ctx.done(), ctx.done().clone());
    drop((ctx, cancel));
    assert!(is_closed(&done));
    assert!(is_closed(&clone));
}

#[test]
fn after_func_handle_does_not_keep_alive() {
    let (ctx, cancel) = Context::background().with_cancel();
    let done = ctx.done();
    let (pending, stopped) = (ctx.after_func(|| ()), ctx.after_func(|| ()));
    assert!(stopped.stop());
    drop((ctx, cancel));
    assert!(is_closed(&done));
    assert!(!pending.stop());
}

#[test]
fn without_cancel_keeps_parent_alive() {
    let (parent, cancel) = Context::background().with_cancel();
    let done = parent.done();
    let detached = parent.without_cancel();
    let (below, _) = detached.with_cancel();
    let of_below = below.done();
    drop((parent, cancel, detached));
    assert!(is_open(&done));
    drop(below);
    assert!(is_closed(&of_below));
    assert!(is_closed(&done));
}

#[test]
fn child_drop_leaves_parent_open() {
    let (parent, cancel) = Context::background().with_cancel();
    let ran: Vec<_> = (0..100)
        .map(|n| {
            let (child, _) = parent.with_cancel();
            let ran = callback(&child);
            drop(child);
            // Other contexts reuse the slot in between.
            if n % 3 == 0 {
                let (other, _) = parent.with_cancel();
                assert_eq!(other.err(), None);
            }
            ran
        })
        .collect();
    let (held, _cancel) = parent.with_cancel();
    assert_eq!((held.err(), parent.err()), (None, None));
    cancel.cancel();
    assert_eq!(held.err(), Some(Error::Canceled));
    for ran in ran {
        assert_ran(&ran);
    }
}

#[test]
fn context_kept_as_value_stays_alive() {
    struct Session;
    impl PartialEq for Session {
        fn eq(&self, _: &Session) -> bool {
            true
        }
    }
    impl Eq for Session {}
    impl Key for Session {
        type Value = Context;
    }

    let (session, _) = Context::background().with_cancel();
    let done = session.done();
    let request = Context::background().with_value(Session, session);
    assert!(is_open(&done));
    let below = request.with_cancel().0;
    drop(request);
    assert!(is_open(&done));
    drop(below);
    assert!(is_closed(&done));
}

#[test]
fn last_drop_racing_parent_cancel_is_done() {
    for _ in 0..1_000 {
        let (parent, cancel) = Context::background().with_cancel();
        let (child, _) = parent.with_cancel();
        let leaf = child.with_cancel().0;
        let ends = [&child, &leaf].map(|ctx| (ctx.done(), callback(ctx)));
        drop(child);
        let start = Barrier::new(2);
        thread::scope(|s| {
            s.spawn(|| {
                start.wait();
                drop(leaf);
            });
            start.wait();
            cancel.cancel();
        });
        for (done, ran) in &ends {
            assert!(is_closed(done));
            assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
        }
    }
}

#[test]
fn last_drop_on_any_thread() {
    let (ctx, cancel) = Context::background().with_timeout(HOUR);
    let (done, ran) = (ctx.done(), callback(&ctx));
    drop(cancel);
    thread::spawn(move || drop(ctx)).join().expect("no panic");
    assert!(is_closed(&done));
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
}

#[test]
fn context_is_borrowed_by_scoped_threads() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let ctx = ctx.with_value(Name, "gopher".into());
    let names: Vec<&str> = thread::scope(|s| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                s.spawn(|| {
                    let (child, _cancel) = ctx.with_cancel();
                    let end = child.done().recv_timeout(LIMIT);
                    assert_eq!(end, Err(RecvTimeoutError::Disconnected));
                    assert_eq!(child.cause().unwrap().to_string(), "enough");
                    // What is borrowed from the context outlives the thread.
                    ctx.value(&Name).expect("the name is there").as_str()
                })
            })
            .collect();
        cancel.cancel("enough");
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(names, ["gopher"; 4]);
}

#[test]
fn drop_guard_in_thread_scope_ends_its_threads() {
    /// Works until the context is done.
    fn work(ctx: &Context, jobs: &Receiver<u32>, finished: &Sender<u32>) -> Option<Error> {
        loop {
            select! {
                recv(ctx.done()) -> _ => return ctx.err(),
                recv(jobs) -> job => finished.send(job.ok()?).ok()?,
                default(LIMIT) => return None,
            }
        }
    }

    let (ctx, cancel) = Context::background().with_timeout(HOUR);
    let (jobs_tx, jobs) = bounded(8);
    let (finished_tx, finished) = bounded(8);
    let ends: Vec<_> = thread::scope(|s| {
        let threads: Vec<_> = (0..3)
            .map(|_| s.spawn(|| work(&ctx, &jobs, &finished_tx)))
            .collect();
        {
            let _cancel_on_exit = cancel.drop_guard();
            for n in 0..5 {
                jobs_tx.send(n).expect("they listen");
            }
            let mut seen: Vec<u32> = (0..5)
                .map(|_| finished.recv_timeout(LIMIT).expect("they work"))
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4]);
        }
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(ends, [Some(Error::Canceled); 3]);
}
