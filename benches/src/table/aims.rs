//! What is asked of a row, and what to bear in mind when reading it.

/// The most that ours may be, as a part of another's.
#[derive(Clone, Copy)]
pub(crate) struct Aim {
    pub(crate) of: &'static str,
    pub(crate) at_most: f64,
}

pub(crate) fn aim(row: &str) -> Option<Aim> {
    let beside = |of, at_most| Some(Aim { of, at_most });
    match row {
        "CheckCanceled/Err" | "ErrCanceled" => beside(GO, 0.15),
        "CheckCanceled/Done" | "ContextCancelDone, done() once" => beside(GO, 1.0),
        "ContextCancelDone" => beside(GO, 2.0),
        "ErrOK" => beside(GO, 0.5),
        "DeepValueSameGoRoutine/depth=100, other type" => beside(GO, 0.02),
        "DeepValueSameGoRoutine/depth=100" | "DeepValueSameGoRoutine/depth=100, far end" => {
            beside(GO, 0.5)
        }
        "deadline lateness: median" => beside(GO, 0.2),
        "CommonParentCancel" => beside(GO, 0.25),
        "create + cancel + drop" => beside(TOKIO, 0.8),
        _ if begins(row, &["check, open", "cancel a "]) => beside(TOKIO, 0.8),
        // What comes of looking at a context, or of rounding, is shown and not aimed at.
        _ if row.contains("() once") || row.ends_with("rounded") => None,
        _ if begins(row, &["WithTimeout/", "CancelTree/"]) => beside(GO, 0.25),
        _ if begins(row, &["live bytes"]) => beside(GO, 1.0),
        _ if begins(row, &["wake-up,"]) => beside(FLOOR, 1.2),
        _ => None,
    }
}

pub(crate) const GO: &str = "Go";
pub(crate) const TOKIO: &str = "tokio-util";
pub(crate) const FLOOR: &str = "without";

/// Footnotes, each for the rows that begin so.
pub(crate) const NOTES: &[(&[&str], &str)] = &[
    (
        &["CommonParentCancel"],
        "Go's benchmark divides two hundred times in each operation, and the compilers leave different \
         amounts of that. The loops have a row of their own.",
    ),
    (
        &["DeepValueNewGoRoutine"],
        "A thread against a goroutine. `without`: a thread that does nothing. On a thread that is kept: \
         the context goes there and the answer comes back through channels, in Go as well.",
    ),
    (
        &[
            "CommonParentCancel",
            "WithTimeout",
            "ContextCancelDone",
            "create + cancel + drop under one parent",
            "check, open",
            "select loop",
        ],
        "Wall time for each operation of all threads together.",
    ),
    (&["WithTimeout"], "Ten contexts in each operation."),
    (
        &["ContextCancelDone, done() once"],
        "Go's benchmark asks each time, and that is what stands here too.",
    ),
    (
        &["select loop"],
        "The work is always ready. `without`: the same loop, without the context.",
    ),
    (
        &["wake-up"],
        "From just before `cancel()` until the blocked threads run, goroutines in Go. `without`: a \
         Mutex and a Condvar, `notify_all`. Last: the median, over the rounds, of the last to run.",
    ),
    (
        &["deadline lateness"],
        "Of 80 timeouts of 5 to 20 ms, one at a time; p99 is thus the worst but one. `without`: \
         `thread::sleep`.",
    ),
    (
        &["live bytes"],
        "With the handles (context and cancel function). Asked: what is asked of the allocator. Rounded: \
         what malloc makes of that, in steps of 16 with 8 before. Go's are after rounding both times.",
    ),
    (
        &["cancel a million", "cancel a chain"],
        "A context that nobody has looked at is not known to its parent: there is nothing to do for it, \
         and it finds out when it is looked at. With `err() once` each is known.",
    ),
    (
        &["cancel a chain"],
        "cancellation-token and kithara recurse and would overflow: 10,000 levels, on a stack of 1 GiB.",
    ),
    (
        &["cancel a million"],
        "kithara is quadratic in the children: 1,000.",
    ),
    (
        &["create + cancel + drop", "create + drop"],
        "A child of a live parent. io-context has no way down: its child only asks upwards. The others' \
         `err()` is `is_cancelled()`.",
    ),
    (
        &["after_func"],
        "Go starts a goroutine for the function, we a thread that is kept.",
    ),
];

fn begins(row: &str, with: &[&str]) -> bool {
    with.iter().any(|begin| row.starts_with(begin))
}

/// The numbers of the footnotes of a row, from 0.
pub(crate) fn notes(row: &str) -> Vec<usize> {
    let apply = |i: &usize| begins(row, NOTES[*i].0);
    (0..NOTES.len()).filter(apply).collect()
}
