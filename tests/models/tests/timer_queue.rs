//! The queues of timers: threads that insert against the timer thread.

use super::*;

use crate::runtime::timer_queue::{TimerId, TimerQueues};
use crate::runtime::timestamp::Timestamp;

const NOW: Timestamp = Timestamp(1000);
const SOON: Timestamp = Timestamp(2000);
#[cfg(not(feature = "loom"))]
const LATER: Timestamp = Timestamp(3000);

fn take_due(queues: &TimerQueues<u32>, now: Timestamp) -> Vec<u32> {
    queues.take_due(now, usize::MAX)
}

/// Does what the thread does before it sleeps. Returns the due timers and when it would wake.
fn take_due_and_sleep(queues: &TimerQueues<u32>) -> (Vec<u32>, Timestamp) {
    (take_due(queues, NOW), queues.next_wake())
}

#[test]
fn insert_during_take_due_is_not_overslept() {
    in_all_orders(|| {
        let queues = Arc::new(TimerQueues::new());
        queues.insert(0, NOW, 0); // so that a wake-up is set, and for a moment that has passed
        let owner = spawn({
            let queues = queues.clone();
            move || queues.insert(0, SOON, 1).must_wake
        });
        let (due, wake_at) = take_due_and_sleep(&queues);
        let woken = owner.join().unwrap();
        assert_eq!(due, [0]);
        assert!(woken || wake_at <= SOON, "it is overslept");
        assert_eq!(take_due(&queues, SOON), [1]);
    });
}

/// Not for loom, which allows a read-modify-write to miss an earlier store.
#[test]
#[cfg(not(feature = "loom"))]
fn insert_in_two_shards_is_not_overslept() {
    in_all_orders(|| {
        let queues = Arc::new(TimerQueues::new());
        queues.insert(2, NOW, 2);
        let times = [SOON, LATER];
        let owner = |number: u32| {
            let (queues, at) = (queues.clone(), times[number as usize]);
            spawn(move || queues.insert(number as u8, at, number).must_wake)
        };
        let owners = [owner(0), owner(1)];
        let (_, wake_at) = take_due_and_sleep(&queues);
        let woken = join(owners);
        assert!(woken[0] || wake_at <= SOON, "it is overslept");
        // A thread woken for one scans for both.
        assert!(woken[0] || woken[1] || wake_at <= LATER, "it is overslept");
        assert_eq!(take_due(&queues, LATER), [0, 1]);
    });
}

#[test]
fn timer_is_taken_or_removed_not_both() {
    in_all_orders(|| {
        let queues = Arc::new(TimerQueues::new());
        let id = queues.insert(0, NOW, 1).id;
        queues.insert(0, SOON, 2);
        let owner = spawn({
            let queues = queues.clone();
            move || queues.remove(id, |timer| *timer == 1)
        });
        let due = take_due(&queues, NOW);
        let removed = owner.join().unwrap();
        assert_eq!(due.len() + removed.iter().len(), 1);
        assert_eq!(take_due(&queues, SOON), [2]);
    });
}

/// The slot of a timer that was taken may belong to another when its owner removes it.
#[test]
fn remove_of_taken_timer_spares_its_successor() {
    in_all_orders(|| {
        let queues = Arc::new(TimerQueues::new());
        let id = queues.insert(0, NOW, 1).id;
        let owner = spawn({
            let queues = queues.clone();
            move || queues.remove(id, |timer| *timer == 1)
        });
        let due = take_due(&queues, NOW);
        let TimerId { slot, .. } = queues.insert(0, SOON, 2).id;
        let removed = owner.join().unwrap();
        assert_eq!(due.len() + removed.iter().len(), 1);
        assert!(due.is_empty() || slot == id.slot);
        assert_eq!(take_due(&queues, SOON), [2]);
    });
}

/// A bounded batch leaves timers that are due; the thread must come back for them at once.
#[test]
fn take_due_of_a_batch_wakes_at_once_for_the_rest() {
    in_all_orders(|| {
        let queues = Arc::new(TimerQueues::new());
        queues.insert(0, NOW, 0);
        queues.insert(0, NOW, 1);
        let owner = spawn({
            let queues = queues.clone();
            move || queues.insert(1, SOON, 2).must_wake
        });
        assert_eq!(queues.take_due(NOW, 1).len(), 1);
        assert!(queues.next_wake() <= NOW, "due timers are overslept");
        owner.join().unwrap();
        assert_eq!(take_due(&queues, SOON).len(), 2);
    });
}
