//! The queues are compared with a sorted list. The tests choose the times, so no test waits.

use std::collections::BTreeSet;
use std::panic;

use super::super::sync::Arc;
use super::*;

const SHARDS: u8 = 8;
const ALL: usize = usize::MAX;

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u64),
    /// Removes the timer with this number, modulo the number of all that were inserted.
    Remove(usize),
    Take(u64, usize),
}

/// SplitMix64: short, and so that the test needs no crate.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Returns one of few times, close together, so that many are equal; or an extreme.
    fn time(&mut self) -> u64 {
        match self.below(10) {
            0 => 0,
            1 => NEVER - 1,
            _ => 100 + self.below(20) as u64,
        }
    }

    fn step(&mut self) -> Step {
        match self.below(9) {
            0..=5 => Step::Insert(self.below(SHARDS.into()) as u8, self.time()),
            6 | 7 => Step::Remove(self.next() as usize),
            _ => {
                let most = match self.below(5) {
                    0 => self.below(4),
                    _ => ALL,
                };
                Step::Take(self.time(), most)
            }
        }
    }
}

#[test]
fn is_of_recognizes_moved_owner() {
    let [owner, other] = [1, 1].map(Arc::new);
    let timer = Arc::downgrade(&owner);
    assert!(is_of(&timer, &*owner));
    assert!(!is_of(&timer, &*other));
    let moved = Arc::into_inner(owner).unwrap();
    assert!(is_of(&timer, &moved));
}

#[test]
fn timer_queues_behave_like_a_sorted_list() {
    for seed in 0..1000 {
        let mut random = Random(seed);
        let steps: Vec<_> = (0..random.below(200)).map(|_| random.step()).collect();
        let script = format!("seed {seed}: {steps:?}");
        let failed = panic::catch_unwind(|| compare_with_sorted_list(steps)).is_err();
        assert!(!failed, "{script}");
    }
}

fn compare_with_sorted_list(steps: Vec<Step>) {
    let queues = TimerQueues::new();
    let mut list = BTreeSet::new();
    let mut all: Vec<((u64, usize), TimerId)> = Vec::new(); // ever inserted
    for step in steps {
        match step {
            Step::Insert(shard, at) => {
                let number = all.len();
                let before = queues.next_wake();
                let inserted = queues.insert(shard, Timestamp(at), number);
                let is_earlier = Timestamp(at) < before;
                assert_eq!(inserted.must_wake, is_earlier);
                if is_earlier {
                    assert_eq!(queues.next_wake(), Timestamp(at));
                }
                all.push(((at, number), inserted.id));
                list.insert((at, number));
            }
            Step::Remove(number) if !all.is_empty() => {
                let (key, id) = all[number % all.len()];
                let removed = queues.remove(id, |timer| *timer == key.1);
                assert_eq!(removed.is_some(), list.remove(&key));
            }
            Step::Remove(_) => {}
            Step::Take(now, most) => {
                let due = list.iter().filter(|(at, _)| *at <= now).count();
                let taken = queues.take_due(Timestamp(now), most);
                assert_eq!(taken.len(), due.min(most));
                let in_order = |two: &[usize]| {
                    let [one, other] = [two[0], two[1]].map(|number| all[number]);
                    one.0 < other.0 || one.0 .0 == other.0 .0 && one.1.shard != other.1.shard
                };
                assert!(taken.windows(2).all(in_order));
                for number in taken {
                    assert!(list.remove(&all[number].0));
                }
                let next = list.first().map_or(NEVER, |first| first.0);
                assert_eq!(queues.next_wake(), Timestamp(next));
            }
        }
        if let Some(&(at, _)) = list.first() {
            assert!(queues.next_wake() <= Timestamp(at));
        }
    }
    assert_eq!(queues.take_due(Timestamp(NEVER - 1), ALL).len(), list.len());
    assert_eq!(queues.next_wake(), Timestamp::NONE);
}
