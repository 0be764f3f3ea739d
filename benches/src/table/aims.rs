//! The order of the rows, and what is aimed at in each.

use std::thread;

pub(crate) const GO: &str = "Go";
pub(crate) const TOKIO: &str = "tokio-util";
pub(crate) const FLOOR: &str = "without";

/// The most that a figure may be.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// As a part of another column's figure.
    Of(&'static str, f64),
    /// The same, or the second number in the unit of the row if that is more.
    OfOr(&'static str, f64, f64),
    /// In the unit of the row.
    Absolute(f64),
    /// In the unit of the row, for each core.
    PerCore(f64),
}

use Aim::{Absolute, Of, OfOr, PerCore};

impl Aim {
    /// The column that this is compared with.
    pub(crate) fn column(self) -> Option<&'static str> {
        match self {
            Of(column, _) | OfOr(column, ..) => Some(column),
            Absolute(_) | PerCore(_) => None,
        }
    }

    /// Returns the most that the figure may be, given that of the column.
    pub(crate) fn limit(self, column: Option<f64>) -> Option<f64> {
        match self {
            Of(_, part) => Some(part * column?),
            OfOr(_, part, at_least) => Some((part * column?).max(at_least)),
            Absolute(limit) => Some(limit),
            PerCore(limit) => Some(limit * cores() as f64),
        }
    }

    /// Describes the aim in a row of that unit.
    pub(crate) fn describe(self, unit: &str) -> String {
        let with_unit = |n: f64| match unit {
            "ns" if n >= 1e6 => format!("{} ms", n / 1e6),
            "of 80" => n.to_string(),
            unit => format!("{n} {unit}"),
        };
        match self {
            Of(column, part) => format!("≤ {part} {column}"),
            OfOr(column, part, at_least) => {
                format!("≤ {part} {column} or {}", with_unit(at_least))
            }
            Absolute(limit) => format!("≤ {}", with_unit(limit)),
            PerCore(limit) => format!("≤ {limit} per core"),
        }
    }
}

pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Rows under a heading, in the order in which they are printed.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// A `*` in a name stands for anything. The first name that fits a row counts.
    pub(crate) rows: &'static [(&'static str, &'static [Aim])],
}

/// A deadline may be 10 ms late if Go's is not late at all.
const PUNCTUAL: Aim = OfOr(GO, 1.5, 10e6);

pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "Contexts in use",
        rows: &[
            (
                "create + cancel + drop, err() once",
                &[Of(GO, 0.3), Of(TOKIO, 0.6)],
            ),
            ("create + cancel + drop, done() once", &[Of(GO, 0.8)]),
            ("with_timeout + cancel + drop, done() once", &[Of(GO, 0.5)]),
            (
                "create + cancel + drop under one parent, threads=2, err() once",
                &[Of(GO, 0.3)],
            ),
            (
                "create + cancel + drop under one parent, threads=2, done() once",
                &[Of(GO, 0.6)],
            ),
            ("WithTimeout/concurrency=*, err() once", &[Of(GO, 0.35)]),
            ("CheckCanceled/Err", &[Of(GO, 0.15)]),
            ("CheckCanceled/Done", &[Of(GO, 1.0)]),
            ("ErrOK", &[Of(GO, 0.5)]),
            ("ErrCanceled", &[Of(GO, 0.15)]),
            ("check, open, threads=*", &[Of(TOKIO, 0.8)]),
            ("ContextCancelDone, done() once", &[Of(GO, 1.0)]),
            ("ContextCancelDone", &[Of(GO, 2.0)]),
            (
                "DeepValueSameGoRoutine/depth=100, other type",
                &[Of(GO, 0.02)],
            ),
            ("DeepValueSameGoRoutine/depth=100", &[Of(GO, 0.5)]),
            ("DeepValueSameGoRoutine/depth=100, far end", &[Of(GO, 0.5)]),
            ("cancel a million children, err() once", &[Of(GO, 0.15)]),
            ("cancel a million children, done() once", &[Of(FLOOR, 0.8)]),
            ("wake-up, threads=1: median", &[Of(FLOOR, 1.2)]),
            ("wake-up, threads=64: *", &[Of(FLOOR, 0.8)]),
            ("deadline lateness: median", &[Of(GO, 0.2)]),
            ("deadline lateness*: too early", &[Absolute(0.0)]),
        ],
    },
    Section {
        title: "Under load",
        rows: &[
            ("10,000 short after-funcs: cancel() returns", &[Of(GO, 1.0)]),
            ("10,000 short after-funcs: all have run", &[Of(GO, 1.0)]),
            ("10,000 short after-funcs: threads", &[PerCore(4.0)]),
            ("1,000 after-funcs that wait *", &[Absolute(200e6)]),
            ("unrelated deadline *", &[PUNCTUAL]),
            ("CPU, *: timer", &[Of(FLOOR, 1.3)]),
        ],
    },
    Section {
        title: "Memory",
        rows: &[
            (
                "live bytes, cancel*, done() once: requested",
                &[Absolute(350.0)],
            ),
            ("live bytes, cancel*: requested", &[Absolute(144.0)]),
        ],
    },
    Section {
        title: "Contexts that are not asked",
        rows: &[
            ("create + cancel + drop", &[Of(GO, 0.25), Of(TOKIO, 0.5)]),
            ("with_timeout + cancel + drop", &[Of(GO, 0.4)]),
            ("WithTimeout/concurrency=*", &[Of(GO, 0.25)]),
            ("CommonParentCancel", &[Of(GO, 0.25)]),
            ("CancelTree/depth=10*/Root=Background", &[Of(GO, 0.25)]),
            ("CancelTree/depth=10*/Root=OpenCanceler", &[Of(GO, 0.25)]),
            ("CancelTree/depth=10*/Root=ClosedCanceler", &[Of(GO, 0.45)]),
        ],
    },
    Section {
        title: "Without an aim",
        rows: &[("*", &[])],
    },
];

/// Returns the section of a row, its place there, and its aims.
pub(crate) fn find(row: &str) -> (usize, usize, &'static [Aim]) {
    for (s, section) in SECTIONS.iter().enumerate() {
        for (place, (pattern, aims)) in section.rows.iter().enumerate() {
            if fits(row, pattern) {
                return (s, place, aims);
            }
        }
    }
    unreachable!("the last section takes any row")
}

fn fits(row: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => row == pattern,
        Some((before, after)) => row.strip_prefix(before).is_some_and(|rest| {
            // The last section's `*` has nothing after it, so this finds the end of the row.
            rest.ends_with(after)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A misspelt name would let an aim vanish from the table.
    #[test]
    fn section_each_pattern_has_a_row() {
        let names: Vec<String> = crate::ours().iter().flat_map(crate::row_names).collect();
        let found: Vec<_> = names.iter().map(|name| find(name)).collect();
        for (s, section) in SECTIONS.iter().enumerate() {
            for (place, (pattern, _)) in section.rows.iter().enumerate() {
                let has_row = found.iter().any(|found| (found.0, found.1) == (s, place));
                assert!(has_row, "{pattern}");
            }
        }
    }
}
