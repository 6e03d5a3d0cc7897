//! Cleaning comes to an end, whatever the disk does.

use std::{env, fs::File, path::Path, sync::Arc};

use zeroize::Zeroizing;

use super::*;
use crate::disk::tests::{on_sync, synced};
use crate::mail::{
    MailKey,
    log::{LogMail, Shared, sectors::tests::Flawed},
    {Mail, NewLetter, Quota},
};

#[path = "../../../../../tests/limited/mod.rs"]
mod limited;

const FOLDER: &str = "EINMAL_TEST_CLEANING_FOLDER";
const ALICE: MailboxId = MailboxId([1; 20]);

fn key() -> MailKey {
    MailKey::new(Zeroizing::new([1; 32]))
}

/// A writer whose thread is the test.
fn writer(folder: &Path) -> Writer {
    Writer::open(Arc::new(Shared::new(folder, &key()))).unwrap()
}

/// Leaves letters of these lengths in a finished segment.
fn left_behind(folder: &Path, lengths: &[usize]) {
    let mail = LogMail::open(folder, &key()).unwrap();
    for len in lengths {
        let (payload, quota) = (vec![7; *len], Quota::NONE);
        let letter =
            NewLetter { mailbox: ALICE, payload, arrived_ms: 1, expires_at: u64::MAX, quota, early: None };
        mail.put(vec![letter]).wait().unwrap();
    }
    mail.close().unwrap();
}

/// Cleans until there is nothing to do, and returns in how many rounds.
fn clean(writer: &mut Writer) -> usize {
    let mut rounds = 0;
    while rounds == 0 || writer.must_clean() {
        writer.clean().unwrap();
        rounds += 1;
        assert!(rounds < 100, "this never ends");
    }
    rounds
}

#[test]
fn small_letter_moves_and_cleaning_rests_if_the_large_one_behind_it_has_no_room() {
    let folder = tempfile::tempdir().unwrap();
    left_behind(folder.path(), &[100, 100_000]);
    // 100 KiB.
    let child = "mail::log::writer::cleaning::tests::child_that_has_room_for_the_small_letter";
    limited::run(child, FOLDER, folder.path(), 200);
}

#[test]
#[ignore = "the child of the other test, which limits its files"]
fn child_that_has_room_for_the_small_letter() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mut writer = writer(Path::new(&folder));
    clean(&mut writer);
    assert!(writer.hold);
    let index = writer.shared.index();
    let lens =
        |number| index.letters_in(number, None, 9).0.iter().map(|(_, one)| one.len).collect::<Vec<_>>();
    assert_eq!((lens(1), lens(writer.active.number)), (vec![100_000], vec![100]));
}

#[test]
fn nobody_waits_for_the_disk_on_which_a_segment_is_begun_and_another_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let shared = Arc::clone(&writer.shared);
    let _ = synced();
    on_sync(move || {
        assert!(shared.admission.try_lock().is_ok() && shared.index.try_write().is_ok(), "a lock is held");
    });
    writer.begin_next().unwrap();
    assert!(synced().len() >= 2, "there was something to wait for");
}

/// A writer on a disk that cannot read the block of segment 1 with this byte.
fn writer_with_a_flaw(folder: &Path, at: u64) -> Writer {
    let load = |folder: &Path, number: u32| {
        let file = File::open(segment::path_of(folder, number, "mail")).unwrap();
        let flaws = if number == 1 { vec![(at, at + 1)] } else { Vec::new() };
        segment::load_from(&Flawed { file, flaws }, folder, number)
    };
    Writer::open_by(Arc::new(Shared::new(folder, &key())), load).unwrap()
}

#[test]
fn segment_of_which_the_disk_cannot_read_a_part_is_never_deleted() {
    let folder = tempfile::tempdir().unwrap();
    // The second letter reaches into a block that cannot be read.
    left_behind(folder.path(), &[100, 10_000, 200]);
    let path = |ending| segment::path_of(folder.path(), 1, ending);
    std::fs::remove_file(path("toc")).unwrap();
    let before = std::fs::read(path("mail")).unwrap();
    for (at, kept) in [(5000, 2), (0, 1)] {
        let writer = writer_with_a_flaw(folder.path(), at);
        assert_eq!(writer.shared.index().stats().letters, kept);
        writer.shared.index_mut().clear(ALICE, u64::MAX);
        assert!(!writer.must_clean(), "the next start may read more");
    }
    let mut writer = writer_with_a_flaw(folder.path(), 5000);
    clean(&mut writer);
    let index = writer.shared.index();
    assert_eq!(index.letters_in(writer.active.number, None, 9).0.len(), 2, "what lives moves");
    assert!(std::fs::read(path("flawed")).unwrap() == before && !path("mail").exists());
    assert!(!segment::numbers(folder.path()).unwrap().contains(&1), "no start reads it");
}

#[test]
fn contents_of_a_segment_set_apart_go_with_it() {
    let folder = tempfile::tempdir().unwrap();
    left_behind(folder.path(), &[100]);
    let path = |ending| segment::path_of(folder.path(), 1, ending);
    let mut writer = writer_with_a_flaw(folder.path(), 0);
    clean(&mut writer);
    assert!(path("flawed").exists() && path("flawed-toc").exists() && !path("toc").exists());
}
