//! Runs the example `server` and drives it from outside: with `curl`, with malformed bytes, and with
//! signals.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{getrlimit, kill_process, setrlimit, Pid, Resource, Rlimit, Signal};
use support::process;
use support::LIMIT;

use crate::place_in;

/// A request that takes ten minutes, far longer than any test runs.
const SLEEP: &str = "/sleep?ms=600000";

/// The files in which the server derives and cancels contexts.
const FRONT: &str = "examples/server/front.rs";
const WORK: &str = "examples/server/work.rs";

/// A server of its own for each test.
struct Server {
    child: Child,
    address: SocketAddr,
    log: Receiver<String>,
    /// The log so far.
    seen: Vec<String>,
}

impl Server {
    fn start(options: &[&str]) -> Server {
        let mut command = server();
        command.args(["--listen", "127.0.0.1:0", "--verbose"]);
        command.args(options).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(&mut command);
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        let address = first.trim().strip_prefix("listening on http://");
        let address = address.and_then(|address| address.parse().ok());
        let (line_in, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = line_in.send(line);
            }
        });
        Server {
            child,
            address: address.unwrap_or_else(|| panic!("no address: {first}")),
            log,
            seen: Vec::new(),
        }
    }

    fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Waits until that many lines of the log have all these parts. Returns the last of them.
    #[track_caller]
    fn wait_for(&mut self, count: usize, parts: &[&str]) -> String {
        let fits = |line: &&String| parts.iter().all(|part| line.contains(part));
        let start = Instant::now();
        loop {
            let mut found = self.seen.iter().filter(fits);
            if let Some(line) = found.nth(count - 1) {
                return line.clone();
            }
            let left = LIMIT.saturating_sub(start.elapsed());
            match self.log.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("not {count} times {parts:?} in {:#?}", self.seen),
            }
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Returns what the server sends back for these bytes until it closes the connection.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_all(&mut stream)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Whether the process has been stopped by a signal, to be continued.
    #[cfg(target_os = "linux")]
    fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.contains(") T ")
    }

    /// Waits until the process has ended.
    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "it does not end: {:#?}", self.seen);
            thread::sleep(Duration::from_millis(1)); // as long as it takes, and no longer than LIMIT
        }
    }

    /// How many files and threads it has.
    fn holdings(&self) -> (usize, usize) {
        let count = |what| {
            let path = format!("/proc/{}/{what}", self.child.id());
            fs::read_dir(path).unwrap().count()
        };
        (count("fd"), count("task"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example itself.
fn server() -> Command {
    let mut path = env::current_exe().unwrap();
    path.pop(); // this test's own name
    path.pop(); // deps
    path.push("examples/server");
    process::command(path)
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn curl(args: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]);
    command.args(["--write-out", "\n%{http_code}"]);
    command.args(args).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn start(command: &mut Command) -> Child {
    let started = command.spawn();
    started.unwrap_or_else(|err| panic!("{:?}: {err}", command.get_program()))
}

/// The status and the body of an answer.
#[track_caller]
fn answer(output: &Output) -> (u16, String) {
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.trim_end().to_owned())
}

#[track_caller]
fn get(args: &[&str]) -> (u16, String) {
    answer(&start(&mut curl(args)).wait_with_output().unwrap())
}

#[test]
fn server_answers() {
    let server = Server::start(&[]);
    assert_eq!(get(&[&server.url("/")]), (200, "hello".into()));
    assert_eq!(get(&[&server.url("/sleep?ms=1")]).0, 200);
    assert_eq!(get(&[&server.url("/primes?below=100")]), (200, "25".into()));
    assert_eq!(get(&[&server.url("/nothing")]).0, 404);
    assert_eq!(get(&[&server.url("/echo")]).0, 405);
    assert_eq!(get(&["--head", &server.url("/")]).0, 200);
    let body = "a body of some length ".repeat(10_000);
    let (status, echoed) = get(&["--data-binary", &body[..100_000], &server.url("/echo")]);
    assert_eq!(status, 200);
    assert_eq!(echoed, body[..100_000].trim_end());
}

#[test]
fn slow_handler_ends_at_server_deadline() {
    let mut server = Server::start(&["--timeout", "200ms"]);
    let (status, body) = get(&[&server.url(SLEEP)]);
    assert_eq!((status, &*body), (504, "not done in 200ms"));
    let line = server.wait_for(1, &["/sleep", " 504 ", "not done in 200ms"]);
    place_in(&line, "; 200ms timeout set at ", FRONT, " (\"request\"), ");

    let (status, _) = get(&[&server.url("/primes?below=1000000000000")]);
    assert_eq!(status, 504);
    server.wait_for(1, &["/primes", " 504 "]);
}

#[test]
fn request_deadline_can_only_be_earlier() {
    let server = Server::start(&["--timeout", "300ms"]);
    let sleep = server.url(SLEEP);
    let earlier = get(&["--header", "X-Timeout: 50m", &sleep]);
    assert_eq!(earlier, (504, "not done in 50ms".into()));
    let later = get(&["--header", "X-Timeout: 1H", &sleep]);
    assert_eq!(later, (504, "not done in 300ms".into()));
    assert_eq!(get(&["--header", "X-Timeout: soon", &sleep]).0, 400);
}

#[test]
fn relay_passes_deadline_and_id() {
    let mut upstream = Server::start(&["--timeout", "10m"]);
    let address = upstream.address.to_string();
    let mut server = Server::start(&["--timeout", "10m", "--upstream", &address]);
    let url = server.url(&format!("/relay{SLEEP}"));
    let given = Duration::from_secs(5 * 60);
    let id = ["--header", "X-Request-Id: passed-on"];
    let mut client = start(&mut curl(
        &[&id[..], &["--header", "X-Timeout: 5M", &url]].concat(),
    ));
    let begins = upstream.wait_for(1, &["passed-on GET /sleep", "begins, within "]);
    let limit = begins.rsplit_once("within ").unwrap().1;
    let limit = humantime::parse_duration(limit).unwrap();
    assert!(limit < given && limit > given / 2, "{limit:?}");
    client.kill().unwrap();
    client.wait().unwrap();

    let late = get(&["--header", "X-Timeout: 200m", &url]);
    assert_eq!(late.0, 504);
    server.wait_for(1, &[" GET /relay/", " 504 "]);

    assert_eq!(get(&[&server.url("/relay/")]), (200, "hello".into()));
    drop(upstream);
    assert_eq!(get(&[&server.url("/relay/")]).0, 502);
}

#[test]
fn client_disconnect_stops_work_in_both_servers() {
    let mut upstream = Server::start(&["--timeout", "10m"]);
    let address = upstream.address.to_string();
    let mut server = Server::start(&["--timeout", "10m", "--upstream", &address]);
    let url = server.url(&format!("/relay{SLEEP}"));
    let mut client = start(&mut curl(&["--header", "X-Request-Id: gone", &url]));
    upstream.wait_for(1, &["gone GET /sleep", "begins"]);
    client.kill().unwrap();
    client.wait().unwrap();
    let line = server.wait_for(1, &["gone GET /relay", " 499 ", "client went away"]);
    place_in(&line, "; cancelled at ", FRONT, ", derived at ");
    place_in(&line, ", derived at ", FRONT, " (\"client\"); 1 ");
    upstream.wait_for(1, &["gone GET /sleep", " 499 ", "client went away"]);
}

#[test]
fn drain_loses_no_accepted_request() {
    // Most of the connections wait for a worker when the signal comes.
    let mut server = Server::start(&["--workers", "4", "--queue", "100", "--grace", "10m"]);
    let url = server.url("/sleep?ms=20");
    let clients: Vec<_> = (0..40).map(|_| start(&mut curl(&[&url]))).collect();
    server.wait_for(40, &["accepted"]);
    server.signal(Signal::INT);
    for client in clients {
        let answer = answer(&client.wait_with_output().unwrap());
        assert_eq!(answer, (200, "slept for 20 ms".into()));
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn drain_does_not_wait_for_idle_connections() {
    let mut server = Server::start(&["--idle", "10m", "--grace", "10m"]);
    let mut stream = server.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    server.wait_for(1, &["GET / 200"]);
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
    let answer = read_all(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn drain_cuts_requests_after_grace() {
    let mut server = Server::start(&["--timeout", "20m", "--grace", "200ms"]);
    let client = start(&mut curl(&[&server.url(SLEEP)]));
    server.wait_for(1, &["/sleep", "begins"]);
    server.signal(Signal::INT);
    let (status, body) = answer(&client.wait_with_output().unwrap());
    assert_eq!((status, &*body), (503, "the time to drain is over"));
    let line = server.wait_for(1, &["/sleep", " 503 ", "the time to drain is over"]);
    place_in(&line, "; cancelled at ", WORK, ", derived at ");
    place_in(&line, ", derived at ", WORK, " (\"work\"); 2 ");
    assert_eq!(server.wait().code(), Some(3));
}

#[test]
fn second_signal_kills_server() {
    let mut server = Server::start(&["--timeout", "20m", "--grace", "10m"]);
    let client = start(&mut curl(&[&server.url(SLEEP)]));
    server.wait_for(1, &["/sleep", "begins"]);
    server.signal(Signal::INT);
    // It has begun to drain when it accepts no connection any more.
    let start = Instant::now();
    while TcpStream::connect(server.address).is_ok() {
        assert!(start.elapsed() < LIMIT);
        thread::yield_now();
    }
    server.signal(Signal::INT);
    assert_eq!(server.wait().signal(), Some(Signal::INT.as_raw()));
    assert!(!client.wait_with_output().unwrap().status.success());
}

#[test]
fn malformed_request_is_refused() {
    let server = Server::start(&[]);
    let long = "x".repeat(20_000);
    let many = "A: b\r\n".repeat(65);
    let host = "Host: a\r\n";
    for (request, status) in [
        ("nonsense\r\n\r\n".into(), "400"),
        ("GET\r\n\r\n".into(), "400"),
        ("GET / HTTP/1.1\r\n\r\n".into(), "400"), // whose host?
        ("GET / HTTP/2.0\r\n\r\n".into(), "505"),
        (format!("GET / HTTP/1.1\r\n{host}no colon\r\n\r\n"), "400"),
        (format!("GET /{long} HTTP/1.1\r\n{host}\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\n{host}{many}\r\n"), "431"),
        (length(host, "Content-Length: 1048577"), "413"),
        (length(host, "Content-Length: 99999999999999999999"), "413"),
        (length(host, "Content-Length: -1"), "400"),
        (
            length(host, "Content-Length: 1\r\nContent-Length: 2"),
            "400",
        ),
        (length(host, "Transfer-Encoding: chunked"), "411"),
        (length(host, "Transfer-Encoding: gzip"), "501"),
        (
            length(host, "Transfer-Encoding: chunked\r\nContent-Length: 1"),
            "400",
        ),
        (length(host, "Content-Length: 1\r\nExpect: more"), "417"),
    ] {
        // What follows must not be taken for a request.
        let follows = format!("GET /panic HTTP/1.1\r\n{host}\r\n");
        let answer = server.ask((request.clone() + &follows).as_bytes());
        let expected = format!("HTTP/1.1 {status} ");
        let request = &request[..request.len().min(60)];
        assert!(answer.starts_with(&expected), "{request:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{request:?}: {answer}"
        );
    }
    let body = "x".repeat(120_000);
    let many: Vec<_> = (0..10).flat_map(|_| ["--data-binary", &*body]).collect();
    let url = server.url("/echo");
    assert_eq!(get(&[&many[..], &[&*url]].concat()).0, 413);
    assert_eq!(get(&[&server.url("/")]).0, 200); // it has survived
}

fn length(host: &str, header: &str) -> String {
    format!("POST /echo HTTP/1.1\r\n{host}{header}\r\n\r\n")
}

#[test]
fn incomplete_request_is_refused() {
    let server = Server::start(&["--transfer", "100ms"]);
    let answer = server.ask(b"GET / HTTP/1.1\r\nHost:");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let answer = server.ask(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn requests_can_be_pipelined_in_any_pieces() {
    let server = Server::start(&[]);
    let two = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
               GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let at_once = server.ask(two.as_bytes());
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    for byte in two.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    for answer in [at_once, read_all(&mut stream)] {
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert!(answer.find("abc") < answer.find("hello"), "{answer}");
    }
}

#[test]
fn handler_panic_is_contained() {
    let server = Server::start(&["--workers", "1"]);
    for _ in 0..3 {
        assert_eq!(get(&[&server.url("/panic")]).0, 500);
    }
    assert_eq!(get(&[&server.url("/")]).0, 200);
}

#[test]
fn thousand_connections_are_served_or_refused() {
    const CLIENTS: usize = 1000;
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, most).unwrap(); // the server inherits it
    let server = Server::start(&["--workers", "16", "--transfer", "10m"]);
    assert_eq!(get(&[&server.url("/")]).0, 200);
    let (files, threads) = server.holdings();

    let mut streams: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    let request = b"GET /sleep?ms=10 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for stream in &mut streams {
        let _ = stream.write_all(request); // it may have been refused before
    }
    let (mut served, mut refused) = (0, 0);
    for stream in &mut streams {
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) if answer.starts_with(b"HTTP/1.1 200 ") => served += 1,
            Ok(_) if answer.starts_with(b"HTTP/1.1 503 ") => refused += 1,
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&answer)),
        }
        let _ = stream.shutdown(Shutdown::Both);
    }
    drop(streams);
    assert_eq!(served + refused, CLIENTS);
    assert!(served >= 16, "{served} served");

    // Nothing is left of it. A thread per connection, and a socket that lingers, end a little later.
    let start = Instant::now();
    loop {
        let now = server.holdings();
        if now.0 <= files && now.1 <= threads {
            break;
        }
        assert!(start.elapsed() < LIMIT, "{now:?}, not {files}, {threads}");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(get(&[&server.url("/")]).0, 200);
}

/// Needs `wrk`, which not every system has.
#[test]
fn server_bears_load() {
    // More workers than connections: an idle one must make room for one that waits.
    let server = Server::start(&["--workers", "32"]);
    let mut wrk = Command::new("wrk");
    wrk.args(["--duration", "1s", "--connections", "16", "--threads", "1"]);
    match wrk.arg(server.url("/")).output() {
        Ok(output) => {
            let report = String::from_utf8(output.stdout).unwrap();
            assert!(report.contains("requests in"), "{report}");
            assert!(!report.contains("Non-2xx"), "{report}");
            assert!(!report.contains("Socket errors"), "{report}");
        }
        Err(err) => println!("without wrk: {err}"),
    }
    assert_eq!(get(&[&server.url("/")]).0, 200);
}

/// Sends requests until there is no room for more, since the server cannot send its answers.
fn fill(stream: &mut TcpStream) {
    let body = "x".repeat(1 << 20);
    let request = length("Host: a\r\n", &format!("Content-Length: {}", body.len())) + &body;
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    while stream.write_all(request.as_bytes()).is_ok() {}
}

#[test]
fn client_not_reading_is_dropped() {
    let mut server = Server::start(&["--workers", "1", "--transfer", "300ms"]);
    let mut greedy = server.connect();
    fill(&mut greedy);
    assert_eq!(get(&[&server.url("/")]), (200, "hello".into()));
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn drain_cuts_client_not_reading() {
    let mut server = Server::start(&["--transfer", "10m", "--grace", "200ms"]);
    let mut greedy = server.connect();
    fill(&mut greedy);
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(3));
}

#[test]
fn drain_waits_briefly_for_silent_connection() {
    let times = ["--idle", "10m", "--transfer", "10m", "--grace", "10m"];
    let mut server = Server::start(&times);
    let _silent = server.connect();
    server.wait_for(1, &["accepted"]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[cfg(target_os = "linux")] // see the server
#[test]
fn drain_answers_connections_in_backlog() {
    const REQUEST: &[u8] = b"GET /sleep?ms=5 HTTP/1.1\r\nHost: a\r\n\r\n";
    let times = ["--idle", "10m", "--grace", "10m"];
    let mut server = Server::start(&[&times[..], &["--workers", "64"]].concat());
    // Some connections have been idle, others the server has not accepted yet.
    let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut streams {
        stream.write_all(REQUEST).unwrap();
        read_answer(stream);
    }
    server.signal(Signal::STOP);
    while !server.is_stopped() {
        thread::yield_now();
    }
    streams.extend((0..50).map(|_| server.connect()));
    for stream in &mut streams {
        stream.write_all(REQUEST).unwrap();
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for stream in &mut streams {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// Reads one answer, of those to `/sleep`.
fn read_answer(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b" ms\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
}

#[test]
fn idle_and_slow_connections_occupy_no_worker() {
    let times = ["--idle", "10m", "--transfer", "10m"];
    let server = Server::start(&[&["--workers", "1"], &times[..]].concat());
    let request = b"GET /sleep?ms=1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut idle = server.connect();
    idle.write_all(request).unwrap();
    read_answer(&mut idle);
    let _silent: Vec<_> = (0..64).map(|_| server.connect()).collect();
    let mut slow = server.connect();
    slow.write_all(&request[..20]).unwrap();
    assert_eq!(get(&[&server.url("/")]).0, 200);
    // None of them was closed for it.
    slow.write_all(&request[20..]).unwrap();
    idle.write_all(request).unwrap();
    read_answer(&mut slow);
    read_answer(&mut idle);
}

#[test]
fn busy_server_answers_503() {
    let mut server = Server::start(&["--workers", "1", "--queue", "1", "--timeout", "10m"]);
    let sleep = server.url(SLEEP);
    let mut clients = vec![start(&mut curl(&[&sleep]))];
    server.wait_for(1, &["begins"]);
    clients.push(start(&mut curl(&[&sleep])));
    server.wait_for(1, &["waits for a worker"]);
    for _ in 0..20 {
        let (status, answer) = get(&["--include", &server.url("/")]);
        assert_eq!(status, 503);
        for header in ["Retry-After: 1", "Connection: close"] {
            assert!(answer.contains(header), "{answer}");
        }
    }
    server.wait_for(20, &["refused"]);
    for client in &mut clients {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    server.wait_for(2, &["/sleep", " 499 ", "client went away"]);
    assert_eq!(get(&[&server.url("/")]).0, 200);
}

#[test]
fn thousand_curl_requests_are_all_served() {
    let mut server = Server::start(&["--workers", "16", "--queue", "1000"]);
    let url = server.url("/sleep?ms=5&n=[1-250]");
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let parallel = [
                "--parallel",
                "--parallel-immediate",
                "--parallel-max",
                "250",
            ];
            start(&mut curl(
                &[&parallel[..], &["--header", "Connection: close", &url]].concat(),
            ))
        })
        .collect();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", output.status);
        // Lines written at the same moment are mixed up.
        assert_eq!(text.matches("slept for 5 ms").count(), 250, "{text}");
        assert_eq!(text.matches("\n200").count(), 250, "{text}");
    }
    server.wait_for(1000, &["GET /sleep", " 200 "]);
}

#[cfg(target_os = "linux")]
#[test]
fn server_recovers_from_file_limit() {
    use rustix::process::prlimit;

    let mut server = Server::start(&["--workers", "4"]);
    assert_eq!(get(&[&server.url("/")]).0, 200);
    let (files, _) = server.holdings();
    let most = Rlimit {
        current: Some(files as u64 + 10),
        maximum: Some(files as u64 + 10),
    };
    prlimit(Some(server.pid()), Resource::Nofile, most).unwrap();
    let url = server.url("/sleep?ms=5&n=[1-200]");
    let client = start(&mut curl(&[
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        "100",
        &url,
    ]));
    let output = client.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    server.wait_for(1, &["cannot accept a connection"]);
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn answer_has_id_of_its_request() {
    let server = Server::start(&[]);
    let mut ids = Vec::new();
    for header in [
        "X-Request-Id: my-own_1.0",
        "A: b",
        "X-Request-Id: my own",
        "X-Request-Id;",
    ] {
        let (_, answer) = get(&["--include", "--header", header, &server.url("/")]);
        let id = answer
            .lines()
            .find_map(|line| line.strip_prefix("X-Request-Id: "));
        ids.push(id.unwrap_or_else(|| panic!("{answer}")).to_owned());
    }
    assert_eq!(ids[0], "my-own_1.0");
    let made = |id: &String| id.len() >= 10 && id.as_bytes()[8] == b'-';
    assert!(ids[1..].iter().all(made), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn connection_header_is_respected() {
    let server = Server::start(&[]);
    let url = server.url("/");
    let connects = |args: &[&str]| {
        let output = start(curl(args).args(["--write-out", "%{num_connects}", &url, &url]));
        let output = output.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(connects(&[]), "hello\n1hello\n0");
    assert_eq!(connects(&["--http1.0"]), "hello\n1hello\n1");
    assert_eq!(
        connects(&["--header", "Connection: foo, Close"]),
        "hello\n1hello\n1"
    );

    let answer = server.ask(b"HEAD / HTTP/1.0\r\n\r\n");
    assert!(
        answer.ends_with("\r\n\r\n") && answer.contains("Content-Length: 6\r\n"),
        "{answer}"
    );
    let (status, answer) = get(&["--include", &server.url("/echo")]);
    assert!(status == 405 && answer.contains("Allow: POST"), "{answer}");
    let answer = server
        .ask(b"GET http://a/primes?below=10 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n4\n"), "{answer}");
}

#[test]
fn expect_100_continue_is_answered() {
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let head = length(
        "Host: a\r\nConnection: close\r\n",
        "Content-Length: 3\r\nExpect: 100-continue",
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut told = vec![0; CONTINUE.len()];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, CONTINUE);
    stream.write_all(b"abc").unwrap();
    let answer = read_all(&mut stream);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("abc"),
        "{answer}"
    );
    // It is refused before it sends too much.
    let too_much = length(
        "Host: a\r\n",
        "Content-Length: 9999999\r\nExpect: 100-continue",
    );
    let answer = server.ask(too_much.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn request_before_half_close_is_answered() {
    let server = Server::start(&[]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "200"),
        ("GET / HT", "400"),
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = read_all(&mut stream);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[test]
fn misbehaving_upstream_is_bad_gateway() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap().to_string();
    let server = Server::start(&["--timeout", "10m", "--upstream", &address]);
    for answer in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhello",
        "HTTP/1.1 777 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let client = start(&mut curl(&[&server.url("/relay/a?b=c")]));
        let mut stream = upstream.accept().unwrap().0;
        let mut head = BufReader::new(&stream).lines().map(Result::unwrap);
        assert_eq!(head.next().unwrap(), "GET /a?b=c HTTP/1.1");
        assert!(head.any(|line| line.is_empty()));
        stream.write_all(answer.as_bytes()).unwrap();
        drop(stream);
        let (status, body) = self::answer(&client.wait_with_output().unwrap());
        assert_eq!(status, 502, "{answer:?}: {body}");
    }
    // It sends nothing at all.
    let url = server.url("/relay/");
    assert_eq!(
        get(&["--header", "X-Timeout: 100m", &url]),
        (504, "not done in 100ms".into())
    );
    let mut dropped = upstream.accept().unwrap().0;
    dropped.set_read_timeout(Some(LIMIT)).unwrap();
    assert!(read_all(&mut dropped).contains("\r\nX-Timeout: "));
}

#[test]
fn wrong_options_exit_with_2() {
    let run = |args: &[&str]| {
        let output = start(
            server()
                .args(args)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let output = output.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    for wrong in [
        ["--listen", "nowhere"],
        ["--workers", "0"],
        ["--grace", "soon"],
        ["one", "two"],
    ] {
        let (code, text) = run(&wrong);
        assert!(
            code == Some(2) && text.starts_with("server: "),
            "{wrong:?}: {text}"
        );
    }
    let (code, text) = run(&["--help"]);
    assert!(
        code == Some(0) && text.contains("Usage: server [OPTIONS]"),
        "{text}"
    );
    let other = Server::start(&[]);
    let taken = other.address.to_string();
    let (code, text) = run(&["--listen", &taken]);
    assert!(code == Some(1) && text.contains(&taken), "{text}");
}

/// A client that sends no more, but reads, has not hung up.
#[test]
fn half_closed_client_is_answered() {
    let mut server = Server::start(&["--timeout", "10m"]);
    for version in ["1.0", "1.1"] {
        let mut stream = server.connect();
        let request = format!("GET /sleep?ms=300 HTTP/{version}\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = read_all(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nslept for 300 ms\n"), "{answer}");
    }
    server.wait_for(2, &["/sleep", " 200 "]);
}

#[test]
fn half_closed_client_that_hangs_up_is_noticed() {
    let mut server = Server::start(&["--timeout", "10m"]);
    let mut stream = server.connect();
    stream.write_all(sleep_request().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    server.wait_for(1, &["/sleep", "begins"]);
    drop(stream);
    server.wait_for(1, &["/sleep", " 499 ", "client went away"]);
}

#[test]
fn hang_up_behind_more_input_is_noticed() {
    let mut server = Server::start(&["--timeout", "10m"]);
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(90_000 / 30);
    let body = "x".repeat(100_000);
    for (count, more) in [(1, requests), (2, body)] {
        let mut stream = server.connect();
        stream
            .write_all((sleep_request() + &more).as_bytes())
            .unwrap();
        server.wait_for(count, &["/sleep", "begins"]);
        drop(stream);
        server.wait_for(count, &["/sleep", " 499 ", "client went away"]);
    }
}

/// A request that outlives the test.
fn sleep_request() -> String {
    format!("GET {SLEEP} HTTP/1.1\r\nHost: a\r\n\r\n")
}
