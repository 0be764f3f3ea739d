//! Deadlines: which one applies, when they fire, and what they leave open.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use go_context::crossbeam_channel::bounded;
use go_context::{Cause, Context, Deadline, Error};
use support::{assert_done, assert_open, wait, Name, HOUR, LIMIT};

const SOON: Duration = Duration::from_millis(5);

#[track_caller]
fn cause_of(ctx: &Context) -> Cause {
    ctx.cause().expect("the context is done")
}

/// As far from `start` as `step` can go.
fn furthest<T: Copy>(start: T, step: impl Fn(T, Duration) -> Option<T>) -> T {
    (0..64).rev().fold(start, |at, bit| {
        step(at, Duration::from_secs(1 << bit)).unwrap_or(at)
    })
}

fn earliest_instant() -> Instant {
    furthest(Instant::now(), |at, by| at.checked_sub(by))
}

fn latest_instant() -> Instant {
    furthest(Instant::now(), |at, by| at.checked_add(by))
}

/// Deadlines that have passed, by either clock.
fn past() -> Vec<Deadline> {
    let epoch = SystemTime::UNIX_EPOCH;
    let before_the_epoch = epoch - 1000 * HOUR;
    let earliest_time = furthest(epoch, |at, by| at.checked_sub(by));
    vec![
        Instant::now().into(),
        (Instant::now() - SOON).into(),
        earliest_instant().into(),
        SystemTime::now().into(),
        (SystemTime::now() - HOUR).into(),
        epoch.into(),
        before_the_epoch.into(),
        earliest_time.into(),
    ]
}

/// Registers a context, so that the timer has its deadline.
fn look_at(ctx: &Context) {
    let _ = ctx.err();
}

#[test]
fn deadline_is_inherited_except_by_without_cancel() {
    let at = Instant::now() + HOUR;
    let (ctx, _cancel) = Context::background().with_deadline(at);
    let (cancelled, cancel) = ctx.with_cancel();
    cancel.cancel();
    let children = [
        ctx.clone(),
        ctx.with_cancel().0,
        ctx.with_cancel_cause().0,
        ctx.with_value(Name, "gopher".into()),
        ctx.with_timeout(2 * HOUR).0,
        cancelled.with_cancel().0,
        ctx.with_cancel().0.with_value(Name, "gopher".into()),
    ];
    for child in &children {
        assert_eq!(child.deadline(), Some(at), "{child}");
        let left = child.remaining().expect("there is a deadline");
        assert!(left <= HOUR, "{child}");
    }

    let detached = ctx.without_cancel();
    assert_eq!(detached.deadline(), None);
    assert_eq!(detached.remaining(), None);
    let later = at + HOUR;
    assert_eq!(
        detached.with_deadline(later).0.deadline(),
        Some(later),
        "a deadline above without_cancel caps nothing below"
    );
}

#[test]
fn root_has_no_deadline() {
    for root in [Context::background(), Context::todo()] {
        assert_eq!(root.deadline(), None);
        assert_eq!(root.remaining(), None);
        assert_eq!(root.with_cancel().0.deadline(), None);
    }
}

#[test]
fn earlier_parent_deadline_wins() {
    let (parent, _cancel) = Context::background().with_timeout_cause(SOON, "the parent's");
    let (child, _cancel) = parent.with_timeout_cause(HOUR, "the child's");
    let (grandchild, _cancel) = child.with_timeout_cause(2 * HOUR, "the grandchild's");
    assert_eq!(child.deadline(), parent.deadline());
    assert_eq!(grandchild.deadline(), parent.deadline());

    assert_eq!(wait(&grandchild), Error::DeadlineExceeded);
    assert_eq!(wait(&child), Error::DeadlineExceeded);
    for ctx in [&child, &grandchild] {
        assert!(Arc::ptr_eq(&cause_of(ctx), &cause_of(&parent)));
    }
    assert_done(&parent, Error::DeadlineExceeded, "the parent's");
}

#[test]
fn earlier_child_deadline_leaves_parent_open() {
    let at = Instant::now() + HOUR;
    let (parent, _cancel) = Context::background().with_deadline(at);
    let (sibling, _cancel) = parent.with_cancel();
    let (child, _cancel) = parent.with_timeout_cause(SOON, "the child's");
    let (younger, _cancel) = parent.with_timeout(HOUR / 2);
    let own = child.deadline();
    assert!(own < parent.deadline());

    assert_eq!(wait(&child), Error::DeadlineExceeded);
    assert_done(&child, Error::DeadlineExceeded, "the child's");
    for ctx in [&parent, &sibling, &younger] {
        assert_open(ctx);
    }
    assert_eq!(parent.deadline(), Some(at));
    assert_eq!(sibling.deadline(), Some(at));
    assert_eq!(child.deadline(), own);
}

#[test]
fn equal_deadlines_fire_in_either_order() {
    let at = Instant::now() + SOON;
    let (parent, _cancel) = Context::background().with_deadline_cause(at, "the parent's");
    let (child, _cancel) = parent.with_deadline_cause(at, "the child's");
    assert_eq!(child.deadline(), Some(at));
    assert_eq!(wait(&child), Error::DeadlineExceeded);
    assert_eq!(wait(&parent), Error::DeadlineExceeded);
    assert_eq!(cause_of(&parent).to_string(), "the parent's");
    let cause = cause_of(&child).to_string();
    assert!(["the parent's", "the child's"].contains(&&*cause));
}

#[test]
fn past_deadline_is_done_at_once() {
    for at in past() {
        let (ctx, cancel) = Context::background().with_deadline(at);
        assert_done(&ctx, Error::DeadlineExceeded, "context deadline exceeded");
        assert!(cause_of(&ctx).is::<Error>(), "no cause given: the error");
        cancel.cancel();
        assert_done(&ctx, Error::DeadlineExceeded, "context deadline exceeded");

        let (ctx, cancel) = Context::background().with_deadline_cause(at, "too late");
        cancel.cancel();
        assert_done(&ctx, Error::DeadlineExceeded, "too late");
        assert_eq!(ctx.remaining(), Some(Duration::ZERO));
        let born = ctx.deadline().expect("a past deadline is still one");
        assert!(born <= Instant::now());
    }
}

#[test]
fn zero_timeout_is_done_at_once() {
    let (ctx, _cancel) = Context::background().with_timeout(Duration::ZERO);
    assert_done(&ctx, Error::DeadlineExceeded, "context deadline exceeded");
    let (ctx, _cancel) = Context::background().with_timeout_cause(Duration::ZERO, "no time");
    assert_done(&ctx, Error::DeadlineExceeded, "no time");
    let (child, _cancel) = ctx.with_cancel();
    assert_done(&child, Error::DeadlineExceeded, "no time");
    assert!(Arc::ptr_eq(&cause_of(&ctx), &cause_of(&child)));
}

#[test]
fn past_deadline_leaves_parent_open() {
    let (parent, _cancel) = Context::background().with_timeout(HOUR);
    for at in past() {
        let (child, _cancel) = parent.with_deadline(at);
        assert_done(&child, Error::DeadlineExceeded, "context deadline exceeded");
    }
    assert_open(&parent);
}

#[test]
fn done_parent_wins_over_past_deadline() {
    let (cancelled, cancel) = Context::background().with_cancel_cause();
    cancel.cancel("the parent's");
    let (expired, _cancel) =
        Context::background().with_timeout_cause(Duration::ZERO, "the parent's");
    for at in past() {
        let (child, cancel) = cancelled.with_deadline_cause(at, "the child's");
        cancel.cancel();
        assert_done(&child, Error::Canceled, "the parent's");
        assert!(Arc::ptr_eq(&cause_of(&child), &cause_of(&cancelled)));

        let (child, cancel) = expired.with_deadline_cause(at, "the child's");
        cancel.cancel();
        assert_done(&child, Error::DeadlineExceeded, "the parent's");
        assert!(Arc::ptr_eq(&cause_of(&child), &cause_of(&expired)));
    }
}

#[test]
fn child_of_done_parent_reports_deadline() {
    let (parent, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let at = Instant::now() + HOUR;
    let (child, _cancel) = parent.with_deadline(at);
    assert_done(&child, Error::Canceled, "context canceled");
    assert_eq!(child.deadline(), Some(at));
}

#[test]
fn deadline_never_fires_early() {
    for micros in (1..5_000).step_by(61) {
        let timeout = Duration::from_micros(micros);
        let start = Instant::now();
        let (ctx, _cancel) = Context::background().with_timeout(timeout);
        let at = ctx.deadline().expect("there is a deadline");
        assert!(at >= start + timeout);

        // A blocked thread is woken late; one that polls sees the first moment.
        while ctx.err().is_none() {
            assert!(start.elapsed() < LIMIT);
            thread::yield_now();
        }
        assert!(Instant::now() >= at);
        assert!(start.elapsed() >= timeout);
    }
}

#[test]
fn deadline_never_fires_early_with_another() {
    let start = Instant::now() + SOON;
    let all: Vec<_> = (0..1_000)
        .map(|n| start + n * Duration::from_micros(20))
        .map(|at| (at, Context::background().with_deadline(at)))
        .collect();
    all.iter().for_each(|(_, (ctx, _cancel))| look_at(ctx));
    for (at, (ctx, _cancel)) in &all {
        while ctx.err().is_none() {
            assert!(start.elapsed() < LIMIT);
            thread::yield_now();
        }
        assert!(Instant::now() >= *at);
    }
}

#[test]
fn deadline_never_wakes_waiter_early() {
    for millis in [1, 3, 10, 30] {
        let timeout = Duration::from_millis(millis);
        let start = Instant::now();
        let (ctx, _cancel) = Context::background().with_timeout(timeout);
        assert_eq!(wait(&ctx), Error::DeadlineExceeded);
        assert!(start.elapsed() >= timeout);
    }
}

#[test]
fn system_time_deadline_becomes_instant() {
    // The two clocks are not read at the same moment, and one of them may be set meanwhile.
    let slack = Duration::from_secs(1);
    let before = Instant::now();
    let (ctx, _cancel) = Context::background().with_deadline(SystemTime::now() + HOUR);
    let after = Instant::now();
    let at = ctx.deadline().expect("there is a deadline");
    assert!(at >= before + HOUR - slack && at <= after + HOUR + slack);
    assert_open(&ctx);

    let (ctx, _cancel) = Context::background().with_deadline(SystemTime::now() + SOON);
    assert_eq!(wait(&ctx), Error::DeadlineExceeded);

    let before = Instant::now();
    let (ctx, _cancel) = Context::background().with_deadline(SystemTime::now() - SOON);
    let at = ctx.deadline().expect("there is a deadline");
    assert!(at >= before - SOON - slack && at <= Instant::now() - SOON + slack);
}

#[test]
fn timeout_beyond_instant_means_no_deadline() {
    let (parent, _cancel) = Context::background().with_timeout(HOUR);
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX)] {
        let bg = Context::background();
        for (ctx, cancel) in [
            bg.with_timeout(timeout),
            bg.with_timeout_cause(timeout, "never"),
        ] {
            assert_eq!(ctx.deadline(), None);
            assert_eq!(ctx.remaining(), None);
            assert!(ctx.is_cancellable());
            assert_open(&ctx);
            cancel.cancel();
            assert_done(&ctx, Error::Canceled, "context canceled");
        }
        assert_eq!(
            parent.with_timeout(timeout).0.deadline(),
            parent.deadline(),
            "the parent's deadline holds all the same"
        );
    }
}

#[test]
fn far_deadlines_delay_no_other() {
    let latest_time = furthest(SystemTime::UNIX_EPOCH, |at, by| at.checked_add(by));
    let century = 100 * 366 * 24 * HOUR;
    let far: [Deadline; 4] = [
        latest_instant().into(),
        (Instant::now() + century).into(),
        latest_time.into(),
        (SystemTime::now() + century).into(),
    ];
    for at in far {
        let (ctx, cancel) = Context::background().with_deadline(at);
        assert!(ctx.remaining().map_or(true, |left| left > HOUR));
        look_at(&ctx);
        let (other, _cancel) = Context::background().with_timeout(SOON);
        assert_eq!(wait(&other), Error::DeadlineExceeded);
        assert_open(&ctx);
        cancel.cancel();
        assert_done(&ctx, Error::Canceled, "context canceled");
    }

    // More than four centuries ahead counts as no deadline.
    let (ctx, _cancel) = Context::background().with_deadline(latest_instant());
    assert_eq!(ctx.deadline(), None);
    let far = Instant::now() + 4 * century;
    let (ctx, _cancel) = Context::background().with_deadline(far);
    assert_eq!(ctx.deadline(), Some(far));
    assert!(ctx.remaining() > Some(3 * century));
}

#[test]
fn longest_sleep_ends_with_context() {
    let now = Instant::now();
    for longest in [
        latest_instant() - now,
        latest_instant() - now - HOUR,
        Duration::MAX,
    ] {
        let (parent, _cancel) = Context::background().with_timeout(SOON);
        assert_eq!(parent.sleep(longest), Err(Error::DeadlineExceeded));

        let (far, cancel) = Context::background().with_timeout(longest);
        assert!(far.remaining().map_or(true, |left| left <= longest));
        let (work, jobs) = bounded::<()>(0);
        thread::scope(|s| {
            let waits = [
                s.spawn(|| assert_eq!(far.wait(), Error::Canceled)),
                s.spawn(|| assert_eq!(far.sleep(longest), Err(Error::Canceled))),
                s.spawn(|| assert!(far.recv(&jobs).is_err())),
            ];
            let (other, _cancel) = far.with_timeout(SOON);
            assert_eq!(wait(&other), Error::DeadlineExceeded);
            let early = waits.iter().any(|wait| wait.is_finished());
            cancel.cancel();
            assert!(!early);
        });
        drop(work);
    }
}

#[test]
fn timeout_cause_is_used_for_expiry_only() {
    let bg = Context::background();
    let at = Instant::now() + HOUR;
    for (ctx, cancel) in [
        bg.with_timeout_cause(HOUR, "too slow"),
        bg.with_deadline_cause(at, "too slow"),
    ] {
        cancel.cancel();
        assert_done(&ctx, Error::Canceled, "context canceled");
        assert!(cause_of(&ctx).is::<Error>());
    }

    let (parent, cancel) = bg.with_cancel_cause();
    let (ctx, _cancel) = parent.with_timeout_cause(HOUR, "too slow");
    cancel.cancel("not wanted any more");
    assert_done(&ctx, Error::Canceled, "not wanted any more");

    let at = Instant::now() + SOON;
    for (ctx, cancel) in [
        bg.with_timeout_cause(SOON, "too slow"),
        bg.with_deadline_cause(at, "too slow"),
    ] {
        assert_eq!(wait(&ctx), Error::DeadlineExceeded);
        cancel.cancel();
        assert_done(&ctx, Error::DeadlineExceeded, "too slow");
    }
}

#[test]
fn expiry_without_cause_is_deadline_exceeded() {
    let (ctx, _cancel) = Context::background().with_timeout(SOON);
    wait(&ctx);
    let cause = cause_of(&ctx);
    assert_eq!(cause.downcast_ref(), Some(&Error::DeadlineExceeded));
}

#[test]
fn parent_expiry_reaches_all_descendants() {
    // A child must be cancelled before the deadline, for which a slow machine needs more time.
    let mut timeout = SOON;
    let (parent, _cancel, early) = loop {
        let (parent, cancel) = Context::background().with_timeout_cause(timeout, "too slow");
        let (early, cancel_early) = parent.with_cancel_cause();
        cancel_early.cancel("enough");
        if parent.err().is_none() {
            break (parent, cancel, early);
        }
        timeout *= 2;
    };
    let detached = parent.without_cancel();
    let (below_detached, _cancel) = detached.with_cancel();

    let mut held = Vec::new(); // cancel functions, never called
    let mut descendants = vec![parent.clone()];
    for _ in 0..3 {
        let next: Vec<Context> = descendants
            .iter()
            .flat_map(|ctx| {
                let (plain, cancel) = ctx.with_cancel();
                held.push(cancel);
                let (timed, cancel) = ctx.with_timeout_cause(HOUR, "later");
                held.push(cancel);
                [plain, timed, ctx.with_value(Name, "gopher".into())]
            })
            .collect();
        descendants.extend(next);
    }
    for ctx in &descendants {
        assert_eq!(wait(ctx), Error::DeadlineExceeded, "{ctx}");
        assert!(Arc::ptr_eq(&cause_of(ctx), &cause_of(&parent)), "{ctx}");
    }
    assert_done(&parent, Error::DeadlineExceeded, "too slow");
    assert_done(&early, Error::Canceled, "enough");
    assert_eq!(detached.err(), None);
    assert_open(&below_detached);
}

#[test]
fn expiry_wakes_all_waiters() {
    let (ctx, _cancel) = Context::background().with_timeout(SOON);
    let (child, _cancel) = ctx.with_cancel();
    thread::scope(|s| {
        let waiters: Vec<_> = [&ctx, &child]
            .into_iter()
            .cycle()
            .take(8)
            .map(|ctx| s.spawn(|| wait(ctx)))
            .collect();
        for waiter in waiters {
            assert_eq!(waiter.join().expect("no panic"), Error::DeadlineExceeded);
        }
    });
}

#[test]
fn deadline_is_unchanged_once_done() {
    let at = Instant::now() + HOUR;
    let (cancelled, cancel) = Context::background().with_deadline(at);
    cancel.cancel();
    assert_eq!(cancelled.deadline(), Some(at));
    assert!(cancelled.remaining() > Some(Duration::ZERO));

    let at = Instant::now() + SOON;
    let (expired, _cancel) = Context::background().with_deadline(at);
    wait(&expired);
    assert_eq!(expired.deadline(), Some(at));
    assert_eq!(expired.remaining(), Some(Duration::ZERO));
}

#[test]
fn shorter_deadline_fires_before_older_longer_one() {
    let (longer, _cancel): (Vec<_>, Vec<_>) = (1..10)
        .rev()
        .map(|hours| Context::background().with_timeout(hours * HOUR))
        .unzip();
    longer.iter().for_each(look_at);
    let (short, _cancel) = Context::background().with_timeout(SOON);
    assert_eq!(wait(&short), Error::DeadlineExceeded);
    longer.iter().for_each(assert_open);
}

#[test]
fn many_equal_deadlines_all_fire() {
    let at = Instant::now() + Duration::from_millis(200);
    let all: Vec<_> = (0..10_000)
        .map(|_| Context::background().with_deadline(at))
        .collect();
    all.iter().for_each(|(ctx, _cancel)| look_at(ctx));
    for (ctx, _cancel) in &all {
        assert_eq!(wait(ctx), Error::DeadlineExceeded);
    }
}

#[test]
fn deadlines_fire_after_10000_cancelled_ones() {
    for timeout in [HOUR, Duration::from_millis(100), SOON] {
        let all: Vec<_> = (0..10_000)
            .map(|_| Context::background().with_timeout(timeout))
            .collect();
        for (ctx, cancel) in &all {
            look_at(ctx);
            cancel.cancel();
        }
        let (ctx, _cancel) = Context::background().with_timeout(SOON);
        assert_eq!(wait(&ctx), Error::DeadlineExceeded);
    }
}

#[test]
fn expiry_after_cancel_changes_nothing() {
    let at = Instant::now() + Duration::from_millis(100);
    let (ctx, cancel) = Context::background().with_deadline_cause(at, "too slow");
    look_at(&ctx);
    cancel.cancel();
    let was = ctx.err(); // on a machine this slow the deadline may have been first
    let (later, _cancel) = Context::background().with_deadline(at + SOON);
    wait(&later);
    assert_eq!(ctx.err(), was);
    if was == Some(Error::Canceled) {
        assert_done(&ctx, Error::Canceled, "context canceled");
    }
}

#[test]
fn expiry_racing_cancel_leaves_one_cause() {
    for round in 0..2_000 {
        let at = Instant::now() + Duration::from_micros(100);
        let (ctx, cancel) = Context::background().with_deadline_cause(at, "too slow");
        let (child, _cancel) = ctx.with_cancel();
        if round % 4 > 0 {
            look_at(&child); // otherwise the timer does not have it
        }
        // Some rounds are a little early, some a little late.
        let moment = at + Duration::from_micros(round % 100) - Duration::from_micros(20);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        cancel.cancel();
        match ctx.err().expect("cancel has returned") {
            Error::Canceled => assert_done(&ctx, Error::Canceled, "context canceled"),
            Error::DeadlineExceeded => assert_done(&ctx, Error::DeadlineExceeded, "too slow"),
        }
        assert_eq!(child.err(), ctx.err());
        assert!(Arc::ptr_eq(&cause_of(&child), &cause_of(&ctx)));
    }
}
