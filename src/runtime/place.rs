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

#[cfg(all(test, not(model)))]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::Barrier;
    use std::{hint, thread};

    use super::*;

    type At = &'static Location<'static>;

    #[track_caller]
    fn here() -> At {
        Location::caller()
    }

    /// Returns different places.
    fn places() -> [At; 8] {
        let (a, b, c, d) = (here(), here(), here(), here());
        let (e, f, g, h) = (here(), here(), here(), here());
        [a, b, c, d, e, f, g, h]
    }

    fn are_distinct(places: &[Place]) -> bool {
        let numbers: BTreeSet<_> = places.iter().map(|place| place.number()).collect();
        numbers.len() == places.len() && !places.contains(&Place::NONE)
    }

    #[test]
    fn every_place_has_one_number_on_all_threads() {
        let places = places();
        let start = Barrier::new(places.len());
        let number = |first: usize| {
            start.wait();
            let mut numbers = [Place::NONE; 8];
            for i in 0..places.len() {
                let i = (first + i) % places.len();
                numbers[i] = Place::of(places[i]);
            }
            numbers
        };
        let all = thread::scope(|s| {
            let threads: Vec<_> = (0..places.len())
                .map(|first| s.spawn(move || number(first)))
                .collect();
            let numbers = threads.into_iter().map(|thread| thread.join().unwrap());
            numbers.collect::<Vec<_>>()
        });
        assert!(are_distinct(&all[0]), "{:?}", all[0]);
        for numbers in &all {
            assert_eq!(numbers, &all[0]);
        }
        for (place, at) in all[0].iter().zip(places) {
            let found = Place::from_number(place.number()).location();
            assert!(found.is_some_and(|found| ptr::eq(found, at)));
        }
    }

    /// Two threads at once, in each round for another slot. The first is at the end of the table, so that
    /// the search goes on at its beginning.
    #[test]
    fn places_with_the_same_slot_have_their_own_numbers() {
        let arrived = AtomicUsize::new(0);
        let search = |at: At, round: usize| Place::search(at, PLACES - 1 + 8 * round);
        let search_all = |at: At| {
            let search_at_once = |round| {
                arrived.fetch_add(1, Ordering::SeqCst);
                let mut spins = 0;
                while arrived.load(Ordering::SeqCst) < 2 * (round + 1) {
                    hint::spin_loop();
                    spins += 1;
                    if spins % 1000 == 0 {
                        thread::yield_now();
                    }
                }
                search(at, round)
            };
            (0..1000).map(search_at_once).collect::<Vec<_>>()
        };
        let [one, other, ..] = places();
        let (ones, others) = thread::scope(|s| {
            let others = s.spawn(|| search_all(other));
            (search_all(one), others.join().unwrap())
        });
        for (round, pair) in ones.into_iter().zip(others).enumerate() {
            let pair: [Place; 2] = pair.into();
            assert!(are_distinct(&pair), "{pair:?}");
            for (at, place) in [one, other].into_iter().zip(pair) {
                assert_eq!(search(at, round), place);
                assert!(place.location().is_some_and(|found| ptr::eq(found, at)));
            }
        }
    }

    #[test]
    fn none_has_no_location() {
        assert_eq!(Place::NONE.location(), None);
        assert_eq!(Place::from_number(0), Place::NONE);
    }
}
