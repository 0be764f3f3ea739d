use std::io;

use go_context::Context;
use tracing::{info, info_span};

/// Handles the parts of a request, each on a thread of its own.
pub fn handle(ctx: &Context, id: u32, parts: &[&str]) -> io::Result<()> {
    let span = info_span!("request", id);
    let ctx = ctx.with_enter(move |work| span.in_scope(work));
    ctx.scope(|s| {
        for part in parts {
            s.spawn(move |ctx| {
                ctx.check()?;
                info!("handled {part}"); // in the span
                Ok(())
            });
        }
        Ok(())
    })
}
