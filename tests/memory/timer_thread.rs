//! One thread serves all deadlines, and nothing is left of a deadline that is not needed any more.

use std::mem::size_of;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::RecvTimeoutError;
use go_context::{CancelFunc, Context, Error};
use support::process::in_child_alone;
use support::threads::thread_names;
use support::{test_name, HOUR, LIMIT};

use crate::allocated_bytes;

const COUNT: usize = 100_000;

#[test]
fn timeouts_100000_use_one_thread_and_free_memory() {
    in_child_alone(test_name!(), || {
        let background = Context::background();
        let mut threads = thread_names();
        use_no_deadline();
        assert_threads(&threads);

        let first = expired();
        threads.push("go-ctx-timer".into());
        assert_threads(&threads);
        let idle = allocated_bytes();

        let live = timeouts(&background);
        assert_threads(&threads);
        let armed = allocated_bytes();
        for (_, cancel) in &live {
            cancel.cancel();
        }
        assert!(live
            .iter()
            .all(|(ctx, _)| ctx.err() == Some(Error::Canceled)));
        // The contexts still exist. Their timers do not: each took at least an instant.
        assert!(allocated_bytes() + COUNT * size_of::<Instant>() <= armed);
        drop(live);
        assert_nothing_left_since(idle);

        drop(timeouts(&background));
        assert_nothing_left_since(idle);

        let (parent, cancel) = background.with_cancel();
        let live = timeouts(&parent);
        let armed = allocated_bytes();
        cancel.cancel();
        assert!(allocated_bytes() + COUNT * size_of::<Instant>() <= armed);
        drop((live, parent, cancel));
        assert_nothing_left_since(idle);

        let last = expired();
        assert_threads(&threads);
        drop((first, last));

        let waiting = timeouts(&background);
        assert_timer_sleeps();
        drop(waiting);
    });
}

/// Everything except deadlines.
fn use_no_deadline() {
    let (ctx, cancel) = Context::background().with_timeout(Duration::MAX);
    let (child, _cancel_child) = ctx.with_cancel_cause();
    let stop = child.after_func(|| unreachable!());
    assert!(stop.stop());
    let done = child.without_cancel().done();
    assert!(done.is_empty());
    assert_eq!(child.sleep(Duration::from_millis(1)), Ok(()));
    cancel.cancel();
    assert_eq!(child.wait(), Error::Canceled);
}

/// A context whose deadline has just passed. Dropping it at once could start another thread, because
/// the timer thread does not drop what a context owns.
fn expired() -> Context {
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    let done = ctx.done().recv_timeout(LIMIT);
    assert_eq!(done, Err(RecvTimeoutError::Disconnected));
    ctx
}

/// Timeouts with a done channel each, because one without might have no timer yet.
fn timeouts(parent: &Context) -> Vec<(Context, CancelFunc)> {
    let timeouts: Vec<_> = (0..COUNT).map(|_| parent.with_timeout(HOUR)).collect();
    timeouts.iter().for_each(|(ctx, _)| drop(ctx.done()));
    timeouts
}

/// Leaves some room for what the timer thread does meanwhile, but not a byte for each context.
#[track_caller]
fn assert_nothing_left_since(idle: usize) {
    let now = allocated_bytes();
    assert!(now < idle + COUNT, "{idle} bytes before, {now} bytes now");
}

/// Asserts that these are the threads of this process. Only Linux lists them.
#[track_caller]
fn assert_threads(expected: &[String]) {
    if cfg!(target_os = "linux") {
        let cut = |name: &String| name.chars().take(15).collect::<String>();
        let mut expected: Vec<_> = expected.iter().map(cut).collect();
        expected.sort();
        let mut names = thread_names();
        names.sort();
        assert_eq!(names, expected);
    }
}

/// The timer thread uses no processor time while nothing is due. One that does not sleep uses all
/// that it can get, which is far more than this even beside many others. Only Linux reports it.
fn assert_timer_sleeps() {
    let ticks = || {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
        let stats = tasks.flatten().map(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat"));
            stat.unwrap_or_default() // the thread of a test that has ended
        });
        let timer = stats
            .into_iter()
            .find(|stat| stat.contains("(go-ctx-timer)"));
        let timer = timer.unwrap_or_default();
        let times = timer.split_whitespace().skip(13).take(2);
        times
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    let taken = ticks() - before;
    assert!(taken <= 5, "{taken} hundredths of a second");
}
