//! Threads that begin at the same moment.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, Receiver};

/// Far more than any wait takes, so that a hang becomes a failure.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Runs `f` on a thread of its own.
pub fn go<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (result, receiver) = bounded(1);
    thread::spawn(move || result.send(f()));
    receiver
}

/// The result of `go`.
#[track_caller]
pub fn join<T>(result: &Receiver<T>) -> T {
    let result = result.recv_timeout(LIMIT);
    result.expect("the thread hangs or has panicked")
}

pub type Player = Box<dyn FnOnce() + Send>;

/// Has all players begin at the same moment, each on a thread of its own, and waits for them.
#[track_caller]
pub fn together(players: Vec<Player>) {
    let start = Arc::new(Barrier::new(players.len()));
    let ends: Vec<_> = players
        .into_iter()
        .map(|player| {
            let start = start.clone();
            go(move || {
                start.wait();
                player();
            })
        })
        .collect();
    ends.iter().for_each(join);
}

/// Lets a little time pass, another in each round, so that rounds differ in who comes first.
pub fn stagger(round: usize) {
    for _ in 0..round % 50 * 20 {
        std::hint::spin_loop();
    }
}
