//! Values sealed at rest, as a layer over any backend.
//!
//! Every value is sealed with XChaCha20-Poly1305 under the data key of its store and a fresh random nonce, bound to its
//! full key and expiry. So a record does not open if it was altered, moved under another key or tenant, taken from
//! another store, or given another expiry.
//!
//! What this does not prevent: someone who can write to the disk can delete records, restore an earlier record under
//! the same key, or restore the whole folder. The version belongs to the backend and is not bound. Keys, sizes and
//! write times are not hidden either.

mod cipher;
mod header;
mod key_file;

use self::cipher::DataKey;
pub(crate) use self::header::unseal_or_create;
pub use self::{
    header::{MAX_PASSPHRASE_LEN, Passphrase, SEAL_FILE, Unlock, rewrap},
    key_file::{KEY_FILE_LEN, create_key_file},
};
use crate::{Batch, Commit, Key, Record, Stats, Store, StoreError, Table, TenantId, Version};

/// A store whose values are sealed in the caller's thread before the backend `S` sees them.
#[derive(Debug)]
pub struct Sealed<S> {
    inner: S,
    data_key: DataKey,
}

impl<S: Store> Sealed<S> {
    pub(crate) fn new(inner: S, data_key: DataKey) -> Self {
        Self { inner, data_key }
    }

    fn unseal(&self, mut record: Record) -> Result<Record, StoreError> {
        record.value = self.data_key.open(&record.key, record.expires_at, record.value)?;
        Ok(record)
    }
}

impl<S: Store> Store for Sealed<S> {
    fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.read(key)?.map(|record| self.unseal(record)).transpose()
    }

    fn scan(
        &self,
        tenant: &TenantId,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let records = self.inner.scan(tenant, table, prefix, after, limit)?;
        records.into_iter().map(|record| self.unseal(record)).collect()
    }

    fn dump(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let records = self.inner.dump(after, limit)?;
        records.into_iter().map(|record| self.unseal(record)).collect()
    }

    fn dump_since(&self, since: Version, most: usize) -> Result<Option<Vec<Record>>, StoreError> {
        let records = self.inner.dump_since(since, most)?;
        records.map(|records| records.into_iter().map(|record| self.unseal(record)).collect()).transpose()
    }

    fn count(&self, tenant: &TenantId, table: Table, prefix: &[u8]) -> Result<u64, StoreError> {
        self.inner.count(tenant, table, prefix)
    }

    fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, StoreError> {
        self.inner.tenants(after, limit)
    }

    fn commit(&self, batch: Batch) -> Commit {
        let sealed = batch.check().and_then(|()| {
            batch.map_values(|key, expires_at, value| self.data_key.seal(key, expires_at, value))
        });
        match sealed {
            Ok(batch) => self.inner.commit(batch),
            Err(error) => Commit::answered(Err(error)),
        }
    }

    fn purge_expired(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        self.inner.purge_expired(now, limit)
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        self.inner.stats()
    }

    fn is_stalled(&self) -> bool {
        self.inner.is_stalled()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests;
