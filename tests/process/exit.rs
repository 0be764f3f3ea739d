//! A process exits at once, with its own code, whatever is still pending.

use std::io;
use std::mem;
use std::process::exit;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, Receiver, TryRecvError};
use go_context::{CancelFunc, Context, CustomContext, Error};
use support::process::{child_variant, report};
use support::{test_name, HOUR};

/// Ends the process, or returns to let the test end it.
type End = fn(&Context, &CancelFunc);

#[test]
fn exit_code_is_kept_with_pending_timers() {
    let ends: [(&str, End, i32); 6] = [
        ("return", |_, _| {}, 0),
        ("exit", |_, _| exit(7), 7),
        ("exit in a callback", exit_in_a_callback, 8),
        ("exit in a worker", exit_in_a_worker, 9),
        ("exit in a custom context", exit_in_a_custom_context, 10),
        (
            "panic",
            |_, _| panic!("for the status of a test that fails"),
            101,
        ),
    ];
    for (how, _, code) in ends {
        let process = child_variant(how, test_name!(), |how| {
            let (_, end, _) = ends.iter().find(|(other, ..)| *other == how).unwrap();
            leave_all_pending();
            let (ctx, cancel) = Context::background().with_cancel();
            report("all is pending");
            end(&ctx, &cancel);
        });
        let Some(mut process) = process else { return };
        process.expect("all is pending");
        process.exits(code);
    }
}

fn exit_in_a_callback(ctx: &Context, cancel: &CancelFunc) {
    ctx.after_func(|| exit(8));
    cancel.cancel();
    thread::sleep(HOUR);
}

fn exit_in_a_worker(ctx: &Context, _: &CancelFunc) {
    let _: io::Result<()> = ctx.scope(|s| {
        s.spawn(|_| -> io::Result<()> { exit(9) });
        ctx.wait();
        Ok(())
    });
}

fn exit_in_a_custom_context(_: &Context, _: &CancelFunc) {
    let (end, done) = bounded(0);
    let custom = Context::custom(Own(done, || exit(10)));
    let _child = custom.with_cancel();
    drop(end);
    thread::sleep(HOUR);
}

/// A context with only a channel, so that a thread watches it. That thread calls `err`.
struct Own(Receiver<()>, fn() -> Error);

impl CustomContext for Own {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }

    fn err(&self) -> Option<Error> {
        let ended = self.0.try_recv() == Err(TryRecvError::Disconnected);
        ended.then(self.1)
    }
}

/// Leaves near and far deadlines, callbacks that wait, that run, and that are about to, and a watched
/// custom context.
fn leave_all_pending() {
    let background = Context::background();
    let (started, starts) = channel();
    for number in 0..100 {
        let (far, cancel_far) = background.with_timeout(HOUR);
        far.after_func(|| unreachable!());
        let (near, cancel_near) = background.with_timeout(Duration::from_millis(number));
        near.after_func(|| thread::sleep(HOUR));
        thread::spawn({
            let far = far.clone();
            move || far.wait()
        });
        mem::forget((far, cancel_far, near, cancel_near));
    }
    let (end, done) = bounded(0);
    let custom = Context::custom(Own(done, || unreachable!()));
    let child = custom.with_cancel();
    mem::forget((end, custom, child));

    let (done, cancel) = background.with_cancel();
    done.after_func(move || {
        started.send(()).unwrap();
        thread::sleep(HOUR);
    });
    cancel.cancel();
    starts.recv().unwrap();
}
