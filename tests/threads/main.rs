//! Tests that count the threads of the process, or the time that they take. Each runs in a process
//! of its own, one at a time.
#![cfg(target_os = "linux")]

mod callback_load;
mod callback_threads;
mod custom_threads;
mod custom_watch;
mod golang_no_threads;
mod golang_threads;
mod scope_threads;
mod timer_cpu;
mod timer_load;
