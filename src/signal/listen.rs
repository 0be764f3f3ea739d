//! Passes signals from a handler to a thread. A handler may do very little: it stores the number of
//! the signal, and on Unix it writes a byte to a socket.
//!
//! The actions own the sending end. So when all of them are unregistered the listener reaches the
//! end of the stream, and by then it has read every signal that they caught.

#[cfg(not(unix))]
pub(super) use self::polled::{pair, Listener};
#[cfg(unix)]
pub(super) use self::socket::{pair, Listener};

#[cfg(unix)]
mod socket {
    use std::io::{self, ErrorKind, Read};
    use std::os::unix::net::UnixStream;

    use signal_hook::low_level::pipe;
    use signal_hook::{flag, SigId};

    use crate::runtime::sync::{Arc, AtomicUsize, Ordering};

    /// The sending end: wakes the listener when a signal arrives.
    pub(in crate::signal) struct Notifier {
        latest: Arc<AtomicUsize>,
        socket: UnixStream,
    }

    pub(in crate::signal) struct Listener {
        latest: Arc<AtomicUsize>,
        socket: UnixStream,
    }

    pub(in crate::signal) fn pair() -> io::Result<(Notifier, Listener)> {
        let latest = Arc::new(AtomicUsize::new(0));
        let (write, read) = UnixStream::pair()?;
        let notifier = Notifier {
            latest: latest.clone(),
            socket: write,
        };
        let listener = Listener {
            latest,
            socket: read,
        };
        Ok((notifier, listener))
    }

    impl Notifier {
        /// Registers the actions that notify the listener of `signal`, and adds them to `actions`,
        /// including those registered before an error.
        pub(in crate::signal) fn attach(
            &self,
            signal: i32,
            actions: &mut Vec<SigId>,
        ) -> io::Result<()> {
            let socket = self.socket.try_clone()?;
            let number = signal as usize; // positive: checked by `check`
            actions.push(flag::register_usize(signal, self.latest.clone(), number)?);
            actions.push(pipe::register(signal, socket)?);
            Ok(())
        }
    }

    impl Listener {
        /// Waits for a signal. Returns `None` when no more can arrive.
        pub(in crate::signal) fn wait(&mut self) -> Option<i32> {
            // Reads all signals that are pending, because one is enough to cancel.
            let mut bytes = [0; 256];
            loop {
                match self.socket.read(&mut bytes) {
                    Ok(0) => return None,
                    Ok(_) => return Some(self.latest.load(Ordering::SeqCst) as i32),
                    Err(err) if err.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return None,
                }
            }
        }
    }
}

#[cfg(any(not(unix), test))]
mod polled {
    use std::io;
    use std::thread;
    use std::time::Duration;

    use signal_hook::{flag, SigId};

    use crate::runtime::sync::{Arc, AtomicUsize, Ordering};

    /// How long a signal may have to wait until it is noticed.
    const PERIOD: Duration = Duration::from_millis(50);

    /// The sending end: wakes the listener when a signal arrives.
    pub(in crate::signal) struct Notifier(Arc<AtomicUsize>);

    pub(in crate::signal) struct Listener(Arc<AtomicUsize>);

    pub(in crate::signal) fn pair() -> io::Result<(Notifier, Listener)> {
        let latest = Arc::new(AtomicUsize::new(0));
        Ok((Notifier(latest.clone()), Listener(latest)))
    }

    impl Notifier {
        /// Registers the actions that notify the listener of `signal`, and adds them to `actions`,
        /// including those registered before an error.
        pub(in crate::signal) fn attach(
            &self,
            signal: i32,
            actions: &mut Vec<SigId>,
        ) -> io::Result<()> {
            let number = signal as usize; // positive: checked by `check`
            actions.push(flag::register_usize(signal, self.0.clone(), number)?);
            Ok(())
        }
    }

    impl Listener {
        /// Waits for a signal. Returns `None` when no more can arrive.
        pub(in crate::signal) fn wait(&mut self) -> Option<i32> {
            loop {
                // Before the swap, because the last action may store a signal just before it is
                // dropped.
                let is_last = Arc::get_mut(&mut self.0).is_some();
                match self.0.swap(0, Ordering::SeqCst) {
                    0 if is_last => return None,
                    0 => thread::sleep(PERIOD),
                    signal => return Some(signal as i32),
                }
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use signal_hook::consts::{SIGUSR2, SIGWINCH};
    use signal_hook::low_level::{raise, unregister};

    use super::{polled, socket};

    /// Exceeded only by a hang.
    const LIMIT: Duration = Duration::from_secs(30);

    /// A listener receives a signal, one that arrives just before the actions are unregistered, and
    /// the end.
    macro_rules! receives_all_and_ends {
        ($kind:ident, $signal:expr) => {{
            let (notifier, mut listener) = $kind::pair().unwrap();
            let mut actions = Vec::new();
            notifier.attach($signal, &mut actions).unwrap();
            drop(notifier);
            let (received_tx, received) = channel();
            let (resume_tx, resume) = channel::<()>();
            let thread = thread::spawn(move || {
                received_tx.send(listener.wait()).unwrap();
                resume.recv().unwrap();
                received_tx.send(listener.wait()).unwrap();
                received_tx.send(listener.wait()).unwrap();
            });
            // It blocks while there is no signal. A listener that does not would fail here.
            assert!(received.recv_timeout(Duration::from_millis(10)).is_err());
            raise($signal).unwrap();
            assert_eq!(received.recv_timeout(LIMIT), Ok(Some($signal)));
            raise($signal).unwrap();
            for action in actions {
                assert!(unregister(action));
            }
            raise($signal).unwrap();
            resume_tx.send(()).unwrap();
            assert_eq!(received.recv_timeout(LIMIT), Ok(Some($signal)));
            assert_eq!(received.recv_timeout(LIMIT), Ok(None));
            thread.join().unwrap();
        }};
    }

    #[test]
    fn socket_receives_every_signal_and_the_end() {
        receives_all_and_ends!(socket, SIGUSR2);
    }

    #[test]
    fn polling_receives_every_signal_and_the_end() {
        receives_all_and_ends!(polled, SIGWINCH);
    }
}
