//! Contexts use no threads: there is one for all deadlines, and those for callbacks that run.

use go_context::crossbeam_channel::{never, Receiver};
use go_context::{Context, CustomContext, Error};
use support::process::in_child_alone;
use support::threads::thread_count;
use support::{test_name, HOUR};

/// Is never done.
struct NeverDone;

impl CustomContext for NeverDone {
    fn done(&self) -> Receiver<()> {
        never()
    }
    fn err(&self) -> Option<Error> {
        None
    }
}

#[test]
fn no_thread_per_context() {
    in_child_alone(test_name!(), || {
        let before = thread_count();
        let (parent, cancel) = Context::background().with_cancel();
        let canceled: Vec<_> = (0..1000).map(|_| parent.with_cancel()).collect();
        let callbacks: Vec<_> = (0..1000).map(|_| parent.after_func(|| ())).collect();
        let merged: Vec<_> = (0..1000).map(|n| parent.merge(&canceled[n].0)).collect();
        let never_done = Context::custom(NeverDone);
        let children: Vec<_> = (0..1000).map(|_| never_done.with_cancel()).collect();
        assert_eq!(thread_count(), before);

        let timed: Vec<_> = (0..1000).map(|_| parent.with_timeout(HOUR)).collect();
        assert_eq!(thread_count(), before + 1, "the timer");

        assert!(callbacks.iter().all(|callback| callback.stop()));
        cancel.cancel();
        let waiting = canceled.iter().chain(&merged).chain(&timed);
        assert!(waiting.map(|(ctx, _)| ctx.err()).all(|err| err.is_some()));
        assert!(children.iter().all(|(ctx, _)| ctx.err().is_none()));
        assert_eq!(thread_count(), before + 1);
    });
}
