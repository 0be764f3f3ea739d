//! A process ends when it wants to, whatever is still pending.
//!
//! The test runs itself again as another process, and sees how that ends.

use std::env;
use std::io::{self, Read, Write};
use std::mem;
use std::process::{exit, Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, TryRecvError};
use go_context::{Context, CustomContext, Error};

const NAME: &str = "a_process_ends_with_its_own_code_while_timers_and_callbacks_are_pending";
const ROLE: &str = "GO_CONTEXT_TEST_EXIT";
const READY: &str = "all is pending";
const HOUR: Duration = Duration::from_secs(3600);
/// Only a process that hangs takes so long. All that is pending takes longer.
const HANGS: Duration = Duration::from_secs(60);

#[test]
fn a_process_ends_with_its_own_code_while_timers_and_callbacks_are_pending() {
    let Ok(role) = env::var(ROLE) else {
        for (role, code) in [
            ("return", 0),
            ("exit", 7),
            ("exit in a callback", 8),
            ("exit in a worker", 9),
            ("exit in a custom context", 10),
            ("panic", 101),
        ] {
            assert_eq!(code_of(role), Some(code), "{role}");
        }
        return;
    };
    leave_all_pending();
    // Past the test harness, which keeps back what is printed.
    writeln!(std::io::stdout(), "{READY}").unwrap();
    let (ctx, cancel) = Context::background().with_cancel();
    match role.as_str() {
        "return" => {}
        "exit" => exit(7),
        "exit in a callback" => {
            ctx.after_func(|| exit(8));
            cancel.cancel();
            thread::sleep(HOUR);
        }
        "exit in a worker" => {
            let _: io::Result<()> = ctx.scope(|s| {
                s.spawn(|_| -> io::Result<()> { exit(9) });
                ctx.wait();
            });
        }
        "exit in a custom context" => {
            let (end, done) = bounded(0);
            let custom = Context::custom(Own(done, || exit(10)));
            let _child = custom.with_cancel();
            drop(end);
            thread::sleep(HOUR);
        }
        _ => panic!("for the status of a test that fails"),
    }
}

/// A context with a channel and no more, so that a thread has to watch it. That one asks for the error.
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

/// Leaves behind deadlines far and near, functions that wait, that run, and that are about to, and a
/// custom context that is watched.
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

/// The exit code of this test as a process of its own.
fn code_of(role: &str) -> Option<i32> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]);
    command.env(ROLE, role).stderr(Stdio::null());
    let mut child = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < HANGS, "{role}: the process does not end");
        thread::sleep(Duration::from_millis(2));
    };
    let mut output = String::new();
    let mut stdout = child.0.stdout.take().unwrap();
    stdout.read_to_string(&mut output).unwrap();
    assert!(output.contains(READY), "{role}: {output}");
    status.code()
}

/// A process that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
