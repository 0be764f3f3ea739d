//! `net`: how its calls use a context, on std's sockets.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use go_context::crossbeam_channel::{bounded, never, select, Receiver};
use go_context::{AfterFunc, Context, CustomContext, Error, Key, Lookup};
use support::threads::spawn;
use support::{assert_open, receive, HOUR, LIMIT};

use super::common::{assert_no_cause, Name};

/// Two ends of a connection, with a limit to every read.
fn connect(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for end in [&near, &far] {
        end.set_read_timeout(Some(LIMIT)).unwrap();
    }
    (near, far)
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Ends a blocked read or write once the context is done, and records that it did.
fn watch(ctx: &Context, stream: &TcpStream) -> (AfterFunc, Arc<AtomicBool>) {
    let ran = Arc::new(AtomicBool::new(false));
    let after = ctx.after_func({
        let (stream, ran) = (stream.try_clone().unwrap(), ran.clone());
        move || {
            ran.store(true, Ordering::Relaxed);
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    (after, ran)
}

#[track_caller]
fn assert_works(mut near: &TcpStream, mut far: &TcpStream) {
    near.write_all(b"ping").unwrap();
    let mut read = [0; 4];
    far.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"ping");
}

/// Reads one byte, unless the context is done before one comes.
fn read(ctx: &Context, mut stream: &TcpStream) -> io::Result<usize> {
    let (after, _) = watch(ctx, stream);
    let result = stream.read(&mut [0]);
    if after.stop_and_wait() {
        return result;
    }
    ctx.check()?;
    result
}

/// If cancelling races with success, either the connection is complete or the context's error counts.
#[test]
fn dial_context_cancel_race() {
    let listener = listen();
    for _ in 0..100 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (near, far) = connect(&listener);
        let (after, ran) = watch(&ctx, &near);
        let call = spawn(move || cancel.cancel());
        if after.stop_and_wait() {
            assert!(!ran.load(Ordering::Relaxed));
            assert_works(&near, &far);
        } else {
            assert!(ran.load(Ordering::Relaxed));
            assert_eq!(ctx.err(), Some(Error::Canceled));
        }
        receive(&call);
    }
}

#[test]
fn context_error() {
    for err in [Error::Canceled, Error::DeadlineExceeded] {
        let shown = io::Error::from(err);
        let inner = shown.get_ref().and_then(|inner| inner.downcast_ref());
        assert_eq!(inner, Some(&err));
        let timed_out = shown.kind() == io::ErrorKind::TimedOut;
        assert_eq!(timed_out, err == Error::DeadlineExceeded);
        assert_ne!(shown.kind(), io::ErrorKind::Interrupted);
    }
}

#[test]
fn dial_cancel() {
    let (near, _far) = connect(&listen());
    let (ctx, cancel) = Context::background().with_cancel();
    let (reads, reading) = bounded(0);
    let call = spawn(move || {
        reads.send(()).unwrap();
        read(&ctx, &near)
    });
    receive(&reading);
    cancel.cancel();
    let err = receive(&call).expect_err("nothing was sent");
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(inner, Some(&Error::Canceled));
}

/// A call that has succeeded stops watching the context.
#[test]
fn cancel_after_dial() {
    let listener = listen();
    for _ in 0..10 {
        let (ctx, cancel) = Context::background().with_cancel();
        let (near, far) = connect(&listener);
        let (after, ran) = watch(&ctx, &near);
        assert!(after.stop());
        cancel.cancel();
        assert_works(&near, &far);
        assert!(!ran.load(Ordering::Relaxed));
    }
}

/// A context whose only property is that it has no deadline.
struct NoDeadline;

impl CustomContext for NoDeadline {
    fn done(&self) -> Receiver<()> {
        never()
    }
    fn err(&self) -> Option<Error> {
        None
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// In Go a context may report both that it has no deadline and when that is. Here it cannot.
#[test]
fn dial_with_non_zero_deadline() {
    let ctx = Context::custom(NoDeadline);
    assert_eq!(ctx.deadline(), None);
    assert_eq!(ctx.remaining(), None);
    let (child, _cancel) = ctx.with_timeout(HOUR);
    assert!(child.deadline().is_some());
    assert_open(&child);
}

#[test]
fn dial_timeout_max_duration() {
    let bg = Context::background();
    let longest_in_go = Duration::from_nanos(i64::MAX.unsigned_abs());
    for timeout in [longest_in_go, Duration::MAX] {
        let (ctx, cancel) = bg.with_timeout(timeout);
        assert_open(&ctx);
        cancel.cancel();
        assert_no_cause(&ctx, Error::Canceled);

        if let Some(deadline) = SystemTime::now().checked_add(timeout) {
            assert_open(&bg.with_deadline(deadline).0);
        }
    }
    assert!(bg.with_timeout(longest_in_go).0.deadline().is_some());
    assert_eq!(bg.with_timeout(Duration::MAX).0.deadline(), None);
}

#[test]
fn dial_timeout() {
    let listener = listen();
    for millis in [0, 1, 10, 50] {
        let (near, _far) = connect(&listener);
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        let (ctx, _cancel) = Context::background().with_timeout(timeout);
        let err = read(&ctx, &near).expect_err("nothing was sent");
        assert!(start.elapsed() >= timeout, "{timeout:?}");
        assert_eq!(err.kind(), io::ErrorKind::TimedOut, "{timeout:?}");
    }
}

/// Has the values of another context while that is open, and nothing else of it.
struct UnexpiredValues(Context);

impl CustomContext for UnexpiredValues {
    fn done(&self) -> Receiver<()> {
        never()
    }
    fn err(&self) -> Option<Error> {
        None
    }
    fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
        if self.0.err().is_none() {
            lookup.forward(&self.0);
        }
    }
}

#[test]
fn with_unexpired_values_preserved() {
    let (ctx, cancel) = Context::background().with_cancel();
    let lookup = Context::custom(UnexpiredValues(ctx.with_value(Name("key"), "value")));
    assert_eq!(lookup.value(&Name("key")), Some(&"value"));
    cancel.cancel();
    assert_eq!(lookup.value(&Name("key")), None);
    assert_open(&lookup);
}

#[derive(PartialEq, Eq)]
struct Number(i32);

impl Key for Number {
    type Value = i32;
}

#[derive(PartialEq, Eq)]
struct Pointer(Arc<()>);

impl Key for Pointer {
    type Value = Arc<()>;
}

#[test]
fn lookup_ip_addr_preserves_context_values() {
    let shared = Arc::new(());
    let (ctx, cancel) = Context::background().with_cancel();
    let ctx = ctx
        .with_value(Name("string"), "value")
        .with_value(Number(1), 2)
        .with_value(Pointer(shared.clone()), shared.clone());
    let detached = ctx.without_cancel();
    cancel.cancel();
    let found = receive(&spawn(move || {
        assert_open(&detached);
        let string = detached.value(&Name("string")).copied();
        let number = detached.value(&Number(1)).copied();
        let pointer = detached.value(&Pointer(shared.clone()));
        (string, number, pointer.map(|p| Arc::ptr_eq(p, &shared)))
    }));
    assert_eq!(found, (Some("value"), Some(2), Some(true)));
}

/// One lookup for two callers: it must not end with the first of them.
#[test]
fn lookup_context_cancel() {
    let (first, cancel_first) = Context::background().with_cancel();
    let (second, _cancel_second) = Context::background().with_cancel();
    let (answer, answers) = bounded(1);
    let (resolve, resolved) = bounded::<()>(0);
    let work = first.without_cancel();
    let worker = spawn(move || {
        select! {
            recv(work.done()) -> _ => {}
            recv(resolved) -> _ => answer.send("127.0.0.1").unwrap(),
        }
    });
    let call = |ctx: Context| {
        let answers = answers.clone();
        spawn(move || {
            select! {
                recv(ctx.done()) -> _ => Err(ctx.err().unwrap()),
                recv(answers) -> answer => Ok(answer.unwrap()),
            }
        })
    };
    let calls = [call(first), call(second)];
    cancel_first.cancel();
    assert_eq!(receive(&calls[0]), Err(Error::Canceled));
    resolve.send(()).unwrap();
    assert_eq!(receive(&calls[1]), Ok("127.0.0.1"));
    receive(&worker);
}
