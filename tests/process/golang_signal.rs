//! What Go tests of `signal.NotifyContext`. Tests that send a signal run in child processes.

use std::error::Error as _;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::{select, tick, TryRecvError};
use go_context::signal::{NotifyContext, Received, SIGHUP, SIGINT, SIGTERM};
use go_context::{Cause, Context, Error};
use rustix::process::Signal;
use support::process::{child, child_of, in_child, kill_self, report};
use support::{test_name, LIMIT};

/// As in Go: the signal is caught until `stop`.
fn notify(signals: &[i32]) -> NotifyContext {
    let signals = signals.iter().copied();
    NotifyContext::new().signals(signals).keep_catching()
}

#[track_caller]
fn assert_canceled(ctx: &Context) {
    assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(ctx.err(), Some(Error::Canceled));
}

/// The context is done and was given no cause.
#[track_caller]
fn assert_no_cause(ctx: &Context) {
    assert_canceled(ctx);
    let cause = ctx.cause().unwrap();
    assert_eq!(cause.downcast_ref(), Some(&Error::Canceled), "{cause}");
}

/// The child process of TestNotifyContextNotifications: it never stops catching.
fn notifications(signals: usize) {
    let (ctx, _stop) = notify(&[SIGINT]).start(&Context::background()).unwrap();
    thread::scope(|s| {
        for _ in 0..signals {
            s.spawn(|| kill_self(Signal::INT));
        }
    });
    ctx.wait();
    assert_eq!(
        ctx.cause().unwrap().to_string(),
        "interrupt signal received"
    );
    report("received SIGINT");
    // The other signals may take a while.
    thread::sleep(Duration::from_millis(100));
}

#[test]
fn notify_context_notifications_once() {
    if let Some(mut process) = child(test_name!(), || notifications(1)) {
        process.expect("received SIGINT");
        process.ends();
    }
}

#[test]
fn notify_context_notifications_multiple() {
    if let Some(mut process) = child(test_name!(), || notifications(10)) {
        process.expect("received SIGINT");
        process.ends();
    }
}

#[test]
fn notify_context_stop() {
    let ignoring = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];
    let process = child_of(&ignoring, test_name!(), || {
        kill_self(Signal::HUP); // is ignored
        let (parent, _cancel) = Context::background().with_cancel();
        let (ctx, stop) = notify(&[SIGHUP]).start(&parent).unwrap();
        let text = "signal.NotifyContext(context.Background.WithCancel, [hangup])";
        assert_eq!(ctx.to_string(), text);
        assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
        stop.stop();
        assert_no_cause(&ctx);

        // While it is registered it is not ignored, and after that it is again.
        let (ctx, stop) = notify(&[SIGHUP]).start(&parent).unwrap();
        kill_self(Signal::HUP);
        ctx.wait();
        stop.stop();
        kill_self(Signal::HUP);
        thread::sleep(Duration::from_millis(100));
    });
    if let Some(mut process) = process {
        process.ends();
    }
}

#[test]
fn notify_context_cancel_parent() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let (ctx, stop) = notify(&[SIGINT]).start(&parent).unwrap();
    let text = "signal.NotifyContext(context.Background.WithCancel, [interrupt])";
    assert_eq!(ctx.to_string(), text);
    let cause = Cause::from(Box::from("parent canceled"));
    cancel.cancel(cause.clone());
    assert_canceled(&ctx);
    assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &cause));
    stop.stop();
    assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &cause));
}

#[test]
fn notify_context_premature_cancel_parent() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let cause = Cause::from(Box::from("parent canceled"));
    cancel.cancel(cause.clone());
    let (ctx, _stop) = notify(&[SIGINT]).start(&parent).unwrap();
    let text = "signal.NotifyContext(context.Background.WithCancel, [interrupt])";
    assert_eq!(ctx.to_string(), text);
    assert_canceled(&ctx);
    assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &cause));
}

#[test]
fn notify_context_simultaneous_stop() {
    let (ctx, stop) = notify(&[SIGINT]).start(&Context::background()).unwrap();
    let text = "signal.NotifyContext(context.Background, [interrupt])";
    assert_eq!(ctx.to_string(), text);
    thread::scope(|s| {
        for _ in 0..10 {
            s.spawn(|| {
                stop.stop();
                assert_no_cause(&ctx);
            });
        }
    });
    assert_no_cause(&ctx);
}

#[test]
fn notify_context_stringer() {
    let (parent, _cancel) = Context::background().with_cancel();
    let signals = notify(&[SIGHUP, SIGINT, SIGTERM]);
    let (ctx, _stop) = signals.start(&parent).unwrap();
    let text = "signal.NotifyContext(context.Background.WithCancel, [hangup interrupt terminated])";
    assert_eq!(ctx.to_string(), text);
}

#[test]
fn notify_context_cause() {
    in_child(test_name!(), || {
        let (ctx, stop) = notify(&[SIGINT]).start(&Context::background()).unwrap();
        kill_self(Signal::INT);
        ctx.wait();
        assert_eq!(ctx.err(), Some(Error::Canceled));
        let cause = ctx.cause().unwrap();
        let received: &Received = cause.downcast_ref().unwrap();
        assert_eq!(received.signal(), SIGINT);
        let source = received.source().unwrap();
        assert_eq!(source.downcast_ref(), Some(&Error::Canceled));
        stop.stop();
        assert!(Arc::ptr_eq(&ctx.cause().unwrap(), &cause));
    });
}

#[test]
fn example_notify_context() {
    let process = child(test_name!(), || {
        let (ctx, stop) = notify(&[SIGINT]).start(&Context::background()).unwrap();
        kill_self(Signal::INT);
        select! {
            recv(tick(LIMIT)) -> _ => report("ready"),
            recv(ctx.done()) -> _ => {
                report(&ctx.err().unwrap().to_string());
                stop.stop();
            }
        }
    });
    if let Some(mut process) = process {
        process.expect("context canceled");
        process.ends();
    }
}

/// The child process of TestAtomicStop: a signal races with `stop`, ten times. Either it is received
/// or it kills.
fn race_with_stop() {
    for round in 0..10 {
        let notify = match round % 2 {
            0 => notify(&[SIGINT]),
            _ => NotifyContext::new(),
        };
        let (ctx, stop) = notify.start(&Context::background()).unwrap();
        thread::scope(|s| {
            s.spawn(|| stop.stop());
            kill_self(Signal::INT);
        });
        if !ctx.cause().unwrap().is::<Received>() {
            // It may be delivered to another thread later.
            thread::sleep(LIMIT / 3);
            panic!("lost in round {round}");
        }
    }
}

#[test]
fn atomic_stop() {
    let mut killed = 0;
    for _ in 0..10 {
        let Some(mut process) = child(test_name!(), race_with_stop) else {
            return;
        };
        let status = process.status();
        match status.signal() {
            Some(signal) => {
                assert_eq!(signal, SIGINT);
                killed += 1;
            }
            None => assert!(status.success(), "{status}"),
        }
    }
    println!("{killed} of 10 were killed");
}
