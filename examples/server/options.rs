//! Options of the command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

pub(crate) const HELP: &str = "\
An HTTP server, to show how one is written with contexts.

Usage: server [OPTIONS]

Options:
      --listen ADDR    Listen on this address; port 0 is any [default: 127.0.0.1:8080]
      --upstream ADDR  Relay /relay/ to this server
      --workers N      Handle N requests at once [default: 64]
      --queue N        Let N more requests wait, and refuse others [default: 256]
      --timeout TIME   Limit how long a request may take [default: 30s]
      --transfer TIME  Limit how long a client may take to send a request, and again
                       to receive an answer [default: 10s]
      --idle TIME      Close a connection that has been idle for this time [default: 5s]
      --grace TIME     Drain for at most this time after Ctrl-C [default: 10s]
      --verbose        Also log connections and the beginning of requests
  -h, --help           Print this help

Requests:
  GET /                Answers hello
  GET /sleep?ms=N      Sleeps
  GET /primes?below=N  Counts primes
  POST /echo           Answers with the body of the request
  GET /relay/PATH      Answers with the upstream server's answer for /PATH
  GET /panic           Panics, which affects no other request

A request may set an earlier deadline with the header x-timeout, in the format of grpc-timeout:
digits and a unit (H, M, S, m, u, n). The header x-request-id sets the id of a request.

Exit status:
  0  drained after Ctrl-C or SIGTERM
  1  an error occurred
  2  an option or argument is wrong
  3  requests were cut off because the time to drain was over
";

pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) workers: usize,
    pub(crate) queue: usize,
    pub(crate) timeout: Duration,
    pub(crate) transfer: Duration,
    pub(crate) idle: Duration,
    pub(crate) grace: Duration,
    pub(crate) verbose: bool,
}

impl Options {
    /// Returns `None` if help is requested.
    pub(crate) fn parse() -> Result<Option<Options>, lexopt::Error> {
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
    let time = args.value()?.parse_with(humantime::parse_duration)?;
    // A year is as good as no limit, and can be added to an `Instant` without an overflow.
    Ok(time.min(Duration::from_secs(365 * 24 * 60 * 60)))
}
