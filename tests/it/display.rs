//! What contexts, handles and errors print.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::io;
use std::panic::Location;
use std::time::{Duration, Instant};

use go_context::{CancelCauseFunc, Context, Error, Key};
use support::HOUR;

#[derive(PartialEq, Eq)]
struct User;

impl Key for User {
    type Value = String;
}

#[derive(PartialEq, Eq)]
enum Setting {
    Limit(u32),
}

impl Key for Setting {
    type Value = u32;
}

/// A key of a generic type, for values of a type without `Display` and `Debug`.
#[derive(PartialEq, Eq)]
struct Tagged<T>(T);

struct Session;

impl Key for Tagged<u8> {
    type Value = Option<Session>;
}

fn user(ctx: &Context) -> Context {
    ctx.with_value(User, "secret".into())
}

fn cancel(ctx: &Context) -> Context {
    ctx.with_cancel().0
}

fn timeout(ctx: &Context, timeout: Duration) -> Context {
    ctx.with_timeout(timeout).0
}

/// Parses a duration in Go's form; its sign is returned separately.
fn parse(text: &str) -> Option<(bool, Duration)> {
    let (passed, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let scale = 10_u64.pow(u32::try_from(part.len()).ok()?);
        let part: u64 = format!("0{part}").parse().ok()?;
        let nanos = whole.parse::<u64>().ok()? * unit + part * unit / scale;
        sum += Duration::from_nanos(nanos);
        rest = tail;
    }
    Some((passed, sum))
}

/// Asserts that the context displays as `form`, where each `[]` stands for the time left until the
/// next of `deadlines`, and `.User` for a value with that key.
#[track_caller]
fn assert_prints(ctx: &Context, form: &str, deadlines: &[Instant]) {
    let before = Instant::now();
    let text = ctx.to_string();
    let after = Instant::now();

    let form = form.replace(
        ".User",
        ".WithValue(it::display::User, alloc::string::String)",
    );
    let mut rest = &*text;
    let mut deadlines = deadlines.iter();
    for (n, literal) in form.split("[]").enumerate() {
        if n > 0 {
            let at = *deadlines.next().expect("one deadline for each []");
            let number = rest.strip_prefix('[').expect("a number in brackets");
            let (number, tail) = number.split_once(']').expect("a number in brackets");
            let (passed, by) = parse(number).unwrap_or_else(|| panic!("{number} in {text}"));
            // The deadline is that far from a moment between `before` and `after`.
            let read = if passed { at + by } else { at - by };
            assert!(before <= read && read <= after, "{number} in {text}");
            rest = tail;
        }
        rest = rest
            .strip_prefix(literal)
            .unwrap_or_else(|| panic!("{text} is not {form}"));
    }
    assert_eq!((rest, deadlines.len()), ("", 0), "{text} is not {form}");
}

#[test]
fn display_of_every_kind_is_that_of_go() {
    let (bg, todo) = (Context::background(), Context::todo());
    let at = |ctx: &Context| ctx.deadline().expect("there is a deadline");
    let timed = timeout(&bg, HOUR);
    let late = timeout(&bg, 5000 * HOUR);
    let twice = timeout(&late, HOUR);
    let below_detached = timeout(&timed.without_cancel(), 2 * HOUR);
    let passed = Instant::now() - Duration::from_millis(1500);

    let cases: [(&Context, &str, &[Instant]); 26] = [
        (&bg, "context.Background", &[]),
        (&Context::default(), "context.Background", &[]),
        (&todo, "context.TODO", &[]),
        (&cancel(&bg), "context.Background.WithCancel", &[]),
        (&cancel(&todo), "context.TODO.WithCancel", &[]),
        (
            &bg.with_cancel_cause().0,
            "context.Background.WithCancel",
            &[],
        ),
        (
            &cancel(&cancel(&bg)),
            "context.Background.WithCancel.WithCancel",
            &[],
        ),
        (&timed, "context.Background.WithDeadline([])", &[at(&timed)]),
        (
            &bg.with_deadline_cause(at(&timed), "too slow").0,
            "context.Background.WithDeadline([])",
            &[at(&timed)],
        ),
        (
            &todo.with_deadline(passed).0,
            "context.TODO.WithDeadline([])",
            &[passed],
        ),
        // A deadline that is not the context's own is not displayed.
        (
            &timeout(&timed, 2 * HOUR),
            "context.Background.WithDeadline([]).WithCancel",
            &[at(&timed)],
        ),
        (
            &timeout(&bg, Duration::MAX),
            "context.Background.WithCancel",
            &[],
        ),
        (
            &timed.with_deadline(at(&timed)).0,
            "context.Background.WithDeadline([]).WithDeadline([])",
            &[at(&timed), at(&timed)],
        ),
        (
            &twice,
            "context.Background.WithDeadline([]).WithDeadline([])",
            &[at(&late), at(&twice)],
        ),
        (
            &bg.without_cancel(),
            "context.Background.WithoutCancel",
            &[],
        ),
        (&todo.without_cancel(), "context.TODO.WithoutCancel", &[]),
        (
            &cancel(&bg).without_cancel(),
            "context.Background.WithCancel.WithoutCancel",
            &[],
        ),
        (
            &below_detached.with_deadline(passed).0,
            "context.Background.WithDeadline([]).WithoutCancel.WithDeadline([]).WithDeadline([])",
            &[at(&timed), at(&below_detached), passed],
        ),
        (&user(&bg), "context.Background.User", &[]),
        (
            &todo.with_value(Setting::Limit(3), 4),
            "context.TODO.WithValue(it::display::Setting, u32)",
            &[],
        ),
        (
            &bg.with_value(Tagged(1), Some(Session)),
            "context.Background\
             .WithValue(it::display::Tagged<u8>, core::option::Option<it::display::Session>)",
            &[],
        ),
        (&user(&user(&bg)), "context.Background.User.User", &[]),
        (
            &cancel(&user(&bg)),
            "context.Background.User.WithCancel",
            &[],
        ),
        (&user(&cancel(&todo)), "context.TODO.WithCancel.User", &[]),
        (
            &user(&user(&twice)).without_cancel(),
            "context.Background.WithDeadline([]).WithDeadline([]).User.User.WithoutCancel",
            &[at(&late), at(&twice)],
        ),
        (
            &user(&cancel(&user(&cancel(&user(&todo).without_cancel())))),
            "context.TODO.User.WithoutCancel.WithCancel.User.WithCancel.User",
            &[],
        ),
    ];
    for (ctx, form, deadlines) in cases {
        assert_prints(ctx, form, deadlines);
        assert_prints(&cancel(ctx), &format!("{form}.WithCancel"), deadlines);
        assert_prints(&user(ctx), &format!("{form}.User"), deadlines);
        // Derived contexts do not change it.
        assert_prints(ctx, form, deadlines);
    }
}

#[test]
fn display_is_unchanged_once_done() {
    let (parent, cancel_parent) = Context::background().with_cancel_cause();
    let (ctx, _cancel) = parent.with_timeout_cause(HOUR, "too slow");
    let ctx = user(&ctx);
    let at = ctx.deadline().expect("there is a deadline");
    let form = "context.Background.WithCancel.WithDeadline([]).User";
    assert_prints(&ctx, form, &[at]);
    cancel_parent.cancel("enough");
    assert_prints(&ctx, form, &[at]);
    let born_done = format!("{form}.WithCancel");
    assert_prints(&cancel(&ctx), &born_done, &[at]);

    let soon = Instant::now() + Duration::from_millis(5);
    let (ctx, _cancel) = Context::background().with_deadline(soon);
    assert_eq!(ctx.wait(), Error::DeadlineExceeded);
    assert_prints(&ctx, "context.Background.WithDeadline([])", &[soon]);
    assert!(ctx.to_string().contains("([-"), "the deadline has passed");
}

#[test]
fn display_and_debug_hide_values() {
    let ctx = user(&Context::background()).with_value(Setting::Limit(4711), 1234);
    for text in [format!("{ctx}"), format!("{ctx:?}"), format!("{ctx:#?}")] {
        assert!(text.contains("alloc::string::String"), "{text}");
        assert!(text.contains("it::display::Setting, u32"), "{text}");
        for hidden in ["secret", "4711", "1234"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}

#[test]
fn display_alternate_is_the_same() {
    let ctx = user(&cancel(&Context::background()));
    assert_eq!(format!("{ctx:#}"), ctx.to_string());
}

/// Returns a context, the function that cancels it, and the place of the call.
#[track_caller]
fn placed() -> (Context, CancelCauseFunc, &'static Location<'static>) {
    let (ctx, cancel) = Context::background().with_cancel_cause();
    (ctx, cancel, Location::caller())
}

#[test]
fn debug_adds_place_and_err_to_display() {
    let (ctx, cancel, at) = placed();
    let path = "path: context.Background.WithCancel";
    let open = format!("Context {{ {path}, derived_at: {at}, err: None }}");
    assert_eq!(format!("{ctx:?}"), open);
    cancel.cancel("enough");
    let done = format!("Context {{ {path}, derived_at: {at}, err: Some(Canceled) }}");
    assert_eq!(format!("{ctx:?}"), done);
    let pretty = format!(
        "Context {{\n    {path},\n    derived_at: {at},\n    \
         err: Some(\n        Canceled,\n    ),\n}}"
    );
    assert_eq!(format!("{ctx:#?}"), pretty);
}

#[test]
fn debug_of_root_has_no_place() {
    let roots = [
        (Context::background(), "context.Background"),
        (Context::todo(), "context.TODO"),
    ];
    for (ctx, path) in roots {
        let text = format!("Context {{ path: {path}, err: None }}");
        assert_eq!(format!("{ctx:?}"), text);
    }
}

#[test]
fn debug_adds_name() {
    let (ctx, _cancel, at) = placed();
    let ctx = ctx.named("db \"query\"");
    let path = "context.Background.WithCancel";
    let name = r#"name: "db \"query\"""#;
    let text = format!("Context {{ path: {path}, {name}, derived_at: {at}, err: None }}");
    assert_eq!(format!("{ctx:?}"), text);
}

#[test]
fn debug_of_handles_is_their_type() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (_ctx, cancel_with_cause) = ctx.with_cancel_cause();
    assert_eq!(format!("{cancel:?}"), "CancelFunc { .. }");
    assert_eq!(format!("{cancel_with_cause:?}"), "CancelCauseFunc { .. }");
    assert_eq!(format!("{:?}", cancel.drop_guard()), "DropGuard { .. }");
    assert_eq!(format!("{:?}", ctx.after_func(|| ())), "AfterFunc { .. }");
}

const BOTH: [Error; 2] = [Error::Canceled, Error::DeadlineExceeded];

#[test]
fn error_displays_as_in_go() {
    let [canceled, exceeded] = BOTH;
    assert_eq!(canceled.to_string(), "context canceled");
    assert_eq!(exceeded.to_string(), "context deadline exceeded");
    assert_eq!(
        format!("{canceled:?} {exceeded:?}"),
        "Canceled DeadlineExceeded"
    );
    assert!(!canceled.is_timeout());
    assert!(exceeded.is_timeout());
}

#[test]
fn error_display_pads_to_width() {
    let err = Error::Canceled;
    assert_eq!(format!("[{err:20}]"), "[context canceled    ]");
    assert_eq!(format!("[{err:>20}]"), "[    context canceled]");
    assert_eq!(format!("[{err:-^20}]"), "[--context canceled--]");
    assert_eq!(format!("[{err:.7}]"), "[context]");
    assert_eq!(format!("[{err:#}]"), "[context canceled]");
}

#[test]
fn error_is_copy_and_eq() {
    let [canceled, exceeded] = BOTH;
    let copy = canceled;
    assert_eq!(copy, canceled);
    assert_ne!(canceled, exceeded);
    let set = HashSet::from([canceled, exceeded, copy]);
    assert_eq!(set.len(), 2);
    assert!(BOTH.iter().all(|err| set.contains(err)));
}

#[test]
fn error_boxes_and_has_no_source() {
    fn fail(err: Error) -> Result<(), Box<dyn StdError + Send + Sync>> {
        Err(err)?;
        Ok(())
    }
    for err in BOTH {
        let boxed = fail(err).expect_err("it fails");
        assert_eq!(boxed.to_string(), err.to_string());
        assert_eq!(boxed.downcast_ref(), Some(&err));
        assert!(boxed.source().is_none());
    }
}

#[test]
fn error_converts_into_io_error() {
    fn fail(err: Error) -> io::Result<()> {
        Err(err)?;
        Ok(())
    }
    let kinds = [io::ErrorKind::Other, io::ErrorKind::TimedOut];
    for (err, kind) in BOTH.into_iter().zip(kinds) {
        let converted = fail(err).expect_err("it fails");
        assert_eq!(converted.kind(), kind);
        assert_eq!(converted.to_string(), err.to_string());
        let inner = converted.get_ref().expect("the error is kept");
        assert_eq!(inner.downcast_ref(), Some(&err));
    }
}

#[test]
fn cause_displays_its_source() {
    let bg = Context::background();
    let (ctx, cancel) = bg.with_cancel_cause();
    cancel.cancel(format!("{} reasons", 2));
    assert_eq!(ctx.cause().unwrap().to_string(), "2 reasons");

    let (ctx, cancel) = bg.with_cancel_cause();
    cancel.cancel(io::Error::new(io::ErrorKind::NotFound, "no such file"));
    let cause = ctx.cause().expect("the context is done");
    assert_eq!(cause.to_string(), "no such file");
    let kind = cause.downcast_ref().map(io::Error::kind);
    assert_eq!(kind, Some(io::ErrorKind::NotFound));

    let (ctx, cancel) = bg.with_cancel();
    cancel.cancel();
    assert_eq!(ctx.cause().unwrap().to_string(), "context canceled");
}
