//! Prints the words that files use most, counted by a pool of workers.
//!
//! ```sh
//! cargo run --release --example pool -- --timeout 10s src/*.rs
//! cargo run --release --features signal --example pool -- /dev/stdin   # then Ctrl-C
//! ```
//!
//! It shows the usual pool on channels, whose workers wait for jobs, a ticker and the end in one
//! `select!`:
//!
//! ```text
//! hand_out --jobs--> count_words (N of them) --results--> add_up
//!                         └─ done, a ticker and jobs in one select
//! ```
//!
//! The pool stops when there are no more jobs, when a file cannot be read, when the time runs out
//! or (with the feature `signal`) at Ctrl-C. In each case all workers have returned, and what they
//! have counted by then is printed.
//!
//! A read that blocks, such as from a terminal, cannot be interrupted. `read_pieces` shows what to
//! do about that.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Read, Write};
use std::mem;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, select_biased, tick, Receiver, Sender};
use go_context::{Context, RecvError};

const HELP: &str = "\
Prints the words that files use most, and how often.

Usage: pool [OPTIONS] FILE...

Options:
      --top N         Print N words [default: 10]
      --workers N     Read N files at once [default: one per core]
      --timeout TIME  Stop after this time, such as 2s
      --progress      Show progress on standard error even if it is not a terminal
  -h, --help          Print this help

A word consists of letters; case is ignored. If the work is stopped early, the words counted by then
are printed.

Exit status:
  0  all words were counted
  1  an error occurred or the time ran out
  2  an option is wrong
After Ctrl-C (if built with the feature `signal`) the program dies by that signal.
";

/// The capacity of the channels for jobs and for results.
const QUEUE: usize = 16;
/// The size of the pieces in which a file is read. A longer line is cut.
const PIECE: u64 = 64 * 1024;
/// How often a worker sends what it has counted.
const TICK: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(err) => {
            complain(&format_args!("pool: {err}\nTry --help.\n"));
            return ExitCode::from(2);
        }
    };
    let (root, _stop) = match until_signal() {
        Ok(root) => root,
        Err(err) => {
            complain(&format_args!("pool: cannot catch signals: {err}\n"));
            return ExitCode::FAILURE;
        }
    };
    let (ctx, _cancel) = match options.timeout {
        Some(timeout) => root.with_timeout(timeout),
        None => root.with_cancel(),
    };

    let mut counts = Counts::default();
    let counted = count(&ctx, &options, &mut counts);
    let printed = counts.print_top(options.top);
    let errors = [counted.err(), printed.err()];
    for err in errors.iter().flatten() {
        complain(&format_args!("pool: {err}\n"));
    }
    die_if_signalled(&root);
    match errors {
        [None, None] => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Returns a context that Ctrl-C or `kill` cancels, and a guard to keep.
#[cfg(feature = "signal")]
fn until_signal() -> io::Result<(Context, impl Drop)> {
    go_context::signal::NotifyContext::new().start(&Context::background())
}

/// Without the feature, a signal has its default effect.
#[cfg(not(feature = "signal"))]
fn until_signal() -> io::Result<(Context, ())> {
    Ok((Context::background(), ()))
}

/// Ends the process by the signal that cancelled the context, if one did. Its parent, such as a
/// shell that runs a loop, can then see that the program was interrupted.
#[cfg(feature = "signal")]
fn die_if_signalled(ctx: &Context) {
    let cause = ctx.cause();
    let received = cause.as_ref().and_then(|cause| cause.downcast_ref());
    if let Some::<&go_context::signal::Received>(received) = received {
        let _ = signal_hook::low_level::emulate_default_handler(received.signal());
    }
}

#[cfg(not(feature = "signal"))]
fn die_if_signalled(_: &Context) {}

/// Adds the words of all files to `counts`, until the context is done.
fn count(ctx: &Context, options: &Options, counts: &mut Counts) -> io::Result<()> {
    let lines = AtomicU64::new(0);
    ctx.scope(|s| {
        let (jobs_in, jobs) = bounded(QUEUE);
        let (results_in, results) = bounded(QUEUE);
        s.spawn(move |ctx| hand_out(ctx, &options.files, jobs_in));
        for _ in 0..options.workers.get() {
            let (jobs, results_in) = (jobs.clone(), results_in.clone());
            let lines = &lines;
            s.spawn(move |ctx| count_words(ctx, jobs, results_in, lines));
        }
        // Only the workers keep their ends, so the results end when the last worker returns.
        drop((jobs, results_in));
        add_up(counts, &results, options, &lines);
        Ok(())
    })
}

/// Sends all jobs. Returning disconnects the channel: there are no more.
fn hand_out<'a>(ctx: &Context, files: &'a [PathBuf], jobs: Sender<&'a Path>) -> io::Result<()> {
    for file in files {
        if ctx.send(&jobs, file).is_err() {
            // The context is done; or all workers have failed, and then their error is the one to
            // report.
            return check(ctx);
        }
    }
    Ok(())
}

/// A worker: selects on jobs, a ticker and the context.
fn count_words(
    ctx: &Context,
    jobs: Receiver<&Path>,
    results: Sender<Counts>,
    lines: &AtomicU64,
) -> io::Result<()> {
    let (done, ticker) = (ctx.done(), tick(TICK));
    let mut counts = Counts::default();
    let ended = loop {
        // `select_biased!` tries done first, so no file is begun after that, and then the ticker,
        // which plain `select!` could leave waiting while there are jobs.
        select_biased! {
            recv(done) -> _ => break check(ctx),
            recv(ticker) -> _ => drop(results.send(mem::take(&mut counts))),
            recv(jobs) -> job => match job {
                Ok(file) => if let Err(err) = counts.read(ctx, file, lines) {
                    break Err(io::Error::new(err.kind(), format!("{}: {err}", file.display())));
                },
                Err(_) => break check(ctx), // no more jobs
            },
        }
    };
    // Not with `ctx.send`, which fails once the context is done: what has been counted is kept.
    // `add_up` receives until the last worker has returned, so this does not block for long.
    let _ = results.send(counts);
    ended
}

/// Returns an error that explains why the context is done, if it is.
fn check(ctx: &Context) -> io::Result<()> {
    match ctx.explain() {
        Some(explanation) => Err(io::Error::other(explanation.to_string())),
        None => Ok(()),
    }
}

/// Adds up the results, and shows progress.
fn add_up(counts: &mut Counts, results: &Receiver<Counts>, options: &Options, lines: &AtomicU64) {
    let start = Instant::now();
    for result in results {
        counts.add(result);
        if options.progress {
            let (files, total) = (counts.files, options.files.len());
            let lines = lines.load(Ordering::Relaxed);
            let took = start.elapsed();
            complain(&format_args!(
                "\r{files} of {total} files, {lines} lines, {took:.1?} "
            ));
        }
    }
    if options.progress {
        complain(&"\n");
    }
}

/// Reads a file in pieces of whole lines, on a thread of its own.
///
/// Opening or reading a FIFO or a terminal may block for ever, and cannot be interrupted. So a worker
/// does not do it, but receives from this channel, which it can stop doing when its context is done.
/// A thread that is blocked by then is left behind and ends with the process; it cannot be one of
/// the scope's, because a scope joins its threads.
fn read_pieces(file: &Path) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (pieces_in, pieces) = bounded(1);
    let file = file.to_owned();
    thread::Builder::new().spawn(move || {
        if let Err(err) = send_pieces(&file, &pieces_in) {
            let _ = pieces_in.send(Err(err));
        }
    })?;
    Ok(pieces)
}

fn send_pieces(file: &Path, pieces: &Sender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(PIECE as usize, File::open(file)?);
    loop {
        let mut piece = match reader.fill_buf() {
            Ok(piece) => piece.to_vec(),
            Err(err) if err.kind() == ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        reader.consume(piece.len());
        if !piece.is_empty() && !piece.ends_with(b"\n") {
            reader.by_ref().take(PIECE).read_until(b'\n', &mut piece)?;
        }
        if piece.is_empty() || pieces.send(Ok(piece)).is_err() {
            return Ok(()); // the file has ended, or the worker has stopped
        }
    }
}

/// Writes to standard error. If that fails, there is nowhere to report it.
fn complain(text: &dyn Display) {
    let _ = write!(io::stderr(), "{text}");
}

#[derive(Default)]
struct Counts {
    files: usize,
    words: HashMap<String, u64>,
}

impl Counts {
    /// Adds the words of a file, or of the part of it that is read before the context is done.
    fn read(&mut self, ctx: &Context, file: &Path, lines: &AtomicU64) -> io::Result<()> {
        let pieces = read_pieces(file)?;
        loop {
            match ctx.recv(&pieces) {
                Ok(piece) => self.count(&String::from_utf8_lossy(&piece?), lines),
                Err(RecvError::Done(_)) => return Ok(()),
                Err(_) => break, // disconnected: the file has ended
            }
        }
        self.files += 1;
        Ok(())
    }

    fn count(&mut self, text: &str, lines: &AtomicU64) {
        lines.fetch_add(text.lines().count() as u64, Ordering::Relaxed);
        let text = text.to_lowercase();
        let words = text.split(|letter: char| !letter.is_alphabetic());
        for word in words.filter(|word| !word.is_empty()) {
            match self.words.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.words.insert(word.to_owned(), 1)),
            }
        }
    }

    fn add(&mut self, other: Counts) {
        self.files += other.files;
        for (word, count) in other.words {
            *self.words.entry(word).or_default() += count;
        }
    }

    fn print_top(&self, top: usize) -> io::Result<()> {
        let mut words: Vec<_> = self.words.iter().collect();
        words.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let mut text = String::new();
        for (word, count) in words.into_iter().take(top) {
            text += &format!("{count:8} {word}\n");
        }
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // The reader, such as `head`, needs no more.
            Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(err) => Err(io::Error::new(err.kind(), format!("cannot write: {err}"))),
            Ok(()) => Ok(()),
        }
    }
}

struct Options {
    files: Vec<PathBuf>,
    top: usize,
    workers: NonZeroUsize,
    timeout: Option<Duration>,
    progress: bool,
}

impl Options {
    /// Returns `None` if help is requested.
    fn parse() -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Options {
            files: Vec::new(),
            top: 10,
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            timeout: None,
            progress: io::stderr().is_terminal(),
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("top") => options.top = args.value()?.parse()?,
                Long("workers") => options.workers = args.value()?.parse()?,
                Long("timeout") => {
                    options.timeout = Some(args.value()?.parse_with(humantime::parse_duration)?);
                }
                Long("progress") => options.progress = true,
                Short('h') | Long("help") => return Ok(None),
                Value(file) => options.files.push(file.into()),
                _ => return Err(arg.unexpected()),
            }
        }
        match options.files.is_empty() {
            true => Err("missing argument FILE".into()),
            false => Ok(Some(options)),
        }
    }
}
