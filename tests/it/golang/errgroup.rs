//! `golang.org/x/sync/errgroup`: groups. A group here ends with its scope, so what Go waits for twice
//! is two groups here.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Barrier;
use std::thread;

use go_context::crossbeam_channel::bounded;
use go_context::{Context, Error};
use support::receive;

use super::common::{assert_err, assert_no_cause};

/// How a worker ends.
type End = Result<(), &'static str>;

/// A group of workers that end like this. Returns its context with the result.
fn group(ends: &[End]) -> (End, Context) {
    let mut group = None;
    let ended = Context::background().scope(|s| {
        group = Some(s.context().clone());
        for &end in ends {
            s.spawn(move |_| end);
        }
        Ok(())
    });
    (ended, group.unwrap())
}

/// Like Go, which uses a group without a context again and again, each time with one worker more.
fn groups(ends: &[End], expected: Option<&'static str>) {
    for count in 1..=ends.len() {
        let (ended, _) = group(&ends[..count]);
        assert_eq!(ended.err(), expected);
    }
}

#[test]
fn zero_group_no_tasks() {
    groups(&[], None);
    assert_eq!(group(&[]).0, Ok(()));
}

#[test]
fn zero_group_nil() {
    groups(&[Ok(())], None);
}

#[test]
fn zero_group_e1() {
    groups(&[Err("e1")], Some("e1"));
}

#[test]
fn zero_group_e1_nil() {
    groups(&[Err("e1"), Ok(())], Some("e1"));
}

/// The workers determine which is first: Go waits between them.
#[test]
fn zero_group_e1_nil_e2() {
    let ended: End = Context::background().scope(|s| {
        let e1 = s.spawn(|_| Err::<(), _>("e1"));
        s.try_spawn(|_| Ok(())).ok();
        assert!(e1.recv().is_err());
        s.spawn(|_| Err::<(), _>("e2"));
        Ok(())
    });
    assert_eq!(ended, Err("e1"));
}

#[test]
fn with_context_none() {
    let (ended, ctx) = group(&[]);
    assert_eq!(ended, Ok(()));
    assert_err(&ctx, Error::Canceled);
}

#[test]
fn with_context_nil() {
    let (ended, ctx) = group(&[Ok(())]);
    assert_eq!(ended, Ok(()));
    assert_err(&ctx, Error::Canceled);
}

#[test]
fn with_context_doom() {
    let (ended, ctx) = group(&[Err("doom")]);
    assert_eq!(ended, Err("doom"));
    assert_err(&ctx, Error::Canceled);
}

#[test]
fn with_context_doom_nil() {
    let (ended, ctx) = group(&[Err("doom"), Ok(())]);
    assert_eq!(ended, Err("doom"));
    assert_err(&ctx, Error::Canceled);
}

#[test]
fn try_go() {
    const LIMIT: usize = 42;
    let ended: End = Context::background().scope(|s| {
        s.set_limit(LIMIT);
        let (release, released) = bounded::<()>(0);
        let blocked = move |_: &Context| {
            let _ = released.recv();
            Ok(())
        };
        let workers: Vec<_> = (0..LIMIT)
            .map(|_| {
                s.try_spawn(blocked.clone())
                    .ok()
                    .expect("there is a permit")
            })
            .collect();
        assert!(s.try_spawn(blocked.clone()).is_err());
        drop(release);
        for worker in &workers {
            receive(worker);
        }
        Ok(())
    });
    assert_eq!(ended, Ok(()));

    let ended: End = Context::background().scope(|s| {
        let (release, released) = bounded::<()>(0);
        let blocked = move |_: &Context| {
            let _ = released.recv();
            Ok(())
        };
        s.set_limit(1);
        assert!(s.try_spawn(blocked.clone()).is_ok());
        assert!(s.try_spawn(blocked.clone()).is_err());
        s.set_limit(0);
        for _ in 0..1024 {
            assert!(s.try_spawn(blocked.clone()).is_err());
        }
        drop(release);
        Ok(())
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn go_limit() {
    const LIMIT: usize = 10;
    let active = AtomicUsize::new(0);
    let ended: End = Context::background().scope(|s| {
        s.set_limit(LIMIT);
        for _ in 0..=1024 {
            s.spawn(|_| {
                let now = active.fetch_add(1, Ordering::SeqCst) + 1;
                assert!(now <= LIMIT, "{now} at once");
                thread::yield_now(); // for others to start, if they can
                active.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            });
        }
        Ok(())
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn cancel_cause_none() {
    assert_no_cause(&group(&[]).1, Error::Canceled);
}

#[test]
fn cancel_cause_nil() {
    assert_no_cause(&group(&[Ok(())]).1, Error::Canceled);
}

#[test]
fn cancel_cause_doom() {
    let (_, ctx) = group(&[Err("doom")]);
    assert_eq!(ctx.cause().unwrap().to_string(), "doom");
}

#[test]
fn cancel_cause_doom_nil() {
    let (_, ctx) = group(&[Err("doom"), Ok(())]);
    assert_eq!(ctx.cause().unwrap().to_string(), "doom");
}

#[test]
fn example_group_parallel() {
    let mut results = <[String; 3]>::default();
    let together = Barrier::new(3);
    let ended: End = Context::background().scope(|s| {
        for (what, result) in ["web", "image", "video"].into_iter().zip(&mut results) {
            let together = &together;
            s.spawn(move |_| {
                together.wait(); // that they run at once is the point
                *result = format!("{what} result for \"golang\"");
                Ok(())
            });
        }
        Ok(())
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(
        results,
        [
            "web result for \"golang\"",
            "image result for \"golang\"",
            "video result for \"golang\"",
        ]
    );
}

/// Go has a goroutine that waits for the others, to close the channel of results. Here a channel
/// is disconnected when the last worker that has it is done.
#[test]
fn example_group_pipeline() {
    let texts = [("a", "1"), ("b", "22"), ("c", "333")];
    let pipeline = |parent: &Context| -> Result<BTreeMap<&str, usize>, io::Error> {
        parent.scope(|s| {
            let (paths_in, paths) = bounded(0);
            let (sums_in, sums) = bounded(0);
            s.spawn(move |ctx| {
                for text in texts {
                    ctx.send(&paths_in, text)?;
                }
                Ok(())
            });
            for _ in 0..20 {
                let (paths, sums_in) = (paths.clone(), sums_in.clone());
                s.spawn(move |ctx| {
                    for (path, text) in ctx.iter(&paths) {
                        ctx.send(&sums_in, (path, text.len()))?;
                    }
                    Ok(ctx.check()?)
                });
            }
            drop((paths, sums_in));
            Ok(sums.iter().collect())
        })
    };
    let sums = pipeline(&Context::background()).unwrap();
    assert_eq!(sums, BTreeMap::from([("a", 1), ("b", 2), ("c", 3)]));

    let (done, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let err = pipeline(&done).unwrap_err();
    assert_eq!(err.to_string(), "context canceled");
}

/// From the package `semaphore`, with the limit of a group for a semaphore.
#[test]
fn example_worker_pool() {
    let ended: io::Result<Vec<u32>> = Context::background().scope(|s| {
        s.set_limit(thread::available_parallelism().map_or(2, usize::from));
        let steps: Vec<_> = (1..=32).map(|n| s.spawn(move |_| Ok(collatz(n)))).collect();
        Ok(steps.iter().map(receive).collect())
    });
    assert_eq!(
        ended.unwrap(),
        [
            0, 1, 7, 2, 5, 8, 16, 3, 19, 6, 14, 9, 9, 17, 17, 4, 12, 20, 20, 7, 7, 15, 15, 10, 23,
            10, 111, 18, 18, 18, 106, 5
        ]
    );
}

/// How many steps it takes from `n` to 1.
fn collatz(mut n: u64) -> u32 {
    let mut steps = 0;
    while n != 1 {
        n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}
