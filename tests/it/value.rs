//! Values: which contexts see them, what a key is, and how long a value lives.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use go_context::crossbeam_channel::TryRecvError;
use go_context::{Context, Error, Key};
use support::{Counted, HOUR};

/// One key for each number, each for a text.
#[derive(Clone, PartialEq, Eq)]
struct Id(u32);

impl Key for Id {
    type Value = String;
}

/// Another type with the same numbers, for values of the same type.
#[derive(PartialEq, Eq)]
struct Port(u32);

impl Key for Port {
    type Value = String;
}

/// Another type of the same name.
mod other {
    #[derive(PartialEq, Eq)]
    pub(super) struct Id(pub(super) u32);

    impl go_context::Key for Id {
        type Value = String;
    }
}

#[derive(PartialEq, Eq)]
enum Setting {
    Colour,
    Header(&'static str),
    Limit { per_second: u32 },
}

impl Key for Setting {
    type Value = u32;
}

/// A name, equal to any that differs only in case.
#[derive(Eq)]
struct Caseless(&'static str);

impl PartialEq for Caseless {
    fn eq(&self, other: &Caseless) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Key for Caseless {
    type Value = u32;
}

/// A key for values of any type.
struct Only<T>(std::marker::PhantomData<fn() -> T>);

impl<T> Only<T> {
    fn key() -> Only<T> {
        Only(std::marker::PhantomData)
    }
}

impl<T> PartialEq for Only<T> {
    fn eq(&self, _: &Only<T>) -> bool {
        true
    }
}

impl<T> Eq for Only<T> {}

impl<T: Send + Sync + 'static> Key for Only<T> {
    type Value = T;
}

fn text(ctx: &Context, id: u32) -> Option<&str> {
    ctx.value(&Id(id)).map(String::as_str)
}

/// A context with a value that counts its drops, and the count.
fn counted(parent: &Context) -> (Context, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let ctx = parent.with_value(Only::key(), Counted(drops.clone()));
    (ctx, drops)
}

#[test]
fn root_has_no_values() {
    for root in [Context::background(), Context::todo()] {
        assert!(root.value(&Id(1)).is_none());
        let child = root.with_value(Id(1), "gopher".into());
        assert!(child.value(&Id(1)).is_some());
        assert!(root.value(&Id(1)).is_none());
        assert!(root.with_cancel().0.value(&Id(1)).is_none());
    }
}

#[test]
fn nearest_value_hides_outer_one() {
    let outer = Context::background().with_value(Id(1), "outer".into());
    let (middle, _cancel) = outer.with_cancel();
    let inner = middle.with_value(Id(1), "inner".into());
    let innermost = inner.with_timeout(HOUR).0.with_value(Id(2), "else".into());
    assert_eq!(text(&outer, 1), Some("outer"));
    assert_eq!(text(&middle, 1), Some("outer"));
    assert_eq!(text(&inner, 1), Some("inner"));
    assert_eq!(text(&innermost, 1), Some("inner"));
    assert_eq!(text(&innermost, 2), Some("else"));
}

#[test]
fn none_value_hides_outer_one() {
    type Maybe = Only<Option<u32>>;
    let outer = Context::background().with_value(Maybe::key(), Some(1));
    let inner = outer.with_value(Maybe::key(), None);
    assert_eq!(inner.value(&Maybe::key()), Some(&None));
}

#[test]
fn child_value_is_not_seen_by_parent_or_siblings() {
    let (parent, _cancel) = Context::background().with_cancel();
    let sibling = parent.with_value(Id(2), "sibling".into());
    let child = parent.with_value(Id(1), "child".into());
    let grandchild = child.with_value(Id(3), "grandchild".into());
    assert_eq!(text(&parent, 1), None);
    assert_eq!(text(&sibling, 1), None);
    assert_eq!(text(&child, 2), None);
    assert_eq!(text(&child, 3), None);
    assert_eq!(text(&grandchild, 1), Some("child"));
}

#[test]
fn mutex_value_change_is_seen_by_all() {
    type Log = Only<Mutex<Vec<u32>>>;
    let parent = Context::background().with_value(Log::key(), Mutex::default());
    let (child, _cancel) = parent.with_cancel();
    let grandchild = child.with_value(Id(1), "gopher".into());
    for (n, ctx) in (0..).zip([&grandchild, &parent, &child]) {
        let log = ctx.value(&Log::key()).expect("the log is there");
        log.lock().unwrap().push(n);
    }
    for ctx in [&parent, &child, &grandchild] {
        let log = ctx.value(&Log::key()).expect("the log is there");
        assert_eq!(*log.lock().unwrap(), [0, 1, 2]);
    }
}

#[test]
fn atomic_value_is_shared_between_threads() {
    type Hits = Only<AtomicU32>;
    let ctx = Context::background().with_value(Hits::key(), AtomicU32::new(0));
    thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                let (child, _cancel) = ctx.with_cancel();
                for _ in 0..100 {
                    let hits = child.value(&Hits::key()).expect("the counter is there");
                    hits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let hits = ctx.value(&Hits::key()).expect("the counter is there");
    assert_eq!(hits.load(Ordering::Relaxed), 800);
}

#[test]
fn keys_of_different_types_are_different() {
    let ctx = Context::background()
        .with_value(Id(1), "id".into())
        .with_value(Port(1), "port".into())
        .with_value(other::Id(1), "other id".into());
    assert_eq!(ctx.value(&Id(1)).unwrap(), "id");
    assert_eq!(ctx.value(&Port(1)).unwrap(), "port");
    assert_eq!(ctx.value(&other::Id(1)).unwrap(), "other id");

    let ctx = Context::background().with_value(Id(1), "id".into());
    assert!(ctx.value(&Port(1)).is_none());
    assert!(ctx.value(&other::Id(1)).is_none());
    assert!(ctx.value(&Id(2)).is_none());
}

#[test]
fn generic_keys_of_different_types_are_different() {
    let ctx = Context::background()
        .with_value(Only::key(), 1_u32)
        .with_value(Only::key(), "one");
    assert_eq!(ctx.value(&Only::<u32>::key()), Some(&1));
    assert_eq!(ctx.value(&Only::<&str>::key()), Some(&"one"));
    assert!(ctx.value(&Only::<i32>::key()).is_none());
}

#[test]
fn enum_variants_are_different_keys() {
    let ctx = Context::background()
        .with_value(Setting::Colour, 1)
        .with_value(Setting::Header("Accept"), 2)
        .with_value(Setting::Header("Host"), 3)
        .with_value(Setting::Limit { per_second: 10 }, 4);
    assert_eq!(ctx.value(&Setting::Colour), Some(&1));
    assert_eq!(ctx.value(&Setting::Header("Accept")), Some(&2));
    assert_eq!(ctx.value(&Setting::Header("Host")), Some(&3));
    assert_eq!(ctx.value(&Setting::Limit { per_second: 10 }), Some(&4));
    assert_eq!(ctx.value(&Setting::Header("From")), None);
    assert_eq!(ctx.value(&Setting::Limit { per_second: 11 }), None);
}

#[test]
fn keys_are_compared_with_eq() {
    let ctx = Context::background()
        .with_value(Caseless("accept"), 1)
        .with_value(Caseless("HOST"), 2);
    assert_eq!(ctx.value(&Caseless("Accept")), Some(&1));
    assert_eq!(ctx.value(&Caseless("host")), Some(&2));
    assert_eq!(ctx.value(&Caseless("from")), None);
    let inner = ctx.with_value(Caseless("ACCEPT"), 3);
    assert_eq!(inner.value(&Caseless("accept")), Some(&3));
}

#[test]
fn many_values_are_all_found() {
    let ctx = (0..200).fold(Context::background(), |ctx, n| {
        let ctx = ctx.with_value(Id(n), n.to_string());
        let layered = match n % 3 {
            0 => ctx.with_cancel().0,
            1 => ctx.without_cancel(),
            _ => ctx,
        };
        layered.with_value(Port(n), "in between".into())
    });
    for n in 0..200 {
        assert_eq!(text(&ctx, n), Some(&*n.to_string()));
    }
    assert_eq!(text(&ctx, 200), None);
}

#[test]
fn value_is_found_on_done_context() {
    let parent = Context::background().with_value(Id(1), "gopher".into());
    let (cancelled, cancel) = parent.with_cancel();
    let below = cancelled.with_value(Id(2), "below".into());
    cancel.cancel();
    let (expired, _cancel) = parent.with_timeout(Duration::ZERO);
    for ctx in [&cancelled, &below, &expired, &below.with_cancel().0] {
        assert!(ctx.err().is_some());
        assert_eq!(text(ctx, 1), Some("gopher"));
    }
    assert_eq!(text(&below, 2), Some("below"));
    let late = below.with_value(Id(3), "late".into());
    assert_eq!(text(&late, 3), Some("late"));
}

#[test]
fn value_is_found_through_without_cancel() {
    let (ctx, cancel) = Context::background()
        .with_value(Id(1), "gopher".into())
        .with_cancel();
    let detached = ctx.without_cancel();
    cancel.cancel();
    drop(ctx);
    let below = detached.with_value(Id(2), "below".into());
    assert_eq!(text(&detached, 1), Some("gopher"));
    assert_eq!(text(&below, 1), Some("gopher"));
    assert_eq!(text(&below, 2), Some("below"));
    assert_eq!(text(&detached, 2), None);
}

#[test]
fn value_context_is_done_with_parent() {
    let (parent, cancel) = Context::background().with_cancel_cause();
    let ctx = parent.with_value(Id(1), "gopher".into());
    let (child, _cancel) = ctx.with_cancel();
    assert!(ctx.done().same_channel(&parent.done()));
    cancel.cancel("enough");
    for ctx in [&ctx, &child] {
        assert_eq!(ctx.err(), Some(Error::Canceled));
        assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(ctx.cause().unwrap().to_string(), "enough");
    }
}

#[test]
fn value_is_shared_not_copied() {
    struct Unclonable(u32);
    type Shared = Only<Unclonable>;
    fn of(ctx: &Context) -> &Unclonable {
        ctx.value(&Shared::key()).expect("the value is there")
    }

    let parent = Context::background().with_value(Shared::key(), Unclonable(1));
    let (cancellable, cancel) = parent.with_cancel();
    let contexts = [
        parent.clone(),
        cancellable.without_cancel(),
        cancellable.with_timeout(HOUR).0,
        cancellable.with_value(Id(1), "gopher".into()),
        cancellable,
    ];
    cancel.cancel();
    for ctx in &contexts {
        assert!(ptr::eq(of(ctx), of(&parent)));
        thread::scope(|s| {
            s.spawn(|| assert!(ptr::eq(of(ctx), of(&parent))));
        });
    }
    assert_eq!(of(&parent).0, 1);
}

#[test]
fn value_is_dropped_once_with_last_handle() {
    let (ctx, drops) = counted(&Context::background());
    let clone = ctx.clone();
    let (child, cancel) = ctx.with_cancel();
    let grandchild = child.with_value(Id(1), "gopher".into());
    let detached = grandchild.without_cancel();
    cancel.cancel();
    for handle in [ctx, child, clone, grandchild] {
        drop(handle);
        assert_eq!(drops.load(Ordering::SeqCst), 0);
    }
    drop(detached);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn child_drop_drops_only_its_own_values() {
    let (parent, of_parent) = counted(&Context::background());
    let (child, of_child) = counted(&parent);
    let (sibling, of_sibling) = counted(&parent);
    drop(child);
    assert_eq!(of_child.load(Ordering::SeqCst), 1);
    assert_eq!(of_parent.load(Ordering::SeqCst), 0);
    drop(parent);
    assert_eq!(of_parent.load(Ordering::SeqCst), 0);
    drop(sibling);
    assert_eq!(of_sibling.load(Ordering::SeqCst), 1);
    assert_eq!(of_parent.load(Ordering::SeqCst), 1);
}

#[test]
fn hidden_value_lives_as_long_as_hiding_one() {
    let (outer, of_outer) = counted(&Context::background());
    let (inner, of_inner) = counted(&outer);
    drop(outer);
    assert_eq!(of_outer.load(Ordering::SeqCst), 0);
    drop(inner);
    assert_eq!(of_outer.load(Ordering::SeqCst), 1);
    assert_eq!(of_inner.load(Ordering::SeqCst), 1);
}

#[test]
fn receivers_and_callbacks_keep_no_values_alive() {
    let (parent, cancel) = Context::background().with_cancel();
    let (ctx, drops) = counted(&parent);
    let done = ctx.done();
    let callback = ctx.after_func(|| ());
    drop(ctx);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert_eq!(done.try_recv(), Err(TryRecvError::Empty));
    assert!(callback.stop());
    cancel.cancel();
}

#[test]
fn key_is_dropped_with_its_value() {
    struct Own(Counted);
    impl PartialEq for Own {
        fn eq(&self, other: &Own) -> bool {
            Arc::ptr_eq(&self.0 .0, &other.0 .0)
        }
    }
    impl Eq for Own {}
    impl Key for Own {
        type Value = u32;
    }

    let drops = Arc::new(AtomicUsize::new(0));
    let ctx = Context::background().with_value(Own(Counted(drops.clone())), 1);
    assert_eq!(ctx.value(&Own(Counted(drops.clone()))), Some(&1));
    assert_eq!(
        drops.load(Ordering::SeqCst),
        1,
        "the key that was asked for"
    );
    drop(ctx);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[test]
fn concurrent_handle_drops_drop_value_once() {
    for _ in 0..200 {
        let (ctx, drops) = counted(&Context::background());
        thread::scope(|s| {
            for _ in 0..4 {
                let child = ctx.with_cancel().0;
                s.spawn(move || drop(child));
            }
            s.spawn(move || drop(ctx));
        });
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}
