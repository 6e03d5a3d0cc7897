//! The log survives whatever happens to processes and files.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    path::PathBuf,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::{
    disk::tests::synced,
    mail::{MAX_LISTED, Quota},
};

const ALICE: MailboxId = MailboxId([1; 20]);

fn open(folder: &TempDir) -> LogMail {
    LogMail::open(folder.path(), &MailKey::new(Zeroizing::new([1; 32]))).unwrap()
}

fn put(mail: &LogMail, payload: impl Into<Vec<u8>>) {
    let quota = Quota::NONE;
    let payload = payload.into();
    let letter =
        NewLetter { mailbox: ALICE, payload, arrived_ms: 1, expires_at: u64::MAX, quota, early: None };
    mail.put(vec![letter]).wait().unwrap();
}

fn list(mail: &LogMail) -> Vec<Letter> {
    mail.list(ALICE, None, MAX_LISTED, 0)
}

fn read(mail: &LogMail) -> Vec<Vec<u8>> {
    list(mail).iter().map(|letter| mail.read(ALICE, letter.id).unwrap().unwrap()).collect()
}

fn files(folder: &TempDir, ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<_> = all.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    found.sort();
    found
}

/// A folder as a killed process leaves it: no segment is finished.
fn killed(letters: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    letters.iter().for_each(|text| put(&mail, *text));
    let copy = tempfile::tempdir().unwrap();
    for path in files(&folder, "mail") {
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

#[test]
fn letters_and_their_ids_survive_a_kill_and_a_clean_end() {
    let folder = killed(&["one", "two"]);
    let mail = open(&folder);
    let before = list(&mail);
    assert_eq!(read(&mail), [b"one", b"two"]);
    mail.close().unwrap();
    let mail = open(&folder);
    assert_eq!(list(&mail), before);
    mail.remove(ALICE, vec![before[0].id]).wait().unwrap();
    mail.close().unwrap();
    assert_eq!(read(&open(&folder)), [b"two"]);
}

#[test]
fn a_log_cut_off_anywhere_keeps_the_whole_letters_before_the_cut() {
    let folder = killed(&["one", "two"]);
    let path = files(&folder, "mail").remove(0);
    let whole = std::fs::read(&path).unwrap();
    let entry = HEADER_LEN + SEAL_LEN + 3;
    for cut in (0..2 * entry + 40).step_by(7) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(path.file_name().unwrap()), &whole[..cut]).unwrap();
        let mail = open(&folder);
        let kept = cut.saturating_sub(segment::HEAD_LEN) / entry;
        assert_eq!(list(&mail).len(), kept.min(2), "cut at {cut}");
        put(&mail, "new");
        assert_eq!(read(&mail).last().unwrap(), b"new");
    }
}

#[test]
fn an_id_is_never_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = LetterId(0);
    for round in 0..4 {
        let mail = open(&folder);
        put(&mail, format!("{round}"));
        let id = list(&mail)[0].id;
        assert!(id > last);
        last = id;
        mail.remove(ALICE, vec![id]).wait().unwrap();
        mail.close().unwrap();
    }
}

#[test]
fn a_removal_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    put(&mail, "one");
    put(&mail, "two");
    mail.remove(ALICE, vec![list(&mail)[0].id]).wait().unwrap();
    let copy = tempfile::tempdir().unwrap();
    for path in files(&folder, "mail") {
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(read(&open(&copy)), [b"two"]);
}

#[test]
fn a_changed_letter_is_damage_and_does_not_hide_the_others() {
    let folder = killed(&["one"]);
    let mail = open(&folder);
    put(&mail, "two");
    mail.close().unwrap();
    let path = files(&folder, "mail").remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = segment::HEAD_LEN + HEADER_LEN + 30;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mail = open(&folder);
    let listed = list(&mail);
    assert!(matches!(mail.read(ALICE, listed[0].id), Err(StoreError::Damaged { .. })));
    assert_eq!(mail.read(ALICE, listed[1].id).unwrap().unwrap(), b"two");
    assert_eq!(mail.stats().damaged, 1);
}

#[test]
fn damage_in_a_file_that_was_not_finished_is_counted_and_hides_nothing_behind_it() {
    let entry = HEADER_LEN + SEAL_LEN + 3;
    let cases = [(0, ["two", "six"], 1), (1, ["one", "six"], 1), (2, ["one", "two"], 0)];
    // One byte of the body, of the length, and of the kind.
    for (which, kept, damaged, place) in cases
        .into_iter()
        .flat_map(|(which, kept, damaged)| [HEADER_LEN + 30, 9, 4].map(|at| (which, kept, damaged, at)))
    {
        let folder = killed(&["one", "two", "six"]);
        let path = files(&folder, "mail").remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[segment::HEAD_LEN + which * entry + place] ^= 0x41;
        std::fs::write(&path, bytes).unwrap();
        let mail = open(&folder);
        assert_eq!(read(&mail), kept.map(|text| text.as_bytes().to_vec()), "{which}");
        assert_eq!(mail.stats().damaged, damaged, "what is last may be the torn end of a write");
        drop(mail);
        assert_eq!(read(&open(&folder)).len(), 2, "and once more, by its contents");
    }
}

#[test]
fn a_file_whose_head_is_damaged_is_never_taken_for_an_empty_one() {
    let finished = {
        let folder = killed(&["one"]);
        open(&folder).close().unwrap();
        folder
    };
    for folder in [killed(&["one"]), finished] {
        let path = files(&folder, "mail").remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..segment::HEAD_LEN].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let refused = LogMail::open(folder.path(), &MailKey::new(Zeroizing::new([1; 32])));
        assert!(matches!(refused, Err(StoreError::Damaged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was thrown away");
    }
    // Killed while it was begun.
    for bytes in [vec![], vec![0; 7], vec![0; 4096]] {
        let folder = killed(&["one"]);
        let begun = files(&folder, "mail").remove(0).with_file_name("0000000007.mail");
        std::fs::write(&begun, bytes).unwrap();
        assert_eq!(read(&open(&folder)), [b"one"]);
        assert!(!begun.exists());
    }
}

#[test]
fn a_finished_file_cut_short_loses_only_what_was_cut_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    put(&mail, "one");
    put(&mail, "two");
    mail.close().unwrap();
    let path = files(&folder, "mail").remove(0);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let mail = open(&folder);
    assert_eq!(read(&mail), [b"one"]);
    assert_eq!(mail.stats().damaged, 1);
}

#[test]
fn a_damaged_table_of_contents_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    put(&mail, "one");
    mail.close().unwrap();
    let toc = files(&folder, "toc").remove(0);
    let mut bytes = std::fs::read(&toc).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&toc, &bytes).unwrap();
    assert_eq!(read(&open(&folder)), [b"one"]);
}

#[test]
fn a_folder_that_was_just_made_is_durable_before_mail_lies_in_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("mail");
    let _ = synced();
    let mail = LogMail::open(&folder, &MailKey::new(Zeroizing::new([1; 32]))).unwrap();
    let synced = synced();
    let place = |wanted: &Path| synced.iter().position(|path| path == wanted);
    assert!(place(home.path()).unwrap() < place(&folder).unwrap(), "{synced:?}");
    put(&mail, "one");
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _held = open(&folder);
    let key = MailKey::new(Zeroizing::new([1; 32]));
    assert!(matches!(LogMail::open(folder.path(), &key), Err(StoreError::InUse { .. })));
}

/// Names and bytes of all files of a folder.
fn bytes_of(folder: &TempDir) -> Vec<(PathBuf, Vec<u8>)> {
    let all = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<_> = all.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    found.sort();
    found
}

#[test]
fn a_look_counts_letters_finds_damage_and_writes_nothing() {
    let key = MailKey::new(Zeroizing::new([1; 32]));
    // An unfinished file, a finished one, and one that was cut short.
    let folder = killed(&["one", "two"]);
    let before = bytes_of(&folder);
    let found = inspect(folder.path(), &key, 100).unwrap();
    assert_eq!((found.letters, found.looked_at, found.damaged, found.newest_ms), (2, 2, 0, Some(1)));
    assert_eq!(inspect(folder.path(), &key, 1).unwrap().looked_at, 1, "no more than asked for");
    assert_eq!(bytes_of(&folder), before);
    let mail = open(&folder);
    put(&mail, "three");
    assert!(matches!(inspect(folder.path(), &key, 100), Err(StoreError::InUse { .. })));
    mail.remove(ALICE, vec![list(&mail)[1].id]).wait().unwrap();
    mail.close().unwrap();
    let path = files(&folder, "mail").remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[segment::HEAD_LEN + HEADER_LEN + 30] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let before = bytes_of(&folder);
    let found = inspect(folder.path(), &key, 100).unwrap();
    assert_eq!((found.letters, found.looked_at, found.damaged), (2, 2, 1));
    assert_eq!(bytes_of(&folder), before);
    let path = files(&folder, "mail").pop().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..segment::HEAD_LEN + HEADER_LEN]).unwrap();
    assert_eq!(inspect(folder.path(), &key, 100).unwrap().damaged, 2);
    let other = MailKey::new(Zeroizing::new([2; 32]));
    assert_eq!(inspect(folder.path(), &other, 100).unwrap().looked_at, 1, "the other one is cut off");
}

#[test]
fn payloads_do_not_lie_readable_on_the_disk() {
    let folder = killed(&["a secret that nobody may read"]);
    for path in files(&folder, "mail") {
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"a secret"));
    }
}

#[test]
fn files_without_letters_go_and_old_letters_move() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    put(&mail, "kept for long");
    let kept = list(&mail)[0].id;
    (0..90).for_each(|number| put_and_remove(&mail, number));
    // A fence: cleaning happens between groups.
    for _ in 0..8 {
        mail.remove(ALICE, vec![LetterId(u64::MAX)]).wait().unwrap();
    }
    assert_eq!(read(&mail), [b"kept for long"]);
    assert!(mail.stats().bytes_on_disk < 3 * SEGMENT_LEN + 2_000_000, "{:?}", mail.stats());
    mail.close().unwrap();
    let mail = open(&folder);
    assert_eq!(list(&mail)[0].id, kept);
    assert_eq!(read(&mail), [b"kept for long"]);
}

/// One megabyte that differs from all others, put and removed at once.
fn put_and_remove(mail: &LogMail, number: u32) {
    put(mail, [number.to_le_bytes().to_vec(), vec![7; 1_000_000]].concat());
    let newest = list(mail).last().unwrap().id;
    mail.remove(ALICE, vec![newest]).wait().unwrap();
}

#[test]
fn a_file_without_contents_is_cleaned_by_what_is_known_of_it_though_it_cannot_be_read_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    put(&mail, "kept for long");
    (0..20).for_each(|number| put_and_remove(&mail, number));
    let oldest = files(&folder, "toc").remove(0);
    std::fs::remove_file(&oldest).unwrap();
    let oldest = oldest.with_extension("mail");
    OpenOptions::new().write(true).open(&oldest).unwrap().write_all_at(&[0; 32], 0).unwrap();
    (20..90).for_each(|number| put_and_remove(&mail, number));
    for _ in 0..8 {
        mail.remove(ALICE, vec![LetterId(u64::MAX)]).wait().unwrap();
    }
    assert!(!oldest.exists(), "{:?}", mail.stats());
    assert_eq!(read(&mail), [b"kept for long"]);
}

/// Puts a letter without waiting for the disk, and returns the id it was announced with.
fn put_heard(mail: &LogMail, text: &str) -> (LetterId, Commit) {
    let (told, heard) = std::sync::mpsc::channel();
    let tell = Arc::new(move |_, id, _| told.send(id).unwrap());
    let (payload, quota) = (text.into(), Quota::NONE);
    let early = crate::mail::Early { tell, with_payload: true };
    let letter =
        NewLetter { mailbox: ALICE, payload, arrived_ms: 1, expires_at: u64::MAX, quota, early: Some(early) };
    let commit = mail.put(vec![letter]);
    (heard.try_recv().unwrap(), commit)
}

#[test]
fn letter_told_of_is_held_at_once_and_a_removal_that_is_faster_than_the_disk_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    for round in 0..200 {
        let (id, put) = put_heard(&mail, &format!("round {round}"));
        assert_eq!(mail.held(&[ALICE], &[id]), [(ALICE, vec![id])]);
        assert!(mail.held(&[MailboxId([9; 20])], &[id]).is_empty());
        // In the same group as the letter, or in a later one.
        let removed = mail.remove(ALICE, vec![id]);
        put.wait().unwrap();
        removed.wait().unwrap();
        assert!(mail.held(&[ALICE], &[id]).is_empty() && list(&mail).is_empty(), "round {round}");
    }
    drop(mail);
    assert!(list(&open(&folder)).is_empty(), "nor does it come back");
}

#[test]
fn clearing_takes_what_was_put_before_it_and_leaves_what_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    for round in 0..50 {
        let before = put_heard(&mail, &format!("before {round}"));
        let cleared = mail.clear(ALICE, mail.newest());
        let after = put_heard(&mail, &format!("after {round}"));
        for commit in [before.1, cleared, after.1] {
            commit.wait().unwrap();
        }
        assert_eq!(list(&mail).iter().map(|letter| letter.id).collect::<Vec<_>>(), [after.0]);
    }
}

#[test]
fn letter_that_comes_again_behind_its_clearing_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    for round in 0..100 {
        let before = put_heard(&mail, "the same");
        let gone = mail.clear(ALICE, before.0);
        put(&mail, "the same");
        gone.wait().unwrap();
        let left: Vec<LetterId> = list(&mail).iter().map(|letter| letter.id).collect();
        assert!(left.len() == 1 && left[0] > before.0, "round {round}: {left:?}");
        mail.clear(ALICE, mail.newest()).wait().unwrap();
    }
    assert!(!mail.shared.admission().leaving.takes(ALICE, LetterId(1)), "nothing is remembered for ever");
}

#[test]
fn id_of_a_letter_that_a_crash_kept_from_the_disk_never_names_another() {
    let folder = tempfile::tempdir().unwrap();
    let mail = Arc::new(open(&folder));
    put(&mail, "one");
    let mut told = Vec::new();
    // The folder as it is before the letter reaches it, in every round.
    let mut before = folder;
    for round in 0..3 {
        let copy = tempfile::tempdir().unwrap();
        for path in files(&before, "mail") {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let mail = open(&copy);
        let next = tempfile::tempdir().unwrap();
        for path in files(&copy, "mail") {
            std::fs::copy(&path, next.path().join(path.file_name().unwrap())).unwrap();
        }
        let (id, put) = put_heard(&mail, &format!("round {round}"));
        put.wait().unwrap();
        told.push(id);
        before = next;
    }
    let distinct: HashSet<_> = told.iter().collect();
    assert_eq!(distinct.len(), told.len(), "{told:?}");
}

#[test]
fn ids_told_of_are_not_given_again_after_an_end_in_order_with_nothing_written() {
    let folder = tempfile::tempdir().unwrap();
    let last = |folder: &TempDir| {
        let mail = open(folder);
        let (id, put) = put_heard(&mail, "one");
        mail.remove(ALICE, vec![id]).wait().unwrap();
        put.wait().unwrap();
        mail.close().unwrap();
        id
    };
    let first = last(&folder);
    for _ in 0..3 {
        open(&folder).close().unwrap();
    }
    assert!(last(&folder) > first);
    assert!(files(&folder, "mail").len() < 5, "empty files do not pile up");
}

/// A lock that the writer needs acts as a disk that does not answer.
#[test]
fn a_disk_that_hangs_is_told_of_and_mail_is_refused_until_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    let patience = Duration::from_millis(200);
    mail.shared.queue.set_patience(patience);
    put(&mail, "one");
    thread::sleep(patience * 2);
    assert!(!mail.is_stalled(), "nobody asked it for anything");
    let index = mail.shared.index();
    let held = mail.remove(ALICE, vec![LetterId(u64::MAX)]);
    let (_, told) = put_heard(&mail, "two");
    thread::sleep(patience * 2);
    assert!(mail.is_stalled());
    let begun = Instant::now();
    let quota = Quota { total_letters: 4, ..Quota::NONE };
    let three = |payload: &[u8]| NewLetter {
        mailbox: ALICE,
        payload: payload.to_vec(),
        arrived_ms: 1,
        expires_at: u64::MAX,
        quota,
        early: None,
    };
    assert_eq!(mail.put(vec![three(b"three")]).wait(), Err(StoreError::Stalled));
    assert_eq!(mail.remove(ALICE, vec![LetterId(7)]).wait(), Err(StoreError::Stalled));
    assert!(begun.elapsed() < patience, "at once");
    thread::scope(|scope| {
        // What it follows from has happened: nobody would ask for it again.
        let cleared = scope.spawn(|| mail.clear(MailboxId([9; 20]), LetterId(u64::MAX)).wait());
        thread::sleep(patience);
        assert!(!cleared.is_finished());
        drop(index);
        cleared.join().unwrap().unwrap();
    });
    held.wait().unwrap();
    told.wait().unwrap();
    // Callers are answered a moment before the writer asks for more.
    while mail.is_stalled() {
        thread::yield_now();
    }
    mail.put(vec![three(b"four")]).wait().unwrap();
    mail.put(vec![three(b"three")]).wait().unwrap();
    assert_eq!(read(&mail), [&b"one"[..], b"two", b"four", b"three"], "what was refused takes no place");
}

#[test]
fn mail_stays_in_a_full_file_while_no_new_one_can_be_begun_and_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    let path = files(&folder, "mail").remove(0).with_file_name("0000000002.mail");
    // A folder of that name acts as a disk without room for another file.
    std::fs::create_dir(&path).unwrap();
    let large = |number: u8| vec![number; MAX_LETTER_LEN];
    for number in 0..16 {
        put(&mail, large(number));
    }
    let refused = |payload: &[u8]| {
        let (payload, quota) = (payload.to_vec(), Quota::NONE);
        let letter =
            NewLetter { mailbox: ALICE, payload, arrived_ms: 1, expires_at: u64::MAX, quota, early: None };
        mail.put(vec![letter]).wait()
    };
    assert!(refused(b"one").is_err());
    let first = list(&mail)[0].id;
    mail.remove(ALICE, vec![first]).wait().unwrap();
    assert_eq!(list(&mail).len(), 15);
    std::fs::remove_dir(&path).unwrap();
    put(&mail, "two");
    mail.close().unwrap();
    let mail = open(&folder);
    let lengths: Vec<u64> = list(&mail).iter().map(|letter| letter.len).collect();
    assert_eq!(lengths, [vec![MAX_LETTER_LEN as u64; 15], vec![3]].concat());
    assert!(list(&mail).iter().all(|letter| letter.id != first));
}

#[test]
fn a_start_whose_tables_of_contents_cannot_be_written_loses_nothing() {
    let folder = killed(&["one", "two"]);
    let toc = files(&folder, "mail").remove(0).with_extension("toc");
    std::fs::create_dir(&toc).unwrap();
    let mail = open(&folder);
    assert_eq!(read(&mail), [b"one", b"two"]);
    drop(mail);
    std::fs::remove_dir(&toc).unwrap();
    drop(open(&folder));
    assert!(toc.is_file(), "they are made up for");
    assert_eq!(read(&open(&folder)), [b"one", b"two"]);
}

fn put_until(mail: &LogMail, text: &str, expires_at: u64) {
    let (payload, quota) = (text.into(), Quota::NONE);
    mail.put(vec![NewLetter { mailbox: ALICE, payload, arrived_ms: 1, expires_at, quota, early: None }])
        .wait()
        .unwrap();
}

/// What a killed process leaves, with a clean end of it beside.
fn left_behind(fill: impl Fn(&LogMail)) -> [TempDir; 2] {
    let folder = tempfile::tempdir().unwrap();
    let mail = open(&folder);
    fill(&mail);
    // A fence: what nobody waits for is written by then.
    mail.clear(MailboxId([9; 20]), LetterId(0)).wait().unwrap();
    let copy = tempfile::tempdir().unwrap();
    for path in files(&folder, "mail") {
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    mail.close().unwrap();
    [copy, folder]
}

/// Else they would take the room of others until the clock is trusted again, an hour after each start.
#[test]
fn letters_that_were_swept_do_not_come_back_at_the_next_start_and_others_do() {
    let folders = left_behind(|mail| {
        put_until(mail, "soon", 10);
        put_until(mail, "later", 20);
        put_until(mail, "never", u64::MAX);
        assert_eq!(mail.expire(10, 9), 1);
        // The clock was set back.
        put_until(mail, "soon again", 9);
    });
    for folder in folders {
        let mail = open(&folder);
        assert_eq!(read(&mail), [&b"later"[..], b"never", b"soon again"]);
        assert_eq!((mail.stats().letters, mail.state(ALICE, 0).letters), (3, 3));
        assert_eq!(mail.expire(20, 9), 2);
        assert_eq!(mail.expire(20, 9), 0, "and they are gone once");
        mail.close().unwrap();
        assert_eq!(inspect(folder.path(), &MailKey::new(Zeroizing::new([1; 32])), 9).unwrap().letters, 1);
    }
}

#[test]
fn expired_letters_that_nobody_swept_are_there_at_the_next_start() {
    for folder in left_behind(|mail| put_until(mail, "soon", 10)) {
        assert_eq!(read(&open(&folder)), [b"soon"]);
    }
}

/// A sweep whose time is before that of an earlier one says nothing less about what came before both.
#[test]
fn of_several_sweeps_the_latest_time_counts() {
    let folders = left_behind(|mail| {
        put_until(mail, "one", 10);
        put_until(mail, "two", 30);
        assert_eq!(mail.expire(30, 9), 2);
        put_until(mail, "three", 10);
        put_until(mail, "four", 20);
        assert_eq!(mail.expire(10, 9), 1);
    });
    for folder in folders {
        assert_eq!(read(&open(&folder)), [b"four"]);
    }
}
