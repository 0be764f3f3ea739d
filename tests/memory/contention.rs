//! The memory of a contended context is freed: that of its children while it lives, and its own when
//! it is dropped.

use std::thread;

use go_context::{CancelFunc, Context, Key};
use support::process::in_child_alone;
use support::{test_name, HOUR};

use crate::allocated_bytes;

/// What threads and channels may own at the moment.
const SLACK: usize = 32 * 1024;

const THREADS: usize = 4;

#[derive(PartialEq, Eq)]
struct Number;

impl Key for Number {
    type Value = String;
}

/// Derives from a context on many threads, and uses the children in the usual ways.
fn contend(ctx: &Context, children: usize) {
    thread::scope(|s| {
        for thread in 0..THREADS {
            s.spawn(move || {
                for number in 0..children {
                    let valued = ctx.with_value(Number, number.to_string());
                    let (child, cancel) = match (number + thread) % 3 {
                        0 => ctx.with_cancel(),
                        1 => valued.with_cancel(),
                        _ => ctx.with_timeout(HOUR),
                    };
                    match number % 5 {
                        0 => cancel.cancel(),
                        1 => drop(child.done()),
                        2 => assert!(child.after_func(|| ()).stop()),
                        3 => assert_eq!(child.err(), None),
                        _ => {}
                    }
                }
            });
        }
    });
}

fn new(parent: &Context) -> (Context, CancelFunc) {
    parent.with_value(Number, "none".into()).with_cancel()
}

/// Makes contended contexts and drops their handles, each time in another order.
fn come_and_go(parent: &Context) {
    for round in 0..200 {
        let (ctx, cancel) = new(parent);
        contend(&ctx, 50);
        let child = ctx.with_cancel();
        let other = thread::scope(|s| s.spawn(|| ctx.with_cancel()).join().unwrap());
        if round % 3 == 0 {
            assert_eq!((child.0.err(), other.0.err()), (None, None));
        }
        match round % 6 {
            0 => drop((ctx, cancel, child, other)),
            1 => drop((child, other, cancel, ctx)),
            2 => drop((cancel, child, ctx, other)),
            3 => {
                cancel.cancel();
                drop((other, ctx, cancel, child));
            }
            4 => {
                let (merged, _cancel) = child.0.merge(&other.0);
                drop((other, ctx, cancel, child));
                assert_eq!(merged.err(), None);
            }
            _ => {
                let clone = ctx.clone();
                drop((ctx, other));
                contend(&clone, 50);
                drop((cancel, clone, child));
            }
        }
    }
}

#[track_caller]
fn assert_nothing_is_left(what: &str, mut act: impl FnMut()) {
    act();
    let before = allocated_bytes();
    act();
    act();
    let growth = allocated_bytes().saturating_sub(before);
    assert!(growth < SLACK, "{what}: {growth} bytes more");
}

#[test]
fn contended_context_frees_all_memory() {
    in_child_alone(test_name!(), || {
        let (lasting, _cancel) = new(&Context::background());
        assert_nothing_is_left("children of one that stays", || contend(&lasting, 20_000));
        assert_nothing_is_left("children of a root", || come_and_go(&Context::background()));
        assert_nothing_is_left("contexts below one that stays", || come_and_go(&lasting));
        assert_eq!(lasting.err(), None);
    });
}
