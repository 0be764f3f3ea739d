//! What explanations cost: nothing before they are asked for, however many contexts end.

use go_context::Context;
use support::process::in_child_alone;
use support::test_name;

use crate::{allocated_bytes, allocations};

const CHILDREN: usize = 100_000;

/// Calls of `err` after which a context is certainly registered.
const CALLS: usize = 20;

#[test]
fn cancel_of_many_children_records_its_place_once() {
    in_child_alone(test_name!(), || {
        type Prepare = fn(&Context);
        let prepare: [(&str, Prepare); 2] = [
            ("registered", |child| {
                (0..CALLS).for_each(|_| assert!(child.err().is_none()));
            }),
            ("with a channel", |child| drop(child.done())),
        ];
        for (what, prepare) in prepare {
            let (parent, cancel) = Context::background().with_cancel();
            let children: Vec<_> = (0..CHILDREN).map(|_| parent.with_cancel()).collect();
            children.iter().for_each(|(child, _)| prepare(child));
            let before = allocated_bytes();
            let (counted, line) = (allocations(|| cancel.cancel()), line!());
            let after = allocated_bytes();
            assert!(counted < 100, "{what}: {counted} allocations");
            assert!(after <= before, "{what}: {after} bytes, {before} before");
            // Each can be explained all the same.
            for (child, _) in &children {
                let explanation = child.explain().expect("it is done");
                assert_eq!(explanation.origin_depth(), 1);
                assert_eq!(explanation.cancelled_at().expect("a place").line(), line);
            }
        }
    });
}

#[test]
fn derivation_and_cancel_allocate_no_more_for_explanations() {
    in_child_alone(test_name!(), || {
        let life = || {
            let (ctx, cancel) = Context::background().with_cancel();
            cancel.cancel();
            assert!(ctx.err().is_some());
        };
        life(); // what is allocated once
        let counted = allocations(|| (0..1000).for_each(|_| life()));
        assert_eq!(counted, 1000, "the context itself");
    });
}
