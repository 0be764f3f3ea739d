//! A TCP proxy: passes connections on to another server.
//!
//! ```console
//! $ cargo run --example proxy --features net,signal -- --listen 127.0.0.1:8080 --to example.org:80
//! ```
//!
//! Options: `--idle` is how long a connection may be without data in either direction (30s), `--max` how
//! long it may take in all (10m), and `--connect` how long it may take to reach the server (10s).
//!
//! Ctrl-C drains: no more connections are accepted, and those that exist go on. A second Ctrl-C ends the
//! program.
//!
//! A connection has two threads, one for each direction. They block in reads and writes, which end when
//! the context of the connection does.

use std::error::Error as StdError;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use go_context::net::{connect, incoming, lookup, Io};
use go_context::signal::NotifyContext;
use go_context::{Context, Error};
use lexopt::{Arg, ValueExt};

struct Options {
    listen: String,
    to: String,
    idle: Duration,
    max: Duration,
    connect: Duration,
}

fn main() -> ExitCode {
    match parse().and_then(|options| Ok(run(&options)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("proxy: {err}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Options, Box<dyn StdError>> {
    let mut options = Options {
        listen: String::new(),
        to: String::new(),
        idle: Duration::from_secs(30),
        max: Duration::from_secs(600),
        connect: Duration::from_secs(10),
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        let Arg::Long(name) = arg else {
            return Err(arg.unexpected().into());
        };
        let name = name.to_owned();
        let value = args.value()?.string()?;
        match &*name {
            "listen" => options.listen = value,
            "to" => options.to = value,
            "idle" => options.idle = humantime::parse_duration(&value)?,
            "max" => options.max = humantime::parse_duration(&value)?,
            "connect" => options.connect = humantime::parse_duration(&value)?,
            _ => return Err(format!("invalid option '--{name}'").into()),
        }
    }
    match options.listen.is_empty() || options.to.is_empty() {
        true => Err("usage: proxy --listen ADDRESS --to ADDRESS [--idle 30s] [--max 10m]".into()),
        false => Ok(options),
    }
}

fn run(options: &Options) -> io::Result<()> {
    // Once it is done a second Ctrl-C has its default effect.
    let (stopping, _stop) = NotifyContext::new().start(&Context::background())?;
    let listener = TcpListener::bind(&options.listen)?;
    println!("listening on {}", listener.local_addr()?);
    Context::background().scope(|s| {
        for client in incoming(&stopping, &listener) {
            match client {
                Ok(client) => {
                    s.spawn(move |ctx| {
                        serve(ctx, &client, options);
                        Ok(())
                    });
                }
                Err(err) => {
                    eprintln!("accept: {err}"); // perhaps there is no descriptor left
                    let _ = stopping.sleep(Duration::from_millis(100));
                }
            }
        }
        println!("draining");
        Ok(())
    })
}

/// Serves one connection, and logs how it ended.
fn serve(ctx: &Context, client: &TcpStream, options: &Options) {
    let start = Instant::now();
    let peer = client.peer_addr();
    let peer = peer.map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
    let (ctx, _cancel) = ctx.named("connection").with_timeout(options.max);
    let result =
        connect_to(&ctx, options).and_then(|server| pass(&ctx, client, &server, options.idle));
    let took = start.elapsed();
    match result {
        Ok([sent, received]) => {
            println!("{peer}: {sent} B sent, {received} B received, {took:.1?}")
        }
        Err(err) => match ctx.explain() {
            Some(why) => println!("{peer}: {why}, {took:.1?}"),
            None => println!("{peer}: {err}, {took:.1?}"),
        },
    }
}

fn connect_to(ctx: &Context, options: &Options) -> io::Result<TcpStream> {
    let (ctx, _cancel) = ctx.named("connect").with_timeout(options.connect);
    let addresses = lookup(&ctx, &options.to)?;
    connect(&ctx, &addresses[..])
}

/// Passes data in both directions until both have ended, or one has failed. Returns how many bytes.
fn pass(
    ctx: &Context,
    client: &TcpStream,
    server: &TcpStream,
    limit: Duration,
) -> io::Result<[u64; 2]> {
    let idle = Idle {
        limit,
        since: Mutex::new(Instant::now()),
    };
    ctx.scope(|s| {
        let sent = s.spawn(|ctx| idle.copy(ctx, client, server));
        let received = s.spawn(|ctx| idle.copy(ctx, server, client));
        Ok([sent, received].map(|bytes| bytes.recv().unwrap_or_default()))
    })
}

/// Ends a connection that has been without data in both directions.
struct Idle {
    limit: Duration,
    since: Mutex<Instant>,
}

impl Idle {
    fn copy(&self, ctx: &Context, from: &TcpStream, to: &TcpStream) -> io::Result<u64> {
        let (mut reader, mut writer) = (ctx.io(from), ctx.io(to));
        let mut buf = vec![0; 64 << 10];
        loop {
            let n = self.limited(ctx, &mut reader, |reader| reader.read(&mut buf))?;
            if n == 0 {
                to.shutdown(Shutdown::Write)?; // the other direction goes on
                return Ok(writer.written());
            }
            let mut data = &buf[..n];
            while !data.is_empty() {
                let n = self.limited(ctx, &mut writer, |writer| writer.write(data))?;
                data = &data[n..];
            }
        }
    }

    /// Makes a call that fails once the connection has been idle for too long.
    fn limited<'a, T>(
        &self,
        ctx: &Context,
        stream: &mut Io<&'a TcpStream>,
        mut call: impl FnMut(&mut Io<&'a TcpStream>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let idle = self.since().elapsed();
            let (limited, _cancel) = ctx.with_timeout(self.limit.saturating_sub(idle));
            stream.set_context(&limited);
            match call(stream) {
                Err(err) if Error::find(&err).is_some() => ctx.check()?,
                result => {
                    *self.since.lock().unwrap() = Instant::now();
                    return result;
                }
            }
            if self.since().elapsed() >= self.limit {
                let limit = humantime::format_duration(self.limit);
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("idle for {limit}"),
                ));
            }
        }
    }

    fn since(&self) -> Instant {
        *self.since.lock().unwrap()
    }
}
