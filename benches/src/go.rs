//! The benchmarks of Go's `context` package, under their names and with the same work in each operation.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::TryRecvError;
use go_context::{CancelFunc, Context, Key};

use crate::look::Look;
use crate::parallel::parallel;
use crate::{time, Work};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// The lengths of chains of values.
pub(crate) const DEPTHS: [i64; 5] = [10, 20, 30, 50, 100];

#[derive(PartialEq, Eq)]
struct Name(&'static str);

impl Key for Name {
    type Value = &'static str;
}

/// Keys of one type, like those of Go's benchmark.
#[derive(PartialEq, Eq)]
pub(crate) struct Number(pub(crate) i64);

impl Key for Number {
    type Value = i64;
}

/// A key that no context here has.
#[derive(PartialEq, Eq)]
struct Stranger;

impl Key for Stranger {
    type Value = i64;
}

pub fn all() -> Vec<Work> {
    let mut all = vec![Work::new("CommonParentCancel", common_parent_cancel)];
    all.extend(timeouts());
    all.extend([1, 10, 100, 1000].into_iter().flat_map(cancel_tree));
    all.extend(checks());
    all.extend(DEPTHS.map(new_goroutine));
    all.extend(DEPTHS.into_iter().flat_map(same_goroutine));
    all
}

fn timeouts() -> Vec<Work> {
    let mut all = Vec::new();
    for live in [40, 4_000, 400_000] {
        for look in [Look::None, Look::Err] {
            let name = format!("WithTimeout/concurrency={live}{look}");
            all.push(Work::new(name, move |n| with_timeout(n, live, look)));
        }
    }
    all
}

fn cancel_tree(depth: usize) -> [Work; 3] {
    let name = |root| format!("CancelTree/depth={depth}/Root={root}");
    [
        Work::new(name("Background"), move |n| {
            time(n, || build(&Context::background(), depth))
        }),
        Work::new(name("OpenCanceler"), move |n| {
            time(n, || {
                let (ctx, cancel) = Context::background().with_cancel();
                build(&ctx, depth);
                cancel.cancel();
            })
        }),
        Work::new(name("ClosedCanceler"), move |n| {
            time(n, || {
                let (ctx, cancel) = Context::background().with_cancel();
                cancel.cancel();
                build(&ctx, depth);
            })
        }),
    ]
}

fn checks() -> [Work; 6] {
    [
        Work::new("CheckCanceled/Err", check_canceled_err),
        Work::new("CheckCanceled/Done", |n| {
            let (ctx, cancel) = Context::background().with_cancel();
            cancel.cancel();
            time(n, || {
                let polled = ctx.done().try_recv();
                assert_eq!(polled, Err(TryRecvError::Disconnected));
            })
        }),
        Work::new("ContextCancelDone", |n| {
            let (ctx, _cancel) = Context::background().with_cancel();
            parallel(n, |next| {
                while next.take() {
                    assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
                }
            })
        }),
        Work::new("ContextCancelDone, done() once", |n| {
            let (ctx, _cancel) = Context::background().with_cancel();
            parallel(n, |next| {
                let done = ctx.done();
                while next.take() {
                    assert_eq!(done.try_recv(), Err(TryRecvError::Empty));
                }
            })
        }),
        Work::new("ErrOK", |n| {
            let (ctx, _cancel) = Context::background().with_cancel();
            time(n, || assert!(black_box(&ctx).err().is_none()))
        }),
        Work::new("ErrCanceled", check_canceled_err),
    ]
}

fn new_goroutine(depth: i64) -> Work {
    let name = format!("DeepValueNewGoRoutine/depth={depth}");
    Work::new(name, move |n| {
        let ctx = numbers(depth);
        time(n, || {
            thread::scope(|s| {
                s.spawn(|| black_box(ctx.value(&Number(-1)).is_none()));
            });
        })
    })
}

fn same_goroutine(depth: i64) -> [Work; 3] {
    let name = |what| format!("DeepValueSameGoRoutine/depth={depth}{what}");
    [
        Work::new(name(""), move |n| {
            let ctx = numbers(depth);
            time(n, || assert!(black_box(&ctx).value(&Number(-1)).is_none()))
        }),
        Work::new(name(", far end"), move |n| {
            let ctx = numbers(depth);
            time(n, || assert!(black_box(&ctx).value(&Number(0)).is_some()))
        }),
        Work::new(name(", other type"), move |n| {
            let ctx = numbers(depth);
            time(n, || assert!(black_box(&ctx).value(&Stranger).is_none()))
        }),
    ]
}

fn common_parent_cancel(n: u64) -> Duration {
    let root = Context::background().with_value(Name("key"), "value");
    let (shared, _cancel) = root.with_cancel();
    parallel(n, |next| {
        let mut x = 0;
        while next.take() {
            let (ctx, cancel) = shared.with_cancel();
            assert_eq!(ctx.value(&Name("key")), Some(&"value"));
            divide(&mut x);
            cancel.cancel();
            divide(&mut x);
        }
        black_box(x);
    })
}

/// The work between the calls, most of which both compilers remove.
pub(crate) fn divide(x: &mut i64) {
    for _ in 0..100 {
        *x /= *x + 1;
    }
}

fn with_timeout(n: u64, live: usize, look: Look) -> Duration {
    let root = Context::background();
    let derive = || {
        let (ctx, cancel) = root.with_timeout(HOUR);
        look.at(&ctx);
        (ctx, cancel)
    };
    let live: Vec<_> = (0..live).map(|_| derive()).collect();
    let took = parallel(n, |next| {
        let mut cancels: Vec<CancelFunc> = Vec::with_capacity(10);
        while next.take() {
            cancels.extend((0..10).map(|_| derive().1));
            cancels.drain(..).for_each(|cancel| cancel.cancel());
        }
    });
    drop(live);
    took
}

fn build(root: &Context, depth: usize) {
    let mut ctx = root.clone();
    for _ in 0..depth {
        ctx = ctx.with_cancel().0;
    }
    black_box(&ctx);
}

fn check_canceled_err(n: u64) -> Duration {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    time(n, || assert!(black_box(&ctx).err().is_some()))
}

pub(crate) fn numbers(depth: i64) -> Context {
    (0..depth).fold(Context::background(), |ctx, i| ctx.with_value(Number(i), i))
}
