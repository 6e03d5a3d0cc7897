//! Cleaning comes to an end, whatever the disk does.

use std::{env, path::Path, sync::Arc};

use zeroize::Zeroizing;

use super::*;
use crate::disk::tests::{on_sync, synced};
use crate::mail::{
    MailKey,
    log::{LogMail, Shared},
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
