//! What every backend of the mail must do.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::*;

const ALICE: MailboxId = MailboxId([1; 20]);
const BOB: MailboxId = MailboxId([2; 20]);

fn letter(mailbox: MailboxId, text: &str) -> NewLetter {
    NewLetter {
        mailbox,
        payload: text.as_bytes().to_vec(),
        arrived_ms: 1000,
        expires_at: u64::MAX,
        quota: Quota::NONE,
        early: None,
    }
}

fn texts(mail: &dyn Mail, mailbox: MailboxId) -> Vec<String> {
    let listed = mail.list(mailbox, None, MAX_LISTED, 0);
    let read = |letter: &Letter| mail.read(mailbox, letter.id).unwrap().unwrap();
    listed.iter().map(|letter| String::from_utf8(read(letter)).unwrap()).collect()
}

/// Runs `check` on every backend.
fn on_each(check: impl Fn(&dyn Mail)) {
    check(&MemoryMail::new());
    let folder = tempfile::tempdir().unwrap();
    let log = LogMail::open(folder.path(), &MailKey::new(Zeroizing::new([1; 32]))).unwrap();
    check(&log);
    log.close().unwrap();
}

#[test]
fn letters_come_back_in_order_and_only_to_their_mailbox() {
    on_each(|mail| {
        mail.put(vec![letter(ALICE, "one"), letter(BOB, "other"), letter(ALICE, "two")]).wait().unwrap();
        mail.put(vec![letter(ALICE, "three")]).wait().unwrap();
        assert_eq!(texts(mail, ALICE), ["one", "two", "three"]);
        assert_eq!(texts(mail, BOB), ["other"]);
        let first = mail.list(ALICE, None, 1, 0);
        assert_eq!(first.len(), 1);
        assert_eq!(mail.list(ALICE, Some(first[0].id), 9, 0).len(), 2);
        assert_eq!(mail.read(BOB, first[0].id).unwrap(), None, "not Bob's");
        assert_eq!(mail.mailboxes(None), [ALICE, BOB]);
        assert_eq!(mail.mailboxes(Some(ALICE)), [BOB]);
    });
}

#[test]
fn the_same_letter_is_kept_once_for_each_mailbox() {
    on_each(|mail| {
        mail.put(vec![letter(ALICE, "one"), letter(ALICE, "one"), letter(BOB, "one")]).wait().unwrap();
        let id = mail.list(ALICE, None, 9, 0)[0].id;
        mail.put(vec![letter(ALICE, "one")]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 0).len(), 1);
        assert_eq!(mail.list(ALICE, None, 9, 0)[0].id, id);
        assert_eq!(mail.state(BOB, 0).letters, 1);
    });
}

#[test]
fn a_letter_is_kept_although_the_same_one_waits_that_will_soon_be_gone() {
    on_each(|mail| {
        let until = |expires_at| NewLetter { arrived_ms: 1_000, expires_at, ..letter(ALICE, "one") };
        mail.put(vec![until(61)]).wait().unwrap();
        mail.put(vec![until(119)]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 1).len(), 1, "more than half of its time is left");
        mail.put(vec![until(10_000)]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 1).len(), 2);
        assert_eq!(texts(mail, ALICE).last().unwrap(), "one");
        mail.put(vec![until(10_000)]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 1).len(), 2, "now the same one stands");
        assert_eq!(mail.list(ALICE, None, 9, 61).len(), 1, "and outlives the first");
        assert_eq!(mail.expire(61, 100), 1);
        mail.put(vec![until(10_000)]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 61).len(), 1, "and is still known");
        mail.clear(ALICE, mail.newest()).wait().unwrap();
        mail.put(vec![until(10_000)]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 61).len(), 1, "until it is gone too");
    });
}

#[test]
fn what_is_removed_is_gone_and_nothing_else() {
    on_each(|mail| {
        mail.put(vec![letter(ALICE, "one"), letter(ALICE, "two"), letter(BOB, "three")]).wait().unwrap();
        let ids: Vec<_> = mail.list(ALICE, None, 9, 0).iter().map(|letter| letter.id).collect();
        mail.remove(BOB, ids.clone()).wait().unwrap();
        assert_eq!(mail.state(ALICE, 0).letters, 2, "Bob cannot remove Alice's");
        mail.remove(ALICE, vec![ids[0], LetterId(99_999)]).wait().unwrap();
        assert_eq!(texts(mail, ALICE), ["two"]);
        assert_eq!(mail.held(&[ALICE], &ids), [(ALICE, vec![ids[1]])]);
        mail.clear(ALICE, mail.newest()).wait().unwrap();
        assert_eq!(mail.state(ALICE, 0), MailboxState::default());
        assert_eq!(texts(mail, BOB), ["three"]);
        mail.put(vec![letter(ALICE, "two")]).wait().unwrap();
        assert_eq!(texts(mail, ALICE), ["two"], "a removed letter may come again");
    });
}

#[test]
fn quotas_hold_exactly_and_refuse_the_whole_batch() {
    on_each(|mail| {
        let quota = Quota { letters: 2, bytes: 10, total_bytes: 12, ..Quota::NONE };
        let put = |letters: &[(MailboxId, &str)]| {
            mail.put(letters.iter().map(|(to, text)| NewLetter { quota, ..letter(*to, text) }).collect())
                .wait()
        };
        assert_eq!(put(&[(ALICE, "1"), (ALICE, "2"), (ALICE, "3")]), Err(StoreError::MailboxFull));
        assert_eq!(mail.state(ALICE, 0).letters, 0);
        put(&[(ALICE, "1"), (ALICE, "2")]).unwrap();
        assert_eq!(put(&[(ALICE, "3")]), Err(StoreError::MailboxFull), "letters");
        put(&[(ALICE, "2")]).unwrap();
        assert_eq!(put(&[(BOB, "elevenbytes")]), Err(StoreError::MailboxFull), "bytes");
        put(&[(BOB, "tenbytes..")]).unwrap();
        assert_eq!(put(&[(MailboxId([3; 20]), "x")]), Err(StoreError::MailboxFull), "all together");
        mail.clear(ALICE, mail.newest()).wait().unwrap();
        put(&[(ALICE, "3")]).unwrap();
    });
}

#[test]
fn many_mailboxes_together_leave_room_for_others() {
    on_each(|mail| {
        let quota = Quota { letters: 1_000, bytes: 8 << 20, total_bytes: 64 << 20, ..Quota::NONE };
        let text = "x".repeat(128 << 10);
        let put = |to: u8, number: usize| {
            let payload = format!("{to} {number} {text}").into_bytes();
            mail.put(vec![NewLetter { quota, payload, ..letter(MailboxId([to; 20]), "") }]).wait()
        };
        // Each fills its mailbox until refused: later ones get less, and nobody gets the last of the room.
        let counts: Vec<_> =
            (0..200).map(|to| (0..1_000).take_while(|n| put(to, *n).is_ok()).count()).collect();
        assert_eq!(counts.first(), Some(&6), "a 64th of 56 of 64 MiB, less what lies in it already");
        assert!(counts.is_sorted_by(|one, next| one >= next), "{counts:?}");
        assert_eq!(counts.last(), Some(&0), "a letter of 128 KiB no longer fits");
        let left = quota.total_bytes - mail.stats().bytes;
        assert!(left > 128 << 10, "yet there is room for smaller ones: {left}");
        let small = NewLetter { quota, payload: vec![1; 60 << 10], ..letter(MailboxId([200; 20]), "") };
        mail.put(vec![small]).wait().unwrap();
    });
}

#[test]
fn letters_are_bounded_in_all_however_small_and_however_many_mailboxes_share_them() {
    on_each(|mail| {
        let quota = Quota { letters: 10_000, total_letters: 10_000, ..Quota::NONE };
        let mailbox =
            |n: u32| MailboxId(std::array::from_fn(|at| n.to_be_bytes().get(at).copied().unwrap_or(9)));
        let put = |to: u32, text: &str| mail.put(vec![NewLetter { quota, ..letter(mailbox(to), text) }]);
        // One letter after another until refused. Letters on their way count: nobody waits for the disk.
        let mut commits = Vec::new();
        let mut fill = |to: u32| {
            let accepted = |number: &u32| {
                let mut commit = put(to, &number.to_string());
                let answer = Pin::new(&mut commit).poll(&mut Context::from_waker(Waker::noop()));
                commits.push(commit);
                !matches!(answer, Poll::Ready(Err(StoreError::MailboxFull)))
            };
            (0..).take_while(accepted).count()
        };
        let counts: Vec<_> = (0..1_000).map(&mut fill).collect();
        let refused = commits.into_iter().filter_map(|commit| commit.wait().err()).count();
        assert_eq!(refused, 1_000, "each was refused once");
        assert_eq!((mail.stats().letters, counts.iter().sum::<usize>()), (10_000, 10_000));
        assert_eq!(counts.first(), Some(&134), "a 64th of what is left beyond the reserve");
        assert!(counts.is_sorted_by(|one, next| one >= next), "{counts:?}");
        assert!(counts[60] > 99, "small ones are granted a few: {counts:?}");
        assert_eq!(put(2_000, "one").wait(), Err(StoreError::MailboxFull));
        mail.clear(mailbox(0), mail.newest()).wait().unwrap();
        put(2_000, "one").wait().unwrap();
    });
}

#[test]
fn a_letter_is_known_again_after_a_newer_twin_of_it_was_removed() {
    on_each(|mail| {
        let until = |expires_at| NewLetter { expires_at, ..letter(ALICE, "same") };
        mail.put(vec![until(3_000)]).wait().unwrap();
        mail.put(vec![until(10_000)]).wait().unwrap();
        let listed = mail.list(ALICE, None, 9, 0);
        assert_eq!(listed.len(), 2, "the first does not last for the second");
        mail.put(vec![until(9_000)]).wait().unwrap();
        mail.remove(ALICE, vec![listed[1].id]).wait().unwrap();
        mail.put(vec![until(4_000)]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 0), listed[..1], "it stands for both");
        mail.put(vec![until(10_000)]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 0).len(), 2, "and for no more");
    });
}

#[test]
fn of_the_same_letter_twice_one_stays_as_long_as_the_later_was_to_be_kept() {
    on_each(|mail| {
        let until = |expires_at| NewLetter { expires_at, ..letter(ALICE, "same") };
        let listed = |now| mail.list(ALICE, None, 9, now).len();
        mail.put(vec![until(61), until(10_000)]).wait().unwrap();
        assert_eq!((listed(0), listed(61)), (1, 1), "in one go");
        mail.clear(ALICE, mail.newest()).wait().unwrap();
        // Many at once, so that some go to the disk together.
        let commits: Vec<_> = (0..64).map(|_| mail.put(vec![until(61)])).collect();
        let longer = mail.put(vec![until(10_000)]);
        assert!(commits.into_iter().chain([longer]).all(|commit| commit.wait().is_ok()));
        assert_eq!(listed(61), 1, "one after the other");
        mail.put(vec![until(10_000), until(5_002)]).wait().unwrap();
        assert_eq!(listed(61), 1, "for which this one stands");
    });
}

#[test]
fn expired_letters_are_not_listed_and_are_forgotten_when_swept() {
    on_each(|mail| {
        let soon = NewLetter { expires_at: 10, ..letter(ALICE, "soon") };
        mail.put(vec![soon, letter(ALICE, "never"), letter(BOB, "never")]).wait().unwrap();
        assert_eq!(mail.list(ALICE, None, 9, 9).len(), 2);
        assert_eq!(mail.list(ALICE, None, 9, 10).len(), 1);
        let swept: u64 = (0..3).map(|_| mail.expire(10, 1)).sum();
        assert_eq!(swept, 1, "every mailbox had its turn");
        assert_eq!(texts(mail, ALICE), ["never"]);
    });
}

#[test]
fn state_and_numbers_tell_what_is_there() {
    on_each(|mail| {
        let late = NewLetter { arrived_ms: 3000, ..letter(ALICE, "three") };
        mail.put(vec![letter(ALICE, "one"), late, letter(BOB, "x")]).wait().unwrap();
        let state = mail.state(ALICE, 0);
        assert_eq!((state.letters, state.bytes), (2, 8));
        assert_eq!((state.oldest_ms, state.newest_ms), (Some(1000), Some(3000)));
        let stats = mail.stats();
        assert_eq!((stats.letters, stats.bytes, stats.mailboxes), (3, 9, 2));
    });
}

#[test]
fn a_letter_beyond_the_bound_is_refused() {
    on_each(|mail| {
        let large = NewLetter { payload: vec![0; MAX_LETTER_LEN + 1], ..letter(ALICE, "") };
        let refused = mail.put(vec![letter(ALICE, "small"), large]).wait();
        assert_eq!(refused, Err(StoreError::ValueTooLarge { len: MAX_LETTER_LEN + 1 }));
        assert_eq!(mail.state(ALICE, 0).letters, 0);
    });
}

#[test]
fn each_new_letter_is_told_of_once_and_can_be_removed_from_then_on() {
    on_each(|mail| {
        let (tell, told) = std::sync::mpsc::channel();
        let tell = Arc::new(move |mailbox, id, payload: Option<Vec<u8>>| {
            assert_eq!(mailbox, ALICE);
            tell.send((id, payload.unwrap_or_default())).unwrap();
        });
        let early = Early { tell, with_payload: true };
        let heard = |text: &str| NewLetter { early: Some(early.clone()), ..letter(ALICE, text) };
        mail.put(vec![heard("one"), heard("one"), heard("two")]).wait().unwrap();
        mail.put(vec![heard("one")]).wait().unwrap();
        let quota = Quota { letters: 2, ..Quota::NONE };
        let refused = mail.put(vec![NewLetter { quota, ..heard("three") }]).wait();
        assert_eq!(refused, Err(StoreError::MailboxFull));
        let told: Vec<(LetterId, Vec<u8>)> = told.try_iter().collect();
        let payloads: Vec<_> = told.iter().map(|(_, payload)| payload.as_slice()).collect();
        assert_eq!(payloads, [b"one", b"two"], "neither what is known nor what is refused");
        let ids: Vec<_> = told.iter().map(|(id, _)| *id).collect();
        assert_eq!(mail.held(&[ALICE], &ids), [(ALICE, ids.clone())]);
        assert_eq!(mail.list(ALICE, None, 9, 0).iter().map(|one| one.id).collect::<Vec<_>>(), ids);
        mail.remove(ALICE, ids).wait().unwrap();
        assert_eq!(mail.state(ALICE, 0).letters, 0);
    });
}

#[test]
fn payload_is_told_only_to_whom_it_is_wished() {
    on_each(|mail| {
        let (tell, told) = std::sync::mpsc::channel();
        let tell = Arc::new(move |_, _, payload| tell.send(payload).unwrap());
        for with_payload in [false, true] {
            let early = Some(Early { tell: Arc::clone(&tell) as _, with_payload });
            let text = if with_payload { "one" } else { "two" };
            mail.put(vec![NewLetter { early, ..letter(ALICE, text) }]).wait().unwrap();
        }
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [None, Some(b"one".to_vec())]);
    });
}

#[test]
fn state_without_some_letters_is_the_state_once_they_are_removed() {
    on_each(|mail| {
        let at = |arrived_ms, text: &str| NewLetter { arrived_ms, ..letter(ALICE, text) };
        mail.put(vec![at(1, "a"), at(2, "bb"), at(3, "ccc"), at(4, "dddd")]).wait().unwrap();
        let ids: Vec<LetterId> = mail.list(ALICE, None, 9, 0).iter().map(|one| one.id).collect();
        let stranger = LetterId(ids[3].0 + 99);
        for gone in [vec![], vec![ids[1]], vec![ids[0], ids[0], stranger], vec![ids[3], ids[0]], ids.clone()]
        {
            let told = mail.state_without(ALICE, &gone, 0);
            on_each(|other| {
                other.put(vec![at(1, "a"), at(2, "bb"), at(3, "ccc"), at(4, "dddd")]).wait().unwrap();
                let listed = other.list(ALICE, None, 9, 0);
                let named = ids.iter().zip(&listed).filter(|(id, _)| gone.contains(id));
                other.remove(ALICE, named.map(|(_, letter)| letter.id).collect()).wait().unwrap();
                assert_eq!(told, other.state(ALICE, 0), "{gone:?}");
            });
        }
    });
}

#[test]
fn what_comes_after_the_last_letter_of_a_clearing_stays() {
    on_each(|mail| {
        mail.put(vec![letter(ALICE, "of the former owner")]).wait().unwrap();
        let last = mail.newest();
        mail.put(vec![letter(ALICE, "of the new owner")]).wait().unwrap();
        mail.clear(ALICE, last).wait().unwrap();
        assert_eq!(texts(mail, ALICE), ["of the new owner"]);
    });
}

#[test]
fn what_has_expired_does_not_count_though_nothing_was_swept() {
    on_each(|mail| {
        let until = |expires_at, text: &str| NewLetter { expires_at, ..letter(ALICE, text) };
        mail.put(vec![until(10, "a"), until(20, "bb"), until(30, "ccc")]).wait().unwrap();
        let counted = |now| {
            let state = mail.state(ALICE, now);
            (state.letters, state.bytes)
        };
        assert_eq!(counted(9), (3, 6));
        assert_eq!(counted(10), (2, 5));
        assert_eq!(counted(25), (1, 3));
        let first = mail.list(ALICE, None, 9, 0)[0].id;
        assert_eq!(mail.state_without(ALICE, &[first], 10).letters, 2, "expired and gone is not gone twice");
        assert_eq!(mail.expire(10, 100), 1);
        assert_eq!(counted(10), (2, 5));
        mail.put(vec![until(15, "d")]).wait().unwrap();
        assert_eq!(counted(15), (2, 5), "the new one ends first");
        assert_eq!(counted(30), (0, 0));
    });
}

#[test]
fn the_oldest_letters_of_several_mailboxes_come_in_order_of_arrival() {
    on_each(|mail| {
        for (to, text) in [(ALICE, "1"), (BOB, "2"), (ALICE, "3"), (BOB, "4"), (ALICE, "5")] {
            mail.put(vec![letter(to, text)]).wait().unwrap();
        }
        let oldest = |mailboxes: &[MailboxId], after, limit| -> Vec<LetterId> {
            mail.oldest(mailboxes, after, limit, 0).into_iter().map(|(_, letter)| letter.id).collect()
        };
        let all = oldest(&[BOB, ALICE, MailboxId([9; 20])], None, 9);
        assert!(all.len() == 5 && all.is_sorted(), "{all:?}");
        assert_eq!(oldest(&[BOB, ALICE], None, 2), all[..2]);
        assert_eq!(oldest(&[BOB, ALICE], Some(all[1]), 2), all[2..4]);
        assert_eq!(oldest(&[BOB], None, 9), [all[1], all[3]]);
        assert!(oldest(&[BOB, ALICE], None, 0).is_empty());
    });
}

#[test]
fn letters_of_many_mailboxes_are_found_whether_more_are_named_or_more_are_held() {
    on_each(|mail| {
        let mailbox = |number: u8| MailboxId([number; 20]);
        for number in 0..40 {
            mail.put(vec![letter(mailbox(number % 4), &number.to_string())]).wait().unwrap();
        }
        let mailboxes: Vec<MailboxId> = (0..4).map(mailbox).collect();
        let all: Vec<LetterId> =
            mail.oldest(&mailboxes, None, 100, 0).into_iter().map(|(_, letter)| letter.id).collect();
        let found = |mailboxes: &[MailboxId], letters: &[LetterId]| -> usize {
            mail.held(mailboxes, letters).iter().map(|(_, letters)| letters.len()).sum()
        };
        assert_eq!(found(&mailboxes, &all), 40, "more named than held");
        assert_eq!(found(&mailboxes[..1], &all), 10);
        assert_eq!(found(&mailboxes, &all[3..5]), 2, "fewer named than held");
        let others = [LetterId(all[39].0 + 1), LetterId(all[39].0 + 2)];
        assert!(mail.held(&mailboxes, &others).is_empty());
    });
}
