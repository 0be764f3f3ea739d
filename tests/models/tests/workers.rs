//! The policy of the pool, with a queue and threads of the model, and a clock of its own.

use super::*;

use std::collections::VecDeque;
use std::time::Instant;

use crate::runtime::sync::{Condvar, Mutex};
use crate::runtime::workers::Workers;
use crate::runtime::Task;

/// Does what `src/runtime/pool.rs` and the timer thread do.
struct Pool {
    workers: Mutex<Workers>,
    queue: Mutex<Queue>,
    tasks: Condvar,
    ticks: Mutex<Ticks>,
    begin: Condvar,
    threads: Mutex<Threads>,
    finished: Mutex<usize>,
    progress: Condvar,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    /// Whether idle threads have waited long enough.
    is_late: bool,
}

#[derive(Default)]
struct Ticks {
    are_due: bool,
    are_over: bool,
}

#[derive(Default)]
struct Threads {
    handles: Vec<thread::JoinHandle<()>>,
    /// How many threads more the system refuses.
    refused: usize,
}

fn with_pool(cores: usize, refused: usize, f: impl FnOnce(&Arc<Pool>)) {
    let pool = Arc::new(Pool {
        workers: Mutex::new(Workers::new(cores)),
        queue: Mutex::default(),
        tasks: Condvar::new(),
        ticks: Mutex::default(),
        begin: Condvar::new(),
        threads: Mutex::new(Threads {
            handles: Vec::new(),
            refused,
        }),
        finished: Mutex::new(0),
        progress: Condvar::new(),
    });
    let ticker = spawn({
        let pool = pool.clone();
        move || pool.run_ticks()
    });
    f(&pool);
    pool.pass_keep_alive();
    pool.ticks.lock().are_over = true;
    pool.begin.notify_all();
    ticker.join().unwrap();
    loop {
        let next = pool.threads.lock().handles.pop();
        match next {
            Some(thread) => thread.join().unwrap(),
            None => break,
        }
    }
}

impl Pool {
    fn hand_over(self: &Arc<Self>, tasks: Vec<Task>) {
        let next = self.workers.lock().add_tasks(tasks.len());
        for task in tasks {
            self.queue.lock().tasks.push_back(task);
            self.tasks.notify_all();
        }
        (0..next.start).for_each(|_| self.start_thread());
        if next.begin_ticks {
            self.begin_ticks();
        }
    }

    fn start_thread(self: &Arc<Self>) {
        let mut threads = self.threads.lock();
        if let Some(refused) = threads.refused.checked_sub(1) {
            threads.refused = refused;
            drop(threads);
            if self.workers.lock().start_refused() {
                self.begin_ticks();
            }
            return;
        }
        let pool = self.clone();
        threads.handles.push(spawn(move || pool.work()));
    }

    fn begin_ticks(&self) {
        self.ticks.lock().are_due = true;
        self.begin.notify_all();
    }

    fn run_ticks(self: &Arc<Self>) {
        let mut now = Instant::now();
        loop {
            let ticks = self.ticks.lock();
            let mut ticks = self
                .begin
                .wait_while(ticks, |ticks| !ticks.are_due && !ticks.are_over);
            if !ticks.are_due {
                return;
            }
            ticks.are_due = false;
            drop(ticks);
            loop {
                let tick = self.workers.lock().tick(now);
                let Some((start, next)) = tick else { break };
                (0..start).for_each(|_| self.start_thread());
                assert!(next > now, "the timer thread would spin");
                now = next;
                checker::thread::yield_now();
            }
        }
    }

    fn work(&self) {
        let mut is_idle = true;
        while let Some(task) = self.next_task(is_idle) {
            task();
            *self.finished.lock() += 1;
            self.progress.notify_all();
            is_idle = false;
        }
    }

    fn next_task(&self, is_idle: bool) -> Option<Task> {
        let waiting = self.queue.lock().tasks.pop_front();
        if let Some(task) = waiting {
            self.workers.lock().take_task(is_idle);
            return Some(task);
        }
        if !is_idle {
            self.workers.lock().become_idle();
        }
        loop {
            let queue = self.queue.lock();
            let mut queue = self
                .tasks
                .wait_while(queue, |queue| queue.tasks.is_empty() && !queue.is_late);
            let task = queue.tasks.pop_front();
            drop(queue);
            let mut workers = self.workers.lock();
            if task.is_some() {
                workers.take_task(true);
                return task;
            }
            if workers.try_end() {
                return None;
            }
            drop(workers);
            checker::thread::yield_now();
        }
    }

    /// From here on idle threads end.
    fn pass_keep_alive(&self) {
        self.queue.lock().is_late = true;
        self.tasks.notify_all();
    }

    /// Waits until so many tasks have run. If one is left behind for good, that is a deadlock.
    fn wait_finished(&self, tasks: usize) {
        let finished = self.finished.lock();
        let finished = self
            .progress
            .wait_while(finished, |finished| *finished < tasks);
        drop(finished);
    }
}

/// A gate at which tasks wait for another task.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) -> Task {
        let gate = self.clone();
        Box::new(move || {
            *gate.0 .0.lock() = true;
            gate.0 .1.notify_all();
        })
    }

    fn pass(&self) -> Task {
        let gate = self.clone();
        Box::new(move || {
            let is_open = gate.0 .0.lock();
            let is_open = gate.0 .1.wait_while(is_open, |is_open| !*is_open);
            drop(is_open);
        })
    }
}

fn short() -> Task {
    Box::new(|| {})
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn task_behind_one_that_blocks_is_run() {
    in_many_orders(|| {
        with_pool(1, 0, |pool| {
            let gate = Gate::default();
            pool.hand_over(vec![gate.pass(), gate.open()]);
            pool.wait_finished(2);
        });
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn task_handed_over_after_one_that_blocks_is_run() {
    in_many_orders(|| {
        with_pool(2, 0, |pool| {
            let gate = Gate::default();
            pool.hand_over(vec![gate.pass()]);
            pool.hand_over(vec![gate.open()]);
            pool.wait_finished(2);
        });
    });
}

/// The tasks come one by one, from two threads, and some find an idle thread.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn tasks_behind_several_that_block_are_run() {
    in_many_orders(|| {
        with_pool(2, 0, |pool| {
            let gate = Gate::default();
            let other = spawn({
                let (pool, gate) = (pool.clone(), gate.clone());
                move || {
                    pool.hand_over(vec![short()]);
                    pool.hand_over(vec![gate.pass(), gate.pass()]);
                }
            });
            pool.hand_over(vec![gate.pass()]);
            other.join().unwrap();
            pool.hand_over(vec![gate.open()]);
            pool.wait_finished(5);
        });
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn task_handed_over_while_idle_threads_end_is_run() {
    in_many_orders(|| {
        with_pool(1, 0, |pool| {
            let gate = Gate::default();
            pool.hand_over(vec![short()]);
            let late = spawn({
                let pool = pool.clone();
                move || pool.pass_keep_alive()
            });
            pool.hand_over(vec![gate.pass()]);
            pool.hand_over(vec![gate.open()]);
            pool.wait_finished(3);
            late.join().unwrap();
        });
    });
}

#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn task_is_run_after_threads_were_refused() {
    in_many_orders(|| {
        with_pool(1, 3, |pool| {
            pool.hand_over(vec![short()]); // the only one, so that no other begins the ticks
            pool.wait_finished(1);
            let gate = Gate::default();
            pool.hand_over(vec![gate.pass()]);
            pool.hand_over(vec![gate.open()]);
            pool.wait_finished(3);
        });
    });
}

/// A second start is refused while the first thread is busy, and the keep-alive passes.
#[test]
#[cfg_attr(feature = "loom", ignore = "too large")]
fn tasks_are_run_whatever_is_refused_and_ends() {
    in_many_orders(|| {
        with_pool(2, 1, |pool| {
            let gate = Gate::default();
            let others = [
                spawn({
                    let (pool, gate) = (pool.clone(), gate.clone());
                    move || pool.hand_over(vec![short(), gate.pass()])
                }),
                spawn({
                    let pool = pool.clone();
                    move || pool.pass_keep_alive()
                }),
            ];
            pool.hand_over(vec![gate.pass(), short()]);
            join(others);
            pool.hand_over(vec![gate.open()]);
            pool.wait_finished(5);
        });
    });
}
