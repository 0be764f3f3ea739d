//! Places in the user's code as small numbers, so that one fits into the state of a node.

use std::panic::Location;
use std::{mem, ptr};

use once_cell::race::OnceRef;

/// A place that has a number, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u16);

/// How many places can have a number: one is needed for each call in the program that cancels. The
/// table takes memory only where it is used.
const PLACES: usize = 1 << 15;

/// How many slots of the table are searched.
const PROBES: usize = 256;

type Slot = OnceRef<'static, Location<'static>>;

#[allow(clippy::declare_interior_mutable_const)] // only to fill the table
const VACANT: Slot = OnceRef::new();

/// A hash table with linear probing. Nothing is ever removed.
static TABLE: [Slot; PLACES] = [VACANT; PLACES];

impl Place {
    pub(crate) const NONE: Place = Place(0);

    /// Returns the number of a place. Returns `NONE` if the table is full.
    #[inline]
    pub(crate) fn of(location: &'static Location<'static>) -> Place {
        // Places that are used together lie side by side, and so do their slots.
        let home = location as *const Location<'_> as usize / mem::align_of::<Location<'_>>();
        match TABLE[home % PLACES].get() {
            Some(here) if ptr::eq(here, location) => Place::at(home),
            _ => Place::search(location, home),
        }
    }

    #[cold]
    fn search(location: &'static Location<'static>, home: usize) -> Place {
        let mut slots = home..home + PROBES;
        let is_its = |slot: &usize| {
            let slot = &TABLE[slot % PLACES];
            // If it is vacant, take it; another thread may do so first.
            slot.get().is_none() && slot.set(location).is_ok()
                || slot.get().is_some_and(|here| ptr::eq(here, location))
        };
        slots.find(is_its).map_or(Place::NONE, Place::at)
    }

    fn at(slot: usize) -> Place {
        Place((slot % PLACES) as u16 + 1)
    }

    pub(crate) fn location(self) -> Option<&'static Location<'static>> {
        TABLE[usize::from(self.0.checked_sub(1)?)].get()
    }

    pub(crate) fn number(self) -> u16 {
        self.0
    }

    pub(crate) fn from_number(number: u16) -> Place {
        Place(number)
    }
}
