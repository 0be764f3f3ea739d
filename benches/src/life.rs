//! A context from its creation to its end, alone and with a million others.

use std::hint::black_box;
use std::time::Duration;

use go_context::crossbeam_channel::{unbounded, Receiver};
use go_context::{CancelFunc, Context};

use crate::go::{divide, HOUR};
use crate::look::Look;
use crate::parallel::{parallel, split};
use crate::{time, Work};

const MANY: u64 = 1_000_000;
const CLOSE_MANY: &str = "cancel a million children, done() once";

pub(crate) fn all() -> Vec<Work> {
    let mut all: Vec<Work> = Look::ALL.into_iter().flat_map(one_at_a_time).collect();
    all.push(Work::batched("done(), first call", 1000, done_first_call));
    for threads in [1, 2] {
        let name = format!("check, open, threads={threads}");
        all.push(Work::new(name, move |n| {
            let (ctx, _cancel) = root();
            split(n, threads, |n| {
                (0..n).for_each(|_| assert!(black_box(&ctx).err().is_none()));
            })
        }));
    }
    all.extend([Look::None, Look::Err].into_iter().flat_map(a_million));
    all.push(Work::batched(CLOSE_MANY, MANY, cancel_many_with_channels));
    for (look, threads) in Look::ALL.iter().flat_map(|l| [1, 2, 4, 8].map(|n| (*l, n))) {
        let name = format!("create + cancel + drop under one parent, threads={threads}{look}");
        all.push(Work::new(name, move |n| {
            let (root, _cancel) = root();
            split(n, threads, |n| {
                (0..n).for_each(|_| child(&root, look).1.cancel());
            })
        }));
    }
    all.push(Work::new("CommonParentCancel, its loops alone", |n| {
        parallel(n, |next| {
            let mut x = 0;
            while next.take() {
                divide(&mut x);
                divide(&mut x);
            }
            black_box(x);
        })
    }));
    all
}

/// Channels instead of contexts.
pub(crate) fn floors() -> Vec<Work> {
    vec![Work::batched(CLOSE_MANY, MANY, close_many_channels)]
}

fn one_at_a_time(look: Look) -> [Work; 3] {
    [
        Work::new(format!("create + cancel + drop{look}"), move |n| {
            let (root, _cancel) = root();
            time(n, || child(&root, look).1.cancel())
        }),
        Work::new(format!("create + drop{look}"), move |n| {
            let (root, _cancel) = root();
            time(n, || drop(child(&root, look)))
        }),
        Work::new(format!("with_timeout + cancel + drop{look}"), move |n| {
            let (root, _cancel) = root();
            time(n, || {
                let (ctx, cancel) = root.with_timeout(HOUR);
                look.at(&ctx);
                cancel.cancel();
            })
        }),
    ]
}

fn done_first_call(n: u64) -> Duration {
    let (root, _cancel) = root();
    sum(n, || {
        let fresh: Vec<_> = (0..1000).map(|_| root.with_cancel()).collect();
        time(1, || {
            for (ctx, _) in &fresh {
                drop(black_box(ctx.done()));
            }
        })
    })
}

fn a_million(look: Look) -> [Work; 3] {
    let many = move |root: &Context| -> Vec<_> { (0..MANY).map(|_| child(root, look)).collect() };
    [
        Work::batched(format!("cancel a million children{look}"), MANY, move |n| {
            sum(n, || {
                let (root, cancel) = root();
                let _children = many(&root);
                time(1, || cancel.cancel())
            })
        }),
        Work::batched(
            format!("cancel a million children{look}, and err() of each afterwards"),
            MANY,
            move |n| {
                sum(n, || {
                    let (root, cancel) = root();
                    let children = many(&root);
                    time(1, || {
                        cancel.cancel();
                        assert!(children.iter().all(|(child, _)| child.err().is_some()));
                    })
                })
            },
        ),
        Work::batched(
            format!("cancel a chain of a million{look}"),
            MANY,
            move |n| {
                sum(n, || {
                    let (root, cancel) = root();
                    let _leaf = (0..MANY).fold(root, |ctx, _| child(&ctx, look).0);
                    time(1, || cancel.cancel())
                })
            },
        ),
    ]
}

fn cancel_many_with_channels(n: u64) -> Duration {
    sum(n, || {
        let (root, cancel) = root();
        let with_channel = |_| {
            let (ctx, cancel) = root.with_cancel();
            (ctx.done(), ctx, cancel)
        };
        let _children: Vec<(Receiver<()>, Context, CancelFunc)> =
            (0..MANY).map(with_channel).collect();
        time(1, || cancel.cancel())
    })
}

fn close_many_channels(n: u64) -> Duration {
    sum(n, || {
        let (mut senders, _receivers): (Vec<_>, Vec<_>) =
            (0..MANY).map(|_| unbounded::<()>()).unzip();
        time(1, || senders.clear())
    })
}

/// Returns the sum of the times that `f` returns.
pub(crate) fn sum(n: u64, f: impl FnMut() -> Duration) -> Duration {
    std::iter::repeat_with(f).take(n as usize).sum()
}

/// Creates a parent that is not done.
pub(crate) fn root() -> (Context, CancelFunc) {
    Context::background().with_cancel()
}

fn child(parent: &Context, look: Look) -> (Context, CancelFunc) {
    let (ctx, cancel) = parent.with_cancel();
    look.at(&ctx);
    (ctx, cancel)
}
