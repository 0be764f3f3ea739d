//! A test that runs itself again, as a process that may be sent signals.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{getpid, kill_process, Pid, Signal};

/// Far more than any wait here takes, so that a hang becomes a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

const ROLE: &str = "GO_CONTEXT_TEST_SIGNAL";
/// What the child says begins with it; the test harness prints as well.
const MARK: &str = "child: ";
const BEGUN: &str = "begun";
const ENDED: &str = "ended";

/// In the test: the process that runs `role`. In that process: does so, and returns `None`.
///
/// `test` is the name of the test that calls it.
pub(crate) fn child(test: &str, role: impl FnOnce()) -> Option<Process> {
    child_of(&[], test, role)
}

/// A process in which no signal is ignored. In one that a script has started in the background SIGINT
/// is, and so it would be in all that it starts. GNU's `env` can undo that.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
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

/// [`child`], where the process is started by another program: it replaces itself with what is
/// appended to its arguments.
pub(crate) fn child_of(starter: &[&str], test: &str, role: impl FnOnce()) -> Option<Process> {
    if env::var_os(ROLE).is_some_and(|role| role == test) {
        say(BEGUN);
        role();
        say(ENDED);
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
    command.args(["--exact", test, "--nocapture"]);
    command.env(ROLE, test);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (tell, said) = channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if let Some((_, said)) = line.split_once(MARK) {
                let _ = tell.send(said.to_string());
            }
        }
    });
    let mut process = Process { child, said };
    process.expect(BEGUN);
    Some(process)
}

/// Runs `role` in a process of its own, which has to end well.
pub(crate) fn alone(test: &str, role: impl FnOnce()) {
    if let Some(mut process) = child(test, role) {
        process.ends();
    }
}

pub(crate) struct Process {
    child: std::process::Child,
    said: Receiver<String>,
}

impl Process {
    /// The next thing that the child says.
    #[track_caller]
    pub(crate) fn says(&mut self) -> String {
        match self.said.recv_timeout(LIMIT) {
            Ok(said) => said,
            Err(_) => panic!("it says nothing more: {:?}", self.child.try_wait()),
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        assert_eq!(self.says(), text);
    }

    pub(crate) fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Has the child go on from [`wait_for_word`].
    pub(crate) fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
    }

    /// How the child ends.
    #[track_caller]
    pub(crate) fn status(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "the process does not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The child has done all that it has to do, and says nothing more before it ends well.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        self.expect(ENDED);
        assert!(self.status().success());
    }

    /// A signal kills the child, and it says nothing more.
    #[track_caller]
    pub(crate) fn is_killed(&mut self, signal: Signal) {
        let status = self.status();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
        let more = self.said.recv_timeout(LIMIT);
        assert!(more.is_err(), "{more:?}");
    }

    #[track_caller]
    pub(crate) fn exits(&mut self, code: i32) {
        assert_eq!(self.status().code(), Some(code));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells the test something.
pub(crate) fn say(text: &str) {
    // Past the test harness, which keeps back what is printed, and behind what it has printed.
    let mut stdout = io::stdout().lock();
    write!(stdout, "\n{MARK}{text}\n").unwrap();
    stdout.flush().unwrap();
}

/// Waits for the test to say [`Process::go_on`].
pub(crate) fn wait_for_word() {
    assert_ne!(io::stdin().read_line(&mut String::new()).unwrap(), 0);
}

/// Sends this process a signal, as others do: any thread may get it, at any time from now on.
pub(crate) fn kill_self(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The names of the threads of this process.
pub(crate) fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // One that ends meanwhile has no name any more.
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_string()).collect()
}
