//! From a signal handler to a thread. A handler may do next to nothing: it notes the number of the
//! signal, and where there are sockets it writes a byte to one.
//!
//! The actions hold the sending end. So the listener comes to the end of it when all of them have
//! been taken out, and before that has seen every signal they caught.

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

    /// To be rung by a signal.
    pub(in crate::signal) struct Bell {
        latest: Arc<AtomicUsize>,
        socket: UnixStream,
    }

    pub(in crate::signal) struct Listener {
        latest: Arc<AtomicUsize>,
        socket: UnixStream,
    }

    pub(in crate::signal) fn pair() -> io::Result<(Bell, Listener)> {
        let latest = Arc::new(AtomicUsize::new(0));
        let (write, read) = UnixStream::pair()?;
        let bell = Bell {
            latest: latest.clone(),
            socket: write,
        };
        let listener = Listener {
            latest,
            socket: read,
        };
        Ok((bell, listener))
    }

    impl Bell {
        /// Has `signal` ring it. What has been registered for that goes into `actions`, in any case.
        pub(in crate::signal) fn attach(
            &self,
            signal: i32,
            actions: &mut Vec<SigId>,
        ) -> io::Result<()> {
            let socket = self.socket.try_clone()?;
            let number = signal as usize; // positive: it has been checked
            actions.push(flag::register_usize(signal, self.latest.clone(), number)?);
            actions.push(pipe::register(signal, socket)?);
            Ok(())
        }
    }

    impl Listener {
        /// Waits for a signal; `None` when no more can come.
        pub(in crate::signal) fn wait(&mut self) -> Option<i32> {
            // As many as there are: it makes no difference.
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

    /// How long a signal may have to wait.
    const PERIOD: Duration = Duration::from_millis(50);

    /// To be rung by a signal.
    pub(in crate::signal) struct Bell(Arc<AtomicUsize>);

    pub(in crate::signal) struct Listener(Arc<AtomicUsize>);

    pub(in crate::signal) fn pair() -> io::Result<(Bell, Listener)> {
        let latest = Arc::new(AtomicUsize::new(0));
        Ok((Bell(latest.clone()), Listener(latest)))
    }

    impl Bell {
        /// Has `signal` ring it. What has been registered for that goes into `actions`, in any case.
        pub(in crate::signal) fn attach(
            &self,
            signal: i32,
            actions: &mut Vec<SigId>,
        ) -> io::Result<()> {
            let number = signal as usize; // positive: it has been checked
            actions.push(flag::register_usize(signal, self.0.clone(), number)?);
            Ok(())
        }
    }

    impl Listener {
        /// Waits for a signal; `None` when no more can come.
        pub(in crate::signal) fn wait(&mut self) -> Option<i32> {
            loop {
                let last = Arc::get_mut(&mut self.0).is_some(); // then look once more
                match self.0.swap(0, Ordering::SeqCst) {
                    0 if last => return None,
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

    /// Only a hang takes so long.
    const LIMIT: Duration = Duration::from_secs(30);

    /// Both listeners hear a signal, and one that comes just before the end, and then the end.
    macro_rules! hears_all_and_ends {
        ($kind:ident, $signal:expr) => {{
            let (bell, mut listener) = $kind::pair().unwrap();
            let mut actions = Vec::new();
            bell.attach($signal, &mut actions).unwrap();
            drop(bell);
            let (heard, hears) = channel();
            let (go_on, goes_on) = channel::<()>();
            let thread = thread::spawn(move || {
                heard.send(listener.wait()).unwrap();
                goes_on.recv().unwrap();
                heard.send(listener.wait()).unwrap();
                heard.send(listener.wait()).unwrap();
            });
            // While there is none it waits, as far as one can see in so short a time.
            assert!(hears.recv_timeout(Duration::from_millis(10)).is_err());
            raise($signal).unwrap();
            assert_eq!(hears.recv_timeout(LIMIT), Ok(Some($signal)));
            raise($signal).unwrap();
            for action in actions {
                assert!(unregister(action));
            }
            raise($signal).unwrap();
            go_on.send(()).unwrap();
            assert_eq!(hears.recv_timeout(LIMIT), Ok(Some($signal)));
            assert_eq!(hears.recv_timeout(LIMIT), Ok(None));
            thread.join().unwrap();
        }};
    }

    #[test]
    fn a_socket_brings_every_signal_and_the_end() {
        hears_all_and_ends!(socket, SIGUSR2);
    }

    #[test]
    fn polling_brings_every_signal_and_the_end() {
        hears_all_and_ends!(polled, SIGWINCH);
    }
}
