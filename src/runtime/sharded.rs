//! State split into shards, one of which each thread uses.
//!
//! A counter or a lock that many threads write is passed from core to core each time. Where that
//! matters there is one for each shard of threads instead.

use std::thread;

use once_cell::sync::Lazy;

use super::sync::thread_number;

/// A value for each shard: four for each core, between 8 and 64, so that threads seldom share one.
pub(crate) struct Sharded<T>(Box<[T]>);

impl<T> Sharded<T> {
    pub(crate) fn new(make: impl FnMut() -> T) -> Sharded<T> {
        static COUNT: Lazy<usize> = Lazy::new(|| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            (4 * cores).next_power_of_two().clamp(8, 64)
        });
        Sharded(std::iter::repeat_with(make).take(*COUNT).collect())
    }

    /// Returns the index of this thread's shard.
    #[inline]
    pub(crate) fn index(&self) -> u8 {
        // The number of shards is a power of two and at most 64.
        (thread_number() as usize & (self.0.len() - 1)) as u8
    }

    /// Returns this thread's shard.
    #[inline]
    pub(crate) fn mine(&self) -> &T {
        self.get(self.index())
    }

    #[inline]
    pub(crate) fn get(&self, index: u8) -> &T {
        &self.0[usize::from(index)]
    }

    pub(crate) fn len(&self) -> u8 {
        self.0.len() as u8
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}
