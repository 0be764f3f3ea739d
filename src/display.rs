//! The `Display` and `Debug` output of a context, in Go's form.

use std::collections::BTreeSet;
use std::fmt;
use std::iter;
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::merge::MergedValues;
use crate::tree::{Kind, Node};
use crate::value::ValueNode;

/// Writes how the context was derived, from its root to the context itself, in Go's form.
///
/// For a deadline this contains the time that is left, for a value the types of its key and of the
/// value, and never the value itself. The output does not change when the context is done, except
/// that the time left becomes negative. A merged context displays as `first.Merge(other)`; one that
/// appears many times is eventually abbreviated to `.Merge(...)`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use go_context::{Context, Key};
///
/// #[derive(PartialEq, Eq)]
/// struct User;
/// impl Key for User {
///     type Value = String;
/// }
///
/// let (ctx, _cancel) = Context::background().with_cancel();
/// let text = ctx.with_value(User, "secret".into()).to_string();
/// assert!(text.starts_with("context.Background.WithCancel.WithValue("));
/// assert!(text.ends_with("::User, alloc::string::String)"));
///
/// let day = Duration::from_secs(24 * 3600);
/// let (ctx, _cancel) = Context::todo().with_timeout(day);
/// // For example "context.TODO.WithDeadline([23h59m59.999987s])".
/// assert!(ctx.to_string().starts_with("context.TODO.WithDeadline([23h"));
/// ```
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A stack of what is left to write, because recursion could overflow the thread's stack.
        let mut parts = vec![Part::Context(self)];
        // If a context is merged with itself, the result with itself and so on, the first one would
        // be written 2^depth times.
        let mut repeats = 0..1000;
        let mut merges = BTreeSet::new();
        while let Some(part) = parts.pop() {
            match part {
                Part::Context(ctx) => push_parts(ctx, &mut parts),
                Part::Text(text) => f.write_str(text)?,
                Part::Node(node) => write_node(node, f)?,
                Part::Value(value) => match value.as_any().downcast_ref::<MergedValues>() {
                    Some(merged)
                        if merges.insert(merged as *const MergedValues)
                            || repeats.next().is_some() =>
                    {
                        f.write_str(".Merge(")?;
                        parts.extend([Part::Text(")"), Part::Context(&merged.other)]);
                    }
                    Some(_) => f.write_str(".Merge(...)")?,
                    None => f.write_str(&value.text())?,
                },
            }
        }
        Ok(())
    }
}

enum Part<'a> {
    Context(&'a Context),
    Text(&'static str),
    Node(&'a Node),
    Value(&'a dyn ValueNode),
}

/// Pushes the parts of a context: the last derivation first, the root last.
fn push_parts<'a>(ctx: &'a Context, parts: &mut Vec<Part<'a>>) {
    let mut node = ctx.node.as_deref();
    let mut values = ctx.values.nodes().peekable();
    let mut openings = 0;
    // Merges the two lists: values were added below the node that they name.
    loop {
        let address = node.map_or(0, Node::address);
        if let Some(value) = values.next_if(|value| value.meta().node == address) {
            parts.push(Part::Value(value));
            continue;
        }
        let Some(inner) = node else {
            parts.push(Part::Text("context.Background"));
            break;
        };
        parts.push(Part::Node(inner));
        match inner.kind() {
            Kind::Todo | Kind::Custom => break,
            Kind::Signals => openings += 1,
            Kind::Cancel | Kind::Group | Kind::Deadline | Kind::Merge | Kind::WithoutCancel => {}
        }
        node = inner.parent().map(|parent| &**parent);
    }
    // A context for signals is written around everything it was derived from.
    parts.extend(iter::repeat_with(|| Part::Text("signal.NotifyContext(")).take(openings));
}

fn write_node(node: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match node.kind() {
        Kind::Todo => f.write_str("context.TODO"),
        Kind::Custom => node.external().map_or(Ok(()), |external| external.name(f)),
        Kind::Cancel | Kind::Group => f.write_str(".WithCancel"),
        Kind::Signals => write!(f, ", [{}])", node.signal_names().unwrap_or_default()),
        Kind::WithoutCancel => f.write_str(".WithoutCancel"),
        Kind::Deadline => match node.deadline() {
            Some(deadline) => {
                f.write_str(".WithDeadline([")?;
                write_time_left(deadline, f)?;
                f.write_str("])")
            }
            None => Ok(()),
        },
        Kind::Merge => Ok(()), // printed with its values
    }
}

/// Writes the `Display` output, the [name](Context::named), where the context was derived, and the error.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut context = f.debug_struct("Context");
        context.field("path", &format_args!("{self}"));
        if let Some(name) = self.name() {
            context.field("name", &name);
        }
        if let Some(node) = self.node.as_ref().filter(|node| node.kind() != Kind::Todo) {
            context.field("derived_at", &format_args!("{}", node.derived_at()));
        }
        context.field("err", &self.err()).finish()
    }
}

/// Writes the time until a deadline.
fn write_time_left(deadline: Instant, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let now = Instant::now();
    if deadline < now {
        f.write_str("-")?;
    }
    write!(f, "{}", GoDuration(deadline.max(now) - deadline.min(now)))
}

/// Displays like Go's `time.Duration`.
pub(crate) struct GoDuration(pub(crate) Duration);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.subsec_nanos();
        match self.0.as_secs() {
            0 if nanos == 0 => f.write_str("0s"),
            0 if nanos < 1_000 => write!(f, "{nanos}ns"),
            0 if nanos < 1_000_000 => {
                write_decimal(f, (nanos / 1_000).into(), nanos % 1_000, 3, "µs")
            }
            0 => write_decimal(f, (nanos / 1_000_000).into(), nanos % 1_000_000, 6, "ms"),
            secs => {
                let (hours, minutes) = (secs / 3600, secs / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write_decimal(f, secs % 60, nanos, 9, "s")
            }
        }
    }
}

/// Writes a number with its decimal places, except trailing zeros.
fn write_decimal(
    f: &mut fmt::Formatter<'_>,
    whole: u64,
    part: u32,
    digits: usize,
    unit: &str,
) -> fmt::Result {
    let part = format!(".{part:0digits$}");
    write!(f, "{whole}{}{unit}", part.trim_end_matches(['0', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_has_the_form_of_go() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_000, "1µs"),
            (956_368, "956.368µs"),
            (1_000_000, "1ms"),
            (1_050_000, "1.05ms"),
            (1_000_000_000, "1s"),
            (4_900_000_000, "4.9s"),
            (10_000_000_000, "10s"),
            (60_000_000_000, "1m0s"),
            (61_000_000_001, "1m1.000000001s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_399_999_942_973, "1h29m59.999942973s"),
            (132_473_537_878_640_229, "36798h12m17.878640229s"),
        ];
        for (nanos, text) in cases {
            let by = Duration::from_nanos(nanos);
            assert_eq!(GoDuration(by).to_string(), text);
        }
    }
}
