//! A worker that goes on until the main thread tells it to stop, and then waits for it.
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
        millis.parse().expect("how many milliseconds a second has")
    });
    let second = Duration::from_millis(second);

    let (ctx, cancel) = Context::background().with_cancel();
    let group = start_child(ctx, second);

    thread::sleep(6 * second);
    cancel.cancel();
    group.wait();
    println!("main exit.");
}

/// Starts the worker and returns. The worker outlives this call, so a `thread::scope` will not do;
/// wait for it with the group.
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
                    // Deaf to the context; `ctx.sleep(second)` would hear it.
                    thread::sleep(second);
                    println!("1 second passed.");
                }
            }
        }
    });
    group
}
