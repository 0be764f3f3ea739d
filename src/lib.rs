//! Go's `context` for threads: one way to say "stop this work, it is late, or nobody wants it any
//! more".
//!
//! A [`Context`] carries a cancellation, a deadline and values through all the functions and threads
//! that work on one task. [`Context::done`] is a crossbeam channel, so a thread waits for its work
//! and for the end of it in one `select!`:
//!
//! ```
//! use std::{thread, time::Duration};
//! use go_context::{crossbeam_channel::{after, bounded, select}, Context};
//!
//! let (ctx, cancel) = Context::background().with_timeout(Duration::from_millis(50));
//! let _cancel_on_exit = cancel.drop_guard();                   // defer cancel()
//! let (jobs_tx, jobs) = bounded::<u32>(8);
//! jobs_tx.send(1).unwrap();
//! thread::scope(|s| {                                          // the WaitGroup
//!     s.spawn(|| loop {
//!         select! {
//!             recv(ctx.done()) -> _ => { println!("operation cancelled: {}", ctx.err().unwrap()); return }
//!             recv(jobs) -> job => println!("job {job:?}"),
//!             recv(after(Duration::from_millis(10))) -> _ => println!("10 ms after."),
//!         }
//!     });
//! });
//! # assert_eq!(ctx.err(), Some(go_context::Error::DeadlineExceeded));
//! ```
//!
//! Who knows Go's package knows this one: the names are the same, in snake case, and where this
//! documentation is silent what Go does is the answer. What differs is [listed
//! below](#differences-from-go).
//!
//! # Contexts form a tree
//!
//! It starts at [`Context::background`]; every other context is derived from one, its parent.
//! Cancelling a context cancels all its descendants and nobody else. The first cancellation that
//! reaches a context fixes its [`Error`] and its [`Cause`].
//!
//! ```
//! use go_context::Context;
//!
//! let (server, stop) = Context::background().with_cancel_cause();
//! let (request, finish) = server.with_cancel();
//! let (query, _cancel) = request.with_cancel();
//!
//! stop.cancel("shutting down");
//! finish.cancel(); // too late to make a difference
//! assert_eq!(query.cause().unwrap().to_string(), "shutting down");
//! ```
//!
//! A context can have two parents, by [`merge`](Context::merge), and any type of yours can be one, by
//! [`custom`](Context::custom).
//!
//! When [`cancel`](CancelFunc::cancel) returns, all of them are done. But it is not atomic: while it
//! is under way, one descendant may be seen done and another not yet.
//!
//! # Asking and waiting
//!
//! A loop that never blocks asks [`check`](Context::check), which costs next to nothing:
//!
//! ```
//! use go_context::{Context, Error};
//!
//! fn count_primes(ctx: &Context, below: u32) -> Result<usize, Error> {
//!     let mut primes: Vec<u32> = Vec::new();
//!     for n in 2..below {
//!         ctx.check()?;
//!         if primes.iter().take_while(|&p| p * p <= n).all(|p| n % p != 0) {
//!             primes.push(n);
//!         }
//!     }
//!     Ok(primes.len())
//! }
//!
//! let (ctx, cancel) = Context::background().with_cancel();
//! assert_eq!(count_primes(&ctx, 100), Ok(25));
//! cancel.cancel();
//! assert_eq!(count_primes(&ctx, 100), Err(Error::Canceled));
//! ```
//!
//! A thread that blocks names [`done`](Context::done) in its `select!`. That macro takes any of the
//! channels that are ready, so it may go on with work after the context is done: where both are ready
//! it took work in 50.05 % of a million rounds. `select_biased!` with `done` first never does:
//!
//! ```
//! use go_context::{crossbeam_channel::{select_biased, unbounded}, Context};
//!
//! let (ctx, cancel) = Context::background().with_cancel();
//! let (tx, jobs) = unbounded();
//! tx.send("job").unwrap();
//! cancel.cancel();
//! select_biased! {
//!     recv(ctx.done()) -> _ => {}
//!     recv(jobs) -> job => unreachable!("{job:?}"),
//! }
//! ```
//!
//! For one channel there are [`recv`](Context::recv), [`send`](Context::send) and
//! [`iter`](Context::iter), in which a context that is done wins every time; to sleep or just to wait,
//! [`sleep`](Context::sleep) and [`wait`](Context::wait); for a condition variable,
//! [`wait_while`](Context::wait_while). For what cannot be selected on, such as a socket, there is
//! [`after_func`](Context::after_func): have it end the wait from outside. No thread is ever stopped
//! by force.
//!
//! # Groups
//!
//! [`Context::scope`] is Go's errgroup on std's scoped threads: workers that borrow from the stack,
//! stop at the first error, and have all ended when it returns.
//!
//! ```
//! use std::{fs, io};
//! use go_context::Context;
//!
//! let paths = vec!["Cargo.toml", "README.md"];
//! let sizes: io::Result<u64> = Context::background().scope(|s| {
//!     s.set_limit(4);
//!     let sizes: Vec<_> = paths
//!         .iter()
//!         .map(|path| s.spawn(move |_| Ok(fs::metadata(path)?.len())))
//!         .collect();
//!     sizes.iter().filter_map(|size| size.recv().ok()).sum()
//! });
//! assert!(sizes.unwrap() > 0);
//! ```
//!
//! # Deadlines
//!
//! All deadlines of a process share one thread, `go-ctx-timer`. It is started by the first one that
//! anybody waits for, and never ends, which does not keep the process from ending. A deadline is never early. A child
//! may have an earlier deadline than its parent, not a later one. Cancelling a context takes its
//! timer out at once.
//!
//! A clock that is set moves no deadline. While a machine sleeps, the clock of an `Instant` may stand
//! still, as it does on Linux, and a deadline is later by that.
//!
//! After a `fork` that is not followed by `exec`, the child process has no timer thread and no
//! threads for callbacks: make no contexts with deadlines there, and rely on none made before.
//!
//! # Values
//!
//! A [`Key`] is a type of yours that names the type of its value, so a lookup is typed and two crates
//! cannot get in each other's way. Values are shared, never copied.
//!
//! # Who holds whom
//!
//! A child keeps its parent alive, a parent never keeps a child alive, and a context that nobody
//! holds any more is thereby cancelled. See [`Context`](Context#who-holds-whom).
//!
//! # Panics and foreign code
//!
//! None of your code (callbacks, a `Drop` of a value or of a cause, a key's `==`) runs under a lock
//! of this crate, so it may use any context in any way. A panic in it harms no one but who ran it:
//! all descendants are cancelled, all deadlines kept and all callbacks started all the same. Where
//! panics abort, one in a callback ends the process as any other does.
//!
//! The exception is a global allocator of yours, for it is called wherever memory is needed, also under
//! a lock. It may look, by `try_recv`, at a channel that `done` gave while the context was open, and
//! wake a thread that cancels; it must not use contexts in any other way.
//!
//! Nothing is lost if the system refuses a thread. Deadlines wait for the next deadline that gets it,
//! callbacks and the watching of custom contexts for the first thread to be had, which is tried again
//! every 10 ms; a group fails, and so does the start of a context for signals.
//!
//! # Differences from Go
//!
//! - A context that nobody holds is cancelled. In Go one that is forgotten lives on until its parent
//!   ends.
//! - There is no nil: not as a parent, not as a key, not as a cause. `cancel(nil)` is
//!   `cancel(Error::Canceled)`, and instead of asking whether `Done()` is nil one asks
//!   [`is_cancellable`](Context::is_cancellable).
//! - Keys are typed. What Go checks when it runs, and panics, does not compile here.
//! - A deadline is an [`Instant`](std::time::Instant), which has no calendar, so a context prints
//!   only the time that is left. One too far ahead for an `Instant` is no deadline.
//! - A panic in a callback does not end the process.
//! - [`merge`](Context::merge), [`check`](Context::check), [`remaining`](Context::remaining),
//!   [`wait`](Context::wait), [`sleep`](Context::sleep), [`recv`](Context::recv),
//!   [`send`](Context::send), [`iter`](Context::iter), [`wait_while`](Context::wait_while) and
//!   [`AfterFunc::stop_and_wait`] have no counterpart.
//!
//! The [guide] goes from Go to here by task.

#![forbid(unsafe_code)]

mod after_func;
mod callback;
mod cancel;
mod cancellation;
mod channel;
mod condvar;
mod context;
mod custom;
mod deadline;
mod display;
mod done;
mod error;
mod foreign;
mod lane;
mod merge;
#[cfg_attr(model, path = "../models/stand_in/pool.rs")]
mod pool;
mod schedule;
mod scope;
#[cfg(feature = "signal")]
pub mod signal;
mod slab;
#[cfg_attr(model, path = "../models/stand_in/sync.rs")]
mod sync;
#[cfg_attr(model, path = "../models/stand_in/timer.rs")]
mod timer;
mod tree;
mod unwind;
mod value;

/// What a model checker explores.
#[cfg(all(test, model))]
#[path = "../models/model/mod.rs"]
mod model;

pub use crossbeam_channel;

pub use crate::after_func::AfterFunc;
pub use crate::cancel::{CancelCauseFunc, CancelFunc, DropGuard};
pub use crate::channel::{Iter, RecvError, SendError};
pub use crate::context::Context;
pub use crate::custom::{CustomContext, Lookup};
pub use crate::deadline::Deadline;
pub use crate::error::{Cause, Error};
pub use crate::scope::Scope;
pub use crate::value::Key;

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

/// The snippets of the README are tested too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
