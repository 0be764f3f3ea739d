//! How long after its deadline a context is seen done by a thread that waits for it.

use std::thread;
use std::time::{Duration, Instant};

use go_context::Context;

use crate::go::HOUR;
use crate::{quantile, Figure, Measure};

const SAMPLES: u64 = 80;
const FIGURES: &[Figure] = &[
    Figure::ns("median"),
    Figure::ns("p99"),
    Figure::new("too early", "of 80"),
];

pub(crate) fn all() -> Vec<Measure> {
    let idle = || lateness(wait_for_context);
    let busy = || {
        let bg = Context::background();
        let live: Vec<_> = (0..100_000)
            .map(|i| {
                let (ctx, cancel) = bg.with_timeout(HOUR + Duration::from_millis(i));
                (ctx.done(), ctx, cancel)
            })
            .collect();
        let late = lateness(wait_for_context);
        drop(live);
        late
    };
    vec![
        Measure::alone("deadline lateness", FIGURES, idle),
        Measure::alone("deadline lateness, 100,000 live", FIGURES, busy),
    ]
}

/// A thread that sleeps until the deadline.
pub(crate) fn floors() -> Vec<Measure> {
    let sleep = || {
        lateness(|timeout| {
            let deadline = Instant::now() + timeout;
            thread::sleep(timeout);
            deadline
        })
    };
    vec![Measure::alone("deadline lateness", FIGURES, sleep)]
}

fn wait_for_context(timeout: Duration) -> Instant {
    let (ctx, _cancel) = Context::background().with_timeout(timeout);
    assert!(ctx.done().recv().is_err());
    ctx.deadline().unwrap()
}

fn lateness(wait: impl Fn(Duration) -> Instant) -> Vec<f64> {
    let mut early = 0;
    let mut late: Vec<f64> = (0..SAMPLES)
        .map(|i| {
            // From 5 to 20 ms, in an order without a rhythm.
            let timeout = Duration::from_micros(5_000 + i * 7_919 % 15_000);
            let deadline = wait(timeout);
            let woken = Instant::now();
            early += u32::from(woken < deadline);
            woken.saturating_duration_since(deadline).as_nanos() as f64
        })
        .collect();
    let median = quantile(&mut late, 0.5);
    vec![median, quantile(&mut late, 0.99), early.into()]
}
