//! Unregistered contexts: a context is registered with its parent and the timer when it is first
//! observed. Its results are the same as if it had been registered at once.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, RecvTimeoutError, Sender};
use go_context::{CancelCauseFunc, CancelFunc, Cause, Context};
use go_context::{CustomContext, Error, Key};
use support::custom::PassThrough;
use support::threads::{on_small_stack, spawn, stagger, together};
use support::{
    assert_done, assert_open, assert_ran, is_closed, is_open, receive, stoppable_callback, Tag,
    Task, CANCELED, HOUR, LIMIT,
};

/// A deadline that passes during a test.
const SOON: Duration = Duration::from_millis(3);

const MILLION: usize = 1_000_000;

const TOO_LATE: &str = "context deadline exceeded";

/// A custom context with a channel of its own.
struct Own(Receiver<()>);

impl Own {
    fn open() -> (Context, Sender<()>) {
        let (open, done) = bounded(0);
        (Context::custom(Own(done)), open)
    }
}

impl CustomContext for Own {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }

    fn err(&self) -> Option<Error> {
        is_closed(&self.0).then_some(Error::Canceled)
    }

    fn cause(&self) -> Option<Cause> {
        is_closed(&self.0).then(|| Arc::new(fmt::Error) as Cause)
    }
}

fn same_cause(one: &Context, other: &Context) -> bool {
    Arc::ptr_eq(&one.cause().unwrap(), &other.cause().unwrap())
}

/// Waits until the timer has handled all registered deadlines up to this one: for a later one that
/// was registered for certain.
#[track_caller]
fn let_pass(deadline: Instant) {
    loop {
        let later = deadline.max(Instant::now() + Duration::from_millis(1));
        let (ctx, _cancel) = Context::background().with_deadline(later);
        let done = ctx.done();
        if is_open(&done) {
            let end = done.recv_timeout(LIMIT);
            assert_eq!(end, Err(RecvTimeoutError::Disconnected));
            return;
        }
    }
}

type Look = (&'static str, fn(&Context));

/// Every way to observe a done context first, with its assertion.
const LOOKS: &[Look] = &[
    ("err", |ctx| assert!(ctx.err().is_some())),
    ("check", |ctx| assert!(ctx.check().is_err())),
    ("cause", |ctx| assert!(ctx.cause().is_some())),
    ("done", |ctx| assert!(is_closed(&ctx.done()))),
    ("wait", |ctx| assert_eq!(Some(ctx.wait()), ctx.err())),
    ("sleep", |ctx| {
        assert_eq!(ctx.sleep(HOUR).err(), ctx.err());
    }),
    ("debug", |ctx| {
        assert!(format!("{ctx:?}").contains("err: Some("));
    }),
    ("a function", |ctx| {
        let (function, ran) = stoppable_callback(ctx);
        assert_ran(&ran);
        assert!(!function.stop());
    }),
    ("a child", |ctx| {
        assert!(ctx.with_cancel().0.err().is_some());
    }),
    ("a child that is cancelled", |ctx| {
        let (child, cancel) = ctx.with_cancel_cause();
        cancel.cancel("the child's");
        assert!(same_cause(&child, ctx));
    }),
    ("a child with a deadline", |ctx| {
        assert!(ctx.with_timeout(HOUR).0.err().is_some());
    }),
    ("a child that is late", |ctx| {
        let (child, _cancel) = ctx.with_timeout_cause(Duration::ZERO, "the child's");
        assert!(same_cause(&child, ctx));
    }),
    ("a value", |ctx| {
        assert!(ctx.with_value(Tag(0), 1).err().is_some());
    }),
    ("the first of a merge", |ctx| {
        assert!(ctx.merge(&Context::background()).0.err().is_some());
    }),
    ("the second of a merge", |ctx| {
        assert!(Context::background().merge(ctx).0.err().is_some());
    }),
    ("a wrapper", |ctx| {
        let (child, _cancel) = Context::custom(PassThrough(ctx.clone())).with_cancel();
        assert!(same_cause(&child, ctx));
    }),
    ("another thread", |ctx| {
        let ctx = ctx.clone();
        assert!(receive(&spawn(move || ctx.err())).is_some());
    }),
];

/// A way to end a context, its error and its cause.
type End = (fn(&CancelCauseFunc), &'static str);

const ENDS: [End; 2] = [
    (|cancel| cancel.cancel("stop"), "stop"),
    (|cancel| drop(cancel.clone().drop_guard()), CANCELED),
];

/// A chain of unregistered contexts, each with its cancel function.
fn chain(root: &Context, length: usize) -> Vec<(Context, CancelCauseFunc)> {
    let mut links: Vec<(Context, CancelCauseFunc)> = Vec::with_capacity(length);
    for _ in 0..length {
        let parent = links.last().map_or(root, |(ctx, _)| ctx);
        links.push(parent.with_cancel_cause());
    }
    links
}

// The parent ends

#[test]
fn any_first_call_sees_parent_cancel() {
    for (end, cause) in ENDS {
        for &(name, look) in LOOKS {
            for levels in [1, 2, 5] {
                let (root, cancel) = Context::background().with_cancel_cause();
                let links = chain(&root, levels);
                end(&cancel);
                println!("{name}, {levels} levels below");
                look(&links[levels - 1].0);
                for (ctx, _) in &links {
                    assert_done(ctx, Error::Canceled, cause);
                    assert!(same_cause(ctx, &root));
                }
            }
        }
    }
}

#[test]
fn cancel_in_unregistered_chain_reaches_below() {
    for &(name, look) in LOOKS {
        let links = chain(&Context::background(), 6);
        links[2].1.cancel("stop");
        println!("{name}");
        look(&links[5].0);
        for (level, (ctx, _)) in links.iter().enumerate() {
            match level {
                0 | 1 => assert_open(ctx),
                _ => assert_done(ctx, Error::Canceled, "stop"),
            }
        }
    }
}

#[test]
fn first_cancel_wins_whatever_is_registered() {
    const LEVELS: usize = 4;
    // Three cancels, each with its own cause, and all sets of contexts registered before, or between
    // the first cancel and the second.
    for case in 0..LEVELS.pow(3) << (2 * LEVELS) {
        let (early, between, who) = (case % 16, case / 16 % 16, case / 256);
        let links = chain(&Context::background(), LEVELS);
        let mut expected = [None; LEVELS];
        let look = |set: usize, expected: &[Option<usize>]| {
            for (level, (ctx, _)) in links.iter().enumerate() {
                if set >> level & 1 == 1 {
                    let err = expected[level].map(|_| Error::Canceled);
                    assert_eq!(ctx.err(), err, "case {case}, level {level}");
                }
            }
        };
        look(early, &expected);
        for turn in 0..3 {
            let level = who / LEVELS.pow(turn as u32) % LEVELS;
            links[level].1.cancel(turn.to_string());
            for below in &mut expected[level..] {
                below.get_or_insert(turn);
            }
            if turn == 0 {
                look(between, &expected);
            }
        }
        for (level, (ctx, _)) in links.iter().enumerate().rev() {
            let cause = ctx.cause().map(|cause| cause.to_string());
            let expected = expected[level].map(|turn| turn.to_string());
            assert_eq!(cause, expected, "case {case}, level {level}");
        }
    }
}

#[test]
fn child_of_unregistered_done_context_is_done() {
    let (root, cancel) = Context::background().with_cancel_cause();
    let (middle, _cancel) = root.with_cancel();
    cancel.cancel("stop");
    let (child, cancel_child) = middle.with_cancel_cause();
    let (grandchild, _cancel) = child.with_cancel();
    cancel_child.cancel("the child's");
    for ctx in [&grandchild, &child, &middle] {
        assert_done(ctx, Error::Canceled, "stop");
    }
}

#[test]
fn cancel_of_unregistered_leaves_parent_open() {
    let (root, cancel_root) = Context::background().with_cancel_cause();
    let (parent, _cancel) = root.with_cancel();
    let (child, cancel_child) = parent.with_cancel_cause();
    let (below, _cancel) = child.with_cancel();
    let (sibling, _cancel) = parent.with_cancel();
    cancel_child.cancel("the child's");
    assert_open(&sibling);
    assert_open(&parent);
    cancel_root.cancel("the root's");
    for ctx in [&parent, &sibling] {
        assert_done(ctx, Error::Canceled, "the root's");
    }
    for ctx in [&below, &child] {
        assert_done(ctx, Error::Canceled, "the child's");
    }
}

// Long chains

#[test]
fn million_unregistered_do_not_recurse() {
    // Which contexts are observed, in which order, after which one is cancelled.
    let cases: &[(usize, &[usize])] = &[
        (0, &[MILLION - 1]),
        (0, &[MILLION / 2, MILLION - 1]),
        (0, &[MILLION - 1, MILLION / 2]),
        (MILLION / 2, &[MILLION - 1]),
        (MILLION - 1, &[MILLION - 1]),
    ];
    for &(cancelled, seen) in cases {
        on_small_stack(move || {
            let mut links = chain(&Context::background(), MILLION);
            links[cancelled].1.cancel("from above");
            for &level in seen {
                assert_done(&links[level].0, Error::Canceled, "from above");
            }
            if let Some(above) = cancelled.checked_sub(1) {
                assert_open(&links[above].0);
            }
            while links.pop().is_some() {} // from the bottom
        });
    }
}

#[test]
fn million_registered_from_leaf_then_cancelled() {
    on_small_stack(|| {
        let links = chain(&Context::background(), MILLION);
        let leaf = &links[MILLION - 1].0;
        let done = leaf.done();
        assert_eq!(leaf.err(), None);
        links[0].1.cancel("from above");
        assert!(is_closed(&done));
        assert_done(leaf, Error::Canceled, "from above");
    });
}

#[test]
fn million_never_registered_are_dropped() {
    for seen in [false, true] {
        on_small_stack(move || {
            let (root, _cancel) = Context::background().with_cancel();
            let (run, ran) = bounded(1);
            let top = root.with_cancel().0;
            match seen {
                true => drop(top.after_func(move || run.send(()).unwrap())),
                false => drop(run),
            }
            let mut leaf = top;
            for _ in 0..MILLION {
                leaf = leaf.with_cancel().0;
            }
            assert!(ran.is_empty());
            drop(leaf);
            assert_eq!(ran.recv_timeout(LIMIT).is_ok(), seen);
            assert_open(&root);
        });
    }
}

// Deadlines

/// A context with a deadline, with or without a cause for it.
fn timed(parent: &Context, at: Instant, cause: Option<&'static str>) -> (Context, CancelFunc) {
    match cause {
        None => parent.with_deadline(at),
        Some(cause) => parent.with_deadline_cause(at, cause),
    }
}

#[test]
fn unobserved_expiry_is_the_cause() {
    let bg = Context::background();
    let at = Instant::now() + SOON;
    let mut all = Vec::new();
    for &look in LOOKS {
        for levels in [0, 1, 5] {
            for cause in [None, Some("too slow")] {
                let roots = [
                    bg.clone(),
                    Context::todo(),
                    bg.with_cancel().0.without_cancel(),
                ];
                let (ctx, cancel) = timed(&roots[levels % 3], at, cause);
                let below = chain(&ctx, levels);
                all.push((ctx, cancel, below, look, cause.unwrap_or(TOO_LATE)));
            }
        }
    }
    let_pass(at);
    for (ctx, _cancel, below, (name, look), cause) in all {
        println!("{name}, {} levels below", below.len());
        look(below.last().map_or(&ctx, |(leaf, _)| leaf));
        for ctx in below.iter().map(|(ctx, _)| ctx).chain([&ctx]) {
            assert_done(ctx, Error::DeadlineExceeded, cause);
        }
    }
}

#[test]
fn unobserved_expiry_beats_later_cancel() {
    let at = Instant::now() + SOON;
    let make = |cause| timed(&Context::background(), at, cause);
    type Cancel = fn(CancelFunc, &CancelCauseFunc);
    let cancels: [Cancel; 4] = [
        |cancel, _| cancel.cancel(),
        |cancel, _| drop(cancel.drop_guard()),
        |_, cancel_child| cancel_child.cancel("the child's"),
        |_, cancel_child| drop(cancel_child.clone().drop_guard()),
    ];
    let mut all = Vec::new();
    for cancel_one in cancels {
        for cause in [None, Some("too slow")] {
            for levels in [1, 3] {
                let (ctx, cancel) = make(cause);
                let below = chain(&ctx, levels);
                all.push((cancel_one, ctx, cancel, below, cause.unwrap_or(TOO_LATE)));
            }
        }
    }
    let_pass(at);
    for (cancel_one, ctx, cancel, below, cause) in all {
        let (leaf, cancel_leaf) = &below[below.len() - 1];
        cancel_one(cancel, cancel_leaf);
        assert_done(leaf, Error::DeadlineExceeded, cause);
        assert_done(&ctx, Error::DeadlineExceeded, cause);
    }
}

#[test]
fn cancel_beats_later_unobserved_expiry() {
    loop {
        let at = Instant::now() + SOON;
        let (ctx, cancel) = timed(&Context::background(), at, Some("too slow"));
        let (child, _cancel) = ctx.with_cancel();
        cancel.cancel();
        if Instant::now() >= at {
            continue; // a machine this slow may have been late
        }
        let_pass(at);
        assert_done(&child, Error::Canceled, CANCELED);
        assert_done(&ctx, Error::Canceled, CANCELED);
        return;
    }
}

#[test]
fn unobserved_expiry_beats_later_parent_cancel() {
    for levels in [0, 1, 3] {
        let (root, cancel) = Context::background().with_cancel_cause();
        let links = chain(&root, levels);
        let parent = links.last().map_or(&root, |(ctx, _)| ctx);
        let at = Instant::now() + SOON;
        let (ctx, _cancel) = parent.with_deadline_cause(at, "too slow");
        let below = chain(&ctx, 2);
        let_pass(at);
        cancel.cancel("stop");
        assert_done(&below[1].0, Error::DeadlineExceeded, "too slow");
        assert_done(&ctx, Error::DeadlineExceeded, "too slow");
        assert_done(parent, Error::Canceled, "stop");
    }
}

#[test]
fn earlier_of_two_unobserved_expiries_wins() {
    let bg = Context::background();
    let (soon, later) = (Instant::now() + SOON, Instant::now() + 2 * SOON);
    let (outer, _cancel) = bg.with_deadline_cause(later, "the outer");
    let (inner, _cancel) = outer.with_deadline_cause(soon, "the inner");
    let (first, _cancel) = bg.with_deadline_cause(soon, "the first");
    let (bounded, _cancel) = first.with_deadline_cause(later, "never");
    let (leaf, _cancel) = inner.with_cancel();
    let_pass(later);
    assert_done(&leaf, Error::DeadlineExceeded, "the inner");
    assert_done(&bounded, Error::DeadlineExceeded, "the first");
    assert_done(&outer, Error::DeadlineExceeded, "the outer");
}

#[test]
fn unregistered_deadline_wakes_waiter_below() {
    let (timed, _cancel) = Context::background().with_timeout_cause(SOON, "too slow");
    let below = chain(&timed.with_value(Tag(0), 1), 3);
    let (function, ran) = stoppable_callback(&below[2].0);
    let waiter = below[2].0.clone();
    let waiting = spawn(move || waiter.wait());
    assert_eq!(receive(&waiting), Error::DeadlineExceeded);
    assert_ran(&ran);
    assert!(!function.stop());
    assert_done(&timed, Error::DeadlineExceeded, "too slow");
}

// Kinds of contexts in between

#[test]
fn cancel_reaches_leaf_through_every_kind() {
    type Step = (&'static str, fn(&Context) -> Context);
    const STEPS: [Step; 8] = [
        ("a cancel", |ctx| ctx.with_cancel().0),
        ("a value", |ctx| ctx.with_value(Tag(0), 1)),
        ("a timeout", |ctx| ctx.with_timeout(HOUR).0),
        ("a late timeout", |ctx| ctx.with_timeout(2 * HOUR).0),
        ("a merge", |ctx| {
            ctx.merge(&Context::background().with_cancel().0).0
        }),
        ("the other of a merge", |ctx| {
            Context::background().with_cancel().0.merge(ctx).0
        }),
        ("a wrapper", |ctx| Context::custom(PassThrough(ctx.clone()))),
        ("a clone", Context::clone),
    ];
    for (first, one) in STEPS {
        for (second, two) in STEPS {
            for (third, three) in STEPS {
                let (root, cancel) = Context::background().with_cancel_cause();
                let leaf = three(&two(&one(&root)));
                let (below, cancel_below) = leaf.with_cancel_cause();
                let (own, cancel_own) = leaf.with_cancel_cause();
                cancel_own.cancel("its own");
                cancel.cancel("stop");
                cancel_below.cancel("too late");
                println!("{first}, {second}, {third}");
                assert_done(&below, Error::Canceled, "stop");
                assert_done(&leaf, Error::Canceled, "stop");
                assert_done(&own, Error::Canceled, "its own");
            }
        }
    }
}

#[test]
fn without_cancel_shields_unregistered() {
    let (root, cancel) = Context::background().with_cancel_cause();
    let (above, _cancel) = root.with_cancel();
    let shield = above.without_cancel();
    let (below, cancel_below) = shield.with_cancel_cause();
    let (leaf, _cancel) = below.with_value(Tag(0), 2).with_cancel();
    let at = Instant::now() + SOON;
    let (timed, _cancel) = shield.with_deadline_cause(at, "too slow");
    cancel.cancel("stop");
    assert_open(&leaf);
    assert_done(&above, Error::Canceled, "stop");
    assert_open(&shield);
    cancel_below.cancel("its own");
    assert_done(&leaf, Error::Canceled, "its own");
    let_pass(at);
    assert_done(&timed, Error::DeadlineExceeded, "too slow");
}

#[test]
fn merge_of_unregistered_ends_with_the_first() {
    for first_ends in [true, false] {
        let (one, cancel_one) = Context::background().with_cancel_cause();
        let (other, cancel_other) = Context::background().with_cancel_cause();
        let (low, _cancel) = one.with_cancel();
        let (other_low, _cancel) = other.with_cancel();
        let (merged, _cancel) = low.merge(&other_low);
        let (leaf, _cancel) = merged.with_cancel();
        match first_ends {
            true => cancel_one.cancel("first"),
            false => cancel_other.cancel("first"),
        }
        cancel_one.cancel("second");
        cancel_other.cancel("second");
        assert_done(&leaf, Error::Canceled, "first");
        assert_done(&merged, Error::Canceled, "first");
    }
}

#[test]
fn custom_done_ends_unregistered_descendants() {
    for levels in [1, 3] {
        let (custom, open) = Own::open();
        let links = chain(&custom, levels);
        drop(open);
        // Another thread brings the end.
        assert_eq!(links[levels - 1].0.wait(), Error::Canceled);
        for (ctx, cancel) in &links {
            cancel.cancel("too late");
            assert_eq!(ctx.err(), Some(Error::Canceled));
            assert!(ctx.cause().unwrap().is::<fmt::Error>());
        }
    }
}

/// A custom context with an `after_func` of its own, so it ends its children at once.
struct Telling(Receiver<()>, Arc<Mutex<Vec<Task>>>);

impl CustomContext for Telling {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }

    fn err(&self) -> Option<Error> {
        is_closed(&self.0).then_some(Error::DeadlineExceeded)
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        self.1.lock().unwrap().push(f);
        Some(Box::new(|| ()))
    }
}

#[test]
fn custom_done_beats_later_cancel() {
    for levels in [1, 3] {
        let (open, done) = bounded(0);
        let tasks = Arc::default();
        let custom = Context::custom(Telling(done, Arc::clone(&tasks)));
        let links = chain(&custom, levels);
        drop(open);
        let told = mem::take(&mut *tasks.lock().unwrap());
        told.into_iter().for_each(|task| task());
        links[levels - 1].1.cancel("too late");
        for (ctx, _) in &links {
            assert_done(ctx, Error::DeadlineExceeded, TOO_LATE);
        }
    }
}

// Callbacks

#[test]
fn after_func_of_unregistered_runs_once_or_stops() {
    for levels in [1, 4] {
        for round in 0..6 {
            let (root, cancel) = Context::background().with_cancel();
            let links = chain(&root, levels);
            let (leaf, cancel_leaf) = &links[levels - 1];
            let (function, ran) = stoppable_callback(leaf);
            match round {
                0 => cancel.cancel(),
                1 => cancel_leaf.cancel("its own"),
                2 => drop(links),
                3 => {
                    drop((root, cancel, links));
                }
                4 => {
                    assert!(function.stop());
                    cancel.cancel();
                }
                _ => {
                    assert!(function.stop());
                    drop(links);
                }
            }
            assert!(!function.stop());
            match round {
                0..=3 => assert_ran(&ran),
                _ => assert_eq!(ran.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected)),
            }
        }
    }
}

// What keeps a context alive

#[test]
fn unregistered_parent_lives_as_long_as_child() {
    for (cut, seen) in [(0, false), (1, false), (2, true), (4, true)] {
        let (top, cancel_top) = Context::background().with_cancel_cause();
        let of_top = top.done();
        let mut links = chain(&top, 5);
        let (leaf, _cancel_leaf) = links.pop().unwrap();
        if seen {
            assert_open(&leaf);
        }
        // In two steps, or all at once.
        if cut > 0 {
            let _cut = links.remove(links.len() - cut);
        }
        drop((links, top));
        assert!(is_open(&of_top));
        assert_open(&leaf);
        cancel_top.cancel("from above");
        assert_done(&leaf, Error::Canceled, "from above");
    }
}

#[test]
fn unregistered_contexts_are_dropped() {
    for seen in [false, true] {
        let (top, cancel) = Context::background().with_cancel();
        let of_top = top.done();
        let links = chain(&top, 3);
        if seen {
            assert_open(&links[1].0);
        }
        drop((top, cancel));
        assert!(is_open(&of_top));
        drop(links);
        assert!(is_closed(&of_top));
    }
}

#[test]
fn cancel_func_alone_keeps_unregistered_alive() {
    let (top, cancel_top) = Context::background().with_cancel();
    let of_top = top.done();
    let (child, cancel) = top.with_cancel();
    drop((top, cancel_top, child));
    assert!(is_open(&of_top));
    cancel.cancel();
    assert!(is_open(&of_top));
    drop(cancel);
    assert!(is_closed(&of_top));
}

#[test]
fn value_above_unregistered_is_dropped() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    #[derive(PartialEq, Eq)]
    struct Kept;
    impl Key for Kept {
        type Value = Counted;
    }

    let dropped = Arc::new(AtomicUsize::new(0));
    let (parent, cancel) = Context::background()
        .with_value(Kept, Counted(dropped.clone()))
        .with_timeout(HOUR);
    let (child, cancel_child) = parent.with_cancel();
    drop((parent, cancel));
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(child);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    drop(cancel_child);
}

// Many threads at once

/// Asserts that each context of a chain has its own cause or that of its parent.
#[track_caller]
fn assert_causes(links: &[(Context, CancelCauseFunc)], own: impl Fn(usize) -> bool) {
    for (level, (ctx, _)) in links.iter().enumerate() {
        assert_eq!(ctx.err(), Some(Error::Canceled), "level {level}");
        let cause = ctx.cause().unwrap();
        let is_own = own(level) && cause.to_string() == format!("from {level}");
        let above = level
            .checked_sub(1)
            .and_then(|above| links[above].0.cause());
        let is_above = above.is_some_and(|above| Arc::ptr_eq(&above, &cause));
        assert!(is_own || is_above, "{cause} at level {level}");
    }
}

#[test]
fn concurrent_first_calls_agree() {
    for round in 0..1_500 {
        let links = Arc::new(chain(&Context::background(), 4));
        let mut jobs: Vec<Task> = (0..3)
            .map(|job| {
                let leaf = links[3].0.clone();
                Box::new(move || {
                    stagger(round * job);
                    let (mut found, mut closed) = (None, false);
                    while found.is_none() || !closed {
                        let open = is_open(&leaf.done());
                        let err = leaf.err();
                        assert!(open || err.is_some(), "done, and yet no error");
                        if let Some(cause) = leaf.cause() {
                            let first = found.get_or_insert_with(|| cause.clone());
                            assert!(Arc::ptr_eq(first, &cause), "another cause");
                            closed = is_closed(&leaf.done());
                            assert!(closed, "an error, and yet not done");
                        }
                        thread::yield_now();
                    }
                }) as Task
            })
            .collect();
        let all = links.clone();
        let level = [0, 2, 3][round % 3];
        jobs.push(Box::new(move || {
            stagger(round / 3);
            all[level].1.cancel(format!("from {level}"));
            assert_eq!(
                all[3].0.cause().unwrap().to_string(),
                format!("from {level}")
            );
            assert!(is_closed(&all[3].0.done()));
        }));
        together(jobs);
        assert_eq!(links[3].0.err(), Some(Error::Canceled));
    }
}

#[test]
fn err_of_unregistered_chain_agrees_across_threads() {
    const LEVELS: usize = 20;
    const MIDDLE: usize = LEVELS / 2;
    for round in 0..500 {
        let links = Arc::new(chain(&Context::background(), LEVELS));
        // The cause at each level, from the first thread that sees an error there.
        let seen: Arc<Vec<OnceLock<Cause>>> = Arc::new(vec![OnceLock::new(); LEVELS]);
        let [middle_over, all_over] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        // The root is cancelled after the middle, or by another thread at the same time.
        let in_turn = round % 2 == 0;

        let mut jobs: Vec<Task> = Vec::new();
        for job in 0..3 {
            let (links, seen) = (links.clone(), seen.clone());
            let (middle_over, all_over) = (middle_over.clone(), all_over.clone());
            jobs.push(Box::new(move || {
                stagger(round * (job + 1));
                let mut last = false;
                while !last {
                    last = all_over.load(Ordering::SeqCst);
                    for step in 0..LEVELS {
                        let level = (step * 7 + job * 5 + round) % LEVELS;
                        let ctx = &links[level].0;
                        let seen_before = seen[level].get().is_some();
                        let is_over = last || level >= MIDDLE && middle_over.load(Ordering::SeqCst);
                        let Some(err) = ctx.err() else {
                            assert!(!seen_before, "the error at level {level} is gone");
                            assert!(!is_over, "no error at level {level} after the cancel");
                            continue;
                        };
                        assert_eq!(err, Error::Canceled);
                        let cause = ctx.cause().expect("a cause with the error");
                        let first = seen[level].get_or_init(|| cause.clone());
                        assert!(Arc::ptr_eq(first, &cause), "another cause at level {level}");
                        if round % 4 > 1 {
                            assert!(is_closed(&ctx.done()), "level {level}");
                        }
                    }
                    thread::yield_now();
                }
            }));
        }
        let all = links.clone();
        jobs.push(Box::new(move || {
            stagger(round / 3);
            let root = all.clone();
            let cancel_root = move || root[0].1.cancel("from 0");
            let root_is_over = match in_turn {
                true => None,
                false => Some(spawn(cancel_root.clone())),
            };
            all[MIDDLE].1.cancel(format!("from {MIDDLE}"));
            middle_over.store(true, Ordering::SeqCst);
            match root_is_over {
                None => cancel_root(),
                Some(over) => receive(&over),
            }
            all_over.store(true, Ordering::SeqCst);
        }));
        together(jobs);

        assert_causes(&links, |level| [0, MIDDLE].contains(&level));
        for (level, seen) in seen.iter().enumerate() {
            let cause = links[level].0.cause().unwrap();
            assert!(Arc::ptr_eq(seen.get().unwrap(), &cause), "level {level}");
            if in_turn {
                let first = if level < MIDDLE { 0 } else { MIDDLE };
                assert_eq!(cause.to_string(), format!("from {first}"), "level {level}");
            }
        }
    }
}

#[test]
fn cancel_racing_first_calls_is_complete() {
    const LEVELS: usize = 24;
    for round in 0..1_200 {
        let links = Arc::new(chain(&Context::background(), LEVELS));
        // Root, middle and leaf are cancelled, and others observed, all at the same time.
        let tops = [0, LEVELS / 2, LEVELS - 1];
        let mut jobs: Vec<Task> = Vec::new();
        for (job, top) in tops.into_iter().enumerate() {
            let links = links.clone();
            jobs.push(Box::new(move || {
                stagger(round * (job + 1) / 7);
                links[top].1.cancel(format!("from {top}"));
                for level in (top..LEVELS).rev() {
                    let ctx = &links[level].0;
                    assert_eq!(ctx.err(), Some(Error::Canceled), "{level} below {top}");
                    assert!(is_closed(&ctx.done()), "{level} below {top}");
                }
            }));
        }
        for job in 0..2 {
            let links = links.clone();
            jobs.push(Box::new(move || {
                stagger(round / 5);
                for step in 0..LEVELS {
                    let level = (step * 7 + job * 11 + round) % LEVELS;
                    let ctx = &links[level].0;
                    match round / 3 % 3 {
                        0 => assert!(ctx.err().is_none() || ctx.cause().is_some()),
                        1 => drop(ctx.done()),
                        _ => drop(ctx.with_timeout(HOUR)),
                    }
                }
            }));
        }
        together(jobs);
        assert_causes(&links, |level| tops.contains(&level));
    }
}

#[test]
fn drops_racing_first_calls() {
    for round in 0..1_200 {
        let (root, cancel) = Context::background().with_cancel_cause();
        let mut links = chain(&root, 8);
        let (leaf, cancel_leaf) = links.pop().unwrap();
        let (clone, other) = (leaf.clone(), links[4].0.clone());
        let (run, ran) = bounded(2);
        together(vec![
            Box::new(move || {
                stagger(round);
                match round % 2 {
                    0 => drop(links),
                    _ => while links.pop().is_some() {},
                }
            }),
            Box::new(move || {
                stagger(round / 2);
                drop((clone, cancel_leaf));
            }),
            Box::new(move || {
                // A child of its own, dropped again.
                drop(other.with_timeout(HOUR));
                drop(other);
            }),
            Box::new(move || {
                assert_open(&leaf);
                let function = leaf.after_func(move || run.send(()).unwrap());
                cancel.cancel("stop");
                assert_done(&leaf, Error::Canceled, "stop");
                assert!(!function.stop());
            }),
        ]);
        assert_ran(&ran);
    }
}

#[test]
fn expiry_racing_first_calls_leaves_one_cause() {
    for round in 0..1_000 {
        let at = Instant::now() + Duration::from_micros(150);
        let (timed, cancel) = Context::background().with_deadline_cause(at, "too slow");
        let links = chain(&timed, 3);
        let (leaf, cancel_leaf) = links[2].clone();
        let wait = move || {
            // Some rounds are a little early, some a little late.
            let moment = at + Duration::from_micros(round % 100) - Duration::from_micros(30);
            while Instant::now() < moment {
                std::hint::spin_loop();
            }
        };
        let (one, other) = (links[1].0.clone(), leaf.clone());
        together(vec![
            Box::new(move || {
                wait();
                match round % 4 {
                    0 => cancel_leaf.cancel("its own"),
                    1 => {}
                    _ => cancel.cancel(),
                }
            }),
            Box::new(move || {
                wait();
                assert!(one.err().is_none() || one.cause().is_some());
            }),
            Box::new(move || {
                wait();
                drop(other.done());
            }),
        ]);
        if round % 4 < 2 {
            let _ = leaf.wait();
        }
        let found = (leaf.err().unwrap(), leaf.cause().unwrap().to_string());
        match round % 4 {
            0 if found.0 == Error::Canceled => assert_eq!(found.1, "its own"),
            _ if found.0 == Error::Canceled => assert_eq!(found.1, CANCELED),
            _ => assert_eq!(found.1, "too slow"),
        }
        if round % 4 >= 2 {
            for ctx in links.iter().map(|(ctx, _)| ctx).chain([&timed]) {
                assert_eq!(ctx.err(), leaf.err());
                assert!(same_cause(ctx, &leaf));
            }
        }
    }
}
