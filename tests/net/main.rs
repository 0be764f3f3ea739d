//! Blocking I/O under a context.

#![cfg(all(target_os = "linux", feature = "net"))]

mod descriptors;
mod io;
mod numbers;
mod sockets;

use std::thread::{self, JoinHandle};

use go_context::crossbeam_channel::{unbounded, Sender};
use go_context::{CancelFunc, Error};

/// A thread that cancels.
struct Canceller(Option<(Sender<CancelFunc>, JoinHandle<()>)>);

impl Canceller {
    fn new() -> Canceller {
        let (sender, receiver) = unbounded::<CancelFunc>();
        let thread = thread::spawn(move || receiver.iter().for_each(|cancel| cancel.cancel()));
        Canceller(Some((sender, thread)))
    }

    fn cancel_soon(&self, cancel: CancelFunc) {
        let (sender, _) = self.0.as_ref().unwrap();
        sender.send(cancel).unwrap();
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        let (sender, thread) = self.0.take().unwrap();
        drop(sender);
        thread.join().unwrap();
    }
}

/// Asserts that a call has failed with a context's error, of the right kind.
#[track_caller]
fn assert_err<T>(result: std::io::Result<T>, expected: Error) {
    let err = result.err().expect("an error");
    assert_eq!(Error::find(&err), Some(expected), "{err:?}");
    let timed_out = err.kind() == std::io::ErrorKind::TimedOut;
    assert_eq!(timed_out, expected == Error::DeadlineExceeded, "{err:?}");
}
