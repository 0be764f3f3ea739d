//! The memory that a context takes while it lives, handles included.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use go_context::{Context, Key};

use crate::go::{Number, HOUR};
use crate::life::root;
use crate::look::Look;
use crate::{Figure, Measure};

#[derive(PartialEq, Eq)]
struct Unit;

impl Key for Unit {
    type Value = &'static str;
}

const HELD: usize = 100_000;

pub(crate) fn all() -> Vec<Measure> {
    let bg = Context::background;
    let mut all = Vec::new();
    for look in Look::ALL {
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

/// The bytes that a context requests of the allocator, and those that a usual `malloc` takes for them.
const FIGURES: &[Figure] = &[Figure::new("requested", "B"), Figure::new("rounded", "B")];

pub(crate) fn measure(what: String, run: impl Fn() -> Vec<f64> + 'static) -> Measure {
    Measure::new(format!("live bytes, {what}"), FIGURES, run)
}

/// Returns the bytes for each of many contexts with their handles, which lie side by side: requested,
/// and rounded as the allocator does.
pub(crate) fn held<T>(mut make: impl FnMut(i64) -> T) -> Vec<f64> {
    drop(make(0)); // allocates what only the first needs, such as the timer
    COUNTING.store(true, Relaxed);
    let live = || [&REQUESTED, &ROUNDED].map(|counter| counter.load(Relaxed));
    let before = live();
    let mut all = Vec::with_capacity(HELD);
    all.extend((0..HELD as i64).map(&mut make));
    let after = live();
    COUNTING.store(false, Relaxed);
    drop(black_box(all));
    let each = |i: usize| after[i].wrapping_sub(before[i]) as f64 / HELD as f64;
    vec![each(0), each(1)]
}

static COUNTING: AtomicBool = AtomicBool::new(false);
/// Only differences of these mean anything.
static REQUESTED: AtomicUsize = AtomicUsize::new(0);
static ROUNDED: AtomicUsize = AtomicUsize::new(0);

/// Counts only on demand, so that it does not affect the times.
struct Counting;

#[global_allocator]
static COUNTER: Counting = Counting;

// SAFETY: every call is forwarded to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Relaxed) {
            add(layout.size());
        }
        System.alloc(layout)
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if COUNTING.load(Relaxed) {
            sub(layout.size());
        }
        System.dealloc(at, layout);
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if COUNTING.load(Relaxed) {
            add(size);
            sub(layout.size());
        }
        System.realloc(at, layout, size)
    }
}

fn add(size: usize) {
    REQUESTED.fetch_add(size, Relaxed);
    ROUNDED.fetch_add(rounded(size), Relaxed);
}

fn sub(size: usize) {
    REQUESTED.fetch_sub(size, Relaxed);
    ROUNDED.fetch_sub(rounded(size), Relaxed);
}

/// Returns what a usual `malloc` takes: a word more, in steps of two words, and at least four.
fn rounded(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}
