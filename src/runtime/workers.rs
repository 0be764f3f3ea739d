//! How many threads there are for callbacks: the counts and the rules, without a queue or a thread.
//!
//! A task handed over must not stay behind one that blocks. So either it has an idle thread, or a
//! *tick* is due every millisecond: while tasks are left over and the threads take few of them, the
//! tick adds threads. Short tasks therefore share a few threads, and tasks that block get one each.
//!
//! Invariant: `tasks <= idle`, or `ticking` is set. A thread that is being started counts as idle,
//! because its first step is to wait for a task. All changes are made under one lock.

use std::time::{Duration, Instant};

/// How many threads there are at most. With some ten thousand more Linux runs out of memory maps,
/// and std aborts the process instead of refusing the thread.
const MAX_THREADS: usize = 8192;

/// How long tasks stay behind others that block before threads are added.
const TICK: Duration = Duration::from_millis(1);

/// How long after the system has refused a thread it is asked for one again. It may do so for long, so not at
/// every tick.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// The queue counts as moving if busy threads took this many tasks per thread (at most `cores` threads
/// counted) since the last tick. Fewer mean that a task takes a good part of a tick, or blocks.
const MOVING: usize = 8;

/// How many threads a tick adds at most, because the timer thread starts them and deadlines wait.
const MAX_GROWTH: usize = 16;

#[derive(Default)]
pub(crate) struct Workers {
    /// How many threads are added even if the queue is moving: one for each core.
    cores: usize,
    /// Tasks handed over and not yet taken.
    tasks: usize,
    threads: usize,
    idle: usize,
    /// Whether [`Workers::tick`] has to be called until it returns `None`.
    ticking: bool,
    last_tick: Option<Instant>,
    /// Tasks taken since the last tick by threads that had just run another one.
    taken: usize,
    /// How many threads the last tick wanted to add; doubles while the queue does not move.
    growth: usize,
    /// Whether the system has refused a thread since the last tick.
    refused: bool,
}

/// What the caller has to do next, with the lock released.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// How many threads to start.
    pub(crate) start: usize,
    pub(crate) begin_ticks: bool,
}

impl Workers {
    pub(crate) fn new(cores: usize) -> Workers {
        Workers {
            cores,
            ..Workers::default()
        }
    }

    /// Counts tasks handed over.
    pub(crate) fn add_tasks(&mut self, tasks: usize) -> Next {
        self.tasks += tasks;
        let start = usize::from(self.unserved() > 0 && self.threads < self.cores);
        self.add_threads(start);
        let begin_ticks = self.begin_ticks();
        Next { start, begin_ticks }
    }

    /// Counts a task taken, by a thread that was idle or by one that has just run another.
    pub(crate) fn take_task(&mut self, was_idle: bool) {
        self.idle -= usize::from(was_idle);
        self.tasks -= 1;
        self.taken += usize::from(!was_idle);
    }

    pub(crate) fn become_idle(&mut self) {
        self.idle += 1;
    }

    /// Ends an idle thread, unless there is a task for it.
    pub(crate) fn try_end(&mut self) -> bool {
        let can_end = self.tasks == 0;
        if can_end {
            self.idle -= 1;
            self.threads -= 1;
        }
        can_end
    }

    /// Uncounts a thread that could not be spawned. Returns whether ticks have to begin.
    pub(crate) fn start_refused(&mut self) -> bool {
        self.idle -= 1;
        self.threads -= 1;
        self.refused = true;
        self.begin_ticks()
    }

    /// Adds threads if tasks are left over and the queue does not move. Returns how many threads to start
    /// and when to tick next, or `None` to stop ticking.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<(usize, Instant)> {
        if !self.ticking || self.unserved() == 0 {
            self.ticking = false;
            return None;
        }
        let pause = if self.refused { RETRY } else { TICK };
        match self.last_tick.map(|last| last + pause) {
            Some(next) if now < next => return Some((0, next)),
            _ => self.last_tick = Some(now),
        }
        let is_moving = self.taken >= MOVING * self.threads.clamp(1, self.cores);
        self.growth = match is_moving {
            true => usize::from(self.threads < self.cores),
            false => (2 * self.growth).clamp(1, MAX_GROWTH),
        };
        let room = MAX_THREADS.saturating_sub(self.threads);
        let start = self.growth.min(self.unserved()).min(room);
        self.add_threads(start);
        self.taken = 0;
        self.refused = false;
        Some((start, now + TICK))
    }

    /// Returns how many tasks have no idle thread.
    fn unserved(&self) -> usize {
        self.tasks.saturating_sub(self.idle)
    }

    fn add_threads(&mut self, threads: usize) {
        self.threads += threads;
        self.idle += threads;
    }

    fn begin_ticks(&mut self) -> bool {
        let begin = !self.ticking && self.unserved() > 0;
        if begin {
            self.ticking = true;
            self.growth = 0;
            self.taken = 0;
        }
        begin
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn short_tasks_share_a_thread_per_core() {
        let (mut workers, start) = (Workers::new(2), Instant::now());
        assert_eq!(
            workers.add_tasks(1000),
            Next {
                start: 1,
                begin_ticks: true
            }
        );
        workers.take_task(true);
        (0..20).for_each(|_| workers.take_task(false));
        assert_eq!(workers.tick(start), Some((1, start + TICK)));
        for round in 1..40 {
            (0..20).for_each(|_| workers.take_task(false));
            let now = start + round * TICK;
            assert_eq!(workers.tick(now), Some((0, now + TICK)));
        }
    }

    #[test]
    fn blocking_tasks_get_a_thread_each() {
        let (mut workers, mut now) = (Workers::new(2), Instant::now());
        let mut blocked = workers.add_tasks(1000).start;
        blocked += workers.tick(now).unwrap().0;
        (0..blocked).for_each(|_| workers.take_task(true));
        while blocked < 1000 {
            now += TICK;
            let (started, next) = workers.tick(now).unwrap();
            assert!((1..=MAX_GROWTH).contains(&started));
            assert_eq!(next, now + TICK);
            (0..started).for_each(|_| workers.take_task(true));
            blocked += started;
        }
        assert_eq!(workers.tick(now + TICK), None);
    }

    #[test]
    fn refused_threads_are_asked_for_again() {
        let (mut workers, now) = (Workers::new(2), Instant::now());
        assert_eq!(
            workers.add_tasks(1),
            Next {
                start: 1,
                begin_ticks: false
            }
        );
        assert!(workers.start_refused());
        assert_eq!(workers.tick(now), Some((1, now + TICK)));
        assert!(!workers.start_refused());
        assert_eq!(workers.tick(now + MS), Some((0, now + RETRY)));
        assert_eq!(workers.tick(now + RETRY).unwrap().0, 1);
        assert_eq!(workers.tick(now + 2 * RETRY), None);
    }

    #[test]
    fn threads_are_limited() {
        let (mut workers, mut now) = (Workers::new(2), Instant::now());
        workers.add_tasks(2 * MAX_THREADS);
        for _ in 0..2 * MAX_THREADS {
            now += TICK;
            let started = workers.tick(now).unwrap().0;
            (0..started).for_each(|_| workers.take_task(true));
        }
        assert_eq!(workers.threads, MAX_THREADS);
    }

    #[test]
    fn thread_with_a_task_does_not_end() {
        let mut workers = Workers::new(2);
        workers.add_tasks(1);
        assert!(!workers.try_end());
        workers.take_task(true);
        workers.become_idle();
        assert!(workers.try_end());
        assert_eq!((workers.threads, workers.idle), (0, 0));
    }
}
