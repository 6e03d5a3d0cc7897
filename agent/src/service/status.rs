//! Status lists: those this node publishes, and those of other issuers it reads.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    ops::ControlFlow,
    sync::{Mutex, MutexGuard, PoisonError},
};

use einmal_credentials::{
    status_list::{
        INDEX_SPACE, IndexPermutation, Status, StatusCache, StatusError, StatusList, StatusRegister,
        StatusSource, StatusTokenRequest, issue_token, verify_token,
    },
    vc::{KeyLookupError, StatusReference},
};
use einmal_keys::{Entropy, base64url_decode, base64url_encode};
use einmal_storage::{Batch, StoreError, Table};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::keys::DidIssuerKeys;
use crate::{
    db::{Db, META, encode},
    handler::{Cause, Effects, Failure, Need, Shared},
    identity::{self, ASSERTION},
};

/// Lists this node publishes.
const LISTS: Table = Table::new("status-list");
/// Seconds a published list may be cached unless configured otherwise.
pub(crate) const DEFAULT_TTL_SECS: u64 = 3600;
/// Indices reserved with one write; those not used before a restart are skipped.
const BLOCK: u32 = 64;
/// Bytes of fetched lists kept in memory.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Milliseconds a failed fetch of a list is not tried again by other events; one event never tries it twice.
const FAILURE_TTL_MS: u64 = 2000;
/// Most failures remembered.
const MAX_FAILURES: usize = 1024;
/// Most fetched tokens that wait for their issuer's document.
const MAX_PENDING_TOKENS: usize = 64;
/// Most bytes of waiting tokens; a token of the largest list takes an eighth.
const MAX_PENDING_BYTES: usize = 32 * 1024 * 1024;
/// The first list. When a list is full, the list with the next number follows.
const FIRST_LIST: u32 = 1;
/// Name of the record that says which list a restored city begins with.
const BEGIN_WITH: &str = "first-status-list";

/// A published list as stored.
#[derive(Clone, Serialize, Deserialize)]
struct StoredList {
    bits: u8,
    statuses: String,
    key: Zeroizing<String>,
    /// First counter not reserved yet.
    reserved: u32,
}

/// Indices reserved and not handed out yet.
#[derive(Debug, Default)]
struct Block {
    list: u32,
    next: u32,
    end: u32,
}

/// The lists this node publishes.
#[derive(Debug, Default)]
pub(crate) struct PublishedLists {
    block: Mutex<Block>,
    tokens: Mutex<HashMap<String, (u64, String)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn uri(shared: &Shared, list: u32) -> String {
    format!("{}/status/{list}", shared.url())
}

impl PublishedLists {
    /// Hands out an unpredictable index, never twice.
    ///
    /// A block of indices is reserved with a write of its own that is durable before the first is used, so a crash
    /// skips indices and never repeats one.
    pub(crate) fn allocate(&self, shared: &Shared) -> Result<StatusReference, Failure> {
        let mut block = lock(&self.block);
        if block.next >= block.end {
            *block = reserve(shared, block.list.max(first_list(shared)?))?;
        }
        let gone = || Failure::damaged("a status list that gives places away is gone");
        let stored = read(shared, block.list)?.ok_or_else(gone)?.value;
        let index = permutation(&stored)?
            .index(block.next)
            .ok_or_else(|| Failure::internal("a place behind the end of a status list was reserved"))?;
        block.next += 1;
        Ok(StatusReference { uri: uri(shared, block.list), idx: u64::from(index) })
    }

    /// Revokes for good the credential with this reference.
    pub(crate) fn revoke(
        &self,
        shared: &Shared,
        reference: &StatusReference,
        fx: &mut Effects<'_>,
    ) -> Result<(), Failure> {
        let number = list_number(&reference.uri)
            .ok_or_else(|| Failure::damaged("the place of an issued card names no status list"))?;
        let stored = read(shared, number)?
            .ok_or_else(|| Failure::damaged("the status list of an issued card is gone"))?;
        let mut register = StatusRegister::from_list(list_of(&stored.value)?);
        register
            .revoke(reference.idx)
            .map_err(|error| Failure::damaged(format!("the place of an issued card: {error}")))?;
        let changed = StoredList { statuses: base64url_encode(register.list().as_bytes()), ..stored.value };
        fx.update(LISTS, number.to_be_bytes(), &changed, Some(stored.version))?;
        Ok(())
    }

    /// The signed token of the list published at `wanted`; `None` if there is no such list.
    ///
    /// It is re-signed when a quarter of its time to live has passed, and not at each revocation: the moment of a
    /// change would reveal whose it was.
    pub(crate) fn token(&self, shared: &Shared, wanted: &str) -> Result<Option<String>, Failure> {
        let Some(number) = list_number(wanted).filter(|number| uri(shared, *number) == wanted) else {
            return Ok(None);
        };
        let ttl = ttl(shared);
        let now = shared.now_ms();
        if let Some((made, token)) = lock(&self.tokens).get(wanted)
            && now.checked_sub(*made).is_some_and(|age| age < ttl.saturating_mul(1000) / 4)
        {
            return Ok(Some(token.clone()));
        }
        let Some(stored) = read(shared, number)? else { return Ok(None) };
        let list = list_of(&stored.value)?;
        let issuer = shared.public_did().ok_or_else(Failure::no_did_yet)?;
        let request = StatusTokenRequest {
            uri: wanted,
            issuer: issuer.as_str(),
            list: &list,
            issued_at: shared.now().0,
            expires_at: shared.now().plus(ttl.saturating_mul(2)).0,
            ttl,
        };
        let token = issue_token(shared.custody(), &identity::key_id(issuer, ASSERTION), &request)
            .map_err(Failure::key)?;
        lock(&self.tokens).insert(wanted.to_owned(), (now, token.clone()));
        Ok(Some(token))
    }
}

fn ttl(shared: &Shared) -> u64 {
    let configured = shared.config.city.as_ref().and_then(|city| city.status_ttl_seconds);
    configured.unwrap_or(DEFAULT_TTL_SECS).max(1)
}

fn list_number(uri: &str) -> Option<u32> {
    uri.rsplit_once("/status/").and_then(|(_, number)| number.parse().ok())
}

fn read(shared: &Shared, number: u32) -> Result<Option<crate::db::Stored<StoredList>>, StoreError> {
    shared.db.get(LISTS, number.to_be_bytes())
}

fn list_of(stored: &StoredList) -> Result<StatusList, Failure> {
    let damaged = || Failure::damaged("a status list does not parse");
    let bytes = base64url_decode(&stored.statuses).ok_or_else(damaged)?;
    StatusList::from_bytes(stored.bits, bytes).map_err(|_| damaged())
}

fn permutation(stored: &StoredList) -> Result<IndexPermutation, Failure> {
    let damaged = || Failure::damaged("a status list key does not parse");
    let key = Zeroizing::new(base64url_decode(&stored.key).ok_or_else(damaged)?);
    Ok(IndexPermutation::new(key.as_slice().try_into().map_err(|_| damaged())?))
}

/// Reserves the next block, in the given list or in the next one that is not full.
fn reserve(shared: &Shared, list: u32) -> Result<Block, Failure> {
    let mut number = list;
    loop {
        let stored = read(shared, number)?;
        let version = stored.as_ref().map(|stored| stored.version);
        let mut value = match stored {
            Some(stored) => stored.value,
            None => fresh(shared)?,
        };
        if value.reserved >= INDEX_SPACE {
            number = number.saturating_add(1);
            continue;
        }
        let next = value.reserved;
        let end = next.saturating_add(BLOCK).min(INDEX_SPACE);
        value.reserved = end;
        let mut fx = Effects::new(shared, Cause::Own);
        fx.update(LISTS, number.to_be_bytes(), &value, version)?;
        let (batch, _) = fx.into_parts();
        shared.db.store().commit(batch).wait()?;
        return Ok(Block { list: number, next, end });
    }
}

fn first_list(shared: &Shared) -> Result<u32, Failure> {
    Ok(shared.db.get::<u32>(META, BEGIN_WITH)?.map_or(FIRST_LIST, |stored| stored.value))
}

/// Gives out no more places in the lists of `db`; new places begin with a list of random number, because the numbers
/// that follow may be taken too. A backup does not know the places and lists given to cards after it was made: in a
/// restored city two cards would share one, be revoked together, and be taken for each other.
///
/// # Errors
///
/// [`StoreError::Entropy`], or what writing fails with.
pub(crate) fn close_lists(db: &Db, entropy: &dyn Entropy) -> Result<(), StoreError> {
    let mut chance = [0u8; 4];
    entropy.fill(&mut chance).map_err(|_| StoreError::Entropy)?;
    // Far from the first lists, and with room behind it.
    let begin = (u32::from_be_bytes(chance) >> 1) | (1 << 20);
    let mut batch = Batch::new();
    batch.put(db.key(META, BEGIN_WITH)?, encode(&begin)?);
    db.store().commit(batch).wait()?;
    db.each(LISTS, |id, list: StoredList| {
        let mut batch = Batch::new();
        batch.put(db.key(LISTS, &id)?, encode(&StoredList { reserved: INDEX_SPACE, ..list })?);
        db.store().commit(batch).wait()?;
        Ok(ControlFlow::Continue(()))
    })
}

fn fresh(shared: &Shared) -> Result<StoredList, Failure> {
    let size = usize::try_from(INDEX_SPACE).unwrap_or_default();
    let list = StatusList::new(1, size).map_err(Failure::internal)?;
    let mut key = Zeroizing::new([0u8; 32]);
    shared.entropy().fill(&mut *key).map_err(Failure::entropy)?;
    Ok(StoredList {
        bits: 1,
        statuses: base64url_encode(list.as_bytes()),
        key: Zeroizing::new(base64url_encode(*key)),
        reserved: 0,
    })
}

/// A list as it is asked for: where it lies, and of which issuer it must be. Who names another's list in a card of its own learns
/// that it is not its issuer's, and takes it from nobody.
type Wanted = (String, String);

fn wanted(uri: &str, issuer: &str) -> Wanted {
    (uri.to_owned(), issuer.to_owned())
}

/// Fetched tokens that were not verified yet, in the order they came. The one that has waited longest gives way: it is fetched
/// again if it is still asked for.
#[derive(Default)]
struct Pending {
    tokens: VecDeque<(Wanted, String)>,
    bytes: usize,
}

impl Pending {
    /// Keeps a token; false if it takes more room than there is for all.
    fn insert(&mut self, list: Wanted, token: String) -> bool {
        self.remove(&list);
        if token.len() > MAX_PENDING_BYTES {
            return false;
        }
        self.bytes = self.bytes.saturating_add(token.len());
        self.tokens.push_back((list, token));
        while self.tokens.len() > MAX_PENDING_TOKENS || self.bytes > MAX_PENDING_BYTES {
            let Some((_, oldest)) = self.tokens.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.len());
        }
        true
    }

    fn remove(&mut self, list: &Wanted) -> Option<String> {
        let at = self.tokens.iter().position(|(other, _)| other == list)?;
        let (_, token) = self.tokens.remove(at)?;
        self.bytes = self.bytes.saturating_sub(token.len());
        Some(token)
    }
}

/// Lists of other issuers, cached as long as they allow; a list that cannot be had counts as a refusal.
pub(crate) struct KnownLists {
    cache: Mutex<StatusCache>,
    failed: Mutex<HashMap<Wanted, u64>>,
    pending: Mutex<Pending>,
}

impl std::fmt::Debug for KnownLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownLists(..)")
    }
}

impl Default for KnownLists {
    fn default() -> Self {
        Self {
            cache: Mutex::new(StatusCache::new(CACHE_BYTES)),
            failed: Mutex::default(),
            pending: Mutex::default(),
        }
    }
}

impl KnownLists {
    /// Keeps what was fetched, or that nothing could be.
    pub(crate) fn fetched(&self, shared: &Shared, uri: &str, issuer: &str, token: Option<String>) {
        let kept = token.is_some_and(|token| lock(&self.pending).insert(wanted(uri, issuer), token));
        if !kept {
            self.fail(shared, wanted(uri, issuer));
        }
    }

    /// Whether fetching this list failed a moment ago, so that trying again at once is useless.
    fn recently_failed(&self, shared: &Shared, list: &Wanted) -> bool {
        // Only as long as it can be: the clock may have been set back.
        let left = |until: &u64| until.saturating_sub(shared.now_ms());
        lock(&self.failed).get(list).map(left).is_some_and(|left| left > 0 && left <= FAILURE_TTL_MS)
    }

    /// Whether a list could not be had when it was last asked for: others come first then.
    pub(crate) fn has_failed(&self, need: &Need) -> bool {
        let Need::StatusList { uri, issuer } = need else { return false };
        lock(&self.failed).contains_key(&wanted(uri, issuer))
    }

    fn fail(&self, shared: &Shared, list: Wanted) {
        let mut failed = lock(&self.failed);
        if failed.len() >= MAX_FAILURES {
            failed.clear();
        }
        failed.insert(list, shared.now_ms().saturating_add(FAILURE_TTL_MS));
    }

    /// Whether a credential of this issuer was revoked or suspended when its list was last had. Nothing is fetched for it.
    pub(crate) fn is_refused(&self, reference: &StatusReference, issuer: &str) -> bool {
        let known = lock(&self.cache).last_known(&reference.uri, reference.idx, issuer);
        matches!(known, Some(Status::Invalid | Status::Suspended))
    }

    /// The lists as a source for one verification.
    pub(crate) fn source<'a>(&'a self, shared: &'a Shared, keys: &'a DidIssuerKeys<'a>) -> ListSource<'a> {
        ListSource { lists: self, shared, keys, need: RefCell::new(None) }
    }
}

/// Answers from the cache; verifies a fetched token when its issuer's document is known.
pub(crate) struct ListSource<'a> {
    lists: &'a KnownLists,
    shared: &'a Shared,
    keys: &'a DidIssuerKeys<'a>,
    need: RefCell<Option<Need>>,
}

impl ListSource<'_> {
    /// The list, or the document of its issuer, that must be fetched before asking again, if that is why a status is not known.
    pub(crate) fn need(&self) -> Option<Need> {
        self.need.borrow().clone()
    }

    /// Looks into the cache, into which a fetched token goes first.
    fn look_up(&self, uri: &str, idx: u64, iss: &str) -> Result<Status, StatusError> {
        let now = self.shared.now().0;
        let list = wanted(uri, iss);
        let pending = lock(&self.lists.pending).remove(&list);
        if let Some(token) = pending {
            let verified = verify_token(&token, uri, iss, now, self.keys).inspect_err(|error| {
                if matches!(error, StatusError::KeyLookup(_)) && self.keys.need().is_some() {
                    // Whoever asks will fetch the issuer's document and ask again.
                    lock(&self.lists.pending).insert(list.clone(), token.clone());
                    return;
                }
                tracing::info!(%error, "a fetched status list was refused");
                self.lists.fail(self.shared, list.clone());
            })?;
            lock(&self.lists.failed).remove(&list);
            lock(&self.lists.cache).insert(verified, now);
            // One that is past its time, or older than the one before, is as good as none: not asked for again at once.
            if let Err(StatusError::NotFetched { .. }) = lock(&self.lists.cache).at(now).status(uri, idx, iss)
            {
                tracing::info!("a fetched status list is out of date");
                self.lists.fail(self.shared, list);
            }
        }
        lock(&self.lists.cache).at(now).status(uri, idx, iss)
    }
}

impl StatusSource for ListSource<'_> {
    fn status(&self, uri: &str, idx: u64, iss: &str) -> Result<Status, StatusError> {
        let found = self.look_up(uri, idx, iss);
        *self.need.borrow_mut() = match &found {
            Err(StatusError::NotFetched { .. })
                if !self.lists.recently_failed(self.shared, &wanted(uri, iss)) =>
            {
                Some(Need::StatusList { uri: uri.to_owned(), issuer: iss.to_owned() })
            }
            Err(StatusError::KeyLookup(KeyLookupError::Unavailable { .. })) => self.keys.need(),
            _ => None,
        };
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Role, node::testing, service::testing::Issuer};

    fn list(uri: &str) -> Wanted {
        wanted(uri, "did:web:city.example")
    }

    /// A token of so many bytes, different for each number.
    fn token(number: usize, bytes: usize) -> String {
        char::from(b' ' + u8::try_from(number).unwrap()).to_string().repeat(bytes)
    }

    #[test]
    fn fetched_tokens_are_bounded_in_number_and_the_newest_stay() {
        let mut pending = Pending::default();
        for name in 0..=MAX_PENDING_TOKENS {
            assert!(pending.insert(list(&name.to_string()), token(name, 3)));
        }
        assert_eq!((pending.tokens.len(), pending.bytes), (MAX_PENDING_TOKENS, 3 * MAX_PENDING_TOKENS));
        assert_eq!(pending.remove(&list("0")), None, "the oldest");
        assert_eq!(pending.remove(&list("1")), Some(token(1, 3)), "the next");
        assert_eq!(pending.bytes, 3 * (MAX_PENDING_TOKENS - 1));
    }

    #[test]
    fn fetched_tokens_are_bounded_in_bytes() {
        let mut pending = Pending::default();
        let half = MAX_PENDING_BYTES / 2;
        assert!(pending.insert(list("a"), token(1, half)) && pending.insert(list("b"), token(2, half)));
        assert_eq!((pending.tokens.len(), pending.bytes), (2, MAX_PENDING_BYTES), "as much as may be");
        assert!(pending.insert(list("c"), token(3, half)));
        assert_eq!((pending.tokens.len(), pending.bytes), (2, MAX_PENDING_BYTES));
        assert!(pending.remove(&list("a")).is_none() && pending.remove(&list("c")).is_some());
        assert!(!pending.insert(list("d"), token(4, MAX_PENDING_BYTES + 1)), "more than there is room for");
        assert!(pending.remove(&list("d")).is_none() && pending.remove(&list("b")).is_some());
        assert_eq!(pending.bytes, 0);
    }

    #[test]
    fn token_that_comes_again_takes_the_place_of_the_one_before() {
        let mut pending = Pending::default();
        assert!(pending.insert(list("a"), token(1, 5)) && pending.insert(list("a"), token(2, 7)));
        assert_eq!((pending.tokens.len(), pending.bytes), (1, 7));
        assert_eq!(pending.remove(&list("a")), Some(token(2, 7)));
    }
    #[tokio::test]
    async fn a_list_named_by_anothers_card_is_still_had_for_the_cards_of_its_issuer() {
        const URI: &str = "https://city.example/status/1";
        let (node, _) = testing::node(Role::Citizen).await;
        let shared = node.shared();
        let (city, hostile) = (Issuer::new(1), Issuer::new(2));
        let lists = KnownLists::default();
        let ask = |issuer: &Issuer, idx| {
            let keys = DidIssuerKeys::new(&shared.resolver);
            let source = lists.source(shared, &keys);
            (source.status(URI, idx, &issuer.did), source.need())
        };
        let need = |issuer: &Issuer| Need::StatusList { uri: URI.into(), issuer: issuer.did.clone() };
        for issuer in [&hostile, &city] {
            assert_eq!(ask(issuer, 0).1, Some(need(issuer)));
            lists.fetched(shared, URI, &issuer.did, Some(city.list(URI, &[7])));
        }
        assert_eq!(ask(&hostile, 0), (Err(StatusError::WrongIssuer), None));
        assert!(
            ask(&hostile, 0).1.is_none() && lists.has_failed(&need(&hostile)),
            "not fetched again at once"
        );
        assert_eq!(ask(&city, 0), (Ok(Status::Valid), None));
        assert_eq!(ask(&city, 7), (Ok(Status::Invalid), None));
    }
}
