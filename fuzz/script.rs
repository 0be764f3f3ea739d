//! Has libFuzzer make up scripts for several threads. See `tests/script/mod.rs` for what they say.

#![no_main]

#[path = "../tests/script/mod.rs"]
mod script;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| script::play(bytes));
