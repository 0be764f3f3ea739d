//! Random programs: threads that do anything to any context.
#![cfg(not(feature = "loom"))]

use super::*;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

use crossbeam_channel::Receiver;
use shuttle::rand::{thread_rng, Rng};

use crate::{AfterFunc, CancelFunc, CustomContext, Error, Key};

#[test]
fn random_with_three_threads() {
    in_many_orders(|| program(3, 7));
}

#[test]
fn random_with_five_threads() {
    in_many_orders(|| program(5, 5));
}

#[test]
fn random_with_long_threads() {
    in_many_orders(|| program(4, 10));
}

#[test]
fn random_within_a_shard() {
    in_many_orders(|| {
        crate::runtime::sync::share_shards();
        program(4, 7);
    });
}

#[derive(PartialEq, Eq)]
struct Token;

impl Key for Token {
    type Value = Arc<()>;
}

struct Wrapping {
    done: Receiver<()>,
    ctx: Context,
}

impl CustomContext for Wrapping {
    fn wrapped(&self) -> Option<&Context> {
        Some(&self.ctx)
    }

    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    fn err(&self) -> Option<Error> {
        self.ctx.err()
    }
}

/// A custom context that a thread has to wait for.
struct Waiting(Receiver<()>);

impl CustomContext for Waiting {
    fn done(&self) -> Receiver<()> {
        self.0.clone()
    }

    fn err(&self) -> Option<Error> {
        Some(Error::Canceled)
    }
}

#[derive(Clone)]
enum Cancel {
    Plain(CancelFunc),
    Cause(CancelCauseFunc),
}

#[derive(Clone)]
struct Function {
    handle: Arc<AfterFunc>,
    runs: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

/// What is known of one context.
struct Known {
    ctx: Option<Context>,
    cancel: Option<Cancel>,
    /// The numbers of all its ancestors.
    above: Vec<usize>,
    /// Its end, once a thread has seen it.
    end: Option<(Error, String)>,
    channels: Vec<Receiver<()>>,
    functions: Vec<Function>,
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<Vec<Known>>>);

fn program(threads: usize, steps: usize) {
    let world = World::default();
    let (root, cancel) = root();
    world.add(root, Cancel::Cause(cancel), &[]);
    let threads: Vec<_> = (0..threads)
        .map(|_| {
            let world = world.clone();
            spawn(move || (0..steps).for_each(|_| world.step()))
        })
        .collect();
    join(threads);

    let known = std::mem::take(&mut *world.0.lock().unwrap());
    let channels: Vec<_> = known
        .iter()
        .flat_map(|known| known.channels.clone())
        .collect();
    let functions: Vec<_> = known
        .iter()
        .flat_map(|known| known.functions.clone())
        .collect();
    drop(known);
    timer::join_all();
    assert!(
        channels.iter().all(is_closed),
        "the last handle is dropped, and it is not done"
    );
    for Function { runs, stopped, .. } in functions {
        let ends = runs.load(Relaxed) + usize::from(stopped.load(Relaxed));
        assert_eq!(ends, 1, "a callback runs once or is stopped");
    }
}

impl World {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<Known>) -> T) -> T {
        f(&mut self.0.lock().unwrap()) // no step of the model in f, and no drop
    }

    fn add(&self, ctx: Context, cancel: Cancel, parents: &[usize]) {
        let ctx = tracked(ctx);
        self.with(|all| {
            let mut above = parents.to_vec();
            above.extend(parents.iter().flat_map(|&parent| all[parent].above.clone()));
            all.push(Known {
                ctx: Some(ctx),
                cancel: Some(cancel),
                above,
                end: None,
                channels: Vec::new(),
                functions: Vec::new(),
            });
        });
    }

    /// Returns a handle. Cloning may be a step of the model, so the handle is taken out meanwhile.
    fn get(&self, number: usize) -> Option<Context> {
        let ctx = self.with(|all| all[number].ctx.take())?;
        let clone = ctx.clone();
        let surplus = self.with(|all| all[number].ctx.replace(ctx));
        drop(surplus);
        Some(clone)
    }

    fn step(&self) {
        let mut random = thread_rng();
        let all = self.with(|all| all.len());
        // The younger ones more often.
        let back = random.gen_range(0..all) * random.gen_range(0..2);
        let number = all - 1 - back;
        let Some(ctx) = self.get(number) else {
            return;
        };
        match random.gen_range(0..20) {
            0..=3 => {
                let was = random.gen_bool(0.5) && ctx.err().is_some();
                let (child, cancel) = ctx.with_cancel_cause();
                assert!(
                    !was || child.err().is_some(),
                    "an open child of a done parent"
                );
                self.add(child, Cancel::Cause(cancel), &[number]);
            }
            4 => {
                let (child, cancel) = ctx.with_timeout(HOUR);
                self.add(child, Cancel::Plain(cancel), &[number]);
            }
            5 => {
                let second = random.gen_range(0..all);
                if let Some(other) = self.get(second) {
                    let (child, cancel) = ctx.merge(&other);
                    self.add(child, Cancel::Plain(cancel), &[number, second]);
                }
            }
            6 | 7 => {
                let done = ctx.done();
                assert!(
                    !is_closed(&done) || ctx.err().is_some(),
                    "closed, and no error"
                );
                let ended = self.with(|all| all[number].end.is_some());
                assert!(!ended || is_closed(&done), "an open channel after the end");
                self.with(|all| all[number].channels.push(done));
            }
            8 => {
                self.check(number, &ctx);
            }
            9 if number > 0 => {
                let gone = self.with(|all| (all[number].ctx.take(), all[number].cancel.take()));
                drop(gone);
            }
            10 => {
                let runs = Arc::new(AtomicUsize::new(0));
                let counter = runs.clone();
                let handle = ctx.after_func(move || {
                    counter.fetch_add(1, Relaxed);
                });
                let function = Function {
                    handle: Arc::new(handle),
                    runs,
                    stopped: Arc::default(),
                };
                self.with(|all| all[number].functions.push(function));
            }
            11 => {
                let function = self.with(|all| all[number].functions.first().cloned());
                if let Some(Function {
                    handle, stopped, ..
                }) = function
                {
                    if handle.stop() {
                        assert!(!stopped.swap(true, Relaxed), "stopped twice");
                    }
                }
            }
            12 => {
                let done = ctx.done();
                let custom = Context::custom(Wrapping {
                    done,
                    ctx: ctx.clone(),
                });
                let (child, cancel) = custom.with_cancel();
                self.add(child, Cancel::Plain(cancel), &[number]);
            }
            13 => {
                let ctx = ctx.with_value(Token, Arc::default());
                let (without_cancel, cancel) = ctx.without_cancel().with_cancel();
                drop(cancel);
                assert!(
                    without_cancel.err().is_none(),
                    "cancelled in spite of without_cancel"
                );
                let (child, cancel) = ctx.with_cancel();
                assert!(child.value(&Token).is_some());
                self.add(child, Cancel::Plain(cancel), &[number]);
            }
            14 => {
                let done = ctx.done();
                let custom = Context::custom(Waiting(done));
                let (child, cancel) = custom.with_cancel();
                self.add(child, Cancel::Plain(cancel), &[]); // done some time after `ctx`
            }
            15 if random.gen_bool(0.5) => timer::fire(),
            15 => watcher::run_all(),
            _ if number == 0 && random.gen_bool(0.7) => {
                let _ = ctx.err();
            }
            _ => self.cancel(number),
        }
    }

    /// Returns whether a context is done. If so, everything must agree on it, now and later.
    fn check(&self, number: usize, ctx: &Context) -> bool {
        let Some(error) = ctx.err() else {
            return false;
        };
        assert!(is_closed(&ctx.done()), "an error, and the channel is open");
        let now = (error, cause(ctx));
        let channels = self.with(|all| {
            let known = &mut all[number];
            assert_eq!(
                known.end.get_or_insert_with(|| now.clone()),
                &now,
                "another end"
            );
            known.channels.clone()
        });
        assert!(
            channels.iter().all(is_closed),
            "an error, and a channel is open"
        );
        true
    }

    fn cancel(&self, number: usize) {
        let Some(cancel) = self.with(|all| all[number].cancel.clone()) else {
            return;
        };
        // Handles keep their contexts alive, and half of the time that must not be so.
        let with_handles = thread_rng().gen_bool(0.5);
        let mut below = Vec::new();
        let (mut channels, mut functions) = (Vec::new(), Vec::new());
        let all = self.with(|all| all.len());
        for other in 0..all {
            let is_below = self.with(|all| {
                let known = &all[other];
                let is_below = other == number || known.above.contains(&number);
                if is_below {
                    channels.extend(known.channels.clone());
                    functions.extend(known.functions.clone());
                }
                is_below
            });
            if is_below && with_handles {
                below.extend(self.get(other).map(|ctx| (other, ctx)));
            }
        }
        match cancel {
            Cancel::Plain(cancel) => cancel.cancel(),
            Cancel::Cause(cancel) => cancel.cancel(format!("{number}")),
        }
        assert!(
            channels.iter().all(is_closed),
            "cancel has returned, and a channel is open"
        );
        for function in functions {
            assert!(
                !function.handle.stop(),
                "cancel has returned, and stop succeeds"
            );
        }
        for (other, ctx) in below {
            assert!(
                self.check(other, &ctx),
                "cancel has returned, and a descendant is not done"
            );
        }
    }
}
