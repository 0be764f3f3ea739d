//! The memory that a context takes while it lives, handles included.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use go_context::{Context, Key};

use crate::go::{Number, HOUR};
use crate::life::{root, Look};
use crate::Measure;

#[derive(PartialEq, Eq)]
struct Unit;

impl Key for Unit {
    type Value = &'static str;
}

const HELD: usize = 100_000;

pub(crate) fn all() -> Vec<Measure> {
    let bg = Context::background;
    let mut all = Vec::new();
    for look in [Look::None, Look::Err, Look::Done] {
        all.push(measure(format!("cancel{look}"), move || {
            held(|_| {
                let (ctx, cancel) = bg().with_cancel();
                look.at(&ctx);
                (ctx, cancel)
            })
        }));
        all.push(measure(
            format!("cancel under one parent{look}"),
            move || {
                let (parent, _cancel) = root();
                held(|_| {
                    let (ctx, cancel) = parent.with_cancel();
                    look.at(&ctx);
                    (ctx, cancel)
                })
            },
        ));
        all.push(measure(format!("deadline{look}"), move || {
            held(|_| {
                let (ctx, cancel) = bg().with_timeout(HOUR);
                look.at(&ctx);
                (ctx, cancel)
            })
        }));
    }
    all.push(measure(
        "value, a number under a number".into(),
        move || held(|i| bg().with_value(Number(1000 + i), 1000 + i)),
    ));
    all.push(measure("value, a text under a unit".into(), move || {
        held(|_| bg().with_value(Unit, "value"))
    }));
    all
}

fn measure(what: String, run: impl Fn() -> f64 + 'static) -> Measure {
    Measure {
        name: format!("live bytes, {what}"),
        unit: "B",
        figures: &[""],
        run: Box::new(move || vec![run()]),
    }
}

/// The bytes for each of many contexts with their handles, which lie side by side.
fn held<T>(mut make: impl FnMut(i64) -> T) -> f64 {
    drop(make(0)); // what only the first needs, such as the timer
    COUNTING.store(true, Relaxed);
    let before = LIVE.load(Relaxed);
    let mut all = Vec::with_capacity(HELD);
    all.extend((0..HELD as i64).map(&mut make));
    let bytes = LIVE.load(Relaxed).wrapping_sub(before);
    COUNTING.store(false, Relaxed);
    drop(black_box(all));
    bytes as f64 / HELD as f64
}

static COUNTING: AtomicBool = AtomicBool::new(false);
/// Only its differences mean anything.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Counts on demand, so as not to weigh on the times.
struct Counting;

#[global_allocator]
static COUNTER: Counting = Counting;

// SAFETY: it is the system's allocator, called as this one is.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Relaxed) {
            LIVE.fetch_add(taken(layout.size()), Relaxed);
        }
        System.alloc(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if COUNTING.load(Relaxed) {
            LIVE.fetch_sub(taken(layout.size()), Relaxed);
        }
        System.dealloc(at, layout);
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if COUNTING.load(Relaxed) {
            LIVE.fetch_add(taken(size), Relaxed);
            LIVE.fetch_sub(taken(layout.size()), Relaxed);
        }
        System.realloc(at, layout, size)
    }
}

/// What a usual `malloc` takes for it, as Go's figure too is of what the allocator takes: with a
/// word before it, in steps of two words, and four at least.
fn taken(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}
