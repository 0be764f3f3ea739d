//! An HTTP/1.1 server on threads, in which every request has a context of its own.
//!
//! ```sh
//! cargo run --features signal --example server -- --listen 127.0.0.1:8081 &
//! cargo run --features signal --example server -- --upstream 127.0.0.1:8081 &
//! curl -i --max-time 2 http://127.0.0.1:8080/relay/sleep?ms=60000
//! curl -i -H 'x-timeout: 300m' http://127.0.0.1:8080/relay/sleep?ms=60000
//! ```
//!
//! The first `curl` hangs up after two seconds, the second allows 300 milliseconds. Either way both
//! servers stop sleeping and log why: which of the contexts below has ended, and where its deadline was
//! set or it was cancelled. After Ctrl-C the server drains: it answers the requests that it has and
//! accepts no new connections.
//!
//! # Threads
//!
//! ```text
//! front (accepts, reads requests, notices hang-ups) --jobs--> workers (handle a request, answer it)
//!   └──────────────────────────── answered ─────────────────────┘
//! ```
//!
//! One thread polls all sockets, so a connection that is idle or sends slowly occupies no worker,
//! and a client is watched while its request is handled (`front.rs`). A worker calls a handler and
//! writes the answer (`work.rs`). The rest is HTTP (`http.rs`) and options (`options.rs`).
//!
//! # Contexts
//!
//! A context is done when there is no more to be done in it, so each answers one question:
//!
//! ```text
//! stopping: are new connections accepted?        until the first Ctrl-C
//! work:     may requests still be handled?       until the time to drain is over as well
//! └─ client:   is the client still there?        until it hangs up
//!    └─ request:  is there time left for it?     until its deadline
//! ```
//!
//! A blocking system call cannot select on a context. The front polls a socket that a callback of
//! `stopping` writes to. A worker reads and writes by `interruptible`, which shuts the connection down
//! when its context is done, so that the blocked call returns.
//!
//! # Hang-ups
//!
//! A client that hangs up and one that only stops sending (`shutdown(Write)`, `nc -N`) both make the
//! server's reads return 0. Go's `net/http` cancels the request's context in either case, and nginx
//! drops the request. This server distinguishes the two: every answer begins with `HTTP/1.1 `, so
//! when reads return 0 it sends these nine bytes ahead. If the client has closed its socket, its
//! system replies with a reset, and only that cancels the request.
//!
//! To notice a hang-up behind further requests, the front reads ahead, up to the size of the largest
//! request. Go's server does not.

#[cfg(unix)]
mod front;
#[cfg(unix)]
mod http;
#[cfg(unix)]
mod options;
#[cfg(unix)]
mod work;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    work::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("server: only for Unix");
}
