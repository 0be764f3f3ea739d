//! The recipes in the guide and in `examples/recipes`.

use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::bounded;
use go_context::{Context, Error};
use support::blocked::block;
use support::{receive, root, HOUR};

#[cfg(unix)]
#[path = "../../examples/recipes/process.rs"]
mod process;
#[path = "../../examples/recipes/rate_limit.rs"]
mod rate_limit;
#[path = "../../examples/recipes/semaphore.rs"]
mod semaphore;
#[path = "../../examples/recipes/singleflight.rs"]
mod singleflight;

use rate_limit::Limiter;
use semaphore::Semaphore;

/// Returns the guide's blocks of Rust: what stands behind the language, and the code.
fn blocks(guide: &str) -> Vec<(&str, &str)> {
    let blocks = guide.split("\n```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix("rust")?.split_once('\n'))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// What rustdoc does not compile must be the code that is tested elsewhere.
#[test]
fn guide_has_tested_code() {
    let guide = read("docs/guide.md");
    let blocks = blocks(&guide);
    assert!(blocks.len() > 20, "{}", blocks.len());
    let mut ignored = blocks.iter().filter(|(flags, _)| *flags == ",ignore");
    for file in ["sqlite.rs", "postgres.rs", "spans.rs"] {
        let path = format!("tests/interop/{file}");
        let (_, code) = ignored.next().unwrap();
        assert_eq!(*code, read(&path).trim_end(), "{path}");
    }
    assert_eq!(ignored.next(), None);

    let process = read("examples/recipes/process.rs");
    assert!(blocks.iter().any(|(_, code)| code.starts_with(&process)));
}

#[cfg(unix)]
mod of_processes {
    use std::io::ErrorKind;
    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// The pause before the deadline is up to 10 ms, and many of the commands exit during it.
    #[test]
    fn wait_reports_each_success() {
        let limit = Duration::from_millis(60);
        for _ in 0..5 {
            let run = || {
                let (ctx, _cancel) = Context::background().with_timeout(limit);
                let mut child = Command::new("sleep").arg("0.052").spawn().unwrap();
                let result = process::wait(&ctx, &mut child);
                let status = child.wait().unwrap(); // again the status that `wait` has seen
                assert_eq!(result.is_ok(), status.success(), "{result:?}, {status}");
                if let Err(err) = result {
                    assert_eq!(err.kind(), ErrorKind::TimedOut);
                }
            };
            thread::scope(|s| {
                for _ in 0..6 {
                    s.spawn(|| (0..10).for_each(|_| run()));
                }
            });
        }
    }

    /// The exit of the command is what cancels the context.
    #[test]
    fn wait_during_cancel_reports_success() {
        for _ in 0..20 {
            let mut child = shell("sleep 0.05").stdout(Stdio::piped()).spawn().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let (ctx, cancel) = Context::background().with_cancel();
            thread::scope(|s| {
                s.spawn(|| {
                    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
                    cancel.cancel();
                });
                assert!(process::wait(&ctx, &mut child).unwrap().success());
            });
        }
    }

    #[test]
    fn wait_kills_on_cancel() {
        let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        cancel.cancel();
        let err = process::wait(&ctx, &mut child).unwrap_err();
        assert_eq!(Error::find(&err), Some(Error::Canceled));
        assert!(!child.wait().unwrap().success());
    }

    /// A pipe has room for 64 KiB.
    #[test]
    fn output_reads_more_than_a_pipe_holds() {
        let (ctx, _cancel) = Context::background().with_timeout(HOUR);
        let script = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; exit 3";
        let output = process::output(&ctx, &mut shell(script)).unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(
            (output.stdout.len(), output.stderr.len()),
            (1_000_000, 1_000_000)
        );
    }
}

#[test]
fn semaphore_is_first_come_first_served() {
    let bg = Context::background();
    let semaphore = Semaphore::new(3);
    let two = semaphore.acquire(&bg, 2).unwrap();
    let all = block({
        let semaphore = semaphore.clone();
        move || semaphore.acquire(&Context::background(), 3).unwrap()
    });
    // One is free, but it is not this call's turn.
    let (ctx, _cancel) = bg.with_timeout(Duration::from_millis(5));
    assert_eq!(
        semaphore.acquire(&ctx, 1).err(),
        Some(Error::DeadlineExceeded)
    );
    drop(two);
    drop(receive(&all));
    drop(semaphore.acquire(&bg, 3).unwrap());
}

#[test]
fn semaphore_is_not_blocked_by_a_call_that_gave_up() {
    let bg = Context::background();
    let semaphore = Semaphore::new(3);
    let _two = semaphore.acquire(&bg, 2).unwrap();
    let (ctx, cancel) = bg.with_cancel();
    let all = block({
        let semaphore = semaphore.clone();
        move || semaphore.acquire(&ctx, 3).err()
    });
    let one = block({
        let semaphore = semaphore.clone();
        move || semaphore.acquire(&Context::background(), 1).err()
    });
    cancel.cancel();
    assert_eq!(receive(&all), Some(Error::Canceled));
    assert_eq!(receive(&one), None);
}

#[test]
fn semaphore_refuses_more_than_it_has() {
    let bg = Context::background();
    let semaphore = Semaphore::new(3);
    let (ctx, cancel) = bg.with_cancel();
    let four = block({
        let semaphore = semaphore.clone();
        move || semaphore.acquire(&ctx, 4).err()
    });
    drop(semaphore.acquire(&bg, 3).unwrap());
    cancel.cancel();
    assert_eq!(receive(&four), Some(Error::Canceled));
}

#[test]
fn singleflight_outlives_its_first_caller() {
    let group = Arc::new(singleflight::Group::default());
    let (go, gate) = bounded(1);
    let (first, cancel) = Context::background().with_cancel();
    let call = |ctx: Context, work: &'static str| {
        let (group, gate) = (Arc::clone(&group), gate.clone());
        block(move || {
            let run = move |ctx: &Context| ctx.recv(&gate).map(|()| work);
            singleflight::run(&group, &ctx, "key", run)
        })
    };
    let one = call(first, "one");
    let two = call(Context::background(), "two");
    cancel.cancel();
    assert_eq!(receive(&one), Err(Error::Canceled));
    go.send(()).unwrap();
    assert_eq!(receive(&two), Ok(Ok("one")));

    // A call that has finished is not used again.
    let three = call(Context::background(), "three");
    go.send(()).unwrap();
    assert_eq!(receive(&three), Ok(Ok("three")));
}

#[test]
fn singleflight_is_cancelled_by_its_last_caller() {
    let group = singleflight::Group::default();
    let (ended_tx, ended) = bounded(1);
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
    let work = move |ctx: &Context| ended_tx.send(ctx.wait()).unwrap();
    assert_eq!(
        singleflight::run(&group, &ctx, 1, work),
        Err(Error::DeadlineExceeded)
    );
    // Not the deadline, which the work does not have.
    assert_eq!(receive(&ended), Error::Canceled);
}

#[test]
fn singleflight_does_not_wait_for_work_that_panicked() {
    let group = singleflight::Group::<_, ()>::default();
    let bg = Context::background();
    let call = || singleflight::run(&group, &bg, 1, |_| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert_eq!(singleflight::run(&group, &bg, 1, |_| ()), Ok(()));
}

#[test]
fn limiter_allows_burst_then_one_an_interval() {
    let limiter = Limiter::new(HOUR, 2);
    let bg = Context::background();
    let start = Instant::now();
    let pause_at = |hours: u32| limiter.take(&bg, start + HOUR * hours).unwrap().1;
    assert_eq!(pause_at(1), Duration::ZERO);
    assert_eq!(pause_at(1), Duration::ZERO);
    assert_eq!(pause_at(1), HOUR);
    assert_eq!(pause_at(1), HOUR * 2);
    assert_eq!(pause_at(4), Duration::ZERO);
    assert_eq!(pause_at(4), HOUR);
}

#[test]
fn limiter_fails_at_once_if_the_deadline_is_too_early() {
    let limiter = Limiter::new(HOUR, 1);
    let (ctx, _cancel) = Context::background().with_timeout(HOUR / 2);
    assert_eq!(limiter.wait(&ctx), Ok(()));
    assert_eq!(limiter.wait(&ctx), Err(Error::DeadlineExceeded));
    assert_eq!(ctx.err(), None);
}

#[test]
fn limiter_gets_the_token_of_a_cancelled_call_back() {
    let limiter = Arc::new(Limiter::new(HOUR, 1));
    let bg = Context::background();
    limiter.wait(&bg).unwrap();
    let (ctx, cancel) = bg.with_cancel();
    let waiting = block({
        let limiter = Arc::clone(&limiter);
        move || limiter.wait(&ctx)
    });
    cancel.cancel();
    assert_eq!(receive(&waiting), Err(Error::Canceled));
    let (_, pause) = limiter.take(&bg, Instant::now()).unwrap();
    assert!(pause <= HOUR, "{pause:?}");
}
