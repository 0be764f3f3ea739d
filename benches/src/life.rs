//! A context from its creation to its end, alone and with a million others.

use std::hint::black_box;
use std::time::Duration;

use go_context::{CancelFunc, Context};

use crate::go::{divide, HOUR};
use crate::look::Look;
use crate::parallel::{parallel, split};
use crate::{time, Work};

const MANY: u64 = 1_000_000;

pub(crate) fn all() -> Vec<Work> {
    let mut all = Vec::new();
    for look in [Look::None, Look::Err, Look::Done] {
        all.push(Work::new(
            format!("create + cancel + drop{look}"),
            move |n| {
                let (root, _cancel) = root();
                time(n, || child(&root, look).1.cancel())
            },
        ));
        all.push(Work::new(format!("create + drop{look}"), move |n| {
            let (root, _cancel) = root();
            time(n, || drop(child(&root, look)))
        }));
        all.push(Work::new(
            format!("with_timeout + cancel + drop{look}"),
            move |n| {
                let (root, _cancel) = root();
                time(n, || {
                    let (ctx, cancel) = root.with_timeout(HOUR);
                    look.at(&ctx);
                    cancel.cancel();
                })
            },
        ));
    }
    all.push(Work::batched("done(), first call", 1000, |n| {
        let (root, _cancel) = root();
        sum(n, || {
            let fresh: Vec<_> = (0..1000).map(|_| root.with_cancel()).collect();
            time(1, || {
                for (ctx, _) in &fresh {
                    drop(black_box(ctx.done()));
                }
            })
        })
    }));
    for threads in [1, 2] {
        let name = format!("check, open, threads={threads}");
        all.push(Work::new(name, move |n| {
            let (ctx, _cancel) = root();
            split(n, threads, |n| {
                (0..n).for_each(|_| assert!(black_box(&ctx).err().is_none()));
            })
        }));
    }
    for look in [Look::None, Look::Err] {
        let name = format!("cancel a million children{look}");
        all.push(Work::batched(name, MANY, move |n| {
            sum(n, || {
                let (root, cancel) = root();
                let _children: Vec<_> = (0..MANY).map(|_| child(&root, look)).collect();
                time(1, || cancel.cancel())
            })
        }));
        let name = format!("cancel a chain of a million{look}");
        all.push(Work::batched(name, MANY, move |n| {
            sum(n, || {
                let (root, cancel) = root();
                let _leaf = (0..MANY).fold(root, |ctx, _| child(&ctx, look).0);
                time(1, || cancel.cancel())
            })
        }));
    }
    for look in [Look::None, Look::Err] {
        for threads in [1, 2, 4, 8] {
            let name = format!("create + cancel + drop under one parent, threads={threads}{look}");
            all.push(Work::new(name, move |n| {
                let (root, _cancel) = root();
                split(n, threads, |n| {
                    (0..n).for_each(|_| child(&root, look).1.cancel());
                })
            }));
        }
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

/// The sum of the times that `f` says it took.
pub(crate) fn sum(n: u64, f: impl FnMut() -> Duration) -> Duration {
    std::iter::repeat_with(f).take(n as usize).sum()
}

/// A parent that is not done.
pub(crate) fn root() -> (Context, CancelFunc) {
    Context::background().with_cancel()
}

fn child(parent: &Context, look: Look) -> (Context, CancelFunc) {
    let (ctx, cancel) = parent.with_cancel();
    look.at(&ctx);
    (ctx, cancel)
}
