//! Threads: starting them, starting them at the same moment, and counting them.

use std::panic::resume_unwind;
use std::sync::{Arc, Barrier};
use std::thread;

use go_context::crossbeam_channel::{bounded, Receiver};
use go_context::Context;

use crate::{receive, Task};

/// The names of the crate's threads, as Linux truncates them.
pub const TIMER: &str = "go-ctx-timer";
pub const CALLBACK: &str = "go-ctx-callback";
pub const WATCH: &str = "go-ctx-watch";

/// Runs `f` on a thread of its own. [`receive`] waits for the result.
pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (result, receiver) = bounded(1);
    thread::spawn(move || result.send(f()));
    receiver
}

/// Runs all jobs, each on a thread of its own, beginning at the same moment. Waits for them.
#[track_caller]
pub fn together(jobs: Vec<Task>) {
    let start = Arc::new(Barrier::new(jobs.len()));
    let ends: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let start = start.clone();
            spawn(move || {
                start.wait();
                job();
            })
        })
        .collect();
    ends.iter().for_each(receive);
}

/// More derivations than make a context shard its table of children.
pub const CONTENDED_AFTER: usize = 100;

/// Derives from the context on two threads until it is contended.
pub fn contend(ctx: &Context) {
    let derive = || (0..CONTENDED_AFTER).for_each(|_| drop(ctx.with_cancel()));
    for _ in 0..2 {
        thread::scope(|s| s.spawn(derive).join().unwrap());
    }
}

/// Spins a little, for another time in each round, so that rounds differ in which thread is first.
pub fn stagger(round: usize) {
    for _ in 0..round % 50 * 20 {
        std::hint::spin_loop();
    }
}

/// Runs `f` on a stack of 64 KiB: a fraction of a byte for each context of a chain of a million.
pub fn on_small_stack<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::Builder::new().stack_size(64 * 1024).spawn(f);
    let result = thread.expect("a thread").join();
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Returns how many threads this process has.
#[cfg(target_os = "linux")]
pub fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Returns how many threads have this name. A thread that has just been started has none.
pub fn threads_named(name: &str) -> usize {
    thread_names().iter().filter(|other| *other == name).count()
}

/// Returns the names of the threads of this process. Elsewhere than on Linux there are none.
pub fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    // A thread that ends meanwhile has no name any more.
    let names = tasks.filter_map(|task| {
        let comm = task.ok()?.path().join("comm");
        std::fs::read_to_string(comm).ok()
    });
    names.map(|name| name.trim_end().to_string()).collect()
}
