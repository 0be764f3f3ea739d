//! Many callbacks at once: all of them run, none waits for one that blocks, and they share few
//! threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, unbounded, Receiver};
use go_context::{CancelFunc, Context};
use support::process::{child, in_child_alone, one_at_a_time, report};
use support::threads::thread_count;
use support::{test_name, LIMIT};

const SHORT: usize = 10_000;

/// The number of rounds of which one must succeed with few threads.
const ROUNDS: usize = 5;

fn cores() -> usize {
    thread::available_parallelism().unwrap().get()
}

/// Runs `work` in child processes. It gets a function to be called by each of [`SHORT`]
/// callbacks, and returns what must stay alive until they have run.
///
/// No more threads may be started for them than a few per core, and one for the timer. Other
/// processes may keep the threads from running for a while, which to the pool is no different from
/// callbacks that block. So the best of several rounds counts.
fn few_threads<T>(test: &str, work: impl Fn(Arc<dyn Fn() + Send + Sync>) -> T) {
    let _turn = one_at_a_time();
    let limit = 16 * cores() + 1;
    let mut peaks = Vec::new();
    while peaks.len() < ROUNDS {
        let Some(mut process) = child(test, || report(&peak(&work).to_string())) else {
            return;
        };
        let peak = process.next_report().parse::<usize>().unwrap();
        process.ends();
        if peak <= limit {
            return;
        }
        peaks.push(peak);
    }
    panic!("{peaks:?} threads, more than {limit} in each round");
}

/// The greatest number of threads besides those of the test.
fn peak<T>(work: impl Fn(Arc<dyn Fn() + Send + Sync>) -> T) -> usize {
    let ran = Arc::new(AtomicUsize::new(0));
    let (begin, begins) = bounded(0);
    let (all_ran, end) = bounded::<()>(1);
    let count = ran.clone();
    let counter = thread::spawn(move || {
        let before = thread_count();
        begin.send(()).unwrap();
        let mut peak = before;
        while end.is_empty() {
            peak = peak.max(thread_count());
            thread::sleep(Duration::from_micros(200));
        }
        // An idle thread stays for a while, so this finds those that were missed above.
        peak.max(thread_count()) - before
    });
    begins.recv().unwrap();
    let alive = work(Arc::new(move || {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == SHORT {
            all_ran.send(()).unwrap();
        }
    }));
    let peak = counter.join().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), SHORT);
    drop(alive);
    peak
}

#[test]
fn after_func_10000_children_uses_few_threads() {
    few_threads(test_name!(), |run| {
        let (parent, cancel) = Context::background().with_cancel();
        let children: Vec<_> = (0..SHORT)
            .map(|_| {
                let child = parent.with_cancel();
                let run = run.clone();
                child.0.after_func(move || run());
                child
            })
            .collect();
        cancel.cancel();
        children
    });
}

#[test]
fn after_func_10000_on_context_uses_few_threads() {
    few_threads(test_name!(), |run| {
        let (ctx, cancel) = Context::background().with_cancel();
        for _ in 0..SHORT {
            let run = run.clone();
            ctx.after_func(move || run());
        }
        cancel.cancel();
        ctx
    });
}

#[test]
fn after_func_10000_cancels_uses_few_threads() {
    few_threads(test_name!(), |run| {
        for _ in 0..SHORT {
            let (ctx, cancel) = Context::background().with_cancel();
            let run = run.clone();
            ctx.after_func(move || run());
            cancel.cancel();
        }
    });
}

/// A context with children, each with a function.
fn children(functions: usize, f: impl Fn() + Clone + Send + 'static) -> Vec<(Context, CancelFunc)> {
    let (parent, cancel) = Context::background().with_cancel();
    let children = (0..functions).map(|_| {
        let child = parent.with_cancel();
        child.0.after_func(f.clone());
        child
    });
    let mut family: Vec<_> = children.collect();
    family.push((parent, cancel));
    family
}

#[test]
fn after_func_1000_waiting_for_each_other_all_run() {
    in_child_alone(test_name!(), || {
        let all = Arc::new(Barrier::new(1000));
        let (ran, runs) = unbounded();
        let family = children(1000, move || {
            all.wait();
            ran.send(()).unwrap();
        });
        family.last().unwrap().1.cancel();
        receive(&runs, 1000);
    });
}

#[test]
fn after_func_runs_while_one_per_worker_blocks() {
    in_child_alone(test_name!(), || {
        let (began, begins) = unbounded();
        let (release, released) = bounded::<()>(0);
        let ended = Arc::new(AtomicUsize::new(0));
        // More than a pool with a few threads per core could run at once.
        for _ in 0..8 * cores() {
            let (ctx, cancel) = Context::background().with_cancel();
            let (began, released, ended) = (began.clone(), released.clone(), ended.clone());
            ctx.after_func(move || {
                began.send(()).unwrap();
                let _ = released.recv();
                ended.fetch_add(1, Ordering::SeqCst);
            });
            cancel.cancel();
            receive(&begins, 1);
        }

        let (ran, runs) = unbounded();
        for _ in 0..3 {
            let (ctx, cancel) = Context::background().with_cancel();
            let ran = ran.clone();
            ctx.after_func(move || ran.send(()).unwrap());
            cancel.cancel();
        }
        receive(&runs, 3);
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        drop(release);
    });
}

#[test]
fn after_func_batch_runs_even_if_the_first_block() {
    in_child_alone(test_name!(), || {
        let blocked = 16 * cores();
        let (ran, runs) = unbounded();
        let (release, released) = bounded::<()>(0);
        let [begun, ended] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let unblocked = ended.clone();
        let family = children(blocked + 1000, move || {
            // The first that begin, in whatever order the pool runs them.
            if begun.fetch_add(1, Ordering::SeqCst) < blocked {
                let _ = released.recv();
                unblocked.fetch_add(1, Ordering::SeqCst);
            } else {
                ran.send(()).unwrap();
            }
        });
        family.last().unwrap().1.cancel();
        receive(&runs, 1000);
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        drop(release);
    });
}

/// Waits for as many messages.
#[track_caller]
fn receive(messages: &Receiver<()>, count: usize) {
    for received in 0..count {
        let message = messages.recv_timeout(LIMIT);
        assert!(message.is_ok(), "{received} of {count} have run");
    }
}
