//! Tests that run themselves again, as child processes.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use rustix::process::{getpid, kill_process, Pid, Signal};

/// Only a child process that hangs takes this long. Longer than the waits within one, so that the
/// child reports what hangs.
const CHILD_LIMIT: Duration = Duration::from_secs(180);

/// Set to the name of a test in its child processes.
const ROLE: &str = "GO_CONTEXT_TEST";
/// Set to the variant in a child process, which may be empty.
const VARIANT: &str = "GO_CONTEXT_TEST_VARIANT";

/// Begins each line that a child process reports; the test harness prints as well.
const MARK: &str = "child: ";
const BEGUN: &str = "begun";
const ENDED: &str = "ended";

/// The name of the test in which this is written, with its modules.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        $crate::process::name_of(&here)
    }};
}

/// The name of the test in which a function is defined.
#[doc(hidden)]
pub fn name_of<F>(_: &F) -> &'static str {
    let path = std::any::type_name::<F>();
    let path = path.trim_end_matches("::here");
    let path = path.trim_end_matches("::{{closure}}");
    path.split_once("::").expect("a path within a crate").1
}

/// Starts a child process that runs `role`. Call it in a test, with [`test_name!`].
///
/// The child process runs the same test. There `role` is run, and `None` returned.
pub fn child(test: &str, role: impl FnOnce()) -> Option<Process> {
    child_of(&[], test, role)
}

/// A process in which no signal is ignored. In one that a script has started in the background SIGINT
/// is, and so it would be in all that it starts. GNU's `env` can undo that.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let with_defaults = |program: &OsStr| {
        let mut env = Command::new("env");
        env.arg("--default-signal").arg(program);
        env
    };
    match with_defaults("true".as_ref()).output() {
        Ok(tried) if tried.status.success() => with_defaults(program.as_ref()),
        _ => Command::new(program),
    }
}

/// Like [`child`], but another program starts the child process: it replaces itself with what is
/// appended to its arguments.
pub fn child_of(starter: &[&str], test: &str, role: impl FnOnce()) -> Option<Process> {
    run_again(starter, "", test, |_| role())
}

/// Like [`child`], for a test with several child processes. Calls `role` with the variant.
pub fn child_variant(variant: &str, test: &str, role: impl FnOnce(&str)) -> Option<Process> {
    run_again(&[], variant, test, role)
}

fn run_again(
    starter: &[&str],
    variant: &str,
    test: &str,
    role: impl FnOnce(&str),
) -> Option<Process> {
    if env::var_os(ROLE).is_some_and(|role| role == test) {
        report(BEGUN);
        role(&env::var(VARIANT).unwrap());
        report(ENDED);
        return None;
    }
    let executable = env::current_exe().unwrap();
    let mut command = match starter.split_first() {
        Some((program, arguments)) => {
            let mut command = command(program);
            command.args(arguments).arg(executable);
            command
        }
        None => command(executable),
    };
    command
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, test)
        .env(VARIANT, variant);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (sender, reports) = channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if let Some((_, report)) = line.split_once(MARK) {
                let _ = sender.send(report.to_string());
            }
        }
    });
    let stderr = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || {
        // So that the harness captures it, and shows it if the test fails.
        stderr
            .lines()
            .map_while(Result::ok)
            .for_each(|line| eprintln!("{line}"));
    });
    let mut process = Process { child, reports };
    process.expect(BEGUN);
    Some(process)
}

/// Runs `role` in a child process, which must succeed.
pub fn in_child(test: &str, role: impl FnOnce()) {
    if let Some(mut process) = child(test, role) {
        process.ends();
    }
}

/// Runs `role` in a child process for each variant, with that as its argument. Each must succeed.
///
/// They are started by another program, as in [`child_of`].
pub fn in_child_each(starter: &[&str], test: &str, variants: &[&str], role: impl Fn(&str)) {
    for variant in variants {
        let Some(mut process) = run_again(starter, variant, test, &role) else {
            return;
        };
        process.ends();
    }
}

/// Runs `role` like [`in_child`], [`one_at_a_time`].
pub fn in_child_alone(test: &str, role: impl FnOnce()) {
    let _turn = one_at_a_time();
    in_child(test, role);
}

/// Waits until no other test of this process holds what this returns, so that child processes which
/// measure something do not disturb each other.
///
/// `cargo nextest` runs each test in a process of its own, and so several of them at a time.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());

    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asserts that the child reports this text, and that a signal kills it then. In the child process,
/// where there is none, it does nothing.
#[cfg(unix)]
#[track_caller]
pub fn assert_killed_after(process: Option<Process>, text: &str, signal: Signal) {
    if let Some(mut process) = process {
        process.expect(text);
        process.is_killed(signal);
    }
}

pub struct Process {
    child: std::process::Child,
    reports: Receiver<String>,
}

impl Process {
    /// Returns the next report of the child.
    #[track_caller]
    pub fn next_report(&mut self) -> String {
        match self.reports.recv_timeout(CHILD_LIMIT) {
            Ok(report) => report,
            Err(_) => panic!("it reports nothing more: {:?}", self.child.try_wait()),
        }
    }

    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.next_report(), text);
    }

    #[cfg(unix)]
    pub fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Makes the child continue from [`wait_for_go_on`].
    pub fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    /// Waits until the child ends.
    #[track_caller]
    pub fn status(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < CHILD_LIMIT, "the process does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asserts that the child reports nothing more and succeeds.
    #[track_caller]
    pub fn ends(&mut self) {
        self.expect(ENDED);
        assert!(self.status().success());
    }

    /// Asserts that a signal kills the child, and that it reports nothing more.
    #[cfg(unix)]
    #[track_caller]
    pub fn is_killed(&mut self, signal: Signal) {
        let status = self.status();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
        let more = self.reports.recv_timeout(CHILD_LIMIT);
        assert!(more.is_err(), "{more:?}");
    }

    #[track_caller]
    pub fn exits(&mut self, code: i32) {
        assert_eq!(self.status().code(), Some(code));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reports something to the test.
pub fn report(text: &str) {
    // Past the test harness, which captures what is printed, and after what it has printed.
    let mut stdout = io::stdout().lock();
    write!(stdout, "\n{MARK}{text}\n").unwrap();
    stdout.flush().unwrap();
}

/// Waits for the test to call [`Process::go_on`].
pub fn wait_for_go_on() {
    assert_ne!(io::stdin().read_line(&mut String::new()).unwrap(), 0);
}

/// Sends this process a signal: any thread may get it, at any time from now on.
#[cfg(unix)]
pub fn kill_self(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}
