//! `testing/synctest`: what Go tests in a bubble with a clock of its own. Here the clock is the real
//! one, so order is asserted and never how late anything is.

use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::bounded;
use go_context::{Context, Error};
use support::{assert_closes, assert_open, receive, wait};

use super::common::assert_err;

#[test]
fn context() {
    let (ctx, cancel) = Context::background().with_cancel();
    let mut ended = None;
    thread::scope(|s| {
        let _cancel_on_exit = cancel.drop_guard();
        s.spawn(|| {
            wait(&ctx);
            ended = ctx.err();
        });
        assert_open(&ctx);
    });
    assert_eq!(ended, Some(Error::Canceled));
}

#[test]
fn context_after_func() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (ran, runs) = bounded(2);
    let _after = ctx.after_func({
        let ctx = ctx.clone();
        move || ran.send(ctx.err()).unwrap()
    });
    assert!(runs.is_empty());
    cancel.cancel();
    assert_eq!(receive(&runs), Some(Error::Canceled));
    assert_closes(&runs);
}

/// A timer is never early.
#[test]
fn context_with_timeout() {
    let timeout = Duration::from_millis(50);
    let start = Instant::now();
    let (ctx, _cancel) = Context::background().with_timeout(timeout);
    let deadline = ctx.deadline().unwrap();
    assert!(deadline >= start + timeout);
    loop {
        let err = ctx.err();
        if Instant::now() >= deadline {
            break;
        }
        assert_eq!(err, None, "it is early");
        thread::yield_now();
    }
    wait(&ctx);
    assert_err(&ctx, Error::DeadlineExceeded);
}
