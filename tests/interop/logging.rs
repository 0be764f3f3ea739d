//! Logs from the threads of contexts, with spans of `tracing`.

use std::io;
use std::sync::{Barrier, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::bounded;
use go_context::{Context, Error};
use go_context_interop::spans::handle;
use tracing::{info, info_span, warn, Span};

/// What all threads of all tests have logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs to `LOG` from now on, on every thread.
fn start_log() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_writer(|| Log)
            .with_target(false)
            .without_time()
            .init()
    });
}

/// Returns the line of the log that ends with a text: the level, the spans, outermost first, and the text.
#[track_caller]
fn logged(text: &str) -> String {
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.ends_with(text)).collect();
    match lines[..] {
        [line] => line.trim_start().to_owned(),
        _ => panic!("not one line ends with {text:?}: {log}"),
    }
}

/// Returns the same context with a span around its work.
fn inside(ctx: &Context, span: Span) -> Context {
    ctx.with_enter(move |work| span.in_scope(work))
}

#[test]
fn recipe_logs_in_span_of_each_request() {
    start_log();
    let ctx = Context::background();
    handle(&ctx, 1, &["head", "body"]).unwrap();
    handle(&ctx, 2, &["trailer"]).unwrap();
    assert_eq!(logged("handled head"), "INFO request{id=1}: handled head");
    assert_eq!(logged("handled body"), "INFO request{id=1}: handled body");
    let trailer = logged("handled trailer");
    assert_eq!(trailer, "INFO request{id=2}: handled trailer");
    info!("handled both");
    assert_eq!(logged("handled both"), "INFO handled both");
}

#[test]
fn worker_callback_and_interrupt_run_in_span() {
    start_log();
    let (ctx, cancel) = Context::background().with_cancel();
    let outer = info_span!("outer");
    let inner = info_span!(parent: &outer, "inner");
    let (child, _cancel) = inside(&ctx, outer).with_cancel();
    let child = inside(&child, inner); // entered last

    let spawned: Result<(), Error> = child.scope(|s| {
        s.spawn(|_| {
            info!("worker");
            Ok(())
        });
        Ok(())
    });
    spawned.unwrap();
    let callback = child.after_func(|| info!("callback"));
    let (interrupt_tx, interrupted) = bounded(1);
    let interrupt = move || {
        info!("interrupt");
        interrupt_tx.send(()).unwrap();
    };
    let ended: Result<(), Error> = child.interruptible(interrupt, || {
        cancel.cancel();
        interrupted.recv().unwrap();
        Err(Error::Canceled)
    });
    assert_eq!(ended, Err(Error::Canceled));
    assert!(!callback.stop_and_wait());

    for work in ["worker", "callback", "interrupt"] {
        assert_eq!(logged(work), format!("INFO outer:inner: {work}"));
    }
}

#[test]
fn span_is_not_entered_around_work_of_siblings() {
    start_log();
    let (parent, cancel) = Context::background().with_cancel();
    let siblings = ["first", "second", "third"].map(|name| {
        let (ctx, _) = parent.with_cancel();
        match name {
            "third" => (name, ctx), // without a span
            _ => (name, inside(&ctx, info_span!("of", name))),
        }
    });

    // The workers run at the same time.
    let barrier = Barrier::new(siblings.len());
    let run_worker = |name: &str, ctx: &Context| {
        let ended: Result<(), Error> = ctx.scope(|s| {
            s.spawn(|_| {
                barrier.wait();
                info!("worker of {name}");
                barrier.wait();
                Ok(())
            });
            Ok(())
        });
        ended.unwrap();
    };
    thread::scope(|s| {
        for (name, ctx) in &siblings {
            s.spawn(|| run_worker(name, ctx));
        }
    });
    // The callbacks share threads.
    let callbacks = siblings
        .each_ref()
        .map(|&(name, ref ctx)| ctx.after_func(move || info!("callback of {name}")));
    cancel.cancel();
    for callback in callbacks {
        assert!(!callback.stop_and_wait());
    }

    for work in ["worker", "callback"] {
        for name in ["first", "second"] {
            let text = format!("{work} of {name}");
            assert_eq!(logged(&text), format!("INFO of{{name={name:?}}}: {text}"));
        }
        let text = format!("{work} of third");
        assert_eq!(logged(&text), format!("INFO {text}"));
    }
}

#[test]
fn explanation_is_logged() {
    start_log();
    let (ctx, _cancel) = Context::background().with_timeout(Duration::ZERO);
    let ctx = ctx.named("db.query");
    ctx.wait();
    let explanation = ctx.explain().unwrap();
    let text = explanation.to_string();
    let place = format!("{}:{}", file!(), explanation.derived_at().line());
    assert!(text.contains(&place), "{text}");

    warn!(%explanation);
    let line = format!("explanation={text}");
    assert_eq!(logged(&line), format!("WARN {line}"));
    log::warn!("{explanation}");
    assert_eq!(logged(&format!(" {text}")), format!("WARN {text}"));
}
