//! Runs a worker that prints a line every second until its deadline, after five seconds.
//!
//! It shows a `select!` on a timer and a context, as in Go.
//!
//! ```sh
//! cargo run --example timeout         # takes six seconds
//! cargo run --example timeout -- 10   # with ten milliseconds for each second
//! ```

use std::{env, thread, time::Duration};

use go_context::{
    crossbeam_channel::{after, select},
    Context,
};

fn main() {
    let second = env::args().nth(1).map_or(1000, |millis| {
        millis
            .parse()
            .expect("the length of a second in milliseconds")
    });
    let second = Duration::from_millis(second);

    let (ctx, cancel) = Context::background().with_timeout(5 * second);
    thread::scope(|s| {
        // Inside the scope, which joins the worker before anything outside it is dropped.
        let _cancel_on_exit = cancel.drop_guard();
        s.spawn(|| loop {
            select! {
                recv(after(second)) -> _ => println!("1 second after."),
                recv(ctx.done()) -> _ => {
                    let err = ctx.err().expect("the context is done");
                    println!("operation cancelled: {err}");
                    return;
                }
            }
        });
        thread::sleep(6 * second);
    });
}
