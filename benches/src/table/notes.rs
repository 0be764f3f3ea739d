//! What to bear in mind when reading a row.

/// Footnotes, each for the rows whose names begin like this.
pub(crate) const NOTES: &[(&[&str], &str)] = &[
    (
        &["CommonParentCancel"],
        "Go's benchmark divides two hundred times in each operation, and the two compilers leave \
         different amounts of that. The loops have a row of their own.",
    ),
    (
        &["DeepValueNewGoRoutine"],
        "A thread beside a goroutine. `without`: a thread that does nothing. On a thread that is kept: \
         the context and the answer pass through channels, in Go as well.",
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
        "Wall time divided by the operations of all threads.",
    ),
    (&["WithTimeout"], "Ten contexts in each operation."),
    (
        &["ContextCancelDone, done() once"],
        "Go's benchmark calls `Done` each time; this row stands beside the same benchmark.",
    ),
    (
        &["select loop"],
        "The work is always ready. `without`: the same loop without the context.",
    ),
    (
        &["wake-up"],
        "From just before `cancel()` until the blocked threads run; goroutines in Go. `without`: one bare \
         crossbeam channel on which all threads select. Last: the median, over the rounds, of the last \
         thread to run.",
    ),
    (
        &["deadline lateness"],
        "Of 80 timeouts of 5 to 20 ms, one at a time; p99 is thus the second latest. `without`: \
         `thread::sleep`.",
    ),
    (
        &["live bytes"],
        "Including the handles: context and cancel function. Requested: of the allocator. Rounded: what \
         malloc takes for that, in steps of 16 bytes including a word of its own. Go's are rounded \
         both times.",
    ),
    (
        &["cancel a million children", "cancel a chain"],
        "A context that has no channel may not be registered with its parent: then the cancellation has \
         nothing to do for it, and it looks upwards when it is asked. The rows that call `err()` \
         afterwards include that.",
    ),
    (
        &["cancel a million children, done() once"],
        "The receivers are alive. `without`: dropping the senders of a million `unbounded` channels.",
    ),
    (
        &["cancel a chain"],
        "cancellation-token and kithara recurse and would overflow: 10,000 levels, on a stack of 1 GiB.",
    ),
    (
        &["cancel a million children"],
        "kithara is quadratic in the number of children: 1,000.",
    ),
    (
        &[
            "create + cancel + drop",
            "create + drop",
            "check, open",
            "ErrOK",
            "ErrCanceled",
            "CheckCanceled/Err",
        ],
        "The others' `err()` is `is_cancelled()`. In io-context a cancellation does not reach children: \
         they ask their parents.",
    ),
    (
        &["CancelTree"],
        "Crates without a background context begin with a root of their own.",
    ),
    (
        &["after_func"],
        "Go starts a goroutine for the function; this crate runs it on a thread that is kept.",
    ),
    (
        &["10,000 short", "1,000 after-funcs"],
        "One after-func on each child of one parent, from just before `cancel()`. In Go the threads are \
         those that the process has started.",
    ),
    (
        &["unrelated deadline"],
        "How late a thread is that waits for a deadline 1 ms after the event. The waiting threads are \
         goroutines in Go; `without`: threads on a bare channel, and a thread that sleeps.",
    ),
    (
        &["CPU,"],
        "`without`: a hand-written timer, a BTreeMap under a Mutex and a thread that waits on a Condvar; \
         it sets a flag where a context closes a channel. Timer: the process without the thread that \
         sets the deadlines. Go's runtime has no such thread.",
    ),
];

/// Returns the numbers of the footnotes of a row, from 0.
pub(crate) fn notes(row: &str) -> Vec<usize> {
    let apply = |i: &usize| NOTES[*i].0.iter().any(|begin| row.starts_with(begin));
    (0..NOTES.len()).filter(apply).collect()
}
