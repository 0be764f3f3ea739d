//! A table that gives out a slot and takes it back in constant time.

use std::mem;
use std::vec;

pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The first vacant slot, or `NONE`.
    vacant: u32,
    live: u32,
}

enum Slot<T> {
    /// A free slot, and the next free one.
    Vacant(u32),
    Taken(T),
}

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// How many slots an empty table may keep for those to come.
const SPARE: usize = 16;

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            slots: Vec::new(),
            vacant: NONE,
            live: 0,
        }
    }
}

impl<T> Slab<T> {
    fn get(&self, slot: u32) -> Option<&T> {
        match self.slots.get(slot as usize)? {
            Slot::Taken(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    /// # Panics
    ///
    /// With 2^32 - 1 values in the table.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
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

    /// Frees a slot and returns what was in it, if there was anything.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        self.get(slot)?;
        let vacant = Slot::Vacant(self.vacant);
        match mem::replace(&mut self.slots[slot as usize], vacant) {
            Slot::Taken(value) => {
                self.vacant = slot;
                self.live -= 1;
                Some(value)
            }
            Slot::Vacant(_) => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether the table is empty, and larger than is worth keeping.
    pub(crate) fn is_spent(&self) -> bool {
        self.live == 0 && self.slots.capacity() > SPARE
    }
}

/// The values of a [`Slab`], in the order of their slots.
pub(crate) struct IntoIter<T>(vec::IntoIter<Slot<T>>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.find_map(|slot| match slot {
            Slot::Taken(value) => Some(value),
            Slot::Vacant(_) => None,
        })
    }
}

impl<T> IntoIterator for Slab<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self.slots.into_iter())
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
        assert_eq!(slab.get(slots[3]), Some(&5));
        assert_eq!(slab.into_iter().collect::<Vec<_>>(), [0, 6, 2, 5, 7]);
    }

    #[test]
    fn a_table_is_spent_when_it_is_empty_and_was_large() {
        let mut small = Slab::default();
        let slot = small.insert(());
        small.remove(slot);
        assert!(!small.is_spent());

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
