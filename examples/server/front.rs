//! The thread that polls all sockets: accepts connections, reads requests and notices hang-ups.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{Receiver, Sender};
use go_context::{CancelCauseFunc, Context, Key};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::{recv, send, RecvFlags, SendFlags};

use crate::http::{parse_head, Request, Response, MAX_BODY, MAX_HEAD, START};
use crate::options::Options;
use crate::work::log;

/// The number of bytes read from a socket at once.
const CHUNK: usize = 16 * 1024;
/// The number of bytes that a connection stores: the largest request.
const MAX_INPUT: usize = MAX_HEAD + MAX_BODY;
/// The number of connections accepted at once.
pub(crate) const BACKLOG: u16 = 1024;
/// How long to wait before accepting again if no file descriptors are left.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a connection stays open after its last answer, so that the client can read it and hang
/// up. Closing a socket with unread input resets the connection, which can discard the answer.
const LINGER: Duration = Duration::from_secs(1);

/// A request for a worker.
pub(crate) struct Job {
    pub(crate) token: u64,
    pub(crate) client: Arc<Client>,
    pub(crate) request: Request,
    pub(crate) limit: Duration,
    /// Done when the client hangs up, the time is over or the server stops working.
    pub(crate) ctx: Context,
}

/// The id of a request, stored in its context.
#[derive(PartialEq, Eq)]
pub(crate) struct RequestId;

impl Key for RequestId {
    type Value = String;
}

/// A report of a worker: a request has been answered.
pub(crate) struct Answered {
    pub(crate) token: u64,
    pub(crate) keep_alive: bool,
}

/// What the front and a worker share of a connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// The number of bytes of the answer that were sent ahead. `None` unless a request is being
    /// handled and its answer has not begun.
    ahead: Mutex<Option<usize>>,
}

impl Client {
    /// Sends what fits into the socket without blocking, and returns how many bytes that was. Some
    /// hundred bytes always fit unless the client does not read its answers.
    pub(crate) fn send_now(&self, bytes: &[u8]) -> usize {
        send(&self.stream, bytes, SendFlags::DONTWAIT).unwrap_or(0)
    }

    /// Begins the answer. Returns the number of its bytes that have been sent already.
    pub(crate) fn begin_answer(&self) -> usize {
        self.set_ahead(None).unwrap_or(0)
    }

    /// Sends the beginning of the answer, to learn whether the client is still there.
    fn send_ahead(&self) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if *ahead == Some(0) {
            *ahead = Some(self.send_now(START.as_bytes()));
        }
    }

    fn set_ahead(&self, new: Option<usize>) -> Option<usize> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *ahead, new)
    }
}

struct Connection {
    client: Arc<Client>,
    peer: SocketAddr,
    state: State,
    /// What has been read and is not part of a request yet.
    input: Vec<u8>,
    /// A request whose body is incomplete, with the lengths of its head and body.
    head: Option<(Request, usize, usize)>,
    /// The client sends no more: reads return 0.
    ended: bool,
}

enum State {
    /// Waits for the first byte of a request.
    Idle { until: Instant, is_new: bool },
    /// Waits for the rest of a request.
    Reading { until: Instant },
    /// A worker has the request.
    Busy { cancel: CancelCauseFunc },
    /// The same, but the client has hung up.
    Gone,
    /// Everything has been sent; waits for the client to hang up.
    Closing { until: Instant },
}

impl Connection {
    /// Returns the events to poll for, or `None` to ignore the socket. A reset is always reported.
    fn events(&self) -> Option<PollFlags> {
        match self.state {
            State::Gone => None,
            State::Busy { .. } if self.ended || self.input.len() >= MAX_INPUT => {
                Some(PollFlags::empty())
            }
            _ => Some(PollFlags::IN),
        }
    }

    /// Returns whether closing it loses no request.
    fn is_spare(&self) -> bool {
        matches!(
            self.state,
            State::Idle { is_new: false, .. } | State::Closing { .. }
        )
    }

    fn until(&self) -> Option<Instant> {
        match self.state {
            State::Idle { until, .. } | State::Reading { until } | State::Closing { until } => {
                Some(until)
            }
            State::Busy { .. } | State::Gone => None,
        }
    }

    /// Reads once, if there is anything to read. Returns whether the connection is usable.
    fn read(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        match recv(&self.client.stream, &mut chunk, RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.ended = true,
            Ok(_) if matches!(self.state, State::Closing { .. }) => {}
            Ok((length, _)) => self.input.extend_from_slice(&chunk[..length]),
            Err(err) => {
                let kind = io::Error::from(err).kind();
                return matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted);
            }
        }
        true
    }

    /// Takes a request from the input. `None` if it is incomplete.
    fn next_request(&mut self) -> Result<Option<Request>, Response> {
        if self.head.is_none() {
            self.head = parse_head(&self.input)?;
            if let Some((request, head, body)) = &self.head {
                if request.expects_continue && self.input.len() == *head && *body > 0 {
                    self.client.send_now(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
            }
        }
        match self.head.take() {
            Some((mut request, head, body)) if self.input.len() >= head + body => {
                request.body = self.input[head..head + body].to_vec();
                self.input.drain(..head + body);
                Ok(Some(request))
            }
            incomplete => {
                self.head = incomplete;
                Ok(None)
            }
        }
    }
}

pub(crate) struct Front<'a> {
    options: &'a Options,
    work: &'a Context,
    jobs: Sender<Job>,
    answered: Receiver<Answered>,
    /// Readable when there is something in `answered`, or the server is to stop.
    woken: UnixStream,
    /// `None` once the server drains.
    listener: Option<TcpListener>,
    /// When to accept again.
    paused: Option<Instant>,
    connections: HashMap<u64, Connection>,
    /// The number of requests in `jobs` and with workers.
    busy: usize,
    /// The ids of requests consist of `run`, which differs between runs of the server, and a count.
    run: u32,
    count: u64,
}

impl<'a> Front<'a> {
    pub(crate) fn new(
        options: &'a Options,
        work: &'a Context,
        jobs: Sender<Job>,
        answered: Receiver<Answered>,
        woken: UnixStream,
        listener: TcpListener,
    ) -> Front<'a> {
        Front {
            options,
            work,
            jobs,
            answered,
            woken,
            listener: Some(listener),
            paused: None,
            connections: HashMap::new(),
            busy: 0,
            run: RandomState::new().hash_one(Instant::now()) as u32,
            count: 0,
        }
    }

    /// Runs until `open` is done and the connections have been drained. Returns whether every
    /// request was answered within the time for that.
    pub(crate) fn run(mut self, open: &Context) -> io::Result<bool> {
        let mut end = None;
        loop {
            if end.is_none() && open.err().is_some() {
                end = Some(Instant::now() + self.options.grace);
                self.drain();
            }
            if end.is_some() && self.connections.is_empty() {
                return Ok(true);
            }
            for (token, flags) in self.wait(end)? {
                self.read(token, flags);
            }
            let answered = self.answered.clone();
            for Answered { token, keep_alive } in answered.try_iter() {
                self.go_on(token, keep_alive);
            }
            self.accept();
            self.expire();
            if end.is_some_and(|end| end <= Instant::now()) {
                return Ok(self.cut());
            }
        }
    }

    /// Waits until something can be done. Returns the connections that are ready.
    fn wait(&self, end: Option<Instant>) -> io::Result<Vec<(u64, PollFlags)>> {
        let untils = self.connections.values().filter_map(Connection::until);
        let first = untils.chain(self.paused).chain(end).min();
        let timeout = first.map(|first| {
            let left = first.saturating_duration_since(Instant::now());
            Timespec::try_from(left).expect("a time from the options")
        });

        let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN)];
        let mut tokens = Vec::new();
        for (token, connection) in &self.connections {
            if let Some(events) = connection.events() {
                fds.push(PollFd::new(&connection.client.stream, events));
                tokens.push(*token);
            }
        }
        if let (Some(listener), None) = (&self.listener, self.paused) {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        match poll(&mut fds, timeout.as_ref()) {
            Err(err) if err != rustix::io::Errno::INTR => return Err(err.into()),
            _ => {}
        }
        // The bytes that woke this thread mean nothing. They are read before `answered` is.
        let _ = (&self.woken).read(&mut [0; CHUNK]);
        let ready = tokens.into_iter().zip(fds[1..].iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// Reads from a connection, and acts on it.
    fn read(&mut self, token: u64, flags: PollFlags) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let is_reset = flags.intersects(PollFlags::HUP | PollFlags::ERR);
        let is_usable = connection.read();
        match &connection.state {
            State::Busy { cancel } if is_reset || !is_usable => {
                cancel.cancel("client went away");
                connection.state = State::Gone;
            }
            _ if !is_usable => drop(self.connections.remove(&token)),
            _ => self.act(token),
        }
    }

    /// Does what a connection is ready for, after something has been read or answered.
    fn act(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match connection.state {
            State::Busy { .. } if connection.ended => connection.client.send_ahead(),
            State::Busy { .. } | State::Gone => {}
            State::Idle { .. } | State::Reading { .. } if !connection.input.is_empty() => {
                if let State::Idle { .. } = connection.state {
                    let until = Instant::now() + self.options.transfer;
                    connection.state = State::Reading { until };
                }
                match connection.next_request() {
                    Ok(Some(request)) => self.dispatch(token, request),
                    Ok(None) if connection.ended => {
                        self.refuse(token, &Response::text(400, "the request is incomplete"));
                    }
                    Ok(None) => {}
                    Err(refusal) => self.refuse(token, &refusal),
                }
            }
            _ if connection.ended => drop(self.connections.remove(&token)),
            _ => {}
        }
    }

    /// Hands a request to the workers, in a context of its own.
    fn dispatch(&mut self, token: u64, request: Request) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if self.busy >= self.options.workers + self.options.queue {
            log(&format_args!("refused {}", connection.peer));
            return self.refuse(token, &Response::unavailable("too busy"));
        }
        let (client, cancel) = self.work.with_cancel_cause();
        let id = request.id.clone().unwrap_or_else(|| {
            self.count += 1;
            format!("{:08x}-{}", self.run, self.count)
        });
        let limit = self.options.timeout;
        let limit = request.timeout.map_or(limit, |timeout| limit.min(timeout));
        let cause = format!("not done in {}", humantime::format_duration(limit));
        let client = client.named("client").with_value(RequestId, id.clone());
        let (ctx, _) = client.with_timeout_cause(limit, cause);

        connection.state = State::Busy { cancel };
        connection.client.set_ahead(Some(0));
        if connection.ended {
            connection.client.send_ahead();
        }
        if self.options.verbose && self.busy >= self.options.workers {
            log(&format_args!("{id} waits for a worker"));
        }
        self.busy += 1;
        // It is unbounded because `busy` is limited. The workers end after this thread.
        let _ = self.jobs.send(Job {
            token,
            client: connection.client.clone(),
            request,
            limit,
            ctx: ctx.named("request"),
        });
    }

    /// Waits for the next request of a connection, or closes it.
    fn go_on(&mut self, token: u64, keep_alive: bool) {
        self.busy -= 1;
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match connection.state {
            State::Gone => drop(self.connections.remove(&token)),
            _ if !keep_alive => self.close(token),
            _ => {
                let idle = match self.listener {
                    Some(_) => self.options.idle,
                    None => Duration::ZERO, // draining
                };
                let until = Instant::now() + idle;
                connection.state = State::Idle {
                    until,
                    is_new: false,
                };
                self.act(token);
            }
        }
    }

    /// Sends an answer that needs no worker, and closes the connection.
    fn refuse(&mut self, token: u64, response: &Response) {
        log(&format_args!("- - - {response}"));
        if let Some(connection) = self.connections.get(&token) {
            connection.client.send_now(&response.bytes(true, None));
        }
        self.close(token);
    }

    /// Closes the sending side of a connection, and the rest when the client has hung up.
    fn close(&mut self, token: u64) {
        if let Some(connection) = self.connections.get_mut(&token) {
            let _ = connection.client.stream.shutdown(Shutdown::Write);
            let until = Instant::now() + LINGER;
            connection.state = State::Closing { until };
            if connection.ended {
                self.connections.remove(&token);
            }
        }
    }

    fn accept(&mut self) {
        let now = Instant::now();
        if self.paused.is_some_and(|until| now < until) {
            return;
        }
        self.paused = None;
        for _ in 0..BACKLOG {
            let Some(listener) = &self.listener else {
                return;
            };
            match listener.accept() {
                Ok((stream, peer)) => self.insert(stream, peer),
                Err(err) if err.kind() == ErrorKind::WouldBlock => return,
                Err(err) if err.kind() == ErrorKind::ConnectionAborted => {}
                Err(err) => {
                    log(&format_args!("server: cannot accept a connection: {err}"));
                    // Probably out of file descriptors: connections that are not needed make room.
                    self.connections
                        .retain(|_, connection| !connection.is_spare());
                    self.paused = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    fn insert(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.options.verbose {
            log(&format_args!("accepted {peer}"));
        }
        let _ = stream.set_nonblocking(false); // some systems inherit it from the listener
        let _ = stream.set_nodelay(true);
        let client = Arc::new(Client {
            stream,
            ahead: Mutex::new(None),
        });
        let until = Instant::now() + self.options.transfer;
        let connection = Connection {
            client,
            peer,
            state: State::Idle {
                until,
                is_new: true,
            },
            input: Vec::new(),
            head: None,
            ended: false,
        };
        self.count += 1;
        self.connections.insert(self.count, connection);
    }

    /// Ends connections that have waited for too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let expired = |(token, connection): (&u64, &Connection)| {
            connection
                .until()
                .filter(|until| *until <= now)
                .map(|_| *token)
        };
        let expired: Vec<_> = self.connections.iter().filter_map(expired).collect();
        for token in expired {
            if let State::Reading { .. } = self.connections[&token].state {
                self.refuse(token, &Response::text(408, "the request takes too long"));
            } else {
                self.connections.remove(&token);
            }
        }
    }

    /// Begins to drain: accepts what waits in the kernel, because the clients see those connections
    /// as accepted, and then no more. Idle connections end unless a request has arrived already.
    fn drain(&mut self) {
        self.paused = None;
        self.accept();
        self.listener = None; // from now on the kernel refuses connections
        let now = Instant::now();
        for connection in self.connections.values_mut() {
            if let State::Idle { until, is_new } = &mut connection.state {
                // A client that has just connected is about to send its request.
                *until = now + if *is_new { LINGER } else { Duration::ZERO };
            }
        }
    }

    /// Gives up on the requests that are incomplete or unanswered. Returns whether there are none.
    fn cut(&mut self) -> bool {
        let mut all_answered = true;
        let tokens: Vec<_> = self.connections.keys().copied().collect();
        for token in tokens {
            match self.connections[&token].state {
                State::Idle { .. } | State::Closing { .. } => {}
                State::Busy { .. } | State::Gone => all_answered = false,
                State::Reading { .. } => {
                    all_answered = false;
                    self.refuse(token, &Response::unavailable("the server is ending"));
                }
            }
        }
        all_answered
    }
}

/// Wakes the front.
pub(crate) fn wake(mut front: &UnixStream) {
    let _ = front.write(&[0]); // if it is full, the front has yet to read
}
