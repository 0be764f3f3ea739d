//! Blocking I/O under a context.

#![cfg(all(target_os = "linux", feature = "net"))]

mod descriptors;
mod io;
mod numbers;
mod sockets;
