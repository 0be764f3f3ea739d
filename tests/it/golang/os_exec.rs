//! `os/exec`: a child process that is killed when a context is done. Unix only, for its commands.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use go_context::{AfterFunc, Context, Error};
use support::threads::spawn;
use support::{lock, receive, HOUR};

/// The number of the signal that `kill` sends.
const SIGKILL: i32 = 9;

/// A process that ends with its context.
struct Process {
    child: Arc<Mutex<Child>>,
    after: AfterFunc,
}

fn start(ctx: &Context, command: &mut Command) -> io::Result<Process> {
    ctx.check()?; // the error, not the cause: nothing has been tried
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = Arc::new(Mutex::new(command.spawn()?));
    let after = ctx.after_func({
        let child = child.clone();
        move || {
            let _ = lock(&child).kill();
        }
    });
    Ok(Process { child, after })
}

impl Process {
    fn stdout(&self) -> ChildStdout {
        lock(&self.child).stdout.take().unwrap()
    }

    /// Reads its output to the end, during which others may kill it, and waits.
    fn wait(self, mut stdout: ChildStdout) -> ExitStatus {
        drop(lock(&self.child).stdin.take());
        stdout.read_to_end(&mut Vec::new()).unwrap();
        let status = lock(&self.child).wait().unwrap();
        self.after.stop_and_wait();
        status
    }
}

#[test]
fn start_with_a_done_context() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    cancel.cancel("because");
    let mut command = Command::new("/nobody/ever/starts/this");
    let err = start(&ctx, &mut command).err().unwrap();
    let inner = err.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(inner, Some(&Error::Canceled));
}

/// `cat` prints its input; then it is killed.
#[test]
fn context() {
    let (ctx, cancel) = Context::background().with_cancel();
    let process = start(&ctx, &mut Command::new("cat")).unwrap();
    let mut stdout = process.stdout();
    let mut stdin = lock(&process.child).stdin.take().unwrap();
    stdin.write_all(b"line\n").unwrap();
    let mut line = [0; 5];
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"line\n");

    let waiting = spawn(move || process.wait(stdout));
    cancel.cancel();
    assert_eq!(receive(&waiting).signal(), Some(SIGKILL));
    drop(stdin);
}

#[test]
fn wait_interrupt_wait() {
    let (ctx, cancel) = Context::background().with_cancel();
    let process = start(&ctx, &mut Command::new("true")).unwrap();
    let stdout = process.stdout();
    let status = receive(&spawn(move || process.wait(stdout)));
    assert!(status.success(), "{status}");
    cancel.cancel(); // the process has ended, so there is nothing to kill
}

#[test]
fn concurrent_exec() {
    let (ctx, cancel) = Context::background().with_timeout(HOUR);
    let run = |command: &str| {
        let process = start(&ctx, Command::new(command).arg("1000")).unwrap();
        let stdout = process.stdout();
        spawn(move || process.wait(stdout))
    };
    let hanging = [(); 4].map(|()| run("sleep"));
    let exiting = [(); 4].map(|()| run("true"));
    for status in exiting.map(|status| receive(&status)) {
        assert!(status.success(), "{status}");
    }
    cancel.cancel();
    for status in hanging.map(|status| receive(&status)) {
        assert_eq!(status.signal(), Some(SIGKILL), "{status}");
    }
}

/// The exit status is that of a killed process, and not a context's error.
#[test]
fn example_command_context() {
    let timeout = Duration::from_millis(50);
    let start_of_test = Instant::now();
    let (ctx, _cancel) = Context::background().with_timeout(timeout);
    let process = start(&ctx, Command::new("sleep").arg("1000")).unwrap();
    let stdout = process.stdout();
    let status = receive(&spawn(move || process.wait(stdout)));
    assert_eq!(status.signal(), Some(SIGKILL), "{status}");
    assert!(start_of_test.elapsed() >= timeout);
}
