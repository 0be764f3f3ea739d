//! Functions that run once a context is done, one at a time.

use go_context::crossbeam_channel::bounded;

use crate::life::root;
use crate::{time, Work};

pub(crate) fn all() -> Vec<Work> {
    vec![
        Work::new("after_func + stop", |n| {
            let (ctx, _cancel) = root();
            time(n, || assert!(ctx.after_func(|| ()).stop()))
        }),
        Work::new("after_func + cancel + wait until it ran", |n| {
            let (ran, has_run) = bounded(1);
            time(n, || {
                let (ctx, cancel) = root();
                let ran = ran.clone();
                ctx.after_func(move || ran.send(()).unwrap());
                cancel.cancel();
                has_run.recv().unwrap();
            })
        }),
    ]
}
