//! Live delivery: who is connected, and which of their mailboxes have something new.
//!
//! A session knows which mailboxes changed and up to which letter it has pushed each; the letters stay in the mail
//! until they are acknowledged, so a slow or vanished reader costs little. A reader that keeps up is offered each
//! letter while it is still on its way to the disk. What it was offered counts as pushed, no more: the letter is
//! acknowledged to its sender when it is durable, and stays until its recipient has acknowledged it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use einmal_did::Did;
use einmal_flows::message_pickup::PickupVersion;
use einmal_storage::mail::{Early, LetterId, MailboxId};
use tokio::sync::Notify;

use crate::db::mailbox_id;

/// Most sessions of one account; the oldest gives way.
const MAX_SESSIONS_PER_ACCOUNT: usize = 8;
/// Most letters a session keeps in memory until they are sent.
const MAX_OFFERED: usize = 32;
/// Bytes of such letters after which it is offered no more.
const MAX_OFFERED_BYTES: usize = 256 * 1024;
/// Most letters beyond the last pushed in order whose offer is remembered.
const MAX_TAKEN: usize = 256;

/// A connection's wish to have mail pushed, or no longer; carried out when the event that asked for it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveChange {
    /// Whose mail.
    pub(crate) account: Did,
    /// Our DID in the form the account uses.
    pub(crate) ours: Did,
    /// The account's DID in its own form.
    pub(crate) theirs: Did,
    /// Whether to push.
    pub(crate) on: bool,
    /// Which version the session was opened in: it decides how letters are pushed.
    pub(crate) version: PickupVersion,
    /// One mailbox only.
    pub(crate) only: Option<MailboxId>,
    /// Letters up to this one waited already and are not pushed.
    pub(crate) since: LetterId,
}

/// One account on one connection.
pub(crate) struct Session {
    pub(crate) change: LiveChange,
    /// Whose it is now: an account follows its owner's DID.
    owner: Mutex<Did>,
    changed: Mutex<BTreeSet<MailboxId>>,
    pushed: Mutex<BTreeMap<MailboxId, LetterId>>,
    offered: Mutex<Offered>,
    /// Another session took its place.
    displaced: AtomicBool,
    bell: Arc<Notify>,
}

/// Letters a session was given before they were durable.
#[derive(Default)]
struct Offered {
    waiting: VecDeque<(LetterId, Vec<u8>)>,
    bytes: usize,
    /// Those beyond the last that was pushed in order.
    taken: BTreeSet<(MailboxId, LetterId)>,
}

/// The letters of one posting that somebody was told of, once they are known, and who that was.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Telling>);

#[derive(Default)]
struct Telling {
    letters: Mutex<Vec<LetterId>>,
    sessions: Vec<Arc<Session>>,
}

impl Session {
    /// Takes a letter that is on its way to the disk, if its reader keeps up.
    fn offer(&self, mailbox: MailboxId, letter: LetterId, payload: Vec<u8>) {
        // Not before others that wait for their turn.
        if !self.wants(mailbox) || lock(&self.changed).contains(&mailbox) {
            return;
        }
        let mut offered = lock(&self.offered);
        let room = offered.waiting.len() < MAX_OFFERED
            && offered.bytes < MAX_OFFERED_BYTES
            && offered.taken.len() < MAX_TAKEN;
        if room {
            offered.bytes += payload.len();
            offered.waiting.push_back((letter, payload));
            offered.taken.insert((mailbox, letter));
            drop(offered);
            self.bell.notify_one();
        }
    }

    /// A letter that was offered and is not sent yet.
    pub(crate) fn next_offered(&self) -> Option<(LetterId, Vec<u8>)> {
        let mut offered = lock(&self.offered);
        let (letter, payload) = offered.waiting.pop_front()?;
        offered.bytes -= payload.len();
        Some((letter, payload))
    }

    /// Whether a letter was offered, which is then forgotten.
    pub(crate) fn was_offered(&self, mailbox: MailboxId, letter: LetterId) -> bool {
        lock(&self.offered).taken.remove(&(mailbox, letter))
    }

    /// The account's DID, in the form its owner uses.
    pub(crate) fn owner(&self) -> Did {
        lock(&self.owner).clone()
    }

    fn wants(&self, mailbox: MailboxId) -> bool {
        self.change.only.is_none_or(|only| only == mailbox)
    }

    /// A mailbox with something new, if there is one.
    pub(crate) fn next_changed(&self) -> Option<MailboxId> {
        lock(&self.changed).pop_first()
    }

    /// There may be more in a mailbox.
    pub(crate) fn look_again(&self, mailbox: MailboxId) {
        lock(&self.changed).insert(mailbox);
        self.bell.notify_one();
    }

    /// The last letter of a mailbox that needs no push any more.
    pub(crate) fn pushed(&self, mailbox: MailboxId) -> LetterId {
        lock(&self.pushed).get(&mailbox).copied().unwrap_or(self.change.since)
    }

    /// Notes that letters up to `letter` were pushed.
    pub(crate) fn note_pushed(&self, mailbox: MailboxId, letter: LetterId) {
        lock(&self.pushed).insert(mailbox, letter);
    }

    pub(crate) fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Relaxed)
    }

    fn ring(&self, mailbox: MailboxId, told: &[LetterId]) {
        let all_taken = || {
            let offered = lock(&self.offered);
            told.iter().all(|letter| offered.taken.contains(&(mailbox, *letter)))
        };
        if self.wants(mailbox) && (told.is_empty() || !all_taken()) {
            self.look_again(mailbox);
        }
    }
}

/// All sessions of a mediator.
#[derive(Default)]
pub(crate) struct Live {
    accounts: Mutex<HashMap<MailboxId, Vec<Arc<Session>>>>,
    sessions: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Opens a session; `bell` rings when there is something to push.
    pub(crate) fn open(&self, change: LiveChange, bell: Arc<Notify>) -> Arc<Session> {
        let key = mailbox_id(&change.account);
        let session = Arc::new(Session {
            owner: Mutex::new(change.theirs.clone()),
            change,
            changed: Mutex::default(),
            pushed: Mutex::default(),
            offered: Mutex::default(),
            displaced: AtomicBool::new(false),
            bell,
        });
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.admit(lock(&self.accounts).entry(key).or_default(), Arc::clone(&session));
        session
    }

    /// Puts a session behind the others of its account.
    fn admit(&self, sessions: &mut Vec<Arc<Session>>, session: Arc<Session>) {
        if sessions.len() >= MAX_SESSIONS_PER_ACCOUNT {
            let oldest = sessions.remove(0);
            oldest.displaced.store(true, Ordering::Relaxed);
            oldest.bell.notify_one();
            self.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        sessions.push(session);
    }

    /// The account of `prior` is that of `new` from now on, and its sessions with it. They look into `mailboxes`: a letter
    /// that came meanwhile may have rung for nobody.
    pub(crate) fn follow(&self, prior: &Did, new: &Did, mailboxes: &[MailboxId]) {
        let mut accounts = lock(&self.accounts);
        for session in accounts.remove(&mailbox_id(prior)).unwrap_or_default() {
            new.clone_into(&mut lock(&session.owner));
            for mailbox in mailboxes.iter().filter(|mailbox| session.wants(**mailbox)) {
                session.look_again(*mailbox);
            }
            self.admit(accounts.entry(mailbox_id(new)).or_default(), session);
        }
    }

    /// Ends a session.
    pub(crate) fn close(&self, session: &Arc<Session>) {
        let mut accounts = lock(&self.accounts);
        let key = mailbox_id(&lock(&session.owner));
        let Some(sessions) = accounts.get_mut(&key) else { return };
        let before = sessions.len();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        self.sessions.fetch_sub(before - sessions.len(), Ordering::Relaxed);
        if sessions.is_empty() {
            accounts.remove(&key);
        }
    }

    /// Whoever of `account` is to hear of letters before they are durable, and which they heard of; `None` if nobody
    /// listens.
    pub(crate) fn early(&self, account: &Did) -> Option<(Early, Told)> {
        if self.sessions.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let sessions = lock(&self.accounts).get(&mailbox_id(account))?.clone();
        let told = Told(Arc::new(Telling { letters: Mutex::default(), sessions }));
        let Told(note) = told.clone();
        let early = move |mailbox, letter, payload: Vec<u8>| {
            lock(&note.letters).push(letter);
            if let [session] = note.sessions.as_slice() {
                return session.offer(mailbox, letter, payload);
            }
            note.sessions.iter().for_each(|session| session.offer(mailbox, letter, payload.clone()));
        };
        Some((Arc::new(early), told))
    }

    /// `letters` letters were put into a mailbox of `account`; `told` says which of them were offered before.
    pub(crate) fn ring(&self, account: &Did, mailbox: MailboxId, letters: u64, told: Option<&Told>) {
        if self.sessions.load(Ordering::Relaxed) == 0 {
            return;
        }
        let known = told.map(|told| lock(&told.0.letters).clone()).unwrap_or_default();
        // One that was known already is not told of: then nobody knows which of them is new.
        let known = if known.len() as u64 == letters { known } else { Vec::new() };
        let accounts = lock(&self.accounts);
        // Nobody there: then the account may have taken another DID while the letter was on its way.
        let sessions = accounts.get(&mailbox_id(account)).or(told.map(|told| &told.0.sessions));
        sessions.into_iter().flatten().for_each(|session| session.ring(mailbox, &known));
    }

    /// Whether mail of `account` is pushed anywhere.
    pub(crate) fn is_live(&self, account: &Did) -> bool {
        lock(&self.accounts).contains_key(&mailbox_id(account))
    }

    /// Sessions open now.
    pub(crate) fn count(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use einmal_flows::message_pickup::PickupVersion;

    use super::*;

    const BOX: MailboxId = MailboxId([1; 20]);

    fn account() -> Did {
        Did::parse("did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc").unwrap()
    }

    fn session(live: &Live, only: Option<MailboxId>) -> Arc<Session> {
        let (account, version) = (account(), PickupVersion::V3);
        let (ours, theirs) = (account.clone(), account.clone());
        let change = LiveChange { account, ours, theirs, on: true, version, only, since: LetterId(9) };
        live.open(change, Arc::default())
    }

    fn put(live: &Live, letters: std::ops::Range<u64>, len: usize) {
        let (early, told) = live.early(&account()).unwrap();
        let count = letters.end - letters.start;
        letters.for_each(|id| early(BOX, LetterId(id), vec![7; len]));
        live.ring(&account(), BOX, count, Some(&told));
    }

    #[test]
    fn reader_that_keeps_up_gets_letters_early_and_is_not_rung_for_them() {
        let live = Live::default();
        assert!(live.early(&account()).is_none(), "nobody listens");
        let (session, other) = (session(&live, None), session(&live, Some(MailboxId([2; 20]))));
        put(&live, 10..12, 5);
        assert_eq!(session.next_offered(), Some((LetterId(10), vec![7; 5])));
        assert_eq!(session.next_offered(), Some((LetterId(11), vec![7; 5])));
        assert_eq!((session.next_offered(), session.next_changed()), (None, None));
        assert_eq!((other.next_offered(), other.next_changed()), (None, None), "another mailbox only");
        // What is listed later was not pushed twice.
        assert!(session.was_offered(BOX, LetterId(10)) && !session.was_offered(BOX, LetterId(12)));
    }

    #[test]
    fn reader_that_falls_behind_is_offered_little_and_rung_for_the_rest() {
        let live = Live::default();
        let session = session(&live, None);
        let many = MAX_OFFERED as u64 + 3;
        put(&live, 10..10 + many, 5);
        assert_eq!(session.next_changed(), Some(BOX));
        session.look_again(BOX);
        put(&live, 100..101, 5);
        assert_eq!(std::iter::from_fn(|| session.next_offered()).count(), MAX_OFFERED, "not before others");
        assert_eq!(session.next_changed(), Some(BOX));
        put(&live, 200..203, MAX_OFFERED_BYTES);
        assert_eq!(std::iter::from_fn(|| session.next_offered()).count(), 1, "bounded by bytes");
    }

    #[test]
    fn offers_are_remembered_within_a_bound() {
        let live = Live::default();
        let session = session(&live, None);
        for id in 0..2 * MAX_TAKEN as u64 {
            put(&live, id..id + 1, 5);
            session.next_offered();
        }
        assert_eq!(lock(&session.offered).taken.len(), MAX_TAKEN);
        assert_eq!(session.next_changed(), Some(BOX), "then it looks into the mailbox");
    }

    #[test]
    fn sessions_follow_their_account_to_its_new_did_and_are_found_and_closed_there() {
        let live = Live::default();
        let moved = Did::parse("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK").unwrap();
        let (first, other) = (session(&live, None), session(&live, Some(MailboxId([2; 20]))));
        // On its way to the disk while the account moves.
        let (early, told) = live.early(&account()).unwrap();
        live.follow(&account(), &moved, &[BOX]);
        assert_eq!((first.owner(), first.next_changed()), (moved.clone(), Some(BOX)));
        assert_eq!(other.next_changed(), None, "another mailbox only");
        assert!(live.is_live(&moved) && !live.is_live(&account()) && live.count() == 2);
        early(BOX, LetterId(10), vec![7]);
        live.ring(&account(), BOX, 2, Some(&told));
        assert_eq!(first.next_offered(), Some((LetterId(10), vec![7])));
        assert_eq!(first.next_changed(), Some(BOX), "rung although the posting knows the old DID only");
        assert!(live.early(&account()).is_none(), "nobody listens under the old one");
        live.close(&first);
        live.close(&other);
        assert_eq!((live.count(), live.is_live(&moved)), (0, false));
    }

    #[test]
    fn an_account_that_moves_to_one_with_sessions_keeps_within_the_bound() {
        let live = Live::default();
        let moved = Did::parse("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK").unwrap();
        let old: Vec<_> = (0..MAX_SESSIONS_PER_ACCOUNT).map(|_| session(&live, None)).collect();
        live.follow(&account(), &moved, &[]);
        let new: Vec<_> = (0..MAX_SESSIONS_PER_ACCOUNT).map(|_| session(&live, None)).collect();
        live.follow(&account(), &moved, &[]);
        assert_eq!(live.count(), MAX_SESSIONS_PER_ACCOUNT);
        assert!(old.iter().all(|one| one.is_displaced()) && new.iter().all(|one| !one.is_displaced()));
    }

    #[test]
    fn posting_of_which_something_was_known_or_that_nobody_was_told_of_rings() {
        let live = Live::default();
        let session = session(&live, None);
        let (early, told) = live.early(&account()).unwrap();
        early(BOX, LetterId(10), vec![7]);
        live.ring(&account(), BOX, 2, Some(&told));
        assert_eq!(session.next_changed(), Some(BOX));
        live.ring(&account(), BOX, 1, None);
        assert_eq!(session.next_changed(), Some(BOX));
    }
}
