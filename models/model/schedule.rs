//! The timers: those who put them in against the thread that looks.

use super::*;

use std::time::Instant;

use crate::schedule::Schedule;

/// What the thread does before it sleeps: it looks, and goes by the alarm that it then finds.
fn look_and_sleep(schedule: &Schedule<u32>, now: Instant) -> (Vec<u32>, Option<Instant>) {
    (schedule.look(now), schedule.alarm())
}

#[test]
fn a_timer_is_found_or_the_thread_is_woken_for_it() {
    in_all_orders(|| {
        let start = Instant::now();
        let schedule = Arc::new(Schedule::new(start));
        schedule.insert(0, (start, 0), 0); // so that the alarm is set, and for what is over
        let soon = start + HOUR / 2;
        let owner = go({
            let schedule = schedule.clone();
            move || schedule.insert(0, (soon, 1), 1)
        });
        let (due, alarm) = look_and_sleep(&schedule, start);
        let woken = owner.join().unwrap();
        assert_eq!(due, [0]);
        assert!(
            woken || alarm.is_some_and(|alarm| alarm <= soon),
            "it is overslept"
        );
        assert_eq!(schedule.look(soon), [1]);
    });
}

/// Not for loom, which lets a read-modify-write miss a store that came before it.
#[test]
#[cfg(not(feature = "loom"))]
fn of_two_timers_in_two_lanes_none_is_overslept() {
    in_all_orders(|| {
        let start = Instant::now();
        let schedule = Arc::new(Schedule::new(start));
        schedule.insert(2, (start, 0), 2);
        let times = [start + HOUR / 2, start + HOUR];
        let owner = |number: u32| {
            let (schedule, at) = (schedule.clone(), times[number as usize]);
            go(move || schedule.insert(number as u8, (at, 0), number))
        };
        let owners = [owner(0), owner(1)];
        let (_, alarm) = look_and_sleep(&schedule, start);
        let woken = owners.map(|owner| owner.join().unwrap());
        let is_set_for = |at| alarm.is_some_and(|alarm| alarm <= at);
        assert!(woken[0] || is_set_for(times[0]), "it is overslept");
        // Who is woken for one looks at both.
        assert!(
            woken[0] || woken[1] || is_set_for(times[1]),
            "it is overslept"
        );
        assert_eq!(schedule.look(times[1]), [0, 1]);
    });
}

#[test]
fn a_timer_is_due_or_taken_out() {
    in_all_orders(|| {
        let start = Instant::now();
        let schedule = Arc::new(Schedule::new(start));
        schedule.insert(0, (start, 1), 1);
        schedule.insert(0, (start + HOUR, 2), 2);
        let owner = go({
            let schedule = schedule.clone();
            move || schedule.remove(0, (start, 1))
        });
        let due = schedule.look(start);
        let removed = owner.join().unwrap();
        assert_eq!(due.len() + removed.iter().len(), 1);
        assert_eq!(schedule.look(start + HOUR), [2]);
    });
}
