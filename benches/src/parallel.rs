//! Many threads at one kind of work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Go's `RunParallel`: `n` operations, shared out among as many threads as there are cores.
pub(crate) fn parallel(n: u64, work: impl Fn(&mut Share<'_>) + Sync) -> Duration {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let left = AtomicU64::new(n);
    let ready = Barrier::new(threads + 1);
    thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                ready.wait();
                work(&mut Share {
                    left: &left,
                    mine: 0,
                });
            });
        }
        ready.wait();
        Instant::now()
    })
    .elapsed()
}

pub(crate) struct Share<'a> {
    left: &'a AtomicU64,
    mine: u64,
}

impl Share<'_> {
    /// How many operations a thread takes at once.
    const PORTION: u64 = 1024;

    /// Go's `pb.Next()`.
    #[inline]
    pub(crate) fn take(&mut self) -> bool {
        if self.mine == 0 && !self.refill() {
            return false;
        }
        self.mine -= 1;
        true
    }

    #[cold]
    fn refill(&mut self) -> bool {
        let took = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left > 0).then(|| left.saturating_sub(Self::PORTION))
            });
        self.mine = took.map_or(0, |left| left.min(Self::PORTION));
        self.mine > 0
    }
}

/// `n` operations on so many threads, each with its own part of them from the beginning.
pub(crate) fn split(n: u64, threads: u64, work: impl Fn(u64) + Sync) -> Duration {
    let ready = Barrier::new(threads as usize + 1);
    thread::scope(|s| {
        for i in 0..threads {
            let part = n / threads + u64::from(i < n % threads);
            let (ready, work) = (&ready, &work);
            s.spawn(move || {
                ready.wait();
                work(part);
            });
        }
        ready.wait();
        Instant::now()
    })
    .elapsed()
}
