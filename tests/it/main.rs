//! Tests that can share a process, one module a subject.

mod after_func;
mod cancel;
mod channel;
mod condvar;
mod conformance;
mod contention;
mod custom;
mod deadline;
mod depth;
mod display;
mod done_channels;
mod every_parent_and_child;
mod golang;
mod lazy_registration;
mod merge;
mod model;
mod ownership;
mod panics;
mod race;
mod scope;
mod scope_limit;
mod scope_panics;
mod script;
mod stop_and_wait;
mod value;
