//! Digests every file below a directory on all cores, until done, stopped by an error or out of
//! time.
//!
//! ```sh
//! cargo run --release --example digest -- --timeout 2s .
//! cargo run --release --example digest -- /usr/lib > sums && sha256sum --check --quiet sums
//! ```
//!
//! One thread walks the tree, some digest files, and the main thread prints:
//!
//! ```text
//! walk --jobs--> digest_files (N of them) --digests--> Printer
//! ```
//!
//! All of them work under one context. The first that fails cancels it with its failure as the
//! cause; a timeout does the same with a deadline. Each of them notices between two steps, for it
//! waits for nothing without waiting for the context too. In the end the cause tells how it went.
//!
//! What cannot be cut short is a single system call: a read from a disk that hangs, or a write to a
//! reader that stays and does not read.

use std::error::Error;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, never, select_biased, tick, Receiver, Sender};
use go_context::{CancelCauseFunc, Cause, Context};
use sha2::digest::Output;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

const HELP: &str = "\
Prints the SHA-256 digest of every regular file below a directory, as sha256sum does.

Usage: digest [OPTIONS] DIR

Options:
      --timeout TIME  Stop after this time, such as 2s or 1m30s
      --workers N     Digest N files at once [default: one a core]
      --progress      Show the progress on standard error, even if it is no terminal
  -h, --help          Print this help

Symbolic links below DIR are not followed. The first error ends the work. What has been digested
by then is printed.

Exit status:
  0    every file has been digested, or nobody reads the output any more
  1    an error
  2    a wrong option or argument
  124  the time was over
";

/// How many files, and how many digests, may lie between two threads.
const QUEUE: usize = 64;
/// How much of a file is read between two looks at the context.
const PIECE: usize = 128 * 1024;
/// How much output is gathered before it is written.
const OUTPUT: usize = 64 * 1024;
/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let ended = match Options::parse() {
        Ok(Some(options)) => digest_tree(&options),
        Ok(None) => write_out(HELP.as_bytes()).map_err(|failure| Arc::new(failure) as Cause),
        Err(err) => {
            complain(&format_args!("{err}\nTry --help."));
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => stopped(&cause),
    }
}

/// How the program ends where the work has been stopped.
fn stopped(cause: &Cause) -> ExitCode {
    let code = match cause.downcast_ref() {
        Some(Failure::OutputClosed) => return ExitCode::SUCCESS,
        Some(Failure::TimedOut(_)) => 124,
        _ => 1,
    };
    complain(cause);
    ExitCode::from(code)
}

/// Digests and prints all files. An error is the cause that stopped it.
fn digest_tree(options: &Options) -> Result<(), Cause> {
    let ctx = match options.timeout {
        Some(limit) => {
            let cause = Failure::TimedOut(limit);
            Context::background().with_timeout_cause(limit, cause).0
        }
        None => Context::background(),
    };
    let (ctx, cancel) = ctx.with_cancel_cause();
    let read = AtomicU64::new(0);
    let mut printer = Printer::new(Progress::new(options.progress, &read));
    let (jobs_in, jobs) = bounded(QUEUE);
    let (digests_in, digests) = bounded(QUEUE);

    let complete = thread::scope(|s| {
        let _cancel_on_exit = cancel.clone().drop_guard(); // by a panic too
        let mut stages = Vec::new();
        stages.push(start(s, &cancel, || walk(&ctx, &options.root, jobs_in))?);
        for _ in 0..options.workers.get() {
            let (jobs, digests_in) = (jobs.clone(), digests_in.clone());
            let stage = || digest_files(&ctx, jobs, digests_in, &read);
            stages.push(start(s, &cancel, stage)?);
        }
        // A channel is disconnected when the last thread that has its other end is done with it.
        drop((jobs, digests_in));
        let printed = settle(&cancel, printer.print_all(&ctx, &digests));
        stages.into_iter().map(join).fold(printed, Option::and)
    });
    match ctx.cause() {
        Some(cause) if complete.is_none() => Err(cause),
        _ => Ok(()), // what comes after the last file comes too late
    }
}

/// Why a stage stops early: a failure of its own, or the error of the context.
type Stop = Box<dyn Error + Send + Sync>;

/// That a stage has come to its end. Without it the context is done.
type Complete = Option<()>;

/// Starts a stage on a thread of its own. Where there is none to be had, all the others are stopped.
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    cancel: &CancelCauseFunc,
    stage: impl FnOnce() -> Result<(), Stop> + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, Complete>> {
    let thread = thread::Builder::new().spawn_scoped(scope, {
        let cancel = cancel.clone();
        move || settle(&cancel, stage())
    });
    settle(cancel, thread.map_err(|err| Failure::NoThread(err).into()))
}

/// Stops all the others if a stage has failed.
///
/// A stage that was stopped by the context ends here as well, and changes nothing: the context is
/// done, and keeps the cause that it has.
fn settle<T>(cancel: &CancelCauseFunc, result: Result<T, Stop>) -> Option<T> {
    result.map_err(|stop| cancel.cancel(stop)).ok()
}

fn join(stage: ScopedJoinHandle<'_, Complete>) -> Complete {
    let ended = stage.join();
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Finds the files.
fn walk(ctx: &Context, root: &Path, jobs: Sender<PathBuf>) -> Result<(), Stop> {
    for entry in WalkDir::new(root) {
        ctx.check()?;
        let entry = entry.map_err(Failure::Walk)?;
        if entry.file_type().is_file() {
            send(ctx, &jobs, entry.into_path())?;
        }
    }
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
    read: &AtomicU64,
) -> Result<(), Stop> {
    let mut piece = vec![0; PIECE];
    while let Some(path) = receive(ctx, &jobs)? {
        match sha256(ctx, &path, &mut piece, read) {
            Ok(digest) => send(ctx, &digests, Digested { path, digest })?,
            Err(err) => return Err(Failure::Read(path, err).into()),
        }
    }
    Ok(())
}

fn sha256(
    ctx: &Context,
    path: &Path,
    piece: &mut [u8],
    read: &AtomicU64,
) -> io::Result<Output<Sha256>> {
    let mut file = File::open(path)?;
    let mut sha256 = Sha256::new();
    loop {
        ctx.check()?;
        match file.read(piece) {
            Ok(0) => return Ok(sha256.finalize()),
            Ok(length) => {
                sha256.update(&piece[..length]);
                read.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// Sends a message, unless the context is done.
fn send<T>(ctx: &Context, channel: &Sender<T>, message: T) -> Result<(), Stop> {
    select_biased! {
        recv(ctx.done()) -> _ => Ok(ctx.check()?),
        send(channel, message) -> sent => sent.map_err(|_| "no thread is left to go on".into()),
    }
}

/// The next message, unless the context is done. `None` is the end: nobody is left to send one.
fn receive<T>(ctx: &Context, channel: &Receiver<T>) -> Result<Option<T>, Stop> {
    select_biased! {
        recv(ctx.done()) -> _ => ctx.check().map(|()| None).map_err(Stop::from),
        recv(channel) -> message => Ok(message.ok()),
    }
}

/// Gathers lines, and writes them where there are many or no more for now.
struct Printer<'a> {
    lines: Vec<u8>,
    progress: Progress<'a>,
}

impl<'a> Printer<'a> {
    fn new(progress: Progress<'a>) -> Printer<'a> {
        Printer {
            lines: Vec::new(),
            progress,
        }
    }

    /// Prints all that is digested, also what has been when the context is done: the digesting
    /// threads notice it too, and the channel ends with the last of them.
    fn print_all(&mut self, ctx: &Context, digests: &Receiver<Digested>) -> Result<(), Stop> {
        let ticks = self.progress.ticks();
        loop {
            select_biased! {
                recv(ctx.done()) -> _ => break,
                recv(ticks) -> _ => self.progress.show(),
                recv(digests) -> digested => match digested {
                    Ok(digested) => self.print(&digested, digests.is_empty())?,
                    Err(_) => break,
                },
            }
        }
        for digested in digests {
            self.print(&digested, false)?;
        }
        Ok(self.flush()?)
    }

    fn print(&mut self, digested: &Digested, is_last: bool) -> Result<(), Failure> {
        push_line(&mut self.lines, digested);
        self.progress.files += 1;
        if is_last || self.lines.len() >= OUTPUT {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.progress.make_way();
        write_out(&self.lines)?;
        self.lines.clear();
        Ok(())
    }
}

/// A line as `sha256sum` writes it: it begins with a backslash if there are any in the name.
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

/// A line on standard error that is written again and again, and cleared in the end.
struct Progress<'a> {
    wanted: bool,
    shown: bool,
    files: u64,
    read: &'a AtomicU64,
}

impl<'a> Progress<'a> {
    fn new(wanted: bool, read: &'a AtomicU64) -> Progress<'a> {
        Progress {
            wanted,
            shown: false,
            files: 0,
            read,
        }
    }

    /// When to show it.
    fn ticks(&self) -> Receiver<Instant> {
        if self.wanted {
            tick(TICK)
        } else {
            never()
        }
    }

    fn show(&mut self) {
        let (files, mib) = (self.files, self.read.load(Ordering::Relaxed) >> 20);
        let _ = write!(
            io::stderr(),
            "\r{files} files digested, {mib} MiB read\x1b[K"
        );
        self.shown = true;
    }

    fn clear(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.shown = false;
        }
    }

    /// Clears it for output that goes to the same screen.
    fn make_way(&mut self) {
        if io::stdout().is_terminal() {
            self.clear();
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What can stop the work, each a cause for the context.
#[derive(Debug)]
enum Failure {
    Walk(walkdir::Error),
    Read(PathBuf, io::Error),
    Write(io::Error),
    /// The reader of the output went away: it has read what it wanted.
    OutputClosed,
    NoThread(io::Error),
    TimedOut(Duration),
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Walk(err) => err.fmt(f),
            Failure::Read(path, err) => write!(f, "cannot read {path:?}: {err}"),
            Failure::Write(err) => write!(f, "cannot write: {err}"),
            Failure::OutputClosed => f.write_str("nobody reads the output"),
            Failure::NoThread(err) => write!(f, "cannot start a thread: {err}"),
            Failure::TimedOut(limit) => {
                let limit = humantime::format_duration(*limit);
                write!(f, "not done in {limit}")
            }
        }
    }
}

impl Error for Failure {}

fn complain(what: &dyn Display) {
    // There is nowhere to complain that one cannot complain.
    let _ = writeln!(io::stderr(), "digest: {what}");
}

struct Options {
    root: PathBuf,
    timeout: Option<Duration>,
    workers: NonZeroUsize,
    progress: bool,
}

impl Options {
    /// `None` is a call for help.
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
