//! Who gets a seat: what is derived is the same without, so nobody else can tell.

use std::thread;

use crossbeam_channel::Receiver;

use super::*;
use crate::{Context, CustomContext, Error};

fn node() -> Hold {
    Hold::new(Node::with_cancel(None, 1))
}

/// Whether this thread derives from a seat rather than the node.
fn is_seated(hold: &Hold) -> bool {
    let (node, _) = hold.place(&Values::default());
    let is_child = node
        .parent()
        .is_some_and(|parent| Arc::ptr_eq(parent, hold));
    assert!(is_child != Arc::ptr_eq(&node, hold));
    is_child
}

fn derive(hold: &Hold, times: u8) {
    for _ in 0..times {
        let (node, _) = hold.place(&Values::default());
        drop(Node::with_cancel(Some(node), 2));
    }
}

fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(f).join().unwrap())
}

/// Makes the node one that many derive from.
fn crowd(hold: &Hold) {
    derive(hold, 1);
    on_a_thread(|| derive(hold, MANY));
}

#[test]
fn the_first_thread_alone_makes_no_crowd() {
    let hold = node();
    for _ in 0..4 {
        derive(&hold, MANY);
    }
    assert!(!is_seated(&hold));
    assert!(hold.hub.get().is_none());
}

#[test]
fn who_is_many_is_told_by_the_derivations_of_other_threads() {
    let hold = node();
    derive(&hold, 1);
    on_a_thread(|| {
        derive(&hold, MANY - 1);
        assert!(!is_seated(&hold));
        derive(&hold, 1);
        assert!(is_seated(&hold));
        derive(&hold, MANY);
    });
    assert_eq!(hold.others.load(Ordering::Relaxed), MANY);
    assert!(is_seated(&hold));
}

#[test]
fn a_thread_keeps_its_seat() {
    let hold = node();
    crowd(&hold);
    let seat = || hold.place(&Values::default()).0;
    assert!(is_seated(&hold));
    assert!(Arc::ptr_eq(&seat(), &seat()));
}

#[test]
fn the_seats_go_with_the_last_hold_and_no_sooner() {
    let hold = node();
    crowd(&hold);
    assert!(is_seated(&hold));
    let weak = Arc::downgrade(&hold);
    let seat = Arc::downgrade(&hold.place(&Values::default()).0);
    drop(hold.clone());
    assert!(seat.upgrade().is_some());
    drop(hold);
    assert!(seat.upgrade().is_none());
    assert!(weak.upgrade().is_none());
}

#[test]
fn there_are_no_seats_where_none_can_be_told_in_time() {
    struct Wrapped(Context);

    impl CustomContext for Wrapped {
        fn done(&self) -> Receiver<()> {
            self.0.done()
        }
        fn err(&self) -> Option<Error> {
            self.0.err()
        }
    }

    let custom = Context::custom(Wrapped(Context::background().with_cancel().0));
    let done = node();
    done.cancel(None);
    let detached = Hold::new(Node::without_cancel(None, 1));
    for hold in [custom.node.unwrap(), done, detached, Node::todo()] {
        crowd(&hold);
        assert!(!is_seated(&hold));
    }
}
