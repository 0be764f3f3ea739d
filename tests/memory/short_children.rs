//! A long-lived parent that has had a million children takes no more memory than before.

use std::collections::VecDeque;

use go_context::crossbeam_channel::TryRecvError;
use go_context::{Context, Key};
use support::process::in_child_alone;
use support::{test_name, HOUR};

use crate::allocated_bytes;

const COUNT: usize = 1_000_000;
/// How many children live at once: each outlives those created meanwhile.
const ALIVE: usize = 100;
/// What the live children may take: not a byte for each child that there has been.
const BYTES: usize = 512 * 1024;
/// The same for the resident memory, that the kernel counts by batches of pages.
const RESIDENT_KIB: usize = 4 * 1024;

#[derive(PartialEq, Eq)]
struct Number;
impl Key for Number {
    type Value = String;
}

#[test]
fn million_children_leave_nothing_in_parent() {
    in_child_alone(test_name!(), || {
        let (parent, cancel) = Context::background()
            .with_value(Number, "none".into())
            .with_cancel();
        let done = parent.done();
        let parent = &parent;

        // An unobserved context is not registered with its parent, so there are both kinds.
        million("never looked at, cancelled", |_| {
            let (child, cancel) = parent.with_cancel();
            move || {
                cancel.cancel();
                drop(child);
            }
        });
        million("never looked at, dropped", |_| {
            let child = parent.with_cancel();
            || drop(child)
        });
        million("looked at when it is cancelled", |_| {
            let (child, cancel) = parent.with_cancel();
            move || {
                cancel.cancel();
                assert!(child.err().is_some());
            }
        });
        million("never looked at, with a timeout of its own", |number| {
            let (child, cancel) = Context::background().with_timeout(HOUR);
            move || {
                if number % 2 == 0 {
                    cancel.cancel();
                }
                drop(child);
            }
        });
        million("cancelled", |_| {
            let (child, cancel) = parent.with_cancel();
            assert_eq!(child.err(), None);
            move || {
                cancel.cancel();
                drop(child);
            }
        });
        million("dropped", |_| {
            let child = parent.with_cancel();
            assert_eq!(child.0.err(), None);
            || drop(child)
        });
        million("cancelled with a cause", |number| {
            let (child, cancel) = parent.with_cancel_cause();
            assert_eq!(child.err(), None);
            move || {
                cancel.cancel(format!("number {number}"));
                drop(child);
            }
        });
        million("waited for and cancelled", |_| {
            let (child, cancel) = parent.with_cancel();
            let done = child.done();
            move || {
                cancel.cancel();
                assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
                drop(child);
            }
        });
        million("waited for and dropped", |_| {
            let child = parent.with_cancel();
            let done = child.0.done();
            move || {
                drop(child);
                assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
            }
        });
        million("with a timeout, cancelled", |_| {
            let (child, cancel) = parent.with_timeout(HOUR);
            move || {
                cancel.cancel();
                drop(child);
            }
        });
        million("with a timeout, dropped", |_| {
            let child = parent.with_timeout(HOUR);
            || drop(child)
        });
        million("with a function that is stopped", |_| {
            let child = parent.with_cancel();
            let function = child.0.after_func(|| unreachable!());
            move || {
                assert!(function.stop());
                drop(child);
            }
        });
        million("functions of the parent that are stopped", |_| {
            let function = parent.after_func(|| unreachable!());
            move || assert!(function.stop())
        });
        million("with a value", |number| {
            let child = parent.with_value(Number, number.to_string());
            move || assert_eq!(child.value(&Number), Some(&number.to_string()))
        });
        million("with a value and cancelled", |number| {
            let (child, cancel) = parent.with_value(Number, number.to_string()).with_cancel();
            assert_eq!(child.err(), None);
            move || {
                cancel.cancel();
                assert_eq!(child.value(&Number), Some(&number.to_string()));
            }
        });
        million("without cancellation", |_| {
            let child = parent.without_cancel();
            || drop(child)
        });
        million("cancelled below one without cancellation", |_| {
            let (child, cancel) = parent.without_cancel().with_timeout(HOUR);
            assert_eq!(child.err(), None);
            move || {
                cancel.cancel();
                drop(child);
            }
        });

        assert!(parent.err().is_none());
        cancel.cancel();
        assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
    });
}

/// Creates a million children, each to be ended by the function that was returned with it.
fn million<F: FnOnce()>(kind: &str, mut make: impl FnMut(usize) -> F) {
    let mut alive = VecDeque::with_capacity(ALIVE + 1);
    let mut limits = None;
    for number in 0..COUNT {
        alive.push_back(make(number));
        if alive.len() > ALIVE {
            alive.pop_front().into_iter().for_each(|end| end());
        }
        if number % 10_000 == 9_999 {
            // The first ones have set up everything that is needed.
            let (bytes, resident) = (allocated_bytes(), resident_kib());
            let limits = *limits.get_or_insert((bytes + BYTES, resident + RESIDENT_KIB));
            assert!(
                bytes < limits.0 && resident <= limits.1,
                "{kind}: after {number} children {bytes} bytes, {resident} KiB resident; \
                 at most {limits:?} expected"
            );
        }
    }
    alive.into_iter().for_each(|end| end());
}

/// The resident memory of the process; only Linux reports it.
fn resident_kib() -> usize {
    if !cfg!(target_os = "linux") {
        return 0;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|rest| rest.split_whitespace().next());
    kib.unwrap().parse().unwrap()
}
