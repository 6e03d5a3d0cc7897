//! Cleaning comes to an end, whatever the disk does.

use std::{env, fs::File, path::Path, sync::Arc};

use zeroize::Zeroizing;

use super::*;
use crate::{
    disk::tests::{on_sync, synced},
    mail::{
        Mail, MailKey, NewLetter, Quota,
        log::{
            LogMail, Shared,
            job::{Job, Work},
            sectors::tests::Flawed,
            segment::tests::limited,
        },
    },
};

#[path = "../../../../../tests/small_disk/mod.rs"]
mod small_disk;

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

#[cfg(target_os = "linux")]
#[test]
fn segment_with_a_letter_that_the_disk_does_not_read_in_several_rounds_is_set_apart_too() {
    let folder = tempfile::tempdir().unwrap();
    left_behind(folder.path(), &[100]);
    let mut writer = writer(folder.path());
    // There is nothing at the low addresses of a process: reading them fails as on a bad sector.
    let unreadable = Arc::new(File::open("/proc/self/mem").unwrap());
    writer.shared.files.lock().unwrap().insert(1, unreadable);
    for _ in 0..READ_IN_VAIN {
        let path = |ending| segment::path_of(folder.path(), 1, ending);
        assert!(path("mail").exists() && !path("flawed").exists());
        writer.hold = false;
        clean(&mut writer);
    }
    assert!(segment::path_of(folder.path(), 1, "flawed").exists());
    assert_eq!(writer.shared.damaged.load(Ordering::Relaxed), 1);
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

/// A letter, or removals that take as many bytes.
fn entry(kind: Kind, len: u32) -> (Header, Vec<u8>) {
    (Header { body_len: len, ..Header::about(kind, ALICE, u64::from(len)) }, vec![0xff; len as usize])
}

#[test]
fn full_disk_is_cleaned_for_whatever_it_brings_once_half_of_the_room_for_removals_is_used() {
    let folder = tempfile::tempdir().unwrap();
    left_behind(folder.path(), &[100]);
    let mut writer = writer(folder.path());
    // A step of growth, less what letters leave.
    writer.append(&[entry(Kind::Letter, 980_000)], 0).ok().unwrap();
    assert!(writer.active.room() > segment::LEFT_TO_REMOVALS);
    for (removals, must_clean) in [(0, false), (32_000, false), (8_000, true)] {
        writer.append(&[entry(Kind::Removed, removals)], 0).ok().unwrap();
        writer.shared.held_up.store(false, Ordering::Relaxed);
        assert!(!writer.must_clean(), "there is room on the disk");
        writer.shared.held_up.store(true, Ordering::Relaxed);
        assert_eq!(writer.must_clean(), must_clean, "{removals}");
    }
    clean(&mut writer);
    assert!(!segment::numbers(folder.path()).unwrap().contains(&1));
}

/// Writes one piece of work, as the writer's thread does.
fn write(writer: &mut Writer, work: Work) -> Result<(), StoreError> {
    let (acknowledgement, commit) = crate::Commit::pending();
    writer.write(vec![Job { work, acknowledgement }]).unwrap();
    commit.wait().map(drop)
}

/// One letter of this length.
fn put(writer: &Writer, len: usize) -> Work {
    let (payload, quota) = (vec![9; len], Quota::NONE);
    let letter = NewLetter { mailbox: ALICE, payload, arrived_ms: 1, expires_at: 9, quota, early: None };
    let letters = writer.shared.seal(vec![letter]).unwrap();
    Work::Put(writer.shared.admission().admit(letters, &writer.shared.index()).unwrap())
}

/// Fills the disk, first with this many of the smallest letters.
fn fill(mail: &LogMail, smallest: u64) {
    let quota = Quota::NONE;
    let new = |payload: Vec<u8>| NewLetter {
        mailbox: ALICE,
        payload,
        arrived_ms: 1,
        expires_at: u64::MAX,
        quota,
        early: None,
    };
    let small: Vec<_> = (0..smallest).map(|number| new(number.to_be_bytes().to_vec())).collect();
    mail.put(small).wait().unwrap();
    for len in [500_000, 10_000, 1_000] {
        let mut number = 0u64;
        while mail.put(vec![new([number.to_be_bytes().to_vec(), vec![7; len]].concat())]).wait().is_ok() {
            number += 1;
        }
    }
    assert!(mail.is_held_up());
}

#[test]
fn mail_on_a_full_disk_can_be_acknowledged_letter_by_letter_for_as_long_as_there_is_any() {
    let folder = tempfile::tempdir().unwrap();
    let child = "mail::log::writer::cleaning::tests::child_that_acknowledges_one_by_one";
    let _ = small_disk::run(child, FOLDER, folder.path(), 60);
}

#[test]
#[ignore = "the child of the other test, on a small disk"]
fn child_that_acknowledges_one_by_one() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mail = LogMail::open(Path::new(&folder), &key()).unwrap();
    fill(&mail, 2_000);
    for letter in mail.list(ALICE, None, 1_500, 0) {
        mail.remove(ALICE, vec![letter.id]).wait().unwrap();
    }
}

/// As where what is dead is too little of a large log.
#[test]
fn removals_take_the_reserve_if_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let child = "mail::log::writer::cleaning::tests::child_that_acknowledges_and_never_cleans";
    let _ = small_disk::run(child, FOLDER, folder.path(), 60);
}

#[test]
#[ignore = "the child of the other test, on a small disk"]
fn child_that_acknowledges_and_never_cleans() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let mail = LogMail::open(folder, &key()).unwrap();
    fill(&mail, 2_000);
    mail.close().unwrap();
    let mut writer = writer(folder);
    writer.shared.held_up.store(true, Ordering::Relaxed);
    let mut take = |count: usize| {
        let letters = writer.shared.index().list(ALICE, None, count, 0);
        letters.into_iter().for_each(|letter| {
            write(&mut writer, Work::Remove(ALICE, vec![letter.id])).unwrap();
        });
        writer.reserve.is_lent()
    };
    assert!(!take(100), "there was other room");
    assert!(take(1_500));
    let put = put(&writer, 100);
    assert_eq!(write(&mut writer, put), Err(StoreError::Full), "letters wait until it is given back");
}

/// Else each group would set it aside again, and cleaning would never begin on a node that is busy.
#[test]
fn room_lent_for_a_move_is_used_before_the_next_group_comes() {
    let folder = tempfile::tempdir().unwrap();
    let child = "mail::log::writer::cleaning::tests::child_that_moves_with_the_reserve";
    let _ = small_disk::run(child, FOLDER, folder.path(), 60);
}

#[test]
#[ignore = "the child of the other test, on a small disk"]
fn child_that_moves_with_the_reserve() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mail = LogMail::open(Path::new(&folder), &key()).unwrap();
    fill(&mail, 1_000);
    mail.close().unwrap();
    let mut writer = writer(Path::new(&folder));
    let before = writer.active.end;
    writer.clean().unwrap();
    assert!(writer.reserve.is_lent() && writer.active.end > before && !writer.reserve.restore());
}

#[test]
fn reserve_that_a_killed_process_had_lent_does_not_go_to_letters() {
    let folder = tempfile::tempdir().unwrap();
    let child = "mail::log::writer::cleaning::tests::child_that_starts_without_the_reserve";
    let _ = small_disk::run(child, FOLDER, folder.path(), 60);
}

#[test]
#[ignore = "the child of the other test, on a small disk"]
fn child_that_starts_without_the_reserve() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let mail = LogMail::open(folder, &key()).unwrap();
    fill(&mail, 1);
    mail.close().unwrap();
    let reserve = folder.join("reserve");
    let ballast = folder.join("ballast");
    std::fs::remove_file(&reserve).unwrap();
    std::fs::write(&ballast, vec![1; 20_000_000]).unwrap();
    let mut before = writer(folder);
    assert!(!before.reserve.is_lent() && !reserve.exists(), "nothing is dead, so others have it");
    let letter = put(&before, 100);
    write(&mut before, letter).unwrap();
    write(&mut before, Work::Clear(ALICE, u64::MAX)).unwrap();
    // As if it were killed.
    drop(before);
    let mut writer = writer(folder);
    assert!(writer.reserve.is_lent() && writer.shared.held_up.load(Ordering::Relaxed));
    let letter = put(&writer, 100);
    assert_eq!(write(&mut writer, letter), Err(StoreError::Full));
    clean(&mut writer);
    let letter = put(&writer, 100);
    write(&mut writer, letter).unwrap();
    assert!(reserve.exists() && !writer.shared.held_up.load(Ordering::Relaxed));
}

#[test]
fn reserve_is_had_when_others_make_room_before_letters_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let child = "mail::log::writer::cleaning::tests::child_that_is_given_room";
    let _ = small_disk::run(child, FOLDER, folder.path(), 30);
}

#[test]
#[ignore = "the child of the other test, on a small disk"]
fn child_that_is_given_room() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let (reserve, ballast) = (folder.join("reserve"), folder.join("ballast"));
    std::fs::write(&ballast, vec![1; 20_000_000]).unwrap();
    let mut writer = writer(folder);
    assert!(!reserve.exists());
    std::fs::remove_file(&ballast).unwrap();
    let probe = || Work::Clear(crate::mail::log::NOBODY, 0);
    write(&mut writer, probe()).unwrap();
    assert!(!reserve.exists(), "as long as letters are taken nobody looks");
    writer.shared.held_up.store(true, Ordering::Relaxed);
    write(&mut writer, probe()).unwrap();
    assert!(reserve.exists());
}
