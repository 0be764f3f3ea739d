//! `explain` and `named`: which places and names an explanation has, how it is written, and which way it
//! follows.

use std::error::Error as StdError;
use std::fmt::{self, Debug, Display};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe, Location};
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use go_context::crossbeam_channel::{bounded, Receiver};
use go_context::{
    CancelCauseFunc, CancelFunc, Context, CustomContext, EndKind, Error, Explanation, Scope,
};
use support::custom::{Channel, OwnDone, PassThrough};
use support::threads::{on_small_stack, spawn, stagger, together};
use support::{assert_ran, callback, is_open, receive, wait, Name, Task, CANCELED, HOUR};

/// Evaluates a call. Returns its value, and the line on which it is written.
macro_rules! placed {
    ($call:expr) => {
        ($call, line!())
    };
}

#[track_caller]
fn explain(ctx: &Context) -> Explanation {
    ctx.explain().expect("it is done")
}

#[track_caller]
fn assert_on_line(at: &Location<'_>, line: u32) {
    assert_eq!((at.file(), at.line()), (file!(), line));
}

#[track_caller]
fn assert_cancelled_on(ctx: &Context, line: u32) {
    let explanation = explain(ctx);
    assert_on_line(explanation.cancelled_at().expect("a place"), line);
}

fn with_cancel() -> (Context, CancelFunc) {
    Context::background().with_cancel()
}

fn fail<T>(_: &Context) -> Result<T, &'static str> {
    Err("no such file")
}

fn context_of(s: Scope<'_, '_, Error>) -> Result<Context, Error> {
    Ok(s.context().clone())
}

/// Runs a group until it fails or ends. Returns its context, and the line on which it begins.
fn group(
    f: impl for<'scope> FnOnce(Scope<'scope, '_, &'static str>) -> Result<(), &'static str>,
) -> (Context, u32) {
    let (mut kept, mut line) = (None, 0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        line = line!() + 1;
        Context::background().scope(|s| {
            kept = Some(s.context().clone());
            f(s)
        })
    }));
    drop(result);
    (kept.expect("a group"), line)
}

// Places

/// The place of each derivation is in the context's `Debug` output; that of the one where an end began
/// is in the explanation.
#[test]
fn every_derivation_records_its_call() {
    let (parent, _cancel) = with_cancel();
    let parent = &parent;
    let at = Instant::now() + HOUR;
    let own = || Context::without_cancel(parent);
    let derived = [
        placed!(parent.with_cancel().0),
        placed!(parent.with_cancel_cause().0),
        placed!(parent.with_timeout(HOUR).0),
        placed!(parent.with_timeout_cause(HOUR, "late").0),
        placed!(parent.with_timeout(Duration::MAX).0), // no deadline
        placed!(parent.with_deadline(at).0),
        placed!(parent.with_deadline_cause(at, "late").0),
        placed!(parent.with_deadline(at).0.with_timeout(2 * HOUR).0), // that of its parent
        placed!(parent.merge(&parent.with_cancel().0).0),
        placed!(parent.without_cancel()),
        placed!(own().with_cancel().0),
        placed!(Context::custom(PassThrough(parent.clone()))),
        placed!(Context::custom(Channel(parent.done()))),
        placed!(parent.scope(context_of).unwrap()),
        placed!(parent.scope_all(context_of).unwrap()),
    ];
    for (ctx, line) in &derived {
        let text = format!("{ctx:?}");
        let place = format!("derived_at: {}:{line}:", file!());
        assert!(text.contains(&place), "{text} {line}");
    }
}

#[test]
fn derived_at_is_the_call_where_the_end_began() {
    let bg = Context::background();
    let now = Instant::now();
    let done = [
        placed!(bg.with_timeout(Duration::ZERO).0),
        placed!(bg.with_timeout_cause(Duration::ZERO, "late").0),
        placed!(bg.with_deadline(now).0),
        placed!(bg.with_deadline_cause(now, "late").0),
        placed!(Context::custom(Channel(bounded(0).1))),
        placed!(bg.scope(context_of).unwrap()),
        placed!(bg.scope_all(context_of).unwrap()),
    ];
    for (ctx, line) in &done {
        let (child, _cancel) = ctx.with_cancel();
        assert_on_line(explain(&child).derived_at(), *line);
    }
    let ((ctx, cancel), line) = placed!(bg.with_cancel());
    cancel.cancel();
    assert_on_line(explain(&ctx).derived_at(), line);
    let ((ctx, cancel), line) = placed!(bg.with_cancel_cause());
    cancel.cancel("enough");
    assert_on_line(explain(&ctx).derived_at(), line);
    let ((ctx, cancel), line) = placed!(bg.merge(&Context::todo()));
    cancel.cancel();
    assert_on_line(explain(&ctx).derived_at(), line);
}

#[test]
fn cancelled_at_is_the_call_of_cancel() {
    let (ctx, cancel) = with_cancel();
    let ((), line) = placed!(cancel.cancel());
    cancel.cancel(); // too late
    assert_cancelled_on(&ctx, line);

    let (ctx, cancel) = Context::background().with_cancel_cause();
    let ((), line) = placed!(cancel.cancel("enough"));
    cancel.cancel("too late");
    assert_cancelled_on(&ctx, line);

    let (ctx, cancel) = Context::background().with_timeout(HOUR);
    let ((), line) = placed!(cancel.cancel());
    assert_cancelled_on(&ctx, line);
    assert_eq!(explain(&ctx).kind(), EndKind::Cancelled);
}

#[test]
fn cancelled_at_is_the_call_of_drop_guard() {
    let (ctx, cancel) = with_cancel();
    let (guard, line) = placed!(cancel.drop_guard());
    drop(guard);
    assert_cancelled_on(&ctx, line);

    let (ctx, cancel) = Context::background().with_cancel_cause();
    let (guard, line) = placed!(cancel.drop_guard());
    drop(guard);
    assert_cancelled_on(&ctx, line);

    let (ctx, cancel) = with_cancel();
    let cancel = cancel.drop_guard().disarm();
    let ((), line) = placed!(cancel.cancel());
    assert_cancelled_on(&ctx, line);
    assert_eq!(explain(&ctx).kind(), EndKind::Cancelled);
}

#[test]
fn cancelled_at_of_group_is_the_call_that_spawned_or_began_it() {
    let spawns: [fn(Scope<'_, '_, &'static str>) -> u32; 4] = [
        |s| placed!(s.spawn(fail::<()>)).1,
        |s| placed!(s.try_spawn(fail::<()>)).1,
        |s| placed!(s.spawn_with(Builder::new(), fail::<()>)).1,
        |s| placed!(s.cancel("enough")).1,
    ];
    for spawn in spawns {
        let mut line = 0;
        let (ctx, begun) = group(|s| {
            line = spawn(s);
            Ok(())
        });
        assert_cancelled_on(&ctx, line);
        assert_on_line(explain(&ctx).derived_at(), begun);
    }
    let ended = [
        group(|_| Ok(())),
        group(|_| Err("error")),
        group(|_| resume_unwind(Box::new(0))),
    ];
    for (ctx, begun) in ended {
        assert_cancelled_on(&ctx, begun);
    }
}

#[track_caller]
fn helper(parent: &Context) -> (Context, &'static Location<'static>) {
    let (ctx, cancel) = parent.with_cancel();
    cancel.cancel();
    (ctx, Location::caller())
}

/// The column, too.
#[test]
fn place_is_the_caller_of_a_tracked_helper() {
    let (ctx, at) = helper(&Context::background());
    assert_on_line(at, line!() - 1);
    let explanation = explain(&ctx);
    assert_eq!(explanation.derived_at(), at);
    assert_eq!(explanation.cancelled_at(), Some(at));
}

#[test]
fn place_is_within_a_closure() {
    let bg = Context::background();
    let derive = || placed!(bg.with_cancel());
    let cancel = |cancel: CancelFunc| placed!(cancel.cancel()).1;
    let ((ctx, func), derived) = derive();
    let cancelled = cancel(func);
    assert_on_line(explain(&ctx).derived_at(), derived);
    assert_cancelled_on(&ctx, cancelled);

    let (all, line) = placed!((0..3).map(|_| bg.with_cancel()).collect::<Vec<_>>());
    for (ctx, func) in all {
        let ((), cancelled) = placed!([func].iter().for_each(|func| func.cancel()));
        assert_on_line(explain(&ctx).derived_at(), line);
        assert_cancelled_on(&ctx, cancelled);
    }
}

// Texts

/// Replaces the places in this file by letters, `A` for the first of the lines, and what differs from run
/// to run.
fn normalize(text: &str, lines: &[u32]) -> String {
    let mut text = text.to_string();
    for (line, letter) in lines.iter().zip('A'..) {
        let place = format!("{}:{line}:", file!());
        while let Some(start) = text.find(&place) {
            let column = &text[start + place.len()..];
            let digits = column.find(|c: char| !c.is_ascii_digit());
            let end = digits.map_or(text.len(), |digits| start + place.len() + digits);
            text.replace_range(start..end, &letter.to_string());
        }
    }
    let late = text.split_once(" late");
    if let Some((before, after)) = late.filter(|(_, after)| !after.starts_with("ness")) {
        let (before, lateness) = before.rsplit_once(", ").expect("a comma");
        assert!(
            lateness.starts_with(|c: char| c.is_ascii_digit()),
            "{lateness}"
        );
        return format!("{before}, LATE{after}");
    }
    text
}

/// Asserts what `{:#}` writes. `{}` writes the first line of it.
#[track_caller]
fn assert_explains(ctx: &Context, lines: &[u32], expected: &[&str]) {
    let explanation = explain(ctx);
    let text = normalize(&format!("{explanation:#}"), lines);
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    let short = normalize(&explanation.to_string(), lines);
    assert_eq!(short, expected[0]);
    assert_eq!(Some(explanation.error()), ctx.err());
}

/// An error with a source.
#[derive(Debug)]
struct Chain(&'static str, Option<Box<Chain>>);

impl Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Chain {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.1.as_deref().map(|err| err as _)
    }
}

#[test]
fn explains_cancel() {
    let ((ctx, cancel), a) = placed!(with_cancel_here());
    assert!(ctx.explain().is_none());
    let ((), b) = placed!(cancel.cancel());
    assert_explains(
        &ctx,
        &[a, b],
        &[
            "context canceled: cancelled at B, derived at A",
            "  0: with_cancel at A",
        ],
    );
    assert_eq!(explain(&ctx).kind(), EndKind::Cancelled);
    let ((child, _cancel), c) = placed!(ctx.with_timeout(HOUR));
    let ((child, _cancel), d) = placed!(child.with_value(Name, String::new()).with_cancel());
    assert_explains(
        &child,
        &[a, b, c, d],
        &[
            "context canceled: cancelled at B, derived at A; 2 contexts above",
            "  0: with_cancel at D",
            "  1: with_timeout(1h0m0s) at C",
            "  2: with_cancel at A",
        ],
    );
}

#[track_caller]
fn with_cancel_here() -> (Context, CancelFunc) {
    Context::background().with_cancel()
}

#[track_caller]
fn with_cause_here() -> (Context, CancelCauseFunc) {
    Context::background().with_cancel_cause()
}

#[test]
fn explains_cause_and_its_sources() {
    let ((ctx, cancel), a) = placed!(with_cause_here());
    let root = Chain("the\r\ndisk is full", None);
    let cause = Chain(
        "no\nanswer",
        Some(Box::new(Chain("no write", Some(Box::new(root))))),
    );
    let ((), b) = placed!(cancel.cancel(cause));
    let ((child, _cancel), c) = placed!(ctx.with_cancel());
    assert_explains(
        &child,
        &[a, b, c],
        &[
            "context canceled: no answer; cancelled at B, derived at A; 1 context above",
            "  0: with_cancel at C",
            "  1: with_cancel at A",
            "caused by:",
            "  0: no answer",
            "  1: no write",
            "  2: the  disk is full",
        ],
    );
}

#[test]
fn explains_guard() {
    let ((ctx, cancel), a) = placed!(with_cancel_here());
    let (guard, b) = placed!(cancel.drop_guard());
    drop(guard);
    assert_explains(
        &ctx,
        &[a, b],
        &[
            "context canceled: guard made at B was dropped, derived at A",
            "  0: with_cancel at A",
        ],
    );
    assert_eq!(explain(&ctx).kind(), EndKind::Dropped);
}

#[test]
fn explains_timeout() {
    let timeout = Duration::from_micros(1_500);
    let ((ctx, _cancel), a) = placed!(Context::background().with_timeout(timeout));
    let ctx = ctx.named("db.query");
    let ((child, _cancel), b) = placed!(ctx.with_cancel());
    wait(&child);
    assert_explains(
        &child,
        &[a, b],
        &[
            "context deadline exceeded: 1.5ms timeout set at A (\"db.query\"), LATE; 1 context above",
            "  0: with_cancel at B",
            "  1: with_timeout(1.5ms) at A (\"db.query\")",
        ],
    );
    let explanation = explain(&child);
    assert_eq!(explanation.kind(), EndKind::Deadline);
    assert_eq!(explanation.timeout(), Some(timeout));
    assert_eq!(explanation.cancelled_at(), None);
    assert_eq!(explanation.origin_depth(), 1);
    assert_eq!(explanation.name(), Some("db.query"));
}

#[test]
fn explains_deadline() {
    let past = Instant::now() - Duration::from_secs(2);
    let ((ctx, _cancel), a) = placed!(Context::background().with_deadline(past));
    assert_explains(
        &ctx,
        &[a],
        &[
            "context deadline exceeded: deadline set at A, LATE",
            "  0: with_deadline at A",
        ],
    );
    let ((ctx, _cancel), a) = placed!(Context::background().with_deadline_cause(past, "slow"));
    assert_explains(
        &ctx,
        &[a],
        &[
            "context deadline exceeded: slow; deadline set at A, LATE",
            "  0: with_deadline at A",
            "caused by:",
            "  0: slow",
        ],
    );
    let explanation = explain(&ctx);
    assert_eq!(explanation.timeout(), None);
    assert!(explanation.lateness() >= Some(Duration::from_secs(2)));
}

#[test]
fn explains_end_of_second_parent() {
    let ((first, _cancel), a) = placed!(with_cancel_here());
    let ((second, cancel), b) = placed!(with_cancel_here());
    let first = first.named("first");
    let ((middle, _cancel), c) = placed!(second.named("second").with_cancel());
    let ((merged, _cancel), d) = placed!(first.merge(&middle));
    let merged = merged.named("merged");
    let ((child, _cancel), e) = placed!(merged.with_cancel());
    let ((), f) = placed!(cancel.cancel());
    assert_explains(
        &child,
        &[a, b, c, d, e, f],
        &[
            "context canceled: cancelled at F, derived at B (\"second\"); 3 contexts above",
            "  0: with_cancel at E",
            "  1: merge at D (\"merged\")",
            "  2: with_cancel at C",
            "  3: with_cancel at B (\"second\")",
        ],
    );
}

#[test]
fn explains_custom_context() {
    let (ctx, a) = placed!(Context::custom(Channel(bounded(0).1)));
    let ((child, _cancel), b) = placed!(ctx.with_cancel());
    assert_explains(
        &child,
        &[a, b],
        &[
            "context canceled: custom context support::custom::Channel created at A; 1 context above",
            "  0: with_cancel at B",
            "  1: support::custom::Channel at A",
        ],
    );
    let explanation = explain(&child);
    assert_eq!(explanation.kind(), EndKind::Custom);
    assert_eq!(explanation.cancelled_at(), None);
    assert_eq!(explanation.lateness(), None);
}

/// It ends by itself, even though the context that it wraps has ended, too.
#[test]
fn explains_custom_context_with_own_channel() {
    let (inner, cancel) = Context::background().with_cancel_cause();
    cancel.cancel("inner");
    let (ctx, a) = placed!(Context::custom(OwnDone(inner, bounded(0).1)));
    assert_explains(
        &ctx,
        &[a],
        &[
            "context canceled: inner; custom context support::custom::OwnDone created at A",
            "  0: support::custom::OwnDone at A",
            "caused by:",
            "  0: inner",
        ],
    );
}

#[test]
fn explains_custom_context_by_the_one_it_wraps() {
    let ((inner, cancel), a) = placed!(with_cancel_here());
    let (ctx, b) = placed!(Context::custom(PassThrough(inner)));
    let ((child, _cancel), c) = placed!(ctx.with_cancel());
    let ((), d) = placed!(cancel.cancel());
    assert_explains(
        &child,
        &[a, b, c, d],
        &[
            "context canceled: cancelled at D, derived at A; 2 contexts above",
            "  0: with_cancel at C",
            "  1: support::custom::PassThrough at B",
            "  2: with_cancel at A",
        ],
    );
}

/// It is a cause like any other, unlike the error of the context itself.
#[test]
fn explains_cancel_with_other_error_as_cause() {
    let ((ctx, cancel), a) = placed!(Context::background().with_cancel_cause());
    let ((), b) = placed!(cancel.cancel(Error::DeadlineExceeded));
    let lines = [
        "context canceled: context deadline exceeded; cancelled at B, derived at A",
        "  0: with_cancel at A",
        "caused by:",
        "  0: context deadline exceeded",
    ];
    assert_explains(&ctx, &[a, b], &lines);
}

/// Has another error than the context that it wraps.
struct Translates(Context, Error);

impl CustomContext for Translates {
    fn done(&self) -> Receiver<()> {
        self.0.done()
    }

    fn err(&self) -> Option<Error> {
        self.0.err().map(|_| self.1)
    }

    fn wrapped(&self) -> Option<&Context> {
        Some(&self.0)
    }
}

/// The kind is that of the end where it began, whatever error a custom context makes of it.
#[test]
fn explains_custom_context_with_another_error() {
    let past = Instant::now() - Duration::from_secs(2);
    let ((passed, _cancel), a) = placed!(Context::background().with_deadline(past));
    let (ctx, b) = placed!(Context::custom(Translates(passed, Error::Canceled)));
    let lines = [
        "context canceled: context deadline exceeded; deadline set at A, LATE; 1 context above",
        "  0: it::explain::Translates at B",
        "  1: with_deadline at A",
        "caused by:",
        "  0: context deadline exceeded",
    ];
    assert_explains(&ctx, &[a, b], &lines);
    assert_eq!(explain(&ctx).kind(), EndKind::Deadline);
    assert!(explain(&ctx).lateness() >= Some(Duration::from_secs(2)));

    let ((open, cancel), a) = placed!(Context::background().with_timeout(HOUR));
    let ctx = Context::custom(Translates(open, Error::DeadlineExceeded));
    let (child, _cancel) = ctx.with_cancel();
    let ((), b) = placed!(cancel.cancel());
    for ctx in [&ctx, &child] {
        let text = normalize(&explain(ctx).to_string(), &[a, b]);
        assert!(text.contains(" cancelled at B, derived at A; "), "{text}");
        assert_eq!(explain(ctx).kind(), EndKind::Cancelled);
        assert_eq!(explain(ctx).lateness(), None);
    }
}

#[test]
fn explains_group_failed_by_worker() {
    let mut b = 0;
    let (ctx, a) = group(|s| {
        s.spawn(|_| Ok(()));
        b = placed!(s.spawn(fail::<()>)).1;
        Ok(())
    });
    assert_explains(
        &ctx,
        &[a, b],
        &[
            "context canceled: worker 2 failed: no such file; spawned at B, group started at A",
            "  0: scope at A",
            "caused by:",
            "  0: no such file",
        ],
    );
    assert_eq!(explain(&ctx).kind(), EndKind::Failed);

    let (ctx, a) = group(|s| {
        let fetch = Builder::new().name("fetch \"1\"".into());
        b = placed!(s.spawn_with(fetch, fail::<()>)).1;
        Ok(())
    });
    let text = normalize(&explain(&ctx).to_string(), &[a, b]);
    let failed = r#"worker 1 on thread "fetch \"1\"" failed: no such file"#;
    let places = "spawned at B, group started at A";
    assert_eq!(text, format!("{CANCELED}: {failed}; {places}"));
}

#[test]
fn explains_group_failed_by_its_function() {
    let (ctx, a) = group(|_| Err("no\nsuch file"));
    assert_explains(
        &ctx,
        &[a],
        &[
            "context canceled: the group's function failed: no such file; group started at A",
            "  0: scope at A",
            "caused by:",
            "  0: no such file",
        ],
    );
    assert_eq!(explain(&ctx).kind(), EndKind::Failed);
}

#[test]
fn explains_group_failed_by_panic() {
    let mut b = 0;
    let boom = |_: &Context| -> Result<(), _> { resume_unwind(Box::new("boom")) };
    let (ctx, a) = group(|s| {
        b = placed!(s.spawn(boom)).1;
        Ok(())
    });
    assert_explains(
        &ctx,
        &[a, b],
        &[
            "context canceled: worker 1 panicked: boom; spawned at B, group started at A",
            "  0: scope at A",
            "caused by:",
            "  0: worker 1 panicked: boom (spawned at B)",
        ],
    );
    assert_eq!(explain(&ctx).kind(), EndKind::Failed);

    let (ctx, a) = group(|_| resume_unwind(Box::new("boom")));
    assert_explains(
        &ctx,
        &[a],
        &[
            "context canceled: the group's function panicked: boom; group started at A",
            "  0: scope at A",
            "caused by:",
            "  0: the group's function panicked: boom",
        ],
    );
    assert_eq!(explain(&ctx).kind(), EndKind::Failed);
}

#[test]
fn explains_group_ended() {
    let (ctx, a) = group(|s| {
        s.spawn(|_| Ok(()));
        Ok(())
    });
    assert_explains(
        &ctx,
        &[a],
        &[
            "context canceled: group started at A has ended",
            "  0: scope at A",
        ],
    );
    assert_eq!(explain(&ctx).kind(), EndKind::Finished);
}

#[test]
fn explains_scope_cancel() {
    let mut b = 0;
    let (ctx, a) = group(|s| {
        b = placed!(s.cancel("enough")).1;
        Ok(())
    });
    assert_explains(
        &ctx,
        &[a, b],
        &[
            "context canceled: enough; cancelled at B, derived at A",
            "  0: scope at A",
            "caused by:",
            "  0: enough",
        ],
    );
    assert_eq!(explain(&ctx).kind(), EndKind::Cancelled);
}

#[test]
fn debug_has_all_fields() {
    let ((ctx, cancel), a) = placed!(with_cause_here());
    let ((), b) = placed!(cancel.cancel("enough"));
    let text = format!("{:?}", explain(&ctx.named("job")));
    assert_eq!(
        normalize(&text, &[a, b]),
        "Explanation { error: Canceled, kind: Cancelled, cause: \"enough\", name: Some(\"job\"), \
         derived_at: A, cancelled_at: Some(\"B\"), timeout: None, lateness: None, origin_depth: 0 }"
    );
}

// The way that an end took

#[test]
fn merge_is_explained_by_the_parent_that_ended_first() {
    for order in [[0, 1], [1, 0]] {
        let (parents, cancels): (Vec<_>, Vec<_>) = (0..2).map(|_| with_cancel()).unzip();
        let (merged, _cancel) = parents[0].merge(&parents[1]);
        let (child, _cancel) = merged.with_cancel();
        let lines = order.map(|parent| placed!(cancels[parent].cancel()).1);
        for (ctx, depth) in [(&merged, 1), (&child, 2), (&parents[order[0]], 0)] {
            assert_eq!(explain(ctx).origin_depth(), depth);
            assert_cancelled_on(ctx, lines[0]);
        }
    }
}

#[test]
fn merge_is_explained_by_its_own_end() {
    let (first, cancel_first) = with_cancel();
    let (second, cancel_second) = with_cancel();
    let (merged, cancel) = first.merge(&second);
    let ((), line) = placed!(cancel.cancel());
    cancel_first.cancel();
    cancel_second.cancel();
    assert_cancelled_on(&merged, line);
    assert_eq!(explain(&merged).origin_depth(), 0);
}

/// Which of a hundred parents ends is found through merges of merges, with its name.
#[test]
fn nested_merges_are_explained() {
    for index in [0, 1, 50, 99] {
        let parents: Vec<_> = (0..100).map(|_| with_cancel()).collect();
        let named = |index: usize| parents[index].0.named(format!("parent {index}"));
        let mut merged = named(0);
        for index in 1..100 {
            merged = match index % 2 {
                0 => named(index).merge(&merged).0,
                _ => merged.merge(&named(index)).0,
            };
        }
        parents[index].1.cancel();
        let explanation = explain(&merged);
        assert_eq!(explanation.name(), Some(&*format!("parent {index}")));
        assert_eq!(explanation.origin_depth(), 100 - index.max(1));
    }
}

/// Longer than what `err` passes at once.
#[test]
fn unregistered_chain_is_explained() {
    let (top, cancel) = with_cancel();
    let mut chain = vec![top];
    for depth in 0..40 {
        chain.push(chain[depth].with_cancel().0);
    }
    let ((), line) = placed!(cancel.cancel());
    for (depth, ctx) in chain.iter().enumerate().rev() {
        assert_eq!(explain(ctx).origin_depth(), depth);
        assert_cancelled_on(ctx, line);
    }
}

#[test]
fn context_cancelled_before_its_parent_is_explained_by_itself() {
    for registered in [false, true] {
        let (top, cancel_top) = with_cancel();
        let (middle, cancel_middle) = top.with_cancel();
        let (child, _cancel) = middle.with_cancel();
        let _done = registered.then(|| child.done());
        let ((), line) = placed!(cancel_middle.cancel());
        let ((), top_line) = placed!(cancel_top.cancel());
        assert_cancelled_on(&top, top_line);
        for (ctx, depth) in [(&child, 1), (&middle, 0)] {
            assert_cancelled_on(ctx, line);
            assert_eq!(explain(ctx).origin_depth(), depth);
        }
    }
}

#[test]
fn without_cancel_ends_the_way() {
    let (parent, cancel_parent) = with_cancel();
    let apart = parent.without_cancel();
    let ((child, cancel), line) = placed!(apart.with_cancel());
    cancel_parent.cancel();
    assert!(apart.explain().is_none() && child.explain().is_none());
    let ((), cancelled) = placed!(cancel.cancel());
    let explanation = explain(&child);
    assert_eq!(explanation.origin_depth(), 0);
    assert_on_line(explanation.derived_at(), line);
    assert_cancelled_on(&child, cancelled);
}

#[test]
fn deadline_of_a_parent_is_not_that_of_the_child() {
    let (parent, _cancel) = Context::background().with_timeout(HOUR);
    let ((child, cancel), line) = placed!(parent.with_timeout(2 * HOUR));
    cancel.cancel();
    let explanation = explain(&child);
    assert_eq!(explanation.kind(), EndKind::Cancelled);
    assert_eq!(
        (explanation.timeout(), explanation.lateness()),
        (None, None)
    );
    assert_on_line(explanation.derived_at(), line);
}

#[test]
fn million_contexts_are_explained_on_a_small_stack() {
    on_small_stack(|| {
        let depth = 1_000_000;
        let (top, cancel) = with_cancel();
        let top = top.named("top");
        let mut ctx = top.clone();
        for _ in 0..depth {
            ctx = ctx.with_cancel().0;
        }
        let ((), line) = placed!(cancel.cancel());
        let explanation = explain(&ctx);
        assert_eq!(explanation.origin_depth(), depth);
        assert_eq!(explanation.name(), Some("top"));
        assert_cancelled_on(&ctx, line);

        let text = format!("{explanation:#}");
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].ends_with("; 1000000 contexts above"),
            "{}",
            lines[0]
        );
        assert_eq!(lines.len(), 1 + 100 + 2);
        for (index, line) in lines[1..101].iter().enumerate() {
            assert!(
                line.starts_with(&format!("  {index}: with_cancel at ")),
                "{line}"
            );
        }
        assert_eq!(lines[101], "  ... 999900 more");
        assert!(
            lines[102].starts_with("  1000000: with_cancel at "),
            "{}",
            lines[102]
        );
    });
}

/// One context more than are listed is listed, too: it is the one where the end began.
#[test]
fn hundred_and_one_contexts_are_listed() {
    for (depth, left_out) in [(99, None), (100, None), (101, Some("  ... 1 more"))] {
        let (mut ctx, cancel) = with_cancel();
        for _ in 0..depth {
            ctx = ctx.with_cancel().0;
        }
        cancel.cancel();
        let text = format!("{:#}", explain(&ctx));
        let places = text
            .lines()
            .filter(|line| line.contains(": with_cancel at "));
        assert_eq!(places.count(), 101.min(depth + 1), "{text}");
        assert_eq!(text.lines().find(|line| line.contains("...")), left_out);
        assert!(text
            .lines()
            .last()
            .unwrap()
            .starts_with(&format!("  {depth}: ")));
    }
}

/// Two cancels, one above the other, and threads that ask meanwhile.
#[test]
fn every_thread_gets_the_same_explanation() {
    for round in 0..200 {
        let (top, cancel_top) = with_cancel();
        let (middle, cancel_middle) = top.with_cancel();
        let (ctx, _cancel) = middle.with_cancel();
        let _done = (round % 2 == 0).then(|| ctx.done());
        let (sender, texts) = bounded(4);
        let ask = || -> Task {
            let (ctx, sender) = (ctx.clone(), sender.clone());
            Box::new(move || {
                while ctx.err().is_none() {}
                sender.send(format!("{:#}", explain(&ctx))).unwrap();
            })
        };
        let cancel = |cancel: CancelFunc, round: usize| -> Task {
            Box::new(move || {
                stagger(round);
                cancel.cancel();
            })
        };
        let cancels = [
            cancel(cancel_top, round),
            cancel(cancel_middle, 99 - round / 2),
        ];
        together(cancels.into_iter().chain([ask(), ask()]).collect());
        let last = format!("{:#}", explain(&ctx));
        assert_eq!([receive(&texts), receive(&texts)], [last.clone(), last]);
    }
}

// Names

#[test]
fn name_belongs_to_the_handle_and_what_is_derived_from_it() {
    let (ctx, cancel) = with_cancel();
    let named = ctx.named("job");
    let renamed = named.named(String::from("other"));
    let (child, cancel_child) = named.with_cancel();
    let below = named.with_value(Name, "x".into());
    cancel.cancel();
    cancel_child.cancel();
    let name = |ctx: &Context| explain(ctx).name().map(str::to_owned);
    assert_eq!(name(&ctx), None);
    assert_eq!(name(&named).as_deref(), Some("job"));
    assert_eq!(name(&renamed).as_deref(), Some("other"));
    assert_eq!(name(&below).as_deref(), Some("job"));
    // The end began in the parent, which the child was derived from under this name.
    assert_eq!(name(&child).as_deref(), Some("job"));
}

#[test]
fn name_is_inherited() {
    let (ctx, _cancel) = with_cancel();
    let ctx = ctx.named("request").with_value(Name, "value".into());
    let (child, _cancel) = ctx.without_cancel().with_cancel();
    let (grandchild, cancel) = child.with_cancel();
    assert!(format!("{grandchild:?}").contains("name: \"request\""));
    cancel.cancel();
    assert_eq!(explain(&grandchild).name(), Some("request"));
    let (other, cancel) = ctx.named("query").with_cancel();
    cancel.cancel();
    assert_eq!(explain(&other).name(), Some("query"));
}

#[test]
fn named_is_the_same_context() {
    let (ctx, cancel) = with_cancel();
    let ctx = ctx.with_value(Name, "value".into());
    let named = ctx.named("job").named("other");
    assert!(named.ptr_eq(&ctx.named("third")));
    assert_eq!(named.to_string(), ctx.to_string());
    assert!(named.done().same_channel(&ctx.done()));
    assert_eq!(named.value(&Name).map(String::as_str), Some("value"));
    assert_eq!(
        named.with_cancel().0.value(&Name).map(String::as_str),
        Some("value")
    );
    assert!(!named.ptr_eq(&named.with_value(Name, "other".into())));
    cancel.cancel();
    assert_eq!(named.err(), Some(Error::Canceled));
}

#[test]
fn named_ptr_eq_ignores_names() {
    let (ctx, _cancel) = with_cancel();
    let value = ctx.with_value(Name, "value".into());
    for ctx in [Context::background(), Context::todo(), ctx, value] {
        assert!(ctx.ptr_eq(&ctx.named("job")));
        assert!(ctx.named("job").ptr_eq(&ctx));
        assert!(ctx.named("job").ptr_eq(&ctx.named("a").named("b")));
    }
}

#[test]
fn name_of_a_root_is_inherited() {
    let (child, cancel) = Context::background().named("root").with_cancel();
    cancel.cancel();
    assert_eq!(explain(&child).name(), Some("root"));
    assert!(format!("{:?}", Context::todo().named("root")).contains("name: \"root\""));
    assert!(Context::background().named("root").explain().is_none());
}

#[test]
fn name_with_quotes_and_newlines_is_escaped() {
    let ((ctx, cancel), a) = placed!(with_cancel_here());
    let name = "a \"b\"\nc";
    let ((), b) = placed!(cancel.cancel());
    let ctx = ctx.named(name);
    assert_explains(
        &ctx,
        &[a, b],
        &[
            r#"context canceled: cancelled at B, derived at A ("a \"b\"\nc")"#,
            r#"  0: with_cancel at A ("a \"b\"\nc")"#,
        ],
    );
    assert_eq!(explain(&ctx).name(), Some(name));
}

// The explanation itself

#[test]
fn explanation_can_be_shared() {
    fn check<T: Send + Sync + Clone + Debug + Display + 'static>(_: &T) {}

    let (ctx, cancel) = with_cancel();
    cancel.cancel();
    let explanation = explain(&ctx);
    check(&explanation);
    let copy = explanation.clone();
    let text = spawn(move || format!("{copy:#}"));
    assert_eq!(receive(&text), format!("{explanation:#}"));
}

#[test]
fn explanation_keeps_no_context_alive() {
    let (parent, cancel_parent) = with_cancel();
    let (ctx, cancel) = parent.named("parent").with_cancel();
    let (other, cancel_other) = with_cancel();
    let (merged, cancel_merged) = ctx.merge(&other);
    cancel.cancel();
    let explanation = explain(&merged);
    let done = parent.done();
    let ran = [callback(&parent), callback(&other)];
    assert!(is_open(&done));
    drop((parent, cancel_parent, ctx, cancel));
    drop((other, cancel_other, merged, cancel_merged));
    ran.iter().for_each(assert_ran);
    assert!(!is_open(&done));
    assert_eq!(explanation.origin_depth(), 1);
}

#[test]
fn open_context_has_no_explanation() {
    let (ctx, _cancel) = Context::background().with_timeout(HOUR);
    let custom = Context::custom(PassThrough(ctx.clone()));
    for ctx in [Context::background(), Context::todo(), ctx, custom] {
        assert!(ctx.explain().is_none());
    }
}

/// `err` and `cause` agree.
#[test]
fn explanation_has_err_and_cause() {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    let (child, _cancel) = ctx.with_cancel();
    cancel.cancel("enough");
    let explanation = explain(&child);
    assert_eq!(explanation.error(), Error::Canceled);
    let cause = child.cause().unwrap();
    assert!(Arc::ptr_eq(explanation.cause(), &cause));
}
