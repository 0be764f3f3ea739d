//! `database/sql`: a pool of connections, and rows that are read while a context is open.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, never, select_biased, Receiver};
use go_context::{Context, CustomContext, Error};
use support::threads::spawn;
use support::{assert_open, cause, receive, wait, HOUR};

use super::common::{assert_cause, assert_err};

/// A connection, by its number.
type Connection = usize;

fn pool(size: usize) -> (impl Fn(Connection) + Clone, Receiver<Connection>) {
    let (free, connections) = bounded(size);
    (0..size).for_each(|connection| free.send(connection).unwrap());
    let put = move |connection| free.send(connection).unwrap();
    (put, connections)
}

fn take(ctx: &Context, connections: &Receiver<Connection>) -> Result<Connection, Error> {
    select_biased! {
        recv(ctx.done()) -> _ => Err(ctx.err().unwrap()),
        recv(connections) -> connection => Ok(connection.unwrap()),
    }
}

/// The driver does not use the context, which ends while it is working.
#[test]
fn query_context_wait() {
    let (put, connections) = pool(1);
    let (ctx, cancel) = Context::background().with_cancel();
    let query = || {
        let connection = take(&ctx, &connections)?;
        cancel.cancel();
        put(connection);
        ctx.check()
    };
    assert_eq!(query(), Err(Error::Canceled));
    assert_eq!(connections.len(), 1);
}

#[test]
fn pool_exhaust_on_cancel() {
    let (put, connections) = pool(3);
    let bg = Context::background();
    let busy = [(); 3].map(|()| take(&bg, &connections).unwrap());
    let waiters = [(); 3].map(|()| {
        let (ctx, cancel) = bg.with_cancel();
        let connections = connections.clone();
        (spawn(move || take(&ctx, &connections)), cancel)
    });
    for (waiter, cancel) in waiters {
        cancel.cancel();
        assert_eq!(receive(&waiter), Err(Error::Canceled));
    }
    busy.into_iter().for_each(put);
    assert_eq!(connections.len(), 3, "a connection is lost");
    assert!(take(&bg, &connections).is_ok());
}

/// Transactions whose timeouts race with their ends.
#[test]
fn issue18429() {
    let slow = cause("slow");
    let transactions: Vec<_> = (0..100)
        .map(|n| {
            let slow = slow.clone();
            spawn(move || {
                let timeout = Duration::from_millis(n % 30);
                let (ctx, rollback) = Context::background().with_timeout_cause(timeout, slow);
                let worked = ctx.sleep(Duration::from_millis(n * 7 % 30));
                rollback.cancel();
                (ctx, worked)
            })
        })
        .collect();
    for transaction in &transactions {
        let (ctx, worked) = receive(transaction);
        match ctx.err() {
            Some(Error::DeadlineExceeded) => assert_cause(&ctx, Error::DeadlineExceeded, &slow),
            _ => {
                assert_err(&ctx, Error::Canceled);
                assert_eq!(ctx.cause().unwrap().to_string(), "context canceled");
                assert_eq!(worked, Ok(()));
            }
        }
    }
}

/// Rows that are closed when the context is done, unless they have all been read.
#[test]
fn context_cancel_between_next_and_err() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (rows, rows_cancel) = Context::background().with_cancel_cause();
    let watcher = ctx.after_func({
        let ctx = ctx.clone();
        move || rows_cancel.cancel(ctx.cause().unwrap())
    });
    assert!(watcher.stop_and_wait(), "the last row has been read");
    cancel.cancel();
    assert_open(&rows);
}

/// Closing the rows is not the user's cancellation, though a watcher observes both.
#[test]
fn nil_error_after_close() {
    let (user, _cancel) = Context::background().with_cancel();
    let (rows, close) = user.with_cancel_cause();
    let watcher = spawn({
        let (user, rows) = (user.clone(), rows.clone());
        move || {
            wait(&rows);
            user.err()
        }
    });
    let closed = cause("closed");
    close.cancel(closed.clone());
    assert_eq!(receive(&watcher), None);
    assert_cause(&rows, Error::Canceled, &closed);
}

#[test]
fn cursor_cancel() {
    let (outer, close_outer) = Context::background().with_cancel();
    let (inner, close_inner) = outer.with_cancel();
    let (other, _close_other) = outer.with_cancel();
    close_inner.cancel();
    assert_err(&inner, Error::Canceled);
    [&outer, &other].into_iter().for_each(assert_open);
    close_outer.cancel();
    [&outer, &other]
        .into_iter()
        .for_each(|ctx| assert_err(ctx, Error::Canceled));
}

/// Is never done, and counts the calls of `after_func`.
#[derive(Clone, Default)]
struct NeverDone(Arc<AtomicUsize>);

impl CustomContext for NeverDone {
    fn done(&self) -> Receiver<()> {
        never()
    }
    fn err(&self) -> Option<Error> {
        None
    }
    fn after_func(&self, _: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[test]
fn rows_on_a_never_done_context() {
    let never_done = NeverDone::default();
    let ctx = Context::custom(never_done.clone());
    assert!(!ctx.is_cancellable());
    let (child, cancel) = ctx.with_timeout(HOUR);
    let after = ctx.after_func(|| unreachable!());
    assert!(child.is_cancellable());
    assert!(after.stop());
    assert_eq!(never_done.0.load(Ordering::Relaxed), 0, "it is watched");
    cancel.cancel();
    assert_err(&child, Error::Canceled);
    assert_open(&ctx);
}
