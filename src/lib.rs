//! Go's `context` for threads: one way to stop work that is late or no longer wanted.
//!
//! A [`Context`] carries a cancellation signal, a deadline and values through all the functions and
//! threads that work on one task. [`Context::done`] is a crossbeam channel, so a thread can wait
//! for work and for cancellation in one `select!`:
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
//! If you know Go's `context` package you already know this crate: names are the same in
//! snake_case, and anything not documented here behaves as in Go. [A list
//! below](#differences-from-go) names the differences.
//!
//! # Contexts form a tree
//!
//! The root is [`Context::background`]; every other context is derived from a parent. Cancelling a
//! context cancels all its descendants and no other context. The first cancellation that reaches a
//! context fixes its [`Error`] and its [`Cause`].
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
//! [`merge`](Context::merge) creates a context with two parents, and [`custom`](Context::custom)
//! makes one from any type of yours.
//!
//! When [`cancel`](CancelFunc::cancel) returns, the context and all its descendants are done.
//! Cancellation is not atomic, though: while `cancel` is running, another thread may see one
//! descendant done and another not yet done.
//!
//! Contexts are registered lazily. A new context is unknown to its parent and to the timer, and
//! [`err`](Context::err) asks its ancestors instead. It is registered by [`done`](Context::done),
//! by [`after_func`](Context::after_func), when a child of it is registered, or after a number of
//! calls of `err`. So a context that is derived, passed on and dropped takes no lock of its parent.
//! A context that may end for several reasons is registered when it is made, because their order
//! counts: one with a deadline under a parent that can be cancelled, one with two parents, one under
//! a custom context, and one cancelled by signals.
//!
//! # Polling and waiting
//!
//! A loop that never blocks calls [`check`](Context::check), which costs next to nothing:
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
//! A thread that blocks names [`done`](Context::done) in its `select!`. `select!` picks a ready
//! channel at random, so it may keep taking work after the context is done (about half the time
//! when both are ready). `select_biased!` with `done` first never does:
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
//! [`recv`](Context::recv), [`send`](Context::send) and [`iter`](Context::iter) block on one
//! channel, [`sleep`](Context::sleep) on time, [`wait`](Context::wait) on the context alone, and
//! [`wait_while`](Context::wait_while) on a condition variable. In all of them a done context wins.
//! For operations that cannot be used in `select!`, such as a blocking socket read, register an
//! [`after_func`](Context::after_func) that interrupts them. Threads are never killed.
//!
//! # Groups
//!
//! [`Context::scope`] is Go's errgroup on std's scoped threads: workers may borrow from the stack,
//! stop at the first error, and have all finished when it returns.
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
//! All deadlines of a process share one thread, `go-ctx-timer`. It is started by the first deadline
//! that is registered and runs until the process exits; it does not keep the process alive. A
//! deadline is never early. A child may have an earlier deadline than its parent, not a later one.
//! Cancelling a context removes its timer immediately.
//!
//! The timer thread inherits the CPU affinity and the niceness of the thread whose call starts it.
//! So the first deadline of a process should not be set by a thread that is pinned to a core or has
//! a low priority, because that would make all deadlines of the process later. Callback threads
//! inherit them too, from the thread that cancels or from the timer thread.
//!
//! Deadlines use the monotonic clock, so changing the system time does not move them. On Linux that
//! clock stops during suspend, so a deadline is delayed by the time the machine was asleep.
//!
//! A deadline may lie up to 438 years after the start of the process, further than a Go
//! `time.Duration` reaches. A later one means no deadline.
//!
//! After a `fork` that is not followed by `exec`, the child process has neither a timer thread nor
//! threads for callbacks: do not create contexts with deadlines in the child, and do not rely on
//! existing ones.
//!
//! # Values
//!
//! A [`Key`] is a type of yours that names the type of its value, so a lookup is typed and two
//! crates cannot use the same key by accident. Values are shared, never copied.
//!
//! # Ownership
//!
//! A child keeps its parent alive, but a parent does not keep its children alive: dropping the last
//! handle to a context cancels it. See [`Context`](Context#ownership).
//!
//! # Callbacks
//!
//! Functions given to [`after_func`](Context::after_func) run on threads named `go-ctx-callback`,
//! which are kept for a few seconds and used again. Threads are added only while the queue does not
//! move, so short callbacks share a few threads, and each one that blocks gets its own within a few
//! milliseconds. There are at most 8192. The timer thread adds them, so a process may have a timer
//! thread even if it sets no deadline.
//!
//! # Panics and foreign code
//!
//! None of your code (callbacks, a `Drop` of a value or of a cause, a key's `==`) runs under a lock
//! of this crate, so it may use any context in any way. If your code panics, the panic does not
//! affect other contexts: descendants are still cancelled, deadlines still fire, and callbacks
//! still run. With `panic = "abort"`, a panic in a callback ends the process like any other.
//!
//! The one exception is a custom global allocator, which may be called while a lock is held. It may
//! [unpark](std::thread::Thread::unpark) a thread that then cancels a context. It must not use
//! contexts in any other way; it must not even poll a `done` channel, because that takes the
//! channel's lock.
//!
//! # Refused threads
//!
//! If a thread cannot be spawned, nothing is lost:
//!
//! - The *timer thread* is tried again by any later use of the crate, at most every 10 ms: by
//!   [`err`](Context::err), [`done`](Context::done), [`wait`](Context::wait),
//!   [`sleep`](Context::sleep), [`recv`](Context::recv), [`send`](Context::send),
//!   [`iter`](Context::iter), [`wait_while`](Context::wait_while), [`scope`](Context::scope), a
//!   cancellation, [`after_func`](Context::after_func), a new deadline, and by a callback thread
//!   after each callback. A thread that blocks in one of these calls keeps trying. Only a thread
//!   that blocks in a `select!` of its own, in a process that uses the crate nowhere else, cannot
//!   try.
//! - *Callback threads* are tried again every 10 ms by the timer thread.
//! - The thread that *watches a custom context* is replaced by a callback thread.
//! - A [group](Context::scope) fails with the system's error, and so does the start of a context
//!   for signals.
//!
//! # Differences from Go
//!
//! - Dropping the last handle to a context cancels it. In Go a forgotten context lives until its
//!   parent ends.
//! - There is no nil: not as a parent, not as a key, not as a cause. `cancel(nil)` is
//!   `cancel(Error::Canceled)`, and `Done() != nil` is [`is_cancellable`](Context::is_cancellable).
//! - Keys are typed. What Go checks at run time (and panics on) is a compile error here.
//! - A deadline is an [`Instant`](std::time::Instant), which has no calendar, so `Display` shows
//!   only the time that is left.
//! - A panic in a callback does not end the process.
//! - [`merge`](Context::merge), [`check`](Context::check), [`remaining`](Context::remaining),
//!   [`wait`](Context::wait), [`sleep`](Context::sleep), [`recv`](Context::recv),
//!   [`send`](Context::send), [`iter`](Context::iter), [`wait_while`](Context::wait_while) and
//!   [`AfterFunc::stop_and_wait`] have no counterpart.
//!
//! The [guide] shows how to do in this crate what you do in Go, task by task.

#![forbid(unsafe_code)]

// rustdoc shows the methods of `Context` in the order of these modules.
mod context;

mod channel;
mod condvar;
mod scope;

mod custom;

mod after_func;
mod cancel;
mod deadline;
mod display;
mod error;
mod merge;
mod runtime;
#[cfg(feature = "signal")]
pub mod signal;
mod tree;
mod value;

/// What a model checker explores.
#[cfg(all(test, model))]
#[path = "../models/tests/mod.rs"]
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

/// Compiles the snippets of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
