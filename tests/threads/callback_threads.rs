//! Threads for callbacks: none before one is needed, one for each that runs, none kept for ever.
//!
//! Threads are counted for the whole process, so there is one test here. Only Linux tells which
//! there are.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, unbounded};
use go_context::{AfterFunc, CancelFunc, Context};
use support::process::in_child_alone;
use support::test_name;

/// The names as Linux cuts them.
const TIMER: &str = "go-ctx-timer";
const CALLBACK: &str = "go-ctx-callback";

const COUNT: usize = 1000;
const HOUR: Duration = Duration::from_secs(3600);
/// An idle thread stays for some seconds. Only one that never goes stays so long.
const HANGS: Duration = Duration::from_secs(60);

#[test]
fn callbacks_have_threads_only_while_they_need_them() {
    in_child_alone(test_name!(), || {
        let before = threads().len();
        let registered = register();
        assert_eq!(threads().len(), before + 1, "{:?}", threads());
        wait_until("the timer's thread has its name", || count(TIMER) == 1);
        for (_, _, function) in &registered {
            assert!(function.stop());
        }
        drop(registered);
        assert_eq!(threads().len(), before + 1, "{:?}", threads());

        run_at_once(20);
        run_in_turn();
        wait_until("the idle threads have ended", || count(CALLBACK) == 0);
        assert_eq!(threads().len(), before + 1, "{:?}", threads());
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
    let limit = Instant::now() + HANGS;
    for _ in 0..callbacks {
        let (began, wait) = (began.clone(), wait.clone());
        ctx.after_func(move || {
            began.send(()).unwrap();
            let _ = wait.recv_deadline(limit);
        });
    }
    cancel.cancel();
    for _ in 0..callbacks {
        begins.recv_timeout(HANGS).expect("all run at once");
    }
    assert!(count(CALLBACK) >= callbacks, "{:?}", threads());
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
        used.insert(end.recv_timeout(HANGS).expect("the callback runs"));
    }
    // A thread may not be idle again yet when the next callback needs one.
    assert!(used.len() < COUNT / 2, "{} threads", used.len());
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < HANGS, "never: {what}: {:?}", threads());
        thread::sleep(Duration::from_millis(10));
    }
}

fn count(name: &str) -> usize {
    threads().into_iter().filter(|other| other == name).count()
}

/// The names of the threads of this process.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // One that ends meanwhile has no name any more.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_string()).collect()
}
