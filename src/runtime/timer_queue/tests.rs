//! The queues against a sorted list. The tests choose the times, so no test waits.

use std::collections::BTreeSet;

use proptest::prelude::*;

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

/// Few times, close together, so that many are equal; and the extremes.
fn times() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 100_u64..120, 1 => Just(0), 1 => Just(NEVER - 1)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let most = prop_oneof![4 => Just(ALL), 1 => 0_usize..4];
    let step = prop_oneof![
        6 => (0..SHARDS, times()).prop_map(|(shard, at)| Step::Insert(shard, at)),
        2 => any::<usize>().prop_map(Step::Remove),
        1 => (times(), most).prop_map(|(now, most)| Step::Take(now, most)),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn timer_queues_behave_like_a_sorted_list(steps in steps()) {
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
                    prop_assert_eq!(inserted.must_wake, is_earlier);
                    if is_earlier {
                        prop_assert_eq!(queues.next_wake(), Timestamp(at));
                    }
                    all.push(((at, number), inserted.id));
                    list.insert((at, number));
                }
                Step::Remove(number) if !all.is_empty() => {
                    let (key, id) = all[number % all.len()];
                    let removed = queues.remove(id);
                    prop_assert_eq!(removed.is_some(), list.remove(&key));
                }
                Step::Remove(_) => {}
                Step::Take(now, most) => {
                    let due = list.iter().filter(|(at, _)| *at <= now).count();
                    let taken = queues.take_due(Timestamp(now), most);
                    prop_assert_eq!(taken.len(), due.min(most));
                    let in_order = |two: &[usize]| {
                        let [one, other] = [two[0], two[1]].map(|number| all[number]);
                        one.0 < other.0 || one.0 .0 == other.0 .0 && one.1.shard != other.1.shard
                    };
                    prop_assert!(taken.windows(2).all(in_order));
                    for number in taken {
                        prop_assert!(list.remove(&all[number].0));
                    }
                    let next = list.first().map_or(NEVER, |first| first.0);
                    prop_assert_eq!(queues.next_wake(), Timestamp(next));
                }
            }
            if let Some(&(at, _)) = list.first() {
                prop_assert!(queues.next_wake() <= Timestamp(at));
            }
        }
        prop_assert_eq!(queues.take_due(Timestamp(NEVER - 1), ALL).len(), list.len());
        prop_assert_eq!(queues.next_wake(), Timestamp::NONE);
    }
}
