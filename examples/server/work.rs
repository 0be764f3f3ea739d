//! Starts the server, and the workers: they call a handler for each request and write its answer.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{unbounded, Receiver, Sender};
use go_context::{signal::NotifyContext, Context, Error};

use crate::front::{wake, Answered, Client, Front, Job, RequestId, BACKLOG};
use crate::http::{format_timeout, parameter, parse_answer, Request, Response, MAX_BODY};
use crate::options::{Options, HELP};

/// The greatest length of an answer of the upstream server.
const MAX_ANSWER: usize = 2 * MAX_BODY;
/// How long connecting to the upstream server may take. A hang-up does not interrupt it.
const CONNECT: Duration = Duration::from_secs(3);

pub(crate) fn main() -> ExitCode {
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

/// Serves until a signal arrives, and drains. Returns whether all requests were answered.
fn serve(options: Options) -> io::Result<bool> {
    // Once `stopping` is done the signals have their default effect, so a second Ctrl-C kills.
    let (stopping, _stop) = NotifyContext::new().start(&Context::background())?;
    let (work, cut) = Context::background().with_cancel_cause();
    let work = work.named("work");
    let listener = listen(options.listen)?;
    print(&format!("listening on http://{}\n", listener.local_addr()?))?;

    let (jobs_in, jobs) = unbounded();
    let (answered_in, answered) = unbounded();
    let (to_front, woken) = UnixStream::pair()?;
    to_front.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let server = Server {
        options,
        stopping,
        work: work.clone(),
        answered: answered_in,
        front: Arc::new(to_front),
    };
    work.scope(|s| {
        for _ in 0..server.options.workers {
            let jobs = jobs.clone();
            s.spawn(|_| server.work(jobs));
        }
        // A worker that panics stops the server too.
        let (open, _cancel) = server.stopping.merge(s.context());
        let to_front = server.front.clone();
        let _wakes = open.after_func(move || wake(&to_front));
        let front = Front::new(&server.options, &work, jobs_in, answered, woken, listener);
        let drained = front.run(&open); // and drops `jobs_in`, which ends the workers
        if !matches!(drained, Ok(true)) {
            cut.cancel("the time to drain is over");
        }
        drained
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        // std sets a limit of 128 connections that wait to be accepted, which a burst exceeds.
        rustix::net::listen(&listener, BACKLOG.into())?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|err| explain("cannot listen on", &address, err))
}

/// What all workers share.
struct Server {
    options: Options,
    stopping: Context,
    work: Context,
    answered: Sender<Answered>,
    front: Arc<UnixStream>,
}

impl Server {
    /// Answers requests until there are no more. When `work` is done, those that are left are
    /// answered quickly, because their contexts are done as well.
    fn work(&self, jobs: Receiver<Job>) -> io::Result<()> {
        for job in jobs {
            let token = job.token;
            let keep_alive = self.answer(job);
            let _ = self.answered.send(Answered { token, keep_alive });
            wake(&self.front);
        }
        Ok(())
    }

    /// Answers a request. Returns whether the connection can be used for another one.
    fn answer(&self, job: Job) -> bool {
        let Job { ctx, request, .. } = &job;
        let start = Instant::now();
        let id = ctx.value(&RequestId).map_or("", |id| id);
        let name = format!("{id} {} {}", request.method, request.target);
        if self.options.verbose {
            let limit = humantime::format_duration(job.limit);
            log(&format_args!("{name} begins, within {limit}"));
        }
        let cause = || {
            let cause = ctx.cause();
            cause.map_or_else(String::new, |cause| cause.to_string())
        };
        let handled = catch_unwind(AssertUnwindSafe(|| self.handle(ctx, request)));
        let response = match handled {
            Ok(Ok(response)) => response,
            Ok(Err(Error::DeadlineExceeded)) => Response::text(504, cause()),
            Ok(Err(Error::Canceled)) if self.work.err().is_some() => Response::unavailable(cause()),
            Ok(Err(Error::Canceled)) => Response::text(499, cause()), // only for the log
            Err(_) => Response::text(500, "the handler panicked"),
        };
        let (status, took) = (response.status, start.elapsed());
        match ctx.explain() {
            Some(why) => log(&format_args!("{name} {status} {took:.1?}: {why}")),
            None => log(&format_args!("{name} {status} {took:.1?}")),
        }
        if status == 499 {
            return false;
        }
        let close = !request.keep_alive || self.stopping.err().is_some();
        let bytes = response
            .with("X-Request-Id", id)
            .bytes(close, Some(request));
        self.send(&job.client, &bytes).is_ok() && !close
    }

    /// Sends an answer, within the time for that, so that a client that does not read it does not
    /// occupy the worker for ever.
    fn send(&self, client: &Arc<Client>, bytes: &[u8]) -> io::Result<()> {
        let bytes = &bytes[client.begin_answer()..];
        if self.work.err().is_some() {
            client.send_now(bytes);
            return Ok(());
        }
        let (ctx, _cancel) = self.work.with_timeout(self.options.transfer);
        let shut = client.clone();
        ctx.interruptible(
            move || drop(shut.stream.shutdown(Shutdown::Both)),
            || (&client.stream).write_all(bytes),
        )
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
            _ => return Ok(Response::text(404, "not found")),
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
                None => Ok(Response::text(400, "missing parameter ms=N")),
            },
            "/primes" => match parameter(query, "below") {
                Some(below) => Ok(Response::text(200, count_primes(ctx, below)?)),
                None => Ok(Response::text(400, "missing parameter below=N")),
            },
            "/panic" => panic!("requested by the client"),
            _ => self.relay(ctx, &request.target["/relay".len()..]),
        }
    }

    fn relay(&self, ctx: &Context, target: &str) -> Result<Response, Error> {
        let Some(upstream) = self.options.upstream else {
            return Ok(Response::text(502, "no upstream server"));
        };
        call(ctx, upstream, target).or_else(|err| {
            if ctx.remaining() == Some(Duration::ZERO) {
                return Err(ctx.wait()); // the timeout of `connect` may be the first to expire
            }
            ctx.check()?;
            let err = explain("upstream", &upstream, err);
            Ok(Response::text(502, err))
        })
    }
}

/// Calls the upstream server. If the context is done meanwhile, its connection is shut down, and the
/// call fails.
fn call(ctx: &Context, upstream: SocketAddr, target: &str) -> io::Result<Response> {
    ctx.check()?;
    let remaining = ctx.remaining().unwrap_or(Duration::MAX);
    let limit = remaining.clamp(Duration::from_nanos(1), CONNECT);
    let stream = Arc::new(TcpStream::connect_timeout(&upstream, limit)?);
    let shut = stream.clone();
    ctx.interruptible(
        move || drop(shut.shutdown(Shutdown::Both)),
        || ask(ctx, &stream, upstream, target),
    )
}

fn ask(
    ctx: &Context,
    mut stream: &TcpStream,
    host: SocketAddr,
    target: &str,
) -> io::Result<Response> {
    let id = ctx.value(&RequestId).map_or("", |id| id);
    // A duration, because the clocks of the two machines may differ.
    let timeout = format_timeout(ctx.remaining().unwrap_or(Duration::MAX));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {id}\r\nX-Timeout: {timeout}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER as u64).read_to_end(&mut bytes)?;
    parse_answer(&bytes).ok_or_else(|| io::Error::other("invalid answer"))
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

fn explain(what: &str, address: &SocketAddr, err: io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{what} {address}: {err}"))
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a line at once, so that lines of several threads do not mix.
pub(crate) fn log(line: &dyn Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
