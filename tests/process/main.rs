//! Tests that end a process, overflow its stack, send it signals, limit its memory or replace its
//! panic hook. Each runs in processes of its own.

#[cfg(unix)]
mod custom_depth;
mod exit;
#[cfg(all(unix, feature = "signal"))]
mod golang_signal;
mod panic_hook;
#[cfg(target_os = "linux")]
mod refused_threads;
#[cfg(all(unix, feature = "signal"))]
mod signal;
