//! Stands in for `src/sync.rs`, whose names it has.

#[cfg(feature = "loom")]
pub(crate) use loom as checker;
#[cfg(not(feature = "loom"))]
pub(crate) use shuttle as checker;

pub(crate) use std::sync::{Arc, Weak};

pub(crate) use self::checker::sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU8, Ordering};

use std::cell::Cell;
use std::sync::PoisonError;

use crossbeam_channel::{unbounded, Receiver, Sender, TryRecvError};

use self::checker::sync::atomic::AtomicU64;
use self::checker::sync::MutexGuard;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(checker::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// With the orderings of crossbeam's.
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

/// The receivers are real, and what the checker knows of them stands beside: a mark, read with a
/// relaxed load as crossbeam reads its own, and for those who wait a lock.
pub(crate) struct Signal {
    closed: Arc<AtomicBool>,
    sender: Mutex<Option<Sender<()>>>,
    over: Condvar,
    receiver: Receiver<()>,
}

impl Signal {
    pub(crate) fn new() -> Signal {
        let (sender, receiver) = unbounded();
        let closed = Arc::new(AtomicBool::new(false));
        let mark = (receiver.clone(), closed.clone());
        MARKS.lock().unwrap().push(mark);
        Signal {
            closed,
            sender: Mutex::new(Some(sender)),
            over: Condvar::new(),
            receiver,
        }
    }

    pub(crate) fn receiver(&self) -> &Receiver<()> {
        &self.receiver
    }

    pub(crate) fn close(&self) {
        let mut sender = self.sender.lock();
        self.closed.fetch_or(true, Ordering::SeqCst);
        drop(sender.take()); // for all threads in one step with the mark
        drop(sender);
        self.over.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn wait(&self) {
        let sender = self.sender.lock();
        let sender = self.over.wait_while(sender, |sender| sender.is_some());
        drop(sender);
    }
}

/// Whether a receiver is disconnected, as a step that the checker sees.
pub(crate) fn is_disconnected(receiver: &Receiver<()>) -> bool {
    let mark = {
        let marks = MARKS.lock().unwrap();
        let mark = marks.iter().find(|mark| mark.0.same_channel(receiver));
        mark.map(|mark| mark.1.clone())
    };
    match mark {
        Some(closed) => closed.load(Ordering::Relaxed),
        None => receiver.try_recv() == Err(TryRecvError::Disconnected), // the same for ever
    }
}

/// The number of the model's thread, never 0.
pub(crate) fn thread_number() -> u32 {
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NUMBERS.draw());
        }
        number.get()
    })
}

/// From here on all new threads have the same lane.
pub(crate) fn share_lanes() {
    NUMBERS.step.store(64, std::sync::atomic::Ordering::Relaxed);
}

// What is the same in a whole execution. No thread is ever interrupted in it, so the locks are std's.
checker::lazy_static! {
    static ref MARKS: std::sync::Mutex<Vec<(Receiver<()>, Arc<AtomicBool>)>> = Default::default();
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
    fn draw(&self) -> u32 {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        self.next.fetch_add(self.step.load(relaxed), relaxed)
    }
}

/// Threads of the checker, as `std::thread` has them.
pub(crate) mod thread {
    pub(crate) use super::checker::thread::{current, spawn, JoinHandle, ThreadId};

    #[cfg(feature = "loom")]
    pub(crate) use std::thread::{scope, Builder, Scope};

    #[cfg(not(feature = "loom"))]
    pub(crate) use shuttle::thread::{scope, Scope};

    /// It starts threads of scopes, whatever their names.
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
