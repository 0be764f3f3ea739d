//! Ends queries of real databases.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use go_context::{Context, Error};
use go_context_interop::{postgres, sqlite};

/// Far less than the queries and SQLite's own timeout would take.
const PROMPTLY: Duration = Duration::from_secs(2);

/// Runs a call under a context that is done after 50 ms, and checks that it fails because of that.
#[track_caller]
fn fails_at_deadline<T>(
    call: impl FnOnce(&Context) -> Result<T, Box<dyn std::error::Error + Send + Sync>>,
) {
    let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(50));
    let start = Instant::now();
    let err = call(&ctx).err().expect("the call succeeded");
    let elapsed = start.elapsed();
    assert_eq!(Error::find(&*err), Some(Error::DeadlineExceeded), "{err}");
    assert!(elapsed < PROMPTLY, "{elapsed:?}");
    println!(
        "ended {:?} after the deadline",
        elapsed - Duration::from_millis(50)
    );
}

mod of_sqlite {
    use rusqlite::{Connection, TransactionBehavior};

    use super::*;

    fn count_for_ever(db: &mut Connection) -> rusqlite::Result<i64> {
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
        db.query_row(&format!("{numbers} SELECT count(*) FROM n"), [], |row| {
            row.get(0)
        })
    }

    fn one(db: &mut Connection) -> rusqlite::Result<i64> {
        db.query_row("SELECT 1", [], |row| row.get(0))
    }

    /// A file in a folder that is deleted at the end.
    struct File(PathBuf);

    impl File {
        fn new() -> File {
            let folder = env::temp_dir().join(format!("go-context-{}", process::id()));
            fs::create_dir(&folder).unwrap();
            File(folder.join("test.sqlite"))
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.parent().unwrap());
        }
    }

    #[test]
    fn sqlite_query_ends_at_deadline() {
        let mut db = Connection::open_in_memory().unwrap();
        for _ in 0..5 {
            fails_at_deadline(|ctx| sqlite::run(ctx, &mut db, count_for_ever));
            // The connection can be used again, with and without a context.
            assert_eq!(
                sqlite::run(&Context::background(), &mut db, one).unwrap(),
                1
            );
            assert_eq!(one(&mut db).unwrap(), 1);
        }
    }

    #[test]
    fn sqlite_query_after_cancel_ends() {
        let mut db = Connection::open_in_memory().unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        let queries = |db: &mut Connection| {
            one(db)?;
            cancel.cancel(); // between two queries
            count_for_ever(db)
        };
        let err = sqlite::run(&ctx, &mut db, queries).unwrap_err();
        assert_eq!(Error::find(&*err), Some(Error::Canceled));
    }

    #[test]
    fn sqlite_lock_is_waited_for_until_deadline() {
        let file = File::new();
        let mut db = Connection::open(&file.0).unwrap();
        let mut other = Connection::open(&file.0).unwrap();
        let lock = other
            .transaction_with_behavior(TransactionBehavior::Exclusive)
            .unwrap();
        let create = |db: &mut Connection| db.execute_batch("CREATE TABLE t (i)");
        fails_at_deadline(|ctx| sqlite::run(ctx, &mut db, create));
        thread::scope(|s| {
            let created = s.spawn(|| sqlite::run(&Context::background(), &mut db, create));
            lock.rollback().unwrap();
            created.join().unwrap().unwrap();
        });
    }

    #[test]
    fn sqlite_error_of_a_query_stays() {
        let mut db = Connection::open_in_memory().unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        let queries = |db: &mut Connection| {
            cancel.cancel();
            db.execute_batch("nonsense")
        };
        let err = sqlite::run(&ctx, &mut db, queries).unwrap_err();
        assert!(err.is::<rusqlite::Error>(), "{err}");
    }

    #[test]
    fn sqlite_connection_does_not_own_the_context() {
        let mut db = Connection::open_in_memory().unwrap();
        let (ctx, cancel) = Context::background().with_cancel();
        let done = ctx.done();
        sqlite::run(&ctx, &mut db, one).unwrap();
        drop((ctx, cancel));
        assert!(done
            .recv_timeout(Duration::ZERO)
            .is_err_and(|err| err.is_disconnected()));
    }
}

mod of_postgres {
    use ::postgres::Client;

    use super::*;

    type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

    /// The server that `.ci/interop` has started.
    fn database() -> postgres::Database {
        let url = env::var("DATABASE_URL").expect("DATABASE_URL is not set: run .ci/interop");
        postgres::Database {
            config: url.parse().unwrap(),
            idle: Vec::new().into(),
        }
    }

    fn sleep(client: &mut Client) -> Result<()> {
        Ok(client.batch_execute("SELECT pg_sleep(60)")?)
    }

    /// Returns the id of the connection.
    fn pid(client: &mut Client) -> Result<i32> {
        Ok(client.query_one("SELECT pg_backend_pid()", &[])?.get(0))
    }

    #[test]
    fn postgres_query_ends_at_deadline() {
        let db = database();
        let bg = Context::background();
        for _ in 0..50 {
            let before = db.run(&bg, pid).unwrap();
            assert_eq!(db.run(&bg, pid).unwrap(), before);
            fails_at_deadline(|ctx| db.run(ctx, sleep));
            assert_ne!(db.run(&bg, pid).unwrap(), before);
            // A cancellation would also reach a query that takes a while.
            db.run(&bg, |client| {
                Ok(client.batch_execute("SELECT pg_sleep(0.1)")?)
            })
            .unwrap();
        }
    }

    #[test]
    fn postgres_query_after_cancel_ends() {
        let db = database();
        let (ctx, cancel) = Context::background().with_cancel();
        let queries = |client: &mut Client| {
            pid(client)?;
            cancel.cancel(); // between two queries
            thread::sleep(Duration::from_millis(200)); // it reaches the server before the next
            sleep(client)
        };
        let start = Instant::now();
        let err = db.run(&ctx, queries).unwrap_err();
        assert_eq!(Error::find(&*err), Some(Error::Canceled));
        assert!(start.elapsed() < PROMPTLY);
    }

    #[test]
    fn postgres_error_of_a_query_stays() {
        let db = database();
        let nonsense = |client: &mut Client| Ok(client.batch_execute("nonsense")?);
        let err = db.run(&Context::background(), nonsense).unwrap_err();
        assert!(err.is::<::postgres::Error>(), "{err}");
        db.run(&Context::background(), pid).unwrap();
    }
}
