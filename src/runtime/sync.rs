//! The locks and atomics: the only file of the tree and the runtime that names those of std, so that a
//! model checker can put its own in their place. `tests/models/mock/sync.rs` has the same names.
//!
//! A checker does not see the cells of once_cell, nor the channels over which `external`, `pool` and
//! `timer` talk to threads of the crate.

#[cfg(feature = "signal")]
pub(crate) use std::sync::atomic::AtomicUsize;
pub(crate) use std::sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU8, Ordering};
pub(crate) use std::sync::{Arc, Weak};
pub(crate) use std::thread;

/// Falls back to a lock on targets without an atomic of that size.
pub(crate) use crossbeam_utils::atomic::AtomicCell;

use std::cell::Cell;
use std::sync::{PoisonError, TryLockError};

pub(crate) use std::sync::MutexGuard;

use crossbeam_channel::{bounded, Receiver, Sender, TryRecvError};

/// A mutex that does not poison. No foreign code runs under a lock of this crate, so no panic can
/// leave the guarded value half changed.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
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

/// An event that happens once: a channel that is disconnected and never carries a message.
///
/// It has the zero-capacity flavour, which is the smallest and is made in half the time of the
/// others. Polling it takes the channel's lock, so each shard of threads has a channel of its own.
pub(crate) struct OneShotEvent {
    /// The only sender. Dropping it is the event.
    sender: Mutex<Option<Sender<()>>>,
    receiver: Receiver<()>,
}

impl OneShotEvent {
    pub(crate) fn new() -> OneShotEvent {
        let (sender, receiver) = bounded(0);
        OneShotEvent {
            sender: Mutex::new(Some(sender)),
            receiver,
        }
    }

    pub(crate) fn receiver(&self) -> &Receiver<()> {
        &self.receiver
    }

    pub(crate) fn set(&self) {
        let sender = self.sender.lock().take();
        drop(sender); // with the lock released, because it wakes all receivers
    }

    pub(crate) fn is_set(&self) -> bool {
        self.receiver.try_recv() == Err(TryRecvError::Disconnected)
    }

    pub(crate) fn wait(&self) {
        let _ = self.receiver.recv();
    }
}

/// Returns the number of this thread, never 0.
#[inline]
pub(crate) fn thread_number() -> u32 {
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    static NEXT: AtomicU32 = AtomicU32::new(1);

    NUMBER.with(|number| {
        if number.get() == 0 {
            // After 2^32 threads two have the same number, and share a shard.
            number.set(NEXT.fetch_add(1, Ordering::Relaxed).max(1));
        }
        number.get()
    })
}
