//! Prints the SHA-256 digest of every file below a directory, using all cores, until it has
//! finished, fails or runs out of time.
//!
//! ```sh
//! cargo run --release --example digest -- src
//! cargo run --release --example digest -- --timeout 5ms ~/.cargo/registry/src
//! ```
//!
//! It shows a pipeline whose stages share one context. One thread walks the tree, several digest
//! files, and one prints:
//!
//! ```text
//! walk --jobs--> digest_files (N of them) --digests--> Printer
//! ```
//!
//! The stages are a group, run by [`Context::scope`]: the first one that fails cancels the context
//! of the others, and a timeout cancels it too. Each stage checks the context between two steps
//! and selects on it whenever it blocks on a channel, so all of them stop promptly.
//!
//! A single system call cannot be interrupted: a read from a disk that hangs, or a write to a pipe
//! whose reader has stopped reading. And if standard output is closed (`>&-`), the output is lost
//! without an error, because std opens `/dev/null` in its place before `main`.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, never, select_biased, tick, Receiver, Sender};
use go_context::{Context, RecvError};
use sha2::digest::Output;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

const HELP: &str = "\
Prints the SHA-256 digest of every regular file below a directory, as sha256sum does.

Usage: digest [OPTIONS] DIR

Options:
      --timeout TIME  Stop after this time, such as 2s or 1m30s
      --workers N     Digest N files at once [default: one per core]
      --progress      Show progress on standard error even if it is not a terminal
  -h, --help          Print this help

Symbolic links below DIR are not followed. The first error stops the work. Everything digested by
then is printed, followed by a summary on standard error.

Exit status:
  0    every file was digested, or the reader of the output closed it
  1    an error occurred
  2    an option or argument is wrong
  124  the time ran out
";

/// The capacity of the channels between two stages.
const QUEUE: usize = 64;
/// The number of bytes read from a file between two checks of the context.
const PIECE: usize = 128 * 1024;
/// The number of bytes of output that are gathered before they are written.
const OUTPUT: usize = 64 * 1024;
/// The time between two updates of the progress line.
const TICK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(err) => {
            complain(&format_args!("{err}\nTry --help."));
            return ExitCode::from(2);
        }
    };
    let ended = match options {
        Some(options) => digest_tree(&options),
        None => report(write_out(HELP.as_bytes())),
    };
    match ended {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::TimedOut(_)) => ExitCode::from(124),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Digests and prints all files, reports any failure and prints a summary.
fn digest_tree(options: &Options) -> Result<(), Failure> {
    let start = Instant::now();
    let ctx = match options.timeout {
        Some(limit) => Context::background().with_timeout(limit).0,
        None => Context::background(),
    };
    let stats = Stats::default();
    let ended = run_stages(&ctx, options, &stats);
    let ended = ended.map_err(|failure| match (failure, options.timeout) {
        // A failure of a stage would be the first one, so it was the timeout.
        (Failure::Stopped(_), Some(limit)) => Failure::TimedOut(limit),
        (failure, _) => failure,
    });
    let took = start.elapsed();
    let ended = report(ended);
    match &ended {
        Ok(()) => complain(&format_args!("{stats} in {took:.1?}")),
        Err(Failure::OutputClosed) => {}
        Err(_) => {
            let left = stats.left();
            complain(&format_args!(
                "stopped after {took:.1?}: {stats}, {left} left"
            ));
        }
    }
    if let (Err(Failure::TimedOut(_)), Some(explanation)) = (&ended, ctx.explain()) {
        complain(&explanation);
    }
    ended
}

/// Runs the pipeline. Returns the first failure of a stage.
fn run_stages(ctx: &Context, options: &Options, stats: &Stats) -> Result<(), Failure> {
    ctx.scope(|s| {
        let (jobs_in, jobs) = bounded(QUEUE);
        let (digests_in, digests) = bounded(QUEUE);
        let thread = thread::Builder::new;
        s.spawn_with(thread(), move |ctx| {
            walk(ctx, &options.root, jobs_in, stats)
        })?;
        for _ in 0..options.workers.get() {
            let (jobs, digests_in) = (jobs.clone(), digests_in.clone());
            s.spawn_with(thread(), move |ctx| {
                digest_files(ctx, jobs, digests_in, stats)
            })?;
        }
        s.spawn_with(thread(), move |_| {
            Printer::new(options.progress, stats).print_all(digests)
        })?;
        // When this closure returns, only the stages own ends of the channels, so a channel is
        // disconnected once the last stage at its other end has returned.
        Ok(())
    })
}

/// Sends the path of every regular file below `root`.
fn walk(ctx: &Context, root: &Path, jobs: Sender<PathBuf>, stats: &Stats) -> Result<(), Failure> {
    for entry in WalkDir::new(root) {
        ctx.check()?;
        let entry = entry.map_err(Failure::Walk)?;
        if entry.file_type().is_file() {
            stats.found.fetch_add(1, Relaxed);
            if ctx.send(&jobs, entry.into_path()).is_err() {
                return stopped(ctx);
            }
        }
    }
    stats.walked.store(true, Relaxed);
    Ok(())
}

struct Digested {
    path: PathBuf,
    digest: Output<Sha256>,
}

/// Digests files until there are no more.
fn digest_files(
    ctx: &Context,
    jobs: Receiver<PathBuf>,
    digests: Sender<Digested>,
    stats: &Stats,
) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE];
    loop {
        let path = match ctx.recv(&jobs) {
            Ok(path) => path,
            Err(RecvError::Done(err)) => return Err(err.into()),
            Err(_) => return Ok(()), // disconnected: there are no more files
        };
        let digest = sha256(ctx, &path, &mut piece, stats)?;
        if ctx.send(&digests, Digested { path, digest }).is_err() {
            return stopped(ctx);
        }
    }
}

/// Ends a stage that cannot send: either the context is done, or all receivers have failed. Their
/// own failure is the one to report, even if it is not recorded yet, so that is not an error here.
fn stopped(ctx: &Context) -> Result<(), Failure> {
    Ok(ctx.check()?)
}

fn sha256(
    ctx: &Context,
    path: &Path,
    piece: &mut [u8],
    stats: &Stats,
) -> Result<Output<Sha256>, Failure> {
    let failure = |err| Failure::Read(path.into(), err);
    let mut file = File::open(path).map_err(failure)?;
    let mut sha256 = Sha256::new();
    loop {
        ctx.check()?;
        match file.read(piece) {
            Ok(0) => return Ok(sha256.finalize()),
            Ok(length) => {
                sha256.update(&piece[..length]);
                stats.bytes.fetch_add(length as u64, Relaxed);
            }
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(failure(err)),
        }
    }
}

/// Gathers lines, and writes them when there are many or no more are waiting.
struct Printer<'a> {
    lines: Vec<u8>,
    progress: Progress<'a>,
}

impl<'a> Printer<'a> {
    fn new(with_progress: bool, stats: &'a Stats) -> Printer<'a> {
        let progress = Progress {
            wanted: with_progress,
            shown: false,
            stats,
        };
        let lines = Vec::new();
        Printer { lines, progress }
    }

    /// Prints the digests until the channel is disconnected. It does not select on the context, so
    /// that everything digested is printed even after a cancellation: the stages before it stop,
    /// and the channel ends with the last of them.
    fn print_all(mut self, digests: Receiver<Digested>) -> Result<(), Failure> {
        let ticks = self.progress.ticks();
        loop {
            select_biased! {
                recv(ticks) -> _ => self.progress.show(),
                recv(digests) -> digested => match digested {
                    Ok(digested) => {
                        push_line(&mut self.lines, &digested);
                        self.progress.stats.digested.fetch_add(1, Relaxed);
                    }
                    Err(_) => return self.flush(),
                },
            }
            if digests.is_empty() || self.lines.len() >= OUTPUT {
                self.flush()?;
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if io::stdout().is_terminal() {
            self.progress.clear(); // it may be on the same screen
        }
        write_out(&self.lines)?;
        self.lines.clear();
        Ok(())
    }
}

/// Appends a line in the format of `sha256sum`: it begins with a backslash if the name contains
/// characters that are escaped.
fn push_line(lines: &mut Vec<u8>, Digested { path, digest }: &Digested) {
    let start = lines.len();
    lines.extend_from_slice(format!("{digest:x}  ").as_bytes());
    let unescaped = lines.len() + path.as_os_str().len();
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'\\' => lines.extend_from_slice(br"\\"),
            b'\n' => lines.extend_from_slice(br"\n"),
            b'\r' => lines.extend_from_slice(br"\r"),
            _ => lines.push(byte),
        }
    }
    if lines.len() > unescaped {
        lines.insert(start, b'\\');
    }
    lines.push(b'\n');
}

fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|err| match err.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Write(err),
    })
}

/// What the stages have done so far.
#[derive(Default)]
struct Stats {
    found: AtomicU64,
    /// Whether the walk has come to its end, so that `found` is the number of all files.
    walked: AtomicBool,
    digested: AtomicU64,
    bytes: AtomicU64,
}

impl Stats {
    fn left(&self) -> String {
        let left = self.found.load(Relaxed) - self.digested.load(Relaxed);
        match self.walked.load(Relaxed) {
            true => left.to_string(),
            false => format!("at least {left}"),
        }
    }
}

impl Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, bytes) = (self.digested.load(Relaxed), self.bytes.load(Relaxed));
        let plural = if files == 1 { "" } else { "s" };
        write!(f, "{files} file{plural} digested, ")?;
        match bytes as f64 / 1024.0 {
            kib if kib < 1024.0 => write!(f, "{kib:.1} KiB read"),
            kib => write!(f, "{:.1} MiB read", kib / 1024.0),
        }
    }
}

/// A line on standard error that is overwritten again and again, and cleared in the end.
struct Progress<'a> {
    wanted: bool,
    shown: bool,
    stats: &'a Stats,
}

impl Progress<'_> {
    fn ticks(&self) -> Receiver<Instant> {
        match self.wanted {
            true => tick(TICK),
            false => never(),
        }
    }

    fn show(&mut self) {
        let _ = write!(io::stderr(), "\r{}\x1b[K", self.stats);
        self.shown = true;
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.shown = false;
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Why a stage stopped early.
#[derive(Debug)]
enum Failure {
    Walk(walkdir::Error),
    Read(PathBuf, io::Error),
    Write(io::Error),
    /// The reader of the output has closed it, such as `head`.
    OutputClosed,
    TimedOut(Duration),
    /// The context is done. If another stage failed first, `scope` returns the failure of that one.
    Stopped(go_context::Error),
    /// The system has refused a thread for the stage.
    NotStarted(io::Error),
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Walk(err) => err.fmt(f),
            Failure::Read(path, err) => write!(f, "cannot read {path:?}: {err}"),
            Failure::Write(err) => write!(f, "cannot write: {err}"),
            Failure::OutputClosed => f.write_str("the output is closed"),
            Failure::TimedOut(limit) => {
                let limit = humantime::format_duration(*limit);
                write!(f, "not done in {limit}")
            }
            Failure::Stopped(err) => err.fmt(f),
            Failure::NotStarted(err) => write!(f, "cannot start a thread: {err}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(err: io::Error) -> Failure {
        Failure::NotStarted(err)
    }
}

impl From<go_context::Error> for Failure {
    fn from(err: go_context::Error) -> Failure {
        Failure::Stopped(err)
    }
}

fn report(ended: Result<(), Failure>) -> Result<(), Failure> {
    match &ended {
        Ok(()) | Err(Failure::OutputClosed) => {} // as other Unix tools do
        Err(failure) => complain(failure),
    }
    ended
}

fn complain(what: &dyn Display) {
    // If standard error cannot be written to, there is nowhere to report it.
    let _ = writeln!(io::stderr(), "digest: {what}");
}

struct Options {
    root: PathBuf,
    timeout: Option<Duration>,
    workers: NonZeroUsize,
    progress: bool,
}

impl Options {
    /// Returns `None` if help is requested.
    fn parse() -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut root = None;
        let mut timeout = None;
        let mut workers = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut progress = io::stderr().is_terminal();
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("timeout") => {
                    timeout = Some(args.value()?.parse_with(humantime::parse_duration)?);
                }
                Long("workers") => workers = args.value()?.parse()?,
                Long("progress") => progress = true,
                Short('h') | Long("help") => return Ok(None),
                Value(dir) if root.is_none() => root = Some(dir.into()),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(Options {
            root: root.ok_or("missing argument DIR")?,
            timeout,
            workers,
            progress,
        }))
    }
}
