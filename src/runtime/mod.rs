//! Threads, and what they share.
//!
//! Nothing here depends on the tree. Imports run one way: `watcher` uses `timer`, that
//! uses `pool`, and all use the rest.

pub(crate) mod place;
#[cfg(not(model))]
pub(crate) mod pool;
pub(crate) mod rounded;
pub(crate) mod sharded;
pub(crate) mod slab;
#[cfg_attr(model, path = "../../tests/models/mock/sync.rs")]
pub(crate) mod sync;
#[cfg_attr(model, path = "../../tests/models/mock/timer.rs")]
pub(crate) mod timer;
pub(crate) mod timer_queue;
pub(crate) mod timestamp;
pub(crate) mod unwind;
#[cfg_attr(model, path = "../../tests/models/mock/watcher.rs")]
pub(crate) mod watcher;
#[cfg(any(test, not(model)))]
pub(crate) mod workers;

// The pool is a static of `timer`, because the timer thread ticks it.
pub(crate) use self::timer::{run_on_pool, run_on_pool_first, Task};
