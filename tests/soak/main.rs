//! Creates contexts of all kinds on many threads for a given time, and ends them in every way. Checks
//! the documented contract all the time, and at the end that everything is as before: memory, threads,
//! open files.
//!
//! ```sh
//! cargo run --release -p go-context-soak -- --seconds 60
//! ```
//!
//! Prints a line at each tenth of the time, in which what is alive should be much the same. Each
//! thread's steps are random, and the seed is printed; how the threads interleave is not.

mod census;
mod contract;
mod load;
mod random;
mod things;

use std::alloc::System;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cap::Cap;
use go_context::crossbeam_channel::{bounded, RecvTimeoutError};

use crate::census::{Census, COLUMNS};
use crate::contract::{load, must, BROKEN, FATES, PANICS};
use crate::load::{Counts, Shared, Worker, KINDS};
use crate::random::Random;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const HELP: &str = "\
Makes contexts on many threads and ends them, and looks whether all is as it must be.

Usage: soak [OPTIONS]

Options:
      --seconds N  Go on for so long [default: 10]
      --threads T  Use so many threads [default: 16]
      --seed S     Do what was done with this seed [default: from the clock]
  -h, --help       Print this help

The exit status is 1 if anything was not as it must be or is left over, and 2 for a wrong option.
";

/// How long the load runs before the first census: after that everything that is created once exists,
/// such as the timer thread.
const WARM_UP: Duration = Duration::from_secs(1);
/// Far more than it takes until all is done and the threads for callbacks have ended.
const LIMIT: Duration = Duration::from_secs(60);
/// How much more heap may be in use at the end, however long the run was: the channels for callbacks
/// keep room for as many threads as have waited there at once, which may be some hundred more than in
/// the warm-up, and for a few messages. So small a part of the contexts cannot leak unnoticed.
const SPARE: usize = 64 * 1024;

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(err) => {
            eprintln!("soak: {err}\nTry --help.");
            return ExitCode::from(2);
        }
    };
    contract::expect_planned_panics();
    println!("{} threads, seed {}\n", options.threads, options.seed);
    println!("         {:>10} {:>9} {COLUMNS}", "contexts", "a second");

    soak(&options, WARM_UP, 0);
    let mut is_over = wait_until(Census::is_idle);
    let begin = Census::take();
    println!("begin    {:>10} {:>9} {begin}", "", "");

    let counts = soak(&options, options.time, 10);
    is_over &= wait_until(|now| now.left_since(&begin, SPARE).is_empty());
    let end = Census::take();
    println!("end      {:>10} {:>9} {end}\n", "", "");
    must(is_over, "something is left over");
    FATES.must_be_decided();

    print_counts(&counts, options.time);
    for what in end.left_since(&begin, SPARE) {
        println!("left over: {what}");
    }
    match load(&BROKEN) {
        0 => println!("all is as it must be"),
        broken => {
            println!("{broken} times something was not as it must be");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs the load, and prints a line at the end of each of that many parts of the time.
fn soak(options: &Options, time: Duration, parts: u32) -> Counts {
    let shared = Shared::new();
    let (running, ended) = bounded::<()>(0);
    let workers: Vec<_> = (0..options.threads)
        .map(|number| {
            let (shared, running) = (shared.clone(), running.clone());
            let random = Random::new(options.seed.wrapping_add(number));
            let thread = thread::Builder::new().name("soak-worker".into());
            let worker = thread.spawn(move || {
                Worker::new(shared, random).run();
                drop(running);
            });
            worker.expect("the system has threads")
        })
        .collect();
    drop(running);

    let (start, mut before) = (Instant::now(), 0);
    for part in 1..=parts.max(1) {
        let end = start + time * part / parts.max(1);
        let still = ended.recv_deadline(end) == Err(RecvTimeoutError::Timeout);
        must(still, "the threads have ended before the time");
        if parts > 0 {
            let made = shared.counts.total();
            let a_second = (made - before) as f64 / (time / parts).as_secs_f64();
            let percent = 100 * part / parts;
            println!(
                "{percent:>5} %  {made:>10} {a_second:>9.0} {}",
                Census::take()
            );
            before = made;
        }
    }
    shared.stop.store(true, Ordering::Relaxed);
    if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
        eprintln!("soak: a thread hangs");
        process::exit(1);
    }
    for worker in workers {
        must(worker.join().is_ok(), "a thread has panicked");
    }
    let shared = Arc::into_inner(shared).expect("the threads have ended");
    shared.counts
}

/// False if that does not happen.
fn wait_until(condition: impl Fn(&Census) -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if condition(&Census::take()) {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    false
}

fn print_counts(counts: &Counts, time: Duration) {
    for (kind, made) in KINDS.iter().zip(&counts.made) {
        println!("{:>12}  {kind}", load(made));
    }
    let all = counts.total();
    println!(
        "{all:>12}  contexts, {:.0} a second\n",
        all as f64 / time.as_secs_f64()
    );
    let rest = [
        ("cancellations", &counts.cancels),
        ("deadlines seen to have passed", &counts.expiries),
        ("calls cut short", &counts.blocked),
        ("groups", &counts.groups),
        ("functions registered", &FATES.registered),
        ("functions run", &FATES.ran),
        ("functions stopped", &FATES.stopped),
        ("functions of contexts that are never done", &FATES.idle),
        ("panics on purpose", &PANICS),
    ];
    for (what, count) in rest {
        println!("{:>12}  {what}", load(count));
    }
    println!();
}

struct Options {
    time: Duration,
    threads: u64,
    seed: u64,
}

impl Options {
    /// `None` means that help was asked for.
    fn parse() -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;

        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut options = Options {
            time: Duration::from_secs(10),
            threads: 16,
            seed: now.map_or(1, |now| now.as_secs()),
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("seconds") => options.time = Duration::from_secs(args.value()?.parse()?),
                Long("threads") => options.threads = args.value()?.parse()?,
                Long("seed") => options.seed = args.value()?.parse()?,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(options))
    }
}
