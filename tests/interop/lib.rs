//! The guide's database recipes. The files are exactly what the guide shows.

pub mod postgres;
pub mod sqlite;
