//! Cancellation: how `err` and `done` agree, which cancellation wins, which contexts it reaches, and
//! when it is complete.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, TryRecvError};
use go_context::{CancelCauseFunc, CancelFunc, Cause, Context, Error};
use support::threads::{spawn, stagger, together};
use support::{assert_done, assert_open, is_closed, is_open, receive, wait, Tag, Task, HOUR};

/// Returns the text of the cause of a done context.
#[track_caller]
fn text(ctx: &Context) -> String {
    ctx.cause().expect("the context is done").to_string()
}

fn same(one: &Cause, other: &Cause) -> bool {
    Arc::ptr_eq(one, other)
}

/// A context under `parent`, with a value or a deadline of its own or without.
fn derive(parent: &Context, kind: usize) -> (Context, CancelFunc) {
    match kind % 4 {
        0 => parent.with_cancel(),
        1 => parent.with_value(Tag(0), kind).with_cancel(),
        2 => parent.with_timeout(HOUR),
        _ => {
            let (ctx, cancel) = parent.with_cancel();
            (ctx.with_value(Tag(0), kind), cancel)
        }
    }
}

// Err and Done

#[test]
fn err_and_done_agree_on_every_thread() {
    for round in 0..3_000 {
        let (root, cancel) = Context::background().with_cancel_cause();
        let (child, _cancel_child) = derive(&root, round);
        let (grandchild, _cancel_grandchild) = derive(&child, round / 4);
        let ctx = [root, child, grandchild][round % 3].clone();
        // In every other round the channel is created before the race, otherwise during it.
        let early = (round % 2 == 0).then(|| ctx.done());

        let check = |ctx: &Context| {
            assert_eq!(ctx.err(), Some(Error::Canceled));
            assert_eq!(text(ctx), "stop");
        };
        let watch_err = ctx.clone();
        let watch_done = ctx.clone();
        let watch_both = ctx.clone();
        let watch_fresh = ctx.clone();
        together(vec![
            Box::new(move || {
                stagger(round);
                cancel.cancel("stop");
            }),
            Box::new(move || {
                while watch_err.err().is_none() {
                    thread::yield_now();
                }
                assert!(is_closed(&watch_err.done()));
                assert!(early.map_or(true, |done| is_closed(&done)));
                check(&watch_err);
            }),
            Box::new(move || {
                let done = watch_done.done();
                while is_open(&done) {
                    thread::yield_now();
                }
                check(&watch_done);
            }),
            Box::new(move || {
                let done = watch_both.done();
                while {
                    let err = watch_both.err();
                    let open = is_open(&done);
                    assert!(!(open && err.is_some()), "an error, and yet not done");
                    open
                } {
                    thread::yield_now();
                }
                check(&watch_both);
            }),
            // A channel that has just been created agrees with one that was kept.
            Box::new(move || {
                while is_open(&watch_fresh.done()) {
                    thread::yield_now();
                }
                check(&watch_fresh);
            }),
        ]);
    }
}

#[test]
fn done_created_before_during_after_cancel_closes() {
    for round in 0..2_000 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (child, _cancel_child) = derive(&ctx, round);
        let before = (round % 2 == 0).then(|| child.done());

        let asked = child.clone();
        let (during, channels) = bounded(100);
        together(vec![
            Box::new(move || {
                stagger(round);
                cancel.cancel();
            }),
            Box::new(move || {
                for _ in 0..100 {
                    during.send(asked.done()).unwrap();
                }
            }),
        ]);
        let after = child.done();
        if let Some(before) = before {
            assert!(before.same_channel(&after));
        }
        // A thread always gets the same channel, however far the cancel is.
        let during: Vec<_> = channels.iter().collect();
        assert!(during.iter().all(|done| done.same_channel(&during[0])));
        assert!(during.iter().all(is_closed));
        assert!(is_closed(&after));
    }
}

#[test]
fn concurrent_first_done_calls_all_get_a_channel() {
    for _ in 0..1_000 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (got, channels) = bounded(4);
        together(Vec::from_iter((0..4).map(|_| {
            let (ctx, got) = (ctx.clone(), got.clone());
            Box::new(move || got.send([ctx.done(), ctx.done()]).unwrap()) as Task
        })));
        cancel.cancel();
        for [done, again] in channels.try_iter() {
            assert!(done.same_channel(&again));
            assert!(is_closed(&done));
        }
        assert!(is_closed(&ctx.done()));
    }
}

#[test]
fn done_is_the_same_channel_after_cancel() {
    let (asked_before, cancel) = Context::background().with_cancel();
    let before = asked_before.done();
    assert!(before.same_channel(&asked_before.done()));
    assert!(before.same_channel(&asked_before.clone().done()));
    cancel.cancel();
    assert!(before.same_channel(&asked_before.done()));

    let (asked_after, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let after = asked_after.done();
    assert!(after.same_channel(&asked_after.done()));
}

#[test]
fn cancellable_contexts_have_their_own_done() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    assert!(!parent.done().same_channel(&child.done()));
    cancel_child.cancel();
    assert!(is_closed(&child.done()));
    assert!(is_open(&parent.done()));
}

// Deriving

#[test]
fn child_derived_during_cancel_is_done() {
    for round in 0..300 {
        let (root, cancel) = Context::background().with_cancel_cause();
        // Enough descendants that the cancel takes a while.
        let tree = Tree::new(&root, 200, |i| (i - 1) / 3);
        tree.look();
        let parents: Vec<Context> = tree.spots.iter().map(|spot| spot.ctx.clone()).collect();
        let other_parents = parents.clone();

        let race = root.clone();
        let (made, children) = unbounded();
        let make = made.clone();
        together(vec![
            Box::new(move || {
                stagger(round);
                cancel.cancel("stop");
            }),
            Box::new(move || {
                while race.err().is_none() {
                    for (kind, parent) in parents.iter().enumerate() {
                        make.send(derive(parent, kind)).unwrap();
                    }
                }
                // The cancel may still be running further down.
                for (kind, parent) in parents.iter().enumerate() {
                    make.send(derive(parent, kind)).unwrap();
                }
            }),
            Box::new(move || {
                for (kind, parent) in other_parents.iter().enumerate().rev() {
                    made.send(derive(parent, kind)).unwrap();
                }
            }),
        ]);
        let cause = root.cause().unwrap();
        for (child, _cancel) in children {
            assert_done(&child, Error::Canceled, "stop");
            assert!(same(&child.cause().unwrap(), &cause));
        }
    }
}

#[test]
fn child_of_parent_seen_done_is_done() {
    for round in 0..2_000 {
        let (root, cancel) = Context::background().with_cancel_cause();
        let tree = Tree::new(&root, 20, |i| i - 1);
        if round % 2 == 0 {
            tree.look();
        }
        let parent = tree.spots[round % 20].ctx.clone();
        let by_done = parent.clone();
        together(vec![
            Box::new(move || {
                stagger(round);
                cancel.cancel("stop");
            }),
            Box::new(move || {
                while parent.err().is_none() {
                    thread::yield_now();
                }
                let (child, _cancel) = derive(&parent, round);
                assert_done(&child, Error::Canceled, "stop");
            }),
            Box::new(move || {
                wait(&by_done);
                let (child, _cancel) = derive(&by_done, round);
                assert_done(&child, Error::Canceled, "stop");
            }),
        ]);
    }
}

#[test]
fn child_of_done_parent_is_done() {
    let bg = Context::background();
    let (plain, cancel) = bg.with_cancel();
    cancel.cancel();
    let (caused, cancel) = bg.with_cancel_cause();
    cancel.cancel("stop");
    let (late, _cancel) = bg.with_timeout(Duration::ZERO);
    let (late_caused, _cancel) = bg.with_timeout_cause(Duration::ZERO, "too slow");
    let (below, _cancel) = caused.with_cancel();
    let parents = [
        (plain, Error::Canceled, "context canceled"),
        (caused.clone(), Error::Canceled, "stop"),
        (below, Error::Canceled, "stop"),
        (caused.with_value(Tag(0), 1), Error::Canceled, "stop"),
        (late, Error::DeadlineExceeded, "context deadline exceeded"),
        (late_caused, Error::DeadlineExceeded, "too slow"),
    ];
    for (parent, err, cause) in parents {
        let soon = Instant::now() + HOUR;
        let long_ago = Instant::now();

        let (child, cancel) = parent.with_cancel_cause();
        assert_done(&child, err, cause);
        cancel.cancel("later");
        assert_done(&child, err, cause);

        let (child, cancel) = parent.with_cancel();
        assert_done(&child, err, cause);
        drop(cancel.drop_guard());
        assert_done(&child, err, cause);

        let (child, _cancel) = parent.with_deadline_cause(long_ago, "later");
        assert_done(&child, err, cause);

        let (child, _cancel) = parent.with_deadline_cause(soon, "later");
        assert_done(&child, err, cause);
        assert_eq!(child.deadline().unwrap(), parent.deadline().unwrap_or(soon));

        let value = parent.with_value(Tag(0), 2);
        assert_done(&value, err, cause);
        let (grandchild, _cancel) = child.with_value(Tag(0), 3).with_cancel();
        assert_done(&grandchild, err, cause);
        assert!(same(&grandchild.cause().unwrap(), &parent.cause().unwrap()));

        assert_open(&parent.without_cancel());
        let (anew, cancel) = parent.without_cancel().with_cancel_cause();
        assert_open(&anew);
        cancel.cancel("anew");
        assert_done(&anew, Error::Canceled, "anew");
        assert_done(&parent, err, cause);
    }
}

// Which cancellation wins

#[test]
fn first_cancel_sets_err_and_cause() {
    #[derive(Clone, Copy)]
    enum Who {
        Parent,
        Child,
        Grandchild,
    }
    use Who::{Child, Grandchild, Parent};

    /// `cancel` without a cause.
    const PLAIN: &str = "context canceled";
    const OPEN: &str = "";

    type Step = (Who, &'static str);
    // All orders of cancelling parent, child and grandchild, and the result for each.
    let cases: &[(&[Step], [&str; 3])] = &[
        (&[], [OPEN, OPEN, OPEN]),
        (&[(Parent, "p")], ["p", "p", "p"]),
        (&[(Parent, PLAIN)], [PLAIN, PLAIN, PLAIN]),
        (&[(Child, "c")], [OPEN, "c", "c"]),
        (&[(Child, PLAIN)], [OPEN, PLAIN, PLAIN]),
        (&[(Grandchild, "g")], [OPEN, OPEN, "g"]),
        (&[(Parent, "p"), (Child, "c")], ["p", "p", "p"]),
        (&[(Child, "c"), (Parent, "p")], ["p", "c", "c"]),
        (&[(Parent, PLAIN), (Child, "c")], [PLAIN, PLAIN, PLAIN]),
        (&[(Child, "c"), (Parent, PLAIN)], [PLAIN, "c", "c"]),
        (&[(Parent, "p"), (Child, PLAIN)], ["p", "p", "p"]),
        (&[(Child, PLAIN), (Parent, "p")], ["p", PLAIN, PLAIN]),
        (&[(Parent, "p"), (Parent, "q")], ["p", "p", "p"]),
        (&[(Parent, PLAIN), (Parent, "q")], [PLAIN, PLAIN, PLAIN]),
        (&[(Parent, "p"), (Parent, PLAIN)], ["p", "p", "p"]),
        (
            &[(Child, "c"), (Child, "d"), (Parent, "p")],
            ["p", "c", "c"],
        ),
        (
            &[(Grandchild, "g"), (Child, "c"), (Parent, "p")],
            ["p", "c", "g"],
        ),
        (
            &[(Grandchild, "g"), (Parent, "p"), (Child, "c")],
            ["p", "p", "g"],
        ),
        (
            &[(Child, "c"), (Grandchild, "g"), (Parent, "p")],
            ["p", "c", "c"],
        ),
        (
            &[(Parent, "p"), (Child, "c"), (Grandchild, "g")],
            ["p", "p", "p"],
        ),
    ];

    /// One of the three. Cancelling without a cause takes a guard.
    struct Member(Context, CancelCauseFunc);
    impl Member {
        fn under(parent: &Context) -> Member {
            let (ctx, cancel) = parent.with_cancel_cause();
            Member(ctx, cancel)
        }
        fn cancel(&self, cause: &'static str) {
            match cause {
                PLAIN => drop(self.1.clone().drop_guard()),
                cause => self.1.cancel(cause),
            }
        }
    }

    // Whether a context's channel has been created before must not matter.
    for (case, (steps, causes)) in cases.iter().enumerate() {
        for asked in 0..8 {
            let parent = Member::under(&Context::background());
            let child = Member::under(&parent.0);
            let grandchild = Member::under(&child.0.with_value(Tag(0), case));
            let family = [parent, child, grandchild];
            let kept: Vec<_> = family
                .iter()
                .enumerate()
                .map(|(i, Member(ctx, _))| (asked >> i & 1 == 1).then(|| ctx.done()))
                .collect();

            for &(who, cause) in *steps {
                family[who as usize].cancel(cause);
            }
            for ((Member(ctx, _), &cause), done) in family.iter().zip(causes).zip(&kept) {
                if cause == OPEN {
                    assert_open(ctx);
                } else {
                    assert_done(ctx, Error::Canceled, cause);
                    assert_eq!(ctx.cause().unwrap().is::<Error>(), cause == PLAIN);
                }
                if let Some(done) = done {
                    assert_eq!(is_closed(done), cause != OPEN, "case {case}");
                }
            }
        }
    }
}

#[test]
fn expiry_before_cancel_stays_the_cause() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (late, cancel_late) = parent.with_timeout_cause(Duration::ZERO, "too slow");
    let (child, cancel_child) = late.with_cancel_cause();
    cancel_child.cancel("c");
    cancel_late.cancel();
    cancel_parent.cancel("p");
    assert_done(&late, Error::DeadlineExceeded, "too slow");
    assert_done(&child, Error::DeadlineExceeded, "too slow");
    assert_done(&parent, Error::Canceled, "p");
}

#[test]
fn cancel_before_deadline_ignores_timeout_cause() {
    let (ctx, cancel) = Context::background().with_timeout_cause(HOUR, "too slow");
    let (child, _cancel_child) = ctx.with_timeout_cause(HOUR / 2, "too slow as well");
    cancel.cancel();
    assert_done(&ctx, Error::Canceled, "context canceled");
    assert_done(&child, Error::Canceled, "context canceled");
    assert!(ctx.deadline() > child.deadline());
}

#[test]
fn cancel_with_any_cause_has_err_canceled() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    cancel.cancel(Error::DeadlineExceeded);
    assert_eq!(ctx.err(), Some(Error::Canceled));
    let cause = ctx.cause().unwrap();
    assert_eq!(cause.downcast_ref(), Some(&Error::DeadlineExceeded));
}

#[test]
fn cause_passed_to_another_context_is_same_arc() {
    let bg = Context::background();
    let (one, cancel_one) = bg.with_cancel_cause();
    let (two, cancel_two) = bg.with_cancel_cause();
    let (child_of_two, _cancel) = two.with_cancel();
    cancel_one.cancel(std::fmt::Error);
    let cause = one.cause().unwrap();
    cancel_two.cancel(cause.clone());
    let (late, _cancel) = bg.with_timeout_cause(Duration::ZERO, two.cause().unwrap());

    for ctx in [one, two, child_of_two, late] {
        assert!(same(&ctx.cause().unwrap(), &cause), "{ctx}");
        assert!(same(&ctx.cause().unwrap(), &ctx.cause().unwrap()), "{ctx}");
        assert!(ctx.cause().unwrap().is::<std::fmt::Error>(), "{ctx}");
    }
}

#[test]
fn concurrent_causes_leave_one_for_all_threads() {
    for round in 0..1_000 {
        let (root, cancel) = Context::background().with_cancel_cause();
        let tree = Tree::new(&root, 12, |i| (i - 1) / 2);
        let kept: Option<Vec<_>> = (round % 2 == 0).then(|| tree.channels());
        if round % 4 == 1 {
            tree.look();
        }
        let cancels = (0..4).map(|number: usize| {
            let (cancel, root) = (cancel.clone(), root.clone());
            Box::new(move || {
                cancel.cancel(number.to_string());
                let first = root.cause().unwrap();
                cancel.cancel("later");
                assert!(same(&root.cause().unwrap(), &first));
            }) as Task
        });
        together(cancels.collect());

        let cause = root.cause().unwrap();
        assert!(["0", "1", "2", "3"].contains(&cause.to_string().as_str()));
        for spot in &tree.spots {
            assert_eq!(spot.ctx.err(), Some(Error::Canceled));
            assert!(same(&spot.ctx.cause().unwrap(), &cause));
        }
        assert!(kept.iter().flatten().all(is_closed));
    }
}

#[test]
fn cancel_reaches_descendants_only() {
    let (parent, cancel_parent) = Context::background().with_cancel();
    parent.after_func(|| ()); // not a context, and yet in the table of children
    let (child, cancel_child) = parent.with_cancel();
    child.after_func(|| ());
    let (sibling, _cancel) = parent.with_timeout(HOUR);
    let (grandchild, _cancel) = child.with_cancel();
    let (nephew, _cancel) = sibling.with_value(Tag(0), 1).with_cancel();

    cancel_child.cancel();
    assert_done(&child, Error::Canceled, "context canceled");
    assert_done(&grandchild, Error::Canceled, "context canceled");
    for ctx in [&parent, &sibling, &nephew] {
        assert_open(ctx);
    }
    cancel_parent.cancel();
    for ctx in [&parent, &sibling, &nephew] {
        assert_done(ctx, Error::Canceled, "context canceled");
    }
}

// When it is complete

/// A node in a tree of contexts.
struct Spot {
    ctx: Context,
    cancel: CancelFunc,
    /// The parent; the first in the tree has none.
    above: Option<usize>,
}

struct Tree {
    spots: Vec<Spot>,
}

impl Tree {
    /// A tree of contexts of all kinds, the first of them under `root`, the others as `above`
    /// returns.
    fn new(root: &Context, size: usize, above: impl Fn(usize) -> usize) -> Tree {
        let mut spots: Vec<Spot> = Vec::with_capacity(size);
        for i in 0..size {
            let above = (i > 0).then(|| above(i));
            let (ctx, cancel) = derive(above.map_or(root, |above| &spots[above].ctx), i);
            spots.push(Spot { ctx, cancel, above });
        }
        Tree { spots }
    }

    /// Calls `err` on all contexts, because unregistered contexts take no part in a cancel.
    fn look(&self) {
        assert!(self.spots.iter().all(|spot| spot.ctx.err().is_none()));
    }

    /// Creates the done channels of all contexts.
    fn channels(&self) -> Vec<Receiver<()>> {
        self.spots.iter().map(|spot| spot.ctx.done()).collect()
    }

    /// The context and all its descendants.
    fn under(&self, top: usize) -> impl Iterator<Item = (usize, &Spot)> {
        let mut inside = vec![false; self.spots.len()];
        self.spots.iter().enumerate().filter(move |&(i, spot)| {
            inside[i] = i == top || spot.above.is_some_and(|above| inside[above]);
            inside[i]
        })
    }
}

/// How many contexts there are, and the parent of the `i`th.
type Shape = (usize, fn(usize) -> usize);

const SHAPES: [Shape; 4] = [
    (150, |_| 0),                               // wide
    (150, |i| i - 1),                           // deep
    (121, |i| (i - 1) / 3),                     // both
    (150, |i| if i < 50 { i - 1 } else { 49 }), // wide below deep
];

#[test]
fn cancel_waits_for_overlapping_cancel_below() {
    for round in 0..2_400 {
        let (size, above) = SHAPES[round % 4];
        let tree = Arc::new(Tree::new(&Context::background(), size, above));
        if round % 24 < 4 {
            tree.look();
        }
        let channels = Arc::new(match round / 4 % 3 {
            0 => Vec::new(),
            1 => tree.channels(),
            // Only at the bottom, which the cancel reaches last.
            _ => tree.channels().split_off(size * 2 / 3),
        });
        let first = size - channels.len();
        // Later cancels meet the earlier ones, below or at the same context.
        let tops = [size / 3, 1, 0, 0];
        let cancels = tops.iter().enumerate().map(|(job, &top)| {
            let (tree, channels) = (tree.clone(), channels.clone());
            Box::new(move || {
                stagger(round / 24 * job);
                tree.spots[top].cancel.cancel();
                for (i, spot) in tree.under(top) {
                    assert!(spot.ctx.err().is_some(), "{i} of {size} below {top}");
                    if i >= first {
                        assert!(is_closed(&channels[i - first]), "{i} of {size} below {top}");
                    }
                }
            }) as Task
        });
        together(cancels.collect());
    }
}

#[test]
fn cancel_waits_through_chain_of_waiting_cancels() {
    for _ in 0..60 {
        let (top, cancel_top) = Context::background().with_cancel();
        let (middle, cancel_middle) = top.with_cancel();
        let (low, cancel_low) = middle.with_cancel();
        // So many that the cancel of `low` is still running when the last of the others begins.
        let tree = Arc::new(Tree::new(&low, 2_000, |_| 0));
        let channels = Arc::new(tree.channels());
        // Each begins when the one before has begun.
        let cancels = [
            (None, cancel_low),
            (Some(low), cancel_middle),
            (Some(middle), cancel_top.clone()),
            (Some(top), cancel_top),
        ];
        let jobs = cancels.map(|(seen, cancel)| {
            let channels = channels.clone();
            Box::new(move || {
                while seen.as_ref().is_some_and(|ctx| ctx.err().is_none()) {
                    std::hint::spin_loop();
                }
                cancel.cancel();
                assert!(channels.iter().all(is_closed));
            }) as Task
        });
        together(jobs.into());
    }
}

#[test]
fn cancel_waits_for_expiry_under_way() {
    for round in 0..400 {
        let deadline = Instant::now() + Duration::from_micros(300);
        let (ctx, cancel) = Context::background().with_deadline_cause(deadline, "too slow");
        let (size, above) = SHAPES[round % 4];
        let tree = Tree::new(&ctx, size, above);
        let channels = tree.channels();
        // At about the time when the timer fires, a little later in each round.
        while Instant::now() < deadline + Duration::from_micros(round as u64 / 4) {
            std::hint::spin_loop();
        }
        let job = spawn(move || cancel.cancel());
        receive(&job);

        assert!(channels.iter().all(is_closed));
        let cause = ctx.cause().unwrap();
        match ctx.err() {
            Some(Error::Canceled) => assert!(cause.is::<Error>()),
            err => assert_eq!(
                (err, text(&ctx).as_str()),
                (Some(Error::DeadlineExceeded), "too slow")
            ),
        }
        for spot in &tree.spots {
            assert_eq!(spot.ctx.err(), ctx.err());
            assert!(same(&spot.ctx.cause().unwrap(), &cause));
        }
    }
}

#[test]
fn concurrent_cancels_keep_one_cause_per_node() {
    for round in 0..1_000 {
        let mut chain = vec![Context::background().with_cancel_cause()];
        for _ in 1..20 {
            let next = chain.last().unwrap().0.with_cancel_cause();
            chain.push(next);
        }
        let channels: Vec<_> = (0..20)
            .filter(|i| (round >> (i % 4)) & 1 == 1)
            .map(|i| chain[i].0.done())
            .collect();
        let heights = [0, 5, 10, 15];
        let cancels = heights.map(|height| {
            let cancel = chain[height].1.clone();
            Box::new(move || {
                stagger(round * (20 - height));
                cancel.cancel(format!("from {height}"));
            }) as Task
        });
        together(cancels.into());

        assert_done(&chain[0].0, Error::Canceled, "from 0");
        for (height, pair) in chain.windows(2).enumerate().map(|(i, pair)| (i + 1, pair)) {
            let (cause, above) = (pair[1].0.cause().unwrap(), pair[0].0.cause().unwrap());
            let own = heights.contains(&height) && cause.to_string() == format!("from {height}");
            assert!(own || same(&cause, &above), "{cause} below {above}");
        }
        assert!(channels.iter().all(is_closed));
    }
}

#[test]
fn tree_cancelled_everywhere_at_once_is_done() {
    for round in 0..10 {
        let tree = Arc::new(Tree::new(&Context::background(), 101, |i| (i - 1) / 4));
        if round % 4 == 1 {
            tree.look();
        }
        let channels = Arc::new(if round % 2 == 0 {
            tree.channels()
        } else {
            Vec::new()
        });
        let cancels = (0..101).map(|top| {
            let (tree, channels) = (tree.clone(), channels.clone());
            Box::new(move || {
                tree.spots[top].cancel.cancel();
                for (i, spot) in tree.under(top) {
                    assert!(spot.ctx.err().is_some(), "{i} below {top}");
                    assert!(channels.get(i).map_or(true, is_closed), "{i} below {top}");
                }
            }) as Task
        });
        together(cancels.collect());
        for spot in &tree.spots {
            assert_done(&spot.ctx, Error::Canceled, "context canceled");
        }
    }
}

#[test]
fn waiter_cancelling_child_does_not_deadlock() {
    let (parent, cancel) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    let waiter = parent.clone();
    let end = spawn(move || {
        wait(&waiter);
        cancel_child.cancel();
    });
    receive(&spawn(move || cancel.cancel()));
    receive(&end);
    assert_done(&child, Error::Canceled, "context canceled");
}

// Handles

#[test]
fn drop_guard_cancels_at_end_of_scope() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (child, _cancel_child) = ctx.with_cancel();
    {
        let _cancel_on_exit = cancel.drop_guard();
        assert_open(&ctx);
    }
    assert_done(&ctx, Error::Canceled, "context canceled");
    assert_done(&child, Error::Canceled, "context canceled");

    let (ctx, cancel) = Context::background().with_cancel_cause();
    {
        let _cancel_on_exit = cancel.drop_guard();
        assert_open(&ctx);
    }
    assert_done(&ctx, Error::Canceled, "context canceled");
    assert!(ctx.cause().unwrap().is::<Error>());

    let (ctx, cancel) = Context::background().with_timeout_cause(HOUR, "too slow");
    drop(cancel.drop_guard());
    assert_done(&ctx, Error::Canceled, "context canceled");
}

#[test]
fn drop_guard_cancels_on_panic() {
    let (ctx, cancel) = Context::background().with_cancel();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _cancel_on_exit = cancel.drop_guard();
        std::panic::resume_unwind(Box::new("with no word to the panic hook"));
    }));
    assert!(panicked.is_err());
    assert_done(&ctx, Error::Canceled, "context canceled");
}

#[test]
fn drop_guard_on_done_context_changes_nothing() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let guard = cancel.clone().drop_guard();
    cancel.cancel("stop");
    drop(guard);
    assert_done(&ctx, Error::Canceled, "stop");
}

#[test]
fn drop_guard_waits_for_cancel_under_way() {
    for round in 0..300 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (size, above) = SHAPES[round % 4];
        let tree = Arc::new(Tree::new(&ctx, size, above));
        let channels = Arc::new(tree.channels());
        let jobs = (0..2).map(|job: usize| {
            let (channels, tree) = (channels.clone(), tree.clone());
            let guard = cancel.clone().drop_guard();
            Box::new(move || {
                stagger(round * job);
                drop(guard);
                assert!(channels.iter().all(is_closed));
                assert!(tree.spots.iter().all(|spot| spot.ctx.err().is_some()));
            }) as Task
        });
        together(jobs.collect());
    }
}

#[test]
fn cancel_func_clones_cancel_the_same_context() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let (one, two) = (cancel.clone(), cancel.clone());
    drop(cancel);
    assert_open(&ctx);
    drop(one);
    assert_open(&ctx);
    receive(&spawn(move || two.cancel("by a clone on another thread")));
    assert_done(&ctx, Error::Canceled, "by a clone on another thread");

    let (ctx, cancel) = Context::background().with_cancel();
    let clone = cancel.clone();
    cancel.cancel();
    clone.cancel();
    assert_done(&ctx, Error::Canceled, "context canceled");
}

#[test]
fn dropped_cancel_func_cancels_nothing() {
    let (ctx, cancel) = Context::background().with_cancel();
    drop(cancel);
    let (caused, cancel) = ctx.with_cancel_cause();
    drop(cancel);
    let (timed, cancel) = caused.with_timeout(HOUR);
    drop(cancel);
    for ctx in [ctx, caused, timed] {
        assert_open(&ctx);
    }
}

#[test]
fn cancel_func_alone_keeps_context_alive() {
    let (ctx, cancel) = Context::background().with_cancel();
    let done = ctx.done();
    drop(ctx);
    assert!(is_open(&done));
    let guard = cancel.clone().drop_guard();
    drop(cancel);
    assert!(is_open(&done));
    drop(guard);
    assert!(is_closed(&done));
}

#[test]
fn grandchild_is_cancelled_if_child_is_dropped() {
    let (root, cancel) = Context::background().with_cancel_cause();
    let (middle, cancel_middle) = root.with_cancel();
    let (second, cancel_second) = middle.with_value(Tag(0), 7).with_timeout(HOUR);
    let (leaf, _cancel_leaf) = second.with_cancel();
    let middle_done = middle.done();
    drop((middle, cancel_middle, second, cancel_second));

    assert_open(&leaf);
    assert!(is_open(&middle_done));
    assert_eq!(leaf.value(&Tag(0)), Some(&7));
    let left = leaf.remaining().unwrap();
    assert!(left > Duration::ZERO && left <= HOUR);

    cancel.cancel("from the top");
    assert_done(&leaf, Error::Canceled, "from the top");
    assert!(is_closed(&middle_done));
}

#[test]
fn deadline_of_dropped_child_ends_grandchild() {
    let (leaf, _cancel) = {
        let soon = Duration::from_millis(5);
        let (timed, _cancel) = Context::background().with_timeout_cause(soon, "in between");
        timed.with_cancel()
    };
    wait(&leaf);
    assert_done(&leaf, Error::DeadlineExceeded, "in between");
}

// Values

#[test]
fn value_child_is_done_with_parent() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let value = parent.with_value(Tag(0), 1);
    let twice = value.with_value(Tag(0), 2);
    let (below, _cancel) = twice.with_cancel();
    let early = value.done();
    assert!(early.same_channel(&parent.done()));
    assert!(twice.done().same_channel(&parent.done()));
    for ctx in [&value, &twice, &below] {
        assert!(ctx.is_cancellable());
        assert_open(ctx);
    }
    let waiter = twice.clone();
    let waiting = spawn(move || waiter.wait());

    cancel.cancel("stop");
    assert!(is_closed(&early));
    for ctx in [&value, &twice, &below] {
        assert_done(ctx, Error::Canceled, "stop");
    }
    assert_eq!(receive(&waiting), Error::Canceled);
    assert_eq!(twice.value(&Tag(0)), Some(&2));
}

// Contexts that are never done

#[test]
fn root_is_never_done() {
    let (cancelled, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let roots = [
        Context::background(),
        Context::default(),
        Context::todo(),
        Context::background().with_value(Tag(0), 1),
        Context::todo().with_value(Tag(0), 1),
        Context::background().without_cancel(),
        cancelled.without_cancel(),
        cancelled.without_cancel().with_value(Tag(0), 1),
        cancelled.with_value(Tag(0), 1).without_cancel(),
    ];
    for root in roots {
        assert!(!root.is_cancellable(), "{root}");
        let done = root.done();
        // A descendant's cancellation leaves it open.
        let (child, cancel) = root.with_cancel_cause();
        assert!(child.is_cancellable());
        assert_open(&child);
        cancel.cancel("stop");
        assert_done(&child, Error::Canceled, "stop");
        let (late, _cancel) = root.with_timeout(Duration::ZERO);
        assert_done(&late, Error::DeadlineExceeded, "context deadline exceeded");

        assert_open(&root);
        assert!(is_open(&done), "{root}");
        assert_eq!(root.deadline(), None, "{root}");
        assert_eq!(root.remaining(), None, "{root}");
        assert_eq!(root.sleep(Duration::from_millis(1)), Ok(()), "{root}");
        // The channel stays open when its context is dropped.
        drop((root, child, late));
        assert!(is_open(&done));
    }
}

#[test]
fn without_cancel_blocks_cancel_deadline_and_cause() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let (timed, _cancel) = parent.with_value(Tag(0), 1).with_timeout(HOUR);
    let free = timed.without_cancel();
    let (below, cancel_below) = free.with_cancel_cause();
    let later = Instant::now() + 2 * HOUR;
    let (later_below, _cancel) = free.with_deadline(later);
    assert_eq!(free.deadline(), None);
    assert_eq!(below.deadline(), None);
    assert_eq!(later_below.deadline(), Some(later));

    cancel.cancel("stop");
    assert_done(&timed, Error::Canceled, "stop");
    for ctx in [&free, &below, &later_below] {
        assert_open(ctx);
        assert_eq!(ctx.value(&Tag(0)), Some(&1));
    }
    cancel_below.cancel("its own");
    assert_done(&below, Error::Canceled, "its own");
    assert_open(&free);
    assert_open(&later_below);
}

// Queries and waiting

#[test]
fn is_cancellable_for_every_kind_of_context() {
    let bg = Context::background();
    let (cancel, _cancel) = bg.with_cancel();
    let (cause, _cancel_cause) = Context::todo().with_cancel_cause();
    let (timeout, _cancel_timeout) = bg.with_timeout(HOUR);
    let (endless, _cancel_endless) = bg.with_timeout(Duration::MAX);
    let cases = [
        (bg.clone(), false),
        (Context::todo(), false),
        (bg.with_value(Tag(0), 1), false),
        (cancel.without_cancel(), false),
        (cancel.without_cancel().with_value(Tag(0), 1), false),
        (cancel.without_cancel().with_cancel().0, true),
        (cancel.with_value(Tag(0), 1), true),
        (cancel, true),
        (cause, true),
        (timeout, true),
        (endless, true),
    ];
    for (ctx, cancellable) in cases {
        assert_eq!(ctx.is_cancellable(), cancellable, "{ctx}");
    }
    let (done, cancel) = bg.with_cancel();
    cancel.cancel();
    assert!(done.is_cancellable());
}

#[test]
fn check_returns_err() {
    fn work(ctx: &Context) -> Result<&'static str, Error> {
        ctx.check()?;
        Ok("worked")
    }
    let (ctx, cancel) = Context::background().with_cancel();
    assert_eq!(work(&ctx), Ok("worked"));
    cancel.cancel();
    assert_eq!(work(&ctx), Err(Error::Canceled));
    let (late, _cancel) = Context::background().with_timeout(Duration::ZERO);
    assert_eq!(work(&late), Err(Error::DeadlineExceeded));
}

#[test]
fn remaining_falls_to_zero() {
    let bg = Context::background();
    assert_eq!(bg.with_cancel().0.remaining(), None);

    let (ctx, cancel) = bg.with_timeout(HOUR);
    let (child, _cancel) = ctx.with_value(Tag(0), 1).with_cancel();
    let first = ctx.remaining().unwrap();
    let second = child.remaining().unwrap();
    assert!(first <= HOUR && second <= first && second > Duration::ZERO);
    cancel.cancel();
    assert!(ctx.remaining().unwrap() <= second);

    let (past, _cancel) = bg.with_deadline(Instant::now());
    assert_eq!(past.remaining(), Some(Duration::ZERO));
    let (short, _cancel) = bg.with_timeout(Duration::from_millis(1));
    wait(&short);
    assert_eq!(short.remaining(), Some(Duration::ZERO));
}

#[test]
fn wait_returns_err_to_all_waiters() {
    for round in 0..200 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (child, _cancel) = derive(&ctx, round);
        let waiters: Vec<_> = (0..6)
            .map(|i| {
                let ctx = if i % 2 == 0 { &ctx } else { &child }.clone();
                spawn(move || (ctx.wait(), is_closed(&ctx.done())))
            })
            .collect();
        stagger(round);
        cancel.cancel();
        for waiter in &waiters {
            assert_eq!(receive(waiter), (Error::Canceled, true));
        }
        assert_eq!(ctx.wait(), Error::Canceled);
    }
}

#[test]
fn wait_returns_at_deadline_not_before() {
    let deadline = Instant::now() + Duration::from_millis(10);
    let (ctx, _cancel) = Context::background().with_deadline(deadline);
    let waiter = spawn(move || (ctx.wait(), Instant::now()));
    let (err, at) = receive(&waiter);
    assert_eq!(err, Error::DeadlineExceeded);
    assert!(at >= deadline);
}

#[test]
fn sleep_lasts_unless_context_is_done() {
    let nap = Duration::from_millis(5);
    let (ctx, cancel) = Context::background().with_cancel();
    let start = Instant::now();
    assert_eq!(ctx.sleep(nap), Ok(()));
    assert!(start.elapsed() >= nap);
    assert_eq!(ctx.sleep(Duration::ZERO), Ok(()));

    let sleeper = {
        let ctx = ctx.clone();
        spawn(move || ctx.sleep(Duration::MAX))
    };
    assert_eq!(sleeper.try_recv(), Err(TryRecvError::Empty));
    cancel.cancel();
    assert_eq!(receive(&sleeper), Err(Error::Canceled));

    assert_eq!(ctx.sleep(Duration::ZERO), Err(Error::Canceled));
    assert_eq!(ctx.sleep(Duration::MAX), Err(Error::Canceled));
    let (short, _cancel) = Context::background().with_timeout(nap);
    let sleeper = spawn(move || short.sleep(HOUR));
    assert_eq!(receive(&sleeper), Err(Error::DeadlineExceeded));
}

#[test]
fn waits_on_two_siblings_are_independent() {
    let (parent, cancel) = Context::background().with_cancel();
    let (one, cancel_one) = parent.with_cancel();
    let (two, _cancel_two) = parent.with_cancel();
    let wait_for = |ctx: &Context| {
        let ctx = ctx.clone();
        spawn(move || ctx.wait())
    };
    let (in_one, in_two, in_parent) = (wait_for(&one), wait_for(&two), wait_for(&parent));
    cancel_one.cancel();
    assert_eq!(receive(&in_one), Error::Canceled);
    // Nothing wakes the others yet.
    assert_open(&two);
    assert_open(&parent);
    assert_eq!(in_two.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(in_parent.try_recv(), Err(TryRecvError::Empty));
    cancel.cancel();
    assert_eq!(receive(&in_two), Error::Canceled);
    assert_eq!(receive(&in_parent), Error::Canceled);
}
