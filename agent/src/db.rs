//! Typed records over the store: which tables there are, and how their ids are made.

use std::sync::Arc;

use einmal_did::Did;
use einmal_storage::{Key, Store, StoreError, Table, TenantId, Version, mail::MailboxId};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// Our own DIDs, with the forms they are known by.
pub const OWN_DIDS: Table = Table::new("own-did");
/// Our secret keys.
pub const KEYS: Table = Table::new("key");
/// Long forms of did:peer:4 met so far: the short form cannot be resolved without.
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
    /// When it no longer counts, in seconds since 1970; it may be there for some time after.
    pub expires_at: Option<u64>,
}

/// The store as one tenant's node sees it.
#[derive(Clone)]
pub struct Db {
    store: Arc<dyn Store>,
    tenant: TenantId,
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

    /// The store below.
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

    /// Reads all records of a table, page by page, at most `most` of them.
    ///
    /// # Errors
    ///
    /// As [`Db::get`].
    pub fn all<T: DeserializeOwned>(
        &self,
        table: Table,
        most: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let mut found: Vec<(Vec<u8>, T)> = Vec::new();
        while found.len() < most {
            let after = found.last().map(|(id, _)| id.clone());
            let page = self.scan(table, b"", after.as_deref(), most - found.len())?;
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        Ok(found)
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
    ) -> Result<Vec<einmal_storage::Record>, StoreError> {
        self.store.scan(&self.tenant, table, prefix, after, limit)
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
/// [`StoreError::Damaged`] if the type is none JSON can hold: an empty record in its place would only be found later.
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

/// A short record id for texts that may be long, such as DIDs: hexadecimal, 40 characters.
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
