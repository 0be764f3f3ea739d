//! Runs a worker until the main thread cancels it after six seconds, and waits for it to return.
//!
//! It shows `with_cancel`, and a `WaitGroup` for a thread that outlives the function that spawns it.
//!
//! ```sh
//! cargo run --example cancel         # takes six seconds
//! cargo run --example cancel -- 10   # with ten milliseconds for each second
//! ```

use std::{env, thread, time::Duration};

use crossbeam_utils::sync::WaitGroup;
use go_context::{crossbeam_channel::select, Context};

fn main() {
    let second = env::args().nth(1).map_or(1000, |millis| {
        millis
            .parse()
            .expect("the length of a second in milliseconds")
    });
    let second = Duration::from_millis(second);

    let (ctx, cancel) = Context::background().with_cancel();
    let group = start_child(ctx, second);

    thread::sleep(6 * second);
    cancel.cancel();
    group.wait();
    println!("main exit.");
}

/// Starts the worker, and returns a group to wait for it with. A `thread::scope` cannot be used here,
/// because the worker outlives this call.
fn start_child(ctx: Context, second: Duration) -> WaitGroup {
    let group = WaitGroup::new();
    let member = group.clone();
    thread::spawn(move || {
        let _member = member; // leaves the group when the thread ends
        loop {
            select! {
                recv(ctx.done()) -> _ => {
                    println!("child exit.");
                    return;
                }
                default => {
                    // This ignores the context; `ctx.sleep(second)` would return early.
                    thread::sleep(second);
                    println!("1 second passed.");
                }
            }
        }
    });
    group
}
