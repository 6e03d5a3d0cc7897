//! Room is kept for removals, and a failed write leaves nothing behind.

use std::env;

use super::*;

#[path = "../../../../tests/limited/mod.rs"]
mod limited;

const FOLDER: &str = "EINMAL_TEST_SEGMENT_FOLDER";

#[test]
fn a_segment_without_room_for_removals_is_not_begun_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // 50 of 64 KiB.
    let child = "mail::log::segment::tests::child_that_begins_segments";
    limited::run(child, FOLDER, folder.path(), 100);
    assert_eq!(numbers(folder.path()).unwrap(), [2], "only the one that was wanted in any case");
    Segment::begin(folder.path(), 3, 1).unwrap();
}

#[test]
#[ignore = "the child of the other test, which limits its files"]
fn child_that_begins_segments() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    assert_eq!(Segment::begin(folder, 1, 1).err(), Some(StoreError::Full));
    assert!(numbers(folder).unwrap().is_empty(), "its room is given back");
    let mut segment = Segment::begin_anyway(folder, 2, 1).unwrap();
    assert_eq!(segment.write(&[0; 100], LEFT_TO_REMOVALS), Err(StoreError::Full));
    segment.write(&[0; 100], 0).unwrap();
}

#[test]
fn contents_that_cannot_be_written_leave_no_draft() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(path_of(folder.path(), 1, "toc")).unwrap();
    assert!(write_contents(folder.path(), 1, b"").is_err());
    assert!(!path_of(folder.path(), 1, "new").exists());
}
