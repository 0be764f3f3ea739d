//! A table that gives out a slot and takes it back in constant time.
//!
//! A single value, the most frequent case, lies in the table itself.

use std::mem;
use std::vec;

#[derive(Default)]
pub(crate) enum Slab<T> {
    #[default]
    Empty,
    /// In slot 0.
    One(T),
    Many(Box<Slots<T>>),
}

pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// The first vacant slot, or `NONE`.
    vacant: u32,
    live: u32,
}

pub(crate) enum Slot<T> {
    /// A free slot, and the next free one.
    Vacant(u32),
    Taken(T),
}

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// How many slots an empty table may keep for those to come.
const SPARE: usize = 16;

impl<T> Slab<T> {
    /// # Panics
    ///
    /// With 2^32 - 1 values in the table.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Slab::Many(slots) = self {
            return slots.insert(value);
        }
        let (filled, slot) = match mem::take(self) {
            Slab::One(first) => (Slab::Many(Box::new(Slots::of(first, value))), 1),
            _ => (Slab::One(value), 0),
        };
        *self = filled;
        slot
    }

    /// Frees a slot and returns what was in it, if there was anything.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        match self {
            Slab::Many(slots) => slots.remove(slot),
            Slab::One(_) if slot == 0 => match mem::take(self) {
                Slab::One(value) => Some(value),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Slab::Empty => true,
            Slab::One(_) => false,
            Slab::Many(slots) => slots.live == 0,
        }
    }

    /// Whether the table is empty, and larger than is worth keeping.
    pub(crate) fn is_spent(&self) -> bool {
        match self {
            Slab::Many(slots) => slots.live == 0 && slots.slots.capacity() > SPARE,
            _ => false,
        }
    }
}

impl<T> Slots<T> {
    fn of(first: T, second: T) -> Slots<T> {
        Slots {
            slots: vec![Slot::Taken(first), Slot::Taken(second)],
            vacant: NONE,
            live: 2,
        }
    }

    fn insert(&mut self, value: T) -> u32 {
        let taken = Slot::Taken(value);
        if let Some(free) = self.slots.get_mut(self.vacant as usize) {
            if let Slot::Vacant(next) = mem::replace(free, taken) {
                self.live += 1;
                return mem::replace(&mut self.vacant, next);
            }
            unreachable!("only vacant slots are in the list of vacant slots");
        }
        let slot = u32::try_from(self.slots.len()).unwrap_or(NONE);
        assert!(slot != NONE, "a context has at most 2^32 - 1 children");
        self.slots.push(taken);
        self.live += 1;
        slot
    }

    fn remove(&mut self, slot: u32) -> Option<T> {
        let place = self.slots.get_mut(slot as usize)?;
        match mem::replace(place, Slot::Vacant(self.vacant)) {
            Slot::Taken(value) => {
                self.vacant = slot;
                self.live -= 1;
                Some(value)
            }
            vacant => {
                *place = vacant;
                None
            }
        }
    }
}

/// The values of a [`Slab`], in the order of their slots.
pub(crate) enum IntoIter<T> {
    One(Option<T>),
    Many(vec::IntoIter<Slot<T>>),
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            IntoIter::One(value) => value.take(),
            IntoIter::Many(slots) => slots.find_map(|slot| match slot {
                Slot::Taken(value) => Some(value),
                Slot::Vacant(_) => None,
            }),
        }
    }
}

impl<T> IntoIterator for Slab<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        match self {
            Slab::Empty => IntoIter::One(None),
            Slab::One(value) => IntoIter::One(Some(value)),
            Slab::Many(slots) => IntoIter::Many(slots.slots.into_iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..4).map(|value| slab.insert(value)).collect();
        assert_eq!(slab.remove(slots[1]), Some(1));
        assert_eq!(slab.remove(slots[3]), Some(3));
        assert_eq!(slab.remove(slots[3]), None);
        assert_eq!(slab.insert(5), slots[3]);
        assert_eq!(slab.insert(6), slots[1]);
        assert_eq!(slab.insert(7), 4);
        assert_eq!(slab.into_iter().collect::<Vec<_>>(), [0, 6, 2, 5, 7]);
    }

    #[test]
    fn a_single_value_has_a_slot_of_its_own() {
        let mut slab = Slab::default();
        assert!(slab.is_empty());
        assert_eq!(slab.insert('a'), 0);
        assert!(!slab.is_empty());
        assert_eq!(slab.remove(1), None);
        assert_eq!(slab.remove(0), Some('a'));
        assert_eq!(slab.remove(0), None);
        assert!(slab.is_empty());
        slab.insert('b');
        assert_eq!(slab.insert('c'), 1);
        assert_eq!(slab.remove(0), Some('b'));
        assert_eq!(slab.into_iter().collect::<String>(), "c");
    }

    #[test]
    fn a_table_is_spent_when_it_is_empty_and_was_large() {
        for live in [1, SPARE] {
            let mut small = Slab::default();
            let slots: Vec<u32> = (0..live).map(|_| small.insert(())).collect();
            for slot in slots {
                small.remove(slot);
            }
            assert!(!small.is_spent());
        }

        let mut large = Slab::default();
        let slots: Vec<u32> = (0..2 * SPARE).map(|value| large.insert(value)).collect();
        for &slot in &slots[1..] {
            large.remove(slot);
        }
        assert!(!large.is_spent());
        large.remove(slots[0]);
        assert!(large.is_spent());
    }
}
