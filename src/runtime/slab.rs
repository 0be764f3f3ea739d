//! A table that allocates and frees slots in constant time.
//!
//! A single value, the most frequent case, is stored in the table itself.

use std::iter::{Chain, FilterMap};
use std::{mem, option, vec};

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

/// A value, or the next vacant slot.
type Slot<T> = Result<T, u32>;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// How many slots an empty table may keep, so that a few values that come and go need no allocation.
pub(crate) const SPARE: usize = 16;

impl<T> Slab<T> {
    /// Stores a value and returns its slot. Panics if all 2^31 slots are in use; bit 31 marks a sharded
    /// `ChildSlot`.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        match self {
            Slab::Many(slots) => return slots.insert(value),
            Slab::Empty => {
                *self = Slab::One(value);
                return 0;
            }
            Slab::One(_) => {}
        }
        let slots = mem::take(self)
            .into_iter()
            .map(Ok)
            .chain([Ok(value)])
            .collect();
        let (vacant, live) = (NONE, 2);
        *self = Slab::Many(Box::new(Slots {
            slots,
            vacant,
            live,
        }));
        1
    }

    /// Returns the value in a slot, if there is one.
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        match self {
            Slab::One(value) if slot == 0 => Some(value),
            Slab::Many(slots) => slots.slots.get_mut(slot as usize)?.as_mut().ok(),
            _ => None,
        }
    }

    /// Frees a slot and returns its value, if there was one.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        match self {
            Slab::Many(slots) => {
                let removed = slots.remove(slot);
                if slots.live == 0 && slots.slots.capacity() > SPARE {
                    *self = Slab::Empty;
                }
                removed
            }
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

    /// Returns how many slots there are, vacant ones included.
    pub(crate) fn slots(&self) -> usize {
        match self {
            Slab::Empty => 0,
            Slab::One(_) => 1,
            Slab::Many(slots) => slots.slots.len(),
        }
    }
}

impl<T> Slots<T> {
    fn insert(&mut self, value: T) -> u32 {
        self.live += 1;
        let slot = self.vacant;
        if let Some(vacant @ Err(_)) = self.slots.get_mut(slot as usize) {
            self.vacant = mem::replace(vacant, Ok(value)).err().unwrap_or(NONE);
            return slot;
        }
        let slot = self.slots.len() as u32;
        assert!(
            self.slots.len() < 1 << 31,
            "a context has at most 2^31 children"
        );
        self.slots.push(Ok(value));
        slot
    }

    fn remove(&mut self, slot: u32) -> Option<T> {
        let place = self
            .slots
            .get_mut(slot as usize)
            .filter(|place| place.is_ok())?;
        let removed = mem::replace(place, Err(self.vacant));
        self.vacant = slot;
        self.live -= 1;
        removed.ok()
    }
}

/// The values of a [`Slab`], in the order of their slots.
pub(crate) type IntoIter<T> =
    Chain<option::IntoIter<T>, FilterMap<vec::IntoIter<Slot<T>>, fn(Slot<T>) -> Option<T>>>;

impl<T> IntoIterator for Slab<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        let (one, many) = match self {
            Slab::Empty => (None, Vec::new()),
            Slab::One(value) => (Some(value), Vec::new()),
            Slab::Many(slots) => (None, slots.slots),
        };
        one.into_iter()
            .chain(many.into_iter().filter_map(Result::ok as fn(_) -> _))
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
    fn only_a_large_table_is_freed_when_empty() {
        for (len, kept) in [(1, 0), (SPARE, SPARE), (2 * SPARE, 0)] {
            let mut slab = Slab::default();
            let slots: Vec<u32> = (0..len).map(|_| slab.insert(())).collect();
            assert!(slots.iter().all(|&slot| slab.remove(slot).is_some()));
            assert_eq!(slab.slots(), kept);
        }
    }
}
