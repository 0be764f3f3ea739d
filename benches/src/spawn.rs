//! Go's `DeepValueNewGoRoutine` starts a goroutine for each lookup. A thread costs more to start, so
//! these rows also show its cost without the lookup, and a lookup on a thread that is kept.

use std::hint::black_box;
use std::thread;

use go_context::crossbeam_channel::bounded;
use go_context::Context;

use crate::go::{numbers, Number, DEPTHS};
use crate::{time, Work};

pub(crate) fn all() -> Vec<Work> {
    vec![Work::new(
        "DeepValueNewGoRoutine/depth=100, on a thread that is kept",
        |n| {
            let (contexts, received) = bounded::<Context>(1);
            let (answer, answers) = bounded(1);
            let worker = thread::spawn(move || {
                for ctx in received {
                    answer.send(ctx.value(&Number(-1)).is_none()).unwrap();
                }
            });
            let ctx = numbers(100);
            let took = time(n, || {
                contexts.send(ctx.clone()).unwrap();
                assert!(answers.recv().unwrap());
            });
            drop(contexts);
            worker.join().unwrap();
            took
        },
    )]
}

/// Threads that do nothing.
pub(crate) fn floors() -> Vec<Work> {
    DEPTHS
        .map(|depth| {
            Work::new(format!("DeepValueNewGoRoutine/depth={depth}"), |n| {
                time(n, || {
                    thread::scope(|s| {
                        s.spawn(|| black_box(()));
                    });
                })
            })
        })
        .into()
}
