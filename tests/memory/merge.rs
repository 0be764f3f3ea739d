//! Of a million contexts that were merged with it and dropped, a context keeps nothing.

#![cfg(target_os = "linux")]

use std::fs;

use go_context::crossbeam_channel::TryRecvError;
use go_context::Context;
use support::process::in_child_alone;
use support::test_name;

/// Returns the resident memory of the process, in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Merges, in each way in which a merge can begin and end.
fn merge(server: &Context, round: usize) {
    let (request, end_request) = Context::background().with_cancel();
    let (merged, cancel) = match round % 2 {
        0 => request.merge(server),
        _ => server.merge(&request),
    };
    match round % 8 / 2 {
        0 => {}
        1 => cancel.cancel(),
        2 => end_request.cancel(),
        _ => assert_eq!(merged.done().try_recv(), Err(TryRecvError::Empty)),
    }
}

#[test]
fn million_merges_leave_nothing_in_parent() {
    in_child_alone(test_name!(), || {
        let (server, _cancel) = Context::background().with_cancel();
        // One that stays, or the table would be freed whenever it is empty.
        let (other, _cancel) = server.with_cancel();
        assert_eq!(other.err(), None);
        (0..50_000).for_each(|round| merge(&server, round));
        let before = resident();
        (0..1_000_000).for_each(|round| merge(&server, round));
        let grown = resident().saturating_sub(before);
        // A pointer left by each would take eight megabytes, a context ten times that.
        assert!(grown < 4 << 20, "{grown} bytes more than before");
    });
}
