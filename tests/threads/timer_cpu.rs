//! The timer thread sleeps when nothing is due, even if the next deadline is only a moment away.
//!
//! A thread that spins takes a whole core only if there is one for it, so no other test of this
//! binary runs at the same time.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use go_context::Context;
use support::process::in_child_alone;
use support::{assert_closes, test_name};

/// The processor time that the timer thread has taken. Linux counts it in hundredths of a second.
fn timer_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let timer = stats
        .into_iter()
        .find(|stat| stat.contains("(go-ctx-timer)"));
    let timer = timer.expect("the timer thread");
    let times = timer.split_whitespace().skip(13).take(2);
    let ticks: u64 = times.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10) * u32::try_from(ticks).unwrap()
}

/// Repeats a round in a child process, until the timer thread has used little processor time in
/// one of them.
///
/// A timer that spins before each deadline takes 60 % and more, if there is a core for it. One that only
/// sleeps takes 6 to 25 %. A busy machine can only make a round longer.
fn timer_sleeps_during(test: &str, round: fn()) {
    in_child_alone(test, || repeat(round));
}

fn repeat(round: fn()) {
    let (first, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    assert_closes(&first.done());
    let mut shares = Vec::new();
    while shares.len() < 5 {
        let (start, before) = (Instant::now(), timer_time());
        round();
        let taken = timer_time() - before;
        let share = taken.as_secs_f64() / start.elapsed().as_secs_f64();
        if share < 0.45 {
            return;
        }
        shares.push(share);
    }
    panic!("the timer thread takes {shares:.2?} of a core");
}

#[test]
fn timer_sleeps_between_10000_deadlines_a_second() {
    timer_sleeps_during(test_name!(), || {
        let start = Instant::now() + Duration::from_millis(20);
        let timeouts: Vec<_> = (0..5000)
            .map(|number| {
                let deadline = start + number * Duration::from_micros(100);
                let (ctx, cancel) = Context::background().with_deadline(deadline);
                let done = ctx.done();
                (ctx, cancel, done)
            })
            .collect();
        timeouts.iter().for_each(|(.., done)| assert_closes(done));
    });
}

#[test]
fn timer_sleeps_through_cancelled_timeouts() {
    timer_sleeps_during(test_name!(), || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            let (ctx, cancel) = Context::background().with_timeout(Duration::from_micros(150));
            let _done = ctx.done();
            thread::sleep(Duration::from_micros(10)); // some 70 with what Linux adds
            cancel.cancel();
        }
    });
}
