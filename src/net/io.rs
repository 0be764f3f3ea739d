//! Reads and writes that end with a context.

use std::fmt;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::PollFlags;
use rustix::fs::{fstat, FileType};
use rustix::io::{preadv2, pwritev2, Errno, ReadWriteFlags};
use rustix::net::{recv, recvmsg, send, sendmsg, RecvAncillaryBuffer, RecvFlags};
use rustix::net::{SendAncillaryBuffer, SendFlags};

use super::wait::{is_ready, until_ready};
use crate::context::Context;
use crate::runtime::sync::AtomicCell;

/// # Blocking I/O
impl Context {
    /// Returns a reader and writer for a socket, a pipe or a terminal whose calls end with the context.
    ///
    /// It takes whatever has a file descriptor, by value or by reference: `&TcpStream`, `UnixStream`,
    /// `ChildStdout`, `io::stdin()`, `OwnedFd`. See [`Io`](crate::net::Io).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, Read};
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    /// use go_context::{Context, Error};
    ///
    /// let (stream, _other_end) = UnixStream::pair()?;
    /// let timeout = Duration::from_millis(5);
    /// let (ctx, _cancel) = Context::background().with_timeout(timeout);
    /// let err = ctx.io(&stream).read(&mut [0; 100]).unwrap_err();
    /// assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    /// assert_eq!(Error::find(&err), Some(Error::DeadlineExceeded));
    /// # Ok::<(), io::Error>(())
    /// ```
    #[must_use]
    pub fn io<T: AsFd>(&self, stream: T) -> Io<T> {
        Io {
            ctx: self.clone(),
            kind: Kind::of(stream.as_fd()),
            stream,
            written: AtomicCell::new(0),
        }
    }
}

/// Reads and writes until a context is done. Created by [`Context::io`].
///
/// A call that would block waits for the stream and for the context. When the context is done it fails
/// with the context's error, as an [`io::Error`]: of kind [`TimedOut`](io::ErrorKind::TimedOut) for a
/// deadline, and found by [`Error::find`](crate::Error::find) in any case. It fails so, too, if the context
/// is done before the call. A read that fails has consumed nothing, so that it can be continued under
/// another context. [`written`](Io::written) returns how much of a failed `write_all` was written.
///
/// The stream stays as it is, blocking or not, for its other users. There is no buffer: use
/// [`BufReader`], or [`lines`](Io::lines). Both `Io` and `&Io` read and write, so that one thread can read
/// while another one writes.
///
/// Regular files are read and written as usual, because such calls cannot be ended. A terminal is read
/// when it is ready; if another process then takes the input first, the call blocks.
///
/// It is a [handle](Context#ownership) to the context.
///
/// # Examples
///
/// ```no_run
/// use std::io::{self, Read, Write};
/// use std::net::TcpStream;
/// use go_context::{net, Context};
///
/// fn get(ctx: &Context, host: &str) -> io::Result<Vec<u8>> {
///     let mut stream = ctx.io(net::connect(ctx, (host, 80))?);
///     write!(stream, "GET / HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
///     let mut answer = Vec::new();
///     stream.read_to_end(&mut answer)?;
///     Ok(answer)
/// }
/// ```
pub struct Io<T> {
    ctx: Context,
    stream: T,
    kind: Kind,
    written: AtomicCell<u64>,
}

/// How a call is made that does not block.
#[derive(Clone, Copy)]
enum Kind {
    Socket,
    Pipe,
    /// Such a call never waits for long.
    File,
    /// Only after `poll` has said that it will not block.
    Other,
}

impl Kind {
    fn of(fd: BorrowedFd<'_>) -> Kind {
        match fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Socket) => Kind::Socket,
            Ok(FileType::Fifo) => Kind::Pipe,
            Ok(FileType::RegularFile | FileType::Directory | FileType::BlockDevice) => Kind::File,
            _ => Kind::Other,
        }
    }
}

/// How many buffers a system call takes.
const MOST_BUFS: usize = 1024;

/// How much is written at once where only `poll` has said that it will not block: a terminal is writable
/// if it has room for that, and so is a pipe.
const MOST_AT_ONCE: usize = 256;

impl<T: AsFd> Io<T> {
    /// Replaces the context of the following calls.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use go_context::Context;
    ///
    /// let (stream, mut other_end) = UnixStream::pair()?;
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let mut stream = ctx.io(stream);
    /// cancel.cancel();
    /// assert!(stream.read(&mut [0; 1]).is_err());
    ///
    /// stream.set_context(&Context::background());
    /// other_end.write_all(b"x")?;
    /// assert_eq!(stream.read(&mut [0; 1])?, 1);
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn set_context(&mut self, ctx: &Context) {
        self.ctx = ctx.clone();
    }

    /// Returns the context.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// Returns the stream.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.stream
    }

    /// Returns the stream, and drops the rest.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.stream
    }

    /// Returns how many bytes have been written through this `Io`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, Write};
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// let (stream, _other_end) = UnixStream::pair()?; // it reads nothing
    /// let timeout = Duration::from_millis(5);
    /// let (ctx, _cancel) = Context::background().with_timeout(timeout);
    /// let mut stream = ctx.io(stream);
    /// let data = vec![0; 100 << 20];
    /// assert!(stream.write_all(&data).is_err());
    /// assert!(stream.written() < data.len() as u64);
    /// # Ok::<(), io::Error>(())
    /// ```
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load()
    }

    /// Returns an iterator over the lines of the stream, like [`BufRead::lines`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::io;
    /// use go_context::Context;
    ///
    /// let (ctx, _cancel) = Context::background().with_cancel();
    /// for line in ctx.io(io::stdin()).lines() {
    ///     println!("{}", line?);
    /// }
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn lines(self) -> io::Lines<BufReader<Io<T>>> {
        BufReader::new(self).lines()
    }

    fn until_ready(
        &self,
        events: PollFlags,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        let fd = self.stream.as_fd();
        until_ready(&self.ctx, fd, events, || Ok(attempt(fd)?))
    }

    fn read_bufs(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let most = bufs.len().min(MOST_BUFS);
        let bufs = &mut bufs[..most];
        self.until_ready(PollFlags::IN, |fd| match (self.kind, &mut *bufs) {
            (Kind::Socket, [buf]) => recv(fd, &mut **buf, RecvFlags::DONTWAIT).map(|(_, n)| n),
            (Kind::Socket, bufs) => {
                let mut control = RecvAncillaryBuffer::default();
                recvmsg(fd, bufs, &mut control, RecvFlags::DONTWAIT).map(|message| message.bytes)
            }
            (Kind::Pipe, bufs) => match preadv2(fd, bufs, u64::MAX, ReadWriteFlags::NOWAIT) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => read_if_ready(fd, bufs),
                result => result,
            },
            (Kind::File, bufs) => rustix::io::readv(fd, bufs),
            (Kind::Other, bufs) => read_if_ready(fd, bufs),
        })
    }

    fn write_bufs(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = &bufs[..bufs.len().min(MOST_BUFS)];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let written = self.until_ready(PollFlags::OUT, |fd| match (self.kind, bufs) {
            (Kind::Socket, [buf]) => send(fd, buf, flags),
            (Kind::Socket, _) => sendmsg(fd, bufs, &mut SendAncillaryBuffer::default(), flags),
            (Kind::Pipe, _) => match pwritev2(fd, bufs, u64::MAX, ReadWriteFlags::NOWAIT) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_if_ready(fd, bufs),
                result => result,
            },
            (Kind::File, _) => rustix::io::writev(fd, bufs),
            (Kind::Other, _) => write_if_ready(fd, bufs),
        })?;
        self.written.fetch_add(written as u64);
        Ok(written)
    }
}

fn read_if_ready(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> Result<usize, Errno> {
    match is_ready(fd, PollFlags::IN)? {
        true => rustix::io::readv(fd, bufs),
        false => Err(Errno::AGAIN),
    }
}

fn write_if_ready(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
    if !is_ready(fd, PollFlags::OUT)? {
        return Err(Errno::AGAIN);
    }
    let first = bufs.iter().find(|buf| !buf.is_empty());
    let first = first.map_or(&[][..], |buf| &buf[..buf.len().min(MOST_AT_ONCE)]);
    rustix::io::write(fd, first)
}

impl<T: AsFd> Read for &Io<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_bufs(&mut [IoSliceMut::new(buf)])
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_bufs(bufs)
    }
}

impl<T: AsFd> Read for Io<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl<T: AsFd> Write for &Io<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_bufs(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_bufs(bufs)
    }

    /// Does nothing, because there is no buffer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: AsFd> Write for Io<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: fmt::Debug> fmt::Debug for Io<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("context", &self.ctx)
            .field("stream", &self.stream)
            .field("written", &self.written.load())
            .finish()
    }
}
