//! Threads for callbacks: none before one is needed, one for each that runs, none kept for ever.

use std::collections::HashSet;
use std::thread;
use std::time::Instant;

use go_context::crossbeam_channel::{bounded, unbounded};
use go_context::{AfterFunc, CancelFunc, Context};
use support::process::in_child_alone;
use support::threads::{thread_names, threads_named, CALLBACK, TIMER};
use support::{test_name, wait_until, HOUR, LIMIT};

const COUNT: usize = 1000;

#[test]
fn callback_threads_exist_only_while_needed() {
    in_child_alone(test_name!(), || {
        let before = thread_names().len();
        let registered = register();
        assert_eq!(thread_names().len(), before + 1, "{:?}", thread_names());
        wait_until("the timer's thread has its name", || {
            threads_named(TIMER) == 1
        });
        for (_, _, function) in &registered {
            assert!(function.stop());
        }
        drop(registered);
        assert_eq!(thread_names().len(), before + 1, "{:?}", thread_names());

        run_at_once(20);
        run_in_turn();
        wait_until("the idle threads have ended", || {
            threads_named(CALLBACK) == 0
        });
        assert_eq!(thread_names().len(), before + 1, "{:?}", thread_names());
        run_at_once(20);
    });
}

/// Contexts with and without a deadline, and a function for each.
fn register() -> Vec<(Context, CancelFunc, AfterFunc)> {
    let background = Context::background();
    let contexts = (0..COUNT).map(|number| match number % 2 {
        0 => background.with_cancel(),
        _ => background.with_timeout(HOUR),
    });
    let with_function = contexts.map(|(ctx, cancel)| {
        let function = ctx.after_func(|| unreachable!());
        (ctx, cancel, function)
    });
    with_function.collect()
}

/// Runs callbacks of which none ends before all have begun: each needs a thread of its own.
fn run_at_once(callbacks: usize) {
    let (ctx, cancel) = Context::background().with_cancel();
    let (began, begins) = unbounded();
    let (all_began, wait) = bounded::<()>(0);
    let limit = Instant::now() + LIMIT;
    for _ in 0..callbacks {
        let (began, wait) = (began.clone(), wait.clone());
        ctx.after_func(move || {
            began.send(()).unwrap();
            let _ = wait.recv_deadline(limit);
        });
    }
    cancel.cancel();
    for _ in 0..callbacks {
        begins.recv_timeout(LIMIT).expect("all run at once");
    }
    assert!(threads_named(CALLBACK) >= callbacks, "{:?}", thread_names());
    drop(all_began);
}

/// Runs many callbacks, each when the one before has ended: they share threads.
fn run_in_turn() {
    let mut used = HashSet::new();
    for _ in 0..COUNT {
        let (ctx, cancel) = Context::background().with_cancel();
        let (ended, end) = bounded(1);
        ctx.after_func(move || ended.send(thread::current().id()).unwrap());
        cancel.cancel();
        used.insert(end.recv_timeout(LIMIT).expect("the callback runs"));
    }
    // A thread may not be idle again yet when the next callback needs one.
    assert!(used.len() < COUNT / 2, "{} threads", used.len());
}
