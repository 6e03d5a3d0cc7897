//! Live delivery: who is connected, and which of their mailboxes have something new.
//!
//! Nothing is queued here. A session knows which mailboxes changed and up to which letter it has pushed each; the
//! letters stay in the mail until they are acknowledged, so a slow or vanished reader costs a few bytes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use einmal_did::Did;
use einmal_flows::message_pickup::PickupVersion;
use einmal_storage::mail::{LetterId, MailboxId};
use tokio::sync::Notify;

use crate::db::mailbox_id;

/// Most sessions of one account; the oldest gives way.
const MAX_SESSIONS_PER_ACCOUNT: usize = 8;

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
    changed: Mutex<BTreeSet<MailboxId>>,
    pushed: Mutex<BTreeMap<MailboxId, LetterId>>,
    /// Another session took its place.
    displaced: AtomicBool,
    bell: Arc<Notify>,
}

impl Session {
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

    fn ring(&self, mailbox: MailboxId) {
        if self.change.only.is_none_or(|only| only == mailbox) {
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
            change,
            changed: Mutex::default(),
            pushed: Mutex::default(),
            displaced: AtomicBool::new(false),
            bell,
        });
        let mut accounts = lock(&self.accounts);
        let sessions = accounts.entry(key).or_default();
        if sessions.len() >= MAX_SESSIONS_PER_ACCOUNT {
            let oldest = sessions.remove(0);
            oldest.displaced.store(true, Ordering::Relaxed);
            oldest.bell.notify_one();
            self.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        sessions.push(Arc::clone(&session));
        self.sessions.fetch_add(1, Ordering::Relaxed);
        session
    }

    /// Ends a session.
    pub(crate) fn close(&self, session: &Arc<Session>) {
        let key = mailbox_id(&session.change.account);
        let mut accounts = lock(&self.accounts);
        let Some(sessions) = accounts.get_mut(&key) else { return };
        let before = sessions.len();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        self.sessions.fetch_sub(before - sessions.len(), Ordering::Relaxed);
        if sessions.is_empty() {
            accounts.remove(&key);
        }
    }

    /// A letter was put into a mailbox of `account`.
    pub(crate) fn ring(&self, account: &Did, mailbox: MailboxId) {
        if self.sessions.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(sessions) = lock(&self.accounts).get(&mailbox_id(account)) {
            sessions.iter().for_each(|session| session.ring(mailbox));
        }
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
