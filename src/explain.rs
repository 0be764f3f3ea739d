//! Why a context is done, in detail: what ended it, where in the program, and how late.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Display, Write};
use std::iter;
use std::panic::Location;
use std::time::Duration;

use crate::context::Context;
use crate::display::GoDuration;
use crate::error::{Cause, Error};
use crate::extension::Extension;
use crate::merge::MergedValues;
use crate::runtime::sync::Arc;
use crate::scope::Failure;
use crate::tree::{CancelledBy, CauseIn, Kind, Limit, LinkIndex, Node};
use crate::value::ValueNode;

/// # Explanations
impl Context {
    /// Returns in detail why the context is done: what ended it, where in the program, and how late.
    /// Returns `None` if it is not done. Go has no equivalent.
    ///
    /// The explanation follows the end upwards from this context to the one where it began, for example
    /// an ancestor whose deadline passed. It agrees with [`err`](Context::err) and
    /// [`cause`](Context::cause), and is the same on every thread. It does not keep the contexts
    /// alive.
    ///
    /// Nothing has to be enabled: every context records where it was derived, and the one where an end
    /// begins records where that was. The call itself allocates memory, and takes time in proportion to
    /// the number of levels up to that context. It normally does not block, like `err`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use go_context::Context;
    ///
    /// fn query(ctx: &Context) -> Result<(), String> {
    ///     let limit = Duration::from_millis(20);
    ///     let (ctx, _cancel) = ctx.with_timeout(limit);
    ///     let ctx = ctx.named("db.query");
    ///     ctx.wait();
    ///     Err(ctx.explain().unwrap().to_string())
    /// }
    ///
    /// let text = query(&Context::background()).unwrap_err();
    /// // For example "context deadline exceeded: 20ms timeout set at
    /// // src/db.rs:6:30 ("db.query"), 150µs late".
    /// assert!(text.starts_with("context deadline exceeded: 20ms timeout set at "));
    /// ```
    #[must_use]
    pub fn explain(&self) -> Option<Explanation> {
        let error = self.err()?;
        let node = self.node.as_ref()?;
        Some(Explanation::new(self, node, error, self.cause()?))
    }

    /// Returns the same context under a name, for [explanations](Context::explain) and `Debug` output. Go
    /// has no equivalent.
    ///
    /// Like [`with_value`](Context::with_value) it does not change the context itself: the returned handle
    /// has the name, and so do contexts that are derived from it, unless they get one of their own.
    ///
    /// # Examples
    ///
    /// ```
    /// use go_context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let ctx = ctx.named("request 17");
    /// cancel.cancel();
    /// let explanation = ctx.explain().unwrap();
    /// assert_eq!(explanation.name(), Some("request 17"));
    /// ```
    #[must_use]
    pub fn named(&self, name: impl Into<Cow<'static, str>>) -> Context {
        self.with_extension(Name(name.into()))
    }
}

/// The name of a context.
pub(crate) struct Name(Cow<'static, str>);

impl Context {
    pub(crate) fn name(&self) -> Option<&str> {
        let mut nodes = self.values.nodes();
        let name = nodes.find_map(Extension::<Name>::data)?;
        Some(&*name.0)
    }

    /// Returns the address of the values without the names that were given last, or 0.
    pub(crate) fn values_address(&self) -> usize {
        let mut nodes = self.values.nodes();
        let first = nodes.find(|node| Extension::<Name>::data(*node).is_none());
        first.map_or(0, |node| node as *const dyn ValueNode as *const () as usize)
    }
}

/// What ended a context. Returned by [`Explanation::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndKind {
    /// A function cancelled it, such as [`CancelFunc::cancel`](crate::CancelFunc::cancel) or
    /// [`Scope::cancel`](crate::Scope::cancel).
    Cancelled,
    /// A handle that cancels it was dropped: a [`DropGuard`](crate::DropGuard), or the `StopFunc` of a
    /// `NotifyContext`.
    Dropped,
    /// Its deadline passed.
    Deadline,
    /// A signal arrived.
    Signal,
    /// A [custom context](Context::custom) ended.
    Custom,
    /// A worker of a [group](Context::scope) failed, or the function that spawned them.
    Failed,
    /// A [group](Context::scope) ended, so its context did.
    Finished,
}

/// Explains why a context is done. Returned by [`Context::explain`].
///
/// `{}` writes one line:
///
/// ```text
/// context deadline exceeded: 20ms timeout set at src/db.rs:41:9 ("db.query"), 1.2ms late; 2 contexts above
/// ```
///
/// `{:#}` writes more lines: one for each context, from the one that was asked up to the one where the end
/// began, and then the cause and its sources:
///
/// ```text
/// context deadline exceeded: 20ms timeout set at src/db.rs:41:9 ("db.query"), 1.2ms late; 2 contexts above
///   0: with_cancel at src/row.rs:12:30
///   1: with_cancel at src/db.rs:52:13
///   2: with_timeout(20ms) at src/db.rs:41:9 ("db.query")
/// ```
///
/// Paths are as the compiler got them. For programs that are given away, see
/// [rustc's `--remap-path-prefix`][remap].
///
/// [remap]: https://doc.rust-lang.org/rustc/command-line-arguments.html#--remap-path-prefix-remap-source-names-in-output
///
/// # Examples
///
/// ```
/// use go_context::{Context, EndKind};
///
/// let (parent, cancel) = Context::background().with_cancel_cause();
/// let (child, _cancel) = parent.with_cancel();
/// cancel.cancel("the client has gone");
///
/// let explanation = child.explain().unwrap();
/// assert_eq!(explanation.kind(), EndKind::Cancelled);
/// assert_eq!(explanation.origin_depth(), 1);
/// assert_eq!(explanation.derived_at().file(), file!());
/// assert_eq!(explanation.cancelled_at().unwrap().file(), file!());
/// let text = explanation.to_string();
/// assert!(text.starts_with("context canceled: the client has gone; cancelled at "));
/// assert!(text.ends_with("; 1 context above"));
/// ```
#[derive(Clone)]
pub struct Explanation {
    error: Error,
    cause: Cause,
    kind: EndKind,
    /// The contexts from the one asked, at most `MOST_LINES` of them, and the one where the end began.
    path: Vec<Derivation>,
    depth: usize,
    cancelled_at: Option<&'static Location<'static>>,
    lateness: Option<Duration>,
}

/// How one of the contexts was derived.
#[derive(Clone)]
struct Derivation {
    /// The method, or the name of a custom context.
    method: Cow<'static, str>,
    timeout: Option<Duration>,
    at: &'static Location<'static>,
    name: Option<Cow<'static, str>>,
}

/// How many contexts `{:#}` lists at most, apart from the one where the end began. A chain may be a
/// million contexts deep.
const MOST_LINES: usize = 100;

impl Explanation {
    /// Returns the context's [error](Context::err).
    #[must_use]
    pub fn error(&self) -> Error {
        self.error
    }

    /// Returns the context's [cause](Context::cause).
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Returns what ended the context.
    #[must_use]
    pub fn kind(&self) -> EndKind {
        self.kind
    }

    /// Returns where the context was derived in which the end began. For a deadline this is where the
    /// deadline or timeout was set.
    #[must_use]
    pub fn derived_at(&self) -> &'static Location<'static> {
        self.origin().at
    }

    /// Returns where the context was cancelled: the call of the function that did so; for a guard, the call
    /// that created it; for a group that failed, the call that spawned the worker; for a group that ended, the
    /// call of `scope`.
    ///
    /// Returns `None` for deadlines, signals and custom contexts, and if the program cancels in more than
    /// 32,768 places.
    #[must_use]
    pub fn cancelled_at(&self) -> Option<&'static Location<'static>> {
        self.cancelled_at
    }

    /// Returns how many contexts up the end began: 0 if it began in the context that was asked, 1 if in its
    /// parent. [`with_value`](Context::with_value) does not count.
    #[must_use]
    pub fn origin_depth(&self) -> usize {
        self.depth
    }

    /// Returns the timeout that has passed, if it was given as a [`Duration`].
    ///
    /// It is exact up to one second, and then rounded: to microseconds, above 17 minutes to milliseconds,
    /// above 12 days to seconds.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match self.kind {
            EndKind::Deadline => self.origin().timeout,
            _ => None,
        }
    }

    /// Returns how long after its deadline the context was done. Returns `None` if no deadline has ended it.
    ///
    /// The deadline of a context that nothing waits for takes effect when it is next asked, for example by
    /// [`Context::err`], and counts as late until then.
    ///
    /// It is exact up to 4 ms, and then rounded: to microseconds, above 4 s to milliseconds, above 70
    /// minutes to seconds.
    #[must_use]
    pub fn lateness(&self) -> Option<Duration> {
        self.lateness
    }

    /// Returns the [name](Context::named) of the context in which the end began, or the nearest name above it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.origin().name.as_deref()
    }

    /// Follows the end from a context, which is done, up to where it began.
    fn new<'a>(
        ctx: &'a Context,
        mut node: &'a Arc<Node>,
        error: Error,
        cause: Cause,
    ) -> Explanation {
        let (mut path, mut depth) = (Vec::new(), 0);
        let mut values = ctx.values.nodes().peekable();
        loop {
            let (mut name, mut merged) = (None, None);
            while let Some(value) = values.next_if(|value| value.meta().node == node.address()) {
                name = name.or_else(|| Extension::<Name>::data(value));
                merged = merged.or_else(|| value.as_any().downcast_ref::<MergedValues>());
            }
            let above = node.ended_by();
            if above.is_none() {
                // The end may have begun below the context that has the name.
                name = name.or_else(|| values.find_map(Extension::<Name>::data));
            }
            if path.len() < MOST_LINES || above.is_none() {
                path.push(Derivation::new(node, name));
            }
            if let (Some((LinkIndex::Second, _)), Some(merged)) = (above, merged) {
                values = merged.other.values.nodes().peekable();
            }
            let Some((_, parent)) = above else { break };
            node = parent;
            depth += 1;
        }
        let (kind, cancelled_at, lateness) = how_it_began(node);
        Explanation {
            error,
            cause,
            kind,
            path,
            depth,
            cancelled_at,
            lateness,
        }
    }

    /// Returns the context in which the end began.
    fn origin(&self) -> &Derivation {
        self.path.last().expect("the context that was asked")
    }

    /// Returns whether no cause was given.
    fn cause_is_error(&self) -> bool {
        self.cause.downcast_ref() == Some(&self.error)
    }

    /// Writes what ended the context.
    fn write_end(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set_at = Place(self.origin());
        match self.cause.downcast_ref::<Failure>() {
            Some(failure) if self.kind == EndKind::Failed => {
                write!(OneLine(&mut *f), "{}; ", failure.describe())?;
            }
            _ if self.cause_is_error() => {}
            _ => write!(OneLine(&mut *f), "{}; ", self.cause)?,
        }
        match (self.kind, self.cancelled_at) {
            (EndKind::Deadline, _) => {
                match self.origin().timeout {
                    Some(timeout) => write!(f, "{} timeout", GoDuration(timeout))?,
                    None => f.write_str("deadline")?,
                }
                let late = self.lateness.map(two_digits).unwrap_or_default();
                write!(f, " set at {set_at}, {} late", GoDuration(late))
            }
            (EndKind::Signal, _) => write!(f, "caught since {set_at}"),
            (EndKind::Custom, _) => {
                write!(
                    f,
                    "custom context {} created at {set_at}",
                    self.origin().method
                )
            }
            (EndKind::Failed, Some(at)) if at != self.origin().at => {
                write!(f, "spawned at {at}, group started at {set_at}")
            }
            (EndKind::Failed, _) => write!(f, "group started at {set_at}"),
            (EndKind::Finished, _) => write!(f, "group started at {set_at} has ended"),
            // The handle that `NotifyContext::start` returned with the context.
            (EndKind::Dropped, Some(at)) if at == self.origin().at => {
                write!(f, "StopFunc of {set_at} was dropped")
            }
            (EndKind::Dropped, Some(at)) => {
                write!(f, "guard made at {at} was dropped, derived at {set_at}")
            }
            (EndKind::Dropped, None) => write!(f, "guard was dropped, derived at {set_at}"),
            (EndKind::Cancelled, Some(at)) => {
                write!(f, "cancelled at {at}, derived at {set_at}")
            }
            (EndKind::Cancelled, None) => write!(f, "cancelled, derived at {set_at}"),
        }
    }
}

impl Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.error)?;
        self.write_end(f)?;
        match self.depth {
            0 => {}
            1 => f.write_str("; 1 context above")?,
            depth => write!(f, "; {depth} contexts above")?,
        }
        if !f.alternate() {
            return Ok(());
        }
        let left_out = self.depth + 1 - self.path.len();
        for (i, derivation) in self.path.iter().enumerate() {
            let is_last = i + 1 == self.path.len();
            if is_last && left_out > 0 {
                write!(f, "\n  ... {left_out} more")?;
            }
            let index = if is_last { self.depth } else { i };
            write!(f, "\n  {index}: {}", derivation.method)?;
            if let Some(timeout) = derivation.timeout {
                write!(f, "({})", GoDuration(timeout))?;
            }
            write!(f, " at {}", Place(derivation))?;
        }
        if self.cause_is_error() {
            return Ok(());
        }
        f.write_str("\ncaused by:")?;
        let first: &(dyn StdError + 'static) = &*self.cause;
        for (i, err) in iter::successors(Some(first), |&err| err.source()).enumerate() {
            write!(f, "\n  {i}: ")?;
            write!(OneLine(&mut *f), "{err}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explanation")
            .field("error", &self.error)
            .field("kind", &self.kind)
            .field("cause", &self.cause)
            .field("name", &self.name())
            .field("derived_at", &format_args!("{}", self.derived_at()))
            .field("cancelled_at", &self.cancelled_at.map(ToString::to_string))
            .field("timeout", &self.timeout())
            .field("lateness", &self.lateness)
            .field("origin_depth", &self.depth)
            .finish()
    }
}

/// Returns how an end began in this node: its kind, where the node was cancelled, and how late after its
/// deadline it ended. A custom context below may give another error and cause for the same end.
fn how_it_began(
    node: &Node,
) -> (
    EndKind,
    Option<&'static Location<'static>>,
    Option<Duration>,
) {
    let Some(end) = node.end() else {
        return (EndKind::Custom, None, None);
    };
    if end.error == Error::DeadlineExceeded {
        return (EndKind::Deadline, None, Some(end.origin.lateness()));
    }
    let kind = match end.origin.cancelled_by() {
        CancelledBy::Func => EndKind::Cancelled,
        CancelledBy::Guard => EndKind::Dropped,
        CancelledBy::Signal => EndKind::Signal,
        CancelledBy::Group if end.cause == CauseIn::Node => EndKind::Failed,
        CancelledBy::Group => EndKind::Finished,
    };
    (kind, end.origin.cancelled_at(), None)
}

impl Derivation {
    fn new(node: &Node, name: Option<&Name>) -> Derivation {
        let (timed, timeout) = match node.limit() {
            Limit::None => ("with_cancel", None),
            Limit::Deadline => ("with_deadline", None),
            Limit::Timeout(timeout) => ("with_timeout", Some(timeout)),
        };
        let method = match node.kind() {
            Kind::Cancel | Kind::Deadline => timed.into(),
            Kind::Group => "scope".into(),
            Kind::Merge => "merge".into(),
            Kind::Signals => {
                let names = node.signal_names().unwrap_or_default();
                format!("NotifyContext [{names}]").into()
            }
            Kind::Custom => {
                let mut name = OneLine(String::new());
                let _ = write!(name, "{}", CustomName(node)); // it is user code, and may fail
                name.0.into()
            }
            Kind::Todo => "todo".into(),
            Kind::WithoutCancel => "without_cancel".into(),
        };
        Derivation {
            method,
            timeout,
            at: node.derived_at(),
            name: name.map(|name| name.0.clone()),
        }
    }
}

struct CustomName<'a>(&'a Node);

impl Display for CustomName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .external()
            .map_or(Ok(()), |external| external.name(f))
    }
}

/// The place of a derivation, and the name of the context.
struct Place<'a>(&'a Derivation);

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.at)?;
        match &self.0.name {
            Some(name) => write!(f, " ({name:?})"),
            None => Ok(()),
        }
    }
}

/// Writes a text without its line breaks.
struct OneLine<W>(W);

impl<W: fmt::Write> fmt::Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (i, line) in text.split(['\n', '\r']).enumerate() {
            if i > 0 {
                self.0.write_str(" ")?;
            }
            self.0.write_str(line)?;
        }
        Ok(())
    }
}

/// Cuts a duration off after two digits, or after the seconds, which are written as minutes and hours.
fn two_digits(duration: Duration) -> Duration {
    let nanos = duration.as_nanos() as u64;
    let mut unit = 1;
    while nanos / unit >= 100 && unit < 1_000_000_000 {
        unit *= 10;
    }
    Duration::from_nanos(nanos / unit * unit)
}
