//! Small programs in which threads meet at one context, for a checker to run in every order, or in
//! very many.
//!
//! What each of them claims holds in all orders. In none of them may anything be left when all
//! handles have gone: no node, no timer, no thread that waits.

mod after_func;
mod cancel;
mod custom;
mod deadline;
mod drop;
mod group;
mod look;
mod merge;
mod random;
mod schedule;
mod seats;

#[cfg(feature = "loom")]
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Weak;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::sync::{checker, is_disconnected, thread, Arc};
use crate::tree::Node;
use crate::{pool, timer, CancelCauseFunc, Context};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Runs a model in every order there is, if the checker can come to an end with it.
pub(crate) fn in_all_orders(model: fn()) {
    #[cfg(feature = "loom")]
    {
        static ORDERS: AtomicUsize = AtomicUsize::new(0);
        let before = ORDERS.load(Relaxed);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(number("PREEMPTIONS", 3));
        builder.check(move || {
            ORDERS.fetch_add(1, Relaxed);
            whole(model);
        });
        eprintln!("all {} orders", ORDERS.load(Relaxed) - before);
    }
    #[cfg(not(feature = "loom"))]
    {
        in_many_orders(model);
        let most = EVERY * schedules();
        let every = shuttle::scheduler::DfsScheduler::new(Some(most), false);
        let orders = shuttle::Runner::new(every, shuttle::Config::new()).run(move || whole(model));
        let all = if orders < most { "all" } else { "the first" };
        eprintln!("{all} {orders} orders");
    }
}

/// Runs a model in orders drawn by lot: at each step any thread, or one thread as long as it can go on
/// but for a few steps at which it has to wait.
pub(crate) fn in_many_orders(model: fn()) {
    #[cfg(feature = "loom")]
    unreachable!("{model:?} has too many threads or steps");
    #[cfg(not(feature = "loom"))]
    {
        shuttle::check_random(move || whole(model), schedules());
        shuttle::check_pct(move || whole(model), schedules(), 3);
        shuttle::check_pct(move || whole(model), schedules() / 2, 5);
    }
}

fn whole(model: fn()) {
    model();
    pool::join_all();
    assert!(timer::is_empty(), "a timer is left");
    let left = NODES
        .lock()
        .unwrap()
        .drain(..)
        .filter(|node| node.strong_count() > 0)
        .count();
    assert_eq!(left, 0, "contexts are left");
}

/// How many more orders are tried where no two are the same.
#[cfg(not(feature = "loom"))]
const EVERY: usize = 10;

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

/// Has it found out in the end if the context is not dropped.
pub(crate) fn counted(ctx: Context) -> Context {
    let node = ctx.node.as_ref().expect("not the background");
    NODES.lock().unwrap().push(Arc::downgrade(node));
    ctx
}

pub(crate) fn child(parent: &Context) -> (Context, CancelCauseFunc) {
    let (ctx, cancel) = parent.with_cancel_cause();
    (counted(ctx), cancel)
}

pub(crate) fn root() -> (Context, CancelCauseFunc) {
    child(&Context::background())
}

/// A child that has its place in the parent's table.
pub(crate) fn seen_child(parent: &Context) -> (Context, CancelCauseFunc) {
    let (ctx, cancel) = child(parent);
    let _ = ctx.err();
    (ctx, cancel)
}

/// A context, and the channel that it handed out on some thread.
pub(crate) type Pair = (Context, Receiver<()>);

pub(crate) fn is_closed(done: &Receiver<()>) -> bool {
    is_disconnected(done)
}

#[track_caller]
pub(crate) fn assert_done(ctx: &Context) {
    assert!(ctx.err().is_some(), "no error");
    assert!(is_closed(&ctx.done()), "the channel is open");
}

pub(crate) fn cause(ctx: &Context) -> String {
    ctx.cause().expect("done").to_string()
}

/// Starts a thread of the model.
pub(crate) fn go<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(f)
}
