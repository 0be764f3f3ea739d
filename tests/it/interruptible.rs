//! Blocking calls that something else can end.

use std::cell::Cell;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, Receiver, Sender};
use go_context::{Context, Error, RecvError};
use support::threads::spawn;
use support::{assert_closes, assert_done, cancelled, is_open, receive, wait, HOUR};

/// A call that blocks until it is interrupted, and then fails with an error of its own.
fn blocked(interrupted: &Receiver<()>) -> io::Result<()> {
    receive(interrupted);
    Err(io::ErrorKind::ConnectionAborted.into())
}

fn interrupt(sender: Sender<()>) -> impl FnOnce() + Send + 'static {
    move || sender.send(()).expect("the call waits")
}

#[test]
fn interruptible_on_done_context_runs_nothing() {
    let (sender, ran) = bounded::<()>(1);
    let result: Result<(), Error> =
        cancelled().interruptible(move || drop(sender), || unreachable!("the call"));
    assert_eq!(result, Err(Error::Canceled));
    assert_closes(&ran);
}

#[test]
fn interruptible_without_cancel_returns_what_call_does() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    let ran = Arc::new(AtomicBool::new(false));
    for ctx in [ctx, Context::background()] {
        let interrupt = {
            let ran = ran.clone();
            move || ran.store(true, Ordering::SeqCst)
        };
        assert_eq!(
            ctx.interruptible(interrupt.clone(), || Ok::<_, RecvError>(1)),
            Ok(1)
        );
        let failed = ctx.interruptible(interrupt, || Err::<(), _>(RecvError::Disconnected));
        assert_eq!(failed, Err(RecvError::Disconnected));
    }
    assert!(!ran.load(Ordering::SeqCst));
}

#[test]
fn interruptible_ends_a_blocked_call_on_cancel() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (sender, interrupted) = bounded(1);
    let (begins, begun) = bounded(1);
    let ended = spawn({
        let ctx = ctx.clone();
        move || {
            ctx.interruptible(interrupt(sender), || {
                begins.send(()).unwrap();
                blocked(&interrupted)
            })
        }
    });
    receive(&begun);
    cancel.cancel();
    let err = receive(&ended).unwrap_err();
    assert_eq!(Error::find(&err), Some(Error::Canceled));
}

#[test]
fn interruptible_ends_a_blocked_call_at_deadline() {
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    let (sender, interrupted) = bounded(1);
    let ended = ctx.interruptible(interrupt(sender), || blocked(&interrupted));
    match ended {
        // A machine that is slow enough finds the deadline passed before the call begins.
        Err(err) => assert_eq!(Error::find(&err), Some(Error::DeadlineExceeded)),
        Ok(()) => panic!("the call cannot succeed"),
    }
}

#[test]
fn interruptible_keeps_the_success_of_call() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (sender, interrupted) = bounded(1);
    let result: io::Result<u8> = ctx.interruptible(interrupt(sender), || {
        cancel.cancel();
        receive(&interrupted);
        Ok(7)
    });
    assert_eq!(result.unwrap(), 7);
    assert_done(&ctx, Error::Canceled, "context canceled");
}

#[test]
fn interruptible_waits_for_interrupt_to_end() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (begins, begun) = bounded(1);
    let (end, ends) = bounded::<()>(1);
    let interrupt = move || {
        begins.send(()).unwrap();
        receive(&ends);
    };
    let ended = spawn(move || {
        ctx.interruptible(interrupt, || {
            cancel.cancel();
            receive(&begun);
            Err::<(), _>(io::ErrorKind::BrokenPipe.into())
        })
    });
    // It cannot have returned: `interrupt` is still running. One that does not wait soon does.
    assert!(ended.recv_timeout(Duration::from_millis(50)).is_err());
    end.send(()).unwrap();
    let err: io::Error = receive(&ended).unwrap_err();
    assert_eq!(Error::find(&err), Some(Error::Canceled));
}

#[test]
fn interruptible_failure_after_passed_deadline_is_a_timeout() {
    // The timer thread has not noticed the deadline: `wait_past` does not wait for the context.
    for _ in 0..200 {
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_micros(300));
        let result = ctx.interruptible(
            || (),
            || {
                wait_past(&ctx);
                Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock))
            },
        );
        let err = result.unwrap_err();
        assert_eq!(Error::find(&err), Some(Error::DeadlineExceeded), "{err:?}");
    }
}

/// Like a read with a socket timeout that is set to the time that remains.
fn wait_past(ctx: &Context) {
    let deadline = ctx.deadline().expect("it has a deadline");
    while std::time::Instant::now() < deadline {
        std::hint::spin_loop();
    }
}

#[test]
fn interruptible_resumes_the_panic_of_call_and_drops_interrupt() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (sender, ran) = bounded::<()>(1);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        ctx.interruptible(
            move || sender.send(()).unwrap(),
            || -> Result<(), Error> { panic!("planned") },
        )
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"planned"));
    cancel.cancel();
    assert_closes(&ran); // without a message
}

#[test]
fn interruptible_contains_the_panic_of_interrupt() {
    let (ctx, cancel) = Context::background().with_cancel();
    let result = ctx.interruptible(
        || panic!("planned"),
        || {
            cancel.cancel();
            Err::<(), _>(RecvError::Disconnected)
        },
    );
    assert_eq!(result, Err(RecvError::Done(Error::Canceled)));
}

#[test]
fn interruptible_may_borrow_and_nest() {
    let (ctx, cancel) = Context::background().with_cancel();
    let calls = Cell::new(0);
    let outer: Result<(), RecvError> = ctx.interruptible(
        || (),
        || {
            let inner = ctx.interruptible(
                || (),
                || {
                    calls.set(calls.get() + 1);
                    cancel.cancel();
                    Err::<(), _>(RecvError::Disconnected)
                },
            );
            assert_eq!(inner, Err(RecvError::Done(Error::Canceled)));
            Err(RecvError::Disconnected)
        },
    );
    assert_eq!(outer, Err(RecvError::Done(Error::Canceled)));
    assert_eq!(calls.get(), 1);
}

// Deadlines that have passed

#[test]
fn remaining_zero_means_that_the_context_is_done() {
    for round in 0..200 {
        let timeout = Duration::from_micros(200 + round);
        let (parent, _cancel) = Context::background().with_timeout(timeout);
        let (child, _cancel) = parent.with_cancel();
        let (sibling, _cancel) = parent.with_timeout(HOUR);
        let merged = Context::background().merge(&child).0;
        let asked: Vec<&Context> = match round % 4 {
            0 => vec![&parent],
            1 => vec![&child, &parent],
            2 => vec![&merged, &sibling],
            _ => vec![&sibling, &child, &merged],
        };
        let done = (round % 3 == 0).then(|| child.done());
        wait_past(asked[0]);
        for ctx in asked {
            assert_eq!(ctx.remaining(), Some(Duration::ZERO));
            assert_eq!(ctx.check(), Err(Error::DeadlineExceeded), "round {round}");
        }
        if let Some(done) = done {
            assert!(!is_open(&done) || wait(&child) == Error::DeadlineExceeded);
        }
    }
}

#[test]
fn remaining_of_cancelled_context_keeps_its_error() {
    let (ctx, cancel) = Context::background().with_timeout(Duration::from_millis(1));
    cancel.cancel();
    let first = ctx.err();
    wait_past(&ctx);
    assert_eq!(ctx.remaining(), Some(Duration::ZERO));
    assert_eq!(ctx.err(), first);
}

#[test]
fn remaining_zero_expires_the_parent_whose_deadline_it_is() {
    let (parent, _cancel) =
        Context::background().with_timeout_cause(Duration::from_millis(1), "too slow");
    let (child, _cancel) = parent.with_cancel();
    wait_past(&child);
    assert_eq!(child.remaining(), Some(Duration::ZERO));
    assert_done(&parent, Error::DeadlineExceeded, "too slow");
    assert_done(&child, Error::DeadlineExceeded, "too slow");
}

// Small additions

#[test]
fn with_deadline_takes_the_deadline_of_another_context() {
    let bg = Context::background();
    let (other, _cancel) = bg.with_timeout(HOUR);
    let (ctx, _cancel) = bg.with_deadline(other.deadline());
    assert_eq!(ctx.deadline(), other.deadline());
    let (ctx, _cancel) = bg.with_deadline(bg.deadline());
    assert_eq!(ctx.deadline(), None);
}

#[test]
fn disarm_returns_the_cancel_func_and_cancels_nothing() {
    let (ctx, cancel) = Context::background().with_cancel();
    let cancel = cancel.drop_guard().disarm();
    assert_eq!(ctx.err(), None);
    cancel.cancel();
    assert_eq!(ctx.err(), Some(Error::Canceled));

    let (ctx, cancel) = Context::background().with_cancel_cause();
    let cancel = cancel.drop_guard().disarm();
    assert_eq!(ctx.err(), None);
    drop(cancel.drop_guard());
    assert_eq!(ctx.err(), Some(Error::Canceled));
}

#[test]
fn ptr_eq_is_true_for_clones_only() {
    let bg = Context::background();
    let (ctx, _cancel) = bg.with_cancel();
    let valued = ctx.with_value(support::Name, "a".to_string());
    let all = [
        bg,
        Context::todo(),
        ctx.clone(),
        valued,
        ctx.without_cancel(),
    ];
    for (i, one) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            assert_eq!(one.ptr_eq(&other.clone()), i == j, "{one} and {other}");
        }
    }
}
