//! Room is kept for removals, and a failed write leaves nothing behind.

use std::env;

use super::*;
use crate::mail::{MailboxId, log::sectors::tests::Flawed};

#[path = "../../../../tests/limited/mod.rs"]
pub(crate) mod limited;

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

const BODY_LEN: usize = 1000;

/// Leaves segment 1 as a killed process does, with as many letters, whose ids begin with 5. Returns its bytes.
fn unfinished(folder: &Path, letters: u64) -> Vec<u8> {
    let mut segment = Segment::begin(folder, 1, 5).unwrap();
    for id in 5..5 + letters {
        let body_len = u32::try_from(BODY_LEN).unwrap();
        let header = Header { body_len, ..Header::about(Kind::Letter, MailboxId([1; 20]), id) };
        let mut bytes = Vec::new();
        frame::append(&mut bytes, 1, &header, &[7; BODY_LEN]);
        segment.write(&bytes, 0).unwrap();
        segment.advance(&header, &[7; BODY_LEN]);
    }
    segment.flush().unwrap();
    std::fs::read(path_of(folder, 1, "mail")).unwrap()
}

fn flawed(folder: &Path, at: u64) -> Flawed {
    Flawed { file: open(folder, 1).unwrap(), flaws: vec![(at, at + 1)] }
}

fn ids(loaded: &Loaded) -> Vec<u64> {
    loaded.listed.iter().map(|entry| entry.header.id).collect()
}

#[test]
fn a_part_that_the_disk_cannot_read_costs_what_lies_in_it_and_may_be_read_another_time() {
    let folder = tempfile::tempdir().unwrap();
    let before = unfinished(folder.path(), 30);
    // The entries that reach into the third block of 4096 bytes.
    let entry_at = |at: usize| 5 + ((at - HEAD_LEN) / (HEADER_LEN + BODY_LEN)) as u64;
    let lost = entry_at(8192)..=entry_at(12287);
    let loaded = load_from(&flawed(folder.path(), 9000), folder.path(), 1).unwrap();
    assert_eq!(ids(&loaded), (5..35).filter(|id| !lost.contains(id)).collect::<Vec<_>>());
    assert_eq!((loaded.damaged, loaded.is_flawed, loaded.contents), (1, true, None));
    let is_left = |bytes: &[u8]| std::fs::read(path_of(folder.path(), 1, "mail")).unwrap() == bytes;
    assert!(is_left(&before), "nothing is thrown away");
    let loaded = load(folder.path(), 1).unwrap();
    assert_eq!((ids(&loaded).len(), loaded.damaged, loaded.is_flawed), (30, 0, false));
    let whole = HEAD_LEN + 30 * (HEADER_LEN + BODY_LEN);
    assert!(is_left(&before[..whole]));
}

#[test]
fn a_part_behind_the_last_entry_that_the_disk_cannot_read_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    unfinished(folder.path(), 3);
    let loaded = load_from(&flawed(folder.path(), 500_000), folder.path(), 1).unwrap();
    assert_eq!((ids(&loaded), loaded.damaged), (vec![5, 6, 7], 1));
}

#[test]
fn a_head_that_the_disk_cannot_read_is_not_taken_for_none_and_no_id_is_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    unfinished(folder.path(), 30);
    let loaded = load_from(&flawed(folder.path(), 0), folder.path(), 1).unwrap();
    // The first block has the head and three letters, and the beginning of a fourth.
    assert_eq!(ids(&loaded), (9..35).collect::<Vec<_>>());
    assert_eq!(loaded.next_id_after(1), 35 + IDS_LEFT_OUT);
    unfinished(folder.path(), 1);
    let loaded = load_from(&flawed(folder.path(), 0), folder.path(), 1).unwrap();
    assert_eq!((ids(&loaded), loaded.damaged, loaded.is_flawed), (vec![], 1, true));
    assert_eq!(loaded.next_id_after(7), 7 + IDS_LEFT_OUT);
}

#[test]
fn a_finished_segment_with_an_unreadable_head_is_known_by_its_contents() {
    let folder = tempfile::tempdir().unwrap();
    unfinished(folder.path(), 30);
    let contents = load(folder.path(), 1).unwrap().contents.unwrap();
    write_contents(folder.path(), 1, &contents).unwrap();
    let loaded = load_from(&flawed(folder.path(), 0), folder.path(), 1).unwrap();
    assert_eq!((ids(&loaded).len(), loaded.damaged), (30, 0));
}

/// After a failed flush memory has what the disk has not, and the system does not know it.
#[test]
fn what_was_read_from_memory_is_written_to_the_disk_again() {
    let (memory, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = unfinished(memory.path(), 30);
    let path = path_of(disk.path(), 1, "mail");
    std::fs::write(&path, vec![0; bytes.len()]).unwrap();
    let loaded = load_from(&open(memory.path(), 1).unwrap(), disk.path(), 1).unwrap();
    assert_eq!(ids(&loaded).len(), 30);
    let whole = HEAD_LEN + 30 * (HEADER_LEN + BODY_LEN);
    assert!(std::fs::read(path).unwrap() == bytes[..whole], "the disk has what memory had");
}

#[test]
fn mail_is_recovered_from_a_disk_without_room_for_writing_in_place() {
    let folder = tempfile::tempdir().unwrap();
    unfinished(folder.path(), 100);
    // 50 KiB, less than half of it.
    let child = "mail::log::segment::tests::child_that_recovers_without_room";
    limited::run(child, FOLDER, folder.path(), 100);
}

#[test]
#[ignore = "the child of the other test, which limits its files"]
fn child_that_recovers_without_room() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let loaded = load(Path::new(&folder), 1).unwrap();
    assert_eq!((ids(&loaded).len(), loaded.damaged), (100, 0));
}
