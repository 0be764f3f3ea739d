//! `Scope::cancel`: a group that has what it wanted.

use std::io;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, TryRecvError};
use go_context::{Cause, Context, Error, Scope};
use support::{assert_closes, assert_done, assert_open, cancelled, cause, receive, wait, Counted};

/// Starts a worker that fails when the group's context is done.
fn fail_when_done(s: Scope<'_, '_, String>) {
    s.spawn(|ctx| -> Result<(), String> {
        wait(ctx);
        Err("late".into())
    });
}

#[test]
fn scope_cancel_ends_workers_without_error() {
    let (parent, _cancel) = Context::background().with_cancel();
    let ended: io::Result<String> = parent.scope(|s| {
        let worker = s.spawn(|ctx| {
            while ctx.sleep(Duration::from_millis(1)).is_ok() {}
            Ok(ctx.cause().unwrap().to_string())
        });
        s.cancel("enough");
        assert_done(s.context(), Error::Canceled, "enough");
        Ok(receive(&worker))
    });
    assert_eq!(ended.unwrap(), "enough");
    assert_open(&parent);
}

#[test]
fn scope_cancel_shares_the_first_cause() {
    let (first, second) = (cause("first"), cause("second"));
    let ended: Result<Cause, String> = Context::background().scope(|s| {
        s.cancel(first.clone());
        s.cancel(second.clone());
        Ok(s.context().cause().unwrap())
    });
    assert!(Arc::ptr_eq(&ended.unwrap(), &first));
    assert_eq!(Arc::strong_count(&second), 1); // it was dropped
}

#[test]
fn scope_cancel_drops_later_worker_errors() {
    struct Lost(#[allow(dead_code)] Counted);
    impl std::fmt::Display for Lost {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            unreachable!("it is not the cause")
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let fail = |s: Scope<'_, '_, Lost>| {
        let drops = &drops;
        for _ in 0..3 {
            let err = Lost(Counted(drops.clone()));
            s.spawn(move |ctx| -> Result<(), Lost> {
                wait(ctx);
                Err(err)
            });
        }
        s.cancel("enough");
        Ok("what it wanted")
    };
    assert_eq!(
        Context::background().scope(fail).ok(),
        Some("what it wanted")
    );
    let all = Context::background().scope_all(fail);
    assert_eq!(all.ok(), Some("what it wanted"));
    assert_eq!(drops.load(Ordering::SeqCst), 6);
}

#[test]
fn worker_error_after_own_scope_cancel_is_dropped() {
    let ended: Result<Vec<u8>, String> = Context::background().scope(|s| {
        let (answer, answers) = bounded(1);
        s.spawn(move |_| -> Result<(), String> {
            answer.send(7).unwrap();
            s.cancel("it was sent");
            Err("not needed".into())
        });
        Ok(answers.iter().collect())
    });
    assert_eq!(ended, Ok(vec![7]));
}

#[test]
fn scope_cancel_keeps_earlier_error() {
    let fail = |s: Scope<'_, '_, String>| {
        let ctx = s.context();
        fail_when_done(s);
        s.spawn(|_| Err::<(), _>("lost".to_string()));
        wait(ctx);
        // The one that waits may have failed before `cancel` as well.
        s.cancel("enough");
        assert_done(ctx, Error::Canceled, "lost");
        Ok(())
    };
    assert_eq!(Context::background().scope(fail), Err("lost".to_string()));
    let errors = Context::background().scope_all(fail).unwrap_err();
    assert_eq!(errors.last().unwrap(), "lost");
}

#[test]
fn scope_cancel_under_done_parent_drops_errors() {
    let ended: Result<(), String> = cancelled().scope(|s| {
        let (release, released) = bounded::<()>(0);
        s.spawn(move |_| -> Result<(), String> {
            assert_closes(&released);
            Err("late".into())
        });
        s.cancel("enough");
        assert_done(s.context(), Error::Canceled, "context canceled");
        drop(release);
        Ok(())
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn panic_after_scope_cancel_is_resumed() {
    let mut group = None;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        Context::background().scope(|s| -> Result<(), String> {
            group = Some(s.context().clone());
            fail_when_done(s);
            s.spawn(|ctx| -> Result<(), String> {
                wait(ctx);
                resume_unwind(Box::new("planned"))
            });
            s.cancel("enough");
            Ok(())
        })
    }));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"planned"));
    assert_done(&group.unwrap(), Error::Canceled, "enough");
}

#[test]
fn error_of_f_after_scope_cancel_is_returned() {
    let mut group = None;
    let ended: Result<(), Vec<String>> = Context::background().scope_all(|s| {
        group = Some(s.context().clone());
        fail_when_done(s);
        s.cancel("enough");
        Err("that of `f`".into())
    });
    assert_eq!(ended, Err(vec!["that of `f`".to_string()]));
    assert_done(&group.unwrap(), Error::Canceled, "enough");

    let ended = Context::background().scope(|s| -> Result<(), String> {
        s.cancel("enough");
        Err("that of `f`".into())
    });
    assert_eq!(ended, Err("that of `f`".to_string()));
}

#[test]
fn spawn_after_scope_cancel_drops_work() {
    let ended: io::Result<()> = Context::background().scope(|s| {
        s.cancel("enough");
        let (held, end) = bounded::<()>(0);
        let dropped = s.spawn(move |_| Ok(held));
        assert_eq!(end.try_recv(), Err(TryRecvError::Disconnected));
        assert_closes(&dropped);
        let named = std::thread::Builder::new().name("unused".into());
        let dropped = s.spawn_with(named, |_| -> io::Result<()> { unreachable!() })?;
        assert_eq!(dropped.try_recv(), Err(TryRecvError::Disconnected));
        let work = s.try_spawn(|_| Ok(7)).expect_err("it is over");
        assert_eq!(work(s.context()).unwrap(), 7);
        s.set_limit(0);
        assert_closes(&s.spawn(|_| -> io::Result<()> { unreachable!() }));
        Ok(())
    });
    assert!(ended.is_ok());
}
