//! Where and how an end began, for `Context::explain`.
//!
//! It is a part of the phase of the node where the end began, so that it is written in the same step
//! and is the same for every thread. A node that ends like its parent has none, so that a cancellation
//! writes nothing for the descendants.

use std::panic::Location;
use std::time::Duration;

use crate::runtime::place::Place;
use crate::runtime::rounded::{from_rounded, round};

/// 26 bits: two say what cancelled the node, and 24 where, or how long after its deadline it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(u32);

/// What cancelled a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelledBy {
    Func,
    /// A guard, or another handle that cancels when it is dropped.
    Guard,
    Signal,
    /// The group whose context it is.
    Group,
}

const KINDS: [CancelledBy; 4] = [
    CancelledBy::Func,
    CancelledBy::Guard,
    CancelledBy::Signal,
    CancelledBy::Group,
];

const DETAIL_BITS: u32 = 24;

impl Origin {
    pub(crate) const BITS: u32 = DETAIL_BITS + 2;
    pub(crate) const NONE: Origin = Origin(0);
    pub(crate) const SIGNAL: Origin = Origin((CancelledBy::Signal as u32) << DETAIL_BITS);

    /// Of a cancellation by the caller's caller.
    #[inline]
    #[track_caller]
    pub(crate) fn here(by: CancelledBy) -> Origin {
        Origin::cancelled(by, Location::caller())
    }

    #[inline]
    pub(crate) fn cancelled(by: CancelledBy, at: &'static Location<'static>) -> Origin {
        let place = Place::of(at);
        Origin((by as u32) << DETAIL_BITS | u32::from(place.number()))
    }

    /// Of a deadline that passed so long ago.
    pub(crate) fn deadline(lateness: Duration) -> Origin {
        Origin(round(lateness, DETAIL_BITS))
    }

    pub(crate) fn cancelled_by(self) -> CancelledBy {
        KINDS[(self.0 >> DETAIL_BITS) as usize & 3]
    }

    /// Returns where a node that did not end by its deadline was cancelled, if the place is recorded.
    pub(crate) fn cancelled_at(self) -> Option<&'static Location<'static>> {
        Place::from_number(self.0 as u16).location()
    }

    /// Returns how long after its deadline a node ended that ended by that.
    pub(crate) fn lateness(self) -> Duration {
        from_rounded(self.0 & ((1 << DETAIL_BITS) - 1))
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn from_bits(bits: u32) -> Origin {
        Origin(bits)
    }
}
