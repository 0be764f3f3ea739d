//! The done channels of one context: different threads may get different ones, which behave the
//! same.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{never, select, Receiver, RecvTimeoutError, Select};
use go_context::{CancelCauseFunc, Context, CustomContext, Error};
use support::threads::stagger;
use support::{callback, is_closed, is_open, HOUR, LIMIT};

/// More threads than one context has channels, on any machine.
const MANY: usize = 150;

/// The channels of that many threads, none of which has called `done` before.
fn channels(ctx: &Context, threads: usize) -> Vec<Receiver<()>> {
    let one = |_| {
        thread::scope(|s| {
            let ask = || {
                let [one, again, clone] = [ctx.done(), ctx.done(), ctx.clone().done()];
                assert!(one.same_channel(&again) && one.same_channel(&clone));
                one
            };
            s.spawn(ask).join().unwrap()
        })
    };
    (0..threads).map(one).collect()
}

/// Runs all functions at the same moment, each on a thread of its own.
fn together(jobs: Vec<Box<dyn FnOnce() + Send + '_>>) {
    let start = Barrier::new(jobs.len());
    thread::scope(|s| {
        for job in jobs {
            let start = &start;
            s.spawn(move || {
                start.wait();
                job();
            });
        }
    });
}

#[test]
fn any_end_closes_done_of_all_threads() {
    type End = fn(CancelCauseFunc, &CancelCauseFunc);
    let ends: [End; 4] = [
        |cancel, _| cancel.cancel("stop"),
        |cancel, _| drop(cancel.drop_guard()),
        |_, cancel_parent| cancel_parent.cancel("from above"),
        |cancel, _| drop(cancel), // the last handle
    ];
    for end in ends {
        let (parent, cancel_parent) = Context::background().with_cancel_cause();
        let (ctx, cancel) = parent.with_cancel_cause();
        let all = channels(&ctx, MANY);
        assert!(all.iter().all(is_open));
        drop((parent, ctx));
        end(cancel, &cancel_parent);
        assert!(all.iter().all(is_closed));
    }
    let at = Instant::now() + Duration::from_millis(100);
    let (ctx, _cancel) = Context::background().with_deadline(at);
    for done in channels(&ctx, MANY) {
        let end = done.recv_timeout(LIMIT);
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
        assert_eq!(ctx.err(), Some(Error::DeadlineExceeded));
    }
}

#[test]
fn done_first_called_after_the_end_is_closed() {
    for before in [0, 1, 3, MANY] {
        let (ctx, cancel) = Context::background().with_cancel();
        let (child, _cancel) = ctx.with_cancel();
        let early = channels(&ctx, before);
        cancel.cancel();
        for ctx in [&ctx, &child, &ctx.with_timeout(HOUR).0] {
            assert!(channels(ctx, MANY).iter().all(is_closed));
        }
        assert!(early.iter().all(is_closed));
    }
}

#[test]
fn done_of_a_thread_stays_the_same() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (asked, go_on) = (Barrier::new(21), Barrier::new(21));
    thread::scope(|s| {
        for _ in 0..20 {
            s.spawn(|| {
                let done = ctx.done();
                asked.wait();
                assert!(done.same_channel(&ctx.done()));
                go_on.wait();
                assert!(done.same_channel(&ctx.done()));
                assert!(is_closed(&done));
            });
        }
        asked.wait();
        cancel.cancel();
        go_on.wait();
    });
}

#[test]
fn open_contexts_never_share_done() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    let (of_parent, of_child) = (channels(&parent, 20), channels(&child, 20));
    for one in &of_parent {
        assert!(of_child.iter().all(|other| !one.same_channel(other)));
    }
    cancel_child.cancel();
    assert!(of_child.iter().all(is_closed));
    assert!(of_parent.iter().all(is_open));
}

#[test]
fn done_of_another_thread_wakes_waiter() {
    for round in 0..20 {
        let (ctx, cancel) = Context::background().with_cancel();
        let all = channels(&ctx, 16);
        let waiting = Barrier::new(all.len() + 2);
        thread::scope(|s| {
            let (ctx, all, waiting) = (&ctx, &all, &waiting);
            for done in all {
                s.spawn(move || {
                    waiting.wait();
                    select! {
                        recv(done) -> message => assert!(message.is_err()),
                        default(LIMIT) => panic!("it is not woken"),
                    }
                    assert_eq!(ctx.err(), Some(Error::Canceled));
                    assert!(all.iter().all(is_closed));
                });
            }
            s.spawn(move || {
                waiting.wait();
                let mut select = Select::new();
                for done in all {
                    select.recv(done);
                }
                assert!(select.ready_timeout(LIMIT).is_ok());
                assert_eq!(ctx.err(), Some(Error::Canceled));
                assert!(all.iter().all(is_closed));
            });
            waiting.wait();
            stagger(round);
            cancel.cancel();
        });
    }
}

#[test]
fn err_cause_and_done_agree_across_threads() {
    const OBSERVERS: usize = 4;
    for round in 0..1_500 {
        let (root, cancel) = Context::background().with_cancel_cause();
        let (child, _cancel) = root.with_cancel();
        let ctx = [&root, &child][round % 2];
        let seen: Mutex<Vec<Receiver<()>>> = Mutex::default();
        let all_asked = Barrier::new(OBSERVERS + 1);
        let check = |all: &[Receiver<()>]| {
            assert_eq!(ctx.cause().unwrap().to_string(), "stop");
            assert!(all.iter().all(is_closed), "one is open");
            assert!(is_closed(&ctx.done()));
        };
        let mut jobs: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
        for number in 0..OBSERVERS {
            let (seen, all_asked, check) = (&seen, &all_asked, &check);
            jobs.push(Box::new(move || {
                let own = ctx.done();
                seen.lock().unwrap().push(own.clone());
                all_asked.wait();
                let all = seen.lock().unwrap().clone();
                loop {
                    match (number + round) % 3 {
                        // Once `err` is `Some`, all channels are closed, on any thread.
                        0 => {
                            if ctx.err().is_some() {
                                assert!(all.iter().all(is_closed), "one is open");
                                break;
                            }
                        }
                        // Once any channel is closed, `err` is `Some`. Then all are closed.
                        1 => {
                            if all.iter().any(is_closed) {
                                assert_eq!(ctx.err(), Some(Error::Canceled));
                                break;
                            }
                        }
                        _ => {
                            let err = ctx.err();
                            let open = all.iter().any(is_open);
                            assert!(!(open && err.is_some()), "an error, and yet not done");
                            if !open {
                                break;
                            }
                        }
                    }
                    thread::yield_now();
                }
                check(&all);
            }));
        }
        let all_asked = &all_asked;
        jobs.push(Box::new(move || {
            all_asked.wait();
            stagger(round);
            cancel.cancel("stop");
        }));
        together(jobs);
    }
}

#[test]
fn done_first_called_during_cancel_closes() {
    for round in 0..1_500 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (child, _cancel) = ctx.with_cancel();
        let early = (round % 3 > 0).then(|| [ctx.done(), child.done()]);
        let late: Mutex<Vec<Receiver<()>>> = Mutex::default();
        let mut jobs: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
        for number in 0..3 {
            let (late, ctx) = (&late, [&ctx, &child][(round + number) % 2]);
            jobs.push(Box::new(move || {
                stagger(round * number);
                let done = ctx.done();
                let err = ctx.err();
                assert!(err.is_none() || is_closed(&done));
                late.lock().unwrap().push(done);
            }));
        }
        jobs.push(Box::new(|| {
            stagger(round / 2);
            cancel.cancel();
        }));
        together(jobs);
        assert!(late.into_inner().unwrap().iter().all(is_closed));
        assert!(early.iter().flatten().all(is_closed));
    }
}

/// A custom context that passes a given channel through, and counts the calls of its methods.
struct Handed {
    inner: Context,
    done: Receiver<()>,
}

impl CustomContext for Handed {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    fn err(&self) -> Option<Error> {
        self.inner.err()
    }

    fn wrapped(&self) -> Option<&Context> {
        Some(&self.inner)
    }

    /// Called only if the channel is not that of the wrapped context.
    fn after_func(&self, _: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        panic!("the channel is not known again");
    }
}

#[test]
fn done_of_any_thread_makes_a_wrapper() {
    for asked_here in [false, true] {
        let (inner, cancel) = Context::background().with_cancel_cause();
        let here = asked_here.then(|| inner.done());
        let mut all = channels(&inner, MANY);
        all.extend(here);
        let children: Vec<_> = all
            .into_iter()
            .map(|done| {
                let inner = inner.clone();
                let (child, cancel) = Context::custom(Handed { inner, done }).with_cancel();
                assert_eq!(child.err(), None);
                let ran = callback(&child);
                (child, cancel, ran)
            })
            .collect();
        cancel.cancel("stop");
        // At once, because no watching thread is involved.
        for (child, _, ran) in &children {
            assert_eq!(child.err(), Some(Error::Canceled));
            assert_eq!(child.cause().unwrap().to_string(), "stop");
            assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
        }
    }
}

#[test]
fn done_of_another_context_makes_no_wrapper() {
    let (inner, _cancel) = Context::background().with_cancel();
    let (other, cancel_other) = inner.with_cancel();
    let done = channels(&other, 3).pop().unwrap();
    struct Other(Context, Receiver<()>, Arc<Mutex<usize>>);
    impl CustomContext for Other {
        fn done(&self) -> Receiver<()> {
            self.1.clone()
        }
        fn err(&self) -> Option<Error> {
            is_closed(&self.1).then_some(Error::DeadlineExceeded)
        }
        fn wrapped(&self) -> Option<&Context> {
            Some(&self.0)
        }
        fn after_func(&self, f: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
            *self.2.lock().unwrap() += 1;
            drop(f);
            None
        }
    }
    let asked = Arc::default();
    let custom = Context::custom(Other(inner.clone(), done, Arc::clone(&asked)));
    let (child, _cancel) = custom.with_cancel();
    assert_eq!(child.err(), None);
    assert_eq!(*asked.lock().unwrap(), 1);
    cancel_other.cancel();
    assert_eq!(child.wait(), Error::DeadlineExceeded);
    assert_eq!(inner.err(), None);
}

#[test]
fn background_has_one_done_for_all_threads() {
    for ctx in [Context::background(), Context::todo()] {
        let all = channels(&ctx, 20);
        assert!(all.iter().all(|done| done.same_channel(&never())));
        assert!(all.iter().all(is_open));
    }
}

#[test]
fn done_after_one_is_seen_closed_is_closed() {
    for round in 0..1_000 {
        let (ctx, cancel) = Context::background().with_cancel();
        let first = ctx.done();
        let _others = channels(&ctx, 12); // to be closed one after the other
        together(vec![
            Box::new(move || {
                stagger(round);
                cancel.cancel();
            }),
            Box::new(|| {
                let _mine = ctx.done();
                while !is_closed(&first) {
                    std::hint::spin_loop();
                }
                assert!(is_closed(&ctx.done()), "round {round}");
            }),
        ]);
    }
}
