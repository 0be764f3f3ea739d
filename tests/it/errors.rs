//! Finding the error of a context in other errors, and the conversions between errors.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use go_context::crossbeam_channel::bounded;
use go_context::{Cause, Context, Error, RecvError, SendError};
use support::cancelled;

/// An error with a source, as applications have.
#[derive(Debug)]
struct Failure(Box<dyn StdError + Send + Sync>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a failure")
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

/// An error whose source is shared.
#[derive(Debug)]
struct Shared<T>(Arc<T>)
where
    T: ?Sized;

impl<T: ?Sized> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shared")
    }
}

impl StdError for Shared<dyn StdError + Send + Sync> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0) // the `Arc`, not what is in it
    }
}

fn failure(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Failure {
    Failure(source.into())
}

/// Each way in which an error of a context gets wrapped.
fn wrappings(err: Error) -> Vec<(&'static str, Box<dyn StdError>)> {
    let as_io = || io::Error::from(err);
    let anyhow = anyhow::Error::new(as_io()).context("one").context("two");
    let cause: Cause = Arc::new(as_io());
    vec![
        ("itself", err.into()),
        ("io::Error", as_io().into()),
        ("io::Error in io::Error", io::Error::other(as_io()).into()),
        ("source", failure(err).into()),
        ("source in io::Error", io::Error::other(failure(err)).into()),
        ("io::Error in source", failure(as_io()).into()),
        ("anyhow", anyhow.into()),
        (
            "anyhow in io::Error",
            io::Error::other(anyhow::Error::new(failure(err)).context("three")).into(),
        ),
        ("Arc", Arc::new(err).into()),
        ("Arc of io::Error", Arc::new(as_io()).into()),
        ("Cause", Box::new(cause.clone())),
        ("Cause as source", Box::new(Shared(cause.clone()))),
        ("Cause in io::Error", io::Error::other(cause).into()),
        ("Box", Box::new(Box::new(err))),
        ("Box of io::Error", Box::new(Box::new(as_io()))),
        ("RecvError", RecvError::from(err).into()),
        ("RecvError in source", failure(RecvError::Done(err)).into()),
        (
            "RecvError in io::Error",
            io::Error::from(RecvError::Done(err)).into(),
        ),
        (
            "SendError in source",
            failure(SendError::Done(1, err)).into(),
        ),
        (
            "deep",
            failure(failure(failure(io::Error::other(failure(as_io()))))).into(),
        ),
    ]
}

#[test]
fn find_looks_into_every_wrapping() {
    for err in [Error::Canceled, Error::DeadlineExceeded] {
        for (name, wrapped) in wrappings(err) {
            assert_eq!(Error::find(&*wrapped), Some(err), "{name}");
        }
    }
}

#[test]
fn find_of_other_errors_returns_none() {
    let others: [Box<dyn StdError>; 6] = [
        Box::new(io::Error::from(io::ErrorKind::TimedOut)),
        Box::new(io::Error::other("context canceled")), // only the text
        Box::new(failure("context deadline exceeded")),
        Box::new(RecvError::Disconnected),
        Box::new(SendError::Disconnected(1)),
        Box::new(failure(io::Error::other(failure("text")))),
    ];
    for other in others {
        assert_eq!(Error::find(&*other), None, "{other:?}");
    }
}

#[test]
fn find_in_anyhow_result_of_a_real_call() {
    fn load(ctx: &Context) -> anyhow::Result<()> {
        let (_sender, receiver) = bounded::<()>(0);
        ctx.recv(&receiver).context("waiting for a job")?;
        Ok(())
    }

    let err = load(&cancelled()).unwrap_err();
    assert_eq!(Error::find(&*err), Some(Error::Canceled));
    assert_eq!(err.to_string(), "waiting for a job");
}

#[test]
fn question_mark_converts_error_into_recv_error() {
    fn next(ctx: &Context) -> Result<(), RecvError> {
        ctx.check()?;
        Ok(())
    }
    assert_eq!(next(&cancelled()), Err(RecvError::Done(Error::Canceled)));
}

#[test]
fn check_cause_returns_the_cause() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    assert!(ctx.check_cause().is_ok());
    let cause: Cause = Arc::new(io::Error::other("disk full"));
    cancel.cancel(cause.clone());
    assert!(Arc::ptr_eq(&ctx.check_cause().unwrap_err(), &cause));
    let plain = cancelled().check_cause().unwrap_err();
    assert_eq!(plain.downcast_ref(), Some(&Error::Canceled));
}
