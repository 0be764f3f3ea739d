//! How long after its deadline a context is seen done by a thread that waits for it.

use std::thread;
use std::time::{Duration, Instant};

use go_context::Context;

use crate::go::HOUR;
use crate::{quantile, Measure};

const SAMPLES: u64 = 80;

pub(crate) fn all() -> Vec<Measure> {
    let idle = || lateness(wait_for_context);
    let busy = || {
        let bg = Context::background();
        let live: Vec<_> = (0..100_000)
            .map(|i| {
                let (ctx, cancel) = bg.with_timeout(HOUR + Duration::from_millis(i));
                assert!(ctx.err().is_none()); // from now on the timer knows it
                (ctx, cancel)
            })
            .collect();
        let late = lateness(wait_for_context);
        drop(live);
        late
    };
    vec![
        measure("deadline lateness", idle),
        measure("deadline lateness, 100,000 live", busy),
    ]
}

/// A thread that just sleeps.
pub(crate) fn floors() -> Vec<Measure> {
    vec![measure("deadline lateness", || {
        lateness(|timeout| {
            let deadline = Instant::now() + timeout;
            thread::sleep(timeout);
            deadline
        })
    })]
}

fn wait_for_context(timeout: Duration) -> Instant {
    let (ctx, _cancel) = Context::background().with_timeout(timeout);
    assert!(ctx.done().recv().is_err());
    ctx.deadline().unwrap()
}

fn measure(name: &str, run: impl FnMut() -> Vec<f64> + 'static) -> Measure {
    Measure {
        name: name.into(),
        unit: "ns",
        figures: &["median", "p99"],
        run: Box::new(run),
    }
}

fn lateness(wait: impl Fn(Duration) -> Instant) -> Vec<f64> {
    let mut late: Vec<f64> = (0..SAMPLES)
        .map(|i| {
            // From 5 to 20 ms, in an order without a rhythm.
            let timeout = Duration::from_micros(5_000 + i * 7_919 % 15_000);
            let deadline = wait(timeout);
            (Instant::now() - deadline).as_nanos() as f64
        })
        .collect();
    vec![quantile(&mut late, 0.5), quantile(&mut late, 0.99)]
}
