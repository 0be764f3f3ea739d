//! `sync`: std's scoped threads promise what `WaitGroup` promises, with contexts or without.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use go_context::{Context, Error};
use support::wait;

use super::common::assert_err;

#[test]
fn wait_group_race() {
    for _ in 0..500 {
        let sum = AtomicUsize::new(0);
        let (ctx, cancel) = Context::background().with_cancel();
        thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    wait(&ctx);
                    sum.fetch_add(1, Ordering::Relaxed);
                });
            }
            cancel.cancel();
        });
        assert_eq!(sum.into_inner(), 2);
    }
}

#[test]
fn wait_group_go() {
    let (ctx, cancel) = Context::background().with_cancel();
    let mut plain = 0;
    thread::scope(|s| {
        s.spawn(|| {
            plain = 1;
            cancel.cancel();
        });
    });
    assert_eq!(plain, 1);
    assert_err(&ctx, Error::Canceled);
}

/// A panic in one thread ends the others, by its guard, and is resumed by the scope after them. Go's
/// ends the process.
#[test]
fn issue76126() {
    let (ctx, cancel) = Context::background().with_cancel();
    let ended = AtomicUsize::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        thread::scope(|s| {
            s.spawn(|| {
                wait(&ctx);
                ended.fetch_add(1, Ordering::Relaxed);
            });
            s.spawn(|| {
                let _cancel_on_exit = cancel.drop_guard();
                panic!("a panic that belongs to the test");
            });
        });
    }));
    assert!(panicked.is_err());
    assert_eq!(ended.into_inner(), 1);
}
