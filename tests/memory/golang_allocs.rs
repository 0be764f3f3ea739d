//! How often contexts allocate.

use std::time::Duration;

use go_context::{Context, Key};
use support::process::in_child_alone;
use support::test_name;

use crate::allocations;

#[derive(PartialEq, Eq)]
struct Key1;

impl Key for Key1 {
    type Value = Option<&'static str>;
}

fn wait(ctx: &Context) {
    // As in Go `done` is called even if the context is done by then.
    let _ = ctx.done().recv();
}

/// The limits are those of Go's test.
#[test]
fn allocs() {
    in_child_alone(test_name!(), || {
        let bg = Context::background();
        let cases: [(&str, usize, &dyn Fn()); 5] = [
            ("Background()", 0, &|| drop(Context::background())),
            ("WithValue and a lookup", 3, &|| {
                assert_eq!(bg.with_value(Key1, None).value(&Key1), Some(&None));
            }),
            ("WithTimeout 1 ns and a wait", 12, &|| {
                let (ctx, _cancel) = bg.with_timeout(Duration::from_nanos(1));
                wait(&ctx);
            }),
            ("WithCancel, cancel and a wait", 5, &|| {
                let (ctx, cancel) = bg.with_cancel();
                cancel.cancel();
                wait(&ctx);
            }),
            ("WithTimeout 5 ms, cancel and a wait", 8, &|| {
                let (ctx, cancel) = bg.with_timeout(Duration::from_millis(5));
                cancel.cancel();
                wait(&ctx);
            }),
        ];
        for (name, limit, f) in cases {
            f(); // what is allocated once
            let runs = 100;
            let counted = allocations(|| (0..runs).for_each(|_| f()));
            assert!(counted <= limit * runs, "{name}: {counted} in {runs} runs");
        }
    });
}
