//! One kind of work on several threads at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Does what Go's `RunParallel` does: `n` operations, shared out among as many threads as there are
/// cores.
pub(crate) fn parallel(n: u64, work: impl Fn(&mut Share<'_>) + Sync) -> Duration {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let left = AtomicU64::new(n);
    at_once(threads as u64, |_| {
        work(&mut Share {
            left: &left,
            mine: 0,
        });
    })
}

/// Runs `n` operations on so many threads, each with its own part of them from the beginning.
pub(crate) fn split(n: u64, threads: u64, work: impl Fn(u64) + Sync) -> Duration {
    at_once(threads, |i| {
        work(n / threads + u64::from(i < n % threads));
    })
}

/// Runs `work` on so many threads; returns the time from the earliest start to the latest end.
///
/// The workers take both times themselves: a thread that only watches them may be scheduled late.
fn at_once(threads: u64, work: impl Fn(u64) + Sync) -> Duration {
    let ready = Barrier::new(threads as usize);
    let timed = |i| {
        ready.wait();
        let start = Instant::now();
        work(i);
        (start, Instant::now())
    };
    let spans: Vec<_> = thread::scope(|s| {
        let timed = &timed;
        let workers: Vec<_> = (0..threads).map(|i| s.spawn(move || timed(i))).collect();
        let spans = workers.into_iter().map(|worker| worker.join().unwrap());
        spans.collect()
    });
    let start = spans.iter().map(|span| span.0).min().unwrap();
    let end = spans.iter().map(|span| span.1).max().unwrap();
    end - start
}

pub(crate) struct Share<'a> {
    left: &'a AtomicU64,
    mine: u64,
}

impl Share<'_> {
    /// How many operations a thread takes at once.
    const PORTION: u64 = 1024;

    /// Takes an operation if there is one left: Go's `pb.Next()`.
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
