//! The example `proxy`, between clients and a server of the test.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;

use rustix::process::{kill_process, Pid, Signal};
use support::process;

struct Proxy {
    child: Child,
    address: SocketAddr,
    log: BufReader<ChildStdout>,
}

impl Proxy {
    fn start(to: SocketAddr, options: &[&str]) -> Proxy {
        let mut path = env::current_exe().unwrap();
        path.pop(); // this test's own name
        path.pop(); // deps
        let mut command = process::command(path.join("examples/proxy"));
        command.args(["--listen", "127.0.0.1:0", "--to", &to.to_string()]);
        command
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        log.read_line(&mut first).unwrap();
        let address = first.trim().strip_prefix("listening on ").unwrap();
        Proxy {
            child,
            address: address.parse().unwrap(),
            log,
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.log.read_line(&mut line).unwrap();
        line
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill_process(pid.unwrap(), Signal::INT).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server that sends back what it receives.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &client, &mut &client));
        }
    });
    address
}

#[test]
fn proxy_passes_data_and_ends_in_both_directions() {
    let mut proxy = Proxy::start(echo(), &[]);
    let mut client = proxy.connect();
    let data: Vec<u8> = (0..3 << 20).map(|i| (i % 251) as u8).collect();
    let back = thread::scope(|s| {
        s.spawn(|| {
            (&client).write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&client).read_to_end(&mut back).unwrap();
        back
    });
    assert!(back == data);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let line = proxy.next_line();
    let peer = client.local_addr().unwrap();
    let expected = format!("{peer}: {0} B sent, {0} B received, ", data.len());
    assert!(line.starts_with(&expected), "{line}");
}

#[test]
fn proxy_ends_idle_and_long_connections() {
    let mut proxy = Proxy::start(echo(), &["--idle", "50ms"]);
    let mut client = proxy.connect();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let line = proxy.next_line();
    assert!(line.contains(": idle for 50ms, "), "{line}");

    let mut proxy = Proxy::start(echo(), &["--max", "50ms"]);
    let mut client = proxy.connect();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let line = proxy.next_line();
    let expected = ": context deadline exceeded: 50ms timeout set at examples/proxy.rs:";
    assert!(line.contains(expected), "{line}");
}

#[test]
fn proxy_reports_server_that_cannot_be_reached() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let mut proxy = Proxy::start(closed.unwrap(), &[]);
    let mut client = proxy.connect();
    let _ = client.read(&mut [0; 1]); // it ends, perhaps by a reset
    let line = proxy.next_line();
    assert!(line.contains(": Connection refused"), "{line}");
}

#[test]
fn proxy_drains_at_first_signal() {
    let mut proxy = Proxy::start(echo(), &[]);
    let mut client = proxy.connect();
    let mut buf = [0; 1];
    client.write_all(b"x").unwrap();
    client.read_exact(&mut buf).unwrap();
    proxy.interrupt();
    assert_eq!(proxy.next_line(), "draining\n");
    client.write_all(b"y").unwrap();
    client.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"y");
    drop(client);
    assert!(proxy.child.wait().unwrap().success());
}

#[test]
fn proxy_dies_by_second_signal() {
    use std::os::unix::process::ExitStatusExt;
    let mut proxy = Proxy::start(echo(), &[]);
    let mut client = proxy.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    proxy.interrupt();
    assert_eq!(proxy.next_line(), "draining\n");
    proxy.interrupt();
    assert_eq!(proxy.child.wait().unwrap().signal(), Some(2));
}
