//! Calls that block.

use go_context::crossbeam_channel::{bounded, Receiver};

use crate::receive;
use crate::threads::spawn;

/// Runs a call on a thread of its own, and returns when it is blocked.
///
/// Only Linux shows that. On other systems the call may not have begun, so a test must not depend on
/// it.
#[track_caller]
pub fn block<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (begins, begun) = bounded(1);
    let result = spawn(move || {
        begins.send(state::of_this_thread()).unwrap();
        drop(begins);
        call()
    });
    state::wait_until_asleep(receive(&begun));
    result
}

#[cfg(target_os = "linux")]
mod state {
    use std::fs;
    use std::path::PathBuf;
    use std::thread;
    use std::time::{Duration, Instant};

    pub(super) fn of_this_thread() -> PathBuf {
        let thread = fs::read_link("/proc/thread-self").unwrap();
        ["/proc".as_ref(), thread.as_path(), "status".as_ref()]
            .iter()
            .collect()
    }

    /// A thread may also sleep for a moment before, so it must stay asleep.
    #[track_caller]
    pub(super) fn wait_until_asleep(thread: PathBuf) {
        let start = Instant::now();
        let mut last = None;
        let mut looks = 0;
        while looks < 3 {
            assert!(start.elapsed() < crate::LIMIT, "the call does not block");
            // If the thread has ended, the test is wrong.
            let status = fs::read_to_string(&thread).expect("the call ends at once");
            let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
            let asleep = field("State:\tS").and(field("voluntary_ctxt_switches:"));
            let asleep = asleep.map(String::from);
            looks = match asleep.is_some() && asleep == last {
                true => looks + 1,
                false => 0,
            };
            last = asleep;
            thread::sleep(Duration::from_micros(300));
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod state {
    pub(super) fn of_this_thread() {}

    pub(super) fn wait_until_asleep((): ()) {}
}
