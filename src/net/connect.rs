//! Connecting to a server.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::{ioctl_fionbio, Errno};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{
    socket_with, sockopt::socket_error, AddressFamily, SocketAddrUnix, SocketFlags, SocketType,
};

use super::wait::wait;
use crate::context::Context;

/// Connects to a server, like [`TcpStream::connect`], until the context is done. The connection is blocking.
///
/// If `address` stands for several addresses, they are tried one after the other. If the context has a
/// deadline, each gets its share of the time that is left, so that one that does not answer leaves some
/// for the others.
///
/// A name is looked up by std, which a context cannot end. To look it up under the context, pass the result
/// of [`lookup`](super::lookup), as `&addresses[..]`.
///
/// # Errors
///
/// Returns the context's error if it is done, and otherwise that of the last address.
///
/// # Examples
///
/// ```
/// use std::io::{self, Write};
/// use std::net::TcpListener;
/// use go_context::{net, Context};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let (ctx, cancel) = Context::background().with_cancel();
/// let mut stream = net::connect(&ctx, listener.local_addr()?)?;
/// stream.write_all(b"hello")?;
///
/// cancel.cancel();
/// assert!(net::connect(&ctx, listener.local_addr()?).is_err());
/// # Ok::<(), io::Error>(())
/// ```
pub fn connect(ctx: &Context, address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    ctx.check()?;
    let addresses = Vec::from_iter(address.to_socket_addrs()?);
    let mut failed = io::Error::new(
        io::ErrorKind::InvalidInput,
        "there is no address to connect to",
    );
    for (i, address) in addresses.iter().enumerate() {
        let left = (addresses.len() - i) as u32;
        let share = ctx.remaining().filter(|_| left > 1);
        let connected = match share {
            Some(remaining) => connect_to(&ctx.with_timeout(remaining / left).0, address),
            None => connect_to(ctx, address),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(err) => failed = err,
        }
        ctx.check()?;
    }
    Err(failed)
}

fn connect_to(ctx: &Context, address: &SocketAddr) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = new_socket(family)?;
    match rustix::net::connect(&socket, address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => {
            wait(ctx, socket.as_fd(), PollFlags::OUT)?;
            socket_error(&socket)??;
        }
        Err(err) => return Err(err.into()),
    }
    ioctl_fionbio(&socket, false)?;
    Ok(socket.into())
}

/// Connects to a Unix-domain socket, like [`UnixStream::connect`], until the context is done. The connection
/// is blocking.
///
/// If the server has as many connections waiting as it allows, it is asked again every few milliseconds,
/// because the system does not report when there is room.
///
/// # Errors
///
/// Returns the context's error if it is done, and otherwise that of the system.
///
/// # Examples
///
/// ```no_run
/// use go_context::{net, Context};
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let stream = net::connect_unix(&ctx, "/run/server.sock")?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn connect_unix(ctx: &Context, path: impl AsRef<Path>) -> io::Result<UnixStream> {
    ctx.check()?;
    let address = SocketAddrUnix::new(path.as_ref())?;
    let socket = new_socket(AddressFamily::UNIX)?;
    connect_when_there_is_room(ctx, &socket, &address)?;
    ioctl_fionbio(&socket, false)?;
    Ok(socket.into())
}

fn connect_when_there_is_room(
    ctx: &Context,
    socket: &OwnedFd,
    address: &impl SocketAddrArg,
) -> io::Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        match rustix::net::connect(socket, address) {
            Err(Errno::AGAIN) => {
                ctx.sleep(pause)?;
                pause = (pause * 2).min(Duration::from_millis(10));
            }
            Err(Errno::INTR) => ctx.check()?,
            result => return Ok(result?),
        }
    }
}

fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}
