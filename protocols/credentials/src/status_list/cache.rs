//! Lists that a verifier keeps for as long as it may.

use std::collections::HashMap;

use super::{MAX_LIST_BYTES, Status, StatusError, VerifiedStatusList};

/// Seconds a list without `ttl` is kept.
pub const DEFAULT_TTL_SECS: u64 = 3600;

/// Tells the status of a credential.
pub trait StatusSource {
    /// The entry `idx` of the list at `uri`, signed by `iss`.
    ///
    /// # Errors
    ///
    /// [`StatusError`]; every variant means the credential must not be accepted. [`StatusError::NotFetched`] also means
    /// that fetching the list and asking again may help.
    fn status(&self, uri: &str, idx: u64, iss: &str) -> Result<Status, StatusError>;
}

/// A bounded memory of verified lists; it drops the one fetched longest ago first.
#[derive(Debug)]
pub struct StatusCache {
    lists: HashMap<Key, Entry>,
    max_bytes: usize,
    bytes: usize,
    /// Counts insertions, to tell which is the oldest.
    clock: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    uri: String,
    issuer: String,
}

#[derive(Debug)]
struct Entry {
    list: VerifiedStatusList,
    fetched_at: u64,
    turn: u64,
}

impl Entry {
    /// First second at which the list must no longer be used.
    fn usable_until(&self) -> u64 {
        let ttl = self.list.ttl().unwrap_or(DEFAULT_TTL_SECS);
        let kept = self.fetched_at.saturating_add(ttl);
        kept.min(self.list.expires_at().unwrap_or(u64::MAX))
    }

    fn size(&self) -> usize {
        self.list.list().as_bytes().len()
    }
}

impl StatusCache {
    /// A cache for lists of `max_bytes` in total, at least one list of full size.
    pub fn new(max_bytes: usize) -> Self {
        Self { lists: HashMap::new(), max_bytes: max_bytes.max(MAX_LIST_BYTES), bytes: 0, clock: 0 }
    }

    /// Keeps a list fetched at `now`, unless a newer one from the same address is there.
    ///
    /// An older list is dropped: otherwise a replayed one could undo a revocation.
    pub fn insert(&mut self, list: VerifiedStatusList, now: u64) {
        let key = Key { uri: list.uri().to_owned(), issuer: list.issuer().to_owned() };
        if self.lists.get(&key).is_some_and(|held| held.list.issued_at() > list.issued_at()) {
            return;
        }
        self.clock = self.clock.saturating_add(1);
        let entry = Entry { list, fetched_at: now, turn: self.clock };
        self.bytes = self.bytes.saturating_add(entry.size());
        if let Some(replaced) = self.lists.insert(key, entry) {
            self.bytes = self.bytes.saturating_sub(replaced.size());
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        // Empty lists take space too; the count limits them.
        while self.bytes > self.max_bytes || self.lists.len() > Self::MAX_LISTS {
            let oldest = self.lists.iter().min_by_key(|(_, entry)| entry.turn);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { return };
            if let Some(gone) = self.lists.remove(&key) {
                self.bytes = self.bytes.saturating_sub(gone.size());
            }
        }
    }

    /// Most lists held at once, whatever their size.
    pub const MAX_LISTS: usize = 1024;

    /// What the list held last says, however old it is: a hint that a credential will be refused, and never that it is valid.
    pub fn last_known(&self, uri: &str, idx: u64, iss: &str) -> Option<Status> {
        let key = Key { uri: uri.to_owned(), issuer: iss.to_owned() };
        self.lists.get(&key)?.list.list().get(idx).ok()
    }

    /// What the cache knows at `now`, in seconds since 1970.
    pub fn at(&self, now: u64) -> CachedStatuses<'_> {
        CachedStatuses { cache: self, now }
    }
}

/// A cache, as seen at one moment.
#[derive(Clone, Copy, Debug)]
pub struct CachedStatuses<'a> {
    cache: &'a StatusCache,
    now: u64,
}

impl StatusSource for CachedStatuses<'_> {
    fn status(&self, uri: &str, idx: u64, iss: &str) -> Result<Status, StatusError> {
        let key = Key { uri: uri.to_owned(), issuer: iss.to_owned() };
        match self.cache.lists.get(&key) {
            // Not before it was fetched either: otherwise setting the clock back would keep it in use longer.
            Some(entry) if (entry.fetched_at..entry.usable_until()).contains(&self.now) => {
                entry.list.list().get(idx)
            }
            _ => Err(StatusError::NotFetched { uri: key.uri }),
        }
    }
}
