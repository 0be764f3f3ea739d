//! `net/http`: the rules for contexts that belong to a server, a connection or a request.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use go_context::crossbeam_channel::{bounded, never, select, select_biased, Receiver};
use go_context::{Cause, Context, CustomContext, Error, Key};
use support::threads::spawn;
use support::{assert_open, cause, receive, wait, HOUR, LIMIT};

use super::common::{assert_cause, assert_err, Name};

/// The key of what a server stores.
#[derive(PartialEq, Eq)]
struct LocalAddr;

impl Key for LocalAddr {
    type Value = SocketAddr;
}

#[test]
fn server_contexts() {
    let (server, _shut_down) = Context::background().with_cancel();
    let base = server.with_value(Name("base"), "base");
    let connection = base.with_value(Name("conn"), "conn");
    assert_eq!(connection.value(&Name("base")), Some(&"base"));
    let (request, _cancel) = connection.with_cancel();
    assert_eq!(request.value(&Name("base")), Some(&"base"));
    assert_eq!(request.value(&Name("conn")), Some(&"conn"));
    assert_eq!(base.value(&Name("conn")), None);
}

#[test]
fn conn_context_not_modifying_all_contexts() {
    let base = Context::background().with_value(Name("base"), "base");
    let first = base.with_value(Name("first"), "first");
    let second = base.with_value(Name("second"), "second");
    assert_eq!(first.value(&Name("first")), Some(&"first"));
    assert_eq!(second.value(&Name("first")), None);
    assert_eq!(second.value(&Name("base")), Some(&"base"));
}

/// Serves a request under `parent`. Its context ends with the handler, however that ends.
fn serve<T>(parent: &Context, handler: impl FnOnce(&Context) -> T) -> T {
    let (ctx, cancel) = parent.with_cancel();
    let _cancel_on_exit = cancel.drop_guard();
    handler(&ctx)
}

#[test]
fn server_request_context_cancel_serve_http_done() {
    let connection = Context::background();
    let sent = serve(&connection, |ctx| {
        assert_open(ctx);
        ctx.clone()
    });
    assert_err(&sent, Error::Canceled);
}

/// A thread reads ahead, and cancels when the peer disconnects.
#[test]
fn server_request_context_cancel_conn_close() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut connection = listener.accept().unwrap().0;
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let (ctx, cancel) = Context::background().with_cancel();
    let reader = spawn(move || {
        let read = connection.read(&mut [0]).unwrap();
        cancel.cancel();
        read
    });
    assert_open(&ctx);
    drop(client);
    wait(&ctx);
    assert_eq!(receive(&reader), 0);
}

#[test]
fn server_context_local_addr_context_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Context::background().with_value(LocalAddr, address);
    serve(&server, |ctx| {
        assert_eq!(ctx.value(&LocalAddr), Some(&address));
    });
}

/// Reports every end as a deadline.
struct SaysTimeout(Context);

impl CustomContext for SaysTimeout {
    fn done(&self) -> Receiver<()> {
        self.0.done()
    }
    fn err(&self) -> Option<Error> {
        self.0.err().and(Some(Error::DeadlineExceeded))
    }
    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }
}

/// What a timeout handler answers when the context is done before the work.
fn status(ctx: &Context, work: &Receiver<()>) -> u16 {
    select_biased! {
        recv(ctx.done()) -> _ => match ctx.err().unwrap() {
            Error::DeadlineExceeded => 503,
            Error::Canceled => 499,
        },
        recv(work) -> _ => 200,
        default(LIMIT) => panic!("{ctx} is not done"),
    }
}

#[test]
fn timeout_handler() {
    let (inner, cancel) = Context::background().with_cancel();
    let ctx = Context::custom(SaysTimeout(inner));
    let (work, works) = bounded(1);
    work.send(()).unwrap();
    assert_eq!(status(&ctx, &works), 200);

    let (early, _cancel_early) = ctx.with_cancel();
    cancel.cancel();
    assert_eq!(status(&ctx, &works), 503);
    // As in Go: earlier children got the error from the context inside, later ones call `err`.
    let (late, _cancel_late) = ctx.with_cancel();
    assert_err(&early, Error::Canceled);
    assert_err(&late, Error::DeadlineExceeded);
}

#[test]
fn timeout_handler_context_canceled() {
    let (canceled, cancel) = Context::background().with_timeout(HOUR);
    cancel.cancel();
    assert_eq!(status(&canceled, &never()), 499);
    let (expired, _cancel) = Context::background().with_timeout(Duration::ZERO);
    assert_eq!(status(&expired, &never()), 503);
}

#[test]
fn timeout_handler_panic_recovery() {
    let (tell, told) = bounded(1);
    let served = catch_unwind(AssertUnwindSafe(|| {
        serve(&Context::background(), |ctx| {
            tell.send(ctx.clone()).unwrap();
            let handler = thread::spawn(|| panic!("a panic that belongs to the test"));
            handler.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }));
    let panic = served.expect_err("the panic is lost");
    let text = panic.downcast_ref();
    assert_eq!(text, Some(&"a panic that belongs to the test"));
    assert_err(&receive(&told), Error::Canceled);
}

/// A request that is never answered.
fn request(ctx: &Context) -> io::Result<()> {
    select! {
        recv(never::<()>()) -> _ => Ok(()),
        recv(ctx.done()) -> _ => Ok(ctx.check()?),
        default(LIMIT) => panic!("{ctx} is not done"),
    }
}

#[track_caller]
fn assert_inner(err: &io::Error, inner: Error) {
    let found = err.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(found, Some(&inner));
}

#[test]
fn client_do_canceled_vs_timeout_timeout() {
    let past = SystemTime::now() - Duration::from_nanos(1);
    let (ctx, _cancel) = Context::background().with_deadline(past);
    let err = request(&ctx).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    assert_inner(&err, Error::DeadlineExceeded);
}

#[test]
fn client_do_canceled_vs_timeout_canceled() {
    let (ctx, cancel) = Context::background().with_timeout(HOUR);
    cancel.cancel();
    let err = request(&ctx).unwrap_err();
    assert_ne!(err.kind(), io::ErrorKind::TimedOut);
    assert_inner(&err, Error::Canceled);
}

/// A request that returns the reason, not only the error.
fn request_with_reason(ctx: &Context) -> Result<(), Cause> {
    wait(ctx);
    ctx.cause().map_or(Ok(()), Err)
}

#[test]
fn client_cause() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let why = cause("c1");
    cancel.cancel(why.clone());
    let err = request_with_reason(&ctx).expect_err("it is never answered");
    assert!(Arc::ptr_eq(&err, &why));
    assert_cause(&ctx, Error::Canceled, &why);
}

/// A dial that outlives its request keeps the values, and has a cancellation of its own.
#[test]
fn transport_dial_context() {
    let (request, cancel_request) = Context::background().with_timeout(HOUR);
    let request = request.with_value(Name("trace"), "17");
    let (dial, cancel_dial) = request.without_cancel().with_cancel();
    cancel_request.cancel();
    assert_open(&dial);
    assert_eq!(dial.deadline(), None);
    assert_eq!(dial.value(&Name("trace")), Some(&"17"));
    cancel_dial.cancel();
    assert_err(&dial, Error::Canceled);
}

#[test]
fn cancel_request_when_sharing_connection() {
    let (connection, _close) = Context::background().with_cancel();
    let (first, _cancel_first) = connection.with_cancel();
    let (second, cancel_second) = connection.with_cancel();
    cancel_second.cancel();
    assert_err(&second, Error::Canceled);
    [&first, &connection].into_iter().for_each(assert_open);
}

#[derive(PartialEq, Eq)]
struct Counted;

impl Key for Counted {
    type Value = Arc<()>;
}

/// The context of a finished request is not kept, nor what its callback owned.
#[test]
fn transport_persist_conn_context_leak_max_conns_per_host() {
    let (server, _shut_down) = Context::background().with_cancel();
    let kept: Vec<Weak<()>> = (0..64)
        .map(|n| {
            let counted = Arc::new(());
            let kept = Arc::downgrade(&counted);
            let (ctx, cancel) = server.with_timeout(HOUR);
            let after = ctx.after_func({
                let counted = counted.clone();
                move || drop(counted)
            });
            let ctx = ctx.with_value(Counted, counted);
            match n % 3 {
                0 => assert!(after.stop_and_wait()),
                1 => {
                    cancel.cancel();
                    assert!(!after.stop_and_wait());
                }
                _ => {} // unregistered, so the callback runs when the context is dropped
            }
            drop((ctx, cancel));
            after.stop_and_wait();
            kept
        })
        .collect();
    assert!(kept.iter().all(|kept| kept.upgrade().is_none()));
    assert_open(&server);
}

/// Waits until the server is idle, or until it has waited long enough.
fn shut_down(ctx: &Context, idle: &Receiver<()>) -> Result<(), Error> {
    select_biased! {
        recv(idle) -> _ => Ok(()),
        recv(ctx.done()) -> _ => ctx.check(),
        default(LIMIT) => panic!("{ctx} is not done"),
    }
}

/// The error is the context's, not its cause.
#[test]
fn server_shutdown() {
    let (busy, idle) = bounded::<()>(0);
    let (ctx, _cancel) = Context::background().with_timeout_cause(Duration::ZERO, "too slow");
    assert_eq!(shut_down(&ctx, &idle), Err(Error::DeadlineExceeded));
    assert_eq!(ctx.cause().unwrap().to_string(), "too slow");
    drop(busy);
    assert_eq!(shut_down(&ctx, &idle), Ok(()));
}
