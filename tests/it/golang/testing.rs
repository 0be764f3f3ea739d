//! `testing`: the context that Go gives to each test, cancelled when the test is over. Here that is
//! a guard.

use std::sync::{Arc, Mutex};

use go_context::{Context, Error};
use support::{assert_open, lock};

use super::common::assert_err;

/// Runs a test with a context that ends with it, and returns the context.
fn run(test: impl FnOnce(&Context)) -> Context {
    let (ctx, cancel) = Context::background().with_cancel();
    let _cancel_on_exit = cancel.drop_guard();
    test(&ctx);
    ctx
}

#[test]
fn context() {
    run(assert_open);
}

#[test]
fn context_inner() {
    run(|_| {
        run(assert_open);
    });
}

#[test]
fn context_inner2() {
    run(|outer| {
        let finished = run(assert_open);
        run(assert_open);
        assert_err(&finished, Error::Canceled);
        assert_open(outer);
    });
}

/// Observes a context in its drop.
struct Cleanup {
    ctx: Context,
    seen: Arc<Mutex<Option<Error>>>,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        *lock(&self.seen) = self.ctx.err();
    }
}

/// What is declared before the guard is dropped after it, so it finds the context done.
#[test]
fn context_cleanup() {
    let seen = Arc::new(Mutex::new(None));
    {
        let (ctx, cancel) = Context::background().with_cancel();
        let _cleanup = Cleanup {
            ctx: ctx.clone(),
            seen: seen.clone(),
        };
        let _cancel_on_exit = cancel.drop_guard();
        assert_open(&ctx);
    }
    assert_eq!(*lock(&seen), Some(Error::Canceled));
}
