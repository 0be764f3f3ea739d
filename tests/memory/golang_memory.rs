//! A long-lived parent does not grow with the children that it has had.

use std::time::Duration;

use go_context::{CancelFunc, Context};
use support::process::in_child_alone;
use support::test_name;

use crate::allocated_bytes;

/// What the timer thread may own at the moment.
const SLACK: usize = 16 * 1024;

const CHILDREN: usize = 10_000;

fn have_children(parent: &Context) {
    for _ in 0..CHILDREN {
        let (canceled, cancel) = parent.with_cancel();
        assert_eq!(canceled.err(), None); // so that it is registered
        cancel.cancel();
        assert!(parent.after_func(|| ()).stop());
        let (timed, cancel_timed) = parent.with_timeout(Duration::from_secs(3600));
        drop((canceled, timed, cancel_timed));
    }
}

fn have_canceled_children(parent: &Context) -> Vec<(Context, CancelFunc)> {
    let children: Vec<_> = (0..CHILDREN).map(|_| parent.with_cancel()).collect();
    assert!(children.iter().all(|(child, _)| child.err().is_none()));
    children.iter().for_each(|(_, cancel)| cancel.cancel());
    children
}

#[test]
fn no_leak() {
    in_child_alone(test_name!(), || {
        // Dropped children leave nothing behind.
        let (parent, _cancel) = Context::background().with_cancel();
        let (first, _cancel_first) = parent.with_cancel();
        assert_eq!(first.err(), None);
        have_children(&parent);
        let before = allocated_bytes();
        have_children(&parent);
        let growth = allocated_bytes().saturating_sub(before);
        assert!(growth < SLACK, "{growth} bytes more");

        // Cancelled children with live handles have been unregistered: they have no slot any more, so they
        // take no more memory than children of a root.
        let before = allocated_bytes();
        let orphans = have_canceled_children(&Context::background());
        let alone = allocated_bytes() - before;
        drop(orphans);
        let (parent, _cancel) = Context::background().with_cancel();
        let before = allocated_bytes();
        let children = have_canceled_children(&parent);
        let growth = (allocated_bytes() - before).saturating_sub(alone);
        assert!(growth < SLACK, "{growth} bytes more");
        drop(children);
    });
}
