//! How many threads custom contexts use. Go counts the goroutines that it starts; here the threads of
//! the process are counted.

use std::time::Duration;

use go_context::crossbeam_channel::{bounded, Receiver, RecvTimeoutError, Sender};
use go_context::{Context, CustomContext, Error};
use support::custom::{OwnDone, PassThrough};
use support::process::in_child_alone;
use support::threads::thread_count;
use support::{test_name, HOUR};

/// Runs `f` and asserts how many threads are there after it that were not there before.
#[track_caller]
fn started<T>(expected: usize, name: &str, f: impl FnOnce() -> T) -> T {
    let before = thread_count();
    let result = f();
    assert_eq!(thread_count() - before, expected, "{name}");
    result
}

/// Returns a new done channel from each call.
struct NewDone(Sender<Sender<()>>);

impl CustomContext for NewDone {
    fn done(&self) -> Receiver<()> {
        let (open, done) = bounded(0);
        self.0.send(open).unwrap();
        done
    }
    fn err(&self) -> Option<Error> {
        None
    }
}

#[test]
fn custom_context_goroutines() {
    in_child_alone(test_name!(), || {
        let bg = Context::background();
        let timed = started(0, "an unregistered timeout", || bg.with_timeout(HOUR));
        let _done = started(1, "the timer", || timed.0.done());

        // 3: a wrapper that passes its done channel through is looked through.
        let (c1, cancel1) = bg.with_cancel();
        let c2 = started(0, "a wrapper", || Context::custom(PassThrough(c1.clone())));
        let (c3, _cancel3) = started(0, "a child of a wrapper", || c2.with_cancel());

        // 5: contexts of the crate never need one, neither do children of done ones.
        let (c4, _cancel4) = started(0, "a timeout", || c3.with_timeout(HOUR));
        let (c5, cancel5) = started(0, "a cancel", || c4.with_cancel());
        started(0, "cancelling", || cancel5.cancel());
        let (_c6, cancel6) = started(0, "a done parent", || c5.with_timeout(HOUR));
        started(0, "cancelling again", || cancel6.cancel());
        started(0, "cancelling the first", || cancel1.cancel());
        let _c7 = started(0, "a done grandparent", || c5.with_cancel());

        // 4: one with a done channel of its own is watched, and the channel within is not used.
        let (c1, cancel1) = bg.with_cancel();
        let c2 = Context::custom(PassThrough(c1.clone()));
        let (close, done) = bounded(0);
        let own = Context::custom(OwnDone(c2, done));
        let (child, _cancel) = started(1, "an own channel", || own.with_cancel());
        let _children = started(0, "more children", || {
            [(); 100].map(|()| own.with_timeout(HOUR))
        });
        cancel1.cancel();
        assert_eq!(child.err(), None);

        // 1 and 2: one with a new channel each time is watched too. `own` keeps its watcher, so this
        // one is another.
        let (opened, open) = bounded(100);
        let new = Context::custom(NewDone(opened));
        let (_child, cancel) = started(1, "a new channel each time", || new.with_cancel());
        let _timed = started(0, "a second child", || new.with_timeout(HOUR));
        started(0, "cancelling a watched one", || cancel.cancel());

        drop(close);
        let end = child.done().recv_timeout(Duration::from_secs(30));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
        drop(open);
    });
}
