//! Other crates at the operations that they have too, under the same names.
//!
//! Two of them cancel their trees by recursion, and one is quadratic in the number of children: these
//! get fewer children and a shorter chain, on a thread with a large stack.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::life::sum;
use crate::live::{held, measure};
use crate::parallel::split;
use crate::{time, Measure, Work};

/// Returns the crates by name with their measures. The versions are pinned in `Cargo.toml`.
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

/// The operations that all of them have.
trait Token: Send + Sync + Sized + 'static {
    /// How many children are cancelled at once; none if a cancellation does not reach children.
    const WIDE: Option<u64>;
    /// How long a chain is cancelled at once; none for the same reason.
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
    /// Taken by `cancel`.
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
    let mut all: Vec<Work> = [false, true].into_iter().flat_map(life::<T>).collect();
    for (look, suffix) in LOOKS {
        for threads in [1, 2, 4, 8] {
            let name =
                format!("create + cancel + drop under one parent, threads={threads}{suffix}");
            all.push(Work::new(name, move |n| {
                let root = T::root();
                split(n, threads, |n| {
                    (0..n).for_each(|_| child(&root, look).cancel());
                })
            }));
        }
    }
    if T::DEEP.is_some() {
        all.extend([1, 10, 100, 1000].into_iter().flat_map(cancel_tree::<T>));
    }
    all.extend(checks::<T>());
    let mut all: Vec<Measure> = all.into_iter().map(Measure::from).collect();
    for (look, suffix) in LOOKS {
        all.push(measure(format!("cancel{suffix}"), move || {
            held(|_| {
                let root = T::root();
                assert!(!look || !root.is_cancelled());
                root
            })
        }));
        let name = format!("cancel under one parent{suffix}");
        all.push(measure(name, move || {
            let parent = T::root();
            held(|_| child(&parent, look))
        }));
    }
    all
}

/// Whether each child is asked, and what that adds to the name.
const LOOKS: [(bool, &str); 2] = [(false, ""), (true, ", err() once")];

fn life<T: Token>(look: bool) -> Vec<Work> {
    let suffix = LOOKS[usize::from(look)].1;
    let mut all = vec![
        Work::new(format!("create + cancel + drop{suffix}"), move |n| {
            let root = T::root();
            time(n, || child(&root, look).cancel())
        }),
        Work::new(format!("create + drop{suffix}"), move |n| {
            let root = T::root();
            time(n, || drop(child(&root, look)))
        }),
    ];
    if let Some(many) = T::WIDE {
        for (asked, what) in [(false, ""), (true, ", and err() of each afterwards")] {
            let name = format!("cancel a million children{suffix}{what}");
            let run = move |n| sum(n, || cancel_many::<T>(many, look, asked));
            all.push(Work::batched(name, many, run));
        }
    }
    if let Some(many) = T::DEEP {
        let name = format!("cancel a chain of a million{suffix}");
        let run = move |n| sum(n, || cancel_chain::<T>(many, look));
        all.push(Work::batched(name, many, run));
    }
    all
}

fn cancel_many<T: Token>(many: u64, look: bool, ask: bool) -> Duration {
    let mut root = T::root();
    let children: Vec<T> = (0..many).map(|_| child(&root, look)).collect();
    let took = time(1, || {
        root.cancel();
        assert!(!ask || children.iter().all(T::is_cancelled));
    });
    assert!(children.iter().all(T::is_cancelled));
    took
}

fn cancel_chain<T: Token>(many: u64, look: bool) -> Duration {
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
}

/// Go's `CancelTree`. A token without a parent stands for the child of the background.
fn cancel_tree<T: Token>(depth: usize) -> [Work; 3] {
    let name = |root| format!("CancelTree/depth={depth}/Root={root}");
    let build = |root: &T, depth| {
        let mut leaf = root.child();
        for _ in 1..depth {
            leaf = leaf.child();
        }
        black_box(&leaf);
    };
    [
        Work::new(name("Background"), move |n| {
            time(n, || match depth {
                1 => drop(black_box(T::root())),
                _ => build(&T::root(), depth - 1),
            })
        }),
        Work::new(name("OpenCanceler"), move |n| {
            time(n, || {
                let mut root = T::root();
                build(&root, depth);
                root.cancel();
            })
        }),
        Work::new(name("ClosedCanceler"), move |n| {
            time(n, || {
                let mut root = T::root();
                root.cancel();
                build(&root, depth);
            })
        }),
    ]
}

fn checks<T: Token>() -> Vec<Work> {
    let mut all = Vec::new();
    for threads in [1, 2] {
        let name = format!("check, open, threads={threads}");
        all.push(Work::new(name, move |n| {
            let token = T::root();
            split(n, threads, |n| {
                (0..n).for_each(|_| assert!(!black_box(&token).is_cancelled()));
            })
        }));
    }
    all.push(Work::new("ErrOK", |n| {
        let token = T::root();
        time(n, || assert!(!black_box(&token).is_cancelled()))
    }));
    for name in ["CheckCanceled/Err", "ErrCanceled"] {
        all.push(Work::new(name, |n| {
            let mut token = T::root();
            token.cancel();
            time(n, || assert!(black_box(&token).is_cancelled()))
        }));
    }
    all
}

fn child<T: Token>(parent: &T, look: bool) -> T {
    let child = parent.child();
    if look {
        assert!(!child.is_cancelled());
    }
    child
}
