//! Listeners, connections, datagrams and names.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use go_context::net::{accept, connect, connect_unix, incoming, lookup, recv_from, send_to};
use go_context::{Context, Error};
use support::blocked::block;
use support::{cancelled, receive, HOUR};

use crate::assert_err;

fn soon() -> Context {
    Context::background()
        .with_timeout(Duration::from_millis(1))
        .0
}

#[test]
fn blocked_accept_ends_by_cancel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (ctx, cancel) = Context::background().with_cancel();
    let accepted = block(move || accept(&ctx, &listener));
    cancel.cancel();
    assert_err(receive(&accepted), Error::Canceled);
}

#[test]
fn accepted_stream_is_blocking() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    let (mut stream, address) = accept(&ctx, &listener).unwrap();
    assert_eq!(address, client.local_addr().unwrap());
    let read = block(move || stream.read(&mut [0; 10]));
    client.write_all(b"x").unwrap();
    assert_eq!(receive(&read).unwrap(), 1);
}

/// Only one of the two gets the connection, and the other can still be ended.
#[test]
fn two_threads_accept_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = std::sync::Arc::new(listener);
    for _ in 0..100 {
        let (ctx, cancel) = Context::background().with_cancel();
        let accepts = [(), ()].map(|()| {
            let (ctx, listener) = (ctx.clone(), listener.clone());
            block(move || accept(&ctx, &*listener))
        });
        let _client = TcpStream::connect(address).unwrap();
        support::wait_until("one has accepted", || {
            accepts.iter().any(|one| !one.is_empty())
        });
        cancel.cancel();
        let results = accepts.map(|one| receive(&one));
        assert_eq!(results.iter().flatten().count(), 1, "{results:?}");
    }
}

#[test]
fn incoming_ends_with_the_context() {
    let path = std::env::temp_dir().join(format!("go-context-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (ctx, cancel) = Context::background().with_cancel();
    let mut connections = incoming(&ctx, &listener);
    assert!(connections.next().unwrap().is_ok());
    cancel.cancel();
    assert!(connections.next().is_none());
    assert!(connections.next().is_none());
}

#[test]
fn connect_reaches_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    for ctx in [&Context::background(), &ctx] {
        let mut client = connect(ctx, listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        // It is blocking.
        let read = block(move || client.read(&mut [0; 10]));
        stream.write_all(b"x").unwrap();
        assert_eq!(receive(&read).unwrap(), 1);
    }
}

#[test]
fn connect_tries_all_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let address = listener.local_addr().unwrap();
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    for ctx in [&Context::background(), &ctx] {
        let client = connect(ctx, &[closed, address][..]).unwrap();
        assert_eq!(client.peer_addr().unwrap(), address);
        let err = connect(ctx, &[closed, closed][..]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::ConnectionRefused);
        let err = connect(ctx, &[][..]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
    }
    assert_err(connect(&cancelled(), address), Error::Canceled);
}

/// A listener whose queue is full, so that a connection to it waits.
struct Full {
    listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Full {
    fn new() -> Full {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        // The queue has room for one or two.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            waiting.push(stream);
        }
        Full {
            listener,
            _waiting: waiting,
        }
    }
}

#[test]
fn connect_to_full_queue_ends_by_deadline_and_cancel() {
    let full = Full::new();
    let address = full.listener.local_addr().unwrap();
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(20));
    assert_err(connect(&ctx, address), Error::DeadlineExceeded);
    let (ctx, cancel) = Context::background().with_cancel();
    let connected = block(move || connect(&ctx, address));
    cancel.cancel();
    assert_err(receive(&connected), Error::Canceled);
}

#[test]
fn address_that_does_not_answer_leaves_time_for_the_next() {
    let full = Full::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let [first, second] = [&full.listener, &listener].map(|one| one.local_addr().unwrap());
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(2));
    let start = Instant::now();
    let client = connect(&ctx, &[first, second][..]).unwrap();
    assert_eq!(client.peer_addr().unwrap(), second);
    assert!(start.elapsed() >= Duration::from_millis(900)); // half of the time
}

#[test]
fn connect_unix_waits_for_room() {
    let name = format!("go-context-test-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let first = connect_unix(&Context::background(), &path).unwrap();
    assert_err(connect_unix(&soon(), &path), Error::DeadlineExceeded);
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    let second = block({
        let path = path.clone();
        move || connect_unix(&ctx, path)
    });
    drop(listener.accept().unwrap());
    let second = receive(&second).unwrap();
    drop((first, second));
    std::fs::remove_file(&path).unwrap();
    let err = connect_unix(&Context::background(), &path).unwrap_err();
    assert_eq!(err.kind(), io::ErrorKind::NotFound);
}

#[test]
fn datagrams_are_sent_and_received() {
    let [one, other] = [(), ()].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let (ctx, cancel) = Context::background().with_cancel();
    let to = other.local_addr().unwrap();
    assert_eq!(send_to(&ctx, &one, b"hello", &to).unwrap(), 5);
    let mut buf = [0; 10];
    let received = recv_from(&ctx, &other, &mut buf).unwrap();
    assert_eq!(received, (5, one.local_addr().unwrap()));
    assert_eq!(&buf[..5], b"hello");
    let read = block(move || recv_from(&ctx, &other, &mut [0; 10]));
    cancel.cancel();
    assert_err(receive(&read), Error::Canceled);
    assert_err(send_to(&cancelled(), &one, b"x", &to), Error::Canceled);
}

#[test]
fn unix_datagrams_have_addresses() {
    let abstract_name = format!("go-context-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(abstract_name).unwrap();
    let server = UnixDatagram::bind_addr(&address).unwrap();
    let path = std::env::temp_dir().join(format!("go-context-{}.dgram", std::process::id()));
    let bound = UnixDatagram::bind(&path).unwrap();
    let unnamed = UnixDatagram::unbound().unwrap();
    let ctx = Context::background().with_timeout(HOUR).0;
    send_to(&ctx, &bound, b"a", &address).unwrap();
    let (n, from) = recv_from(&ctx, &server, &mut [0; 10]).unwrap();
    assert_eq!((n, from.as_pathname()), (1, Some(path.as_path())));
    send_to(&ctx, &server, b"bc", &from).unwrap();
    let (n, from) = recv_from(&ctx, &bound, &mut [0; 10]).unwrap();
    assert_eq!(
        (n, from.as_abstract_name()),
        (2, address.as_abstract_name())
    );
    send_to(&ctx, &unnamed, b"d", &address).unwrap();
    let (_, from) = recv_from(&ctx, &server, &mut [0; 10]).unwrap();
    assert!(from.is_unnamed());
    std::fs::remove_file(&path).unwrap();
    assert_err(
        recv_from(&soon(), &server, &mut [0; 10]),
        Error::DeadlineExceeded,
    );
}

#[test]
fn send_to_full_queue_ends_by_deadline() {
    let (one, other) = UnixDatagram::pair().unwrap();
    let path = std::env::temp_dir().join(format!("go-context-full-{}", std::process::id()));
    let server = UnixDatagram::bind(&path).unwrap();
    let address = server.local_addr().unwrap();
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(20));
    let full = (0..).find_map(|_| send_to(&ctx, &one, b"x", &address).err());
    assert_err(Err::<(), _>(full.unwrap()), Error::DeadlineExceeded);
    std::fs::remove_file(&path).unwrap();
    drop(other);
}

#[test]
fn lookup_finds_addresses() {
    let bg = Context::background();
    assert_eq!(
        lookup(&bg, "[::1]:80").unwrap(),
        ["[::1]:80".parse().unwrap()]
    );
    let local = lookup(&bg, "localhost:80").unwrap();
    assert!(local
        .iter()
        .all(|address| address.ip().is_loopback() && address.port() == 80));
    assert!(!local.is_empty());
    assert_eq!(
        lookup(&bg, "no port").unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    assert_err(lookup(&cancelled(), "127.0.0.1:80"), Error::Canceled);
    thread::scope(|s| {
        for _ in 0..600 {
            s.spawn(|| assert!(lookup(&bg, "localhost:80").is_ok()));
        }
    });
}
