//! `context/context_test.go`: tests that in Go read a context's set of children.
//!
//! Here the set is observed by its effect. A custom context is watched while it has children, and
//! the watch ends when the last one is unregistered.

use std::sync::Arc;

use go_context::crossbeam_channel::bounded;
use go_context::{Cause, Context, Error};
use support::{assert_closes, assert_open, cause, HOUR};

use super::common::{assert_err, Name, Service};

#[test]
fn parent_finishes_child() {
    let (parent, cancel) = Context::background().with_cancel();
    let (child, _cancel_child) = parent.with_cancel();
    let value = parent.with_value(Name("key"), "value");
    let (timed, _cancel_timed) = value.with_timeout(HOUR);
    let (held, holder) = bounded::<()>(0);
    let after = parent.after_func(move || drop(held));
    let tree = [&parent, &child, &value, &timed];
    tree.into_iter().for_each(assert_open);

    cancel.cancel();
    tree.into_iter()
        .for_each(|ctx| assert_err(ctx, Error::Canceled));
    assert!(!after.stop(), "the parent still has its callback");
    assert_closes(&holder);
    assert_err(&parent.with_value(Name("key"), "late"), Error::Canceled);
}

#[test]
fn child_finishes_first_background() {
    let parent = Context::background();
    let (child, cancel_child) = parent.with_cancel();
    [&parent, &child].into_iter().for_each(assert_open);

    cancel_child.cancel();
    assert_err(&child, Error::Canceled);
    assert_open(&parent);
}

#[test]
fn child_finishes_first_cancellable() {
    let (parent, _cancel) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel_cause();
    [&parent, &child].into_iter().for_each(assert_open);

    let why = cause("child");
    let kept = Arc::downgrade(&why);
    cancel_child.cancel(why);
    assert_err(&child, Error::Canceled);
    assert_open(&parent);

    drop((child, cancel_child));
    assert!(kept.upgrade().is_none(), "the parent holds its child");
    assert_open(&parent);
}

#[test]
fn cancel_removes_with_cancel() {
    let parent = Service::new();
    let ctx = parent.context();
    assert_eq!(parent.registered(), 0);
    let (_child, cancel_child) = ctx.with_cancel();
    assert_eq!(parent.registered(), 1);
    cancel_child.cancel();
    assert_eq!(parent.registered(), 0);
}

#[test]
fn cancel_removes_with_timeout() {
    let parent = Service::new();
    let ctx = parent.context();
    assert_eq!(parent.registered(), 0);
    let (_child, cancel_child) = ctx.with_timeout(HOUR);
    assert_eq!(parent.registered(), 1);
    cancel_child.cancel();
    assert_eq!(parent.registered(), 0);
}

#[test]
fn cancel_removes_after_func() {
    let parent = Service::new();
    let ctx = parent.context();
    assert_eq!(parent.registered(), 0);
    let after = ctx.after_func(|| ());
    assert_eq!(parent.registered(), 1);
    assert!(after.stop());
    assert_eq!(parent.registered(), 0);

    // And with a parent of the crate's own, what the function owns is dropped.
    let (ctx, _cancel) = Context::background().with_cancel();
    let owned: Cause = cause("owned");
    let kept = Arc::downgrade(&owned);
    let after = ctx.after_func(move || drop(owned));
    assert!(after.stop());
    assert!(kept.upgrade().is_none(), "a stopped callback is kept");
}
