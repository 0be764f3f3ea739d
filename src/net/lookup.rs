//! Looking up names.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;

use crossbeam_channel::{bounded, Receiver, Sender};
use once_cell::sync::Lazy;

use crate::channel::{RecvError, SendError};
use crate::context::Context;

/// How many lookups may be under way at once. Go has the same limit.
const MOST_THREADS: usize = 500;

/// Holds a message for each lookup under way.
static UNDER_WAY: Lazy<(Sender<()>, Receiver<()>)> = Lazy::new(|| bounded(MOST_THREADS));

/// Returns the addresses of a host and port such as `"example.org:443"`, like [`ToSocketAddrs`], until the
/// context is done.
///
/// An address that is written as numbers is returned at once. A name is looked up by the system, and such
/// a call cannot be ended. So it runs on a thread of its own, named `go-ctx-lookup`, which is abandoned if
/// the context is done first, and ends when the system returns. There are at most 500 of these threads at
/// a time; further calls wait, until their context is done.
///
/// # Errors
///
/// Returns the context's error if it is done, that of the lookup, or that of the system if it refuses the
/// thread.
///
/// # Examples
///
/// ```
/// use go_context::{net, Context};
///
/// let addresses = net::lookup(&Context::background(), "127.0.0.1:80")?;
/// assert_eq!(addresses, ["127.0.0.1:80".parse().unwrap()]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn lookup(ctx: &Context, host: &str) -> io::Result<Vec<SocketAddr>> {
    ctx.check()?;
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let permit = Permit::acquire(ctx)?;
    let (found, addresses) = bounded(1);
    let host = host.to_owned();
    let thread = thread::Builder::new().name("go-ctx-lookup".into());
    thread.spawn(move || {
        let result = host.to_socket_addrs().map(Vec::from_iter);
        drop(permit);
        let _ = found.send(result); // fails if it was abandoned
    })?;
    match ctx.recv(&addresses) {
        Ok(result) => result,
        Err(RecvError::Done(err)) => Err(err.into()),
        Err(_) => Err(io::Error::other("the lookup panicked")),
    }
}

struct Permit;

impl Permit {
    fn acquire(ctx: &Context) -> io::Result<Permit> {
        match ctx.send(&UNDER_WAY.0, ()) {
            Err(SendError::Done(_, err)) => Err(err.into()),
            _ => Ok(Permit), // the receiver is never dropped
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let _ = UNDER_WAY.1.try_recv();
    }
}
