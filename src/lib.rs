//! Cancellation, deadlines and values for threads: Go's `context` package on crossbeam channels.
//!
//! Work on a thread sometimes has to stop early: the client has disconnected, the time is up,
//! another part of the task has failed, or the program is shutting down. A [`Context`] carries this
//! signal to all functions and threads that work on one task, together with a deadline and values.
//! [`Context::done`] is a crossbeam channel, so a thread can wait for work and for cancellation in
//! one `select!`:
//!
//! ```
//! use std::{thread, time::Duration};
//! use go_context::crossbeam_channel::{after, bounded, select};
//! use go_context::Context;
//!
//! let timeout = Duration::from_millis(50);
//! let (ctx, cancel) = Context::background().with_timeout(timeout);
//! let (jobs_tx, jobs) = bounded::<u32>(8);
//! jobs_tx.send(1).unwrap();
//! thread::scope(|s| {
//!     let _cancel_on_exit = cancel.drop_guard(); // Go: defer cancel()
//!     s.spawn(|| loop {
//!         select! {
//!             recv(ctx.done()) -> _ => {
//!                 println!("stopped: {}", ctx.err().unwrap());
//!                 return;
//!             }
//!             recv(jobs) -> job => println!("job {job:?}"),
//!             recv(after(Duration::from_millis(10))) -> _ => {
//!                 println!("no job for 10 ms");
//!             }
//!         }
//!     });
//!     ctx.wait(); // here goes work of your own
//! });
//! assert_eq!(ctx.err(), Some(go_context::Error::DeadlineExceeded));
//! ```
//!
//! This crate is for programs that use threads. Async code has tokens of its own, such as
//! `CancellationToken` of tokio-util.
//!
//! # How to use it
//!
//! - Create a context for each task, such as a request, and derive a child for each part of the
//!   task that has a shorter deadline or must be cancelled separately.
//! - Pass it as the first argument, `ctx: &Context`, to every function that may take long. Clone it
//!   to move it into a thread. Do not store it in a struct that outlives the task.
//! - In such a function, call [`check`](Context::check) between steps, and block only in calls that
//!   also return when the context is done. Cancellation is cooperative: threads are never killed.
//! - When the task is finished, drop its context or call [`cancel`](CancelFunc::cancel), so that
//!   everything that still works on it stops.
//!
//! You do not need to know Go: the documentation of each function states its behaviour, and the
//! [guide] begins with stop flags, `JoinHandle`s and `recv_timeout`. If you know Go's `context`
//! package, the names are the same in snake_case, and the [differences](#differences-from-go) are
//! listed below.
//!
//! # Overview
//!
//! | To | use |
//! | --- | --- |
//! | get a root context | [`Context::background`], [`todo`](Context::todo) |
//! | be able to cancel | [`with_cancel`](Context::with_cancel), [`CancelFunc`], [`DropGuard`] |
//! | limit the time | [`with_timeout`](Context::with_timeout), [`with_deadline`](Context::with_deadline) |
//! | give a reason | [`with_cancel_cause`](Context::with_cancel_cause), [`CancelCauseFunc`], [`Cause`] |
//! | detach or combine | [`without_cancel`](Context::without_cancel), [`merge`](Context::merge) |
//! | poll | [`check`](Context::check), [`err`](Context::err), [`cause`](Context::cause), [`remaining`](Context::remaining) |
//! | find out which context ended, and where | [`explain`](Context::explain), [`Explanation`], [`named`](Context::named) |
//! | block | [`done`](Context::done) in a `select!`, [`recv`](Context::recv), [`send`](Context::send), [`iter`](Context::iter), [`sleep`](Context::sleep), [`wait`](Context::wait), [`wait_while`](Context::wait_while) |
//! | interrupt other calls | [`after_func`](Context::after_func), [`AfterFunc`] |
//! | run a group of threads | [`scope`](Context::scope), [`Scope`] |
//! | carry a `tracing` span into workers and callbacks | [`with_enter`](Context::with_enter) |
//! | pass data of a request | [`with_value`](Context::with_value), [`value`](Context::value), [`Key`] |
//! | read from a socket | [`Context::io`](https://docs.rs/go-context/latest/go_context/struct.Context.html#method.io), with the feature `net` |
//! | stop on Ctrl-C | [`signal::NotifyContext`], with the feature `signal` |
//! | use a type of your own | [`custom`](Context::custom), [`CustomContext`] |
//!
//! [`crossbeam_channel`] is re-exported, so that your `select!` uses the same version as this
//! crate.
//!
#![cfg_attr(
    not(feature = "signal"),
    doc = "[`signal::NotifyContext`]: https://docs.rs/go-context/latest/go_context/signal/\n"
)]
//!
//! # Contexts form a tree
//!
//! The usual root is [`Context::background`]. Other contexts are derived from a parent. Cancelling
//! a context cancels all its descendants and no other context. The first cancellation that reaches
//! a context determines its [`Error`] and its [`Cause`], which do not change afterwards.
//!
//! ```
//! use go_context::Context;
//!
//! let (server, stop) = Context::background().with_cancel_cause();
//! let (request, finish) = server.with_cancel();
//! let (query, _cancel) = request.with_cancel();
//!
//! stop.cancel("shutting down");
//! finish.cancel(); // has no effect: `request` is done already
//! assert_eq!(query.cause().unwrap().to_string(), "shutting down");
//! ```
//!
//! When [`cancel`](CancelFunc::cancel) returns, the context and all its descendants are done.
//! Cancellation is not atomic, though: while `cancel` is running, another thread may see one
//! descendant done and another not yet done.
//!
//! # Explanations
//!
//! Each context records where in your code it was derived, and the one where an end begins also records
//! where it was cancelled, or how late its deadline passed. [`explain`](Context::explain) returns this, for any
//! context that is done:
//!
//! ```
//! use go_context::Context;
//!
//! let (server, stop) = Context::background().with_cancel_cause();
//! let (request, _cancel) = server.named("server").with_cancel();
//! stop.cancel("shutting down");
//!
//! // For example "context canceled: shutting down; cancelled at src/main.rs:5:6,
//! // derived at src/main.rs:3:44 ("server"); 1 context above".
//! let text = request.explain().unwrap().to_string();
//! assert!(text.starts_with("context canceled: shutting down; cancelled at "));
//! assert!(text.ends_with(" (\"server\"); 1 context above"));
//! ```
//!
//! # Ownership
//!
//! A child keeps its parent alive, but a parent does not keep its children alive: dropping the last
//! handle to a context cancels it. See [`Context`](Context#ownership).
//!
//! # Polling and blocking
//!
//! A loop that does not block calls [`check`](Context::check), which is cheap:
//!
//! ```
//! use go_context::{Context, Error};
//!
//! fn count_primes(ctx: &Context, below: u32) -> Result<usize, Error> {
//!     let mut primes: Vec<u32> = Vec::new();
//!     for n in 2..below {
//!         ctx.check()?;
//!         let mut divisors = primes.iter().take_while(|&p| p * p <= n);
//!         if divisors.all(|p| n % p != 0) {
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
//! A thread that blocks selects on [`done`](Context::done). `select!` picks a ready channel at
//! random, so it may keep taking work after the context is done (about half the time when both are
//! ready). `select_biased!` with `done` first does not:
//!
//! ```
//! use go_context::crossbeam_channel::{select_biased, unbounded};
//! use go_context::Context;
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
//! channel and the context, [`sleep`](Context::sleep) on time, [`wait_while`](Context::wait_while)
//! on a condition variable, and [`wait`](Context::wait) on the context alone. In all of them a done
//! context takes precedence. For operations that cannot be used in `select!`, such as a blocking
//! socket read, register an [`after_func`](Context::after_func) that interrupts them.
//!
//! # Groups
//!
//! [`Context::scope`] is Go's errgroup on std's scoped threads: workers may borrow from the stack,
//! the first error cancels the others, and all have finished when it returns.
//!
//! ```
//! use std::{fs, io};
//! use go_context::Context;
//!
//! let paths = vec!["Cargo.toml", "README.md"];
//! let total: io::Result<u64> = Context::background().scope(|s| {
//!     s.set_limit(4);
//!     let sizes: Vec<_> = paths
//!         .iter()
//!         .map(|path| s.spawn(move |_| Ok(fs::metadata(path)?.len())))
//!         .collect();
//!     Ok(sizes.iter().filter_map(|size| size.recv().ok()).sum())
//! });
//! assert!(total.unwrap() > 0);
//! ```
//!
//! # Values
//!
//! A [`Key`] is a type of yours that determines the type of its value, so a lookup is typed, and
//! two crates cannot use the same key by accident. Values are shared, never copied.
//!
//! # Deadlines
//!
//! A deadline never fires early. It may fire slightly late, depending on how long the OS takes to
//! wake a thread. A child may have an earlier deadline than its parent, but not a later one.
//! Cancelling a context removes its timer immediately.
//!
//! Deadlines use the monotonic clock, so changing the system time does not move them. On Linux that
//! clock stops during suspend, so a deadline is delayed by the time the machine was asleep. A
//! deadline may be up to 438 years after the start of the process, which is more than a Go
//! `time.Duration`; a later one means no deadline.
//!
//! All deadlines of a process share one timer thread. It is started by the first deadline that is
//! registered, and inherits the CPU affinity and the niceness of the thread that starts it. So do
//! not set the first deadline of a process on a thread that is pinned to a core or has a low
//! priority, because that would delay all deadlines of the process.
//!
//! # Callbacks
//!
//! Callbacks of [`after_func`](Context::after_func) run on threads of the crate, which are reused.
//! Threads are added only while the queue of callbacks does not move, which is checked every
//! millisecond: short callbacks share a few threads, and callbacks that block get a thread each
//! within a few milliseconds. There are at most 8192 threads; beyond that, callbacks wait until a
//! thread is free. They inherit CPU affinity and niceness from the thread that cancels or from the
//! timer thread.
//!
//! Callbacks that are still pending when `main` returns do not run. Wait for them with
//! [`AfterFunc::stop_and_wait`].
//!
//! What belongs to a thread, such as a `tracing` span, is not there on these threads.
//! [`with_enter`](Context::with_enter) adds a hook that sets it up around each callback, and around the
//! workers of groups.
//!
//! # Threads
//!
//! There is no thread for each context, timeout or child. The crate's threads are started on
//! demand, and none of them keeps the process alive:
//!
//! | Name | Purpose | Ends |
//! | --- | --- | --- |
//! | `go-ctx-timer` | deadlines, and adding callback threads | with the process |
//! | `go-ctx-callback` | callbacks | after 5 s without a callback |
//! | `go-ctx-watch` | waits for a [custom context](CustomContext::after_func) that has children | 100 ms after the last child |
//! | `go-ctx-lookup` | `net::lookup` of a name, with the feature `net` | when the system has answered |
//! | `go-ctx-signal` | waits for the signals of a `NotifyContext` | when they are no longer caught |
//!
//! If a thread cannot be spawned, nothing is lost:
//!
//! - The timer thread is tried again by later calls into this crate, at most every 10 ms:
//!   [`err`](Context::err), [`done`](Context::done), [`wait`](Context::wait),
//!   [`sleep`](Context::sleep), [`recv`](Context::recv), [`send`](Context::send),
//!   [`iter`](Context::iter), [`wait_while`](Context::wait_while), [`scope`](Context::scope),
//!   [`after_func`](Context::after_func), a cancellation, a new deadline, and the end of a
//!   callback. A call that blocks keeps trying. Only a thread in a `select!` of its own cannot, so
//!   in a process that makes no other call the deadline does not fire.
//! - A callback thread is tried again every 10 ms by the timer thread.
//! - A `go-ctx-watch` thread is replaced by a callback thread.
//! - A [group](Context::scope) fails with the error of the operating system, and so does the start
//!   of a `NotifyContext`.
//!
//! After a `fork` without `exec`, the child process has neither a timer thread nor callback
//! threads. Do not create contexts with deadlines there, and do not rely on existing ones.
//!
//! # Panics and locks
//!
//! None of your code (callbacks, hooks, the `Drop` of a value or a cause, a key's `==`, a custom
//! context) runs under a lock of this crate, so it may use any context in any way. If it panics, the
//! panic does not affect other contexts: descendants are still cancelled, deadlines still fire, and
//! callbacks still run. With `panic = "abort"`, a panic in a callback ends the process like any
//! other panic.
//!
//! The one exception is a custom global allocator, which may be called while a lock is held. It may
//! [unpark](std::thread::Thread::unpark) a thread that then cancels a context, but must not use
//! contexts otherwise. It must not even poll a `done` channel, because that takes the channel's
//! lock.
//!
//! # Cost
//!
//! Deriving a context usually takes one allocation. The context is registered with its parent and
//! the timer lazily: by [`done`](Context::done), by [`after_func`](Context::after_func), when a
//! child of it is registered, or after several calls of [`err`](Context::err). Until then `err`
//! asks the ancestors and compares the deadline with the clock, and dropping the context takes no
//! lock of its parent. Afterwards `err` is a single atomic load.
//!
//! A context that can end in several ways is registered when it is created, because their order
//! matters: one with a deadline under a parent that can be cancelled, one with two parents, one
//! under a custom context, and one that signals cancel.
//!
//! A context contains a pointer to the place where it was derived. A cancellation records its place as a
//! number, in the same step in which it changes the state. The rest of an explanation is put together
//! when it is asked for.
//!
//! A chain of a million contexts can be derived, cancelled and dropped without deep recursion.
//!
//! # Differences from Go
//!
//! - Dropping the last handle to a context cancels it. In Go a forgotten context lives until its
//!   parent is cancelled.
//! - There is no nil: not as a parent, not as a key, not as a cause. `cancel(nil)` is
//!   `cancel(Error::Canceled)`, and `Done() != nil` is [`is_cancellable`](Context::is_cancellable).
//! - Keys are typed. What Go checks at run time (and panics on) is a compile error here.
//! - A deadline is an [`Instant`](std::time::Instant), which has no calendar date, so `Display`
//!   shows only the time that is left.
//! - A panic in a callback does not end the process.
//! - [`merge`](Context::merge), [`check`](Context::check), [`remaining`](Context::remaining),
//!   [`wait`](Context::wait), [`sleep`](Context::sleep), [`recv`](Context::recv),
//!   [`send`](Context::send), [`iter`](Context::iter), [`wait_while`](Context::wait_while),
//!   [`explain`](Context::explain), [`named`](Context::named), [`with_enter`](Context::with_enter) and
//!   [`AfterFunc::stop_and_wait`] are not in Go's package.

#![forbid(unsafe_code)]

// rustdoc shows the methods of `Context` in the order of these modules.
mod context;

mod channel;
mod condvar;
mod interrupt;
mod scope;

mod custom;

mod after_func;
mod cancel;
mod deadline;
mod display;
mod enter;
mod error;
mod explain;
mod extension;
mod merge;
#[cfg(feature = "net")]
pub mod net;
mod runtime;
#[cfg(feature = "signal")]
pub mod signal;
mod tree;
mod value;

/// The models that a model checker explores.
#[cfg(all(test, model))]
#[path = "../tests/models/tests/mod.rs"]
mod model;

pub use crossbeam_channel;

pub use crate::after_func::AfterFunc;
pub use crate::cancel::{CancelCauseFunc, CancelFunc, DropGuard};
pub use crate::channel::{Iter, RecvError, SendError};
pub use crate::context::Context;
pub use crate::custom::{CustomContext, Lookup};
pub use crate::deadline::Deadline;
pub use crate::error::{Cause, Error};
pub use crate::explain::{EndKind, Explanation};
pub use crate::scope::Scope;
pub use crate::value::Key;

#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

/// Compiles the snippets of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
