//! Tests that count the memory of the process. Each runs in a process of its own, one at a time.

mod contention;
mod explain;
mod golang_allocs;
mod golang_memory;
mod lazy_registration;
mod merge;
mod short_children;
mod timer_thread;

use std::alloc::System;

use stats_alloc::{StatsAlloc, INSTRUMENTED_SYSTEM};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Returns how many bytes are allocated now.
fn allocated_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Returns how many allocations `f` makes, a reallocation being one.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATOR.stats();
    f();
    let after = ALLOCATOR.stats() - before;
    after.allocations + after.reallocations
}
