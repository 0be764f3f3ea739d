//! The CPU time that deadlines cost beyond what the thread spends that sets them.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use go_context::{CancelFunc, Context};
use rustix::time::{clock_gettime, ClockId};

use super::plain_timer::{PlainTimeout, PlainTimer};
use crate::{Figure, Measure};

const RUN: Duration = Duration::from_millis(1_200);
const TICK: Duration = Duration::from_millis(1);

pub(crate) fn all() -> Vec<Measure> {
    measures(|| Contexts)
}

pub(crate) fn floors() -> Vec<Measure> {
    measures(PlainTimer::start)
}

fn measures<T: Timer>(timer: impl Fn() -> T + Copy + 'static) -> Vec<Measure> {
    const FIGURES: &[Figure] = &[
        Figure::new("timer", "% of a core"),
        Figure::new("process", "% of a core"),
    ];
    let measure = |name, run: fn(&T)| Measure::alone(name, FIGURES, move || cpu(&timer(), run));
    vec![
        measure("CPU, 10,000 timeouts a second expire", |timer| {
            expire(timer, 10_000)
        }),
        measure("CPU, 5,000 timeouts a second expire", |timer| {
            expire(timer, 5_000)
        }),
        measure(
            "CPU, 2,500 timeouts of 150 us a second, all cancelled",
            cancel_in_time,
        ),
    ]
}

trait Timer: 'static {
    type Timeout;

    fn start(&self, at: Instant) -> Self::Timeout;
    fn cancel(&self, timeout: &Self::Timeout);
    fn has_expired(&self, timeout: &Self::Timeout) -> bool;
}

struct Contexts;

impl Timer for Contexts {
    type Timeout = (Context, CancelFunc);

    fn start(&self, at: Instant) -> (Context, CancelFunc) {
        let (ctx, cancel) = Context::background().with_deadline(at);
        let _done = ctx.done();
        (ctx, cancel)
    }

    fn cancel(&self, timeout: &(Context, CancelFunc)) {
        timeout.1.cancel();
    }

    fn has_expired(&self, timeout: &(Context, CancelFunc)) -> bool {
        timeout.0.err().is_some()
    }
}

impl Timer for PlainTimer {
    type Timeout = PlainTimeout;

    fn start(&self, at: Instant) -> PlainTimeout {
        self.insert(at)
    }

    fn cancel(&self, timeout: &PlainTimeout) {
        self.remove(timeout);
    }

    fn has_expired(&self, timeout: &PlainTimeout) -> bool {
        timeout.has_expired()
    }
}

/// Returns what the process spends, without this thread and with it.
///
/// Without it there are the timer's thread and whatever threads the timer hands work to.
fn cpu<T>(timer: &T, run: fn(&T)) -> Vec<f64> {
    let clocks = [ClockId::ProcessCPUTime, ClockId::ThreadCPUTime].map(cpu_time);
    let start = Instant::now();
    run(timer);
    let wall = start.elapsed().as_secs_f64();
    let after = [ClockId::ProcessCPUTime, ClockId::ThreadCPUTime].map(cpu_time);
    let [process, thread] = [0, 1].map(|i| 100.0 * (after[i] - clocks[i]).as_secs_f64() / wall);
    vec![process - thread, process]
}

fn cpu_time(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap()
}

/// Starts timeouts of 20 ms whose deadlines are evenly spread over time.
fn expire<T: Timer>(timer: &T, a_second: u32) {
    const TIMEOUT: Duration = Duration::from_millis(20);
    let gap = Duration::from_secs(1) / a_second;
    let start = Instant::now();
    let mut next = start;
    let mut live = VecDeque::new();
    while next < start + RUN {
        let now = Instant::now();
        while next <= now {
            live.push_back(timer.start(next + TIMEOUT));
            next += gap;
        }
        while live
            .front()
            .is_some_and(|timeout| timer.has_expired(timeout))
        {
            live.pop_front();
        }
        thread::sleep(TICK);
    }
}

fn cancel_in_time<T: Timer>(timer: &T) {
    const TIMEOUT: Duration = Duration::from_micros(150);
    const GAP: Duration = Duration::from_micros(400);
    let start = Instant::now();
    let mut next = start;
    while next < start + RUN {
        let timeout = timer.start(Instant::now() + TIMEOUT);
        timer.cancel(&timeout);
        next += GAP;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
