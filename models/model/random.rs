//! Programs drawn by lot: threads that do anything to any context there is.
#![cfg(not(feature = "loom"))]

use super::*;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;

use crossbeam_channel::Receiver;
use shuttle::rand::{thread_rng, Rng};

use crate::{AfterFunc, CancelFunc, CustomContext, Error, Key};

#[test]
fn three_threads() {
    in_many_orders(|| program(3, 7));
}

#[test]
fn five_threads() {
    in_many_orders(|| program(5, 5));
}

#[test]
fn long_ones() {
    in_many_orders(|| program(4, 10));
}

#[test]
fn in_one_lane() {
    in_many_orders(|| {
        crate::sync::share_lanes();
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
    /// Its end, since somebody has seen it.
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
            go(move || (0..steps).for_each(|_| world.step()))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }

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
    pool::join_all();
    assert!(
        channels.iter().all(is_closed),
        "nobody holds it, and it is not done"
    );
    for Function { runs, stopped, .. } in functions {
        let ends = runs.load(Relaxed) + usize::from(stopped.load(Relaxed));
        assert_eq!(ends, 1, "a callback runs once or is stopped");
    }
}

impl World {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<Known>) -> T) -> T {
        f(&mut self.0.lock().unwrap()) // no step of the model in f, nor a drop
    }

    fn add(&self, ctx: Context, cancel: Cancel, parents: &[usize]) {
        let ctx = counted(ctx);
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

    /// A handle of a context. To clone it is a step of the model, so it is taken out for that.
    fn get(&self, number: usize) -> Option<Context> {
        let ctx = self.with(|all| all[number].ctx.take())?;
        let clone = ctx.clone();
        let surplus = self.with(|all| all[number].ctx.replace(ctx));
        drop(surplus);
        Some(clone)
    }

    fn step(&self) {
        let mut lot = thread_rng();
        let all = self.with(|all| all.len());
        // The younger ones more often.
        let back = lot.gen_range(0..all) * lot.gen_range(0..2);
        let number = all - 1 - back;
        let Some(ctx) = self.get(number) else {
            return;
        };
        match lot.gen_range(0..19) {
            0..=3 => {
                let was = lot.gen_bool(0.5) && ctx.err().is_some();
                let (child, cancel) = ctx.with_cancel_cause();
                assert!(
                    !was || child.err().is_some(),
                    "born open under a done parent"
                );
                self.add(child, Cancel::Cause(cancel), &[number]);
            }
            4 => {
                let (child, cancel) = ctx.with_timeout(HOUR);
                self.add(child, Cancel::Plain(cancel), &[number]);
            }
            5 => {
                let second = lot.gen_range(0..all);
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
                assert!(!ended || is_closed(&done), "a channel opened after the end");
                self.with(|all| all[number].channels.push(done));
            }
            8 => {
                self.look(number, &ctx);
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
                let (detached, cancel) = ctx.without_cancel().with_cancel();
                drop(cancel);
                assert!(
                    detached.err().is_none(),
                    "cancelled by a context it does not listen to"
                );
                let (child, cancel) = ctx.with_cancel();
                assert!(child.value(&Token).is_some());
                self.add(child, Cancel::Plain(cancel), &[number]);
            }
            14 if lot.gen_bool(0.3) => timer::fire(),
            _ if number == 0 && lot.gen_bool(0.7) => {
                let _ = ctx.err();
            }
            _ => self.cancel(number),
        }
    }

    /// Whether a context is done. Then it has to be so in every respect, and as it was before.
    fn look(&self, number: usize, ctx: &Context) -> bool {
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
        // As handles they keep their contexts alive, which is not always what should be seen.
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
                "cancel has returned, and stop is in time"
            );
        }
        for (other, ctx) in below {
            assert!(
                self.look(other, &ctx),
                "cancel has returned, and a descendant is not done"
            );
        }
    }
}
