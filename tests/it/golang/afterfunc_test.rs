//! `context/afterfunc_test.go`: custom contexts that run functions when they are done.

use go_context::crossbeam_channel::bounded;
use go_context::Error;
use support::{assert_open, receive, wait, HOUR};

use super::common::Service;

#[test]
fn custom_context_after_func_cancel() {
    let foreign = Service::new();
    let ctx = foreign.context();
    let (child, _cancel) = ctx.with_cancel();
    assert_open(&child);
    foreign.cancel();
    wait(&child);
    assert_eq!(child.err(), Some(Error::Canceled));
}

#[test]
fn custom_context_after_func_timeout() {
    let foreign = Service::new();
    let ctx = foreign.context();
    let (child, _cancel) = ctx.with_timeout(HOUR);
    assert_open(&child);
    foreign.cancel();
    wait(&child);
    assert_eq!(child.err(), Some(Error::Canceled));
}

#[test]
fn custom_context_after_func_after_func() {
    let foreign = Service::new();
    let ctx = foreign.context();
    let (ran, runs) = bounded(1);
    let _after = ctx.after_func(move || ran.send(()).unwrap());
    assert!(runs.is_empty());
    foreign.cancel();
    receive(&runs);
}

/// Go registers a function for each child. Here one serves them all.
#[test]
fn custom_context_after_func_unregister_cancel() {
    let foreign = Service::new();
    let ctx = foreign.context();
    let (_one, cancel_one) = ctx.with_cancel();
    let (_two, cancel_two) = ctx.with_cancel();
    assert_eq!(foreign.registered(), 1);
    cancel_one.cancel();
    assert_eq!(foreign.registered(), 1, "the other child is still there");
    cancel_two.cancel();
    assert_eq!(foreign.registered(), 0);
}

#[test]
fn custom_context_after_func_unregister_timeout() {
    let foreign = Service::new();
    let ctx = foreign.context();
    let (_child, cancel) = ctx.with_timeout(HOUR);
    assert_eq!(foreign.registered(), 1);
    cancel.cancel();
    assert_eq!(foreign.registered(), 0);
}

#[test]
fn custom_context_after_func_unregister_after_func() {
    let foreign = Service::new();
    let ctx = foreign.context();
    let after = ctx.after_func(|| unreachable!());
    assert_eq!(foreign.registered(), 1);
    assert!(after.stop());
    assert_eq!(foreign.registered(), 0);
}
