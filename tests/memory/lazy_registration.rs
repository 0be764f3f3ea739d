//! An unregistered child costs its parent nothing, and one that is registered while it ends leaves
//! nothing behind.

use std::cell::RefCell;
use std::hint;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use go_context::{CancelFunc, Context};
use support::process::in_child_alone;
use support::{test_name, HOUR, LIMIT};

use crate::allocated_bytes;

/// What threads may own at the moment.
const SLACK: usize = 16 * 1024;

const CHILDREN: usize = 10_000;

type Pair = (Context, CancelFunc);

/// How much more memory is in use after `act`, and after its result has been dropped.
fn costs<T>(act: impl FnOnce() -> T) -> (usize, usize) {
    let before = allocated_bytes();
    let kept = act();
    let during = allocated_bytes().saturating_sub(before);
    drop(kept);
    (during, allocated_bytes().saturating_sub(before))
}

fn have(parent: &Context) -> Vec<Pair> {
    (0..CHILDREN).map(|_| parent.with_cancel()).collect()
}

/// Observes and ends a context of `make`'s at the same moment, very often.
fn race(
    rounds: usize,
    make: impl Fn(usize) -> Pair,
    look: impl Fn(usize, &Context) + Sync,
    end: impl Fn(usize, &CancelFunc),
) {
    let turn = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let meet = |mine: usize, round: usize| {
        turn[mine].store(round, Ordering::SeqCst);
        let mut spins = 0;
        while turn[1 - mine].load(Ordering::SeqCst) < round {
            hint::spin_loop();
            spins += 1;
            if spins % 1000 == 0 {
                thread::yield_now();
            }
        }
    };
    let stagger = |round| (0..round % 40).for_each(|_| hint::spin_loop());
    let track: Mutex<Option<Context>> = Mutex::default();
    thread::scope(|s| {
        s.spawn(|| {
            for round in 0..rounds {
                meet(1, 3 * round + 1);
                let ctx = track.lock().unwrap().take().unwrap();
                meet(1, 3 * round + 2);
                stagger(round / 40);
                look(round, &ctx);
                drop(ctx);
                meet(1, 3 * round + 3);
            }
        });
        for round in 0..rounds {
            let (ctx, cancel) = make(round);
            *track.lock().unwrap() = Some(ctx);
            meet(0, 3 * round + 1);
            meet(0, 3 * round + 2);
            stagger(round);
            end(round, &cancel);
            meet(0, 3 * round + 3);
        }
    });
}

/// Waits until each callback that holds a clone has run, because callbacks that wait for a thread
/// take memory.
fn wait_for_callbacks(pending: &Arc<()>) {
    let start = Instant::now();
    while Arc::strong_count(pending) > 1 {
        assert!(start.elapsed() < LIMIT, "a callback never runs");
        thread::yield_now();
    }
}

#[test]
fn unregistered_child_costs_parent_nothing() {
    in_child_alone(test_name!(), || {
        let (parent, _cancel) = Context::background().with_cancel();
        // So that there is a table, which is not freed as a whole.
        let (first, _cancel_first) = parent.with_cancel();
        assert_eq!(first.err(), None);

        // They are not registered: they cost as much as children of a root.
        let (alone, _) = costs(|| have(&Context::background()));
        let (unregistered, left) = costs(|| have(&parent));
        assert!(
            unregistered < alone + SLACK,
            "{unregistered} bytes, {alone} below a root"
        );
        assert!(left < SLACK, "{left} bytes left");
        // Nor does calling `err` change that, once they are done.
        let (checked, left_asked) = costs(|| {
            let children = have(&parent);
            assert!(children.iter().all(|(child, _)| child.err().is_none()));
            children
        });
        assert!(
            checked < alone + SLACK,
            "{checked} bytes, {alone} below a root"
        );
        assert!(left_asked < SLACK, "{left_asked} bytes left");
        let (seen, left) = costs(|| {
            let children = have(&parent);
            children.iter().for_each(|(child, _)| drop(child.done()));
            children
        });
        assert!(
            seen > unregistered,
            "{seen} bytes, {unregistered} unregistered"
        );
        assert!(left < SLACK + CHILDREN * 64, "{left} bytes left");

        // Those that were cancelled are not registered either.
        let (_, left) = costs(|| {
            let children = have(&parent);
            children.iter().for_each(|(_, cancel)| cancel.cancel());
            assert!(children.iter().all(|(child, _)| child.err().is_some()));
            children
        });
        assert!(left < SLACK, "{left} bytes left");

        // Unregistered deadlines have no timer.
        let timeouts = || -> Vec<Pair> {
            let bg = Context::background();
            (0..CHILDREN).map(|_| bg.with_timeout(HOUR)).collect()
        };
        let (unarmed, left) = costs(timeouts);
        assert!(
            unarmed < alone + SLACK,
            "{unarmed} bytes, {alone} below a root"
        );
        assert!(left < SLACK, "{left} bytes left");

        // One thread observes, while another cancels or drops, the context itself or an ancestor.
        let rounds = 10_000;
        let pending = Arc::new(());
        let look = |round: usize, ctx: &Context| match round / 3 % 4 {
            0 => drop(ctx.done()),
            1 => drop(ctx.cause()),
            2 => {
                let pending = pending.clone();
                ctx.after_func(move || drop(pending)).stop();
            }
            _ => drop(ctx.with_timeout(HOUR)),
        };
        let at_once: [(&str, &dyn Fn()); 2] = [
            ("its own cancel", &|| {
                race(rounds, |_| parent.with_cancel(), look, |_, c| c.cancel());
                wait_for_callbacks(&pending);
            }),
            ("a cancel above", &|| {
                let make = |_| {
                    let (middle, cancel) = parent.with_cancel();
                    (middle.with_cancel().0, cancel)
                };
                race(rounds, make, look, |_, cancel| cancel.cancel());
                wait_for_callbacks(&pending);
            }),
        ];
        for (what, act) in at_once {
            act();
            let (_, left) = costs(act);
            // Threads for callbacks may still exist, as many as there were at once.
            assert!(left < 2 * rounds, "{what}: {left} bytes left");
        }

        // Its timer is removed, whichever was first.
        let (_, left) = costs(|| {
            let make = |_| Context::background().with_timeout(HOUR);
            let look =
                |_: usize, ctx: &Context| assert!(ctx.check().is_ok() || ctx.cause().is_some());
            race(4 * rounds, make, look, |_, cancel| cancel.cancel());
        });
        assert!(left < 4 * 1024, "a timer: {left} bytes left");

        // Done children with live handles have no slot in their parent, or its table would have grown, and
        // kept its size after their drop.
        let (parent, _cancel) = Context::background().with_cancel();
        let (first, _cancel_first) = parent.with_cancel();
        assert_eq!(first.err(), None);
        let (_, left) = costs(|| {
            let kept = RefCell::new(Vec::with_capacity(2 * rounds));
            let make = |_| {
                let (child, cancel) = parent.with_cancel();
                kept.borrow_mut().push(child.clone());
                (child, cancel)
            };
            let look = |_: usize, ctx: &Context| drop(ctx.done());
            race(2 * rounds, make, look, |_, cancel| cancel.cancel());
            kept
        });
        assert!(left < 1024, "a place with the parent: {left} bytes left");
        assert_eq!(parent.err(), None);
    });
}
