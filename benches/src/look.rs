//! Whether anybody looks at a context.

use std::fmt;
use std::hint::black_box;

use go_context::Context;

/// What anybody wants to know of a context while it lives: it costs more once somebody looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    None,
    Err,
    Done,
}

impl Look {
    #[inline]
    pub(crate) fn at(self, ctx: &Context) {
        match self {
            Look::None => {}
            Look::Err => assert!(ctx.err().is_none()),
            Look::Done => drop(black_box(ctx.done())),
        }
    }
}

/// What it adds to the name of an operation.
impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Look::None => "",
            Look::Err => ", err() once",
            Look::Done => ", done() once",
        })
    }
}
