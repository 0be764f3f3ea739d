//! Tests that run the examples as programs.

mod examples;
#[cfg(all(unix, feature = "signal"))]
mod server;
