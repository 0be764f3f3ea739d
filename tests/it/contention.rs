//! A contended context: one from which many threads derive all the time. It behaves like any
//! other.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use go_context::{CancelCauseFunc, CancelFunc, Context, Error, Key};
use support::threads::{contend, on_small_stack, CONTENDED_AFTER};
use support::{assert_ran, callback, is_closed, is_open, without_times, Counted, Name, Tag, HOUR};

#[derive(PartialEq, Eq)]
struct Kept(usize);

impl Key for Kept {
    type Value = Counted;
}

/// Runs `f` on a new thread, and waits for it.
fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|s| s.spawn(f).join().unwrap())
}

/// The results of `f` on this thread and on many others.
fn on_many<T: Send>(f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let others = (1..80).map(|number| on_a_thread(|| f(number)));
    [f(0)].into_iter().chain(others).collect()
}

/// All ways to derive a context.
fn derive(ctx: &Context, kind: usize, at: Instant) -> Context {
    match kind % 9 {
        0 => ctx.with_cancel().0,
        1 => ctx.with_cancel_cause().0,
        2 => ctx.with_deadline(at).0,
        3 => ctx.with_timeout(Duration::MAX).0,
        4 => ctx.with_value(Tag(9), kind),
        5 => ctx.without_cancel(),
        6 => ctx.merge(&Context::todo()).0,
        7 => Context::todo().merge(ctx).0,
        _ => ctx.with_value(Tag(0), kind).with_cancel().0,
    }
}

fn text(ctx: &Context) -> String {
    without_times(&ctx.to_string())
}

#[test]
fn contended_parent_derives_same_children() {
    let near = Instant::now() + HOUR;
    let far = Instant::now() + 2 * HOUR;
    let bg = || Context::background().with_value(Tag(0), 10);
    type Root = (&'static str, Box<dyn Fn() -> Context>);
    let roots: [Root; 9] = [
        (
            "a cancel",
            Box::new(|| Context::background().with_cancel().0),
        ),
        ("below a value", Box::new(move || bg().with_cancel().0)),
        (
            "a deadline",
            Box::new(move || bg().with_deadline(near).0.with_value(Tag(1), 11)),
        ),
        (
            "a handle with values",
            Box::new(move || {
                let ctx = bg().with_value(Tag(1), 1).with_cancel().0;
                ctx.with_value(Tag(1), 11).with_value(Tag(0), 12)
            }),
        ),
        (
            "a merge",
            Box::new(move || {
                let other = Context::todo().with_value(Tag(2), 22).with_deadline(near).0;
                bg().with_cancel().0.merge(&other).0
            }),
        ),
        (
            "without cancel",
            Box::new(move || bg().with_cancel().0.without_cancel()),
        ),
        ("a root", Box::new(Context::todo)),
        ("background", Box::new(Context::background)),
        (
            "below another contended one",
            Box::new(move || {
                let ctx = bg().with_cancel().0;
                contend(&ctx);
                ctx.with_cancel().0
            }),
        ),
    ];
    for (name, root) in &roots {
        let (plain, crowded) = (root(), root());
        contend(&crowded);
        on_many(|number| {
            for (first, second) in (0..81).map(|kind| (kind % 9, kind / 9)) {
                let [one, other] =
                    [&plain, &crowded].map(|ctx| derive(&derive(ctx, first, far), second, near));
                let what = format!("{name}, {first} and {second} on thread {number}");
                assert_eq!(text(&other), text(&one), "{what}");
                assert_eq!(other.deadline(), one.deadline(), "{what}");
                assert_eq!(other.is_cancellable(), one.is_cancellable(), "{what}");
                for tag in [0, 1, 2, 9, 100] {
                    assert_eq!(other.value(&Tag(tag)), one.value(&Tag(tag)), "{what}");
                }
                assert_eq!(other.value(&Name), None);
            }
        });
        assert_eq!(text(&crowded), text(&plain));
    }
}

#[test]
fn contended_handles_keep_own_values() {
    let below = Context::background()
        .with_value(Tag(0), 1)
        .with_value(Name, "below".into());
    let (ctx, _cancel) = below.with_cancel();
    contend(&ctx);
    on_many(|number| {
        let handle = ctx.with_value(Tag(0), number).with_value(Tag(1), 7);
        // Each in turn is the first, so that they cannot be mistaken for each other.
        for _ in 0..3 {
            let (plain, _cancel) = ctx.with_cancel();
            assert_eq!(plain.value(&Tag(0)), Some(&1));
            assert_eq!(plain.value(&Tag(1)), None);
            let (own, _cancel) = handle.with_cancel();
            assert_eq!(own.value(&Tag(0)), Some(&number));
            assert_eq!(own.value(&Tag(1)), Some(&7));
            let again = own.with_value(Tag(1), 8);
            assert_eq!(again.with_cancel().0.value(&Tag(1)), Some(&8));
            for child in [&plain, &own, &again] {
                // The same value, not a copy of it.
                let name = child.value(&Name).unwrap();
                assert!(std::ptr::eq(name, below.value(&Name).unwrap()));
            }
        }
    });
}

#[test]
fn contended_cancel_reaches_all_children() {
    type End = fn(&CancelCauseFunc, &CancelCauseFunc);
    let ends: [(End, &str); 3] = [
        (|cancel, _| cancel.cancel("stop"), "stop"),
        (
            |cancel, _| drop(cancel.clone().drop_guard()),
            "context canceled",
        ),
        (|_, cancel_above| cancel_above.cancel("above"), "above"),
    ];
    for (end, cause) in ends {
        let (above, cancel_above) = Context::background().with_cancel_cause();
        let (ctx, cancel) = above.with_cancel_cause();
        contend(&ctx);
        let children = on_many(|number| {
            let (child, cancel) = match number % 3 {
                0 => ctx.with_cancel(),
                1 => ctx.with_value(Tag(1), number).with_timeout(HOUR),
                _ => ctx.with_cancel().0.with_cancel(),
            };
            let ran = (number % 2 == 0).then(|| callback(&child));
            let done = (number % 5 == 0).then(|| child.done());
            (child, cancel, ran, done)
        });
        let own = on_many(|_| ctx.with_cancel_cause());
        own.iter().for_each(|(_, cancel)| cancel.cancel("its own"));
        end(&cancel, &cancel_above);
        for (child, _, ran, done) in &children {
            assert!(done.as_ref().map_or(true, is_closed));
            assert_eq!(child.err(), Some(Error::Canceled));
            assert_eq!(child.cause().unwrap().to_string(), cause);
            assert!(Arc::ptr_eq(&child.cause().unwrap(), &ctx.cause().unwrap()));
            ran.iter().for_each(assert_ran);
        }
        for (child, _) in &own {
            assert_eq!(child.cause().unwrap().to_string(), "its own");
        }
        // A later child is done.
        for (child, cancel) in on_many(|_| ctx.with_cancel_cause()) {
            cancel.cancel("too late");
            assert_eq!(child.cause().unwrap().to_string(), cause);
            assert!(is_closed(&child.done()));
        }
    }
}

#[test]
fn contended_deadline_reaches_all_children() {
    let at = Instant::now() + Duration::from_millis(50);
    let (ctx, _cancel) = Context::background().with_deadline_cause(at, "too slow");
    contend(&ctx);
    let children = on_many(|_| ctx.with_timeout(HOUR));
    for (child, _) in &children {
        assert_eq!(child.deadline(), Some(at));
        assert_eq!(child.wait(), Error::DeadlineExceeded);
        assert_eq!(child.cause().unwrap().to_string(), "too slow");
    }
}

#[test]
fn child_cancel_leaves_contended_parent_open() {
    let (ctx, _cancel) = Context::background().with_cancel();
    contend(&ctx);
    let done = ctx.done();
    let children = on_many(|_| (ctx.with_cancel(), ctx.with_cancel()));
    for ((ended, cancel), _) in &children {
        cancel.cancel();
        assert_eq!(ended.err(), Some(Error::Canceled));
    }
    assert!(children.iter().all(|(_, (child, _))| child.err().is_none()));
    let kept: Vec<_> = children.into_iter().map(|(_, kept)| kept).collect();
    assert!(kept.iter().all(|(child, _)| is_open(&child.done())));
    drop(kept);
    assert!(is_open(&done));
    assert_eq!(ctx.err(), None);
}

#[test]
fn children_of_different_shards_can_be_merged() {
    let (ctx, cancel) = Context::background()
        .with_value(Tag(0), 1)
        .with_cancel_cause();
    contend(&ctx);
    let children = on_many(|number| ctx.with_value(Tag(1), number).with_cancel_cause());
    let pairs: Vec<_> = children
        .windows(2)
        .map(|pair| pair[0].0.merge(&pair[1].0))
        .collect();
    for (number, (merged, _)) in pairs.iter().enumerate() {
        assert_eq!(merged.err(), None);
        assert_eq!(merged.value(&Tag(0)), Some(&1));
        assert_eq!(merged.value(&Tag(1)), Some(&number));
    }
    children[1].1.cancel("one");
    for (number, (merged, _)) in pairs.iter().enumerate() {
        let ended = number < 2;
        assert_eq!(merged.err().is_some(), ended, "{number}");
    }
    let (with_its_parent, _cancel) = ctx.merge(&children[5].0);
    cancel.cancel("all");
    assert_eq!(pairs[0].0.cause().unwrap().to_string(), "one");
    assert_eq!(pairs[2].0.cause().unwrap().to_string(), "all");
    assert_eq!(with_its_parent.cause().unwrap().to_string(), "all");
}

#[test]
fn contended_merge_has_both_parents_and_values() {
    for first_ends in [true, false] {
        let bg = Context::background();
        let (first, cancel_first) = bg.with_value(Tag(0), 10).with_cancel_cause();
        let (other, cancel_other) = bg
            .with_value(Tag(0), 20)
            .with_value(Tag(1), 21)
            .with_cancel_cause();
        contend(&first);
        contend(&other);
        let (merged, _cancel) = first.merge(&other);
        contend(&merged);
        let children = on_many(|_| merged.with_cancel());
        match first_ends {
            true => cancel_first.cancel("why"),
            false => cancel_other.cancel("why"),
        }
        for (child, _) in &children {
            assert_eq!(child.value(&Tag(0)), Some(&10));
            assert_eq!(child.value(&Tag(1)), Some(&21));
            assert_eq!(child.cause().unwrap().to_string(), "why");
        }
    }
}

/// One of the handles that keep a context alive.
type Holder = Option<Box<dyn std::any::Any + Send>>;

/// All orders of `n` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    match count {
        0 => vec![vec![]],
        _ => orders(count - 1)
            .into_iter()
            .flat_map(|order| {
                (0..count).map(move |place| {
                    let mut longer = order.clone();
                    longer.insert(place, count - 1);
                    longer
                })
            })
            .collect(),
    }
}

#[test]
fn contended_context_is_cancelled_by_last_drop() {
    for (round, order) in orders(6).into_iter().enumerate() {
        let dropped: [Arc<AtomicUsize>; 2] = Default::default();
        let (above, _cancel_above) = Context::background().with_cancel();
        let (ctx, cancel) = above
            .with_value(Kept(0), Counted(dropped[0].clone()))
            .with_cancel();
        contend(&ctx);
        let (done, ran) = (ctx.done(), callback(&ctx));
        let child = on_a_thread(|| ctx.with_cancel());
        let valued = ctx.with_value(Kept(1), Counted(dropped[1].clone()));
        let of_valued = on_a_thread(|| valued.with_timeout(HOUR).0);
        if round % 2 == 0 {
            assert_eq!((child.0.err(), of_valued.err()), (None, None));
        }
        // Which of the two values each of them keeps alive.
        let mut holders: [(Holder, [bool; 2]); 6] = [
            (Some(Box::new(ctx.clone())), [true, false]),
            (Some(Box::new(ctx)), [true, false]),
            (Some(Box::new(cancel)), [false, false]),
            (Some(Box::new(child)), [true, false]),
            (Some(Box::new(valued)), [true, true]),
            (Some(Box::new(of_valued)), [true, true]),
        ];
        for &next in &order {
            assert!(is_open(&done), "{order:?}");
            assert!(ran.is_empty(), "{order:?}");
            let holder = holders[next].0.take();
            match (round + next) % 3 {
                0 => on_a_thread(|| drop(holder)),
                _ => drop(holder),
            }
            for (number, dropped) in dropped.iter().enumerate() {
                let is_seen = holders
                    .iter()
                    .any(|(holder, seen)| holder.is_some() && seen[number]);
                let expected = usize::from(!is_seen);
                let found = dropped.load(Ordering::SeqCst);
                assert_eq!(found, expected, "value {number}, after {next} of {order:?}");
            }
        }
        assert!(is_closed(&done), "{order:?}");
        assert_ran(&ran);
        assert_eq!(above.err(), None);
    }
}

#[test]
fn contended_cancelled_context_is_dropped() {
    for order in orders(4) {
        let dropped: Arc<AtomicUsize> = Arc::default();
        let (above, cancel_above) = Context::background().with_cancel();
        let of_above = above.done();
        let (ctx, cancel) = above
            .with_value(Kept(0), Counted(dropped.clone()))
            .with_cancel();
        contend(&ctx);
        let child = on_a_thread(|| ctx.with_cancel());
        let late = {
            cancel.cancel();
            on_a_thread(|| ctx.with_cancel())
        };
        drop((above, cancel_above));
        let mut holders: [Holder; 4] = [
            Some(Box::new(ctx)),
            Some(Box::new(cancel)),
            Some(Box::new(child)),
            Some(Box::new(late)),
        ];
        for next in order {
            assert!(is_open(&of_above));
            holders[next] = None;
        }
        assert!(is_closed(&of_above));
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn contended_context_in_a_value_is_dropped() {
    #[derive(PartialEq, Eq)]
    struct Session;
    impl Key for Session {
        type Value = Context;
    }
    let (session, cancel) = Context::background().with_cancel();
    contend(&session);
    let done = session.done();
    let (request, cancel_request) = Context::background()
        .with_value(Session, session)
        .with_cancel();
    contend(&request);
    let (child, cancel_child) = on_a_thread(|| request.with_cancel());
    drop((cancel, request));
    assert!(is_open(&done));
    drop((cancel_request, cancel_child));
    assert!(is_open(&done));
    drop(child);
    assert!(is_closed(&done));
}

#[test]
fn contended_chain_is_dropped_with_its_leaf() {
    let (mut ctx, mut cancel) = Context::background().with_cancel();
    let mut seen = Vec::new();
    for level in 0..20 {
        contend(&ctx);
        seen.push(ctx.done());
        (ctx, cancel) = match level % 3 {
            0 => on_a_thread(|| ctx.with_cancel()),
            1 => ctx.with_value(Tag(0), level).with_cancel(),
            _ => ctx.merge(&ctx),
        };
    }
    drop(cancel);
    assert!(seen.iter().all(is_open));
    drop(ctx);
    assert!(seen.iter().all(is_closed));
}

#[test]
fn contended_chain_drop_does_not_recurse() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let bg = Context::background();
    let mut ctx = bg.with_value(Kept(0), Counted(dropped.clone()));
    for _ in 0..1000 {
        ctx = ctx.with_cancel().0;
        contend(&ctx);
    }
    assert!(ctx.value(&Kept(0)).is_some());
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    on_small_stack(move || drop(ctx));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[test]
fn contended_value_panicking_in_drop_is_contained() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("the value fails");
        }
    }
    #[derive(PartialEq, Eq)]
    struct Failing;
    impl Key for Failing {
        type Value = Fails;
    }
    let dropped: Arc<AtomicUsize> = Arc::default();
    let (ctx, cancel) = Context::background()
        .with_value(Kept(0), Counted(dropped.clone()))
        .with_value(Failing, Fails)
        .with_value(Kept(1), Counted(dropped.clone()))
        .with_cancel();
    contend(&ctx);
    let (done, ran) = (ctx.done(), callback(&ctx));
    let child = on_a_thread(|| ctx.with_cancel());
    drop((child, cancel));
    assert!(is_open(&done));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(ctx))).is_err());
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    assert!(is_closed(&done));
    assert_ran(&ran);
}

// Many threads at once

#[test]
fn contended_cancel_loses_no_child() {
    const THREADS: usize = 4;
    for round in 0..300 {
        let (ctx, cancel) = Context::background().with_cancel_cause();
        if round % 2 == 0 {
            contend(&ctx);
        }
        let start = Barrier::new(THREADS + 1);
        thread::scope(|s| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (ctx, start) = (&ctx, &start);
                    s.spawn(move || {
                        let mut children = Vec::new();
                        start.wait();
                        for n in 0..CONTENDED_AFTER {
                            children.push(match (n + number) % 3 {
                                0 => ctx.with_cancel(),
                                1 => ctx.with_timeout(HOUR),
                                _ => ctx.with_value(Tag(0), n).with_cancel(),
                            });
                            if n % 4 == number {
                                let _ = children[n].0.done();
                            }
                        }
                        children
                    })
                })
                .collect();
            start.wait();
            for _ in 0..round * 20 {
                std::hint::spin_loop();
            }
            cancel.cancel("stop");
            for thread in threads {
                for (child, _) in thread.join().unwrap() {
                    assert_eq!(child.err(), Some(Error::Canceled), "round {round}");
                    assert_eq!(child.cause().unwrap().to_string(), "stop");
                    assert!(is_closed(&child.done()), "round {round}");
                }
            }
        });
    }
}

#[test]
fn contended_context_dropped_on_all_threads() {
    const THREADS: usize = 4;
    for round in 0..500 {
        let dropped: Arc<AtomicUsize> = Arc::default();
        let (ctx, cancel) = Context::background()
            .with_value(Kept(0), Counted(dropped.clone()))
            .with_cancel();
        let (done, ran) = (ctx.done(), callback(&ctx));
        if round % 2 == 0 {
            contend(&ctx);
        }
        let start = Barrier::new(THREADS);
        let handles: Vec<Context> = (0..THREADS).map(|_| ctx.clone()).collect();
        drop((ctx, cancel));
        thread::scope(|s| {
            for handle in handles {
                let start = &start;
                s.spawn(move || {
                    let mut last: Option<(Context, CancelFunc)> = None;
                    for _ in 0..CONTENDED_AFTER {
                        last = Some(handle.with_cancel());
                    }
                    start.wait();
                    drop(handle);
                    drop(last);
                });
            }
        });
        assert!(is_closed(&done), "round {round}");
        assert_eq!(dropped.load(Ordering::SeqCst), 1, "round {round}");
        assert_ran(&ran);
    }
}

#[test]
fn child_of_contended_done_context_is_done() {
    for _ in 0..20 {
        let (ctx, cancel) = Context::background().with_cancel();
        // The cancellation visits these first, and takes a while.
        let before: Vec<_> = (0..20_000).map(|_| ctx.with_cancel()).collect();
        assert!(before.iter().all(|(child, _)| child.err().is_none()));
        contend(&ctx);
        let ready = Barrier::new(2);
        thread::scope(|s| {
            s.spawn(|| {
                drop(ctx.with_cancel());
                ready.wait();
                while ctx.err().is_none() {
                    std::hint::spin_loop();
                }
                let (late, _cancel) = ctx.with_cancel();
                assert_eq!(late.err(), Some(Error::Canceled));
            });
            ready.wait();
            cancel.cancel();
        });
    }
}
