//! Every kind of context under every kind of parent.
//!
//! The expected result of each pair is computed: from a description of the parent, by the rule of
//! the child's kind.

use std::any::type_name;
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver, Sender, TryRecvError};
use go_context::{
    AfterFunc, CancelCauseFunc, CancelFunc, Cause, Context, CustomContext, EndKind, Error, Key,
    Lookup,
};
use support::custom::Registry;
use support::{cause, wait_until, without_times, Task, LIMIT};

// The kinds

#[derive(Clone, Copy, Debug, PartialEq)]
enum Parent {
    Background,
    Todo,
    Cancel,
    Cause,
    Deadline,
    /// A deadline that passes during the test, if the parent is to end.
    Passing,
    Value,
    WithoutCancel,
    Merge,
    Custom,
    CustomAfterFunc,
    Wrapper,
    Canceled,
    CanceledCause,
    PastDeadline,
}

const PARENTS: [Parent; 15] = [
    Parent::Background,
    Parent::Todo,
    Parent::Cancel,
    Parent::Cause,
    Parent::Deadline,
    Parent::Passing,
    Parent::Value,
    Parent::WithoutCancel,
    Parent::Merge,
    Parent::Custom,
    Parent::CustomAfterFunc,
    Parent::Wrapper,
    Parent::Canceled,
    Parent::CanceledCause,
    Parent::PastDeadline,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Child {
    Cancel,
    Cause,
    FutureDeadline,
    PastDeadline,
    Timeout,
    EndlessTimeout,
    Value,
    WithoutCancel,
    Merge,
    /// The parent is the other of the two that are merged.
    MergedInto,
    /// Has a channel of its own, and the parent's deadline and values.
    Custom,
    CustomAfterFunc,
    Wrapper,
}

const CHILDREN: [Child; 13] = [
    Child::Cancel,
    Child::Cause,
    Child::FutureDeadline,
    Child::PastDeadline,
    Child::Timeout,
    Child::EndlessTimeout,
    Child::Value,
    Child::WithoutCancel,
    Child::Merge,
    Child::MergedInto,
    Child::Custom,
    Child::CustomAfterFunc,
    Child::Wrapper,
];

/// The points in time that matter to a pair.
struct Scene {
    past: Instant,
    /// The parent's, if it is to pass.
    next: Instant,
    /// The child's, if it has one.
    soon: Instant,
    /// The parent's, if it has one.
    late: Instant,
    /// That of the side, which is merged with a parent.
    later: Instant,
}

impl Scene {
    fn new() -> Scene {
        let now = Instant::now();
        Scene {
            past: now - Duration::from_millis(1),
            next: now + Duration::from_millis(1),
            soon: now + Duration::from_secs(3600),
            late: now + Duration::from_secs(7200),
            later: now + Duration::from_secs(9000),
        }
    }
}

// Expectations

/// All properties of a context.
#[derive(Clone, Debug, PartialEq)]
struct Facts {
    text: String,
    deadline: Option<Instant>,
    cancellable: bool,
    end: Option<End>,
    /// The values under `Place::Parent`, `Place::Child` and `Place::Side`.
    values: [Option<u32>; 3],
}

/// An error and the text of the cause.
type End = (Error, &'static str);

const CANCELED: End = (Error::Canceled, "context canceled");
const BY_PARENT: End = (Error::Canceled, "the parent's cause");
const BY_CHILD: End = (Error::Canceled, "the child's cause");

#[derive(PartialEq, Eq)]
enum Place {
    Parent,
    Child,
    Side,
}

impl Key for Place {
    type Value = u32;
}

fn with_value(text: &str) -> String {
    format!("{text}.WithValue({}, u32)", type_name::<Place>())
}

impl Parent {
    fn facts(self, scene: &Scene) -> Facts {
        let base = with_value("context.Background");
        let facts = Facts {
            text: format!("{base}.WithCancel"),
            deadline: None,
            cancellable: true,
            end: None,
            values: [Some(1), None, None],
        };
        let root = |text: &str| Facts {
            text: text.into(),
            cancellable: false,
            values: [None; 3],
            ..facts.clone()
        };
        match self {
            Parent::Background => root("context.Background"),
            Parent::Todo => root("context.TODO"),
            Parent::Cancel | Parent::Cause => facts,
            Parent::Deadline => Facts {
                text: format!("{base}.WithDeadline([])"),
                deadline: Some(scene.late),
                ..facts
            },
            Parent::Passing => Facts {
                text: format!("{base}.WithDeadline([])"),
                deadline: Some(scene.next),
                ..facts
            },
            Parent::Value => Facts {
                text: with_value("context.Background.WithCancel"),
                ..facts
            },
            Parent::WithoutCancel => Facts {
                text: format!("{base}.WithCancel.WithoutCancel"),
                cancellable: false,
                ..facts
            },
            Parent::Merge => Facts {
                text: format!("{base}.WithCancel.Merge(context.Background.WithCancel)"),
                ..facts
            },
            Parent::Custom | Parent::CustomAfterFunc | Parent::Wrapper => Facts {
                text: "outsider".into(),
                ..facts
            },
            Parent::Canceled => Facts {
                end: Some(CANCELED),
                ..facts
            },
            Parent::CanceledCause => Facts {
                end: Some(BY_PARENT),
                ..facts
            },
            Parent::PastDeadline => Facts {
                text: format!("{base}.WithDeadline([])"),
                deadline: Some(scene.past),
                end: Some((Error::DeadlineExceeded, BY_PARENT.1)),
                ..facts
            },
        }
    }

    /// How it ends, unless it already has.
    fn end(self) -> Option<End> {
        match self {
            Parent::Background | Parent::Todo | Parent::WithoutCancel => None,
            Parent::Cancel | Parent::Deadline | Parent::Canceled => Some(CANCELED),
            Parent::Passing | Parent::PastDeadline => Some((Error::DeadlineExceeded, BY_PARENT.1)),
            _ => Some(BY_PARENT),
        }
    }
}

impl Child {
    /// The rule of each kind.
    fn facts(self, scene: &Scene, parent: &Facts) -> Facts {
        let same = parent.clone();
        let child = Facts {
            text: format!("{}.WithCancel", parent.text),
            cancellable: true,
            ..same.clone()
        };
        let side = format!("{}.WithDeadline([])", with_value("context.Background"));
        let merged = Facts {
            deadline: Some(
                parent
                    .deadline
                    .map_or(scene.later, |at| at.min(scene.later)),
            ),
            values: [parent.values[0], None, Some(3)],
            ..child.clone()
        };
        match self {
            Child::Cancel | Child::Cause | Child::EndlessTimeout => child,
            Child::FutureDeadline | Child::Timeout => timed(parent, child, scene.soon, None),
            Child::PastDeadline => {
                let end = (Error::DeadlineExceeded, BY_CHILD.1);
                timed(parent, child, scene.past, Some(end))
            }
            Child::Value => Facts {
                text: with_value(&parent.text),
                values: [parent.values[0], Some(2), None],
                ..same
            },
            Child::WithoutCancel => Facts {
                text: format!("{}.WithoutCancel", parent.text),
                deadline: None,
                cancellable: false,
                end: None,
                ..same
            },
            Child::Merge => Facts {
                text: format!("{}.Merge({side})", parent.text),
                ..merged
            },
            Child::MergedInto => Facts {
                text: format!("{side}.Merge({})", parent.text),
                ..merged
            },
            Child::Custom | Child::CustomAfterFunc => Facts {
                text: "outsider".into(),
                end: None,
                values: [parent.values[0], Some(2), None],
                ..child
            },
            Child::Wrapper => Facts {
                text: "outsider".into(),
                values: [parent.values[0], Some(2), None],
                ..same
            },
        }
    }

    /// Whether it is done whenever the parent is.
    fn follows(self) -> bool {
        !matches!(
            self,
            Child::WithoutCancel | Child::Custom | Child::CustomAfterFunc
        )
    }

    /// How it ends by its own cancel function or channel, if it has one.
    fn own_end(self) -> Option<End> {
        match self {
            Child::Value | Child::WithoutCancel | Child::Wrapper => None,
            Child::Cause | Child::Custom | Child::CustomAfterFunc => Some(BY_CHILD),
            _ => Some(CANCELED),
        }
    }

    /// How it ends when its last handle is dropped. A value and a wrapper end with the parent only,
    /// and a custom context by itself.
    fn abandoned_end(self) -> Option<End> {
        match self {
            Child::Custom | Child::CustomAfterFunc => None,
            _ => self.own_end(),
        }
    }
}

/// A deadline counts if it is not after the parent's.
fn timed(parent: &Facts, child: Facts, at: Instant, end: Option<End>) -> Facts {
    if parent.deadline.is_some_and(|inherited| inherited < at) {
        return child;
    }
    Facts {
        text: format!("{}.WithDeadline([])", parent.text),
        deadline: Some(at),
        end: child.end.or(end),
        ..child
    }
}

// Observations

/// A custom context: with its own channel, or around a context of the crate.
struct Outsider {
    done: Receiver<()>,
    own_channel: bool,
    end: End,
    wrapped: Context,
    value: (Place, u32),
    registry: Option<Registry>,
}

impl CustomContext for Outsider {
    fn done(&self) -> Receiver<()> {
        self.done.clone()
    }

    fn err(&self) -> Option<Error> {
        match self.own_channel {
            true => (self.done.try_recv() == Err(TryRecvError::Disconnected)).then_some(self.end.0),
            false => self.wrapped.err(),
        }
    }

    fn cause(&self) -> Option<Cause> {
        match self.own_channel {
            true => Some(cause(self.end.1)),
            false => self.wrapped.cause(),
        }
    }

    fn value<'a>(&'a self, lookup: &mut Lookup<'_, 'a>) {
        lookup
            .answer(&self.value.0, &self.value.1)
            .forward(&self.wrapped);
    }

    fn after_func(&self, f: Task) -> Option<Task> {
        Some(self.registry.as_ref()?.register(f))
    }

    fn wrapped(&self) -> Option<&Context> {
        Some(&self.wrapped)
    }

    fn name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outsider")
    }
}

/// A context and what ends it.
struct Made {
    ctx: Context,
    ends: Ends,
    registry: Option<Registry>,
}

enum Ends {
    Not,
    Cancel(CancelFunc),
    Cause(CancelCauseFunc, &'static str),
    Close(Sender<()>),
    /// Its deadline.
    Wait,
}

impl Made {
    fn new(ctx: Context, ends: Ends) -> Made {
        Made {
            ctx,
            ends,
            registry: None,
        }
    }

    fn outsider(
        wrapped: &Context,
        value: (Place, u32),
        end: End,
        registry: Option<Registry>,
    ) -> Made {
        let (open, done) = bounded(0);
        let ctx = Context::custom(Outsider {
            done,
            own_channel: true,
            end,
            wrapped: wrapped.clone(),
            value,
            registry: registry.clone(),
        });
        Made {
            registry,
            ..Made::new(ctx, Ends::Close(open))
        }
    }

    fn wrapper(wrapped: &Context, value: (Place, u32), ends: Ends) -> Made {
        let ctx = Context::custom(Outsider {
            done: wrapped.done(),
            own_channel: false,
            end: CANCELED,
            wrapped: wrapped.clone(),
            value,
            registry: None,
        });
        Made::new(ctx, ends)
    }

    fn parent(scene: &Scene, kind: Parent) -> Made {
        let bg = Context::background();
        let base = bg.with_value(Place::Parent, 1);
        let because = |(ctx, cancel): (Context, CancelCauseFunc)| {
            Made::new(ctx, Ends::Cause(cancel, BY_PARENT.1))
        };
        match kind {
            Parent::Background => Made::new(bg, Ends::Not),
            Parent::Todo => Made::new(Context::todo(), Ends::Not),
            Parent::Cancel => {
                let (ctx, cancel) = base.with_cancel();
                Made::new(ctx, Ends::Cancel(cancel))
            }
            Parent::Cause => because(base.with_cancel_cause()),
            Parent::Deadline => {
                let (ctx, cancel) = base.with_deadline_cause(scene.late, BY_PARENT.1);
                Made::new(ctx, Ends::Cancel(cancel))
            }
            Parent::Passing => {
                let (ctx, _) = base.with_deadline_cause(scene.next, BY_PARENT.1);
                Made::new(ctx, Ends::Wait)
            }
            Parent::Value => {
                let (ctx, cancel) = bg.with_cancel_cause();
                because((ctx.with_value(Place::Parent, 1), cancel))
            }
            Parent::WithoutCancel => {
                let (ctx, cancel) = base.with_cancel_cause();
                because((ctx.without_cancel(), cancel))
            }
            Parent::Merge => {
                let (first, _) = base.with_cancel();
                let (other, cancel) = bg.with_cancel_cause();
                because((first.merge(&other).0, cancel))
            }
            Parent::Custom => Made::outsider(&bg, (Place::Parent, 1), BY_PARENT, None),
            Parent::CustomAfterFunc => Made::outsider(
                &bg,
                (Place::Parent, 1),
                BY_PARENT,
                Some(Registry::default()),
            ),
            Parent::Wrapper => {
                let (inner, cancel) = bg.with_cancel_cause();
                Made::wrapper(&inner, (Place::Parent, 1), Ends::Cause(cancel, BY_PARENT.1))
            }
            Parent::Canceled => {
                let (ctx, cancel) = base.with_cancel();
                cancel.cancel();
                Made::new(ctx, Ends::Cancel(cancel))
            }
            Parent::CanceledCause => {
                let (ctx, cancel) = base.with_cancel_cause();
                cancel.cancel(BY_PARENT.1);
                Made::new(ctx, Ends::Cause(cancel, "too late"))
            }
            Parent::PastDeadline => {
                let (ctx, cancel) = base.with_deadline_cause(scene.past, BY_PARENT.1);
                Made::new(ctx, Ends::Cancel(cancel))
            }
        }
    }

    fn child(scene: &Scene, parent: &Context, kind: Child) -> Made {
        let cancel = |(ctx, cancel): (Context, CancelFunc)| Made::new(ctx, Ends::Cancel(cancel));
        match kind {
            Child::Cancel => cancel(parent.with_cancel()),
            Child::Cause => {
                let (ctx, cancel) = parent.with_cancel_cause();
                Made::new(ctx, Ends::Cause(cancel, BY_CHILD.1))
            }
            Child::FutureDeadline => cancel(parent.with_deadline(scene.soon)),
            Child::PastDeadline => cancel(parent.with_deadline_cause(scene.past, BY_CHILD.1)),
            Child::Timeout => {
                let left = scene.soon.saturating_duration_since(Instant::now());
                cancel(parent.with_timeout_cause(left, BY_CHILD.1))
            }
            Child::EndlessTimeout => cancel(parent.with_timeout(Duration::MAX)),
            Child::Value => Made::new(parent.with_value(Place::Child, 2), Ends::Not),
            Child::WithoutCancel => Made::new(parent.without_cancel(), Ends::Not),
            Child::Merge | Child::MergedInto => {
                let side = Context::background().with_value(Place::Side, 3);
                let (side, _) = side.with_deadline(scene.later);
                match kind {
                    Child::Merge => cancel(parent.merge(&side)),
                    _ => cancel(side.merge(parent)),
                }
            }
            Child::Custom => Made::outsider(parent, (Place::Child, 2), BY_CHILD, None),
            Child::CustomAfterFunc => Made::outsider(
                parent,
                (Place::Child, 2),
                BY_CHILD,
                Some(Registry::default()),
            ),
            Child::Wrapper => Made::wrapper(parent, (Place::Child, 2), Ends::Not),
        }
    }

    fn end(&mut self) {
        match mem::replace(&mut self.ends, Ends::Not) {
            Ends::Not => {}
            Ends::Cancel(cancel) => cancel.cancel(),
            Ends::Cause(cancel, why) => cancel.cancel(why),
            Ends::Close(open) => drop(open),
            Ends::Wait => assert_eq!(self.ctx.wait(), Error::DeadlineExceeded),
        }
        if let Some(registry) = &self.registry {
            registry.call_all();
        }
    }

    /// Drops the context and its handles. That does not close a channel of its own.
    fn let_go(self) -> Option<Sender<()>> {
        match self.ends {
            Ends::Close(open) => Some(open),
            _ => None,
        }
    }

    fn facts(&self, scene: &Scene) -> Facts {
        let ctx = &self.ctx;
        let end = ctx.err().map(|err| {
            let text = ctx.cause().expect("it has an error").to_string();
            assert_explained(ctx, err, &text);
            let known = [CANCELED, BY_PARENT, BY_CHILD].map(|(_, text)| text);
            let cause = known.into_iter().find(|&known| known == text);
            (err, cause.unwrap_or("another cause"))
        });
        // A timeout counts from the call, which is a little after the setup.
        let deadline = ctx.deadline().map(|at| {
            let late_by = at.saturating_duration_since(scene.soon);
            match at >= scene.soon && late_by < Duration::from_secs(600) {
                true => scene.soon,
                false => at,
            }
        });
        Facts {
            text: without_times(&ctx.to_string()),
            deadline,
            cancellable: ctx.is_cancellable(),
            end,
            values: [Place::Parent, Place::Child, Place::Side].map(|key| ctx.value(&key).copied()),
        }
    }
}

/// Asserts that the explanation agrees with the error and the cause.
#[track_caller]
fn assert_explained(ctx: &Context, err: Error, cause: &str) {
    let explanation = ctx.explain().expect("it has an error");
    assert_eq!(explanation.error(), err, "{explanation}");
    assert_eq!(explanation.cause().to_string(), cause, "{explanation}");
    let by_deadline = explanation.kind() == EndKind::Deadline;
    assert_eq!(by_deadline, err == Error::DeadlineExceeded, "{explanation}");
    assert_eq!(
        explanation.lateness().is_some(),
        by_deadline,
        "{explanation}"
    );
    let has_place = !matches!(explanation.kind(), EndKind::Deadline | EndKind::Custom);
    let cancelled_at = explanation.cancelled_at();
    assert_eq!(cancelled_at.is_some(), has_place, "{explanation}");
    let places = cancelled_at.into_iter().chain([explanation.derived_at()]);
    places.for_each(|at| assert_eq!(at.file(), file!(), "{explanation}"));
}

/// Waits for what must happen, and asserts that nothing else has.
#[track_caller]
fn assert_closed(done: &Receiver<()>, expected: bool) {
    match expected {
        true => assert!(done.recv_timeout(LIMIT).unwrap_err().is_disconnected()),
        false => assert_eq!(done.try_recv(), Err(TryRecvError::Empty)),
    }
}

/// Calls `f` with every pair whose parent does not end by itself.
fn for_each_pair(f: impl Fn(&Scene, Parent, Child)) {
    for parent in PARENTS.into_iter().filter(|&kind| kind != Parent::Passing) {
        for child in CHILDREN {
            println!("{child:?} under {parent:?}"); // seen if the test fails
            f(&Scene::new(), parent, child);
        }
    }
}

#[test]
fn every_child_of_every_parent_follows_rules() {
    for_each_pair(|scene, kind, child_kind| {
        let parent = Made::parent(scene, kind);
        let before = kind.facts(scene);
        assert_eq!(parent.facts(scene), before);
        assert_closed(&parent.ctx.done(), before.end.is_some());
        let child = Made::child(scene, &parent.ctx, child_kind);
        let expected = child_kind.facts(scene, &before);
        assert_eq!(child.facts(scene), expected);
        assert_closed(&child.ctx.done(), expected.end.is_some());
        assert_eq!(parent.facts(scene), before);
    });
}

#[test]
fn parent_cancel_reaches_every_kind_of_child() {
    let check = |scene: &Scene, kind: Parent, child_kind: Child| {
        let mut parent = Made::parent(scene, kind);
        let child = Made::child(scene, &parent.ctx, child_kind);
        let done = child.ctx.done();
        let before = kind.facts(scene);
        let expected = child_kind.facts(scene, &before);
        parent.end();

        let end = before.end.or(kind.end());
        assert_eq!(parent.facts(scene), Facts { end, ..before });
        let end = expected.end.or(end.filter(|_| child_kind.follows()));
        assert_closed(&done, end.is_some());
        assert_eq!(child.facts(scene), Facts { end, ..expected });
        assert_eq!(child.ctx.check().err(), end.map(|(err, _)| err));
        if let Some(registry) = parent.registry {
            assert_eq!(registry.len(), 0);
        }
    };
    for_each_pair(check);
    // A child with a past deadline would end before the parent or after.
    for child in CHILDREN
        .into_iter()
        .filter(|&kind| kind != Child::PastDeadline)
    {
        println!("{child:?}");
        check(&Scene::new(), Parent::Passing, child);
    }
}

#[test]
fn child_cancel_leaves_every_kind_of_parent_open() {
    for_each_pair(|scene, kind, child_kind| {
        let parent = Made::parent(scene, kind);
        let mut child = Made::child(scene, &parent.ctx, child_kind);
        let sibling = Made::child(scene, &parent.ctx, child_kind);
        let done = child.ctx.done();
        let expected = child_kind.facts(scene, &kind.facts(scene));
        child.end();

        let end = expected.end.or(child_kind.own_end());
        assert_closed(&done, end.is_some());
        assert_eq!(
            child.facts(scene),
            Facts {
                end,
                ..expected.clone()
            }
        );
        assert_eq!(sibling.facts(scene), expected);
        assert_eq!(parent.facts(scene), kind.facts(scene));
    });
}

#[test]
fn second_end_of_parent_or_child_changes_nothing() {
    for_each_pair(|scene, kind, child_kind| {
        let mut parent = Made::parent(scene, kind);
        let mut child = Made::child(scene, &parent.ctx, child_kind);
        let before = kind.facts(scene);
        let expected = child_kind.facts(scene, &before);
        child.end();
        let end = expected.end.or(child_kind.own_end());
        assert_closed(&child.ctx.done(), end.is_some());
        parent.end();

        let parent_end = before.end.or(kind.end());
        let end = end.or(parent_end.filter(|_| child_kind.follows()));
        assert_closed(&child.ctx.done(), end.is_some());
        assert_eq!(child.facts(scene), Facts { end, ..expected });
        let end = parent_end;
        assert_eq!(parent.facts(scene), Facts { end, ..before });
    });
}

#[test]
fn dropped_child_is_done_and_unregistered() {
    for_each_pair(|scene, kind, child_kind| {
        let mut parent = Made::parent(scene, kind);
        let child = Made::child(scene, &parent.ctx, child_kind);
        let done = child.ctx.done();
        let open = child.let_go();

        let before = kind.facts(scene);
        let expected = child_kind.facts(scene, &before);
        let end = expected.end.or(child_kind.abandoned_end());
        assert_closed(&done, end.is_some());
        assert_eq!(parent.facts(scene), before);
        if let Some(registry) = &parent.registry {
            wait_until("the child is still known", || registry.is_empty());
        }
        // All that is left of a value context is the channel of its parent.
        parent.end();
        let end = end.or(kind.end().filter(|_| child_kind.follows()));
        assert_closed(&done, end.is_some());
        drop(open);
    });
}

// Callbacks

/// Registers a callback that sends a message. Its channel disconnects when the callback is dropped.
fn register(ctx: &Context) -> (AfterFunc, Receiver<()>) {
    let (tell, ran) = bounded(1);
    let after = ctx.after_func(move || {
        let _ = tell.send(());
    });
    (after, ran)
}

#[test]
fn after_func_runs_at_end_and_stop_is_false() {
    for kind in PARENTS {
        println!("{kind:?}");
        let mut parent = Made::parent(&Scene::new(), kind);
        let (after, ran) = register(&parent.ctx);
        parent.end();
        if let Some(end) = kind.end() {
            assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
            assert!(!after.stop(), "{end:?}");
        } else {
            assert!(after.stop());
            assert_eq!(ran.try_recv(), Err(TryRecvError::Disconnected));
        }
        assert!(!after.stop());
    }
}

#[test]
fn after_func_stopped_before_end_does_not_run() {
    for kind in PARENTS.into_iter().filter(|&kind| kind != Parent::Passing) {
        println!("{kind:?}");
        let scene = Scene::new();
        let mut parent = Made::parent(&scene, kind);
        let (after, ran) = register(&parent.ctx);
        let was_open = kind.facts(&scene).end.is_none();
        assert_eq!(after.stop(), was_open);
        if was_open {
            assert_eq!(ran.try_recv(), Err(TryRecvError::Disconnected));
        }
        if let Some(registry) = &parent.registry {
            assert_eq!(registry.len(), 0);
        }
        assert_eq!(parent.facts(&scene), kind.facts(&scene));
        parent.end();
        assert!(!after.stop());
    }
}

#[test]
fn after_func_without_handle_runs_or_is_dropped() {
    for kind in PARENTS {
        println!("{kind:?}");
        let mut parent = Made::parent(&Scene::new(), kind);
        let (after, ran) = register(&parent.ctx);
        drop(after);
        if kind.end().is_none() {
            assert_eq!(ran.try_recv(), Err(TryRecvError::Disconnected));
        }
        parent.end();
        let told = ran.recv_timeout(LIMIT);
        assert_eq!(told.is_ok(), kind.end().is_some());
    }
}

#[test]
fn after_func_runs_when_context_is_dropped() {
    for kind in PARENTS {
        println!("{kind:?}");
        let parent = Made::parent(&Scene::new(), kind);
        let (after, ran) = register(&parent.ctx);
        let open = parent.let_go();
        let abandoned = kind.end().is_some();
        if abandoned {
            assert_eq!(ran.recv_timeout(LIMIT), Ok(()));
        }
        assert_eq!(after.stop(), !abandoned);
        drop(open);
    }
}
