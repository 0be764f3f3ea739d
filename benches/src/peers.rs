//! Other crates at the operations that they have too, under the same names.
//!
//! The trees of two of them are taken down by recursion, and are quadratic in one: these get fewer
//! children and a shorter chain, on a thread with a stack that is large enough.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;

use crate::life::sum;
use crate::parallel::split;
use crate::{time, Measure, Work};

/// The crates by name, and what is measured of each. The versions are pinned in `Cargo.toml`.
pub fn all() -> [(&'static str, Vec<Measure>); 4] {
    [
        (
            "tokio-util 0.7.20",
            works::<tokio_util::sync::CancellationToken>(),
        ),
        (
            "cancellation-token 0.1.1",
            works::<cancellation_token::CancellationTokenSource>(),
        ),
        (
            "kithara-platform 0.0.1-alpha5",
            works::<kithara_platform::CancelToken>(),
        ),
        ("io-context 0.2.0", works::<IoContext>()),
    ]
}

/// What all of them have in common.
trait Token: Send + Sync + Sized + 'static {
    /// How many children are cancelled at once, or none if nothing goes down to them.
    const WIDE: Option<u64>;
    const DEEP: Option<u64>;

    fn root() -> Self;
    fn child(&self) -> Self;
    fn cancel(&mut self);
    fn is_cancelled(&self) -> bool;
}

impl Token for tokio_util::sync::CancellationToken {
    const WIDE: Option<u64> = Some(1_000_000);
    const DEEP: Option<u64> = Some(1_000_000);

    fn root() -> Self {
        Self::new()
    }

    fn child(&self) -> Self {
        self.child_token()
    }

    fn cancel(&mut self) {
        Self::cancel(self);
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled()
    }
}

impl Token for cancellation_token::CancellationTokenSource {
    const WIDE: Option<u64> = Some(1_000_000);
    const DEEP: Option<u64> = Some(10_000);

    fn root() -> Self {
        Self::new()
    }

    fn child(&self) -> Self {
        Self::with_parent(&self.token())
    }

    fn cancel(&mut self) {
        Self::cancel(self);
    }

    fn is_cancelled(&self) -> bool {
        self.is_canceled()
    }
}

impl Token for kithara_platform::CancelToken {
    const WIDE: Option<u64> = Some(1_000);
    const DEEP: Option<u64> = Some(10_000);

    fn root() -> Self {
        Self::root()
    }

    fn child(&self) -> Self {
        self.child()
    }

    fn cancel(&mut self) {
        Self::cancel(self);
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled()
    }
}

struct IoContext {
    ctx: Arc<io_context::Context>,
    /// Taken to cancel.
    signal: Option<io_context::CancelSignal>,
}

impl IoContext {
    fn new(mut ctx: io_context::Context) -> IoContext {
        let signal = ctx.add_cancel_signal();
        IoContext {
            ctx: ctx.freeze(),
            signal: Some(signal),
        }
    }
}

impl Token for IoContext {
    const WIDE: Option<u64> = None;
    const DEEP: Option<u64> = None;

    fn root() -> Self {
        IoContext::new(io_context::Context::background())
    }

    fn child(&self) -> Self {
        IoContext::new(io_context::Context::create_child(&self.ctx))
    }

    fn cancel(&mut self) {
        if let Some(signal) = self.signal.take() {
            signal.cancel();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.ctx.done().is_some()
    }
}

fn works<T: Token>() -> Vec<Measure> {
    let mut all = Vec::new();
    for (look, suffix) in [(false, ""), (true, ", err() once")] {
        all.push(Work::new(
            format!("create + cancel + drop{suffix}"),
            move |n| {
                let root = T::root();
                time(n, || child(&root, look).cancel())
            },
        ));
        all.push(Work::new(format!("create + drop{suffix}"), move |n| {
            let root = T::root();
            time(n, || drop(child(&root, look)))
        }));
        if let Some(many) = T::WIDE {
            let name = format!("cancel a million children{suffix}");
            all.push(Work::batched(name, many, move |n| {
                sum(n, || {
                    let mut root = T::root();
                    let children: Vec<T> = (0..many).map(|_| child(&root, look)).collect();
                    let took = time(1, || root.cancel());
                    assert!(children.iter().all(T::is_cancelled));
                    took
                })
            }));
        }
        if let Some(many) = T::DEEP {
            let name = format!("cancel a chain of a million{suffix}");
            all.push(Work::batched(name, many, move |n| {
                sum(n, move || {
                    let chain = move || {
                        let mut chain = vec![T::root()];
                        for i in 0..many as usize {
                            chain.push(child(&chain[i], look));
                        }
                        let took = time(1, || chain[0].cancel());
                        assert!(chain[many as usize].is_cancelled());
                        took
                    };
                    let thread = thread::Builder::new().stack_size(1 << 30);
                    thread.spawn(chain).unwrap().join().unwrap()
                })
            }));
        }
    }
    for threads in [1, 2] {
        let name = format!("check, open, threads={threads}");
        all.push(Work::new(name, move |n| {
            let token = T::root();
            split(n, threads, |n| {
                (0..n).for_each(|_| assert!(!black_box(&token).is_cancelled()));
            })
        }));
    }
    all.into_iter().map(Measure::from).collect()
}

fn child<T: Token>(parent: &T, look: bool) -> T {
    let child = parent.child();
    if look {
        assert!(!child.is_cancelled());
    }
    child
}
