//! The guide's recipes for other crates. The files are exactly what the guide shows.

pub mod postgres;
pub mod spans;
pub mod sqlite;
