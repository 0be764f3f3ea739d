//! What threads have in common, so that each has a part of its own: *lanes*, told apart by a number
//! that every thread draws once.
//!
//! A counter or a lock that many threads use is handed from core to core each time. Where that is
//! worth it, there is one for each lane instead.

use std::thread;

use once_cell::sync::Lazy;

use crate::sync::thread_number;

/// A value for each lane. There are a few more than cores, so that threads seldom share one.
pub(crate) struct Lanes<T>(Box<[T]>);

impl<T> Lanes<T> {
    pub(crate) fn new(make: impl FnMut() -> T) -> Lanes<T> {
        static COUNT: Lazy<usize> = Lazy::new(|| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            (4 * cores).next_power_of_two().clamp(8, 64)
        });
        Lanes(std::iter::repeat_with(make).take(*COUNT).collect())
    }

    /// The lane of this thread.
    #[inline]
    pub(crate) fn my_lane(&self) -> u8 {
        // There are 64 at most, and always a power of two.
        (thread_number() as usize & (self.0.len() - 1)) as u8
    }

    /// What there is for this thread.
    #[inline]
    pub(crate) fn mine(&self) -> &T {
        self.get(self.my_lane())
    }

    #[inline]
    pub(crate) fn get(&self, lane: u8) -> &T {
        &self.0[usize::from(lane)]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}
