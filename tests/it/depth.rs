//! A million contexts in one chain on a small stack, and a million under one parent.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver};
use go_context::{CancelFunc, Context, Error, Key};
use support::threads::on_small_stack;
use support::{is_closed, is_open, Counted, HOUR, LIMIT};

const MILLION: usize = 1_000_000;

/// A key for the value of one level of a chain.
#[derive(PartialEq, Eq)]
struct Level(usize);

impl Key for Level {
    type Value = Counted;
}

/// A key that no context of a chain has.
#[derive(PartialEq, Eq)]
struct Nowhere;

impl Key for Nowhere {
    type Value = ();
}

/// Runs both at the same time, each on a small stack.
fn both_on_small_stacks(
    one: impl FnOnce() + Send + 'static,
    other: impl FnOnce() + Send + 'static,
) {
    let start = Arc::new(Barrier::new(2));
    let meet = start.clone();
    let one = move || {
        start.wait();
        one();
    };
    let other = move || {
        meet.wait();
        other();
    };
    let other = thread::spawn(move || on_small_stack(other));
    on_small_stack(one);
    other.join().unwrap_or_else(|panic| resume_unwind(panic));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cancel,
    Value,
    Deadline,
    WithoutCancel,
}

/// The kinds of contexts in a chain, over and over.
type Pattern = &'static [Kind];

const CANCELS: Pattern = &[Kind::Cancel];
const VALUES: Pattern = &[Kind::Value];
const LISTENING: Pattern = &[Kind::Cancel, Kind::Value, Kind::Deadline];
const MIXED: Pattern = &[
    Kind::Cancel,
    Kind::Value,
    Kind::Deadline,
    Kind::WithoutCancel,
];

/// A chain, and what shows its state without keeping it alive.
struct Chain {
    /// Every context of it, from the top, with its cancel function.
    links: Vec<(Context, Option<CancelFunc>)>,
    /// The deadline of all that have one. Not before the parent's, so that each has a timer of its
    /// own.
    deadline: Instant,
    dropped: Arc<AtomicUsize>,
    watch: Watch,
}

/// What a dropped chain leaves: some of its done channels, and the number of dropped values.
struct Watch {
    channels: Vec<Receiver<()>>,
    values: usize,
    dropped: Arc<AtomicUsize>,
}

impl Watch {
    fn assert_all_gone(&self) {
        assert!(self.channels.iter().all(is_closed));
        assert_eq!(self.dropped.load(Ordering::Relaxed), self.values);
    }
}

impl Chain {
    fn new(root: &Context, pattern: Pattern, length: usize) -> Chain {
        let deadline = Instant::now() + HOUR;
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut links: Vec<(Context, Option<CancelFunc>)> = Vec::with_capacity(length);
        let mut channels = Vec::new();
        let mut values = 0;
        for (level, kind) in pattern.iter().cycle().take(length).enumerate() {
            let parent = links.last().map_or(root, |(ctx, _)| ctx);
            let link = match kind {
                Kind::Cancel => some_cancel(parent.with_cancel()),
                Kind::Deadline => some_cancel(parent.with_deadline(deadline)),
                Kind::Value => {
                    values += 1;
                    (
                        parent.with_value(Level(level), Counted(dropped.clone())),
                        None,
                    )
                }
                Kind::WithoutCancel => (parent.without_cancel(), None),
            };
            if level % (length / 20) < 4 && link.0.is_cancellable() {
                channels.push(link.0.done());
            }
            links.push(link);
        }
        let watch = Watch {
            channels,
            values,
            dropped: dropped.clone(),
        };
        Chain {
            links,
            deadline,
            dropped,
            watch,
        }
    }

    fn leaf(&self) -> &Context {
        let (leaf, _) = self.links.last().expect("a chain has links");
        leaf
    }

    /// Only the leaf; its ancestors have no other handle.
    fn into_leaf(mut self) -> (Context, Watch) {
        let leaf = self.leaf().clone();
        self.links.clear();
        (leaf, self.watch)
    }
}

fn some_cancel((ctx, cancel): (Context, CancelFunc)) -> (Context, Option<CancelFunc>) {
    (ctx, Some(cancel))
}

// Chains

#[test]
fn million_cancels_in_a_chain_do_not_recurse() {
    on_small_stack(|| {
        let (root, cancel) = Context::background().with_cancel_cause();
        let mut chain = Chain::new(&root, CANCELS, MILLION);
        let leaf = chain.leaf().clone();
        assert_eq!(leaf.err(), None);
        assert_eq!(leaf.deadline(), None);
        assert!(leaf.value(&Nowhere).is_none());
        assert!(chain.watch.channels.iter().all(is_open));
        let text = leaf.to_string();
        assert!(text.starts_with("context.Background.WithCancel.WithCancel."));
        assert_eq!(text.matches(".WithCancel").count(), MILLION + 1);

        cancel.cancel("from the top");
        for (ctx, _) in &chain.links {
            assert_eq!(ctx.err(), Some(Error::Canceled));
        }
        assert!(chain.watch.channels.iter().all(is_closed));
        assert_eq!(leaf.cause().unwrap().to_string(), "from the top");
        let (late, _cancel) = leaf.with_cancel();
        assert_eq!(late.err(), Some(Error::Canceled));
        drop((leaf, late, _cancel));
        while chain.links.pop().is_some() {} // from the bottom
        assert_eq!(root.to_string(), "context.Background.WithCancel");
    });
}

#[test]
fn million_values_in_a_chain_do_not_recurse() {
    on_small_stack(|| {
        let (root, cancel) = Context::background().with_cancel();
        let mut chain = Chain::new(&root, VALUES, MILLION);
        let leaf = chain.leaf().clone();
        for level in [0, 1, MILLION / 2, MILLION - 1] {
            assert!(Arc::ptr_eq(
                &leaf.value(&Level(level)).unwrap().0,
                &chain.dropped
            ));
        }
        assert!(leaf.value(&Level(MILLION)).is_none());
        assert!(leaf.value(&Nowhere).is_none());
        assert_eq!(leaf.err(), None);
        assert_eq!(leaf.deadline(), None);
        let text = leaf.to_string();
        assert!(text.starts_with("context.Background.WithCancel.WithValue("));
        assert_eq!(text.matches(".WithValue(").count(), MILLION);

        cancel.cancel();
        assert_eq!(leaf.err(), Some(Error::Canceled));
        drop(leaf);
        while chain.links.pop().is_some() {
            let dropped = chain.dropped.load(Ordering::Relaxed);
            assert_eq!(dropped + chain.links.len(), MILLION);
        }
        chain.watch.assert_all_gone();
    });
}

#[test]
fn million_mixed_contexts_do_not_recurse() {
    on_small_stack(|| {
        let (root, cancel) = Context::background().with_cancel_cause();
        let mut chain = Chain::new(&root, LISTENING, MILLION);
        let leaf = chain.leaf().clone();
        assert_eq!(leaf.err(), None);
        assert_eq!(leaf.deadline(), Some(chain.deadline));
        assert!(leaf.value(&Level(1)).is_some());
        assert!(leaf.value(&Level(0)).is_none());
        let text = leaf.to_string();
        assert_eq!(text.matches(".WithCancel").count(), MILLION / 3 + 2);
        assert_eq!(text.matches(".WithValue(").count(), MILLION / 3);
        assert_eq!(text.matches(".WithDeadline([").count(), MILLION / 3);

        cancel.cancel("from the top");
        assert!(chain
            .links
            .iter()
            .all(|(ctx, _)| ctx.err() == Some(Error::Canceled)));
        assert!(chain.watch.channels.iter().all(is_closed));
        assert_eq!(leaf.cause().unwrap().to_string(), "from the top");
        drop(leaf);
        while chain.links.pop().is_some() {} // from the bottom
        chain.watch.assert_all_gone();
    });
}

#[test]
fn million_with_without_cancel_do_not_recurse() {
    on_small_stack(|| {
        let (root, cancel) = Context::background().with_cancel();
        let mut chain = Chain::new(&root, MIXED, MILLION);
        let leaf = chain.leaf().clone();
        assert!(!leaf.is_cancellable());
        assert_eq!(leaf.deadline(), None);
        assert!(leaf.value(&Level(1)).is_some());
        let text = leaf.to_string();
        for step in [
            ".WithCancel",
            ".WithValue(",
            ".WithDeadline([",
            ".WithoutCancel",
        ] {
            let root = usize::from(step == ".WithCancel");
            assert_eq!(text.matches(step).count(), MILLION / 4 + root);
        }

        // A cancel goes down to the first context without cancellation.
        cancel.cancel();
        for (level, (ctx, _)) in chain.links.iter().enumerate() {
            assert_eq!(ctx.err().is_some(), level < 3, "level {level}");
        }
        drop(leaf);
        while chain.links.pop().is_some() {} // from the bottom
        chain.watch.assert_all_gone();
    });
}

#[test]
fn long_chain_is_dropped_with_its_leaf() {
    for pattern in [CANCELS, VALUES, LISTENING, MIXED] {
        on_small_stack(move || {
            let chain = Chain::new(&Context::background(), pattern, MILLION);
            let (top, _) = &chain.links[0];
            let (run, ran) = bounded(1);
            let runs = top.is_cancellable();
            top.after_func(move || run.send(()).unwrap());
            let (leaf, watch) = chain.into_leaf();
            // With no handle but the leaf's, the whole chain is alive.
            assert_eq!(watch.dropped.load(Ordering::Relaxed), 0);
            assert!(watch.channels.iter().all(is_open));

            drop(leaf);
            watch.assert_all_gone();
            assert_eq!(ran.recv_timeout(LIMIT).is_ok(), runs);
        });
    }
}

#[test]
fn long_chain_is_dropped_from_the_top() {
    for pattern in [CANCELS, VALUES, LISTENING, MIXED] {
        on_small_stack(move || {
            let chain = Chain::new(&Context::background(), pattern, MILLION);
            let mut links = chain.links.into_iter();
            let last = links.next_back();
            links.for_each(drop);
            assert_eq!(chain.dropped.load(Ordering::Relaxed), 0);
            assert!(chain.watch.channels.iter().all(is_open));
            drop(last);
            chain.watch.assert_all_gone();
        });
    }
}

#[test]
fn deadline_at_top_ends_long_chain() {
    on_small_stack(|| {
        let deadline = Instant::now() + Duration::from_secs(1);
        let (root, _cancel) = Context::background().with_deadline_cause(deadline, "too slow");
        let (leaf, watch) = Chain::new(&root, CANCELS, MILLION).into_leaf();
        assert_eq!(leaf.deadline(), Some(deadline));
        assert!(leaf
            .done()
            .recv_timeout(LIMIT)
            .is_err_and(|err| err.is_disconnected()));
        assert!(Instant::now() >= deadline);
        assert_eq!(leaf.err(), Some(Error::DeadlineExceeded));
        assert_eq!(leaf.cause().unwrap().to_string(), "too slow");
        watch.assert_all_gone();
    });
}

// Chains and two threads

/// Once a chain that is far too long for the stack, and then often one that is just too long.
fn lengths() -> impl Iterator<Item = usize> {
    std::iter::once(MILLION).chain(std::iter::repeat(1_000).take(300))
}

#[test]
fn last_two_leaves_of_chain_dropped_at_once() {
    for pattern in [CANCELS, VALUES, LISTENING, MIXED] {
        for length in lengths() {
            let (stem, watch) = Chain::new(&Context::background(), pattern, length).into_leaf();
            let (one, cancel_one) = stem.with_cancel();
            let (other, cancel_other) = stem.with_cancel();
            assert_eq!((one.err(), stem.err()), (None, None)); // the other is never registered
            drop(stem);
            assert_eq!(watch.dropped.load(Ordering::Relaxed), 0);
            both_on_small_stacks(|| drop((one, cancel_one)), || drop((other, cancel_other)));
            watch.assert_all_gone();
        }
    }
}

#[test]
fn every_other_link_dropped_by_two_threads() {
    for pattern in [CANCELS, VALUES, LISTENING, MIXED] {
        for (round, length) in lengths().enumerate() {
            let Chain { links, watch, .. } = Chain::new(&Context::background(), pattern, length);
            let (mut even, mut odd) = (Vec::new(), Vec::new());
            for (level, link) in links.into_iter().enumerate() {
                [&mut even, &mut odd][level % 2].push(link);
            }
            if round % 2 == 0 {
                even.reverse();
                odd.reverse();
            }
            both_on_small_stacks(
                || even.into_iter().for_each(drop),
                || odd.into_iter().for_each(drop),
            );
            watch.assert_all_gone();
        }
    }
}

#[test]
fn chain_cancelled_at_top_dropped_at_bottom() {
    for pattern in [CANCELS, LISTENING, MIXED] {
        for length in lengths() {
            let (root, cancel) = Context::background().with_cancel();
            let Chain { links, watch, .. } = Chain::new(&root, pattern, length);
            let leaf_only = length == MILLION;
            both_on_small_stacks(
                move || cancel.cancel(),
                move || {
                    let mut links = links;
                    if leaf_only {
                        links.drain(..length - 1);
                    }
                    while links.pop().is_some() {}
                },
            );
            assert_eq!(root.err(), Some(Error::Canceled));
            watch.assert_all_gone();
        }
    }
}

// A million children

type Children = Vec<Option<(Context, CancelFunc)>>;

/// All indices of a collection, ordered so that neighbours are far apart.
fn scattered(length: usize) -> impl Iterator<Item = usize> {
    // The step is a prime, and divides none of the lengths used here.
    (0..length).map(move |i| i * 617_369 % length)
}

fn children(parent: &Context, count: usize) -> Children {
    (0..count).map(|_| Some(parent.with_cancel())).collect()
}

#[test]
fn million_children_are_done_with_parent() {
    on_small_stack(|| {
        let (parent, cancel) = Context::background().with_cancel_cause();
        let mut all = children(&parent, MILLION);
        assert!(all.iter().flatten().all(|(ctx, _)| ctx.err().is_none()));
        cancel.cancel("stop");
        for (ctx, _) in all.iter().flatten() {
            assert_eq!(ctx.err(), Some(Error::Canceled));
        }
        let (last, _) = all.last().and_then(Option::as_ref).unwrap();
        assert_eq!(last.cause().unwrap().to_string(), "stop");
        for i in scattered(MILLION) {
            assert!(all[i].take().is_some());
        }
    });
}

#[test]
fn rest_of_million_children_is_done_with_parent() {
    let (parent, cancel) = Context::background().with_cancel();
    let mut all = children(&parent, MILLION);
    // The parent has only the registered ones.
    let is_open = |child: &(Context, CancelFunc)| child.0.err().is_none();
    assert!(all.iter().flatten().all(is_open));
    // One in three is dropped, one cancelled, one left. Their slots are reused.
    for i in scattered(MILLION) {
        match i % 3 {
            0 => drop(all[i].take()),
            1 => all[i].as_ref().unwrap().1.cancel(),
            _ => {}
        }
    }
    let new = children(&parent, MILLION / 2);
    for (i, child) in all.iter().enumerate() {
        let err = child.as_ref().map(|(ctx, _)| ctx.err());
        assert_eq!(err, [None, Some(Some(Error::Canceled)), Some(None)][i % 3]);
    }
    assert!(new.iter().flatten().all(|(ctx, _)| ctx.err().is_none()));
    cancel.cancel();
    for (ctx, _) in all.iter().chain(&new).flatten() {
        assert_eq!(ctx.err(), Some(Error::Canceled));
    }
}

#[test]
fn child_cost_is_independent_of_siblings() {
    // The same number of children of one parent, and of many with a hundred each. It takes about
    // as long, if what a child costs does not depend on its siblings: the memory in use and the
    // order are the same, so caches make no great difference. A removal that visits or moves
    // all siblings takes some hundred times as long with the first size already and would take
    // hours with the second. Only the ratio counts, so a slow machine is no reason to fail; and
    // if it is too high, a second and a third try distinguish a busy machine from a slow table.
    const FEW: usize = 100;
    const TOO_MUCH: u32 = 40;

    fn parents(count: usize) -> Vec<(Context, CancelFunc)> {
        (0..count)
            .map(|_| Context::background().with_cancel())
            .collect()
    }
    fn time(size: usize, parent_count: usize, way: Way) -> Duration {
        let parents = parents(parent_count);
        let start = Instant::now();
        let mut all: Children = (0..size)
            .map(|i| Some(parents[i % parent_count].0.with_cancel()))
            .collect();
        // A parent has only registered children.
        assert!(all.iter().flatten().all(|(ctx, _)| ctx.err().is_none()));
        way(&parents, &mut all);
        start.elapsed()
    }
    type Way = fn(&[(Context, CancelFunc)], &mut Children);
    let ways: [(&str, Way); 3] = [
        ("each is dropped", |_, all| {
            scattered(all.len()).for_each(|i| all[i] = None);
        }),
        ("each is cancelled", |_, all| {
            for i in scattered(all.len()) {
                all[i].as_ref().unwrap().1.cancel();
            }
        }),
        ("all are cancelled", |parents, all| {
            parents.iter().for_each(|(_, cancel)| cancel.cancel());
            scattered(all.len()).for_each(|i| all[i] = None);
        }),
    ];
    for size in [50_000, MILLION] {
        for (name, way) in ways {
            let fits = |_| {
                let few = time(size, size / FEW, way);
                let many = time(size, 1, way);
                many < few * TOO_MUCH
            };
            assert!((0..3).any(fits), "{size} children, {name}");
        }
    }
}
