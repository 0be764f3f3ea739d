//! Waiting for a file descriptor and a context at once.
//!
//! A thread that waits polls two descriptors: that of the caller, and one of its own that a cancellation
//! writes to. The latter is made by the thread's first wait and kept until the thread ends, so there is
//! one for each thread that has ever waited, however many contexts and connections there are.
//!
//! A cancellation may write late, when the thread has taken its waiter back and waits under another
//! context. So a wake-up only means: read the descriptor empty, ask the context, and poll again.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Wake, Waker};
use std::time::Duration;

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::context::Context;
use crate::runtime::sync::Arc;
use crate::runtime::timer;
use crate::tree::{Node, Waiter};

/// Makes attempts at a call that does not block, until one does not fail because it would. Waits for the
/// descriptor between them.
///
/// Fails with the context's error if it is done first.
pub(super) fn until_ready<T>(
    ctx: &Context,
    fd: BorrowedFd<'_>,
    events: PollFlags,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        ctx.check()?;
        match attempt() {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => wait(ctx, fd, events)?,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Waits until the descriptor is ready, or has an error or a hang-up.
///
/// Fails with the context's error if it is done first.
pub(super) fn wait(ctx: &Context, fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
    let Some(node) = ctx.node.as_ref().filter(|node| node.is_cancellable()) else {
        return wait_without(fd, events);
    };
    let registered = Registered::new(node)?;
    loop {
        ctx.check()?;
        let mut fds = [
            PollFd::from_borrowed_fd(fd, events),
            PollFd::new(registered.wake_up(), PollFlags::IN),
        ];
        poll_once(&mut fds, timer::longest_wait())?;
        let [is_ready, is_woken] = [&fds[0], &fds[1]].map(|fd| !fd.revents().is_empty());
        if is_woken {
            registered.wake_up().drain();
            continue;
        }
        if is_ready {
            return Ok(());
        }
    }
}

/// Waits under a context that is never done.
fn wait_without(fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    while fds[0].revents().is_empty() {
        poll_once(&mut fds, None)?;
    }
    Ok(())
}

/// Returns whether the descriptor is ready now.
pub(super) fn is_ready(fd: BorrowedFd<'_>, events: PollFlags) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    poll_once(&mut fds, Some(Duration::ZERO))?;
    Ok(!fds[0].revents().is_empty())
}

/// Polls until a descriptor is ready, the time is over, or a signal handler has run.
fn poll_once(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), Errno> {
    let limit = limit.map(|limit| Timespec {
        tv_sec: limit.as_secs() as _,
        tv_nsec: limit.subsec_nanos().into(),
    });
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(err) => Err(err),
    }
}

/// This thread's waiter, registered with a node.
struct Registered<'a> {
    node: &'a Arc<Node>,
    /// Taken when this is dropped.
    thread: Option<ThreadWaiter>,
}

struct ThreadWaiter {
    wake_up: Arc<WakeUp>,
    waiter: Arc<Waiter>,
}

thread_local! {
    /// `None` during a wait, and before the first.
    static WAITER: RefCell<Option<ThreadWaiter>> = const { RefCell::new(None) };
}

impl<'a> Registered<'a> {
    /// If the node is done already, the caller finds that when it asks.
    fn new(node: &'a Arc<Node>) -> io::Result<Registered<'a>> {
        // A thread that is ending, or that waits already, gets a new one.
        let kept = WAITER.try_with(|kept| kept.take()).ok().flatten();
        let thread = match kept {
            Some(kept) => kept,
            None => ThreadWaiter::new()?,
        };
        node.add_waiter(&thread.waiter);
        Ok(Registered {
            node,
            thread: Some(thread),
        })
    }

    fn wake_up(&self) -> &WakeUp {
        &self.thread.as_ref().expect("until the drop").wake_up
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.node.remove_waiter(&thread.waiter);
            let _ = WAITER.try_with(|kept| kept.replace(Some(thread)));
        }
    }
}

impl ThreadWaiter {
    fn new() -> io::Result<ThreadWaiter> {
        let wake_up = Arc::new(WakeUp::new()?);
        let waiter = Waiter::new(Waker::from(wake_up.clone()));
        Ok(ThreadWaiter { wake_up, waiter })
    }
}

/// An eventfd: a descriptor that is readable after a wake-up.
pub(super) struct WakeUp(OwnedFd);

impl WakeUp {
    pub(super) fn new() -> io::Result<WakeUp> {
        // A child process does not inherit it.
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(WakeUp(eventfd(0, flags)?))
    }

    /// Reads what wake-ups have written.
    fn drain(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for WakeUp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for WakeUp {
    fn wake(self: std::sync::Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &std::sync::Arc<Self>) {
        // It fails only if so many wake-ups have not been read that the counter is full.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}
