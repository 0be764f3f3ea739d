//! A global allocator may wake a thread that cancels, whatever lock is held when memory is
//! allocated. So a memory budget can end the work that exceeds it.
//!
//! The process has one global allocator, so this test has a binary of its own.

use std::alloc::System;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use go_context::crossbeam_channel::bounded;
use go_context::{Context, Error};
use support::{Name, HOUR};
use tracking_allocator::{AllocationGroupId, AllocationRegistry, AllocationTracker, Allocator};

/// Reports every allocation and deallocation to a tracker, on the same thread, except those of the
/// tracker itself.
#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

const BUDGET: usize = 64 << 20;
const SOON: Duration = Duration::from_millis(1);

struct Budget {
    keeper: Thread,
}

static USED: AtomicUsize = AtomicUsize::new(0);

impl AllocationTracker for Budget {
    fn allocated(&self, _: usize, size: usize, _: usize, _: AllocationGroupId) {
        if USED.fetch_add(size, Ordering::Relaxed) + size > BUDGET {
            self.keeper.unpark();
        }
    }

    fn deallocated(
        &self,
        _: usize,
        size: usize,
        _: usize,
        _: AllocationGroupId,
        _: AllocationGroupId,
    ) {
        USED.fetch_sub(size, Ordering::Relaxed);
    }
}

#[test]
fn allocator_can_wake_a_thread_that_cancels() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let keeper = thread::spawn(move || {
        while USED.load(Ordering::Relaxed) <= BUDGET {
            thread::park();
        }
        cancel.cancel("over budget");
    });
    AllocationRegistry::set_global_tracker(Budget {
        keeper: keeper.thread().clone(),
    })
    .unwrap();
    AllocationRegistry::enable_tracking();

    for _ in 0..20 {
        use_contexts(&ctx);
    }
    assert_eq!(ctx.err(), None);

    let mut kept = Vec::new();
    while ctx.check().is_ok() {
        kept.push(vec![1_u8; 1 << 20]);
        use_contexts(&ctx);
    }
    assert_eq!(ctx.cause().unwrap().to_string(), "over budget");
    keeper.join().unwrap();
    drop(kept);

    use_contexts(&ctx);
}

/// Uses everything that allocates or deallocates, under whatever lock, on several threads.
fn use_contexts(parent: &Context) {
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                let below: Vec<_> = (0..100).map(|_| parent.with_timeout(HOUR)).collect();
                let done: Vec<_> = below.iter().map(|(ctx, _)| ctx.done()).collect();
                let functions: Vec<_> = (0..20).map(|_| below[0].0.after_func(|| ())).collect();
                assert!(functions.iter().skip(1).all(|f| f.stop()) || parent.err().is_some());
                for (ctx, cancel) in &below {
                    ctx.with_value(Name, "gopher".into())
                        .with_cancel()
                        .1
                        .cancel();
                    cancel.cancel();
                }
                assert!(done.iter().all(|done| done.recv().is_err()));
            });
        }
    });
    let _ = parent.sleep(SOON);
    let detached = parent.without_cancel();
    let (timed, _cancel) = detached.with_timeout_cause(SOON, "too slow");
    let (merged, _cancel) = timed.merge(parent);
    let (ran, runs) = bounded(1);
    timed.after_func(move || ran.send(()).unwrap());
    assert!(merged.wait() == Error::DeadlineExceeded || parent.err().is_some());
    runs.recv().unwrap();
    let failed: Result<(), _> = detached.scope_all(|s| {
        for number in 0..3 {
            s.spawn(move |_| Err::<(), _>(io::Error::other(number.to_string())));
        }
        Ok(())
    });
    assert!(!failed.unwrap_err().is_empty());
}
