//! Custom contexts around custom contexts, a hundred thousand deep: no operation recurses, so an
//! ordinary stack is enough.
//!
//! A stack overflow ends the process, so each test runs in a child process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use go_context::crossbeam_channel::Receiver;
use go_context::{CancelCauseFunc, CancelFunc, Context, Error, Key};
use support::custom::PassThrough;
use support::process::in_child;
use support::{is_closed, test_name, Counted, Tag, HOUR};

const DEPTH: usize = 100_000;

/// The default of std, whatever the environment says.
const STACK: usize = 2 * 1024 * 1024;

struct Nested {
    outermost: Context,
    cancel: CancelCauseFunc,
    /// That of the innermost context.
    done: Receiver<()>,
    deadline: Instant,
}

impl Nested {
    fn new() -> Nested {
        let deadline = Instant::now() + HOUR;
        let (timed, _cancel) = Context::background().with_deadline(deadline);
        let (innermost, cancel) = timed.with_value(Tag(0), 7).with_cancel_cause();
        let done = innermost.done();
        let outermost = (0..DEPTH).fold(innermost, |inner, _| Context::custom(PassThrough(inner)));
        Nested {
            outermost,
            cancel,
            done,
            deadline,
        }
    }
}

/// Calls `f` with nested contexts, on an ordinary stack in a child process.
///
/// They are not dropped, which is what another test is about.
fn with_nested(test: &str, f: fn(&Nested)) {
    /// Keeps them reachable, so that they do not count as a leak.
    static KEPT: Mutex<Option<Nested>> = Mutex::new(None);

    in_child(test, || {
        on_ordinary_stack(move || {
            let mut kept = KEPT.lock().unwrap();
            f(kept.insert(Nested::new()));
        });
    });
}

fn on_ordinary_stack(f: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK).spawn(f);
    thread.unwrap().join().unwrap();
}

#[test]
fn custom_nested_answers_err() {
    with_nested(test_name!(), |nested| {
        assert_eq!(nested.outermost.err(), None);
        assert_eq!(nested.outermost.check(), Ok(()));
        nested.cancel.cancel("why");
        assert_eq!(nested.outermost.err(), Some(Error::Canceled));
        assert_eq!(nested.outermost.check(), Err(Error::Canceled));
    });
}

#[test]
fn custom_nested_answers_cause() {
    with_nested(test_name!(), |nested| {
        assert!(nested.outermost.cause().is_none());
        nested.cancel.cancel("why");
        assert_eq!(nested.outermost.cause().unwrap().to_string(), "why");
    });
}

#[test]
fn custom_nested_answers_deadline() {
    with_nested(test_name!(), |nested| {
        assert_eq!(nested.outermost.deadline(), Some(nested.deadline));
        assert!(nested.outermost.remaining().unwrap() > HOUR / 2);
    });
}

#[test]
fn custom_nested_answers_value() {
    with_nested(test_name!(), |nested| {
        assert_eq!(nested.outermost.value(&Tag(0)), Some(&7));
        assert_eq!(nested.outermost.value(&Tag(1)), None);
    });
}

#[test]
fn custom_nested_passes_done_through() {
    with_nested(test_name!(), |nested| {
        let done = nested.outermost.done();
        assert!(!is_closed(&done));
        nested.cancel.cancel("why");
        assert!(is_closed(&done));
        assert_eq!(nested.outermost.wait(), Error::Canceled);
    });
}

#[test]
fn custom_nested_is_displayed() {
    with_nested(test_name!(), |nested| {
        let shell = std::any::type_name::<PassThrough>();
        assert_eq!(nested.outermost.to_string(), shell);
        assert!(!format!("{:?}", nested.outermost).is_empty());
    });
}

#[test]
fn custom_nested_cancels_children() {
    with_nested(test_name!(), |nested| {
        let (child, _cancel) = nested.outermost.with_cancel();
        let (timed, _cancel) = nested.outermost.with_timeout(2 * HOUR);
        let (merged, _cancel) = Context::background().merge(&nested.outermost);
        let function = nested.outermost.after_func(|| ());
        assert_eq!(child.deadline(), Some(nested.deadline));
        assert_eq!(child.value(&Tag(0)), Some(&7));
        let done = child.done();
        assert!(!is_closed(&done) && !is_closed(&nested.done));

        nested.cancel.cancel("why");
        assert!(is_closed(&done));
        for ctx in [&child, &timed, &merged] {
            assert_eq!(ctx.err(), Some(Error::Canceled));
            assert_eq!(ctx.cause().unwrap().to_string(), "why");
        }
        assert!(!function.stop());
        let (late, _cancel) = nested.outermost.with_cancel();
        assert_eq!(late.cause().unwrap().to_string(), "why");
    });
}

#[derive(PartialEq, Eq)]
struct Owner;

impl Key for Owner {
    type Value = Counted;
}

#[test]
fn custom_nested_is_dropped() {
    in_child(test_name!(), || {
        on_ordinary_stack(|| {
            let dropped = Arc::<AtomicUsize>::default();
            let (innermost, cancel) = Context::background()
                .with_value(Owner, Counted(dropped.clone()))
                .with_cancel();
            let done = innermost.done();
            let outermost =
                (0..DEPTH).fold(innermost, |inner, _| Context::custom(PassThrough(inner)));
            drop(cancel);
            assert!(!is_closed(&done));
            drop(outermost);
            // With the last handle.
            assert!(is_closed(&done));
            assert_eq!(dropped.load(Ordering::SeqCst), 1);
        });
    });
}

#[test]
fn custom_alternating_with_cancel_is_dropped() {
    in_child(test_name!(), || {
        on_ordinary_stack(|| {
            let dropped = Arc::<AtomicUsize>::default();
            let mut ctx = Context::background().with_value(Owner, Counted(dropped.clone()));
            let mut cancels: Vec<CancelFunc> = Vec::new();
            for _ in 0..DEPTH / 2 {
                let (child, cancel) = ctx.with_cancel();
                cancels.push(cancel);
                ctx = Context::custom(PassThrough(child));
            }
            let done = ctx.done();
            assert!(!is_closed(&done));
            cancels[0].cancel();
            assert!(is_closed(&done));
            assert_eq!(ctx.err(), Some(Error::Canceled));
            drop(cancels);
            assert_eq!(dropped.load(Ordering::SeqCst), 0);
            drop(ctx);
            assert_eq!(dropped.load(Ordering::SeqCst), 1);
        });
    });
}
