//! Finds the words that files use most, with a pool of workers.
//!
//! ```sh
//! cargo run --release --example pool -- --timeout 10s src/*.rs
//! ```
//!
//! The pool is the one that every program on channels comes to:
//!
//! ```text
//! hand_out --jobs--> count_words (N of them) --results--> add_up
//!                         └─ done, a ticker and jobs in one select
//! ```
//!
//! It ends in one of three ways, and in all of them no thread is left: there are no more jobs; a file
//! cannot be read, and its error stops everybody; or the time is over, or somebody has pressed Ctrl-C
//! (with the feature `signal`). What has been counted by then is printed.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, select_biased, tick, Receiver, Sender};
use go_context::Context;

const HELP: &str = "\
Prints the words that files use most, and how often.

Usage: pool [OPTIONS] FILE...

Options:
      --top N         Print N words [default: 10]
      --workers N     Read N files at once [default: one a core]
      --timeout TIME  Stop after this time, such as 2s
      --progress      Show the progress on standard error, even if it is no terminal
  -h, --help          Print this help

A word is letters, in any case. If not all could be counted, what was is printed, and why it is not
all; the exit status is 1. It is 2 for a wrong option.
";

/// How many jobs, and how many results, may lie between two threads.
const QUEUE: usize = 16;
/// How much of a line is read between two looks at the context.
const LONGEST_LINE: u64 = 64 * 1024;
/// How often a worker tells how far it is.
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
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            complain(&format_args!("pool: {err}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let (ctx, _stop) = until_signal()?;
    let (ctx, _cancel) = match options.timeout {
        Some(timeout) => ctx.with_timeout(timeout),
        None => ctx.with_cancel(),
    };
    let mut counts = Counts::default();
    let counted = count(&ctx, options, &mut counts);
    counts.print_top(options.top)?;
    counted
}

/// A context that ends with Ctrl-C, and what keeps it so.
#[cfg(feature = "signal")]
fn until_signal() -> io::Result<(Context, impl Drop)> {
    go_context::signal::NotifyContext::new().start(&Context::background())
}

/// Without the feature Ctrl-C does what it always does.
#[cfg(not(feature = "signal"))]
fn until_signal() -> io::Result<(Context, ())> {
    Ok((Context::background(), ()))
}

/// Adds what the files hold to `counts`, for as long as the context is not done.
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
        // The workers have theirs. With the last of them the results come to an end.
        drop((jobs, results_in));
        add_up(counts, &results, options, &lines);
    })
}

/// Disconnects the channel in the end: there are no more jobs.
fn hand_out<'a>(ctx: &Context, files: &'a [PathBuf], jobs: Sender<&'a Path>) -> io::Result<()> {
    for file in files {
        ctx.send(&jobs, file)?;
    }
    Ok(())
}

/// A worker: it waits for jobs and for the end at once, and is never between the two.
fn count_words(
    ctx: &Context,
    jobs: Receiver<&Path>,
    results: Sender<Counts>,
    lines: &AtomicU64,
) -> io::Result<()> {
    let (done, ticker) = (ctx.done(), tick(TICK));
    let mut counts = Counts::default();
    loop {
        // Done comes first: nobody begins with a file then, however many there are. And with plain
        // `select!` the ticker would have to wait its turn.
        select_biased! {
            recv(done) -> _ => break,
            recv(ticker) -> _ => drop(results.send(std::mem::take(&mut counts))),
            recv(jobs) -> job => match job {
                Ok(file) => counts.read(ctx, file, lines)?,
                Err(_) => break, // no more jobs
            },
        }
    }
    // As at every tick, not by `ctx.send`, which fails when the context is done: what has been counted
    // is not thrown away. Who adds up is there until the last worker has gone.
    let _ = results.send(counts);
    ctx.check().map_err(io::Error::from)
}

/// Collects the results, and shows how far the work is.
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

/// Where nobody reads it, there is nobody to tell.
fn complain(text: &dyn Display) {
    let _ = write!(io::stderr(), "{text}");
}

#[derive(Default)]
struct Counts {
    files: usize,
    words: HashMap<String, u64>,
}

impl Counts {
    /// Adds a file, or the part of it that there is time for.
    fn read(&mut self, ctx: &Context, file: &Path, lines: &AtomicU64) -> io::Result<()> {
        let explain = |err: io::Error| {
            let text = format!("{}: {err}", file.display());
            io::Error::new(err.kind(), text)
        };
        let mut reader = BufReader::new(File::open(file).map_err(explain)?);
        let mut line = Vec::new();
        while ctx.err().is_none() {
            line.clear();
            // A file need not have lines.
            let mut part = reader.by_ref().take(LONGEST_LINE);
            if part.read_until(b'\n', &mut line).map_err(explain)? == 0 {
                self.files += 1;
                break;
            }
            lines.fetch_add(1, Ordering::Relaxed);
            let text = String::from_utf8_lossy(&line).to_lowercase();
            let words = text.split(|letter: char| !letter.is_alphabetic());
            for word in words.filter(|word| !word.is_empty()) {
                match self.words.get_mut(word) {
                    Some(count) => *count += 1,
                    None => drop(self.words.insert(word.to_owned(), 1)),
                }
            }
        }
        Ok(())
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
        let mut out = io::stdout().lock();
        for (word, count) in words.into_iter().take(top) {
            writeln!(out, "{count:8} {word}")?;
        }
        out.flush()
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
    /// `None` is a call for help.
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
            true => Err("which files?".into()),
            false => Ok(Some(options)),
        }
    }
}
