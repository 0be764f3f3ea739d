//! What a context is asked while it lives.

use std::fmt;
use std::hint::black_box;

use go_context::Context;

/// The question that a context is asked: a context costs more once it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    None,
    Err,
    Done,
}

impl Look {
    pub(crate) const ALL: [Look; 3] = [Look::None, Look::Err, Look::Done];

    #[inline]
    pub(crate) fn at(self, ctx: &Context) {
        match self {
            Look::None => {}
            Look::Err => assert!(ctx.err().is_none()),
            Look::Done => drop(black_box(ctx.done())),
        }
    }
}

/// Writes what the question adds to the name of an operation.
impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Look::None => "",
            Look::Err => ", err() once",
            Look::Done => ", done() once",
        })
    }
}
