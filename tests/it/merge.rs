//! Contexts with two parents.

use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, Sender};
use go_context::{CancelFunc, Context, CustomContext, Error, Key};
use proptest::prelude::*;
use proptest::test_runner::Config;
use support::custom::Registry;
use support::threads::on_small_stack;
use support::{
    assert_done, assert_ends, assert_open, callback, is_closed, is_open, Tag, Task, CANCELED, HOUR,
    LIMIT,
};

/// A wrapper with a name of its own.
struct Shell(Context);

impl CustomContext for Shell {
    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }

    fn done(&self) -> Receiver<()> {
        self.0.done()
    }

    fn err(&self) -> Option<Error> {
        self.0.err()
    }

    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shell")
    }
}

/// A custom context that lists the functions registered with it, and its done channel.
#[derive(Clone)]
struct Bell {
    done: Receiver<()>,
    waiting: Registry,
}

impl Bell {
    fn new() -> (Bell, Context, Sender<()>) {
        let (open, done) = bounded(0);
        let bell = Bell {
            done,
            waiting: Registry::default(),
        };
        (bell.clone(), Context::custom(bell), open)
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }

    fn ring(&self, open: Sender<()>) {
        drop(open);
        self.waiting.call_all();
    }
}

impl CustomContext for Bell {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    fn err(&self) -> Option<Error> {
        is_closed(&self.done).then_some(Error::Canceled)
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        Some(self.waiting.register(f))
    }

    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bell")
    }
}

// One of the parents ends

#[test]
fn merge_ends_with_first_parent_that_ends() {
    for first_ends in [true, false] {
        let (first, cancel_first) = Context::background().with_cancel_cause();
        let (other, cancel_other) = Context::background().with_cancel_cause();
        let (merged, _cancel) = first.merge(&other);
        let (child, _cancel) = merged.with_value(Tag(0), 1).with_cancel();
        let late = child.after_func(|| ());
        for ctx in [&first, &other, &merged, &child] {
            assert_open(ctx);
        }
        let (ended, open) = if first_ends {
            cancel_first.cancel("first");
            (&first, &other)
        } else {
            cancel_other.cancel("other");
            (&other, &first)
        };
        let cause = ended.cause().unwrap();
        for ctx in [&merged, &child] {
            assert_done(ctx, Error::Canceled, &cause.to_string());
            assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &cause));
        }
        assert!(!late.stop());
        assert_open(open);

        cancel_first.cancel("too late");
        cancel_other.cancel("too late");
        assert!(Arc::ptr_eq(&merged.cause().unwrap(), &cause));
    }
}

#[test]
fn merge_cancel_leaves_parents_open() {
    let (first, _cancel) = Context::background().with_cancel();
    let (other, _cancel) = Context::background().with_cancel();
    let (merged, cancel) = first.merge(&other);
    let (child, _cancel) = merged.with_cancel();
    cancel.cancel();
    assert_done(&merged, Error::Canceled, CANCELED);
    assert_done(&child, Error::Canceled, CANCELED);
    assert_open(&first);
    assert_open(&other);
}

#[test]
fn merge_of_done_parents_is_done() {
    let (open, _cancel) = Context::background().with_cancel();
    let (ended, cancel) = Context::background().with_cancel_cause();
    cancel.cancel("one");
    let (past, _cancel) = Context::background().with_deadline_cause(Instant::now(), "two");
    let cases = [
        (&ended, &open, Error::Canceled, "one"),
        (&open, &ended, Error::Canceled, "one"),
        (&ended, &past, Error::Canceled, "one"),
        (&past, &ended, Error::DeadlineExceeded, "two"),
    ];
    for (first, other, err, cause) in cases {
        let (merged, _cancel) = first.merge(other);
        assert_done(&merged, err, cause);
    }
}

#[test]
fn merge_has_earlier_deadline() {
    let now = Instant::now();
    let with = |hours: u32| match hours {
        0 => Context::background().with_cancel().0,
        _ => Context::background().with_deadline(now + hours * HOUR).0,
    };
    let cases = [
        (0, 0, None),
        (0, 1, Some(1)),
        (1, 0, Some(1)),
        (1, 2, Some(1)),
        (2, 1, Some(1)),
    ];
    for (first, other, expected) in cases {
        let (merged, _cancel) = with(first).merge(&with(other));
        let expected = expected.map(|hours: u32| now + hours * HOUR);
        assert_eq!(merged.deadline(), expected, "{merged}");
        // It limits what is derived from it.
        let (child, _cancel) = merged.with_deadline(now + 3 * HOUR);
        assert_eq!(
            child.deadline(),
            expected.or(Some(now + 3 * HOUR)),
            "{child}"
        );
    }
}

#[test]
fn merge_ends_at_deadline_of_either_parent() {
    let (open, _cancel) = Context::background().with_cancel();
    let soon = Duration::from_millis(1);
    let (timed, _cancel) = Context::background().with_timeout_cause(soon, "slow");
    for (first, other) in [(&open, &timed), (&timed, &open)] {
        let (merged, _cancel) = first.merge(other);
        assert_ends(&merged, Error::DeadlineExceeded, "slow");
    }
    assert_open(&open);
}

#[test]
fn merge_ignores_parent_that_is_never_done() {
    let (gone, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let endless = [
        Context::background(),
        Context::todo(),
        gone.without_cancel(),
        Context::background().with_value(Tag(1), 1),
        Context::custom(Shell(Context::background())),
    ];
    for still in &endless {
        for swapped in [false, true] {
            let (live, cancel_live) = Context::background().with_cancel_cause();
            let (merged, _cancel) = match swapped {
                false => live.merge(still),
                true => still.merge(&live),
            };
            assert!(merged.is_cancellable());
            assert_open(&merged);
            cancel_live.cancel("why");
            assert_done(&merged, Error::Canceled, "why");
        }
        let (alone, cancel) = still.merge(&Context::background());
        assert!(alone.is_cancellable());
        assert_open(&alone);
        cancel.cancel();
        assert_done(&alone, Error::Canceled, CANCELED);
    }
}

#[test]
fn merge_of_value_wrapper_and_custom() {
    let (inner, cancel_inner) = Context::background().with_cancel_cause();
    let value = inner.with_value(Tag(1), 1);
    let shell = Context::custom(Shell(value.clone()));
    let (bell, custom, open) = Bell::new();
    let merged = [&value, &shell].map(|ctx| (custom.merge(ctx), ctx.merge(&custom)));
    assert_eq!(bell.len(), 1);
    cancel_inner.cancel("why");
    for ((one, _), (two, _)) in &merged {
        assert_done(one, Error::Canceled, "why");
        assert_done(two, Error::Canceled, "why");
        assert_eq!(one.value(&Tag(1)), Some(&1));
    }
    assert_eq!(bell.len(), 0);

    let (live, _cancel) = Context::background().with_cancel();
    let merged = [custom.merge(&live), live.merge(&custom)];
    bell.ring(open);
    for (ctx, _) in &merged {
        assert_done(ctx, Error::Canceled, CANCELED);
    }
    assert_open(&live);
}

#[test]
fn merge_with_itself_is_an_ordinary_child() {
    let (ctx, cancel) = Context::background()
        .with_value(Tag(0), 5)
        .with_cancel_cause();
    let (merged, _cancel) = ctx.merge(&ctx);
    let (other, cancel_other) = ctx.merge(&ctx);
    cancel_other.cancel();
    assert_open(&ctx);
    assert_open(&merged);
    drop(other);
    assert_eq!(merged.value(&Tag(0)), Some(&5));
    cancel.cancel("why");
    assert_done(&merged, Error::Canceled, "why");
}

#[test]
fn merge_with_own_ancestor() {
    let (top, cancel) = Context::background().with_cancel_cause();
    let (left, _cancel) = top.with_cancel();
    let (right, _cancel) = top.with_cancel();
    let (low, _cancel) = left.with_cancel();
    let all = [
        left.merge(&right),
        top.merge(&low),
        low.merge(&top),
        low.merge(&right).0.merge(&left),
    ];
    for (ctx, _) in &all {
        assert_open(ctx);
    }
    cancel.cancel("why");
    for (ctx, _) in &all {
        assert_done(ctx, Error::Canceled, "why");
    }
}

// Unregistering

#[test]
fn merge_is_unregistered_from_both_parents() {
    type End = fn(Context, CancelFunc);
    let ends: [(&str, End); 2] = [
        ("cancelled", |ctx, cancel| {
            cancel.cancel();
            assert_done(&ctx, Error::Canceled, CANCELED);
        }),
        ("abandoned", |ctx, cancel| {
            let done = ctx.done();
            drop(cancel);
            assert!(is_open(&done));
            drop(ctx);
            assert!(is_closed(&done));
        }),
    ];
    for (name, end) in ends {
        let (left, first, _open) = Bell::new();
        let (right, other, _open) = Bell::new();
        let (ctx, cancel) = first.merge(&other);
        assert_eq!((left.len(), right.len()), (1, 1), "{name}");
        end(ctx, cancel);
        assert_eq!((left.len(), right.len()), (0, 0), "{name}");
    }

    // Ended by one parent, it is unregistered from the other.
    let (left, first, open) = Bell::new();
    let (right, other, _open) = Bell::new();
    let merged = [first.merge(&other), other.merge(&first)];
    assert_eq!((left.len(), right.len()), (1, 1));
    left.ring(open);
    assert_eq!((left.len(), right.len()), (0, 0));
    for (ctx, _) in &merged {
        assert_done(ctx, Error::Canceled, CANCELED);
    }

    // It is done at once, so it was not registered for long.
    let merged = [first.merge(&other), other.merge(&first)];
    assert_eq!(right.len(), 0);
    drop(merged);
}

#[test]
fn merge_runs_callbacks_whatever_ends_it() {
    let runs = |end: fn(Context, CancelFunc, CancelFunc)| {
        let (first, cancel_first) = Context::background().with_cancel();
        let (merged, cancel) = Context::todo().merge(&first);
        let ran = callback(&merged);
        end(merged, cancel, cancel_first);
        assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    };
    runs(|_, cancel, _| cancel.cancel());
    runs(|_merged, _, cancel_first| cancel_first.cancel());
    runs(|merged, cancel, _| drop((merged, cancel)));
}

#[test]
fn merge_keeps_both_parents_alive() {
    let (first, cancel) = Context::background().with_cancel();
    drop(cancel);
    let (other, cancel) = Context::background().with_cancel();
    drop(cancel);
    let both = [first.done(), other.done()];
    let (merged, cancel) = first.merge(&other);
    drop((first, other, cancel));
    let (child, cancel) = merged.with_cancel();
    drop((merged, child));
    assert!(both.iter().all(is_open));
    drop(cancel);
    assert!(both.iter().all(is_closed));
}

#[test]
fn merge_drops_values_of_both_even_if_one_panics() {
    struct Counts(Arc<AtomicUsize>, bool);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            assert!(!self.1, "the value fails");
        }
    }
    #[derive(PartialEq, Eq)]
    struct Kept;
    impl Key for Kept {
        type Value = Counts;
    }

    let values = 3;
    for failing in 0..values * 3 {
        let dropped = Arc::new(AtomicUsize::new(0));
        let list = |number: usize| {
            (0..values).fold(Context::background(), |ctx, n| {
                let fails = number * values + n == failing;
                ctx.with_value(Kept, Counts(dropped.clone(), fails))
            })
        };
        let (inner, _) = list(0).merge(&list(1));
        let (outer, cancel) = list(2).merge(&inner);
        drop((inner, cancel));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(outer))).is_err());
        assert_eq!(dropped.load(Ordering::SeqCst), values * 3, "{failing}");
    }
}

// Both parents at once

#[test]
fn merge_is_done_when_either_cancel_returns() {
    for round in 0..2000 {
        let (first, cancel_first) = Context::background().with_cancel_cause();
        let (other, cancel_other) = Context::background().with_cancel_cause();
        let (merged, _cancel) = first.merge(&other);
        let (crossed, _cancel) = other.merge(&first);
        let (both, _cancel) = merged.merge(&crossed);
        let mut below: Vec<_> = (0..8).map(|_| merged.with_cancel()).collect();
        below.push(both.with_cancel());
        // A channel to close makes the cancellation take longer.
        let done: Vec<_> = below
            .iter()
            .filter(|_| round % 2 == 0)
            .map(|(ctx, _)| ctx.done())
            .collect();
        let start = Barrier::new(2);
        let run = |cancel: &dyn Fn()| {
            start.wait();
            cancel();
            for ctx in [&merged, &crossed, &both] {
                assert_eq!(ctx.err(), Some(Error::Canceled));
            }
            assert!(below.iter().all(|(ctx, _)| ctx.err().is_some()));
            assert!(done.iter().all(is_closed));
        };
        thread::scope(|s| {
            s.spawn(|| run(&|| cancel_other.cancel("other")));
            run(&|| cancel_first.cancel("first"));
        });
        let cause = merged.cause().unwrap();
        assert!(["first", "other"].contains(&cause.to_string().as_str()));
        for (child, _) in &below[..8] {
            assert!(Arc::ptr_eq(&child.cause().unwrap(), &cause));
        }
    }
}

#[test]
fn merge_during_parent_cancel_is_done() {
    for round in 0..2000 {
        let (first, cancel_first) = Context::background().with_cancel_cause();
        let (other, cancel_other) = Context::background().with_cancel_cause();
        let start = Barrier::new(3);
        thread::scope(|s| {
            s.spawn(|| {
                start.wait();
                cancel_first.cancel("first");
            });
            if round % 2 == 0 {
                s.spawn(|| {
                    start.wait();
                    cancel_other.cancel("other");
                });
            } else {
                s.spawn(|| start.wait());
            }
            start.wait();
            let all = [first.merge(&other), other.merge(&first)];
            let done = [all[0].0.done(), all[1].0.done()];
            for done in &done {
                let news = done.recv_timeout(LIMIT);
                assert!(news.unwrap_err().is_disconnected());
            }
        });
    }
}

// Values and display

#[test]
fn merge_looks_up_values_of_first_parent_first() {
    let bg = Context::background();
    let first = bg.with_value(Tag(0), 10).with_value(Tag(1), 11);
    let other = bg.with_value(Tag(1), 21).with_value(Tag(2), 22);
    let (merged, _cancel) = first.merge(&other);
    let nested = merged.with_value(Tag(3), 33);
    let (nested, _cancel) = nested.merge(&bg.with_value(Tag(4), 44).with_value(Tag(2), 42));
    let cases = [
        (&merged, [Some(10), Some(11), Some(22), None, None]),
        (&nested, [Some(10), Some(11), Some(22), Some(33), Some(44)]),
        (
            &nested.with_value(Tag(0), 50),
            [Some(50), Some(11), Some(22), Some(33), Some(44)],
        ),
        (&first, [Some(10), Some(11), None, None, None]),
        (&other, [None, Some(21), Some(22), None, None]),
    ];
    for (ctx, values) in cases {
        let found = [0, 1, 2, 3, 4].map(|n| ctx.value(&Tag(n)).copied());
        assert_eq!(found, values, "{ctx}");
    }
}

#[test]
fn merge_displays_both_parents() {
    let (a, _cancel) = Context::background().with_cancel();
    let b = Context::todo().without_cancel();
    let (merged, _cancel) = a.merge(&b);
    let text = "context.Background.WithCancel.Merge(context.TODO.WithoutCancel)";
    assert_eq!(merged.to_string(), text);

    let (child, _cancel) = merged.with_cancel();
    let (outer, _cancel) = Context::background().merge(&child);
    let text = format!("context.Background.Merge({text}.WithCancel)");
    assert_eq!(outer.to_string(), text);

    let (own, _cancel) = a.merge(&a);
    let name = "context.Background.WithCancel";
    assert_eq!(own.to_string(), format!("{name}.Merge({name})"));

    let shell = Context::custom(Shell(a));
    let (outer, _cancel) = shell.merge(&shell.without_cancel());
    assert_eq!(outer.to_string(), "shell.Merge(shell.WithoutCancel)");
}

/// One step that derives a context from earlier ones.
#[derive(Clone, Debug)]
enum Step {
    Value(usize, u8),
    Merge(usize, usize),
    Cancel(usize),
    Shell(usize),
}

/// The same with the values and the text found in the simplest way.
struct Plain {
    parents: Vec<usize>,
    tag: Option<u8>,
    text: String,
}

fn lookup(all: &[Plain], of: usize, tag: u8) -> Option<usize> {
    if all[of].tag == Some(tag) {
        return Some(of);
    }
    let mut parents = all[of].parents.iter();
    parents.find_map(|&parent| lookup(all, parent, tag))
}

fn step() -> impl Strategy<Value = Step> {
    let pick = 0..32_usize;
    prop_oneof![
        3 => (pick.clone(), 0..3_u8).prop_map(|(of, tag)| Step::Value(of, tag)),
        4 => (pick.clone(), pick.clone()).prop_map(|(first, other)| Step::Merge(first, other)),
        1 => pick.clone().prop_map(Step::Cancel),
        1 => pick.prop_map(Step::Shell),
    ]
}

proptest! {
    #![proptest_config(Config {
        cases: 500,
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn merges_look_up_and_display_like_a_search(
        steps in prop::collection::vec(step(), 1..14),
    ) {
        let mut all = vec![Context::background()];
        let mut plain = vec![Plain {
            parents: vec![],
            tag: None,
            text: "context.Background".into(),
        }];
        for step in &steps {
            let number = all.len();
            let pick = |of: &usize| of % number;
            let (ctx, parents, tag) = match step {
                Step::Value(of, tag) => {
                    let ctx = all[pick(of)].with_value(Tag(*tag), number);
                    (ctx, vec![pick(of)], Some(*tag))
                }
                Step::Merge(first, other) => {
                    let (ctx, _) = all[pick(first)].merge(&all[pick(other)]);
                    (ctx, vec![pick(first), pick(other)], None)
                }
                Step::Cancel(of) => (all[pick(of)].with_cancel().0, vec![pick(of)], None),
                Step::Shell(of) => {
                    let ctx = Context::custom(Shell(all[pick(of)].clone()));
                    (ctx, vec![pick(of)], None)
                }
            };
            let above = &plain[parents[0]].text;
            let text = match step {
                Step::Value(..) => {
                    format!("{above}.WithValue({}, usize)", std::any::type_name::<Tag>())
                }
                Step::Merge(..) => format!("{above}.Merge({})", plain[parents[1]].text),
                Step::Cancel(_) => format!("{above}.WithCancel"),
                Step::Shell(_) => "shell".into(),
            };
            all.push(ctx);
            plain.push(Plain { parents, tag, text });
        }
        for (number, ctx) in all.iter().enumerate() {
            for tag in 0..4 {
                let found = ctx.value(&Tag(tag)).copied();
                prop_assert_eq!(found, lookup(&plain, number, tag), "c{}, {}", number, tag);
            }
            prop_assert_eq!(&ctx.to_string(), &plain[number].text);
        }
    }
}

// Many merges

/// With n merges there are 2^n paths from the last to the root: each context must be visited once.
#[test]
fn merge_repeated_keeps_lookup_fast() {
    let root = Context::background().with_value(Tag(0), 7);
    type Derive = fn(&Context) -> Context;
    let ways: [(&str, Derive); 4] = [
        ("itself", |ctx| ctx.merge(ctx).0),
        ("a child", |ctx| ctx.merge(&ctx.with_cancel().0).0),
        ("another list", |ctx| {
            let [first, other] = [1, 2].map(|n| ctx.with_value(Tag(n), 0));
            first.merge(&other).0
        }),
        ("a wrapper", |ctx| {
            let shell = Context::custom(Shell(Context::background()));
            ctx.merge(&shell.merge(ctx).0).0
        }),
    ];
    for (name, derive) in ways {
        let (mut ctx, _cancel) = root.with_cancel();
        for _ in 0..30 {
            ctx = derive(&ctx);
        }
        assert_eq!(ctx.value(&Tag(9)), None, "{name}");
        assert_eq!(ctx.value(&Tag(0)), Some(&7), "{name}");
        assert_eq!(ctx.with_value(Tag(0), 8).value(&Tag(0)), Some(&8), "{name}");
    }
}

/// More than any stack could take, if there were recursion.
const MANY: usize = 100_000;

/// Derives a ladder, calls everything on it, cancels it at the root and drops it, on a small stack.
fn climb(next: fn(&Context, &Context) -> Context) {
    on_small_stack(move || {
        let (root, cancel) = Context::background()
            .with_value(Tag(0), 7)
            .with_cancel_cause();
        let mut top = root.clone();
        for _ in 0..MANY {
            top = next(&root, &top);
        }
        assert_eq!(top.value(&Tag(9)), None);
        assert_eq!(top.value(&Tag(0)), Some(&7));
        assert!(top.to_string().len() > MANY * ".Merge(".len());
        assert_open(&top);
        cancel.cancel("why");
        assert_done(&top, Error::Canceled, "why");
        drop(top);
    });
}

#[test]
fn merge_ladder_by_other_does_not_recurse() {
    climb(|_, top| Context::background().merge(top).0);
}

#[test]
fn merge_ladder_with_values_does_not_recurse() {
    climb(|root, top| root.merge(top).0);
}

#[test]
fn merge_ladder_by_first_does_not_recurse() {
    climb(|_, top| top.merge(&Context::background()).0);
}

#[test]
fn merge_ladder_values_between_do_not_recurse() {
    climb(|root, top| {
        root.with_value(Tag(1), 1)
            .merge(&top.with_value(Tag(2), 2))
            .0
    });
}
