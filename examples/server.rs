//! An HTTP/1.1 server on threads, with a deadline for every request, that stops work nobody waits
//! for, also in a second server that it has called, and that ends in good order.
//!
//! ```sh
//! cargo run --features signal --example server -- --listen 127.0.0.1:8081 &
//! cargo run --features signal --example server -- --upstream 127.0.0.1:8081 &
//! curl -i --max-time 2 http://127.0.0.1:8080/relay/sleep?ms=60000
//! curl -i -H 'x-timeout: 300m' http://127.0.0.1:8080/relay/sleep?ms=60000
//! ```
//!
//! The first `curl` hangs up after two seconds, the second lets the servers have 300 milliseconds.
//! Either way both stop to sleep, and say why.
//!
//! ```text
//! accept --queue--> workers (N of them), each with one connection at a time:
//!     client ==> read_chunks --chunks--> Connection ==> client
//! ```
//!
//! A context is done when there is no more to be done in it, so each is for one question:
//!
//! ```text
//! stopping: are new connections welcome?       until the first Ctrl-C
//! work:     is there still time?               until the time to drain is over as well
//! └─ client:   is the client still there?      until its end of the connection is closed
//!    └─ request:  is there time for it?        until its deadline
//! ```
//!
//! A socket cannot be selected on. So a thread reads it and sends what it has read to a channel, which
//! can. It sees too when the client hangs up, which is the one error in a group of two, and cancels
//! what the other works on. Where that would be too much, as in a write or a call to another server,
//! a function that the context runs shuts the socket down, and the blocked call returns.
//!
//! Written for Unix. Only on Linux does a socket that is shut for reading still give what has come.

use std::fmt::{self, Display};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use go_context::crossbeam_channel::{bounded, never, select_biased, Receiver, Sender};
use go_context::{signal::NotifyContext, AfterFunc, Context, Error, Key, RecvError};
use httparse::{Header, Status, EMPTY_HEADER};

const HELP: &str = "\
An HTTP server, to show how one is written with contexts.

Usage: server [OPTIONS]

Options:
      --listen ADDR    Where to listen; port 0 is any [default: 127.0.0.1:8080]
      --upstream ADDR  The server for /relay/ to call
      --workers N      Serve N connections at once [default: 64]
      --queue N        Let N more wait, and refuse the others [default: 256]
      --timeout TIME   How long a request may take [default: 30s]
      --transfer TIME  How long a client may take to send a request, and again
                       to receive an answer [default: 10s]
      --idle TIME      How long a connection may wait for its next request [default: 5s]
      --grace TIME     How long to drain after Ctrl-C [default: 10s]
      --verbose        Log connections, and requests that begin, too
  -h, --help           Print this help

Requests:
  GET /                Says hello
  GET /sleep?ms=N      Sleeps
  GET /primes?below=N  Counts
  POST /echo           Answers with what it is sent
  GET /relay/PATH      Answers with what the upstream server has at /PATH
  GET /panic           Panics, which harms nobody else

A request may set an earlier deadline with the header x-timeout, as grpc-timeout: digits and a
unit (H, M, S, m, u, n); and give itself a name with the header x-request-id.

Exit status:
  0  drained after Ctrl-C or SIGTERM
  1  an error
  2  a wrong option or argument
  3  some requests were cut, as the time to drain was over
";

/// How long the head of a request may be, how many headers, and how long its body.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_BODY: usize = 1024 * 1024;
/// How long an answer of the upstream server may be.
const MAX_ANSWER: usize = 2 * MAX_BODY;
/// How much is read from a socket at once.
const CHUNK: usize = 16 * 1024;
/// How long a connection stays open for the client to read its last answer and hang up.
const LINGER: Duration = Duration::from_secs(1);
/// How many connections that were refused may do so at once.
const LINGERING: usize = 512;
/// How many connections the kernel may have accepted; std lets it have 128.
const BACKLOG: usize = 1024;
/// How long a call may take to connect. Nothing else can end it before.
const CONNECT: Duration = Duration::from_secs(3);
/// How long to wait when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let ended = match Options::parse() {
        Ok(Some(options)) => serve(options),
        Ok(None) => print(HELP).map(|()| true),
        Err(err) => {
            log(&format_args!("server: {err}\nTry --help."));
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(err) => {
            log(&format_args!("server: {err}"));
            ExitCode::FAILURE
        }
    }
}

/// Serves until there is a signal, and then drains. False: there was no time to finish everything.
fn serve(options: Options) -> io::Result<bool> {
    // Once it is done the next signal is not caught any more, and ends the process.
    let (stopping, _stop) = NotifyContext::new().start(&Context::background())?;
    let (work, cut) = Context::background().with_cancel_cause();
    let listener = TcpListener::bind(options.listen)
        .map_err(|err| explain("cannot listen on", &options.listen, err))?;
    // As many may come at once as may wait: std has the system keep 128 for us, and of more it may
    // reset some.
    #[cfg(unix)]
    rustix::net::listen(&listener, options.queue.clamp(128, 1 << 16) as i32)?;
    let address = listener.local_addr()?;
    print(&format!("listening on http://{address}\n"))?;

    let (queue_in, queue) = bounded(options.queue);
    let (hurry_in, hurry) = bounded(options.queue);
    let (refused_in, refused) = bounded(LINGERING);
    let server = Server {
        id: RandomState::new().hash_one(SystemTime::now()) as u32,
        count: AtomicU64::new(0),
        options,
        stopping,
        queue,
        hurry,
        free: AtomicUsize::new(0),
    };
    work.scope(|s| {
        let workers: Vec<_> = (0..server.options.workers)
            .map(|_| s.spawn(|ctx| server.work(ctx)))
            .collect();
        s.spawn(|ctx| let_go(ctx, &refused));

        // Also where the workers have failed, or there were no threads for them.
        let (open, _cancel) = server.stopping.merge(s.context());
        let door = Door {
            server: &server,
            queue: queue_in,
            hurry: hurry_in,
            refused: refused_in,
        };
        // There is no other way to wake a thread that accepts.
        let knocking = open.after_func(move || knock(address));
        while open.err().is_none() {
            door.accept(&open, &listener);
        }
        let (grace, _cancel) = Context::background().with_timeout(server.options.grace);
        // To their clients, connections that wait in the kernel are accepted.
        if listener.set_nonblocking(true).is_ok() {
            let mut waiting = 0..BACKLOG;
            while waiting.next().is_some() && door.accept(&grace, &listener) {}
        }
        drop(listener); // now the kernel refuses them
        knocking.stop_and_wait();
        drop(door); // when the queue is empty, the workers go

        let mut ended = workers.iter().map(|worker| grace.recv(worker));
        let drained = !ended.any(|ended| matches!(ended, Err(RecvError::Done(_))));
        if !drained {
            cut.cancel("the time to drain is over");
        }
        drained
    })
}

/// Where connections come in.
struct Door<'a> {
    server: &'a Server,
    queue: Sender<TcpStream>,
    /// Asks for a worker, for each connection in the queue, of those with idle connections.
    hurry: Sender<()>,
    refused: Sender<(TcpStream, Instant)>,
}

impl Door<'_> {
    /// Takes a connection. False: none is there, and the listener does not block.
    fn accept(&self, ctx: &Context, listener: &TcpListener) -> bool {
        match listener.accept() {
            Ok((stream, peer)) => self.let_in(stream, peer),
            Err(err) if err.kind() == ErrorKind::WouldBlock => return false,
            Err(err) if err.kind() == ErrorKind::ConnectionAborted => {}
            Err(err) => {
                log(&format_args!("server: cannot accept a connection: {err}"));
                let _ = ctx.sleep(PAUSE);
            }
        }
        true
    }

    /// Waits for nobody: a server that is too busy has to be able to say so.
    fn let_in(&self, stream: TcpStream, peer: SocketAddr) {
        if self.server.options.verbose {
            log(&format_args!("accepted {peer}"));
        }
        let _ = stream.set_nonblocking(false); // some systems hand it down from the listener
        let _ = stream.set_nodelay(true);
        if let Err(err) = self.queue.try_send(stream) {
            log(&format_args!("refused {peer}"));
            let stream = err.into_inner();
            let response = Response::unavailable("too busy");
            last_words(&stream, &response.bytes(true, None));
            let _ = stream.shutdown(Shutdown::Write);
            let _ = self.refused.try_send((stream, Instant::now())); // full: closed at once
        } else if self.server.is_crowded() {
            let _ = self.hurry.try_send(()); // full: enough have been asked for
        }
    }
}

/// Wakes the thread that accepts, by a connection of our own.
fn knock(mut address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    while let Err(err) = TcpStream::connect_timeout(&address, LINGER) {
        if err.kind() == ErrorKind::ConnectionRefused {
            return; // it has woken by itself
        }
        thread::sleep(PAUSE);
    }
}

/// Closes connections some time after they were refused: if there is anything unread when a socket is
/// closed, the client may be told that the connection broke before it has read why.
fn let_go(ctx: &Context, refused: &Receiver<(TcpStream, Instant)>) -> io::Result<()> {
    for (stream, since) in ctx.iter(refused) {
        let _ = ctx.sleep(LINGER.saturating_sub(since.elapsed()));
        drop(stream);
    }
    Ok(())
}

/// Writes without blocking. A few bytes find room in any socket that has not been written to.
fn last_words(mut stream: &TcpStream, bytes: &[u8]) {
    if stream.set_nonblocking(true).is_ok() {
        let _ = stream.write(bytes);
    }
}

/// Ends what blocks on a socket when the context is done.
fn hang_up_after(ctx: &Context, stream: &Arc<TcpStream>) -> AfterFunc {
    let stream = stream.clone();
    ctx.after_func(move || drop(stream.shutdown(Shutdown::Both)))
}

/// What all workers share.
struct Server {
    options: Options,
    stopping: Context,
    queue: Receiver<TcpStream>,
    hurry: Receiver<()>,
    /// How many workers have nothing to do.
    free: AtomicUsize,
    /// The first half of the ids that this server gives to requests, and the second.
    id: u32,
    count: AtomicU64,
}

impl Server {
    fn next_id(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{count}", self.id)
    }

    fn work(&self, ctx: &Context) -> io::Result<()> {
        loop {
            self.free.fetch_add(1, Ordering::Relaxed);
            let stream = ctx.recv(&self.queue);
            self.free.fetch_sub(1, Ordering::Relaxed);
            let Ok(stream) = stream else { return Ok(()) };
            if let Err(err) = self.serve_connection(ctx, Arc::new(stream)) {
                log(&format_args!("server: cannot serve a connection: {err}"));
            }
        }
    }

    /// Whether connections wait for a worker to come free.
    fn is_crowded(&self) -> bool {
        self.queue.len() > self.free.load(Ordering::Relaxed)
    }

    /// Serves one connection, by a group of two: one reads, one answers.
    fn serve_connection(&self, ctx: &Context, stream: Arc<TcpStream>) -> io::Result<()> {
        let shut = AtomicBool::new(false);
        let (chunks_in, chunks) = bounded(1);
        let ended: io::Result<()> = ctx.scope(|s| {
            s.spawn(|_| read_chunks(&stream, chunks_in, &shut));
            let _ends_the_reading = HangUp(&stream);
            let connection = Connection {
                server: self,
                work: ctx,
                client: s.context(),
                stream: &stream,
                chunks,
                input: Vec::new(),
                shut: &shut,
            };
            connection.serve();
        });
        // The other error there can be is that there is no thread.
        ended.or_else(|err| {
            if err.kind() == CLIENT_GONE {
                Ok(())
            } else {
                Err(err)
            }
        })
    }

    fn handle(&self, ctx: &Context, request: &Request) -> Result<Response, Error> {
        let (path, query) = match request.target.split_once('?') {
            Some((path, query)) => (path, query),
            None => (&*request.target, ""),
        };
        let allowed = match path {
            "/" | "/sleep" | "/primes" | "/panic" => "GET, HEAD",
            "/echo" => "POST",
            _ if path.starts_with("/relay/") => "GET, HEAD",
            _ => return Ok(Response::text(404, "there is nothing here")),
        };
        if !allowed.split(", ").any(|method| method == request.method) {
            return Ok(Response::text(405, format_args!("try {allowed}")).with("Allow", allowed));
        }
        match path {
            "/" => Ok(Response::text(200, "hello")),
            "/echo" => Ok(Response::new(200, request.body.clone())),
            "/sleep" => match parameter(query, "ms") {
                Some(ms) => {
                    ctx.sleep(Duration::from_millis(ms))?;
                    Ok(Response::text(200, format_args!("slept for {ms} ms")))
                }
                None => Ok(Response::text(400, "for how many milliseconds? ms=N")),
            },
            "/primes" => match parameter(query, "below") {
                Some(below) => Ok(Response::text(200, count_primes(ctx, below)?)),
                None => Ok(Response::text(400, "below which number? below=N")),
            },
            "/panic" => panic!("somebody asked for it"),
            _ => self.relay(ctx, &request.target["/relay".len()..]),
        }
    }

    fn relay(&self, ctx: &Context, target: &str) -> Result<Response, Error> {
        let Some(upstream) = self.options.upstream else {
            return Ok(Response::text(502, "there is no upstream server"));
        };
        call(ctx, upstream, target).or_else(|err| {
            if ctx.remaining() == Some(Duration::ZERO) {
                return Err(ctx.wait()); // the call may have noticed first
            }
            ctx.check()?;
            let err = explain("upstream", &upstream, err);
            Ok(Response::text(502, err))
        })
    }
}

/// Asks another server, as long as there is anyone who waits for its answer.
fn call(ctx: &Context, upstream: SocketAddr, target: &str) -> io::Result<Response> {
    ctx.check()?;
    let remaining = ctx.remaining().unwrap_or(Duration::MAX);
    let limit = remaining.clamp(Duration::from_nanos(1), CONNECT);
    let stream = Arc::new(TcpStream::connect_timeout(&upstream, limit)?);
    let hang_up = hang_up_after(ctx, &stream);
    let answer = ask(ctx, &stream, upstream, target);
    hang_up.stop_and_wait(); // for `stream` to be closed here, and nowhere else
    answer
}

fn ask(
    ctx: &Context,
    mut stream: &TcpStream,
    host: SocketAddr,
    target: &str,
) -> io::Result<Response> {
    let id = ctx.value(&RequestId).map_or("", |id| id);
    // How long, and not until when: the clocks may differ.
    let timeout = format_timeout(ctx.remaining().unwrap_or(Duration::MAX));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {id}\r\nX-Timeout: {timeout}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER as u64).read_to_end(&mut bytes)?;
    parse_answer(&bytes).ok_or_else(|| io::Error::other("its answer makes no sense"))
}

fn count_primes(ctx: &Context, below: u64) -> Result<usize, Error> {
    let mut primes: Vec<u64> = Vec::new();
    for n in 2..below {
        ctx.check()?;
        if primes
            .iter()
            .take_while(|&p| p * p <= n)
            .all(|p| n % p != 0)
        {
            primes.push(n);
        }
    }
    Ok(primes.len())
}

const CLIENT_GONE: ErrorKind = ErrorKind::ConnectionAborted;

/// Reads what the client sends until it hangs up, or until `shut` says that it was not the client.
///
/// A client that only stops to send cannot be told from one that hangs up. What it has sent before is
/// answered; what waits for its context is not.
fn read_chunks(
    mut stream: &TcpStream,
    chunks: Sender<Vec<u8>>,
    shut: &AtomicBool,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Ok(length) if length > 0 => {
                if chunks.send(chunk[..length].to_vec()).is_err() {
                    return Ok(()); // there will be no more answers
                }
            }
            _ if shut.load(Ordering::Relaxed) => return Ok(()),
            _ => return Err(io::Error::new(CLIENT_GONE, "client went away")),
        }
    }
}

/// Shuts a socket down in any case, so that the other of the two ends as well.
struct HangUp<'a>(&'a TcpStream);

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The half of a connection that answers.
struct Connection<'a> {
    server: &'a Server,
    work: &'a Context,
    client: &'a Context,
    stream: &'a Arc<TcpStream>,
    chunks: Receiver<Vec<u8>>,
    /// What has been read, and is not part of a request yet.
    input: Vec<u8>,
    /// Whether we have shut the socket for reading.
    shut: &'a AtomicBool,
}

impl Connection<'_> {
    fn serve(mut self) {
        let mut is_new = true;
        while !self.input.is_empty() || self.wait(is_new) {
            is_new = false;
            let request = match self.read_request() {
                Ok(request) => request,
                Err(refusal) => {
                    log(&format_args!("- - - {refusal}"));
                    let _ = self.send(&refusal.bytes(true, None));
                    break;
                }
            };
            let Some(response) = self.answer(&request) else {
                return; // nobody is there
            };
            // A connection that waits for its next request must not keep others waiting.
            let close = !request.keep_alive
                || self.server.stopping.err().is_some()
                || self.server.is_crowded();
            let sent = self.send(&response.bytes(close, Some(&request)));
            if sent.is_err() || close {
                break;
            }
        }
        // As for connections that were refused.
        let _ = self.stream.shutdown(Shutdown::Write);
        let (ctx, _cancel) = self.work.with_timeout(LINGER);
        ctx.iter(&self.chunks).for_each(drop);
    }

    /// Waits for a request. False: there will be none.
    fn wait(&mut self, is_new: bool) -> bool {
        let server = self.server;
        // Who has just connected is about to send, and may have a little time even at the end.
        let (limit, last, hurry) = if is_new {
            (server.options.transfer, LINGER, &never())
        } else {
            (server.options.idle, Duration::ZERO, &server.hurry)
        };
        let (ctx, _cancel) = server.stopping.with_timeout(limit);
        let chunk = loop {
            select_biased! {
                recv(self.chunks) -> chunk => break chunk.ok(),
                recv(ctx.done()) -> _ => {}
                recv(hurry) -> _ => if !server.is_crowded() { continue },
            }
            let (ctx, _cancel) = self.work.with_timeout(last);
            let chunk = ctx.recv(&self.chunks).or_else(|_| {
                // Enough; but what has come by now is answered.
                self.shut.store(true, Ordering::Relaxed);
                let _ = self.stream.shutdown(Shutdown::Read);
                self.work.recv(&self.chunks)
            });
            break chunk.ok();
        };
        self.input.extend(chunk.iter().flatten());
        chunk.is_some()
    }

    /// Reads the rest of a request, or says why it is refused.
    fn read_request(&mut self) -> Result<Request, Response> {
        let (ctx, cancel) = self.work.with_timeout(self.server.options.transfer);
        let _cancel_on_exit = cancel.drop_guard();
        let (mut request, head, body) = loop {
            match parse_head(&self.input)? {
                Some(parsed) => break parsed,
                None => self.read_more(&ctx)?,
            }
        };
        if request.expects_continue && self.input.len() == head && body > 0 {
            let _ = self.send(b"HTTP/1.1 100 Continue\r\n\r\n"); // it will fail again
        }
        while self.input.len() < head + body {
            self.read_more(&ctx)?;
        }
        request.body = self.input[head..head + body].to_vec();
        self.input.drain(..head + body);
        Ok(request)
    }

    fn read_more(&mut self, ctx: &Context) -> Result<(), Response> {
        let chunk = ctx.recv(&self.chunks).map_err(|err| match err {
            RecvError::Disconnected => Response::text(400, "the request breaks off"),
            RecvError::Done(Error::DeadlineExceeded) => {
                Response::text(408, "the request takes too long to come")
            }
            RecvError::Done(Error::Canceled) => Response::unavailable("the server is ending"),
        })?;
        self.input.extend(chunk);
        Ok(())
    }

    /// Has a request handled within its time. `None`: there is nobody to answer to.
    fn answer(&self, request: &Request) -> Option<Response> {
        let start = Instant::now();
        let id = request.id.clone();
        let ctx = self
            .client
            .with_value(RequestId, id.unwrap_or_else(|| self.server.next_id()));
        let limit = self.server.options.timeout;
        let limit = request.timeout.map_or(limit, |timeout| limit.min(timeout));
        let cause = format!("not done in {}", humantime::format_duration(limit));
        let (ctx, cancel) = ctx.with_timeout_cause(limit, cause);
        let _cancel_on_exit = cancel.drop_guard();

        let id = ctx.value(&RequestId).map_or("", |id| id);
        let name = format!("{id} {} {}", request.method, request.target);
        if self.server.options.verbose {
            let limit = humantime::format_duration(limit);
            log(&format_args!("{name} begins, within {limit}"));
        }
        let cause = || {
            ctx.cause()
                .map_or_else(String::new, |cause| cause.to_string())
        };
        let handled = catch_unwind(AssertUnwindSafe(|| self.server.handle(&ctx, request)));
        let response = match handled {
            Ok(Ok(response)) => response,
            Ok(Err(Error::DeadlineExceeded)) => Response::text(504, cause()),
            Ok(Err(Error::Canceled)) if self.work.err().is_some() => Response::unavailable(cause()),
            Ok(Err(Error::Canceled)) => Response::text(499, cause()), // in the log only
            Err(_) => Response::text(500, "the handler panicked"),
        };
        let (status, took) = (response.status, start.elapsed());
        match ctx.cause() {
            Some(cause) => log(&format_args!("{name} {status} {took:.1?}: {cause}")),
            None => log(&format_args!("{name} {status} {took:.1?}")),
        }
        (status != 499).then(|| response.with("X-Request-Id", id))
    }

    /// Sends an answer. A client that does not read it cannot hold the worker for ever.
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        if self.work.err().is_some() {
            last_words(self.stream, bytes);
            return Ok(());
        }
        let (ctx, _cancel) = self.work.with_timeout(self.server.options.transfer);
        let hang_up = hang_up_after(&ctx, self.stream);
        let sent = (&**self.stream).write_all(bytes);
        hang_up.stop_and_wait();
        sent
    }
}

/// The id of a request: as a value of its context, known wherever that is.
#[derive(PartialEq, Eq)]
struct RequestId;

impl Key for RequestId {
    type Value = String;
}

struct Request {
    method: String,
    /// The path and the query.
    target: String,
    id: Option<String>,
    timeout: Option<Duration>,
    keep_alive: bool,
    expects_continue: bool,
    body: Vec<u8>,
}

/// The head of a request, with its length and that of the body. `None`: there has to be more of it.
fn parse_head(bytes: &[u8]) -> Result<Option<(Request, usize, usize)>, Response> {
    let bad = |why: &dyn Display| Response::text(400, format_args!("bad request: {why}"));
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Partial) if bytes.len() <= MAX_HEAD => return Ok(None),
        Ok(_) => return Err(Response::text(431, "the head is too long")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Response::text(431, "too many headers"))
        }
        Err(httparse::Error::Version) if names_a_version(bytes) => {
            return Err(Response::text(505, "only HTTP/1.0 and 1.1"));
        }
        Err(err) => return Err(bad(&err)),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(bad(&"no request line"));
    };
    let headers = Headers(parsed.headers);
    if minor == 1 && headers.all("Host").count() != 1 {
        return Err(bad(&"there has to be one header Host"));
    }
    let body = body_length(&headers, minor)?;
    let timeout = match headers.all("X-Timeout").next().map(parse_timeout) {
        Some(None) => return Err(bad(&"X-Timeout")),
        timeout => timeout.flatten(),
    };
    let expects_continue = headers.all("Expect").next().is_some();
    if !headers
        .all("Expect")
        .all(|it| it.eq_ignore_ascii_case("100-continue"))
    {
        return Err(Response::text(
            417,
            "cannot do what the header Expect wants",
        ));
    }
    let mut options = headers.all("Connection").flat_map(|it| it.split(','));
    let closes = options.any(|option| option.trim().eq_ignore_ascii_case("close"));
    let request = Request {
        method: method.into(),
        target: path_and_query(target).into(),
        id: headers
            .all("X-Request-Id")
            .find(|id| is_id(id))
            .map(String::from),
        timeout,
        keep_alive: minor == 1 && !closes,
        expects_continue: minor == 1 && expects_continue,
        body: Vec::new(),
    };
    Ok(Some((request, head, body)))
}

/// Where two could understand it in two ways, there is no answer but no: what one takes for a body,
/// the other may take for a request.
fn body_length(headers: &Headers<'_>, minor: u8) -> Result<usize, Response> {
    let lengths: Vec<_> = headers.all("Content-Length").collect();
    let codings: Vec<_> = headers.all("Transfer-Encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(0),
        ([length], []) if !length.is_empty() && length.bytes().all(|it| it.is_ascii_digit()) => {
            let length = length.parse().ok().filter(|&length| length <= MAX_BODY);
            length.ok_or_else(|| Response::text(413, format_args!("send {MAX_BODY} bytes at most")))
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case("chunked") => {
            Err(Response::text(411, "tell the length of the body"))
        }
        ([], _) if minor == 1 => Err(Response::text(501, "unknown transfer coding")),
        _ => Err(Response::text(400, "bad request: how long is the body?")),
    }
}

/// Whether a request line ends with a version of HTTP, if not one of ours.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|&byte| byte == b'\r' || byte == b'\n')
        .find(|line| !line.is_empty());
    let version = line.and_then(|line| line.rsplit(|&byte| byte == b' ').next());
    matches!(version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Without the server's own name, which a client may put in front.
fn path_and_query(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            rest.find('/').map_or("/", |path| &rest[path..])
        }
        _ => target,
    }
}

fn is_id(id: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&id.len()) && id.bytes().all(is_fine)
}

/// A time as gRPC writes it: at most eight digits, and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|it: char| !it.is_ascii_digit());
    let unit = &text[digits.len()..];
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// In the smallest unit that does, rounded down.
fn format_timeout(timeout: Duration) -> String {
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (timeout.as_secs().into(), 'S'),
    ];
    let fitting = units.into_iter().find(|(number, _)| *number < 100_000_000);
    let (number, unit) = fitting.unwrap_or((99_999_999, 'S'));
    format!("{number}{unit}")
}

fn parameter(query: &str, name: &str) -> Option<u64> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name)?.1.parse().ok()
}

struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    /// All values under a name. What is no text is empty.
    fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        let found = self
            .0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| std::str::from_utf8(header.value).unwrap_or(""))
    }
}

struct Response {
    status: u16,
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
}

impl Response {
    fn new(status: u16, body: Vec<u8>) -> Response {
        Response {
            status,
            body,
            headers: Vec::new(),
        }
    }

    fn text(status: u16, text: impl Display) -> Response {
        let response = Response::new(status, format!("{text}\n").into());
        response.with("Content-Type", "text/plain; charset=utf-8")
    }

    fn unavailable(why: impl Display) -> Response {
        Response::text(503, why).with("Retry-After", "1")
    }

    fn with(mut self, name: &'static str, value: &str) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// As it is sent, `close` if it is the last on its connection.
    fn bytes(&self, close: bool, request: Option<&Request>) -> Vec<u8> {
        let (status, reason) = (self.status, reason(self.status));
        let date = httpdate::fmt_http_date(SystemTime::now());
        let length = self.body.len();
        let mut head =
            format!("HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Length: {length}\r\n");
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if request.map_or(true, |request| request.method != "HEAD") {
            bytes.extend(&self.body);
        }
        bytes
    }
}

/// For the log.
impl Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.body);
        write!(f, "{} {}", self.status, text.trim_end())
    }
}

/// What the upstream server has answered, if that is all there.
fn parse_answer(bytes: &[u8]) -> Option<Response> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let Ok(Status::Complete(head)) = parsed.parse(bytes) else {
        return None;
    };
    let headers = Headers(parsed.headers);
    let length = headers.all("Content-Length").next()?.parse().ok();
    let body = bytes[head..].to_vec();
    let status = parsed.code.filter(|code| (200..600).contains(code))?;
    (length == Some(body.len())).then(|| Response::new(status, body))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

fn explain(what: &str, address: &SocketAddr, err: io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{what} {address}: {err}"))
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line in one piece, so that it does not get mixed up with those of others.
fn log(line: &dyn Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

struct Options {
    listen: SocketAddr,
    upstream: Option<SocketAddr>,
    workers: usize,
    queue: usize,
    timeout: Duration,
    transfer: Duration,
    idle: Duration,
    grace: Duration,
    verbose: bool,
}

impl Options {
    /// `None` is a call for help.
    fn parse() -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            upstream: None,
            workers: 64,
            queue: 256,
            timeout: Duration::from_secs(30),
            transfer: Duration::from_secs(10),
            idle: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            verbose: false,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("listen") => options.listen = args.value()?.parse()?,
                Long("upstream") => options.upstream = Some(args.value()?.parse()?),
                Long("workers") => options.workers = args.value()?.parse::<NonZeroUsize>()?.get(),
                Long("queue") => options.queue = args.value()?.parse()?,
                Long("timeout") => options.timeout = time(&mut args)?,
                Long("transfer") => options.transfer = time(&mut args)?,
                Long("idle") => options.idle = time(&mut args)?,
                Long("grace") => options.grace = time(&mut args)?,
                Long("verbose") => options.verbose = true,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn time(args: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    use lexopt::prelude::*;
    args.value()?.parse_with(humantime::parse_duration)
}
