//! Reads and writes: what ends them, and what they leave.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use go_context::{Context, Error};
use rustix::fs::{fcntl_getfl, fcntl_setfl, OFlags};
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::Signal;
use support::blocked::block;
use support::custom::{Channel, PassThrough};
use support::process::{in_child_alone, kill_self};
use support::{cancelled, receive, test_name, wait_until, HOUR};

use crate::{assert_err, Canceller};

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Streams of each kind: one end that is read, and the other.
fn streams() -> Vec<(&'static str, OwnedFd, OwnedFd)> {
    let (tcp, other_tcp) = tcp();
    let (unix, other_unix) = UnixStream::pair().unwrap();
    let (reader, writer) = pipe();
    vec![
        ("tcp", tcp.into(), other_tcp.into()),
        ("unix", unix.into(), other_unix.into()),
        ("pipe", reader, writer),
    ]
}

#[test]
fn blocked_read_ends_by_cancel() {
    for (what, stream, other) in streams() {
        let (ctx, cancel) = Context::background().with_cancel();
        let read = block(move || ctx.io(stream).read(&mut [0; 10]));
        assert!(read.is_empty(), "{what}");
        cancel.cancel();
        assert_err(receive(&read), Error::Canceled);
        drop(other);
    }
}

#[test]
fn blocked_read_ends_by_deadline() {
    for (_, stream, _other) in streams() {
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
        assert_err(ctx.io(stream).read(&mut [0; 10]), Error::DeadlineExceeded);
    }
}

#[test]
fn blocked_read_ends_by_every_kind_of_context() {
    let (stream, _other) = UnixStream::pair().unwrap();
    let ends = |ctx: Context, end: Box<dyn FnOnce()>| {
        let stream = stream.try_clone().unwrap();
        let read = block(move || ctx.io(stream).read(&mut [0; 10]));
        end();
        assert_err(receive(&read), Error::Canceled);
    };
    let bg = Context::background();
    let (parent, cancel) = bg.with_cancel();
    let child = parent.with_timeout(HOUR).0.with_cancel().0;
    ends(child, Box::new(move || cancel.cancel()));
    let (one, cancel) = bg.with_cancel();
    let merged = bg.with_timeout(HOUR).0.merge(&one).0;
    ends(merged, Box::new(move || cancel.cancel()));
    let (sender, done) = go_context::crossbeam_channel::bounded(0);
    let custom = Context::custom(Channel(done));
    ends(custom, Box::new(move || drop(sender)));
    let (inner, cancel) = bg.with_cancel();
    let wrapper = Context::custom(PassThrough(inner));
    ends(wrapper.with_cancel().0, Box::new(move || cancel.cancel()));
}

#[test]
fn blocked_write_ends_by_cancel() {
    for (what, other, stream) in streams() {
        let (ctx, cancel) = Context::background().with_cancel();
        let write = block(move || {
            let mut stream = ctx.io(stream);
            let result = stream.write_all(&[7; 10 << 20]);
            (result, stream.written())
        });
        cancel.cancel();
        let (result, written) = receive(&write);
        assert_err(result, Error::Canceled);
        // That much has arrived.
        let mut data = Vec::new();
        std::fs::File::from(other).read_to_end(&mut data).unwrap();
        assert_eq!(data.len() as u64, written, "{what}");
    }
}

#[test]
fn done_context_fails_before_the_call() {
    for (what, stream, other) in streams() {
        rustix::io::write(&other, b"x").unwrap();
        let mut stream = cancelled().io(stream);
        assert_err(stream.read(&mut [0; 10]), Error::Canceled);
        let mut buf = [0; 10];
        stream.set_context(&Context::background());
        assert_eq!(stream.read(&mut buf).unwrap(), 1, "{what}");
        let mut writer = cancelled().io(other);
        assert_err(writer.write(b"y"), Error::Canceled);
        assert_eq!(writer.written(), 0);
    }
}

#[test]
fn ready_stream_is_read_and_written() {
    for (what, stream, other) in streams() {
        let (ctx, _cancel) = Context::background().with_timeout(HOUR);
        let (mut reader, mut writer) = (ctx.io(stream), ctx.io(other));
        assert_eq!(writer.write(b"hello").unwrap(), 5);
        let bufs = [
            IoSlice::new(b" "),
            IoSlice::new(b""),
            IoSlice::new(b"world"),
        ];
        assert_eq!(writer.write_vectored(&bufs).unwrap(), 6, "{what}");
        writer.flush().unwrap();
        assert_eq!(writer.written(), 11);
        let (mut one, mut other) = ([0; 4], [0; 20]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut other)];
        assert_eq!(reader.read_vectored(&mut bufs).unwrap(), 11);
        assert_eq!((&one[..], &other[..7]), (&b"hell"[..], &b"o world"[..]));
        let bufs = vec![IoSlice::new(b"x"); 3000]; // more than the system takes
        let n = writer.write_vectored(&bufs).unwrap();
        let mut data = vec![[0]; 3000];
        let mut bufs: Vec<_> = data.iter_mut().map(|byte| IoSliceMut::new(byte)).collect();
        assert_eq!(reader.read_vectored(&mut bufs).unwrap(), n, "{what}");
        drop(writer);
        assert_eq!(reader.read(&mut one).unwrap(), 0, "{what}: the end");
    }
}

#[test]
fn context_that_cannot_be_cancelled_waits_for_the_stream() {
    for (what, stream, other) in streams() {
        let read = block(move || {
            let mut buf = [0; 10];
            let n = Context::background().io(stream).read(&mut buf)?;
            io::Result::Ok(buf[..n].to_vec())
        });
        assert!(read.is_empty(), "{what}");
        rustix::io::write(&other, b"hello").unwrap();
        assert_eq!(receive(&read).unwrap(), b"hello");
    }
}

#[test]
fn mode_of_stream_stays_as_it_is() {
    for (what, stream, _other) in streams() {
        for mode in [OFlags::empty(), OFlags::NONBLOCK] {
            let flags = fcntl_getfl(&stream).unwrap() - OFlags::NONBLOCK;
            fcntl_setfl(&stream, flags | mode).unwrap();
            let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
            assert_err(ctx.io(&stream).read(&mut [0; 10]), Error::DeadlineExceeded);
            assert_eq!(fcntl_getfl(&stream).unwrap(), flags | mode, "{what}");
        }
    }
}

#[test]
fn lines_are_read_until_cancel() {
    let mut child = Command::new("sh")
        .args(["-c", "echo one; echo two; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (ctx, cancel) = Context::background().with_cancel();
    let mut lines = ctx.io(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    let rest = block(move || lines.next().unwrap());
    cancel.cancel();
    assert_err(receive(&rest), Error::Canceled);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Both are woken, one by the data and the other by the cancel.
#[test]
fn two_readers_of_one_pipe_both_return() {
    for _ in 0..200 {
        let (reader, writer) = pipe();
        let reader = std::sync::Arc::new(reader);
        let (ctx, cancel) = Context::background().with_cancel();
        let reads = [(), ()].map(|()| {
            let (ctx, reader) = (ctx.clone(), reader.clone());
            block(move || ctx.io(&*reader).read(&mut [0; 10]))
        });
        rustix::io::write(&writer, b"x").unwrap();
        wait_until("one has read", || reads.iter().any(|read| !read.is_empty()));
        cancel.cancel();
        let results = reads.map(|read| receive(&read));
        let read = results.iter().flatten().count();
        assert_eq!(read, 1, "{results:?}");
    }
}

#[test]
fn two_threads_use_one_io() {
    let (stream, other) = UnixStream::pair().unwrap();
    let (ctx, cancel) = Context::background().with_cancel();
    let stream = ctx.io(stream);
    thread::scope(|s| {
        let read = s.spawn(|| (&stream).read(&mut [0; 10]));
        (&stream).write_all(b"question").unwrap();
        let mut buf = [0; 8];
        (&other).read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"question");
        cancel.cancel();
        assert_err(read.join().unwrap(), Error::Canceled);
    });
}

/// A wake-up that comes late, when the thread waits under another context, ends nothing.
#[test]
fn late_wake_up_ends_no_other_read() {
    let (stream, other) = UnixStream::pair().unwrap();
    let canceller = Canceller::new();
    let long = Context::background().with_timeout(HOUR).0;
    for round in 0..20_000 {
        let (ctx, cancel) = Context::background().with_cancel();
        // The data and the cancel arrive at about the same time.
        canceller.cancel_soon(cancel);
        (&other).write_all(&[1]).unwrap();
        let mut buf = [0; 1];
        if let Err(err) = ctx.io(&stream).read(&mut buf) {
            assert_eq!(Error::find(&err), Some(Error::Canceled));
            assert_eq!(long.io(&stream).read(&mut buf).unwrap(), 1, "round {round}");
        }
    }
}

#[test]
fn closed_other_end_is_an_error_and_no_signal() {
    let (stream, other) = UnixStream::pair().unwrap();
    drop(other);
    let err = Context::background().io(stream).write(b"x").unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::BrokenPipe);
    let (reader, writer) = pipe();
    drop(reader);
    let err = Context::background().io(writer).write(b"x").unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn shut_down_stream_reads_as_ended() {
    let (stream, other) = tcp();
    other.shutdown(Shutdown::Write).unwrap();
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    assert_eq!(ctx.io(&stream).read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn regular_file_is_read_as_usual() {
    let path = support::root().join("Cargo.toml");
    let file = std::fs::File::open(&path).unwrap();
    let mut text = String::new();
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    ctx.io(&file).read_to_string(&mut text).unwrap();
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
    assert_err(cancelled().io(&file).read(&mut [0; 1]), Error::Canceled);
}

#[test]
fn io_gives_back_its_stream_and_context() {
    let (stream, _other) = UnixStream::pair().unwrap();
    let (ctx, _cancel) = Context::background().with_cancel();
    let io = ctx.io(&stream);
    assert!(io.context().ptr_eq(&ctx));
    assert!(std::ptr::eq(*io.get_ref(), &stream));
    assert!(std::ptr::eq(io.into_inner(), &stream));
    fn is_shared<T: Send + Sync>() {}
    is_shared::<go_context::net::Io<TcpStream>>();
}

/// A signal handler that runs on the waiting thread ends its `poll`, but not the read. Of so many signals at
/// once the system delivers some to each thread.
#[test]
fn signals_end_no_read() {
    in_child_alone(test_name!(), || {
        let caught = std::sync::Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, caught.clone()).unwrap();
        let (stream, mut other) = UnixStream::pair().unwrap();
        let (ctx, _cancel) = Context::background().with_timeout(HOUR);
        let reader = thread::spawn(move || {
            let mut data = Vec::new();
            ctx.io(stream).read_to_end(&mut data).map(|_| data)
        });
        for _ in 0..5_000 {
            kill_self(Signal::USR1);
        }
        wait_until("a signal is caught", || caught.load(Ordering::SeqCst));
        other.write_all(b"all of it").unwrap();
        drop(other);
        assert_eq!(reader.join().unwrap().unwrap(), b"all of it");
    });
}

#[test]
fn terminal_is_read_until_cancel() {
    let pty =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY);
    let controller = pty.unwrap();
    rustix::pty::grantpt(&controller).unwrap();
    rustix::pty::unlockpt(&controller).unwrap();
    let name = rustix::pty::ptsname(&controller, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    let (ctx, cancel) = Context::background().with_cancel();
    let mut writer = ctx.io(controller.try_clone().unwrap());
    writer.write_all(b"a line\n").unwrap();
    let mut reader = ctx.io(terminal);
    let mut buf = [0; 100];
    assert_eq!(reader.read(&mut buf).unwrap(), 7);
    assert_eq!(&buf[..7], b"a line\n");
    reader.write_all(&[b'x'; 2000]).unwrap(); // more than is written at once
    let mut shown = 0;
    while shown < 8 + 2000 {
        shown += ctx.io(&controller).read(&mut buf).unwrap(); // the line, as it was typed, and the text
    }
    let read = block(move || reader.read(&mut [0; 10]));
    cancel.cancel();
    assert_err(receive(&read), Error::Canceled);
}
