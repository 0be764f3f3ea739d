//! Replaces `src/runtime/sync.rs`, with the same names.

#[cfg(feature = "loom")]
pub(crate) use loom as checker;
#[cfg(not(feature = "loom"))]
pub(crate) use shuttle as checker;

pub(crate) use std::sync::{Arc, Weak};

pub(crate) use self::checker::sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU8, Ordering};

use std::cell::Cell;
use std::sync::{PoisonError, TryLockError};

use crossbeam_channel::{bounded, Receiver, Sender, TryRecvError};

use self::checker::sync::atomic::AtomicU64;
pub(crate) use self::checker::sync::MutexGuard;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(checker::sync::Mutex::new(value))
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

#[derive(Debug, Default)]
pub(crate) struct Condvar(checker::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(checker::sync::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut *guard) {
            let woken = self.0.wait(guard);
            guard = woken.unwrap_or_else(PoisonError::into_inner);
        }
        guard
    }
}

/// Has the orderings of crossbeam's.
pub(crate) struct AtomicCell<T>(AtomicU64, std::marker::PhantomData<T>);

impl AtomicCell<u64> {
    pub(crate) fn new(value: u64) -> Self {
        AtomicCell(AtomicU64::new(value), std::marker::PhantomData)
    }

    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    pub(crate) fn fetch_min(&self, value: u64) -> u64 {
        self.0.fetch_min(value, Ordering::AcqRel)
    }
}

/// The receivers are real. Beside them is what the checker sees: a flag, read with a relaxed load
/// because crossbeam may read its own so, and a lock to wait on.
pub(crate) struct OneShotEvent {
    is_set: Arc<AtomicBool>,
    sender: Mutex<Option<Sender<()>>>,
    set: Condvar,
    receiver: Receiver<()>,
}

impl OneShotEvent {
    pub(crate) fn new() -> OneShotEvent {
        let (sender, receiver) = bounded(0);
        let is_set = Arc::new(AtomicBool::new(false));
        EVENTS
            .lock()
            .unwrap()
            .push((receiver.clone(), is_set.clone()));
        OneShotEvent {
            is_set,
            sender: Mutex::new(Some(sender)),
            set: Condvar::new(),
            receiver,
        }
    }

    pub(crate) fn receiver(&self) -> &Receiver<()> {
        &self.receiver
    }

    pub(crate) fn set(&self) {
        let mut sender = self.sender.lock();
        self.is_set.fetch_or(true, Ordering::SeqCst);
        drop(sender.take()); // no step of the model, so it is one with that of the flag
        drop(sender);
        self.set.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    pub(crate) fn wait(&self) {
        let sender = self.sender.lock();
        let sender = self.set.wait_while(sender, |sender| sender.is_some());
        drop(sender);
    }
}

/// Returns whether a receiver is disconnected, in a step that the checker sees.
pub(crate) fn is_disconnected(receiver: &Receiver<()>) -> bool {
    let is_set = {
        let events = EVENTS.lock().unwrap();
        let event = events.iter().find(|event| event.0.same_channel(receiver));
        event.map(|event| event.1.clone())
    };
    match is_set {
        Some(is_set) => is_set.load(Ordering::Relaxed),
        None => receiver.try_recv() == Err(TryRecvError::Disconnected), // the same for ever
    }
}

/// Returns the number of the model's thread, never 0.
pub(crate) fn thread_number() -> u32 {
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NUMBERS.take());
        }
        number.get()
    })
}

/// Gives all further threads the same shard.
pub(crate) fn share_shards() {
    NUMBERS.step.store(64, std::sync::atomic::Ordering::Relaxed);
}

// The state of one execution. It is used between two steps of the model, where no thread is
// interrupted, so its locks are those of std.
checker::lazy_static! {
    static ref EVENTS: std::sync::Mutex<Vec<(Receiver<()>, Arc<AtomicBool>)>> = Default::default();
    static ref NUMBERS: Numbers = Numbers {
        next: 1.into(),
        step: 1.into(),
    };
}

checker::thread_local! {
    static NUMBER: Cell<u32> = Cell::new(0);
}

struct Numbers {
    next: std::sync::atomic::AtomicU32,
    step: std::sync::atomic::AtomicU32,
}

impl Numbers {
    fn take(&self) -> u32 {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        self.next.fetch_add(self.step.load(relaxed), relaxed)
    }
}

/// The checker's threads, with the names of `std::thread`.
pub(crate) mod thread {
    pub(crate) use super::checker::thread::{current, spawn, JoinHandle, ThreadId};

    #[cfg(feature = "loom")]
    pub(crate) use std::thread::{scope, Builder, Scope};

    #[cfg(not(feature = "loom"))]
    pub(crate) use shuttle::thread::{scope, Scope};

    /// Starts threads of a scope. Names are ignored.
    #[cfg(not(feature = "loom"))]
    #[derive(Debug)]
    pub struct Builder(());

    #[cfg(not(feature = "loom"))]
    impl Builder {
        pub fn new() -> Builder {
            Builder(())
        }

        pub fn spawn_scoped<'scope>(
            self,
            scope: &'scope Scope<'scope, '_>,
            work: impl FnOnce() + Send + 'scope,
        ) -> std::io::Result<()> {
            scope.spawn(work);
            Ok(())
        }
    }
}
