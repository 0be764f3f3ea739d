//! Groups with a limit: never too many workers, and no waiting `spawn` is forgotten.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use go_context::crossbeam_channel::{
    bounded, unbounded, Receiver, RecvTimeoutError, Sender, TryRecvError,
};
use go_context::{Context, Scope};
use support::{assert_closes, in_time, panics, receive, LIMIT};

type Group<'scope, 'env> = Scope<'scope, 'env, io::Error>;

/// Counts how many workers run at once, and in all.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

impl Gauge {
    fn visit(&self) -> io::Result<()> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.all.fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    fn all(&self) -> usize {
        self.all.load(Ordering::SeqCst)
    }
}

/// A worker that holds its permit until it receives its result, or the sender is dropped.
fn occupy(s: Group<'_, '_>) -> Sender<io::Result<()>> {
    let (release, released) = bounded(1);
    s.spawn(move |_| match released.recv_timeout(LIMIT) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => Ok(()),
        Err(RecvTimeoutError::Timeout) => panic!("it is not released"),
    });
    release
}

#[test]
fn set_limit_is_never_exceeded() {
    const MOST: usize = 3;
    in_time(|| {
        let gauge = Gauge::default();
        let ended: io::Result<()> = Context::background().scope(|s| {
            s.set_limit(MOST);
            let gauge = &gauge;
            thread::scope(|outside| {
                for _ in 0..4 {
                    outside.spawn(move || (0..250).for_each(|_| drop(s.spawn(|_| gauge.visit()))));
                }
            });
            Ok(())
        });
        assert!(ended.is_ok());
        assert_eq!(gauge.all(), 1000);
        assert!(gauge.most() <= MOST, "{} at once", gauge.most());
    });
}

#[test]
fn set_limit_is_reached() {
    in_time(|| {
        let ended: io::Result<()> = Context::background().scope(|s| {
            s.set_limit(3);
            let occupied: Vec<_> = (0..3).map(|_| occupy(s)).collect();
            assert!(s.try_spawn(|_| Ok(())).is_err());
            drop(occupied);
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[test]
fn spawn_without_limit_does_not_wait() {
    in_time(|| {
        let ended: io::Result<()> = Context::background().scope(|s| {
            let occupied: Vec<_> = (0..50).map(|_| occupy(s)).collect();
            assert!(s.try_spawn(|_| Ok(())).is_ok());
            s.set_limit(0);
            s.set_limit(usize::MAX);
            assert!(s.try_spawn(|_| Ok(())).is_ok());
            drop(occupied);
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[test]
fn try_spawn_without_permit_returns_work() {
    in_time(|| {
        let ended: io::Result<()> = Context::background().scope(|s| {
            s.set_limit(1);
            let occupied = occupy(s);
            let message = String::from("still here");
            let work = s.try_spawn(move |_| Ok(message)).expect_err("no permit");
            assert_eq!(work(s.context()).unwrap(), "still here");
            drop(occupied);
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[test]
fn set_limit_lowered_leaves_running_workers() {
    in_time(|| {
        let ended: io::Result<()> = Context::background().scope(|s| {
            let (releases, workers): (Vec<_>, Vec<_>) = (0..3)
                .map(|_| {
                    let (release, released) = bounded::<()>(0);
                    let worker = s.spawn(move |ctx| {
                        assert_closes(&released);
                        assert_eq!(ctx.err(), None);
                        Ok("undisturbed")
                    });
                    (release, worker)
                })
                .unzip();
            s.set_limit(1);
            for (release, worker) in releases.into_iter().zip(workers) {
                assert!(s.try_spawn(|_| Ok(())).is_err());
                drop(release);
                assert_eq!(receive(&worker), "undisturbed");
            }
            let last = s.spawn(|_| Ok("at last"));
            assert_eq!(receive(&last), "at last");
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[test]
fn set_limit_changed_constantly_runs_all() {
    in_time(|| {
        let gauge = Gauge::default();
        let ended: io::Result<()> = Context::background().scope(|s| {
            s.set_limit(0);
            let gauge = &gauge;
            thread::scope(|outside| {
                for _ in 0..4 {
                    outside.spawn(move || (0..100).for_each(|_| drop(s.spawn(|_| gauge.visit()))));
                }
                for limit in (0..=4).cycle().take(202) {
                    s.set_limit(limit);
                    thread::yield_now();
                }
            });
            Ok(())
        });
        assert!(ended.is_ok());
        assert_eq!(gauge.all(), 400);
        assert!(gauge.most() <= 4, "{} at once", gauge.most());
    });
}

#[test]
fn permit_is_free_after_result_is_sent() {
    in_time(|| {
        for _ in 0..500 {
            let ended: io::Result<()> = Context::background().scope(|s| {
                s.set_limit(1);
                let first = s.spawn(|_| Ok(1));
                let second = s.spawn(|_| Ok(2));
                assert_eq!(first.try_recv(), Ok(1));
                assert_eq!(first.try_recv(), Err(TryRecvError::Disconnected));
                assert_eq!(receive(&second), 2);
                Ok(())
            });
            assert!(ended.is_ok());
        }
    });
}

#[test]
fn permit_is_released_if_naming_panics() {
    in_time(|| {
        let ended: io::Result<()> = Context::background().scope(|s| {
            s.set_limit(1);
            for _ in 0..3 {
                let named = thread::Builder::new().name("a\0b".into());
                assert!(panics(|| drop(s.spawn_with(named, |_| Ok(())))));
            }
            assert_eq!(s.context().err(), None);
            assert_eq!(receive(&s.spawn(|_| Ok("usable"))), "usable");
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[test]
fn spawn_waiting_for_own_permit_runs_here_when_done() {
    in_time(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let ended: io::Result<()> = ctx.scope(|s| {
            s.set_limit(1);
            let (began, begins) = bounded(1);
            let worker = s.spawn(move |_| {
                began.send(()).unwrap();
                let inner = s.spawn(|_| Ok(thread::current().id()));
                Ok(inner.try_recv() == Ok(thread::current().id()))
            });
            receive(&begins);
            cancel.cancel();
            assert!(receive(&worker));
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[test]
fn spawn_waiting_for_own_permit_ends_on_scope_cancel() {
    in_time(|| {
        let ended: io::Result<()> = Context::background().scope(|s| {
            s.set_limit(1);
            let (began, begins) = bounded(1);
            let worker = s.spawn(move |_| {
                began.send(()).unwrap();
                let inner = s.spawn(|_| -> io::Result<()> { unreachable!("it was cancelled") });
                Ok(inner.try_recv())
            });
            receive(&begins);
            s.cancel("enough");
            assert_eq!(receive(&worker), Err(TryRecvError::Disconnected));
            Ok(())
        });
        assert!(ended.is_ok());
    });
}

#[test]
fn permits_are_shared_with_nested_spawns() {
    /// Does half of the work itself if there is no permit for another worker.
    fn halve<'scope>(s: Group<'scope, '_>, size: usize, gauge: &'scope Gauge) -> io::Result<()> {
        if size == 1 {
            return gauge.visit();
        }
        if let Err(work) = s.try_spawn(move |_| halve(s, size / 2, gauge)) {
            work(s.context())?;
        }
        halve(s, size / 2, gauge)
    }
    in_time(|| {
        let gauge = Gauge::default();
        let ended: io::Result<()> = Context::background().scope(|s| {
            s.set_limit(2);
            halve(s, 256, &gauge)
        });
        assert!(ended.is_ok());
        assert_eq!(gauge.all(), 256);
        // Two workers, and the thread of `f`.
        assert!(gauge.most() <= 3, "{} at once", gauge.most());
    });
}

// Waiting for a permit

/// How many threads wait for a permit.
const WAITERS: usize = 6;

/// A group of which all permits are taken.
struct Full<'a, 'scope, 'env> {
    group: Group<'scope, 'env>,
    /// Ends the worker that has a permit.
    occupied: Sender<io::Result<()>>,
    /// Receives a message from each worker that runs.
    ran: &'a Receiver<()>,
}

/// Makes threads wait for a permit while `f` does something about it. What `f` returns is kept until
/// each of them has got one or given up. Returns the group's result, and how many workers ran.
fn while_others_wait<T>(
    ctx: &Context,
    limit: usize,
    f: impl FnOnce(Full<'_, '_, '_>) -> T,
) -> (io::Result<()>, usize) {
    let gauge = Gauge::default();
    let (run, ran) = unbounded();
    let ended = ctx.scope(|s| {
        let occupied = occupy(s);
        s.set_limit(limit);
        let (gauge, run) = (&gauge, &run);
        let held = thread::scope(|outside| {
            let (ready, readies) = unbounded();
            for _ in 0..WAITERS {
                let ready = ready.clone();
                outside.spawn(move || {
                    ready.send(()).unwrap();
                    s.spawn(|_| {
                        run.send(()).unwrap();
                        gauge.visit()
                    })
                });
            }
            (0..WAITERS).for_each(|_| receive(&readies));
            f(Full {
                group: s,
                occupied,
                ran: &ran,
            })
        });
        drop(held);
        Ok(())
    });
    (ended, gauge.all())
}

#[test]
fn permit_released_starts_next_worker() {
    in_time(|| {
        for _ in 0..100 {
            let (ended, ran) = while_others_wait(&Context::background(), 1, |full| {
                drop(full.occupied);
            });
            assert!(ended.is_ok());
            assert_eq!(ran, WAITERS);
        }
    });
}

#[test]
fn set_limit_raised_starts_waiting_spawn() {
    in_time(|| {
        for (before, after) in [(0, 2), (1, 2), (1, 3), (0, usize::MAX)] {
            for _ in 0..50 {
                let (ended, ran) = while_others_wait(&Context::background(), before, |full| {
                    full.group.set_limit(after);
                    (0..WAITERS).for_each(|_| receive(full.ran));
                    full.occupied
                });
                assert!(ended.is_ok());
                assert_eq!(ran, WAITERS);
            }
        }
    });
}

#[test]
fn set_limit_raised_starts_as_many_as_fit() {
    in_time(|| {
        for _ in 0..50 {
            let ended: io::Result<()> = Context::background().scope(|s| {
                s.set_limit(0);
                let (began, begins) = unbounded();
                let (release, released) = bounded::<()>(0);
                thread::scope(|outside| {
                    for _ in 0..WAITERS {
                        let (began, released) = (began.clone(), released.clone());
                        outside.spawn(move || {
                            s.spawn(move |_| {
                                began.send(()).unwrap();
                                assert_closes(&released);
                                Ok(())
                            })
                        });
                    }
                    // One change, and several permits: a thread that gets one notifies the next.
                    s.set_limit(WAITERS);
                    (0..WAITERS).for_each(|_| receive(&begins));
                });
                drop(release);
                Ok(())
            });
            assert!(ended.is_ok());
        }
    });
}

#[test]
fn parent_cancel_ends_spawn_wait_and_runs_work() {
    in_time(|| {
        for limit in [0, 1] {
            for _ in 0..100 {
                let (ctx, cancel) = Context::background().with_cancel();
                let (ended, ran) = while_others_wait(&ctx, limit, |full| {
                    cancel.cancel();
                    full.occupied
                });
                assert!(ended.is_ok());
                assert_eq!(ran, WAITERS);
            }
        }
    });
}

/// With a limit of zero no thread can use the permit, so it is the context that ends the wait. With
/// one the permit is free, but it was freed after the end.
#[test]
fn worker_error_ends_spawn_wait() {
    in_time(|| {
        for limit in [0, 1] {
            for _ in 0..200 {
                let (ended, ran) = while_others_wait(&Context::background(), limit, |full| {
                    full.occupied.send(Err(io::Error::other("lost"))).unwrap();
                });
                assert_eq!(ended.unwrap_err().to_string(), "lost");
                assert_eq!(ran, 0, "limit {limit}");
            }
        }
    });
}

#[test]
fn scope_cancel_ends_spawn_wait_and_drops_work() {
    in_time(|| {
        for limit in [0, 1] {
            for _ in 0..100 {
                let (ended, ran) = while_others_wait(&Context::background(), limit, |full| {
                    full.group.cancel("enough");
                    full.occupied
                });
                assert!(ended.is_ok());
                assert_eq!(ran, 0, "limit {limit}");
            }
        }
    });
}

#[test]
fn permit_released_after_parent_cancel_loses_no_work() {
    in_time(|| {
        for _ in 0..200 {
            let (ctx, cancel) = Context::background().with_cancel();
            let (ended, ran) = while_others_wait(&ctx, 1, |full| {
                cancel.cancel();
                drop(full.occupied);
            });
            assert!(ended.is_ok());
            assert_eq!(ran, WAITERS);
        }
    });
}

/// The same with threads that try again and again, which check the permits most often.
#[test]
fn try_spawn_after_error_gets_no_permit() {
    in_time(|| {
        for round in 0..100 {
            let ran = AtomicUsize::new(0);
            let ended: io::Result<()> = Context::background().scope(|s| {
                s.set_limit(1);
                let occupied = occupy(s);
                let ran = &ran;
                thread::scope(|outside| {
                    for _ in 0..2 {
                        outside.spawn(move || {
                            while s.context().err().is_none() {
                                let _ = s.try_spawn(|_| Ok(ran.fetch_add(1, Ordering::SeqCst)));
                            }
                        });
                    }
                    thread::yield_now();
                    occupied.send(Err(io::Error::other("lost"))).unwrap();
                });
                Ok(())
            });
            assert_eq!(ended.unwrap_err().to_string(), "lost");
            assert_eq!(ran.into_inner(), 0, "round {round}");
        }
    });
}
