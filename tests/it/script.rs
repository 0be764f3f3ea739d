//! Scripts for several threads, found by fuzzing, are replayed: in whatever order their steps
//! happen, the contract holds.
//!
//! `.ci/fuzz` generates more. A script that fails is added here, and its failure lists its lines.

use std::fs;
use std::thread;

use go_context::crossbeam_channel::{unbounded, RecvTimeoutError};
use proptest::prelude::*;
use support::script;
use support::LIMIT;

#[test]
fn corpus_scripts_keep_the_contract() {
    let dir = support::root().join("tests/corpus");
    let files = fs::read_dir(&dir).expect("the scripts are part of the tests");
    let mut scripts: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 50, "some are missing: {}", scripts.len());

    let (tell, told) = unbounded();
    let job = thread::spawn(move || {
        for script in &scripts {
            tell.send(script.clone()).unwrap();
            let bytes = fs::read(script).unwrap();
            // Which thread is first differs each time, and the short ones are all about that.
            let rounds = (400 / (1 + bytes.len())).clamp(2, 20);
            (0..rounds).for_each(|_| script::play(&bytes));
        }
    });
    let mut last = dir;
    loop {
        match told.recv_timeout(2 * LIMIT) {
            Ok(script) => last = script,
            Err(RecvTimeoutError::Timeout) => panic!("{} hangs", last.display()),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    assert!(job.join().is_ok(), "{} fails", last.display());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_scripts_keep_the_contract(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        script::play(&bytes);
    }
}
