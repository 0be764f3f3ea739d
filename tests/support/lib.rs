//! What the tests share.

pub mod blocked;
pub mod process;
pub mod script;
pub mod threads;

use std::path::Path;

/// Returns the folder of the repository.
pub fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("a package within the repository")
}
