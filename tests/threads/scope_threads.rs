//! A group leaves no thread and no open file.

use std::fs;
use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::thread;
use std::time::Instant;

use go_context::{Context, Scope};
use support::process::in_child_alone;
use support::{test_name, LIMIT};

#[test]
fn scope_leaves_no_thread_and_no_file() {
    in_child_alone(test_name!(), || {
        let (threads, files) = (count("task"), count("fd"));
        let endings: [fn(Scope<'_, '_, io::Error>) -> io::Result<()>; 7] = [
            |_| Ok(()),
            |s| {
                for_all(s, |ctx| Err(ctx.wait().into()))?;
                Err(io::Error::other("no"))
            },
            |s| for_all(s, |_| Ok(())),
            |s| for_all(s, |_| Err(io::Error::other("no"))),
            |s| for_all(s, |_| panic!("no")),
            |s| {
                s.set_limit(3);
                for_all(s, |ctx| ctx.check().map_err(io::Error::from))
            },
            |s| {
                for_all(s, |ctx| {
                    ctx.wait();
                    Ok(())
                })?;
                s.spawn(|_| -> io::Result<()> { Err(io::Error::other("enough")) });
                Ok(())
            },
        ];
        for round in 0..60 {
            let (ctx, cancel) = Context::background().with_cancel();
            if round % 7 == 0 {
                cancel.cancel();
            }
            let group = || ctx.scope(endings[round % endings.len()]);
            let _ = catch_unwind(AssertUnwindSafe(group));
            assert_eq!(count("fd"), files);
            // A thread drops its thread-locals and leaves the system's table a moment
            // later.
            let start = Instant::now();
            while count("task") > threads {
                assert!(start.elapsed() < LIMIT, "{} threads", count("task"));
                thread::yield_now();
            }
        }
    });
}

fn for_all(s: Scope<'_, '_, io::Error>, work: fn(&Context) -> io::Result<()>) -> io::Result<()> {
    for _ in 0..20 {
        s.spawn(work);
    }
    Ok(())
}

fn count(what: &str) -> usize {
    fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}
