//! Mail on a full disk: new letters are refused, nothing accepted is lost, and mail is accepted again later.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod limited;
mod small_disk;

use std::{
    env,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use einmal_storage::{
    StoreError,
    mail::{Early, LogMail, Mail, MailKey, MailboxId, NewLetter, Quota},
};
use zeroize::Zeroizing;

/// Where the child finds its folder.
const FOLDER: &str = "EINMAL_TEST_MAIL_FOLDER";
const MAILBOX: MailboxId = MailboxId([1; 20]);
const LETTER_LEN: usize = 100_000;

fn open(folder: &Path) -> LogMail {
    LogMail::open(folder, &MailKey::new(Zeroizing::new([1; 32]))).unwrap()
}

fn letter(number: u32) -> NewLetter {
    let payload = [&number.to_be_bytes()[..], &vec![7; LETTER_LEN]].concat();
    NewLetter {
        mailbox: MAILBOX,
        payload,
        arrived_ms: 0,
        expires_at: u64::MAX,
        quota: Quota::NONE,
        early: None,
    }
}

#[test]
fn a_full_disk_refuses_new_letters_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let out = limited::run("child_that_fills_the_disk", FOLDER, folder.path(), 8192);
    let accepted = out.lines().filter(|line| line.starts_with("accepted ")).count();
    assert!(accepted > 5, "{out}");
    let mail = open(folder.path());
    let listed = mail.list(MAILBOX, None, 1000, 0);
    assert_eq!(listed.len(), accepted);
    for (number, letter) in listed.iter().enumerate() {
        let payload = mail.read(MAILBOX, letter.id).unwrap().unwrap();
        assert_eq!(payload.first_chunk::<4>().unwrap(), &u32::try_from(number).unwrap().to_be_bytes());
    }
    mail.put(vec![letter(u32::MAX)]).wait().unwrap();
}

#[test]
#[ignore = "the child of the other test, which limits its files"]
fn child_that_fills_the_disk() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mail = open(Path::new(&folder));
    let refused = (0..).find_map(|number| match mail.put(vec![letter(number)]).wait() {
        Ok(_) => {
            println!("\naccepted {number}");
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(refused, Some(StoreError::Full));
    assert!(mail.is_open() && mail.is_held_up(), "room may come back");
    let first = mail.list(MAILBOX, None, 1, 0);
    let read = mail.read(MAILBOX, first.first().unwrap().id).unwrap();
    assert_eq!(read.unwrap().len(), LETTER_LEN + 4, "what was accepted can still be read");
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Arc::new(move |_, _, payload: Option<Vec<u8>>| tell.send(payload.is_some()).unwrap());
    let early = Some(Early { tell, with_payload: true });
    let heard = |payload: &[u8]| NewLetter { payload: payload.to_vec(), early: early.clone(), ..letter(0) };
    assert_eq!(mail.put(vec![heard(&[8; LETTER_LEN])]).wait(), Err(StoreError::Full));
    // This one is small enough to find room.
    mail.put(vec![heard(b"one")]).wait().unwrap();
    mail.put(vec![heard(b"two")]).wait().unwrap();
    let told: Vec<bool> = told.try_iter().collect();
    assert_eq!(told, [false, false, true], "nobody is given what the disk may not take");
    // Until not even the smallest fits: delivered letters can still be removed.
    let tiny = |number: u32| NewLetter { payload: number.to_be_bytes().to_vec(), ..letter(0) };
    let refused = (0..).find_map(|number| mail.put(vec![tiny(number)]).wait().err());
    assert_eq!(refused, Some(StoreError::Full));
    // Testing whether there is room again uses none of it, however often.
    for _ in 0..2_000 {
        mail.try_again();
    }
    assert_eq!(mail.put(vec![tiny(u32::MAX)]).wait(), Err(StoreError::Full));
    let small = || mail.list(MAILBOX, None, 100_000, 0).into_iter().filter(|letter| letter.len < 100);
    for letter in small().take(100) {
        mail.remove(MAILBOX, vec![letter.id]).wait().unwrap();
        assert_eq!(mail.put(vec![tiny(u32::MAX)]).wait(), Err(StoreError::Full));
    }
    let rest: Vec<_> = small().map(|letter| letter.id).collect();
    for part in rest.chunks(500) {
        mail.remove(MAILBOX, part.to_vec()).wait().unwrap();
    }
    assert_eq!(small().count(), 0);
}

/// Letters already in the folder before its disk becomes full.
fn waiting(folder: &Path, count: u32) {
    let mail = open(folder);
    for number in 0..count {
        mail.put(vec![NewLetter { payload: number.to_be_bytes().to_vec(), ..letter(0) }]).wait().unwrap();
    }
    mail.close().unwrap();
}

#[test]
fn a_node_started_on_a_disk_that_is_nearly_full_can_still_remove_mail() {
    let folder = tempfile::tempdir().unwrap();
    waiting(folder.path(), 100);
    // 600 KiB: less than one growth step of a mail file.
    limited::run("child_that_starts_on_a_nearly_full_disk", FOLDER, folder.path(), 1200);
    let left = open(folder.path()).list(MAILBOX, None, 1000, 0);
    assert!(left.iter().all(|letter| letter.len > 4), "what was removed stays so: {left:?}");
    assert!(!left.is_empty(), "and what was accepted is there");
}

#[test]
#[ignore = "the child of the other test, which limits its files"]
fn child_that_starts_on_a_nearly_full_disk() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mail = open(Path::new(&folder));
    let accepted = (0..).take_while(|number| mail.put(vec![letter(*number)]).wait().is_ok()).count();
    assert!(accepted > 2, "the room there is, is used, although it is less than a step: {accepted}");
    assert_eq!(mail.put(vec![letter(u32::MAX)]).wait(), Err(StoreError::Full));
    let small = || mail.list(MAILBOX, None, 1000, 0).into_iter().filter(|letter| letter.len == 4);
    for letter in small() {
        mail.remove(MAILBOX, vec![letter.id]).wait().unwrap();
    }
    assert_eq!(small().count(), 0);
}

#[test]
fn a_node_started_on_a_disk_with_room_for_removals_only_takes_no_letter_and_removes_mail() {
    let folder = tempfile::tempdir().unwrap();
    waiting(folder.path(), 100);
    // 50 KiB: less than what letters leave for removals.
    limited::run("child_that_starts_with_room_for_removals_only", FOLDER, folder.path(), 100);
    assert_eq!(open(folder.path()).list(MAILBOX, None, 1000, 0).len(), 0);
}

#[test]
#[ignore = "the child of the other test, which limits its files"]
fn child_that_starts_with_room_for_removals_only() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mail = open(Path::new(&folder));
    let tiny = NewLetter { payload: vec![1], ..letter(0) };
    assert_eq!(mail.put(vec![tiny]).wait(), Err(StoreError::Full));
    for letter in mail.list(MAILBOX, None, 1000, 0) {
        mail.remove(MAILBOX, vec![letter.id]).wait().unwrap();
    }
}

#[test]
fn mail_is_taken_again_when_recipients_have_fetched_theirs_though_one_letter_lies_abandoned() {
    // All in one file, in a finished one and another, in several.
    for mib in [34, 52, 90] {
        let folder = tempfile::tempdir().unwrap();
        if small_disk::run("child_whose_mail_is_fetched_but_for_one_letter", FOLDER, folder.path(), mib)
            .is_none()
        {
            return;
        }
    }
}

#[test]
#[ignore = "the child of the other test, on a small disk"]
fn child_whose_mail_is_fetched_but_for_one_letter() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mail = open(Path::new(&folder));
    let abandoned = MailboxId([2; 20]);
    mail.put(vec![NewLetter { mailbox: abandoned, ..letter(0) }]).wait().unwrap();
    // Also the last of the room.
    let mut lengths = [LETTER_LEN, 1_000, 0].into_iter();
    let mut len = lengths.next();
    for number in 1.. {
        let Some(present) = len else { break };
        let payload = [&u32::to_be_bytes(number)[..], &vec![7; present]].concat();
        match mail.put(vec![NewLetter { payload, ..letter(0) }]).wait() {
            Ok(_) => {}
            Err(StoreError::Full) => len = lengths.next(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(mail.is_held_up());
    loop {
        let listed = mail.list(MAILBOX, None, 1000, 0);
        if listed.is_empty() {
            break;
        }
        for part in listed.chunks(10) {
            mail.remove(MAILBOX, part.iter().map(|letter| letter.id).collect()).wait().unwrap();
        }
    }
    let begun = Instant::now();
    while let Err(error) = mail.put(vec![letter(u32::MAX)]).wait() {
        assert_eq!(error, StoreError::Full);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", mail.stats());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!mail.is_held_up());
    let many = (0..50).map(|number| mail.put(vec![letter(number)]).wait());
    assert!(many.into_iter().all(|put| put.is_ok()), "{:?}", mail.stats());
    mail.close().unwrap();
    let mail = open(Path::new(&folder));
    assert_eq!((mail.state(abandoned, 0).letters, mail.state(MAILBOX, 0).letters), (1, 51));
    let kept = mail.list(abandoned, None, 9, 0).first().unwrap().id;
    assert_eq!(mail.read(abandoned, kept).unwrap().unwrap().len(), LETTER_LEN + 4);
}

/// Else those who send would take what is lent to cleaning, and it would never be done.
#[test]
fn letters_wait_until_cleaning_has_given_back_the_room_it_was_lent() {
    let folder = tempfile::tempdir().unwrap();
    let _ = small_disk::run("child_that_sends_while_a_full_disk_is_cleaned", FOLDER, folder.path(), 64);
}

#[test]
#[ignore = "the child of the other test, on a small disk"]
fn child_that_sends_while_a_full_disk_is_cleaned() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mail = open(Path::new(&folder));
    let abandoned = MailboxId([2; 20]);
    for number in 0..100 {
        mail.put(vec![NewLetter { mailbox: abandoned, ..letter(number) }]).wait().unwrap();
    }
    let refused = (0..).find_map(|number| mail.put(vec![letter(number)]).wait().err());
    assert_eq!(refused, Some(StoreError::Full));
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let begun = Instant::now();
            let new = || NewLetter { mailbox: MailboxId([3; 20]), ..letter(0) };
            while mail.put(vec![new()]).wait().is_err() {
                assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", mail.stats());
            }
            Path::new(&folder).join("reserve").exists()
        });
        mail.clear(MAILBOX, mail.newest()).wait().unwrap();
        assert!(sending.join().unwrap(), "accepted with room that was lent");
    });
    assert_eq!(mail.state(abandoned, 0).letters, 100);
}

#[test]
fn cleaning_moves_as_many_letters_as_a_full_disk_takes() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(folder.path());
    for number in 0..8 {
        mail.put(vec![NewLetter { mailbox: MailboxId([2; 20]), ..letter(number) }]).wait().unwrap();
    }
    for number in 0..20 {
        mail.put(vec![letter(number)]).wait().unwrap();
    }
    mail.clear(MAILBOX, mail.newest()).wait().unwrap();
    mail.close().unwrap();
    // 400 KiB.
    limited::run("child_that_cleans_with_room_for_some_letters", FOLDER, folder.path(), 800);
    let mail = open(folder.path());
    let kept = mail.list(MailboxId([2; 20]), None, 9, 0);
    assert!(kept.len() == 8 && kept.iter().all(|one| mail.read(MailboxId([2; 20]), one.id).is_ok()));
}

#[test]
#[ignore = "the child of the other test, which limits its files"]
fn child_that_cleans_with_room_for_some_letters() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mail = open(Path::new(&folder));
    let before = mail.stats().bytes_on_disk;
    let large = NewLetter { payload: vec![1; 500_000], ..letter(0) };
    assert_eq!(mail.put(vec![large]).wait(), Err(StoreError::Full));
    // Cleaning happens between groups.
    for _ in 0..8 {
        mail.remove(MAILBOX, vec![]).wait().unwrap();
    }
    let moved = mail.stats().bytes_on_disk - before;
    assert!(moved > 2 * LETTER_LEN as u64 && moved < 4 * LETTER_LEN as u64, "{moved}");
    assert!(mail.is_held_up(), "a move says nothing about new letters");
}
