//! Sessions between letters announced, letters on the disk, and a reader.

use super::*;

const BOX: MailboxId = MailboxId([1; 20]);
const OTHER: MailboxId = MailboxId([2; 20]);

fn account() -> Did {
    Did::parse("did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc").unwrap()
}

fn session(live: &Live, since: u64) -> Arc<Session> {
    let (account, form) = (account(), PushForm::Raw);
    let (ours, theirs) = (account.clone(), account.clone());
    let since = LetterId(since);
    let change = LiveChange { account, ours, theirs, on: true, form, since, mailboxes: Vec::new() };
    live.open(change, Arc::default())
}

fn tell(live: &Arc<Live>, mailbox: MailboxId, letter: u64, len: usize) {
    (live.early(mailbox_id(&account())).tell)(mailbox, LetterId(letter), Some(vec![7; len]));
}

fn ring(live: &Live, mailbox: MailboxId) {
    live.ring(mailbox_id(&account()), mailbox);
}

/// What a socket does in its turn: first the offers, then the mail, where `on_disk` is the content of BOX.
fn push(session: &Session, on_disk: &[u64]) -> Vec<u64> {
    let mut pushed: Vec<u64> = std::iter::from_fn(|| session.next_offered()).map(|(id, _)| id.0).collect();
    while let Some(mailbox) = session.next_changed() {
        let after = session.pushed(mailbox);
        let listed = on_disk.iter().copied().filter(|id| LetterId(*id) > after);
        pushed.extend(listed.filter(|id| session.claim(mailbox, LetterId(*id))));
    }
    pushed
}

#[test]
fn reader_that_keeps_up_gets_letters_early_and_is_not_rung_for_them() {
    let live = Arc::new(Live::default());
    assert!(!live.early(mailbox_id(&account())).with_payload, "nobody listens");
    let session = session(&live, 9);
    assert!(live.early(mailbox_id(&account())).with_payload);
    for letter in [10, 11] {
        tell(&live, BOX, letter, 5);
    }
    assert_eq!(session.next_offered(), Some((LetterId(10), vec![7; 5])));
    assert_eq!(session.next_offered(), Some((LetterId(11), vec![7; 5])));
    ring(&live, BOX);
    assert_eq!(push(&session, &[10, 11]), [0; 0], "nothing is pushed twice");
}

#[test]
fn offers_go_on_however_many_letters_come_and_go() {
    let live = Arc::new(Live::default());
    let session = session(&live, 0);
    for letter in 1..2000 {
        tell(&live, BOX, letter, 1000);
        ring(&live, BOX);
        assert_eq!(session.next_offered().map(|(id, _)| id.0), Some(letter), "acknowledged, so never listed");
        assert_eq!(session.next_changed(), None);
    }
    assert_eq!(live.offered.load(Ordering::Relaxed), 0);
}

#[test]
fn reader_that_falls_behind_is_offered_little_and_gets_the_rest_in_order() {
    let live = Arc::new(Live::default());
    let session = session(&live, 9);
    let last = 9 + MAX_OFFERED as u64 + 3;
    (10..=last).for_each(|letter| tell(&live, BOX, letter, 5));
    ring(&live, BOX);
    tell(&live, BOX, last + 1, 5);
    // The last one is not on the disk yet, so it cannot be found there.
    let on_disk: Vec<u64> = (10..=last).collect();
    assert_eq!(push(&session, &on_disk), on_disk, "none is left out, none comes before another");
    tell(&live, BOX, last + 2, 5);
    assert_eq!(session.next_offered(), None, "one before it was passed over");
    ring(&live, BOX);
    assert_eq!(push(&session, &[last + 1, last + 2]), [last + 1, last + 2]);
    tell(&live, BOX, last + 3, 5);
    assert_eq!(push(&session, &[]), [last + 3], "in step again");
}

#[test]
fn offers_are_bounded_by_bytes_of_one_session_and_of_all() {
    let live = Arc::new(Live::default());
    let one = session(&live, 0);
    tell(&live, BOX, 1, MAX_OFFERED_BYTES + 1);
    assert_eq!(one.next_offered(), None);
    live.close(&one);
    let half = MAX_OFFERED_BYTES / 2;
    let many: Vec<_> = (0..MAX_SESSIONS_PER_ACCOUNT).map(|_| session(&live, 1)).collect();
    live.offered.store(MAX_OFFERED_BYTES_IN_ALL - half, Ordering::Relaxed);
    tell(&live, BOX, 2, half);
    let offered = |session: &Arc<Session>| lock(&session.state).offered.len();
    assert_eq!(many.iter().map(offered).sum::<usize>(), 1, "room for one copy only");
    many.iter().for_each(|session| live.close(session));
    drop(many);
    assert_eq!(live.offered.load(Ordering::Relaxed), MAX_OFFERED_BYTES_IN_ALL - half, "given back");
}

#[test]
fn letter_told_of_before_the_session_was_there_comes_before_later_ones() {
    let live = Arc::new(Live::default());
    // On its way to the disk when the session is opened: it did not wait in the mailbox, and was offered to nobody.
    tell(&live, BOX, 10, 5);
    let session = session(&live, 9);
    tell(&live, BOX, 11, 5);
    assert_eq!(session.next_offered(), None);
    ring(&live, BOX);
    assert_eq!(push(&session, &[10, 11]), [10, 11]);
    tell(&live, BOX, 12, 5);
    assert_eq!(push(&session, &[10, 11]), [12]);
}

#[test]
fn letter_without_payload_is_found_in_the_mail() {
    let live = Arc::new(Live::default());
    let session = session(&live, 9);
    (live.early(mailbox_id(&account())).tell)(BOX, LetterId(10), None);
    tell(&live, BOX, 11, 5);
    ring(&live, BOX);
    assert_eq!(push(&session, &[10, 11]), [10, 11]);
}

#[test]
fn mailboxes_and_accounts_do_not_hold_each_other_up() {
    let live = Arc::new(Live::default());
    let session = session(&live, 9);
    tell(&live, OTHER, 10, MAX_OFFERED_BYTES + 1);
    tell(&live, BOX, 11, 5);
    assert_eq!(session.next_offered().map(|(id, _)| id), Some(LetterId(11)));
    let stranger = Did::parse("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK").unwrap();
    (live.early(mailbox_id(&stranger)).tell)(BOX, LetterId(12), Some(vec![7]));
    live.ring(mailbox_id(&stranger), BOX);
    assert_eq!((session.next_offered(), session.next_changed()), (None, None));
}

#[test]
fn oldest_session_of_an_account_gives_way() {
    let live = Arc::new(Live::default());
    let sessions: Vec<_> = (0..=MAX_SESSIONS_PER_ACCOUNT).map(|_| session(&live, 0)).collect();
    assert!(sessions[0].is_displaced() && !sessions[1].is_displaced());
    assert_eq!(live.count(), MAX_SESSIONS_PER_ACCOUNT);
    sessions.iter().for_each(|session| live.close(session));
    assert!(live.count() == 0 && !live.is_live(&account()));
}

fn moved() -> Did {
    Did::parse("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK").unwrap()
}

#[test]
fn sessions_follow_their_account_to_its_new_did_and_are_found_and_closed_there() {
    let live = Arc::new(Live::default());
    let session = session(&live, 9);
    tell(&live, BOX, 10, 5);
    live.follow(&account(), &moved(), &[BOX]);
    assert_eq!(session.owner(), moved());
    assert!(live.is_live(&moved()) && !live.is_live(&account()) && live.count() == 1);
    assert_eq!(push(&session, &[10]), [10], "offered before, so not found again");
    // Put while the account had its former DID.
    tell(&live, BOX, 11, 5);
    ring(&live, BOX);
    assert_eq!(push(&session, &[10, 11]), [11]);
    (live.early(mailbox_id(&moved())).tell)(BOX, LetterId(12), Some(vec![7]));
    assert_eq!(push(&session, &[]), [12]);
    live.close(&session);
    assert_eq!((live.count(), live.is_live(&moved())), (0, false));
    assert!(lock(&live.accounts).moved.is_empty(), "nothing is kept of it");
}

#[test]
fn former_dids_are_remembered_within_a_bound() {
    let live = Arc::new(Live::default());
    let session = session(&live, 9);
    for _ in 0..10 {
        live.follow(&account(), &moved(), &[]);
        live.follow(&moved(), &account(), &[]);
    }
    let accounts = lock(&live.accounts);
    assert!(accounts.moved.len() <= MAX_FORMER && accounts.sessions(mailbox_id(&account())).len() == 1);
    drop((accounts, session));
}

#[test]
fn an_account_that_moves_to_one_with_sessions_keeps_within_the_bound() {
    let live = Arc::new(Live::default());
    let old: Vec<_> = (0..MAX_SESSIONS_PER_ACCOUNT).map(|_| session(&live, 0)).collect();
    live.follow(&account(), &moved(), &[]);
    let new: Vec<_> = (0..MAX_SESSIONS_PER_ACCOUNT).map(|_| session(&live, 0)).collect();
    live.follow(&account(), &moved(), &[]);
    assert_eq!(live.count(), MAX_SESSIONS_PER_ACCOUNT);
    assert!(old.iter().all(|one| one.is_displaced()) && new.iter().all(|one| !one.is_displaced()));
}
