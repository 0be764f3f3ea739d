//! What the tests share.

pub mod blocked;
pub mod custom;
pub mod process;
pub mod reference;
pub mod script;
pub mod threads;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, RecvTimeoutError, TryRecvError};
use go_context::{AfterFunc, Cause, Context, Error, Key};

/// Only a hang takes this long.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A deadline that does not pass during a test.
pub const HOUR: Duration = Duration::from_secs(3600);

/// The text of [`Error::Canceled`].
pub const CANCELED: &str = "context canceled";

/// A function that another thread can run.
pub type Task = Box<dyn FnOnce() + Send>;

/// Returns the folder of the repository.
pub fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("a package within the repository")
}

/// A key for a text.
#[derive(PartialEq, Eq)]
pub struct Name;

impl Key for Name {
    type Value = String;
}

/// Keys for numbers.
#[derive(PartialEq, Eq)]
pub struct Tag(pub u8);

impl Key for Tag {
    type Value = usize;
}

/// Counts its drops.
pub struct Counted(pub Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn is_open(done: &Receiver<()>) -> bool {
    done.try_recv() == Err(TryRecvError::Empty)
}

pub fn is_closed(done: &Receiver<()>) -> bool {
    done.try_recv() == Err(TryRecvError::Disconnected)
}

#[track_caller]
pub fn assert_open(ctx: &Context) {
    assert!(is_open(&ctx.done()), "{ctx}");
    assert_eq!(ctx.err(), None, "{ctx}");
    assert_eq!(ctx.check(), Ok(()), "{ctx}");
    assert!(ctx.cause().is_none(), "{ctx}");
}

/// Asserts that the context is done now, with this error and this text of its cause.
#[track_caller]
pub fn assert_done(ctx: &Context, err: Error, cause: &str) {
    assert_eq!(ctx.err(), Some(err), "{ctx}");
    assert_eq!(ctx.check(), Err(err), "{ctx}");
    let found = ctx.cause().expect("a context with an error has a cause");
    assert_eq!(found.to_string(), cause, "{ctx}");
    assert!(is_closed(&ctx.done()), "{ctx}");
}

/// Waits until the context is done, and asserts the same as [`assert_done`].
#[track_caller]
pub fn assert_ends(ctx: &Context, err: Error, cause: &str) {
    wait(ctx);
    assert_done(ctx, err, cause);
}

/// Waits until the context is done. Returns its error.
#[track_caller]
pub fn wait(ctx: &Context) -> Error {
    let end = ctx.done().recv_timeout(LIMIT);
    assert_eq!(end, Err(RecvTimeoutError::Disconnected), "{ctx} is open");
    ctx.err().expect("its done channel is closed")
}

/// Waits until the channel is closed. No message may come before.
#[track_caller]
pub fn assert_closes<T>(receiver: &Receiver<T>) {
    match receiver.recv_timeout(LIMIT) {
        Ok(_) => panic!("a message came"),
        Err(end) => assert_eq!(end, RecvTimeoutError::Disconnected),
    }
}

/// Waits for a message.
#[track_caller]
pub fn receive<T>(receiver: &Receiver<T>) -> T {
    let message = receiver.recv_timeout(LIMIT);
    message.expect("no message came, or all senders are dropped")
}

/// Waits until the condition is true.
#[track_caller]
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        thread::sleep(Duration::from_micros(100));
    }
}

/// Runs `f` on another thread, and panics if it hangs.
#[track_caller]
pub fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = bounded(1);
    let thread = thread::spawn(move || {
        let _ = sender.send(f());
    });
    match result.recv_timeout(LIMIT) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// Returns whether `f` panics.
pub fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

/// Locks a mutex, even a poisoned one.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a cause that is a text.
pub fn cause(text: &str) -> Cause {
    Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(text))
}

/// Returns the text of a context without what changes over time.
pub fn without_times(text: &str) -> String {
    let mut parts = text.split('[');
    let mut rest = parts.next().unwrap_or_default().to_string();
    for part in parts {
        rest.push('[');
        rest.push_str(&part[part.find(']').expect("a bracket is closed")..]);
    }
    rest
}

/// Makes a context that has been cancelled.
pub fn cancelled() -> Context {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    ctx
}

/// Registers a callback with the context. It sends a message when it runs.
pub fn callback(ctx: &Context) -> Receiver<()> {
    stoppable_callback(ctx).1
}

/// Like [`callback`]. Also returns what stops it.
pub fn stoppable_callback(ctx: &Context) -> (AfterFunc, Receiver<()>) {
    let (sender, ran) = bounded(2);
    let send = move || sender.send(()).expect("the test waits for the callback");
    (ctx.after_func(send), ran)
}

/// Waits until a [`callback`] has run, once.
#[track_caller]
pub fn assert_ran(ran: &Receiver<()>) {
    assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
    let end = ran.recv_timeout(LIMIT);
    assert_eq!(end, Err(RecvTimeoutError::Disconnected), "it ran twice");
}
