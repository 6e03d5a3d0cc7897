//! A batch: everything one event changes, and what it expects to find.

use std::{collections::BTreeMap, fmt};

use crate::{Key, StoreError, Version};

/// Most changes and expectations of one batch together.
pub const MAX_BATCH_OPS: usize = 4096;
/// Most bytes of keys and values of one batch together.
pub const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Longest value of one record in bytes.
pub const MAX_VALUE_LEN: usize = 8 * 1024 * 1024;

/// Changes that are written together or not at all, and expectations that must hold at that moment.
///
/// If a key is changed several times, the last change counts. All expectations are checked before any change.
///
/// ```
/// # use einmal_storage::{Batch, Key, MemoryStore, Store, Table, TenantId};
/// # let store = MemoryStore::new();
/// # let key = Key::new(&TenantId::default(), Table::new("seen"), "id").unwrap();
/// let mut batch = Batch::new();
/// batch.expect_absent(key.clone()).put(key, "first arrival");
/// store.commit(batch).wait().unwrap();
/// ```
#[derive(Default)]
pub struct Batch {
    pub(crate) changes: BTreeMap<Key, Change>,
    pub(crate) expectations: Vec<(Key, Expectation)>,
    bytes: usize,
    longest_value: usize,
}

/// The change to one record.
#[derive(PartialEq)]
pub(crate) enum Change {
    Put { value: Vec<u8>, expires_at: Option<u64> },
    Delete,
}

/// What must hold for one record, or the batch is not written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expectation {
    Absent,
    Version(Version),
}

impl Expectation {
    /// Whether a record of version `found` (`None`: no record) is as expected.
    pub(crate) fn holds(self, found: Option<Version>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Version(version) => found == Some(version),
        }
    }
}

impl Batch {
    /// An empty batch. Committed unchanged, it is a fence: it resolves when everything committed before it is durable.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `value`, whether or not the record exists. The record stays until it is deleted.
    pub fn put(&mut self, key: Key, value: impl Into<Vec<u8>>) -> &mut Self {
        self.change(key, Change::Put { value: value.into(), expires_at: None })
    }

    /// Writes `value` for a limited time, up to and not including `expires_at` in seconds since 1970;
    /// `u64::MAX` means without limit.
    pub fn put_expiring(&mut self, key: Key, value: impl Into<Vec<u8>>, expires_at: u64) -> &mut Self {
        let expires_at = (expires_at != u64::MAX).then_some(expires_at);
        self.change(key, Change::Put { value: value.into(), expires_at })
    }

    /// Deletes the record. It need not exist.
    pub fn delete(&mut self, key: Key) -> &mut Self {
        self.change(key, Change::Delete)
    }

    /// Requires that there is no such record.
    pub fn expect_absent(&mut self, key: Key) -> &mut Self {
        self.expect(key, Expectation::Absent)
    }

    /// Requires that the record exists and was last written with `version`.
    pub fn expect_version(&mut self, key: Key, version: Version) -> &mut Self {
        self.expect(key, Expectation::Version(version))
    }

    /// Number of changes and expectations.
    pub fn len(&self) -> usize {
        self.changes.len().saturating_add(self.expectations.len())
    }

    /// Whether there is neither a change nor an expectation.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.expectations.is_empty()
    }

    /// Bytes of keys and values so far, as counted against [`MAX_BATCH_BYTES`]. Values replaced by a later change to
    /// the same key still count.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it writes this record, to last until `end` at least, in seconds since 1970.
    pub fn keeps(&self, key: &Key, end: u64) -> bool {
        matches!(self.changes.get(key), Some(Change::Put { expires_at, .. }) if expires_at.is_none_or(|at| at >= end))
    }

    /// Checks the limits; every backend calls this first.
    ///
    /// # Errors
    ///
    /// [`StoreError::BatchTooLarge`] or [`StoreError::ValueTooLarge`].
    pub fn check(&self) -> Result<(), StoreError> {
        if self.longest_value > MAX_VALUE_LEN {
            return Err(StoreError::ValueTooLarge { len: self.longest_value });
        }
        if self.len() > MAX_BATCH_OPS || self.bytes > MAX_BATCH_BYTES {
            return Err(StoreError::BatchTooLarge { ops: self.len(), bytes: self.bytes });
        }
        Ok(())
    }

    /// Replaces every value by the result of `seal`. The limits still count the original values.
    pub(crate) fn map_values(
        mut self,
        mut seal: impl FnMut(&Key, Option<u64>, Vec<u8>) -> Result<Vec<u8>, StoreError>,
    ) -> Result<Self, StoreError> {
        for (key, change) in &mut self.changes {
            if let Change::Put { value, expires_at } = change {
                *value = seal(key, *expires_at, std::mem::take(value))?;
            }
        }
        Ok(self)
    }

    fn change(&mut self, key: Key, change: Change) -> &mut Self {
        let value_len = match &change {
            Change::Put { value, .. } => value.len(),
            Change::Delete => 0,
        };
        self.longest_value = self.longest_value.max(value_len);
        self.bytes = self.bytes.saturating_add(key.size()).saturating_add(value_len);
        self.changes.insert(key, change);
        self
    }

    fn expect(&mut self, key: Key, expectation: Expectation) -> &mut Self {
        self.bytes = self.bytes.saturating_add(key.size());
        self.expectations.push((key, expectation));
        self
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("changes", &self.changes.keys().collect::<Vec<_>>())
            .field("expectations", &self.expectations)
            .field("bytes", &self.bytes)
            .finish()
    }
}
