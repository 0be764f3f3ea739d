//! Blocking I/O that ends with a context: sockets, pipes and terminals. Feature `net`.
//!
//! [`Context::io`] returns a reader and writer for a stream that exists. [`connect`], [`accept`],
//! [`incoming`], [`recv_from`], [`send_to`] and [`lookup`] are the calls that block besides. For an event
//! loop of your own there is [`Context::done_fd`]. All of them fail with the context's error as an
//! [`io::Error`], which [`Error::find`](crate::Error::find) finds.
//!
//! A call costs hardly more than std's: it is tried first, and only if it would block the thread waits
//! for the stream and for the context at once. For that a thread has one file descriptor, from its first
//! wait until it ends. There is no thread, and no descriptor for each context or connection.
//!
//! What cannot be ended: `open` of a FIFO, and reads and writes of regular files. A name is looked up on
//! a thread that is abandoned when the context is done, see [`lookup`].
//!
//! # Platforms
//!
//! The module has been run on Linux, on x86-64. It does not compile for other systems, because the calls
//! that it relies on are missing there (`preadv2` with `RWF_NOWAIT`, `eventfd`) or behave differently
//! (`send` with `MSG_DONTWAIT`).
//!
//! # Examples
//!
//! An echo server that stops when its context is done:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::net::{TcpListener, TcpStream};
//! use go_context::{net, Context};
//!
//! fn serve(ctx: &Context, listener: &TcpListener) -> io::Result<()> {
//!     ctx.scope(|s| {
//!         for client in net::incoming(s.context(), listener) {
//!             let client = client?;
//!             s.spawn(move |ctx| {
//!                 let stream = ctx.io(&client);
//!                 // A client that fails, or the end of the server, is no error of the server.
//!                 let _ = io::copy(&mut &stream, &mut &stream);
//!                 Ok(())
//!             });
//!         }
//!         Ok(())
//!     })
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (ctx, cancel) = Context::background().with_cancel();
//! std::thread::scope(|s| {
//!     let server = s.spawn(|| serve(&ctx, &listener));
//!     let _cancel_on_exit = cancel.drop_guard();
//!     client.write_all(b"hello")?;
//!     let mut answer = [0; 5];
//!     client.read_exact(&mut answer)?;
//!     assert_eq!(&answer, b"hello");
//!     drop(_cancel_on_exit);
//!     server.join().unwrap()
//! })?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! [`io::Error`]: std::io::Error

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the feature `net` of go-context needs Linux, because other systems lack the calls that it uses"
);

mod connect;
mod datagram;
mod done_fd;
mod io;
mod listener;
mod lookup;
mod wait;

#[cfg(doc)]
use crate::context::Context;

pub use self::connect::{connect, connect_unix};
pub use self::datagram::{recv_from, send_to, Datagram};
pub use self::done_fd::DoneFd;
pub use self::io::Io;
pub use self::listener::{accept, incoming, Incoming, Listener};
pub use self::lookup::lookup;
