//! `context/example_test.go`: the examples, and what they print.

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use go_context::crossbeam_channel::{bounded, never, select, Receiver};
use go_context::{Context, Key};
use support::threads::spawn;
use support::{lock, receive, wait, LIMIT};

use super::common::SHORT;

/// Numbers from 1 on, from a thread that ends with the context.
fn numbers(ctx: Context) -> (Receiver<u32>, Receiver<()>) {
    let (numbers, receiver) = bounded(0);
    let ended = spawn(move || {
        for n in 1.. {
            select! {
                recv(ctx.done()) -> _ => return,
                send(numbers, n) -> _ => {}
            }
        }
    });
    (receiver, ended)
}

#[test]
fn example_with_cancel() {
    let (ctx, cancel) = Context::background().with_cancel();
    let (numbers, ended) = numbers(ctx);
    let guard = cancel.drop_guard();
    let mut printed = Vec::new();
    for n in numbers {
        printed.push(n.to_string());
        if n == 5 {
            break;
        }
    }
    drop(guard);
    assert_eq!(printed, ["1", "2", "3", "4", "5"]);
    receive(&ended);
}

/// Prints why the work was not done.
fn work(ctx: &Context) -> String {
    select! {
        recv(never::<()>()) -> _ => "ready".into(),
        recv(ctx.done()) -> _ => ctx.err().unwrap().to_string(),
        default(LIMIT) => panic!("{ctx} is not done"),
    }
}

#[test]
fn example_with_deadline() {
    let (ctx, cancel) = Context::background().with_deadline(Instant::now() + SHORT);
    let _guard = cancel.drop_guard();
    assert_eq!(work(&ctx), "context deadline exceeded");
}

#[test]
fn example_with_timeout() {
    let (ctx, cancel) = Context::background().with_timeout(SHORT);
    let _guard = cancel.drop_guard();
    assert_eq!(work(&ctx), "context deadline exceeded");
}

#[derive(PartialEq, Eq)]
struct FavContextKey(&'static str);

impl Key for FavContextKey {
    type Value = String;
}

#[test]
fn example_with_value() {
    let look_up = |ctx: &Context, key: FavContextKey| match ctx.value(&key) {
        Some(value) => format!("found value: {value}"),
        None => format!("key not found: {}", key.0),
    };
    let ctx = Context::background().with_value(FavContextKey("language"), "Go".into());
    let printed = ["language", "color"].map(|key| look_up(&ctx, FavContextKey(key)));
    assert_eq!(printed, ["found value: Go", "key not found: color"]);
}

/// Waits for a condition that never becomes true, or for the context.
fn wait_on_cond(ctx: &Context, shared: &Arc<(Mutex<()>, Condvar)>) -> String {
    let after = ctx.after_func({
        let shared = shared.clone();
        move || {
            let _locked = lock(&shared.0); // or a waiter might just miss it
            shared.1.notify_all();
        }
    });
    let mut locked = lock(&shared.0);
    while ctx.err().is_none() {
        locked = shared.1.wait(locked).unwrap();
    }
    assert!(!after.stop());
    ctx.err().unwrap().to_string()
}

#[test]
fn example_after_func_cond() {
    let shared = Arc::new((Mutex::new(()), Condvar::new()));
    let waiters = [(); 4].map(|()| {
        let shared = shared.clone();
        spawn(move || {
            let (ctx, _cancel) = Context::background().with_timeout(SHORT);
            wait_on_cond(&ctx, &shared)
        })
    });
    let printed = waiters.map(|waiter| receive(&waiter));
    assert_eq!(printed, ["context deadline exceeded"; 4]);
}

/// Go's callback sets the connection a deadline that has passed; std's has to shut it down.
#[test]
fn example_after_func_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let silent = thread::spawn(move || listener.accept().unwrap());
    let mut connection = TcpStream::connect(address).unwrap();
    let _silent = silent.join().unwrap();

    let (ctx, _cancel) = Context::background().with_timeout(SHORT);
    let after = ctx.after_func({
        let connection = connection.try_clone().unwrap();
        move || connection.shutdown(Shutdown::Both).unwrap()
    });
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let read = connection.read(&mut [0]);
    assert!(!after.stop_and_wait(), "the read ended before: {read:?}");
    let printed = ctx.err().unwrap().to_string();
    assert_eq!(printed, "context deadline exceeded");
}

/// Merges two contexts like Go's example.
#[test]
fn example_after_func_merge() {
    let (one, _cancel_one) = Context::background().with_cancel_cause();
    let (two, cancel_two) = Context::background().with_cancel_cause();
    let (merged, cancel_merged) = one.with_cancel_cause();
    let after = two.after_func({
        let two = two.clone();
        move || cancel_merged.cancel(two.cause().unwrap())
    });
    cancel_two.cancel("ctx2 canceled");
    wait(&merged);
    assert_eq!(merged.cause().unwrap().to_string(), "ctx2 canceled");
    assert!(one.err().is_none());
    assert!(!after.stop());
}

/// Merges them with `merge`.
#[test]
fn example_after_func_merge_with_merge() {
    let (one, _cancel_one) = Context::background().with_cancel_cause();
    let (two, cancel_two) = Context::background().with_cancel_cause();
    let (merged, _cancel_merged) = one.merge(&two);
    cancel_two.cancel("ctx2 canceled");
    assert_eq!(merged.cause().unwrap().to_string(), "ctx2 canceled");
    assert!(one.err().is_none());
}
