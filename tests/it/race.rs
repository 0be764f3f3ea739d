//! Two threads race, very often: whichever is first, nothing is lost.
//!
//! The windows of these races are a few nanoseconds, so two threads meet before each round, and from
//! round to round one of them is delayed a little more or less.

use std::hint;
use std::io::{self, Write};
use std::mem;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use go_context::crossbeam_channel::{bounded, unbounded, Receiver, RecvTimeoutError, Sender};
use go_context::{CancelFunc, Context, Error};
use support::{callback, is_closed, lock, stoppable_callback, Tag, Task, HOUR, LIMIT};

// The races' machinery

/// How far one of the two threads has come.
#[derive(Default)]
struct Progress {
    meetings: AtomicUsize,
    asleep: AtomicBool,
}

/// One of two threads that wait for each other.
struct Partner<'a> {
    mine: &'a Progress,
    others: &'a Progress,
    other: Thread,
}

impl Partner<'_> {
    fn meet(&self) {
        let turn = self.mine.meetings.load(Ordering::Relaxed) + 1;
        self.come(turn);
        let there = || self.others.meetings.load(Ordering::SeqCst) >= turn;
        // The other is most often a few nanoseconds away. If it is not, it may need the core.
        for _ in 0..500 {
            if there() {
                return;
            }
            hint::spin_loop();
        }
        self.mine.asleep.store(true, Ordering::SeqCst);
        let start = Instant::now();
        while !there() {
            thread::park_timeout(LIMIT);
            if start.elapsed() >= LIMIT {
                // A panic would wait for the other thread as well, at the end of the scope.
                let _ = io::stderr().write_all(b"a round of a race hangs\n");
                process::abort();
            }
        }
        self.mine.asleep.store(false, Ordering::SeqCst);
    }

    fn come(&self, turn: usize) {
        self.mine.meetings.store(turn, Ordering::SeqCst);
        if self.others.asleep.load(Ordering::SeqCst) {
            self.other.unpark();
        }
    }
}

/// At the end, and in a panic, the other thread must not wait any more.
impl Drop for Partner<'_> {
    fn drop(&mut self) {
        self.come(usize::MAX);
    }
}

/// How many rounds are prepared together, and checked when they have run.
const PACK: usize = 100;

/// How long a race takes at most, on a machine that is busy with other things: there a round can take a
/// thousand times as long.
const RACE: Duration = Duration::from_secs(2);

/// Runs `left` and `right` at the same time, once a round, each with what `prepare` returned for it,
/// and calls `check` with the results. Ends after so many rounds, or after `RACE`.
fn race<L, R: Send, A, B: Send>(
    rounds: usize,
    prepare: impl Fn(usize) -> (L, R),
    left: impl Fn(L) -> A,
    right: impl Fn(R) -> B + Sync,
    mut check: impl FnMut(usize, A, B),
) {
    // Both cores for one race: two races at once would only keep each other waiting.
    static TRACK: Mutex<()> = Mutex::new(());
    let _alone = lock(&TRACK);
    assert_eq!(rounds % PACK, 0);
    let progress: [CachePadded<Progress>; 2] = Default::default();
    let left_thread = thread::current();
    let (to_right, from_right) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|s| {
        let right_thread = s.spawn(|| {
            let partner = Partner {
                mine: &progress[1],
                others: &progress[0],
                other: left_thread,
            };
            for _ in 0..rounds / PACK {
                partner.meet();
                let pack = mem::take(&mut *lock(&to_right));
                if pack.is_empty() {
                    return; // the left thread has panicked, or the time is over
                }
                let run = |(i, input)| {
                    partner.meet();
                    stagger(i / 10);
                    right(input)
                };
                let results: Vec<B> = pack.into_iter().enumerate().map(run).collect();
                *lock(&from_right) = results;
                partner.meet();
            }
        });
        let partner = Partner {
            mine: &progress[0],
            others: &progress[1],
            other: right_thread.thread().clone(),
        };
        let start = Instant::now();
        let in_time = |first: &usize| *first == 0 || start.elapsed() < RACE;
        for first in (0..rounds).step_by(PACK).take_while(in_time) {
            let (mine, others): (Vec<L>, Vec<R>) = (first..first + PACK).map(&prepare).unzip();
            *lock(&to_right) = others;
            partner.meet();
            let run = |(i, input)| {
                partner.meet();
                stagger(first + i);
                left(input)
            };
            let results: Vec<A> = mine.into_iter().enumerate().map(run).collect();
            partner.meet();
            let others = mem::take(&mut *lock(&from_right));
            assert_eq!(others.len(), PACK, "the right thread has panicked");
            for (i, (left, right)) in results.into_iter().zip(others).enumerate() {
                check(first + i, left, right);
            }
        }
    });
}

/// Delays a thread by about as much as one step of its race takes, or less.
fn stagger(round: usize) {
    for _ in 0..round % 32 {
        hint::spin_loop();
    }
}

/// Counts which side was first, to show that there was a race at all. On a single core, or a busy one,
/// there may be none.
#[derive(Default)]
struct Outcomes([usize; 2]);

impl Outcomes {
    fn count(&mut self, left_first: bool) {
        self.0[usize::from(left_first)] += 1;
    }

    fn assert_both(&self) {
        let total: usize = self.0.iter().sum();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        assert!(
            cores == 1 || total < 50_000 || self.0.iter().all(|&count| count > 0),
            "{:?}",
            self.0
        );
    }
}

/// Calls a function at the end, even in a panic.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// What the callback that sends to `ran` has observed, or `None` if it did not run. Waits until it is
/// dropped, so that it cannot run any more.
#[track_caller]
fn found<T>(ran: &Receiver<T>) -> Option<T> {
    let next = || match ran.recv_timeout(LIMIT) {
        Ok(found) => Some(found),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("a function neither runs nor goes"),
    };
    let found = next()?;
    assert!(next().is_none(), "a function ran twice");
    Some(found)
}

// The races

#[test]
fn child_derived_during_parent_cancel_is_done() {
    let mut outcomes = Outcomes::default();
    race(
        300_000,
        |round| {
            let (parent, cancel) = Context::background().with_cancel_cause();
            // With a channel the cancel takes another path, and more time.
            let done = (round % 3 == 0).then(|| parent.done());
            let for_right = (parent.clone(), round);
            ((parent, cancel, done, round), for_right)
        },
        |(parent, cancel, done, round)| {
            match round % 2 {
                0 => cancel.cancel(Error::DeadlineExceeded),
                _ => drop(cancel.drop_guard()),
            }
            (parent, done)
        },
        |(parent, round)| {
            let (child, cancel) = match round / 2 % 4 {
                0 => parent.with_cancel(),
                1 => parent.with_value(Tag(0), round).with_cancel(),
                2 => parent.with_timeout(HOUR),
                _ => {
                    let (middle, _cancel) = parent.with_cancel();
                    middle.with_cancel()
                }
            };
            (child.err().is_some(), child, cancel)
        },
        |round, (parent, done), (born_done, child, _cancel)| {
            outcomes.count(born_done);
            assert!(done.map_or(true, |done| is_closed(&done)));
            assert_eq!(child.err(), Some(Error::Canceled), "round {round}");
            let cause = child.cause().unwrap();
            let expected = [Error::DeadlineExceeded, Error::Canceled][round % 2];
            assert_eq!(cause.downcast_ref(), Some(&expected), "round {round}");
            assert!(
                Arc::ptr_eq(&cause, &parent.cause().unwrap()),
                "round {round}"
            );
            if round % 16 == 0 {
                assert!(is_closed(&child.done()), "round {round}");
            }
        },
    );
    outcomes.assert_both();
}

#[test]
fn drop_racing_parent_cancel_is_done_once() {
    let mut outcomes = Outcomes::default();
    race(
        100_000,
        |round| {
            let (parent, cancel) = Context::background().with_cancel();
            let (child, cancel_child) = if round % 2 == 0 {
                parent.with_cancel()
            } else {
                parent.with_timeout(HOUR)
            };
            let done = child.done();
            let after_func = (round % 4 == 0).then(|| stoppable_callback(&child));
            let sibling = parent.with_cancel();
            assert_eq!(sibling.0.err(), None);
            (
                (parent, cancel, sibling),
                (child, cancel_child, done, after_func),
            )
        },
        |(parent, cancel, sibling)| {
            cancel.cancel();
            (parent, sibling)
        },
        |(child, cancel_child, done, after_func)| {
            let open = child.err().is_none();
            drop((child, cancel_child));
            (open, done, after_func)
        },
        |round, (parent, (sibling, _cancel)), (open, done, after_func)| {
            outcomes.count(open);
            assert!(is_closed(&done), "round {round}");
            assert_eq!(parent.err(), Some(Error::Canceled));
            assert_eq!(sibling.err(), Some(Error::Canceled));
            if let Some((stop, ran)) = after_func {
                assert!(!stop.stop(), "round {round}");
                assert_eq!(found(&ran), Some(()), "round {round}");
            }
        },
    );
    outcomes.assert_both();
}

#[test]
fn cancel_waits_for_descendants_being_dropped() {
    // Other threads that add and remove timers delay the drop in the middle.
    let over = AtomicBool::new(false);
    let others = || {
        while !over.load(Ordering::Relaxed) {
            for _ in 0..50 {
                let (ctx, _cancel) = Context::background().with_timeout(HOUR);
                let _done = ctx.done(); // or there would be no timer
            }
            thread::sleep(Duration::from_micros(30));
        }
    };
    thread::scope(|s| {
        s.spawn(others);
        s.spawn(others);
        let _over = OnDrop(|| over.store(true, Ordering::Relaxed));
        race(
            100_000,
            |round| {
                let (parent, cancel) = Context::background().with_cancel();
                let (child, cancel_child) = parent.with_timeout(HOUR);
                let done = child.done();
                let stop = (round % 2 == 0).then(|| child.after_func(|| ()));
                ((parent, cancel, done, stop), (child, cancel_child))
            },
            |(parent, cancel, done, stop)| {
                cancel.cancel();
                let stopped = stop.is_some_and(|stop| stop.stop());
                (is_closed(&done), stopped, parent)
            },
            drop,
            |round, (closed, stopped, _parent), ()| {
                assert!(closed, "round {round}");
                assert!(!stopped, "round {round}");
            },
        );
    });
}

#[test]
fn stop_racing_cancel_stops_or_runs() {
    let mut outcomes = Outcomes::default();
    race(
        100_000,
        |round| {
            let (parent, cancel) = Context::background().with_cancel();
            let ctx = match round % 3 {
                0 => parent,
                1 => parent.with_value(Tag(0), round),
                _ => parent.with_timeout(HOUR).0,
            };
            let (stop, ran) = stoppable_callback(&ctx);
            ((ctx, cancel, ran), stop)
        },
        |(ctx, cancel, ran)| {
            cancel.cancel();
            (ctx, ran)
        },
        |stop| (stop.stop(), stop),
        |round, (_ctx, ran), (stopped, stop)| {
            outcomes.count(stopped);
            assert!(!stop.stop(), "round {round}");
            assert_eq!(found(&ran).is_some(), !stopped, "round {round}");
        },
    );
    outcomes.assert_both();
}

#[test]
fn stop_after_seen_done_returns_false() {
    race(
        100_000,
        |round| {
            let (ctx, cancel) = Context::background().with_cancel();
            let done = (round % 2 == 0).then(|| ctx.done());
            let (stop, ran) = stoppable_callback(&ctx);
            ((cancel, ran), (ctx, done, stop))
        },
        |(cancel, ran)| {
            cancel.cancel();
            ran
        },
        |(ctx, done, stop)| {
            while !done.as_ref().map_or(ctx.err().is_some(), is_closed) {
                hint::spin_loop();
            }
            stop.stop()
        },
        |round, ran, stopped| {
            assert!(!stopped, "round {round}");
            assert_eq!(found(&ran), Some(()), "round {round}");
        },
    );
}

#[test]
fn after_func_during_cancel_runs_once() {
    race(
        100_000,
        |round| {
            let (ctx, cancel) = Context::background().with_cancel();
            let done = (round % 2 == 0).then(|| ctx.done());
            if round % 4 == 1 {
                assert_eq!(ctx.err(), None); // otherwise this registers it as well
            }
            ((cancel, done), ctx)
        },
        |(cancel, done)| {
            cancel.cancel();
            done
        },
        |ctx| {
            let (run, ran) = bounded(2);
            let inside = ctx.clone();
            let stop = ctx.after_func(move || {
                let found = (inside.err(), is_closed(&inside.done()));
                run.send(found).unwrap();
            });
            (ran, stop, ctx)
        },
        |round, _done, (ran, stop, _ctx)| {
            assert!(!stop.stop(), "round {round}");
            let done = (Some(Error::Canceled), true);
            assert_eq!(found(&ran), Some(done), "round {round}");
        },
    );
}

#[test]
fn done_created_during_cancel_is_closed() {
    let mut outcomes = Outcomes::default();
    race(
        200_000,
        |round| {
            let (parent, cancel) = Context::background().with_cancel();
            let (child, cancel_child) = parent.with_cancel();
            if round % 4 < 2 {
                assert_eq!(child.err(), None); // otherwise this registers it as well
            }
            let ctx = [parent, child][round % 2].clone();
            ((cancel, cancel_child), ctx)
        },
        |(cancel, cancel_child)| {
            cancel.cancel();
            cancel_child
        },
        |ctx| {
            let done = ctx.done();
            let again = ctx.done();
            // An error seen before `done` is called implies a closed channel, and the reverse.
            let err = ctx.err();
            let closed = is_closed(&done);
            let err_after = ctx.err();
            (ctx, done, again, err, closed, err_after)
        },
        |round, _cancel_child, (ctx, done, again, err, closed, err_after)| {
            outcomes.count(closed);
            assert!(closed || err.is_none(), "round {round}");
            assert!(err_after.is_some() || !closed, "round {round}");
            assert!(is_closed(&done), "round {round}");
            assert!(done.same_channel(&again), "round {round}");
            assert!(is_closed(&ctx.done()), "round {round}");
        },
    );
    outcomes.assert_both();
}

#[test]
fn err_some_implies_done_closed() {
    race(
        200_000,
        |round| {
            let (parent, cancel) = Context::background().with_cancel_cause();
            let (child, cancel_child) = parent.with_cancel();
            let ctx = [parent, child][round % 2].clone();
            let done = ctx.done();
            ((cancel, cancel_child), (ctx, done))
        },
        |(cancel, cancel_child)| {
            cancel.cancel(Error::DeadlineExceeded);
            cancel_child
        },
        |(ctx, done)| {
            // Once it has seen one of the two, it must see the other and the cause as well.
            let (mut err, mut closed) = (None, false);
            while err.is_none() && !closed {
                err = ctx.err();
                closed = is_closed(&done);
            }
            (err.is_none() || closed, ctx.err(), ctx.cause())
        },
        |round, _cancel_child, (agreed, err, cause)| {
            assert!(agreed, "round {round}: an error, and yet not done");
            assert_eq!(err, Some(Error::Canceled), "round {round}");
            let cause = cause.expect("what is done has a cause");
            assert_eq!(cause.downcast_ref(), Some(&Error::DeadlineExceeded));
        },
    );
}

#[test]
fn two_cancels_both_return_with_all_done() {
    let mut outcomes = Outcomes::default();
    let look = |cancel: CancelFunc, seen: [Receiver<()>; 2]| {
        cancel.cancel();
        seen.iter().all(is_closed)
    };
    race(
        200_000,
        |round| {
            let (parent, cancel) = Context::background().with_cancel();
            let (child, cancel_child) = parent.with_cancel();
            let (grandchild, cancel_grandchild) = child.with_timeout(HOUR);
            // The same context from both sides, or the context and its parent.
            let (left, right) = match round % 3 {
                0 => (cancel.clone(), cancel),
                1 => (cancel, cancel_child),
                _ => (cancel_child, cancel),
            };
            let seen = [child.done(), grandchild.done()];
            let all = (parent, child, grandchild, cancel_grandchild);
            ((left, seen.clone(), all), (right, seen))
        },
        |(cancel, seen, all)| (look(cancel, seen), all),
        |(cancel, seen)| {
            let first = !is_closed(&seen[1]);
            (look(cancel, seen), first)
        },
        |round, (left, _all), (right, right_first)| {
            outcomes.count(right_first);
            assert!(left && right, "round {round}");
        },
    );
    outcomes.assert_both();
}

// First calls: contexts that have not been registered before

#[test]
fn first_call_racing_cancel_above_is_done() {
    let mut outcomes = Outcomes::default();
    race(
        300_000,
        |round| {
            let (top, cancel) = Context::background().with_cancel_cause();
            // With a channel, or with a registered child, the cancel takes another path.
            let done = (round % 3 == 0).then(|| top.done());
            let sibling = (round % 5 == 0).then(|| {
                let (sibling, cancel) = top.with_cancel();
                assert_eq!(sibling.err(), None);
                (sibling, cancel)
            });
            let (middle, cancel_middle) = top.with_cancel();
            let (leaf, cancel_leaf) = match round % 2 {
                0 => top.with_cancel(),
                _ => middle.with_value(Tag(0), round).with_cancel(),
            };
            let looked_at = (round % 7 == 0).then(|| middle.err());
            assert_eq!(looked_at.flatten(), None);
            let others = (middle, cancel_middle, cancel_leaf, sibling);
            let held = (top.clone(), leaf.clone(), done.clone(), others);
            ((top, cancel, round, held), (leaf, done, round))
        },
        |(top, cancel, round, held)| {
            match round % 4 {
                0 => drop(cancel.drop_guard()),
                _ => cancel.cancel(Error::DeadlineExceeded),
            }
            // Whatever observes it, all is done when the cancel has returned.
            (top.err().is_some() && held.1.err().is_some(), held)
        },
        |(leaf, above, round)| match round % 4 {
            0 => (leaf.err().is_some(), above.map(|done| is_closed(&done))),
            1 => (leaf.cause().is_some(), above.map(|done| is_closed(&done))),
            2 => (is_closed(&leaf.done()), above.map(|done| is_closed(&done))),
            _ => {
                let (child, _cancel) = leaf.with_timeout(HOUR);
                (child.err().is_some(), above.map(|done| is_closed(&done)))
            }
        },
        |round, (over, (top, leaf, _done, others)), (found_done, above_closed)| {
            outcomes.count(found_done);
            assert!(over, "round {round}");
            let is_right = !found_done || above_closed != Some(false);
            assert!(is_right, "round {round}: done before the one above");
            for ctx in [&leaf, &others.0] {
                assert_eq!(ctx.err(), Some(Error::Canceled), "round {round}");
                let same = Arc::ptr_eq(&ctx.cause().unwrap(), &top.cause().unwrap());
                assert!(same, "round {round}");
                assert!(is_closed(&ctx.done()), "round {round}");
            }
        },
    );
    outcomes.assert_both();
}

#[test]
fn own_cancel_racing_cancel_above_leaves_one_cause() {
    let mut outcomes = Outcomes::default();
    race(
        200_000,
        |round| {
            let (top, cancel_top) = Context::background().with_cancel_cause();
            let (middle, _cancel) = top.with_cancel();
            let parent = [&top, &middle][round % 2];
            let (child, cancel) = parent.with_cancel_cause();
            let (below, _cancel) = child.with_cancel();
            let waits = (round % 3 == 0).then(|| top.done());
            let all = [top, middle, child, below];
            ((cancel_top, all.clone(), waits), (cancel, all))
        },
        |(cancel_top, all, _waits)| {
            cancel_top.cancel("from above");
            assert!(all.iter().rev().all(|ctx| ctx.err().is_some()));
            all
        },
        |(cancel, [.., child, below])| {
            cancel.cancel("its own");
            below.err().is_some() && child.err().is_some()
        },
        |round, [top, middle, child, below], over| {
            assert!(over, "round {round}");
            let [top, middle, child, below] = [top, middle, child, below].map(|ctx| ctx.cause());
            let (child, below) = (child.unwrap(), below.unwrap());
            assert!(Arc::ptr_eq(&child, &below), "round {round}");
            let is_own = child.to_string() == "its own";
            outcomes.count(is_own);
            let top = top.unwrap();
            assert!(
                is_own || Arc::ptr_eq(&child, &top),
                "round {round}: {child}"
            );
            assert_eq!(top.to_string(), "from above");
            assert!(Arc::ptr_eq(&middle.unwrap(), &top), "round {round}");
        },
    );
    outcomes.assert_both();
}

#[test]
fn merge_racing_cancel_of_a_parent_is_done() {
    let mut outcomes = Outcomes::default();
    race(
        300_000,
        |round| {
            let (first, cancel_first) = Context::background().with_cancel_cause();
            let (other, cancel_other) = Context::background().with_cancel_cause();
            if round % 2 == 0 {
                assert_eq!((first.err(), other.err()), (None, None));
            }
            let (ends, stays) = match round / 2 % 2 {
                0 => (cancel_first, cancel_other),
                _ => (cancel_other, cancel_first),
            };
            ((ends, first.clone()), (first, other, stays))
        },
        |(cancel, first)| {
            cancel.cancel("why");
            first
        },
        |(first, other, stays)| {
            let (merged, cancel) = first.merge(&other);
            (merged.err().is_some(), merged, (other, cancel, stays))
        },
        |round, _first, (born_done, merged, _others)| {
            outcomes.count(born_done);
            assert_eq!(merged.err(), Some(Error::Canceled), "round {round}");
            assert_eq!(merged.cause().unwrap().to_string(), "why");
            assert!(is_closed(&merged.done()), "round {round}");
        },
    );
    outcomes.assert_both();
}

#[test]
fn two_first_calls_register_all_callbacks() {
    race(
        60_000,
        |round| {
            let (top, cancel) = Context::background().with_cancel();
            let (middle, cancel_middle) = top.with_cancel();
            let (leaf, cancel_leaf) = middle.with_cancel();
            let end = match round % 3 {
                0 => cancel.clone(),
                1 => cancel_middle.clone(),
                _ => cancel_leaf.clone(),
            };
            // The same context from both sides, or a context and an ancestor.
            let left = match round / 3 % 2 {
                0 => leaf.clone(),
                _ => middle.clone(),
            };
            let cancels = [cancel, cancel_middle, cancel_leaf];
            ((left, round, end, cancels), (leaf, round))
        },
        |(ctx, round, end, cancels)| {
            let seen = (round / 6 % 2 == 0).then(|| ctx.done());
            let (stop, ran) = stoppable_callback(&ctx);
            (ctx, seen, stop, ran, end, cancels)
        },
        |(leaf, _)| {
            let (stop, ran) = stoppable_callback(&leaf);
            let done = leaf.done();
            (leaf, stop, ran, done)
        },
        |round, (ctx, seen, stop, ran, end, _cancels), (leaf, stop_leaf, ran_leaf, done)| {
            assert_eq!((ctx.err(), leaf.err()), (None, None), "round {round}");
            assert!(ran.is_empty() && ran_leaf.is_empty(), "round {round}");
            end.cancel();
            assert_eq!(leaf.err(), Some(Error::Canceled), "round {round}");
            assert!(is_closed(&done), "round {round}");
            assert!(!stop_leaf.stop(), "round {round}");
            assert_eq!(found(&ran_leaf), Some(()), "round {round}");
            if ctx.err().is_some() {
                assert!(seen.map_or(true, |done| is_closed(&done)), "round {round}");
                assert_eq!(found(&ran), Some(()), "round {round}");
            }
            drop((stop, ctx));
        },
    );
}

#[test]
fn first_call_racing_own_cancel_agrees() {
    let mut outcomes = Outcomes::default();
    let (lasting, _cancel) = Context::background().with_cancel();
    race(
        200_000,
        |round| {
            let root = Context::background();
            let parent = [&root, &lasting][round / 2 % 2];
            let (ctx, cancel) = parent.with_cancel_cause();
            ((cancel, ctx.clone(), round), (ctx, round))
        },
        |(cancel, ctx, round)| {
            match round % 2 {
                0 => cancel.cancel("stop"),
                _ => drop(cancel.drop_guard()),
            }
            let first = ctx.cause();
            assert_eq!(ctx.err(), Some(Error::Canceled));
            (first.unwrap(), ctx)
        },
        |(ctx, round)| {
            if round % 3 == 0 {
                let ran = callback(&ctx);
                return (ctx.err().is_some(), None, Some(ran), None);
            }
            let done = ctx.done();
            let err = ctx.err();
            let closed = is_closed(&done);
            assert!(closed || err.is_none());
            (err.is_some(), ctx.cause(), None, Some(done))
        },
        |round, (cause, ctx), (found_done, found_cause, ran, done)| {
            outcomes.count(found_done);
            let same = found_cause.map_or(true, |found| Arc::ptr_eq(&found, &cause));
            assert!(same, "round {round}");
            assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &cause), "round {round}");
            let text = ["stop", "context canceled"][round % 2];
            assert_eq!(cause.to_string(), text, "round {round}");
            assert!(done.map_or(true, |done| is_closed(&done)), "round {round}");
            if let Some(ran) = ran {
                assert_eq!(found(&ran), Some(()), "round {round}");
            }
        },
    );
    outcomes.assert_both();
    assert_eq!(lasting.err(), None);
}

#[test]
fn first_call_racing_drops_sees_ancestors() {
    race(
        200_000,
        |round| {
            let (top, cancel) = Context::background().with_cancel_cause();
            let (middle, cancel_middle) = top.with_cancel();
            let (leaf, cancel_leaf) = middle.with_cancel();
            let others = (middle, cancel_middle, leaf.clone(), cancel_leaf);
            ((others, top, cancel), (leaf, round))
        },
        |(others, top, cancel)| {
            drop(others);
            (top, cancel)
        },
        |(leaf, round)| {
            let done = (round % 2 == 0).then(|| leaf.done());
            (leaf.err(), leaf, done)
        },
        |round, (top, cancel), (err, leaf, done)| {
            assert_eq!(err, None, "round {round}");
            assert!(!done.as_ref().is_some_and(is_closed), "round {round}");
            match round % 4 {
                0 | 1 => {
                    cancel.cancel("from above");
                    let cause = leaf.cause().unwrap();
                    assert!(Arc::ptr_eq(&cause, &top.cause().unwrap()));
                }
                _ => {
                    drop(leaf);
                    assert_eq!(top.err(), None);
                }
            }
            assert!(done.map_or(true, |done| is_closed(&done)), "round {round}");
        },
    );
}

// Channels of several threads

/// A third thread, which runs closures.
struct Helper(Sender<Task>);

impl Helper {
    fn new() -> Helper {
        let (tasks, todo) = unbounded::<Task>();
        thread::spawn(move || todo.iter().for_each(|task| task()));
        Helper(tasks)
    }

    fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, receiver) = bounded(1);
        let task = move || result.send(task()).unwrap();
        self.0.send(Box::new(task)).unwrap();
        receiver.recv_timeout(LIMIT).expect("the helper hangs")
    }
}

/// Contexts by the hundred, so that the helper is seldom needed.
fn pack_of<T: Send + 'static>(
    helper: &Helper,
    make: impl Fn() -> T + Copy + Send + 'static,
) -> impl Fn() -> T + '_ {
    let stock = Mutex::new(Vec::new());
    move || {
        let mut stock = lock(&stock);
        if stock.is_empty() {
            *stock = helper.run(move || (0..PACK).map(|_| make()).collect());
        }
        stock.pop().unwrap()
    }
}

#[test]
fn per_thread_done_channels_close_together() {
    let (helper, another) = (Helper::new(), Helper::new());
    // The first two channels are those of two other threads.
    let make = pack_of(&helper, || {
        let (ctx, cancel) = Context::background().with_cancel_cause();
        let first = ctx.done();
        (ctx, cancel, first)
    });
    let with_two = Mutex::new(Vec::new());
    let next = || {
        let mut with_two = lock(&with_two);
        if with_two.is_empty() {
            let all: Vec<_> = (0..PACK).map(|_| make()).collect();
            *with_two = another.run(move || {
                let second = |(ctx, cancel, first): (Context, _, _)| {
                    let second = ctx.done();
                    (ctx, cancel, first, second)
                };
                all.into_iter().map(second).collect()
            });
        }
        with_two.pop().unwrap()
    };
    race(
        200_000,
        |round| {
            let (ctx, cancel, first, second) = next();
            let third = ctx.done();
            let seen = [first, second, third];
            ((cancel, ctx.clone(), seen.clone()), (ctx, seen, round))
        },
        |(cancel, ctx, seen)| {
            cancel.cancel("stop");
            (ctx, seen.iter().all(is_closed))
        },
        |(ctx, seen, round)| {
            let (child, _cancel) = ctx.with_cancel();
            while !match round % 6 {
                0 => ctx.err().is_some(),
                1 => child.err().is_some(),
                2 => is_closed(&ctx.done()),
                n => is_closed(&seen[n - 3]),
            } {
                hint::spin_loop();
            }
            let agreed = round % 6 > 1 || seen.iter().all(is_closed);
            let cause = ctx.cause().map(|cause| cause.to_string());
            let agreed = agreed && cause.as_deref() == Some("stop");
            (agreed && seen.iter().all(is_closed), ctx)
        },
        |round, (ctx, returned), (agreed, _)| {
            assert!(returned && agreed, "round {round}");
            assert!(is_closed(&ctx.done()), "round {round}");
        },
    );
}

#[test]
fn child_is_done_after_all_channels_of_parent() {
    let helper = Helper::new();
    let make = pack_of(&helper, || {
        let (ctx, cancel) = Context::background().with_cancel_cause();
        let first = ctx.done();
        (ctx, cancel, first)
    });
    let mut outcomes = Outcomes::default();
    race(
        200_000,
        |round| {
            let (ctx, cancel, first) = make();
            let seen = [first, ctx.done()];
            let (child, cancel_child) = ctx.with_cancel();
            ((cancel, cancel_child), (ctx, child, seen, round))
        },
        |(cancel, cancel_child)| {
            cancel.cancel("stop");
            cancel_child
        },
        |(ctx, child, seen, round)| {
            let over = match round % 4 {
                0 => child.err().is_some(),
                1 => child.cause().is_some(),
                2 => is_closed(&child.done()),
                _ => ctx.with_timeout(HOUR).0.err().is_some(),
            };
            (over, seen.iter().all(is_closed))
        },
        |round, _cancel, (over, closed)| {
            outcomes.count(over);
            assert!(closed || !over, "round {round}");
        },
    );
    outcomes.assert_both();
}

#[test]
fn callback_sees_channels_of_all_threads_closed() {
    let helper = Helper::new();
    let make = pack_of(&helper, || {
        let (ctx, cancel) = Context::background().with_cancel();
        let first = ctx.done();
        (ctx, cancel, first)
    });
    race(
        50_000,
        |_| {
            let (ctx, cancel, first) = make();
            let seen = [first, ctx.done()];
            (cancel, (ctx, seen))
        },
        |cancel| cancel.cancel(),
        |(ctx, seen)| {
            let (run, ran) = bounded(2);
            let inside = ctx.clone();
            ctx.after_func(move || {
                let all = seen.iter().chain([&inside.done()]).all(is_closed);
                run.send((all, inside.err())).unwrap();
            });
            (ran, ctx)
        },
        |round, (), (ran, _ctx)| {
            let done = (true, Some(Error::Canceled));
            assert_eq!(found(&ran), Some(done), "round {round}");
        },
    );
}

// Contended contexts

fn with_a_first_child() -> (Context, CancelFunc) {
    let (ctx, cancel) = Context::background().with_cancel();
    drop(ctx.with_cancel());
    (ctx, cancel)
}

/// A context from which children have been derived by more than one thread.
fn crowded(make: &impl Fn() -> (Context, CancelFunc)) -> (Context, CancelFunc) {
    let (ctx, cancel) = make();
    for _ in 0..CONTENDED_AFTER {
        drop(ctx.with_cancel());
    }
    (ctx, cancel)
}

/// More than make a context shard its table of children.
const CONTENDED_AFTER: usize = 50;

#[test]
fn contended_last_handle_and_child_drop_at_once() {
    let helper = Helper::new();
    let make = pack_of(&helper, with_a_first_child);
    race(
        20_000,
        |round| {
            let (ctx, cancel) = crowded(&make);
            let (child, cancel_child) = ctx.with_cancel();
            let (other, cancel_other) = child.with_timeout(HOUR);
            if round % 2 == 0 {
                assert_eq!(other.err(), None);
            }
            let ran = callback(&ctx);
            let seen = [ctx.done(), child.done()];
            // The cancel function is dropped on one side or on the other.
            let mut late = Some(cancel);
            let early = if round % 3 == 0 { late.take() } else { None };
            let left = (ctx, early, seen, ran);
            (left, (child, cancel_child, other, cancel_other, late))
        },
        |(ctx, early, seen, ran)| {
            drop((ctx, early));
            (seen, ran)
        },
        drop,
        |round, (seen, ran), ()| {
            assert!(seen.iter().all(is_closed), "round {round}");
            assert_eq!(found(&ran), Some(()), "round {round}");
        },
    );
}

#[test]
fn contended_last_two_handles_drop_at_once() {
    let helper = Helper::new();
    let make = pack_of(&helper, with_a_first_child);
    race(
        20_000,
        |round| {
            let (ctx, cancel) = crowded(&make);
            let seen = ctx.done();
            let ran = callback(&ctx);
            let other = match round % 2 {
                0 => ctx.clone(),
                _ => ctx.with_value(Tag(0), round),
            };
            drop(cancel);
            ((ctx, seen, ran), (other, round))
        },
        |(ctx, seen, ran)| {
            drop(ctx);
            (seen, ran)
        },
        |(other, round)| {
            if round % 3 == 0 {
                drop(other.with_cancel());
            }
            drop(other);
        },
        |round, (seen, ran), ()| {
            assert!(is_closed(&seen), "round {round}");
            assert_eq!(found(&ran), Some(()), "round {round}");
        },
    );
}

#[test]
fn child_derived_during_contended_cancel_is_done() {
    let mut outcomes = Outcomes::default();
    let helper = Helper::new();
    let make = pack_of(&helper, with_a_first_child);
    race(
        20_000,
        |_| {
            // The right thread has not derived from it yet, so it is the first to need a slot.
            let (ctx, cancel) = crowded(&make);
            ((ctx.clone(), cancel), ctx)
        },
        |(ctx, cancel)| {
            cancel.cancel();
            ctx
        },
        |ctx| {
            let (child, cancel) = ctx.with_cancel();
            let (below, cancel_below) = child.with_cancel();
            let over = below.err().is_some();
            (over, [child, below], (cancel, cancel_below))
        },
        |round, parent, (over, children, _cancels)| {
            outcomes.count(over);
            for child in &children {
                assert_eq!(child.err(), Some(Error::Canceled), "round {round}");
                assert!(is_closed(&child.done()), "round {round}");
            }
            assert_eq!(parent.err(), Some(Error::Canceled));
        },
    );
    outcomes.assert_both();
}
