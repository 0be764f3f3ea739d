//! Nothing is lost or doubled, however often a read or a write is cancelled.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use go_context::net::Io;
use go_context::{Context, Error};

use crate::Canceller;

const NUMBERS: u32 = 120_000;

/// Calls `call` with one context after the other, until it has not been cancelled. Most of them end in the
/// middle of the call: by a timeout, by another thread, or before the call.
fn until_done<T>(
    round: &mut u32,
    canceller: &Canceller,
    mut call: impl FnMut(&Context) -> io::Result<T>,
) -> T {
    loop {
        *round += 1;
        let bg = Context::background();
        let result = match *round % 4 {
            0 => {
                let micros = u64::from(*round % 100);
                let (ctx, _cancel) = bg.with_timeout(Duration::from_micros(micros));
                call(&ctx)
            }
            1 => {
                let (ctx, cancel) = bg.with_cancel();
                canceller.cancel_soon(cancel);
                call(&ctx)
            }
            2 => {
                let (parent, cancel) = bg.with_cancel();
                let (ctx, _cancel) = parent.with_cancel();
                canceller.cancel_soon(cancel);
                call(&ctx)
            }
            _ => {
                let (ctx, _cancel) = bg.with_timeout(Duration::from_millis(1));
                call(&ctx)
            }
        };
        match result {
            Ok(value) => return value,
            Err(err) => assert!(Error::find(&err).is_some(), "{err:?}"),
        }
    }
}

/// Writes all numbers, in chunks of different lengths that end within a number.
fn write_numbers<T: AsFd>(stream: T) {
    let data: Vec<u8> = (0..NUMBERS).flat_map(u32::to_be_bytes).collect();
    let mut stream: Io<T> = Context::background().io(stream);
    let (mut at, mut round) = (0, 0);
    let canceller = Canceller::new();
    while at < data.len() {
        let end = data.len().min(at + 1 + at % 4099);
        let n = until_done(&mut round, &canceller, |ctx| {
            stream.set_context(ctx);
            stream.write(&data[at..end])
        });
        assert!(n > 0);
        at += n;
        assert_eq!(stream.written(), at as u64);
    }
}

fn read_numbers<T: AsFd>(stream: T) {
    let mut stream: Io<T> = Context::background().io(stream);
    let (mut round, mut buf) = (0, vec![0; 5000]);
    let mut data = Vec::new();
    let canceller = Canceller::new();
    loop {
        let most = 1 + data.len() % buf.len();
        let n = until_done(&mut round, &canceller, |ctx| {
            stream.set_context(ctx);
            stream.read(&mut buf[..most])
        });
        if n == 0 {
            break;
        }
        data.extend_from_slice(&buf[..n]);
    }
    let numbers = data
        .chunks(4)
        .map(|four| u32::from_be_bytes(four.try_into().unwrap()));
    assert!(numbers.eq(0..NUMBERS));
}

fn pass(writer: impl AsFd + Send, reader: impl AsFd + Send) {
    thread::scope(|s| {
        s.spawn(move || write_numbers(writer));
        s.spawn(move || read_numbers(reader));
    });
}

#[test]
fn tcp_socket_loses_no_number() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    pass(writer, listener.accept().unwrap().0);
}

#[test]
fn unix_socket_loses_no_number() {
    let (writer, reader) = UnixStream::pair().unwrap();
    pass(writer, reader);
}

#[test]
fn pipe_loses_no_number() {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    pass(writer, reader);
}
