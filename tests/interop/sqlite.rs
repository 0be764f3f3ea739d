use std::{error::Error, time::Duration};

use go_context::Context;
use rusqlite::{Connection, ErrorCode};

/// Runs queries that end when the context is done.
pub fn run<T>(
    ctx: &Context,
    db: &mut Connection,
    queries: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
) -> Result<T, Box<dyn Error + Send + Sync>> {
    ctx.check()?;
    // SQLite calls one of them as it works, the other while it is locked.
    let (progress, busy) = (ctx.clone(), ctx.clone());
    let pause = Duration::from_millis(1);
    db.progress_handler(1000, Some(move || progress.err().is_some()))?;
    db.busy_handler(Some(move |_| busy.sleep(pause).is_ok()))?;
    let result = queries(db);
    db.progress_handler(0, None::<fn() -> bool>)?;
    db.busy_timeout(Duration::from_secs(5))?; // rusqlite's default
    result.map_err(|err| match (ctx.err(), err.sqlite_error_code()) {
        (Some(done), Some(ErrorCode::OperationInterrupted)) => done.into(),
        (Some(done), Some(ErrorCode::DatabaseBusy)) => done.into(),
        _ => err.into(),
    })
}
