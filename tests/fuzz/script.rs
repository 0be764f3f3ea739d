//! Has libFuzzer make up scripts for several threads. See `tests/support/script.rs` for what they say.

#![no_main]

use libfuzzer_sys::fuzz_target;
use support::script;

fuzz_target!(|bytes: &[u8]| script::play(bytes));
