//! The scenarios of Go's own tests, one module for each Go file or package, and each test under the
//! name that it has there.
//!
//! They are written anew, from what Go's tests set up and require. Go is under a BSD licence;
//! nothing of its code or its words is copied. `docs/conformance.md` lists all scenarios, with
//! those that have no counterpart here and why.

mod afterfunc_test;
mod common;
mod context_test;
mod database_sql;
mod errgroup;
mod example_test;
mod http;
mod net;
mod net_test;
#[cfg(unix)]
mod os_exec;
mod rust;
mod semaphore;
mod synctest;
mod testing;
mod wait_group;
mod x_test;
