//! Replays every file of the corpora: none crashes its target, valid ones are accepted, bent ones refused.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails the test, as the test itself would"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use einmal_fuzz_corpus::{TARGETS, seeds::seeds};

/// Most files one corpus may have in the repository.
const MAX_FILES: usize = 60;
/// Longest file, in bytes.
const MAX_BYTES: usize = 8 * 1024;

/// The files of one target by name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus")).join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect()
}

#[test]
fn no_file_of_any_corpus_crashes_its_target_and_names_say_what_comes_out() {
    for target in TARGETS {
        let files = corpus(target.name);
        assert!(!files.is_empty(), "the corpus of {} is empty", target.name);
        for (name, bytes) in &files {
            let taken = (target.run)(bytes);
            if name.starts_with("valid-") {
                assert!(taken, "{}/{name} is refused", target.name);
            }
            if name.starts_with("bent-") {
                assert!(!taken, "{}/{name} is taken", target.name);
            }
        }
    }
}

#[test]
fn corpora_stay_small() {
    for target in TARGETS {
        let files = corpus(target.name);
        assert!(files.len() <= MAX_FILES, "{} files in {}", files.len(), target.name);
        for (name, bytes) in files {
            assert!(bytes.len() <= MAX_BYTES, "{}/{name} has {} bytes", target.name, bytes.len());
        }
    }
}

#[test]
fn seeds_are_made_the_same_each_time_and_come_out_as_their_names_say() {
    let made = seeds();
    // The bytes of signed seeds may differ: one of the backends signs the same bytes differently each time.
    let names = |seeds: &[einmal_fuzz_corpus::seeds::Seed]| {
        seeds.iter().map(|seed| (seed.target.to_owned(), seed.name.clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&made), names(&seeds()));
    for target in TARGETS {
        let of_target: Vec<_> = made.iter().filter(|seed| seed.target == target.name).collect();
        for seed in &of_target {
            assert_eq!((target.run)(&seed.bytes), seed.name.starts_with("valid-"), "{seed:?}");
        }
        // The bytes may differ: envelopes of an earlier release must open just like new ones.
        let expected: BTreeSet<String> = of_target.iter().map(|seed| seed.name.clone()).collect();
        let mut found: BTreeSet<String> = corpus(target.name).into_keys().collect();
        found.retain(|name| name.starts_with("valid-") || name.starts_with("bent-"));
        assert!(expected.iter().any(|name| name.starts_with("valid-")), "{target:?} has no valid seed");
        assert!(expected.iter().any(|name| name.starts_with("bent-")), "{target:?} has no bent seed");
        assert_eq!(found, expected, "cargo run -p einmal-fuzz-corpus --example seeds");
    }
}

#[test]
fn every_corpus_folder_has_a_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(TARGETS.iter().any(|target| name == target.name), "{}", name.display());
    }
}
