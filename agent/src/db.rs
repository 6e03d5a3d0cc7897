//! Typed records over the store: which tables there are, and how their ids are made.

use std::{collections::VecDeque, ops::ControlFlow, sync::Arc};

use einmal_did::Did;
use einmal_storage::{Key, MAX_SCAN, Record, Store, StoreError, Table, TenantId, Version, mail::MailboxId};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// Our own DIDs, with the forms they are known by.
pub const OWN_DIDS: Table = Table::new("own-did");
/// Our secret keys.
pub const KEYS: Table = Table::new("key");
/// Long forms of did:peer:4 DIDs met so far: without them the short forms cannot be resolved.
pub const KNOWN_DIDS: Table = Table::new("known-did");
/// Relationships: one of our DIDs with one of a peer.
pub const PEERS: Table = Table::new("peer");
/// Messages seen, for deduplication.
pub const SEEN: Table = Table::new("seen");
/// Invitations of ours.
pub const INVITATIONS: Table = Table::new("invitation");
/// Protocol exchanges in progress and ended.
pub const EXCHANGES: Table = Table::new("exchange");
/// Messages to be sent.
pub const OUTBOX: Table = Table::new("outbox");
/// Messages given up.
pub const DEAD: Table = Table::new("dead");
/// What is known of a wallet's letters that are tried again, by a digest of their bytes.
pub const PARKED: Table = Table::new("parked-letter");
/// Instants at which an exchange wants to be woken.
pub const TIMERS: Table = Table::new("timer");
/// Small facts of the node itself.
pub const META: Table = Table::new("meta");

/// A record's value with the version it was read at.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    /// The version, for [`einmal_storage::Batch::expect_version`].
    pub version: Version,
    /// When it expires, in seconds since 1970; it may stay for some time after.
    pub expires_at: Option<u64>,
}

/// Records of a table with their ids, as many as were asked for.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// The records.
    pub records: Vec<(Vec<u8>, T)>,
    /// There are more records, which are left out.
    pub cut: bool,
}

/// The store as one tenant's node sees it.
#[derive(Clone)]
pub struct Db {
    store: Arc<dyn Store>,
    tenant: TenantId,
}

/// Records of a page with their ids, and the keys of those that are damaged.
pub(crate) struct Sound<T> {
    pub(crate) records: Vec<(Vec<u8>, T)>,
    pub(crate) damaged: Vec<Key>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Db {
    /// A view of `store` for `tenant`.
    pub fn new(store: Arc<dyn Store>, tenant: TenantId) -> Self {
        Self { store, tenant }
    }

    /// The underlying store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The full key of a record.
    ///
    /// # Errors
    ///
    /// [`StoreError::KeyTooLong`].
    pub fn key(&self, table: Table, id: impl AsRef<[u8]>) -> Result<Key, StoreError> {
        Key::new(&self.tenant, table, id)
    }

    /// Reads one record as JSON.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::Damaged`] if the value does not parse.
    pub fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        id: impl AsRef<[u8]>,
    ) -> Result<Option<Stored<T>>, StoreError> {
        let Some(record) = self.store.read(&self.key(table, id)?)? else { return Ok(None) };
        let (version, expires_at) = (record.version, record.expires_at);
        Ok(Some(Stored { value: decode(table, &record.value)?, version, expires_at }))
    }

    /// Reads records in the order of their ids, strictly after `after`.
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    pub fn scan<T: DeserializeOwned>(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let records = self.store.scan(&self.tenant, table, prefix, after, limit)?;
        records
            .into_iter()
            .map(|record| Ok((record.key.id().to_vec(), decode(table, &record.value)?)))
            .collect()
    }

    /// Reads all records of a table, page by page, at most `most` of them: those with the first ids.
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    pub fn all<T: DeserializeOwned>(&self, table: Table, most: usize) -> Result<Listed<T>, StoreError> {
        let mut listed = Listed { records: Vec::new(), cut: false };
        self.each(table, |id, value| {
            listed.cut = listed.records.len() >= most;
            if listed.cut {
                return Ok(ControlFlow::Break(()));
            }
            listed.records.push((id, value));
            Ok::<_, StoreError>(ControlFlow::Continue(()))
        })?;
        Ok(listed)
    }

    /// Reads the records of a table with the last ids, the last one first, at most `most` of them.
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    pub fn last<T: DeserializeOwned>(&self, table: Table, most: usize) -> Result<Listed<T>, StoreError> {
        let (mut kept, mut cut) = (VecDeque::new(), false);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.scan_raw(table, b"", after.as_deref(), MAX_SCAN)?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.id().to_vec());
            kept.extend(page);
            cut |= kept.len() > most;
            kept.drain(..kept.len().saturating_sub(most));
        }
        let decoded = |record: Record| Ok((record.key.id().to_vec(), decode(table, &record.value)?));
        let records = kept.into_iter().rev().map(decoded).collect::<Result<_, StoreError>>()?;
        Ok(Listed { records, cut })
    }

    /// Shows `look` each record of a table in the order of their ids, until it has seen enough. Only a page of them is
    /// in memory at a time.
    ///
    /// # Errors
    ///
    /// As [`Db::get`], and the failures of `look`.
    pub fn each<T: DeserializeOwned, E: From<StoreError>>(
        &self,
        table: Table,
        mut look: impl FnMut(Vec<u8>, T) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.scan::<T>(table, b"", after.as_deref(), MAX_SCAN)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (id, value) in page {
                if look(id, value)?.is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// Whether a record exists.
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    pub fn exists(&self, table: Table, id: impl AsRef<[u8]>) -> Result<bool, StoreError> {
        Ok(self.store.read(&self.key(table, id)?)?.is_some())
    }

    /// Reads records as they are stored, in the order of their ids, strictly after `after`.
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    pub fn scan_raw(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.store.scan(&self.tenant, table, prefix, after, limit)
    }

    /// As [`Db::scan`], where one damaged record must not keep the others from being read: those that do not parse or unseal are
    /// named apart. If one does not unseal, nothing else may have been read.
    ///
    /// # Errors
    ///
    /// [`StoreError`] for faults that are not of a single record.
    pub(crate) fn scan_sound<T: DeserializeOwned>(
        &self,
        table: Table,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Sound<T>, StoreError> {
        let mut sound = Sound { records: Vec::new(), damaged: Vec::new() };
        match self.scan_raw(table, b"", after, limit) {
            Ok(page) => {
                for record in page {
                    match serde_json::from_slice(&record.value) {
                        Ok(value) => sound.records.push((record.key.id().to_vec(), value)),
                        Err(_) => sound.damaged.push(record.key),
                    }
                }
            }
            Err(StoreError::Unsealable { key }) => sound.damaged.push(key),
            Err(error) => return Err(error),
        }
        Ok(sound)
    }

    /// Number of records in a table.
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    pub fn count(&self, table: Table) -> Result<u64, StoreError> {
        self.store.count(&self.tenant, table, b"")
    }
}

fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|_| StoreError::Damaged { what: format!("a record of table {table} does not parse") })
}

/// Serializes a record's value.
///
/// # Errors
///
/// [`StoreError::Damaged`] if JSON cannot hold the value: an empty record in its place would be noticed only later.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value)
        .map_err(|_| StoreError::Damaged { what: "a record about to be written cannot be serialized".into() })
}

/// The name of a mailbox: a digest of the recipient's DID, the same for all of its forms.
pub fn mailbox_id(did: &Did) -> MailboxId {
    MailboxId(digest(&[did.canonical().as_str()]))
}

fn digest(parts: &[&str]) -> [u8; 20] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut id = [0; 20];
    id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    id
}

/// A short record id for possibly long texts such as DIDs: hexadecimal, 40 characters.
pub fn digest_id(parts: &[&str]) -> String {
    digest(parts).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The record id of a DID, the same for all of its forms.
pub fn did_id(did: &Did) -> String {
    digest_id(&[did.canonical().as_str()])
}

/// The record id of a relationship.
pub fn peer_id(ours: &Did, theirs: &Did) -> String {
    digest_id(&[ours.canonical().as_str(), theirs.canonical().as_str()])
}

#[cfg(test)]
mod tests {
    use einmal_storage::{Batch, MemoryStore};

    use super::*;

    const NUMBERS: Table = Table::new("number");

    /// A table of this many numbers, in order.
    fn numbers(count: u32) -> Db {
        let db = Db::new(Arc::new(MemoryStore::new()), TenantId::default());
        let mut batch = Batch::new();
        for number in 0..count {
            batch.put(db.key(NUMBERS, number.to_be_bytes()).unwrap(), encode(&number).unwrap());
        }
        db.store().commit(batch).wait().unwrap();
        db
    }

    fn values(listed: &Listed<u32>) -> Vec<u32> {
        listed.records.iter().map(|(_, value)| *value).collect()
    }

    #[test]
    fn list_says_whether_it_was_cut() {
        let db = numbers(3);
        for (most, cut) in [(2, true), (3, false), (4, false)] {
            let (first, last) = (db.all(NUMBERS, most).unwrap(), db.last(NUMBERS, most).unwrap());
            assert_eq!((first.cut, last.cut), (cut, cut), "{most}");
            assert_eq!(values(&first), (0..3).take(most).collect::<Vec<_>>());
            assert_eq!(values(&last), (0..3).rev().take(most).collect::<Vec<_>>());
        }
        let none = numbers(0);
        assert!(!none.all::<u32>(NUMBERS, 0).unwrap().cut && !none.last::<u32>(NUMBERS, 0).unwrap().cut);
    }

    #[test]
    fn lists_go_on_behind_the_first_page() {
        let count = u32::try_from(2 * MAX_SCAN).unwrap() + 1;
        let db = numbers(count);
        assert_eq!(values(&db.all(NUMBERS, usize::MAX).unwrap()), (0..count).collect::<Vec<_>>());
        assert_eq!(values(&db.last(NUMBERS, 2).unwrap()), [count - 1, count - 2]);
        let mut seen = 0;
        let enough = db.each(NUMBERS, |_, value: u32| {
            seen += 1;
            let enough = usize::try_from(value).unwrap() >= MAX_SCAN;
            Ok::<_, StoreError>(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        assert!(enough.is_ok() && seen == MAX_SCAN + 1);
    }
}
