//! A file descriptor that is readable once a context is done.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Wake, Waker};

use super::wait::WakeUp;
use crate::context::Context;
use crate::runtime::sync::{Arc, Weak};
use crate::tree::{Node, Waiter};

impl Context {
    /// Returns a file descriptor that becomes readable when the context is done, for an event loop of your
    /// own: `poll`, `epoll` or `io_uring`.
    ///
    /// It stays readable; do not read from it. Each call makes a new descriptor. Like the receiver of
    /// [`done`](Context::done) it is not a [handle](Context#ownership) to the context.
    ///
    /// # Errors
    ///
    /// Returns the error of the system if it refuses another descriptor.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use go_context::Context;
    /// use rustix::event::{poll, PollFd, PollFlags};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let done = ctx.done_fd()?;
    /// cancel.cancel();
    /// let mut fds = [PollFd::new(&done, PollFlags::IN)];
    /// assert_eq!(poll(&mut fds, None)?, 1);
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn done_fd(&self) -> io::Result<DoneFd> {
        let wake_up = Arc::new(WakeUp::new()?);
        let waiter = Waiter::new(Waker::from(wake_up.clone()));
        let node = self.node.as_ref().filter(|node| node.is_cancellable());
        if node.is_some_and(|node| !node.add_waiter(&waiter)) {
            wake_up.wake_by_ref();
        }
        Ok(DoneFd {
            node: node.map(Arc::downgrade),
            waiter,
            wake_up,
        })
    }
}

/// Is readable once a context is done. Created by [`Context::done_fd`].
pub struct DoneFd {
    /// `None` if the context cannot be cancelled.
    node: Option<Weak<Node>>,
    waiter: Arc<Waiter>,
    wake_up: Arc<WakeUp>,
}

impl AsFd for DoneFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_up.as_fd()
    }
}

impl Drop for DoneFd {
    fn drop(&mut self) {
        if let Some(node) = self.node.as_ref().and_then(Weak::upgrade) {
            node.remove_waiter(&self.waiter);
        }
    }
}

impl fmt::Debug for DoneFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoneFd").finish_non_exhaustive()
    }
}
