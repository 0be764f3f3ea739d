//! Small programs in which threads meet at one context. A checker runs each in every order, or in
//! very many.
//!
//! Their assertions hold in all orders. After each run, all handles having been dropped, no node, no
//! timer and no waiting thread may be left.

mod after_func;
mod busy;
mod cancel;
mod contention;
mod custom;
mod deadline;
mod done;
mod drop;
mod err;
mod explain;
mod group;
mod hand_over;
mod merge;
mod phase;
mod random;
mod timer_queue;
mod waiter;
mod workers;

#[cfg(feature = "loom")]
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Weak;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::runtime::sync::{checker, is_disconnected, thread, Arc};
use crate::runtime::{timer, watcher};
use crate::tree::Node;
use crate::{CancelCauseFunc, CancelFunc, Context};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Runs a model in every order, if the checker can come to an end with it.
pub(crate) fn in_all_orders(model: fn()) {
    #[cfg(feature = "loom")]
    {
        static ORDERS: AtomicUsize = AtomicUsize::new(0);
        let before = ORDERS.load(Relaxed);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(number("PREEMPTIONS", 3));
        builder.check(move || {
            ORDERS.fetch_add(1, Relaxed);
            run(model);
        });
        eprintln!("all {} orders", ORDERS.load(Relaxed) - before);
    }
    #[cfg(not(feature = "loom"))]
    {
        in_many_orders(model);
        let most = EXHAUSTIVE * schedules();
        let every = shuttle::scheduler::DfsScheduler::new(Some(most), false);
        let orders = shuttle::Runner::new(every, shuttle::Config::new()).run(move || run(model));
        let all = if orders < most { "all" } else { "the first" };
        eprintln!("{all} {orders} orders");
    }
}

/// Runs a model in random orders: with any thread at each step, or with one thread as long as it can
/// go on, except at a few steps.
pub(crate) fn in_many_orders(model: fn()) {
    #[cfg(feature = "loom")]
    unreachable!("{model:?} has too many threads or steps");
    #[cfg(not(feature = "loom"))]
    {
        shuttle::check_random(move || run(model), schedules());
        shuttle::check_pct(move || run(model), schedules(), 3);
        shuttle::check_pct(move || run(model), schedules() / 2, 5);
    }
}

fn run(model: fn()) {
    model();
    timer::join_all();
    assert_eq!(timer::remove_all(), 0, "timers are left");
    assert_eq!(watcher::count(), 0, "watching threads are left");
    let left = NODES
        .lock()
        .unwrap()
        .drain(..)
        .filter(|node| node.strong_count() > 0)
        .count();
    assert_eq!(left, 0, "contexts are left");
}

/// How many times more orders are tried if no two of them are the same.
#[cfg(not(feature = "loom"))]
const EXHAUSTIVE: usize = 10;

#[cfg(not(feature = "loom"))]
fn schedules() -> usize {
    number("SCHEDULES", 3000)
}

fn number(variable: &str, default: usize) -> usize {
    let set = std::env::var(variable);
    set.map_or(default, |set| set.parse().expect("a number"))
}

checker::lazy_static! {
    static ref NODES: std::sync::Mutex<Vec<Weak<Node>>> = Default::default();
}

/// Checks at the end of the run that the context has been freed.
pub(crate) fn tracked(ctx: Context) -> Context {
    let node = ctx.node.as_ref().expect("not the background");
    NODES.lock().unwrap().push(Arc::downgrade(node));
    ctx
}

pub(crate) fn child(parent: &Context) -> (Context, CancelCauseFunc) {
    let (ctx, cancel) = parent.with_cancel_cause();
    (tracked(ctx), cancel)
}

pub(crate) fn root() -> (Context, CancelCauseFunc) {
    child(&Context::background())
}

/// Registers a context: the third call of `err` does.
pub(crate) fn register(ctx: &Context) {
    for _ in 0..3 {
        let _ = ctx.err();
    }
}

pub(crate) fn registered_child(parent: &Context) -> (Context, CancelCauseFunc) {
    let (ctx, cancel) = child(parent);
    register(&ctx);
    (ctx, cancel)
}

/// Makes a root and as many descendants, each a child of the one before.
pub(crate) fn chain(children: usize) -> (Vec<Context>, Vec<CancelCauseFunc>) {
    let mut chain = vec![root()];
    for above in 0..children {
        let next = child(&chain[above].0);
        chain.push(next);
    }
    chain.into_iter().unzip()
}

pub(crate) fn with_timeout(parent: &Context) -> (Context, CancelFunc) {
    let (ctx, cancel) = parent.with_timeout(HOUR);
    (tracked(ctx), cancel)
}

pub(crate) fn merge(first: &Context, second: &Context) -> (Context, CancelFunc) {
    let (ctx, cancel) = first.merge(second);
    (tracked(ctx), cancel)
}

/// A context, and a channel that it returned to some thread.
pub(crate) type Pair = (Context, Receiver<()>);

pub(crate) fn is_closed(done: &Receiver<()>) -> bool {
    is_disconnected(done)
}

#[track_caller]
pub(crate) fn assert_done(ctx: &Context) {
    assert!(ctx.err().is_some(), "no error");
    assert!(is_closed(&ctx.done()), "the channel is open");
}

/// Asserts what holds for a descendant when `cancel` has returned.
#[track_caller]
pub(crate) fn assert_closed(done: &Receiver<()>) {
    assert!(
        is_closed(done),
        "cancel has returned, and a channel is open"
    );
}

pub(crate) fn cause(ctx: &Context) -> String {
    ctx.cause().expect("done").to_string()
}

/// Starts a thread of the model.
pub(crate) fn spawn<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(f)
}

/// Cancels on a thread of the model, and asserts that the channels are closed then.
pub(crate) fn spawn_cancel(
    cancel: CancelCauseFunc,
    cause: &'static str,
    done: &[Receiver<()>],
) -> thread::JoinHandle<()> {
    let done = done.to_vec();
    spawn(move || {
        cancel.cancel(cause);
        done.iter().for_each(assert_closed);
    })
}

pub(crate) fn join<T>(threads: impl IntoIterator<Item = thread::JoinHandle<T>>) -> Vec<T> {
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}
