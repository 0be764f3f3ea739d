//! Datagrams.

use std::io;
use std::net::{self, UdpSocket};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixDatagram};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{recvfrom, sendto, RecvFlags, SendFlags, SocketAddrAny, SocketAddrUnix};

use super::wait::until_ready;
use crate::context::Context;

/// A socket for datagrams: [`UdpSocket`] or [`UnixDatagram`]. You cannot implement it.
pub trait Datagram: AsFd + sealed::Addressed {
    /// The address of the other end.
    type Address;
}

impl Datagram for UdpSocket {
    type Address = net::SocketAddr;
}

impl Datagram for UnixDatagram {
    type Address = unix::SocketAddr;
}

mod sealed {
    use super::*;

    pub trait Addressed {
        fn from_system(address: Option<SocketAddrAny>) -> io::Result<Self::Address>
        where
            Self: Datagram;

        fn to_system(address: &Self::Address) -> io::Result<SocketAddrAny>
        where
            Self: Datagram;
    }

    impl Addressed for UdpSocket {
        fn from_system(address: Option<SocketAddrAny>) -> io::Result<net::SocketAddr> {
            let address = address.ok_or(Errno::AFNOSUPPORT)?;
            Ok(address.try_into()?)
        }

        fn to_system(address: &net::SocketAddr) -> io::Result<SocketAddrAny> {
            Ok((*address).into())
        }
    }

    impl Addressed for UnixDatagram {
        fn from_system(address: Option<SocketAddrAny>) -> io::Result<unix::SocketAddr> {
            let address = address.map(SocketAddrUnix::try_from).transpose()?;
            let address = address.as_ref();
            if let Some(path) = address.and_then(SocketAddrUnix::path_bytes) {
                use std::os::unix::ffi::OsStrExt;
                return unix::SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path));
            }
            match address.and_then(SocketAddrUnix::abstract_name) {
                Some(name) => unix::SocketAddr::from_abstract_name(name),
                None => UnixDatagram::unbound()?.local_addr(), // std has no other way to an unnamed one
            }
        }

        fn to_system(address: &unix::SocketAddr) -> io::Result<SocketAddrAny> {
            let system = match (address.as_pathname(), address.as_abstract_name()) {
                (Some(path), _) => SocketAddrUnix::new(path)?,
                (None, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
                (None, None) => SocketAddrUnix::new_unnamed(),
            };
            Ok(system.into())
        }
    }
}

/// Receives a datagram, like [`UdpSocket::recv_from`], until the context is done.
///
/// A datagram that is longer than `buf` is cut off.
///
/// # Errors
///
/// Returns the context's error if it is done, and otherwise that of the system.
///
/// # Examples
///
/// ```
/// use std::net::UdpSocket;
/// use go_context::{net, Context};
///
/// let [one, other] = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
/// let (ctx, cancel) = Context::background().with_cancel();
/// net::send_to(&ctx, &one, b"hello", &other.local_addr()?)?;
/// let mut buf = [0; 100];
/// let (n, from) = net::recv_from(&ctx, &other, &mut buf)?;
/// assert_eq!((&buf[..n], from), (&b"hello"[..], one.local_addr()?));
///
/// cancel.cancel();
/// assert!(net::recv_from(&ctx, &other, &mut buf).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recv_from<D: Datagram>(
    ctx: &Context,
    socket: &D,
    buf: &mut [u8],
) -> io::Result<(usize, D::Address)> {
    let (n, address) = until_ready(ctx, socket.as_fd(), PollFlags::IN, || {
        let (_, n, address) = recvfrom(socket, &mut *buf, RecvFlags::DONTWAIT)?;
        Ok((n, address))
    })?;
    Ok((n, <D as sealed::Addressed>::from_system(address)?))
}

/// Sends a datagram, like [`UdpSocket::send_to`], until the context is done.
///
/// # Errors
///
/// Returns the context's error if it is done, and otherwise that of the system.
///
/// # Examples
///
/// See [`recv_from`].
pub fn send_to<D: Datagram>(
    ctx: &Context,
    socket: &D,
    buf: &[u8],
    address: &D::Address,
) -> io::Result<usize> {
    let address = <D as sealed::Addressed>::to_system(address)?;
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    until_ready(ctx, socket.as_fd(), PollFlags::OUT, || {
        Ok(sendto(socket, buf, flags, &address)?)
    })
}
