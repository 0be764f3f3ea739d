//! Waiting on a condition variable under a context.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::{bounded, unbounded, Receiver, Sender};
use go_context::{Context, CustomContext, Error};
use support::blocked::block;
use support::threads::spawn;
use support::{receive, wait_until, LIMIT};

type Pair<T> = Arc<(Mutex<T>, Condvar)>;

fn pair<T>(value: T) -> Pair<T> {
    Arc::new((Mutex::new(value), Condvar::new()))
}

/// Waits until the flag is set.
fn wait_for(ctx: &Context, pair: &Pair<bool>) -> Result<bool, Error> {
    ctx.wait_while(pair, |set| !*set).map(|set| *set)
}

/// The same as a function that another thread can call.
fn waiting(ctx: &Context, pair: &Pair<bool>) -> impl FnOnce() -> Result<bool, Error> + Send {
    let (ctx, pair) = (ctx.clone(), pair.clone());
    move || wait_for(&ctx, &pair)
}

fn set(pair: &Pair<bool>) {
    *pair.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    pair.1.notify_all();
}

#[test]
fn wait_while_false_returns_at_once() {
    let (ctx, _cancel) = Context::background().with_cancel();
    for ctx in [ctx, Context::background()] {
        let pair = pair(7);
        let mut asked = 0;
        let mut guard = ctx
            .wait_while(&pair, |value| {
                asked += 1;
                *value != 7
            })
            .unwrap();
        *guard += 1; // it is the guard of the pair's mutex
        assert!(pair.0.try_lock().is_err());
        drop(guard);
        assert_eq!(*pair.0.lock().unwrap(), 8);
        assert_eq!(asked, 1);
    }
}

#[test]
fn notify_wakes_wait_while() {
    let (ctx, _cancel) = Context::background().with_cancel();
    for ctx in [ctx, Context::background()] {
        let pair = pair(false);
        let result = block(waiting(&ctx, &pair));
        set(&pair);
        assert_eq!(receive(&result), Ok(true));
    }
}

#[test]
fn notify_without_change_keeps_waiting() {
    let (ctx, cancel) = Context::background().with_cancel();
    let pair = pair(false);
    let result = block(waiting(&ctx, &pair));
    pair.1.notify_all();
    assert!(result.try_recv().is_err());
    cancel.cancel();
    assert_eq!(receive(&result), Err(Error::Canceled));
}

#[test]
fn cancel_wakes_wait_while() {
    let (parent, cancel) = Context::background().with_cancel();
    let (child, _cancel) = parent.with_timeout(Duration::from_secs(3600));
    let pair = pair(false);
    let results = [&parent, &child].map(|ctx| block(waiting(ctx, &pair)));
    cancel.cancel();
    for result in results {
        assert_eq!(receive(&result), Err(Error::Canceled));
    }
}

#[test]
fn cancel_racing_start_of_wait_wakes() {
    for _ in 0..2000 {
        let (ctx, cancel) = Context::background().with_cancel();
        let pair = pair(false);
        let result = spawn(waiting(&ctx, &pair));
        cancel.cancel();
        assert_eq!(receive(&result), Err(Error::Canceled));
    }
}

#[test]
fn cancel_between_check_and_wait_wakes() {
    let (ctx, cancel) = Context::background().with_cancel();
    let pair = pair(());
    let result = spawn(move || {
        let ended = ctx.wait_while(&pair, |()| {
            cancel.cancel();
            // Time for a notification to be lost, if it were sent without the mutex.
            thread::sleep(Duration::from_millis(20));
            true
        });
        ended.is_err()
    });
    assert!(receive(&result));
}

/// Go's `ExampleAfterFunc_cond`: many threads wait on one variable, each with its own timeout.
#[test]
fn wait_while_ends_at_own_deadline() {
    let pair = pair(false);
    let results: Vec<_> = (1..=4)
        .map(|timeout| {
            let timeout = Duration::from_millis(timeout);
            let (ctx, _cancel) = Context::background().with_timeout(timeout);
            let pair = pair.clone();
            spawn(move || wait_for(&ctx, &pair))
        })
        .collect();
    let (patient, cancel) = Context::background().with_cancel();
    let patient = block(waiting(&patient, &pair));
    for result in results {
        assert_eq!(receive(&result), Err(Error::DeadlineExceeded));
    }
    assert!(patient.try_recv().is_err());
    drop(cancel);
    set(&pair);
    assert_eq!(receive(&patient), Ok(true));
}

#[test]
fn wait_while_on_done_context_returns_err() {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    assert_eq!(wait_for(&ctx, &pair(true)), Err(Error::Canceled));

    let (ctx, cancel) = Context::background().with_cancel();
    let pair = pair(());
    let ended = ctx.wait_while(&pair, |()| {
        cancel.cancel();
        false
    });
    assert_eq!(ended.err(), Some(Error::Canceled));
    assert!(pair.0.try_lock().is_ok());
}

/// If the notified thread returns with an error, another must be woken.
#[test]
fn notify_one_is_passed_on_by_ended_wait() {
    for _ in 0..1000 {
        let items = pair(0_u32);
        let (ctx, cancel) = Context::background().with_cancel();
        let take = |ctx: &Context| {
            let (ctx, items) = (ctx.clone(), items.clone());
            move || {
                let taken = ctx.wait_while(&items, |items| *items == 0);
                taken.map(|mut items| *items -= 1)
            }
        };
        let hasty = spawn(take(&ctx));
        let patient = spawn(take(&Context::background()));
        let race = spawn(move || cancel.cancel());
        *items.0.lock().unwrap() += 1;
        items.1.notify_one();
        receive(&race);
        if receive(&hasty).is_ok() {
            *items.0.lock().unwrap() += 1;
            items.1.notify_one();
        }
        assert_eq!(receive(&patient), Ok(()));
        assert_eq!(*items.0.lock().unwrap(), 0);
    }
}

#[test]
fn wait_while_leaves_no_reference() {
    let (ctx, cancel) = Context::background().with_cancel();
    let pair = pair(false);
    let result = block(waiting(&ctx, &pair));
    set(&pair);
    assert_eq!(receive(&result), Ok(true));
    assert_eq!(wait_for(&ctx, &pair), Ok(true));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        drop(ctx.wait_while(&pair, |_| panic!("in the condition")));
    }));
    assert!(panicked.is_err());
    // A function that the context could still run would own the pair in some way. The thread that
    // waited may not have dropped its own handle yet.
    wait_until("the condition", || Arc::strong_count(&pair) == 1);
    assert_eq!(Arc::weak_count(&pair), 0);
    cancel.cancel();
}

#[test]
fn wait_while_locks_poisoned_mutex() {
    let (ctx, _cancel) = Context::background().with_cancel();
    let pair = pair(false);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        drop(ctx.wait_while(&pair, |_| panic!("in the condition")));
    }));
    assert!(panicked.is_err());
    assert!(pair.0.is_poisoned());
    // A notification that changes nothing does not end the wait here either.
    let looks = Arc::new(AtomicUsize::new(0));
    let result = block({
        let (pair, looks) = (pair.clone(), looks.clone());
        move || {
            let set = ctx.wait_while(&pair, |set| {
                looks.fetch_add(1, Ordering::Relaxed);
                !*set
            });
            set.map(|set| *set)
        }
    });
    pair.1.notify_all();
    wait_until("the condition", || {
        looks.load(Ordering::Relaxed) == 2 || !result.is_empty()
    });
    set(&pair);
    assert_eq!(receive(&result), Ok(true));
    assert!(pair.0.is_poisoned());
}

#[test]
fn cancel_wakes_wait_on_poisoned_mutex() {
    let (ctx, cancel) = Context::background().with_cancel();
    let pair = pair(false);
    let result = block(waiting(&ctx, &pair));
    let poison = pair.clone();
    let poisoned = spawn(move || {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _guard = poison.0.lock().unwrap();
            panic!("with the mutex held")
        }));
        panicked.is_err() && poison.0.is_poisoned()
    });
    assert!(receive(&poisoned));
    cancel.cancel();
    assert_eq!(receive(&result), Err(Error::Canceled));
}

#[test]
fn custom_done_wakes_wait_while() {
    for noise in [0, 3] {
        let (open, done) = unbounded();
        (0..noise).for_each(|_| open.send(()).unwrap());
        let ctx = Context::custom(Closing { done, deaf: false });
        let pair = pair(false);
        let result = block(waiting(&ctx, &pair));
        // Messages in a custom context's done channel are ignored.
        (0..noise).for_each(|_| open.send(()).unwrap());
        assert!(result.try_recv().is_err());
        drop(open);
        assert_eq!(receive(&result), Err(Error::Canceled));
    }
}

#[test]
fn cancel_wakes_every_wait_while() {
    let (ctx, cancel) = Context::background().with_cancel();
    let pair = pair(false);
    let results = [(); 32].map(|()| block(waiting(&ctx, &pair)));
    cancel.cancel();
    for result in results {
        assert_eq!(receive(&result), Err(Error::Canceled));
    }
}

#[test]
fn wait_while_shares_pair_with_std_wait() {
    let pair = pair(false);
    let by_std = block({
        let pair = pair.clone();
        move || {
            let guard = pair.0.lock().unwrap();
            *pair.1.wait_while(guard, |set| !*set).unwrap()
        }
    });
    let (ctx, cancel) = Context::background().with_cancel();
    let result = block(waiting(&ctx, &pair));
    cancel.cancel();
    assert_eq!(receive(&result), Err(Error::Canceled));
    set(&pair);
    assert!(receive(&by_std));
}

#[test]
fn wait_while_prefers_done_once_mutex_is_free() {
    let (ctx, cancel) = Context::background().with_cancel();
    let pair = pair(true);
    let held = pair.0.lock().unwrap();
    let result = block(waiting(&ctx, &pair));
    cancel.cancel();
    drop(held);
    assert_eq!(receive(&result), Err(Error::Canceled));
}

/// The context may be done, and the waking function about to run, when the pair has no other
/// owner any more.
#[test]
fn wait_while_drops_pair() {
    for _ in 0..200 {
        let (held, dropped) = bounded::<()>(0);
        let (ctx, cancel) = Context::background().with_cancel();
        let pair = pair::<Sender<()>>(held);
        let result = spawn(move || ctx.wait_while(&pair, |_| true).map(drop));
        cancel.cancel();
        assert_eq!(receive(&result), Err(Error::Canceled));
        let end = dropped.recv_timeout(LIMIT).unwrap_err();
        assert!(end.is_disconnected());
    }
}

/// A context that is done when a channel closes, and that never calls its functions if it is deaf.
struct Closing {
    done: Receiver<()>,
    deaf: bool,
}

impl CustomContext for Closing {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }
    fn err(&self) -> Option<Error> {
        None
    }
    fn after_func(&self, _: Box<dyn FnOnce() + Send>) -> Option<Box<dyn FnOnce() + Send>> {
        self.deaf.then(|| Box::new(|| ()) as _)
    }
}

/// A custom context that breaks its promise to call the function affects only itself: the
/// notification by which its thread finds it done is passed on.
#[test]
fn notify_one_to_done_context_is_passed_on() {
    let (open, done) = bounded(0);
    let deaf = Context::custom(Closing { done, deaf: true });
    let pair = pair(false);
    let background = Context::background();
    let [ended, next] = [&deaf, &background].map(|ctx| block(waiting(ctx, &pair)));
    drop(open);
    *pair.0.lock().unwrap() = true;
    pair.1.notify_one();
    assert_eq!(receive(&next), Ok(true));
    pair.1.notify_one(); // if the other one was notified first
    assert_eq!(receive(&ended), Err(Error::Canceled));
}
