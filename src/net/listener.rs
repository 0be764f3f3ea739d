//! Accepting connections.

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::{self, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};

use rustix::event::PollFlags;
use rustix::io::ioctl_fionbio;

use super::wait::until_ready;
use crate::context::Context;

/// A socket that accepts connections: [`TcpListener`] or [`UnixListener`]. You cannot implement it.
pub trait Listener: AsFd + sealed::Accept {
    /// A connection.
    type Stream;
    /// The address of the other end.
    type Address;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Address = net::SocketAddr;
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Address = unix::SocketAddr;
}

mod sealed {
    use super::*;

    pub trait Accept {
        fn accept(&self) -> io::Result<(Self::Stream, Self::Address)>
        where
            Self: Listener;
    }

    impl Accept for TcpListener {
        fn accept(&self) -> io::Result<(TcpStream, net::SocketAddr)> {
            self.accept()
        }
    }

    impl Accept for UnixListener {
        fn accept(&self) -> io::Result<(UnixStream, unix::SocketAddr)> {
            self.accept()
        }
    }
}

/// Accepts a connection, like [`TcpListener::accept`], until the context is done.
///
/// The connection is blocking, as std's are. The listener is made non-blocking and stays so: otherwise,
/// if two threads wait for one connection, one of them could not be ended.
///
/// # Errors
///
/// Returns the context's error if it is done, or that of the system, for example if the process has no
/// file descriptor left.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::net::TcpListener;
/// use std::time::Duration;
/// use go_context::{net, Context};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let timeout = Duration::from_millis(5);
/// let (ctx, _cancel) = Context::background().with_timeout(timeout);
/// let err = net::accept(&ctx, &listener).unwrap_err();
/// assert_eq!(err.kind(), io::ErrorKind::TimedOut);
/// # Ok::<(), io::Error>(())
/// ```
pub fn accept<L: Listener>(ctx: &Context, listener: &L) -> io::Result<(L::Stream, L::Address)> {
    let fd = listener.as_fd();
    ioctl_fionbio(fd, true)?;
    until_ready(ctx, fd, PollFlags::IN, || sealed::Accept::accept(listener))
}

/// Returns an iterator over the connections of a listener, like [`TcpListener::incoming`], that ends when
/// the context is done.
///
/// See [`accept`].
///
/// # Examples
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use go_context::{net, Context};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let _client = TcpStream::connect(listener.local_addr()?)?;
/// let (ctx, cancel) = Context::background().with_cancel();
/// for connection in net::incoming(&ctx, &listener) {
///     println!("connected: {:?}", connection?);
///     cancel.cancel();
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn incoming<'a, L: Listener>(ctx: &'a Context, listener: &'a L) -> Incoming<'a, L> {
    Incoming { ctx, listener }
}

/// The connections of a listener until a context is done. Created by [`incoming`].
pub struct Incoming<'a, L> {
    ctx: &'a Context,
    listener: &'a L,
}

impl<L: Listener> Iterator for Incoming<'_, L> {
    type Item = io::Result<L::Stream>;

    fn next(&mut self) -> Option<Self::Item> {
        match accept(self.ctx, self.listener) {
            Ok((stream, _)) => Some(Ok(stream)),
            Err(_) if self.ctx.err().is_some() => None,
            Err(err) => Some(Err(err)),
        }
    }
}

impl<L: Listener> FusedIterator for Incoming<'_, L> {}

impl<L: fmt::Debug> fmt::Debug for Incoming<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("context", self.ctx)
            .field("listener", self.listener)
            .finish()
    }
}
