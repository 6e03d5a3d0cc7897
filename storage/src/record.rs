//! A stored record and its version.

use std::fmt;

use crate::Key;

/// The write a record comes from. Greater means later; a record that is deleted and written again never gets an old
/// version again. Versions of one store have gaps and are the same for all records of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// One record as last committed. `Debug` shows only the length of the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its full name.
    pub key: Key,
    /// What was put, byte for byte.
    pub value: Vec<u8>,
    /// The write it comes from, for [`Batch::expect_version`](crate::Batch::expect_version).
    pub version: Version,
    /// When it expires, in seconds since 1970. `None` means never.
    pub expires_at: Option<u64>,
}

impl Record {
    /// Whether the record has expired at `now` (seconds since 1970). The store has no clock: an expired record can
    /// still be read until [`purge_expired`](crate::Store::purge_expired) removes it.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Bytes it takes in memory, roughly.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>().saturating_add(self.key.id().len()).saturating_add(self.value.len())
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("value_len", &self.value.len())
            .field("version", &self.version)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Table, TenantId};

    fn record(expires_at: Option<u64>) -> Record {
        let key = Key::new(&TenantId::default(), Table::new("people"), "1").unwrap();
        Record { key, value: b"Erika Mustermann".to_vec(), version: Version(7), expires_at }
    }

    #[test]
    fn a_record_counts_until_the_second_it_expires() {
        assert!(!record(Some(10)).is_expired(9));
        assert!(record(Some(10)).is_expired(10));
        assert!(!record(None).is_expired(u64::MAX));
    }

    #[test]
    fn a_printed_record_does_not_show_the_value() {
        let text = format!("{:?}", record(None));
        assert!(
            text.contains("value_len: 16") && !text.contains("Erika") && !text.contains("69, 114"),
            "{text}"
        );
    }
}
