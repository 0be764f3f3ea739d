//! What a `Context` holds of its node, and the seats of the threads that derive from one node.
//!
//! A child holds its parent, so each derivation counts on the parent, and each child that is looked
//! at takes its place in the parent's table. Where many threads do so, one after the other waits for
//! the same few cache lines. So when another thread than the first has derived from a node a number
//! of times, every thread gets a *seat*: a hidden child of the node, with the same values, from which
//! it derives instead.
//!
//! A seat holds its node and the node its seats. This is the only circle there is, and the last
//! `Context` at the node breaks it: without one, nobody can derive any more. Seats with children
//! live on, held by these alone.

use std::ops::Deref;

use crossbeam_utils::CachePadded;

use super::{is_claimed, Kind, Node};
use crate::lane::Lanes;
use crate::sync::{thread_number, Arc, Mutex, Ordering};
use crate::value::Values;

/// A node, and one more among those who can derive from it.
pub(crate) struct Hold(Arc<Node>);

/// Where one thread derives from, instead of a node that many derive from.
pub(super) struct Seat {
    node: Arc<Node>,
    /// Those with which the node was derived, behind a count of their own.
    values: Option<Values>,
}

pub(super) type Seats = Lanes<CachePadded<Mutex<Option<Seat>>>>;

impl Hold {
    /// The first hold on a new node.
    #[inline]
    pub(crate) fn new(node: Arc<Node>) -> Hold {
        node.holds.store(1, Ordering::Relaxed);
        Hold(node)
    }

    /// The node and the values to derive from, if those at hand are `values`.
    #[inline]
    pub(crate) fn place(&self, values: &Values) -> (Arc<Node>, Values) {
        match self.is_crowded() {
            true => self.seat(values),
            false => (self.0.clone(), values.clone()),
        }
    }

    #[cold]
    fn seat(&self, values: &Values) -> (Arc<Node>, Values) {
        // The end of a custom context is not watched for longer than it has children. And a child of
        // one that is done must not wait for the news to come to a seat.
        let is_done = is_claimed(self.phase.load(Ordering::Acquire));
        if is_done || !self.is_cancellable() || self.is_custom() {
            return (self.0.clone(), values.clone());
        }
        let seats = self
            .hub()
            .seats
            .get_or_init(|| Box::new(Seats::new(CachePadded::default)));
        let mut spare = None;
        loop {
            let mut mine = seats.mine().lock();
            if mine.is_none() {
                *mine = spare.take();
            }
            if let Some(seat) = &mut *mine {
                // What was added to the values after the node was made is for this handle alone.
                let values = match values.depth() <= self.depth {
                    true => seat.values.get_or_insert_with(|| values.relayed()).clone(),
                    false => values.clone(),
                };
                let place = (seat.node.clone(), values);
                drop(mine);
                drop(spare);
                return place;
            }
            drop(mine);
            let node = Node::new(Some(self.0.clone()), Kind::Seat, self.depth, self.deadline);
            spare = Some(Seat {
                node: node.settled(),
                values: None,
            });
        }
    }
}

/// How many derivations by other threads than the first are many.
const MANY: u8 = if cfg!(model) { 2 } else { 32 };

impl Node {
    #[inline]
    fn is_crowded(&self) -> bool {
        self.others.load(Ordering::Relaxed) >= MANY
    }

    /// Notes that this thread derives from the node. Some go uncounted where two threads do at once;
    /// but the count is never set back, for by it the last hold knows that there may be seats.
    #[inline]
    pub(super) fn note_derivation(&self) {
        let others = self.others.load(Ordering::Relaxed);
        if others < MANY {
            let (me, first) = (thread_number(), self.first.load(Ordering::Relaxed));
            if first == 0 {
                self.first.store(me, Ordering::Relaxed);
            } else if first != me {
                let order = Ordering::Relaxed;
                let _ = (self.others).compare_exchange(others, others + 1, order, order);
            }
        }
    }

    #[cold]
    fn clear_seats(&self) {
        let Some(seats) = self.hub.get().and_then(|hub| hub.seats.get()) else {
            return;
        };
        for seat in seats.iter() {
            let seat = seat.lock().take();
            drop(seat); // with the lock given back
        }
    }
}

impl Deref for Hold {
    type Target = Arc<Node>;

    #[inline]
    fn deref(&self) -> &Arc<Node> {
        &self.0
    }
}

impl Clone for Hold {
    #[inline]
    fn clone(&self) -> Hold {
        self.holds.fetch_add(1, Ordering::Relaxed);
        Hold(self.0.clone())
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        // Who is alone stays so: to make another hold takes one.
        let holds = &self.holds;
        let last = holds.load(Ordering::Acquire) == 1 || holds.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && self.is_crowded() {
            self.clear_seats();
        }
    }
}

#[cfg(all(test, not(model)))]
mod tests;
