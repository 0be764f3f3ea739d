//! The schedule against a sorted list, at moments that nobody has to wait for.

use std::collections::BTreeMap;

use once_cell::sync::Lazy;
use proptest::prelude::*;

use super::*;

/// All moments are told from here. A day from now, for there may be none a day ago.
static START: Lazy<Instant> = Lazy::new(|| Instant::now() + DAY);

const DAY: Duration = Duration::from_secs(24 * 3600);
/// More nanoseconds than fit into 64 bits.
const AGES: Duration = Duration::from_secs(700 * 365 * 24 * 3600);

const LANES: u8 = 8;

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, Instant),
    /// The timer with this number, counted round among all that there have been.
    Remove(usize),
    Look(Instant),
}

/// Few moments, close together, so that many are the same; and those at the edges.
fn moments() -> impl Strategy<Value = Instant> {
    prop_oneof![
        8 => (0_u64..20).prop_map(|nanos| *START + Duration::from_nanos(nanos)),
        1 => Just(*START - DAY),
        1 => Just(*START + DAY),
        1 => Just(*START + AGES),
        1 => Just(*START + AGES + DAY),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..LANES, moments()).prop_map(|(lane, at)| Step::Insert(lane, at)),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => moments().prop_map(Step::Look),
    ];
    prop::collection::vec(step, 0..60)
}

/// When the thread would look for a timer at this moment: in the range of the clock, just then.
fn alarm_for(at: Instant) -> Instant {
    let latest = *START + Duration::from_nanos(NEVER - 1);
    at.clamp(*START, latest)
}

proptest! {
    #[test]
    fn it_is_a_sorted_list_with_an_alarm_that_is_never_late(steps in steps()) {
        let schedule = Schedule::new(*START);
        let mut list = BTreeMap::new();
        let mut all = Vec::new();
        for step in steps {
            let alarm = schedule.alarm();
            match step {
                Step::Insert(lane, at) => {
                    let key = (at, all.len());
                    all.push((lane, key));
                    list.insert(key, all.len());
                    let is_first = schedule.insert(lane, key, all.len());
                    let is_earlier = alarm.map_or(true, |alarm| alarm_for(at) < alarm);
                    prop_assert_eq!(is_first, is_earlier);
                    if is_first {
                        prop_assert_eq!(schedule.alarm(), Some(alarm_for(at)));
                    }
                }
                Step::Remove(number) if !all.is_empty() => {
                    let (lane, key) = all[number % all.len()];
                    prop_assert_eq!(schedule.remove(lane, key), list.remove(&key));
                }
                Step::Remove(_) => {}
                Step::Look(now) => {
                    let later = list.split_off(&(now, usize::MAX));
                    let due: Vec<_> = list.into_values().collect();
                    list = later;
                    prop_assert_eq!(schedule.look(now), due);
                    let next = list.keys().next().map(|&(at, _)| alarm_for(at));
                    prop_assert_eq!(schedule.alarm(), next);
                }
            }
            if let Some((&(at, _), _)) = list.first_key_value() {
                prop_assert!(schedule.alarm().is_some_and(|alarm| alarm <= alarm_for(at)));
            }
        }
        let left: Vec<_> = list.into_values().collect();
        prop_assert_eq!(schedule.look(*START + AGES + DAY), left);
        prop_assert_eq!(schedule.alarm(), None);
    }
}
