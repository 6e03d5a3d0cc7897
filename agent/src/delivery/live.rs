//! Live delivery: who is connected, and how far each of their mailboxes has been pushed.
//!
//! The mail announces every letter on its way to the disk, in order, and offers it to readers that keep up. An offered
//! letter counts as pushed and no more: it is acknowledged to its sender when it is durable, and stays until its
//! recipient has acknowledged it. Letters that were not offered a reader finds in the mail when its bell rings, so a
//! slow or vanished reader costs little.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use einmal_did::Did;
use einmal_flows::message_pickup::PushForm;
use einmal_storage::mail::{Early, LetterId, MailboxId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::db::mailbox_id;

/// Most sessions of one account; beyond that the oldest is ended, and told so.
const MAX_SESSIONS_PER_ACCOUNT: usize = 8;
/// Most letters a session keeps in memory until they are sent.
const MAX_OFFERED: usize = 256;
/// Most bytes of such letters in one session.
const MAX_OFFERED_BYTES: usize = 512 * 1024;
/// Most former DIDs of an account under which letters on their way are still announced.
const MAX_FORMER: usize = 4;
/// Most bytes of offered letters in all sessions.
const MAX_OFFERED_BYTES_IN_ALL: usize = 32 * 1024 * 1024;
/// Most large letters held in memory at once while slow readers take them. Others wait in the mail; small letters pass.
const MAX_LARGE_IN_HAND: usize = 64;
/// Most mailboxes of which a session knows how far they were pushed: several times as many as an account may have at once.
const MAX_KNOWN_MAILBOXES: usize = 4_096;

/// A connection's wish to start or stop having mail pushed; carried out when the event that asked for it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveChange {
    /// The account whose mail is pushed.
    pub(crate) account: Did,
    /// Our DID in the form the account uses.
    pub(crate) ours: Did,
    /// The account's DID in its own form.
    pub(crate) theirs: Did,
    /// Whether to push.
    pub(crate) on: bool,
    /// How letters are pushed.
    pub(crate) form: PushForm,
    /// Letters up to this one waited already and are not pushed.
    pub(crate) since: LetterId,
    /// The account's mailboxes: letters may have arrived there between `since` and the opening.
    pub(crate) mailboxes: Vec<MailboxId>,
}

/// One account on one connection.
pub(crate) struct Session {
    pub(crate) change: LiveChange,
    /// Its present owner: an account follows its owner's DID.
    owner: Mutex<Did>,
    state: Mutex<State>,
    /// Bytes offered in all sessions.
    offered_in_all: Arc<AtomicUsize>,
    /// Another session took its place.
    displaced: AtomicBool,
    bell: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// Letters up to this one were announced before the session was there, or belonged to this account.
    heard_after: LetterId,
    changed: BTreeSet<MailboxId>,
    /// Mailboxes with something new, whose next letter is too large to be held at present.
    put_off: BTreeSet<MailboxId>,
    progress: BTreeMap<MailboxId, Progress>,
    /// Letters that were offered and are not sent yet.
    offered: VecDeque<(LetterId, Vec<u8>)>,
    bytes: usize,
}

/// How far a mailbox has been pushed. The session is always told of a letter after both `pushed` and `passed_over`.
#[derive(Clone, Copy)]
struct Progress {
    pushed: LetterId,
    /// The last letter that was not offered.
    passed_over: LetterId,
}

impl Progress {
    /// Whether no letter waits in the mail before the next one announced.
    fn is_in_step(self) -> bool {
        self.passed_over <= self.pushed
    }
}

impl Session {
    fn progress<'a>(&self, state: &'a mut State, mailbox: MailboxId) -> &'a mut Progress {
        if state.progress.len() >= MAX_KNOWN_MAILBOXES && !state.progress.contains_key(&mailbox) {
            // Some belong to mailboxes that no longer exist. Letters pushed and still waiting are pushed once more,
            // under their ids.
            state.progress.clear();
        }
        let first = Progress { pushed: self.change.since, passed_over: state.heard_after };
        state.progress.entry(mailbox).or_insert(first)
    }

    /// Hears of a letter that is on its way to the disk, and takes it if its reader keeps up.
    fn offer(&self, mailbox: MailboxId, letter: LetterId, payload: Option<Cow<'_, [u8]>>) {
        let mut state = lock(&self.state);
        let (count, bytes) = (state.offered.len(), state.bytes);
        let progress = self.progress(&mut state, mailbox);
        let payload = payload.filter(|payload| {
            progress.is_in_step()
                && count < MAX_OFFERED
                && bytes + payload.len() <= MAX_OFFERED_BYTES
                && self.takes_room(payload.len())
        });
        let Some(payload) = payload else {
            progress.passed_over = letter;
            return;
        };
        progress.pushed = letter;
        state.bytes += payload.len();
        state.offered.push_back((letter, payload.into_owned()));
        drop(state);
        self.bell.notify_one();
    }

    fn takes_room(&self, len: usize) -> bool {
        let room = |taken: usize| taken.checked_add(len).filter(|all| *all <= MAX_OFFERED_BYTES_IN_ALL);
        self.offered_in_all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    /// The length of the next letter that was offered and is not sent yet.
    pub(crate) fn offered_len(&self) -> Option<usize> {
        lock(&self.state).offered.front().map(|(_, payload)| payload.len())
    }

    /// A letter that was offered and is not sent yet.
    pub(crate) fn next_offered(&self) -> Option<(LetterId, Vec<u8>)> {
        let mut state = lock(&self.state);
        let (letter, payload) = state.offered.pop_front()?;
        state.bytes -= payload.len();
        self.offered_in_all.fetch_sub(payload.len(), Ordering::Relaxed);
        Some((letter, payload))
    }

    /// A mailbox with something new, if there is one.
    pub(crate) fn next_changed(&self) -> Option<MailboxId> {
        lock(&self.state).changed.pop_first()
    }

    /// There may be more in a mailbox.
    pub(crate) fn look_again(&self, mailbox: MailboxId) {
        lock(&self.state).changed.insert(mailbox);
        self.bell.notify_one();
    }

    /// The next letter of a mailbox is too large to be held at present: other mailboxes come first.
    pub(crate) fn put_off(&self, mailbox: MailboxId) {
        lock(&self.state).put_off.insert(mailbox);
    }

    /// What was put off may be tried again.
    pub(crate) fn try_again(&self) {
        let state = &mut *lock(&self.state);
        state.changed.append(&mut state.put_off);
    }

    /// The last letter of a mailbox that needs no push any more.
    pub(crate) fn pushed(&self, mailbox: MailboxId) -> LetterId {
        self.progress(&mut lock(&self.state), mailbox).pushed
    }

    /// Whether a letter found in the mail is to be pushed; from then on it counts as pushed. Letters must be claimed in
    /// their order.
    pub(crate) fn claim(&self, mailbox: MailboxId, letter: LetterId) -> bool {
        let mut state = lock(&self.state);
        let progress = self.progress(&mut state, mailbox);
        let fresh = progress.pushed < letter;
        progress.pushed = progress.pushed.max(letter);
        fresh
    }

    /// The account's DID, in the form its owner uses.
    pub(crate) fn owner(&self) -> Did {
        lock(&self.owner).clone()
    }

    /// The session belongs to another account from now on, or its account has more mailboxes. It may have missed
    /// letters up to `told`, so it looks for them in the mail before it takes offers again.
    fn move_to(&self, owner: &Did, mailboxes: &[MailboxId], told: LetterId) {
        owner.clone_into(&mut lock(&self.owner));
        let mut state = lock(&self.state);
        state.heard_after = told;
        state
            .progress
            .values_mut()
            .for_each(|progress| progress.passed_over = progress.passed_over.max(told));
        state.changed.extend(mailboxes);
        drop(state);
        self.bell.notify_one();
    }

    pub(crate) fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Relaxed)
    }

    /// A letter in a mailbox is on the disk now.
    fn ring(&self, mailbox: MailboxId) {
        let in_step = self.progress(&mut lock(&self.state), mailbox).is_in_step();
        if !in_step {
            self.look_again(mailbox);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.offered_in_all.fetch_sub(lock(&self.state).bytes, Ordering::Relaxed);
    }
}

/// Leave to hold one large letter in memory, until dropped: one for each account, so that a few slow readers do not take all.
pub(crate) struct LargeInHand {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// All sessions of a mediator.
pub(crate) struct Live {
    accounts: Mutex<Accounts>,
    sessions: AtomicUsize,
    offered: Arc<AtomicUsize>,
    large: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            accounts: Mutex::default(),
            sessions: AtomicUsize::new(0),
            offered: Arc::default(),
            large: Arc::new(Semaphore::new(MAX_LARGE_IN_HAND)),
        }
    }
}

#[derive(Default)]
struct Accounts {
    live: HashMap<MailboxId, Account>,
    /// The new accounts of those that took another DID: letters on their way know only the former one.
    moved: HashMap<MailboxId, MailboxId>,
    /// The last letter announced, for any account.
    last_told: LetterId,
}

/// An account with sessions; accounts without any have no entry.
struct Account {
    sessions: Vec<Arc<Session>>,
    formerly: VecDeque<MailboxId>,
    /// Leave to hold one large letter, for all its sessions together.
    large: Arc<Semaphore>,
}

impl Default for Account {
    fn default() -> Self {
        Self { sessions: Vec::new(), formerly: VecDeque::new(), large: Arc::new(Semaphore::new(1)) }
    }
}

impl Accounts {
    /// The sessions of an account, or of the one it has moved to.
    fn sessions(&self, account: MailboxId) -> &[Arc<Session>] {
        let account = self.live.get(&account).or_else(|| self.live.get(self.moved.get(&account)?));
        account.map_or(&[], |account| account.sessions.as_slice())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Opens a session; `bell` rings when there is something to push.
    pub(crate) fn open(&self, change: LiveChange, bell: Arc<Notify>) -> Arc<Session> {
        let key = mailbox_id(&change.account);
        let mut accounts = lock(&self.accounts);
        let session = Arc::new(Session {
            owner: Mutex::new(change.theirs.clone()),
            change,
            state: Mutex::new(State { heard_after: accounts.last_told, ..State::default() }),
            offered_in_all: Arc::clone(&self.offered),
            displaced: AtomicBool::new(false),
            bell,
        });
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.admit(&mut accounts.live.entry(key).or_default().sessions, Arc::clone(&session));
        session
    }

    /// Adds a session behind the others of its account.
    fn admit(&self, sessions: &mut Vec<Arc<Session>>, session: Arc<Session>) {
        if sessions.len() >= MAX_SESSIONS_PER_ACCOUNT {
            let oldest = sessions.remove(0);
            oldest.displaced.store(true, Ordering::Relaxed);
            oldest.bell.notify_one();
            self.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        sessions.push(session);
    }

    /// The account of `prior` is that of `new` from now on, and so are its sessions. All of them look into `mailboxes`:
    /// a letter that arrived meanwhile may have rung for nobody.
    pub(crate) fn follow(&self, prior: &Did, new: &Did, mailboxes: &[MailboxId]) {
        let (from, to) = (mailbox_id(prior), mailbox_id(new));
        let mut accounts = lock(&self.accounts);
        let Accounts { live, moved, last_told } = &mut *accounts;
        let Some(old) = live.remove(&from) else { return };
        let account = live.entry(to).or_default();
        for session in old.sessions {
            self.admit(&mut account.sessions, session);
        }
        account.sessions.iter().for_each(|session| session.move_to(new, mailboxes, *last_told));
        for former in old.formerly.into_iter().chain([from]) {
            moved.insert(former, to);
            account.formerly.push_back(former);
        }
        while account.formerly.len() > MAX_FORMER
            && let Some(oldest) = account.formerly.pop_front()
        {
            moved.remove(&oldest);
        }
    }

    /// Ends a session.
    pub(crate) fn close(&self, session: &Arc<Session>) {
        let mut accounts = lock(&self.accounts);
        let key = mailbox_id(&lock(&session.owner));
        let Some(Account { sessions, .. }) = accounts.live.get_mut(&key) else { return };
        let before = sessions.len();
        sessions.retain(|other| !Arc::ptr_eq(other, session));
        self.sessions.fetch_sub(before - sessions.len(), Ordering::Relaxed);
        if sessions.is_empty()
            && let Some(account) = accounts.live.remove(&key)
        {
            accounts.moved.retain(|former, _| !account.formerly.contains(former));
        }
    }

    /// How those connected for `account` hear of letters on their way to the disk.
    pub(crate) fn early(self: &Arc<Self>, account: MailboxId) -> Early {
        let live = Arc::clone(self);
        let anybody = self.count() > 0 && !lock(&self.accounts).sessions(account).is_empty();
        let tell = move |mailbox, letter, payload| live.tell(account, mailbox, letter, payload);
        Early { tell: Arc::new(tell), with_payload: anybody }
    }

    fn tell(&self, account: MailboxId, mailbox: MailboxId, letter: LetterId, payload: Option<Vec<u8>>) {
        let mut accounts = lock(&self.accounts);
        accounts.last_told = letter;
        let Some((last, others)) = accounts.sessions(account).split_last() else { return };
        for session in others {
            session.offer(mailbox, letter, payload.as_deref().map(Cow::Borrowed));
        }
        last.offer(mailbox, letter, payload.map(Cow::Owned));
    }

    /// A letter in a mailbox of `account` is on the disk now.
    pub(crate) fn ring(&self, account: MailboxId, mailbox: MailboxId) {
        if self.count() == 0 {
            return;
        }
        let accounts = lock(&self.accounts);
        accounts.sessions(account).iter().for_each(|session| session.ring(mailbox));
    }

    /// Whether mail of `account` is pushed on any connection.
    pub(crate) fn is_live(&self, account: &Did) -> bool {
        lock(&self.accounts).live.contains_key(&mailbox_id(account))
    }

    /// Leave to hold one large letter in memory until a reader has taken it; `None` while as many are held as may be.
    pub(crate) fn large(&self, account: &Did) -> Option<LargeInHand> {
        let own = Arc::clone(&lock(&self.accounts).live.get(&mailbox_id(account))?.large);
        Some(LargeInHand {
            _own: own.try_acquire_owned().ok()?,
            _of_all: Arc::clone(&self.large).try_acquire_owned().ok()?,
        })
    }

    /// Sessions open now.
    pub(crate) fn count(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
