//! The loop of a worker, which selects on its work and on one context that all workers share.
//! The work is always ready, so the rows show the cost of listening to the context.

use std::time::Duration;

use go_context::crossbeam_channel::{bounded, select, Receiver, Sender};
use go_context::Context;

use crate::life::root;
use crate::parallel::split;
use crate::Work;

const THREADS: [u64; 3] = [1, 8, 64];

pub(crate) fn all() -> Vec<Work> {
    let mut all = Vec::new();
    for threads in THREADS {
        all.push(work(threads, ", done() once", |ctx, n, tx, rx| {
            let done = ctx.done();
            for _ in 0..n {
                tx.send(()).unwrap();
                select! {
                    recv(done) -> _ => unreachable!(),
                    recv(rx) -> _ => {}
                }
            }
        }));
        all.push(work(threads, ", done() each time", |ctx, n, tx, rx| {
            for _ in 0..n {
                tx.send(()).unwrap();
                select! {
                    recv(ctx.done()) -> _ => unreachable!(),
                    recv(rx) -> _ => {}
                }
            }
        }));
    }
    all
}

/// The same loops without the context.
pub(crate) fn floors() -> Vec<Work> {
    THREADS
        .into_iter()
        .flat_map(|threads| {
            [", done() once", ", done() each time"].map(|name| {
                work(threads, name, |_, n, tx, rx| {
                    for _ in 0..n {
                        tx.send(()).unwrap();
                        select! {
                            recv(rx) -> _ => {}
                        }
                    }
                })
            })
        })
        .collect()
}

fn work(
    threads: u64,
    name: &str,
    each: impl Fn(&Context, u64, &Sender<()>, &Receiver<()>) + Copy + Sync + 'static,
) -> Work {
    let run = move |n| -> Duration {
        let (ctx, _cancel) = root();
        split(n, threads, |n| {
            let (tx, rx) = bounded(1);
            each(&ctx, n, &tx, &rx);
        })
    };
    Work::new(format!("select loop, threads={threads}{name}"), run)
}
