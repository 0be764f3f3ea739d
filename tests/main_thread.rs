//! Contexts are used while the main thread ends, by the destructors of its thread-locals.
//!
//! It has no test harness, because that runs tests on other threads. It runs itself again as a child
//! process, and checks its output.

use std::cell::Cell;
use std::env;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::bounded;
use go_context::{Context, Error};
use support::LIMIT;

const ROLE: &str = "GO_CONTEXT_TEST_MAIN_THREAD";

thread_local! {
    static LAST: Cell<Option<LastWords>> = const { Cell::new(None) };
}

fn main() {
    // On other systems the main thread may end without running destructors.
    if !cfg!(target_os = "linux") {
        return;
    }
    if env::var_os(ROLE).is_some() {
        LAST.set(Some(LastWords));
        use_contexts(); // its thread-locals are younger, so they are dropped first
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(ROLE, "").stderr(Stdio::inherit());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {said}", output.status);
    assert_eq!(said, "last words: 7\n");
}

/// Uses contexts when it is dropped.
struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        assert_eq!(thread::current().name(), Some("main"));
        println!("last words: {}", use_contexts());
    }
}

/// Returns seven.
fn use_contexts() -> u32 {
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
    let (ran, runs) = bounded(1);
    let function = ctx.after_func(move || ran.send(3).unwrap());
    assert_eq!(ctx.wait(), Error::DeadlineExceeded);
    assert!(!function.stop_and_wait());
    let three = runs.recv_timeout(LIMIT).unwrap();
    let four = ctx.without_cancel().scope(|s| {
        let four = s.spawn(|_| Ok::<_, io::Error>(4));
        Ok(four.recv_timeout(LIMIT).unwrap())
    });
    three + four.unwrap()
}
