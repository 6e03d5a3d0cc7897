//! The trait every backend implements, and its limits.

use crate::{Batch, Commit, Key, Record, StoreError, Table, TenantId, Version};

/// Most records one [`Store::scan`] returns.
pub const MAX_SCAN: usize = 1000;
/// A [`Store::scan`] stops after the record that brings it past this many bytes of values.
pub const MAX_SCAN_BYTES: usize = 16 * 1024 * 1024;
/// Most records one [`Store::purge_expired`] removes.
pub const MAX_PURGE: usize = 4096;

/// Durable state of a node, or of several nodes that share it.
///
/// `Ok(None)` means absent; `Err` means the store could not answer. Reads show only durable data (see the crate
/// documentation) and may therefore block for the few milliseconds of a flush. Each call sees every batch whole or not
/// at all.
pub trait Store: Send + Sync + 'static {
    /// Reads one record. An expired record is still there until it is purged.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read or the record does not unseal.
    fn read(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// Reads the records of a table whose id starts with `prefix`, in the order of their ids, strictly after the id
    /// `after` if given (the full id, whether or not such a record exists), at most `limit` of them and never more than
    /// [`MAX_SCAN`].
    ///
    /// Large records may make the answer shorter ([`MAX_SCAN_BYTES`]), but it holds at least one record if there is
    /// one: only an empty answer means the end.
    ///
    /// # Errors
    ///
    /// Those of [`Store::read`].
    fn scan(
        &self,
        tenant: &TenantId,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;

    /// Reads records of all tenants and tables in the order of their keys, strictly after `after`, at most `limit` of
    /// them and never more than [`MAX_SCAN`], except the store's own. For backups: large records may make the answer
    /// shorter, but only an empty one means the end.
    ///
    /// # Errors
    ///
    /// Those of [`Store::read`].
    fn dump(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// Reads the records of all tenants and tables that were put after `since`, except the store's own, in the order of
    /// their keys and as one consistent view: each batch whole or not at all. `None` if they take more than `most`
    /// bytes in total, including keys. Walks over all records and blocks writers and readers meanwhile: for the end of
    /// a backup.
    ///
    /// # Errors
    ///
    /// Those of [`Store::read`].
    fn dump_since(&self, since: Version, most: usize) -> Result<Option<Vec<Record>>, StoreError>;

    /// Counts the records of a table whose id starts with `prefix`. Walks over all of them; the number is exact only if
    /// nobody writes meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`Store::read`].
    fn count(&self, tenant: &TenantId, table: Table, prefix: &[u8]) -> Result<u64, StoreError>;

    /// Tenants that have at least one record, in the order of their names, strictly after `after`, at most
    /// `limit` and never more than [`MAX_SCAN`].
    ///
    /// # Errors
    ///
    /// Those of [`Store::read`].
    fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, StoreError>;

    /// Writes a batch, whole or not at all. The batch is accepted when this returns, and durable when the
    /// [`Commit`] resolves.
    ///
    /// This call blocks its thread while the backend's queue is full, but no longer than the disk may be busy with one write.
    ///
    /// # Errors
    ///
    /// The commit resolves to [`StoreError::Conflict`] if an expectation does not hold, to
    /// [`StoreError::BatchTooLarge`] or [`StoreError::ValueTooLarge`] beyond the limits, to
    /// [`StoreError::Closed`] after [`Store::close`], to [`StoreError::Stalled`] while the disk hangs, and to another
    /// [`StoreError`] if the backend failed.
    fn commit(&self, batch: Batch) -> Commit;

    /// Removes records of all tenants that have expired at `now` (seconds since 1970), earliest expiry first, at most
    /// `limit` and never more than [`MAX_PURGE`]. Returns how many are durably gone; costs almost nothing if there are
    /// none. Not for use inside an async task.
    ///
    /// # Errors
    ///
    /// Those of [`Store::commit`].
    fn purge_expired(&self, now: u64, limit: usize) -> Result<usize, StoreError>;

    /// How the store is doing.
    ///
    /// # Errors
    ///
    /// Those of [`Store::read`].
    fn stats(&self) -> Result<Stats, StoreError>;

    /// Whether the disk has been busy with one write for longer than [`STALLED_AFTER`](crate::STALLED_AFTER). Meanwhile what
    /// would have to wait for it is refused with [`StoreError::Stalled`].
    fn is_stalled(&self) -> bool;

    /// Writes what was accepted, stops the store's threads and releases its folder. Later calls get
    /// [`StoreError::Closed`], except that closing again is allowed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if something accepted could not be written.
    fn close(&self) -> Result<(), StoreError>;
}

/// Numbers for an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes the store takes on the disk; for the memory backend, bytes of its keys and values.
    pub bytes_on_disk: u64,
    /// Batches written since the store was opened.
    pub commits: u64,
    /// Flushes since the store was opened; `commits / flushes` is the mean group size.
    pub flushes: u64,
    /// Batches waiting at this moment.
    pub waiting: u64,
}
