//! Go's `context` for threads.

#![forbid(unsafe_code)]

mod after_func;
mod callback;
mod cancel;
mod cancellation;
mod channel;
mod context;
mod deadline;
mod display;
mod done;
mod error;
mod pool;
mod slab;
mod sync;
mod timer;
mod tree;
mod unwind;
mod value;

pub use crossbeam_channel;

pub use crate::after_func::AfterFunc;
pub use crate::cancel::{CancelCauseFunc, CancelFunc, DropGuard};
pub use crate::context::Context;
pub use crate::deadline::Deadline;
pub use crate::error::{Cause, Error};
pub use crate::value::Key;
