//! Groups that fail: all end, with the error that the author of the program meant.

use std::error::Error as StdError;
use std::fmt;
use std::fs::File;
use std::io;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use go_context::crossbeam_channel::{bounded, Receiver, Sender, TryRecvError};
use go_context::{Context, Error, Scope};
use support::blocked::block;
use support::{assert_closes, cancelled, in_time, panics, receive, wait, HOUR};

/// Starts a worker that ends only when the group's context is done.
fn heartbeat<'scope, E>(s: Scope<'scope, '_, E>)
where
    E: fmt::Display + Send,
{
    s.spawn(|ctx| {
        while ctx.sleep(Duration::from_millis(1)).is_ok() {}
        Ok(())
    });
}

fn background() -> Context {
    Context::background()
}

// Programs that must end

#[test]
fn error_of_f_ends_sleeping_workers() {
    in_time(|| {
        let ended = background().scope(|s| -> io::Result<File> {
            heartbeat(s);
            File::open("no such file")
        });
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn panic_of_f_ends_sleeping_workers() {
    in_time(|| {
        let panic = catch_unwind(|| {
            background().scope(|s| -> io::Result<()> {
                heartbeat(s);
                panic!("planned")
            })
        });
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"planned"));
    });
}

#[test]
fn worker_error_ends_recv_of_f() {
    in_time(|| {
        let (_sender, jobs) = bounded::<()>(0);
        let ended = background().scope(|s| -> io::Result<()> {
            s.spawn(|_| -> io::Result<()> { Err(io::Error::other("no more disk")) });
            Ok(s.context().recv(&jobs)?)
        });
        // Not that of `recv`, which is a consequence.
        assert_eq!(ended.unwrap_err().to_string(), "no more disk");
    });
}

#[test]
fn workers_spawn_at_limit_under_cancelled_parent() {
    fn spread<'scope>(
        s: Scope<'scope, '_, Error>,
        depth: usize,
        ran: &'scope AtomicUsize,
    ) -> Result<(), Error> {
        ran.fetch_add(1, Ordering::SeqCst);
        for _ in 0..depth {
            s.spawn(move |_| spread(s, depth - 1, ran));
        }
        Ok(())
    }
    in_time(|| {
        let ran = AtomicUsize::new(0);
        let ended: Result<(), Error> = cancelled().scope(|s| {
            s.set_limit(1);
            let ran = &ran;
            s.spawn(move |_| spread(s, 4, ran));
            Ok(())
        });
        assert_eq!(ended, Ok(()));
        assert_eq!(ran.into_inner(), 1 + 4 + 4 * 3 + 4 * 3 * 2 + 4 * 3 * 2);
    });
}

#[test]
fn inner_scope_error_ends_outer_scope() {
    fn inner(ctx: &Context) -> io::Result<()> {
        ctx.scope(|s| {
            heartbeat(s);
            s.spawn(|_| -> io::Result<()> { Err(io::Error::other("inner")) });
            Ok(())
        })
    }
    in_time(|| {
        let from_worker: io::Result<()> = background().scope(|s| {
            heartbeat(s);
            s.spawn(inner);
            Ok(())
        });
        assert_eq!(from_worker.unwrap_err().to_string(), "inner");
        let from_f: io::Result<()> = background().scope(|s| {
            heartbeat(s);
            inner(s.context())
        });
        assert_eq!(from_f.unwrap_err().to_string(), "inner");
    });
}

// The user's error types

#[test]
fn scope_error_is_a_string() {
    let ended = background().scope(|s| -> Result<u32, String> {
        heartbeat(s);
        "x".parse().map_err(|err| format!("not a number: {err}"))
    });
    let text = "not a number: invalid digit found in string";
    assert_eq!(ended, Err(text.to_string()));
}

#[test]
fn scope_error_is_the_error_of_a_context() {
    let (ctx, _cancel) = background().with_timeout(Duration::from_millis(1));
    let ended: Result<(), Error> = ctx.scope(|s| {
        s.spawn(|ctx| ctx.sleep(HOUR));
        Ok(())
    });
    assert_eq!(ended, Err(Error::DeadlineExceeded));

    let (ctx, cancel) = background().with_cancel();
    let ended: Result<(), Error> = ctx.scope(|s| {
        heartbeat(s);
        cancel.cancel();
        s.context().check()
    });
    assert_eq!(ended, Err(Error::Canceled));
}

#[test]
fn scope_error_is_from_anyhow() {
    let ended: anyhow::Result<()> = background().scope(|s| {
        heartbeat(s);
        s.spawn(|_| "x".parse::<u32>().context("the worker's"));
        Ok(())
    });
    let err = ended.unwrap_err();
    assert_eq!(err.to_string(), "the worker's");
    assert!(err.root_cause().is::<std::num::ParseIntError>());

    let ended: anyhow::Result<File> = background().scope(|s| {
        heartbeat(s);
        File::open("no such file").context("that of `f`")
    });
    let err = ended.unwrap_err();
    assert_eq!(err.to_string(), "that of `f`");
    assert!(err.root_cause().is::<io::Error>());
}

#[test]
fn scope_error_is_boxed() {
    type Boxed = Box<dyn StdError + Send + Sync>;
    let ended: Result<(), Boxed> = background().scope(|s| {
        heartbeat(s);
        s.spawn(|_| -> Result<u32, Boxed> { Ok("x".parse()?) });
        Ok(())
    });
    assert!(ended.unwrap_err().is::<std::num::ParseIntError>());

    let ended: Result<(), Boxed> = background().scope(|s| {
        heartbeat(s);
        Err("just a text".into())
    });
    assert_eq!(ended.unwrap_err().to_string(), "just a text");
}

/// An error with a part that is not `'static`.
#[derive(Debug, PartialEq)]
struct BadLine<'a>(&'a str);

impl fmt::Display for BadLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a number: {}", self.0)
    }
}

/// Workers may borrow what lives less long than the text that an error borrows from.
fn sum(text: &str) -> Result<usize, BadLine<'_>> {
    let total = AtomicUsize::new(0);
    background().scope(|s| {
        let words = s.spawn(|_| Ok(text.split(' ').count()));
        for line in text.lines() {
            let total = &total;
            s.spawn(move |_| {
                let number = line.parse().map_err(|_| BadLine(line))?;
                Ok(total.fetch_add(number, Ordering::SeqCst))
            });
        }
        match words.recv() {
            Ok(1) => Ok(()),
            _ => Err(BadLine(text)),
        }
    })?;
    Ok(total.into_inner())
}

#[test]
fn scope_error_borrows_from_the_stack() {
    let text = ["1\n2", "1\nx", "1 2"].map(String::from);
    assert_eq!(sum(&text[0]), Ok(3));
    assert_eq!(sum(&text[1]), Err(BadLine("x")));
    assert_eq!(sum(&text[2]), Err(BadLine("1 2")));
}

#[test]
fn scope_error_is_static_and_worker_borrows() {
    let numbers = [1, 2, 3];
    let mut total = 0;
    let ended: Result<(), &'static str> = background().scope(|s| {
        let (numbers, total) = (&numbers, &mut total);
        s.spawn(move |_| {
            *total = numbers.iter().sum();
            Err::<(), _>("a constant")
        });
        Ok(())
    });
    assert_eq!(ended, Err("a constant"));
    assert_eq!(total, 6);
}

// The first in time, and all of them

/// A worker fails, and then the function that spawned it.
fn fail_worker_then_f(s: Scope<'_, '_, &'static str>) -> Result<(), &'static str> {
    assert_closes(&s.spawn(|_| Err::<(), _>("worker")));
    Err("f")
}

/// The function that spawns a worker fails, and then the worker.
fn fail_f_then_worker(s: Scope<'_, '_, &'static str>) -> Result<(), &'static str> {
    s.spawn(|ctx| {
        wait(ctx);
        Err::<(), _>("worker")
    });
    Err("f")
}

#[test]
fn worker_error_before_that_of_f_wins() {
    for _ in 0..100 {
        assert_eq!(background().scope(fail_worker_then_f), Err("worker"));
    }
}

#[test]
fn error_of_f_before_that_of_worker_wins() {
    for _ in 0..100 {
        assert_eq!(background().scope(fail_f_then_worker), Err("f"));
    }
}

#[test]
fn error_of_f_is_the_cause_and_leaves_parent_open() {
    let (parent, _cancel) = background().with_cancel();
    let mut group = None;
    let ended = parent.scope(|s| {
        group = Some(s.context().clone());
        fail_f_then_worker(s)
    });
    assert_eq!(ended, Err("f"));
    assert_eq!(group.unwrap().cause().unwrap().to_string(), "f");
    assert_eq!(parent.err(), None);
}

#[test]
fn scope_all_returns_error_of_f_first() {
    let both = Err(vec!["f", "worker"]);
    assert_eq!(background().scope_all(fail_worker_then_f), both);
    assert_eq!(background().scope_all(fail_f_then_worker), both);
}

// Errors that block or panic while they are displayed

/// How long a thread waits for the text of a cause at most.
const TEXT_LIMIT: Duration = Duration::from_secs(10);

/// Blocks while it is displayed, until a sender is dropped.
struct Slow {
    begins: Sender<()>,
    go_on: Receiver<()>,
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = self.begins.try_send(());
        assert_closes(&self.go_on);
        f.write_str("slow")
    }
}

#[test]
fn display_that_blocks_delays_no_cancellation() {
    in_time(|| {
        let (begins, begun) = bounded(1);
        let (go, go_on) = bounded::<()>(0);
        let ended: Result<(), Slow> = background().scope(|s| {
            let other = s.spawn(|ctx| Ok(wait(ctx)));
            let failing = s.spawn(|_| -> Result<(), Slow> { Err(Slow { begins, go_on }) });
            receive(&begun); // it is blocked from now on
            assert_eq!(receive(&other), Error::Canceled);
            assert_eq!(wait(s.context()), Error::Canceled);
            assert!(s.try_spawn(|_| Ok(())).is_err());
            assert_closes(&s.spawn(|_| Ok(())));
            // A thread that asks for the text waits for it.
            let ctx = s.context().clone();
            let text = block(move || ctx.cause().unwrap().to_string());
            assert_eq!(text.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(failing.try_recv(), Err(TryRecvError::Empty));
            drop(go);
            assert_eq!(receive(&text), "slow");
            assert_closes(&failing);
            Ok(())
        });
        assert_eq!(ended.err().unwrap().to_string(), "slow");
    });
}

#[test]
fn display_of_f_error_that_blocks_delays_no_cancellation() {
    in_time(|| {
        let (begins, begun) = bounded(1);
        let (go, go_on) = bounded::<()>(0);
        let ended: Result<(), Slow> = background().scope(|s| {
            s.spawn(move |ctx| {
                receive(&begun);
                wait(ctx);
                drop(go);
                assert_eq!(ctx.cause().unwrap().to_string(), "slow");
                Ok(())
            });
            Err(Slow { begins, go_on })
        });
        assert!(ended.is_err());
    });
}

/// Displays the cause of a context.
struct Curious(Context);

impl fmt::Display for Curious {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = Instant::now();
        write!(f, "because {}", self.0.cause().unwrap())?;
        assert!(start.elapsed() < TEXT_LIMIT, "it waits for itself");
        Ok(())
    }
}

#[test]
fn display_that_reads_its_own_cause_does_not_wait() {
    let ended: Result<(), Curious> = background().scope(|s| {
        s.spawn(|ctx| -> Result<(), Curious> { Err(Curious(ctx.clone())) });
        Ok(())
    });
    let ctx = ended.err().unwrap().0;
    assert_eq!(ctx.cause().unwrap().to_string(), "because worker failed");
}

/// Panics while it is displayed, when a sender is dropped.
struct SlowPanic(Slow);

impl fmt::Display for SlowPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        std::panic::resume_unwind(Box::new("planned")) // without the hook
    }
}

#[test]
fn display_that_panics_wakes_threads_that_wait_for_text() {
    in_time(|| {
        let (begins, begun) = bounded(1);
        let (go, go_on) = bounded::<()>(0);
        let mut text = None;
        let panicked = panics(|| {
            let _ = background().scope(|s| {
                s.spawn(|_| -> Result<(), SlowPanic> { Err(SlowPanic(Slow { begins, go_on })) });
                receive(&begun);
                let ctx = s.context().clone();
                text = Some(block(move || {
                    let start = Instant::now();
                    (ctx.cause().unwrap().to_string(), start.elapsed())
                }));
                drop(go);
                Ok(())
            });
        });
        assert!(panicked);
        let (text, waited) = receive(&text.unwrap());
        assert_eq!(text, "worker failed");
        assert!(waited < TEXT_LIMIT, "it was not woken");
    });
}

/// A text that is needed only for the cause.
#[test]
fn display_of_later_errors_is_not_used() {
    struct Counts<'a>(&'a AtomicUsize);
    impl fmt::Display for Counts<'_> {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }
    let count = AtomicUsize::new(0);
    let all: Result<(), Vec<Counts<'_>>> = background().scope_all(|s| {
        for _ in 0..4 {
            s.spawn(|_| -> Result<(), _> {
                thread::yield_now();
                Err(Counts(&count))
            });
        }
        wait(s.context());
        Err(Counts(&count))
    });
    assert!(all.is_err());
    assert_eq!(count.into_inner(), 1);
}
