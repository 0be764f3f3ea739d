//! What threads share: the only place that names std's locks and atomics, and the seam at which a
//! model checker puts its own. `models/stand_in/sync.rs` has the same names.
//!
//! What none of them sees are the cells of once_cell, and the channels over which `foreign`, `pool`
//! and `timer` talk to threads of their own.

pub(crate) use std::sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU8, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Weak};
pub(crate) use std::thread;

/// Where there is no atomic of that size, behind a lock.
pub(crate) use crossbeam_utils::atomic::AtomicCell;

use std::cell::Cell;
use std::sync::{MutexGuard, PoisonError};

use crossbeam_channel::{unbounded, Receiver, Sender, TryRecvError};

/// A mutex that does not poison: no foreign code runs under a lock of this crate, so no panic can
/// leave what it guards half changed.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The condition variable to go with it.
#[derive(Debug, Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar(std::sync::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        self.0
            .wait_while(guard, condition)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// News that comes once: a channel that is disconnected and never carries a message.
///
/// It has the list flavour: receivers poll it without a lock, and until a first message, which never
/// comes, it is a single allocation.
pub(crate) struct Signal {
    /// The only one. Dropping it is the news.
    sender: Mutex<Option<Sender<()>>>,
    receiver: Receiver<()>,
}

impl Signal {
    pub(crate) fn new() -> Signal {
        let (sender, receiver) = unbounded();
        Signal {
            sender: Mutex::new(Some(sender)),
            receiver,
        }
    }

    pub(crate) fn receiver(&self) -> &Receiver<()> {
        &self.receiver
    }

    pub(crate) fn close(&self) {
        let sender = self.sender.lock().take();
        drop(sender); // with the lock given back
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.receiver.try_recv() == Err(TryRecvError::Disconnected)
    }

    pub(crate) fn wait(&self) {
        let _ = self.receiver.recv();
    }
}

/// The number of this thread, never 0.
#[inline]
pub(crate) fn thread_number() -> u32 {
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    static NEXT: AtomicU32 = AtomicU32::new(1);

    NUMBER.with(|number| {
        if number.get() == 0 {
            // Two threads with one number, after 2^32 of them, share a lane.
            number.set(NEXT.fetch_add(1, Ordering::Relaxed).max(1));
        }
        number.get()
    })
}
