//! The threads for callbacks: started by need, kept for a while when idle.
//!
//! Tasks wait in a channel of which the idle threads receive. How many threads there should be is
//! decided in `workers.rs`.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{select_biased, unbounded, Receiver, Sender};

use super::sync::Mutex;
use super::unwind;
use super::workers::Workers;

pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// How long a thread waits for its next task before it ends, so that bursts of tasks share threads.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(crate) struct Pool {
    workers: Mutex<Workers>,
    /// The crate's own work, which is taken first.
    first: (Sender<Task>, Receiver<Task>),
    tasks: (Sender<Task>, Receiver<Task>),
    /// Makes the timer thread call [`Pool::tick`] until it returns `None`.
    begin_ticks: fn(),
    /// Called after each task, to retry a refused timer thread.
    after_task: fn(),
}

impl Pool {
    pub(crate) fn new(begin_ticks: fn(), after_task: fn()) -> Pool {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Pool {
            workers: Mutex::new(Workers::new(cores)),
            first: unbounded(),
            tasks: unbounded(),
            begin_ticks,
            after_task,
        }
    }

    /// Hands tasks over to the threads. Does not wait for them and does not panic.
    pub(crate) fn hand_over(&'static self, tasks: Vec<Task>) {
        self.send(&self.tasks.0, tasks);
    }

    /// Hands over work of the crate's own, ahead of all tasks.
    pub(crate) fn hand_over_first(&'static self, work: Task) {
        self.send(&self.first.0, vec![work]);
    }

    /// Starts threads if tasks wait too long. Returns when to call it again.
    pub(crate) fn tick(&'static self, now: Instant) -> Option<Instant> {
        let (start, next) = self.workers.lock().tick(now)?;
        (0..start).for_each(|_| self.start_thread());
        Some(next)
    }

    fn send(&'static self, queue: &Sender<Task>, tasks: Vec<Task>) {
        let next = self.workers.lock().add_tasks(tasks.len());
        for task in tasks {
            let _ = queue.send(task); // never disconnected: the pool has both ends
        }
        (0..next.start).for_each(|_| self.start_thread());
        if next.begin_ticks {
            (self.begin_ticks)();
        }
    }

    fn start_thread(&'static self) {
        let thread = thread::Builder::new().name("go-ctx-callback".into());
        if thread.spawn(|| self.work()).is_err() && self.workers.lock().start_refused() {
            (self.begin_ticks)();
        }
    }

    fn work(&self) {
        let mut is_idle = true;
        while let Some(task) = self.next_task(is_idle) {
            unwind::swallow_panic(task);
            (self.after_task)();
            is_idle = false;
        }
    }

    /// Takes the next task; waits for one if there is none. Returns `None` if the thread has to end.
    /// `is_idle` is set for a new thread, which already counts as idle.
    fn next_task(&self, is_idle: bool) -> Option<Task> {
        let waiting = self.first.1.try_recv().or_else(|_| self.tasks.1.try_recv());
        if let Ok(task) = waiting {
            self.workers.lock().take_task(is_idle);
            return Some(task);
        }
        if !is_idle {
            self.workers.lock().become_idle();
        }
        loop {
            let task = select_biased! {
                recv(self.first.1) -> task => task.ok(),
                recv(self.tasks.1) -> task => task.ok(),
                default(KEEP_ALIVE) => None,
            };
            let mut workers = self.workers.lock();
            if task.is_some() {
                workers.take_task(true);
                return task;
            }
            if workers.try_end() {
                return None;
            }
        }
    }
}
