//! The names of signals: those that Go uses on Linux.

use signal_hook::consts::*;

/// Returns the name of a signal, or `None` if Go has none for it.
pub(super) fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        SIGABRT => "aborted",
        SIGFPE => "floating point exception",
        SIGILL => "illegal instruction",
        SIGINT => "interrupt",
        SIGSEGV => "segmentation fault",
        SIGTERM => "terminated",
        #[cfg(windows)]
        SIGABRT_COMPAT => "aborted",
        #[cfg(windows)]
        SIGBREAK => "break",
        #[cfg(unix)]
        signal => return unix(signal),
        #[cfg(not(unix))]
        _ => return None,
    })
}

#[cfg(unix)]
fn unix(signal: i32) -> Option<&'static str> {
    Some(match signal {
        SIGALRM => "alarm clock",
        SIGBUS => "bus error",
        SIGCHLD => "child exited",
        SIGCONT => "continued",
        SIGHUP => "hangup",
        #[cfg(not(target_os = "haiku"))]
        SIGIO => "I/O possible",
        SIGKILL => "killed",
        SIGPIPE => "broken pipe",
        SIGPROF => "profiling timer expired",
        SIGQUIT => "quit",
        SIGSTOP => "stopped (signal)",
        SIGSYS => "bad system call",
        SIGTRAP => "trace/breakpoint trap",
        SIGTSTP => "stopped",
        SIGTTIN => "stopped (tty input)",
        SIGTTOU => "stopped (tty output)",
        SIGURG => "urgent I/O condition",
        SIGUSR1 => "user defined signal 1",
        SIGUSR2 => "user defined signal 2",
        SIGVTALRM => "virtual timer expired",
        SIGWINCH => "window changed",
        SIGXCPU => "CPU time limit exceeded",
        SIGXFSZ => "file size limit exceeded",
        _ => return None,
    })
}

/// Returns the names of several signals, separated by spaces.
pub(super) fn list(signals: &[i32]) -> String {
    let names = signals.iter().map(|&signal| match name(signal) {
        Some(name) => name.into(),
        None => format!("signal {signal}"),
    });
    names.collect::<Vec<_>>().join(" ")
}
