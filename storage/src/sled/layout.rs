//! How records are laid out in sled: in one tree, so that one sled batch covers all of them.
//!
//! | first byte | then | value |
//! |---|---|---|
//! | [`META`] | a name | the backend's own counters |
//! | [`RECORD`] | full key | head, then the value or its first part |
//! | [`EXPIRY`] | second it is due (8 bytes), full key | nothing |
//! | [`PART`] | full key, number of the part (4 bytes) | a further part of the value |
//!
//! A full key is `tenant 00 table 00 id`. Names hold no zero byte, so no two full keys are equal and none can be
//! mistaken for a key of another table. The head is the layout number (1), then version and expiry (8 bytes each,
//! big-endian, all ones for no expiry) and the number of further parts (4 bytes).
//!
//! Values are cut into parts because sled 0.34 writes a tree node larger than a quarter segment into a file of its own,
//! which it never flushes. A node holds about 16 entries (256 for an inner node, which holds only keys), so parts of 8
//! KiB and keys of half a KiB stay below that bound with segments of 1 MiB.

use crate::{Key, Record, StoreError, Table, TenantId, Version};

pub(super) const META: u8 = 0;
pub(super) const RECORD: u8 = 1;
pub(super) const EXPIRY: u8 = 2;
pub(super) const PART: u8 = 3;

/// The record layout this program writes.
const LAYOUT: u8 = 1;
/// Longest part of a value in one entry.
pub(super) const PART_LEN: usize = 8 * 1024;
/// sled's segment size, which bounds how large a node may become within the log.
pub(super) const SEGMENT_LEN: usize = 1024 * 1024;
const HEAD_LEN: usize = 21;
const NEVER: u64 = u64::MAX;

/// Key of the first version that no record has yet.
pub(super) const VERSION_CEILING: [u8; 8] = [META, b'v', b'e', b'r', b's', b'i', b'o', b'n'];

/// `RECORD tenant 00 table 00 id`.
pub(super) fn record_key(key: &Key) -> Vec<u8> {
    let mut bytes = table_start(key.tenant(), key.table());
    bytes.extend_from_slice(key.id());
    bytes
}

/// The common prefix of the physical keys of all records of a table.
pub(super) fn table_start(tenant: &TenantId, table: Table) -> Vec<u8> {
    let (tenant, table) = (tenant.as_str().as_bytes(), table.name().as_bytes());
    let mut bytes = Vec::with_capacity(tenant.len().saturating_add(table.len()).saturating_add(64));
    bytes.push(RECORD);
    for name in [tenant, table] {
        bytes.extend_from_slice(name);
        bytes.push(0);
    }
    bytes
}

/// The tenant in the physical key of a record.
pub(super) fn tenant_of(record_key: &[u8]) -> Option<&str> {
    let [RECORD, rest @ ..] = record_key else { return None };
    let name = rest.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(name).ok()
}

/// The full key of the record with this physical key.
pub(super) fn key_of(record_key: &[u8]) -> Result<Key, StoreError> {
    let damaged = || StoreError::Damaged { what: "the key of a record".into() };
    let mut parts = record_key.get(1..).unwrap_or_default().splitn(3, |byte| *byte == 0);
    let mut name = || std::str::from_utf8(parts.next()?).ok();
    let (tenant, table) = (name().ok_or_else(damaged)?, name().ok_or_else(damaged)?);
    Key::dumped(tenant, table, parts.next().ok_or_else(damaged)?)
}

/// The key in the expiry index for the record with this physical key.
pub(super) fn expiry_key(expires_at: u64, record_key: &[u8]) -> Vec<u8> {
    let mut bytes = expiries_until(expires_at);
    bytes.extend_from_slice(record_key.get(1..).unwrap_or_default());
    bytes
}

/// The common prefix of the keys in the expiry index for one second.
pub(super) fn expiries_until(expires_at: u64) -> Vec<u8> {
    let mut bytes = vec![EXPIRY];
    bytes.extend_from_slice(&expires_at.to_be_bytes());
    bytes
}

/// The second and the physical record key in a key of the expiry index.
pub(super) fn expiry_of(expiry_key: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (EXPIRY, rest) = expiry_key.split_first().map(|(kind, rest)| (*kind, rest))? else { return None };
    let (at, full_key) = rest.split_first_chunk()?;
    let mut record_key = vec![RECORD];
    record_key.extend_from_slice(full_key);
    Some((u64::from_be_bytes(*at), record_key))
}

/// The key of part `number` (from 1) of the value of the record with this physical key.
pub(super) fn part_key(record_key: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = vec![PART];
    bytes.extend_from_slice(record_key.get(1..).unwrap_or_default());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

/// The fixed fields before a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) version: Version,
    pub(super) expires_at: Option<u64>,
    pub(super) further_parts: u32,
}

impl Head {
    /// The entry of a record: this head and the first part of its value.
    pub(super) fn entry(self, first_part: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN.saturating_add(first_part.len()));
        bytes.push(LAYOUT);
        bytes.extend_from_slice(&self.version.0.to_be_bytes());
        bytes.extend_from_slice(&self.expires_at.unwrap_or(NEVER).to_be_bytes());
        bytes.extend_from_slice(&self.further_parts.to_be_bytes());
        bytes.extend_from_slice(first_part);
        bytes
    }

    /// Splits the entry of a record into its head and the first part of its value.
    pub(super) fn parse(entry: &[u8]) -> Result<(Self, &[u8]), StoreError> {
        let damaged = || StoreError::Damaged { what: "a record is shorter than its head".into() };
        let (layout, rest) = entry.split_first().ok_or_else(damaged)?;
        if *layout > LAYOUT {
            return Err(StoreError::FormatTooNew { found: (*layout).into(), supported: LAYOUT.into() });
        }
        let (version, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (expires_at, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let (further_parts, first_part) = rest.split_first_chunk().ok_or_else(damaged)?;
        let expires_at = u64::from_be_bytes(*expires_at);
        let head = Self {
            version: Version(u64::from_be_bytes(*version)),
            expires_at: (expires_at != NEVER).then_some(expires_at),
            further_parts: u32::from_be_bytes(*further_parts),
        };
        Ok((head, first_part))
    }
}

/// Reads one record with all parts of its value.
///
/// # Errors
///
/// [`StoreError::Unsealable`] names a damaged one, so that others can be read without it.
pub(super) fn load(tree: &sled::Tree, key: Key, entry: &[u8]) -> Result<Record, StoreError> {
    let damaged = || StoreError::Unsealable { key: key.clone() };
    let (head, first_part) = Head::parse(entry).map_err(|error| match error {
        StoreError::Damaged { .. } => damaged(),
        error => error,
    })?;
    let mut value = first_part.to_vec();
    if head.further_parts > 0 {
        let record_key = record_key(&key);
        for number in 1..=head.further_parts {
            let part = tree.get(part_key(&record_key, number)).map_err(|e| super::error("read", &e))?;
            value.extend_from_slice(&part.ok_or_else(damaged)?);
        }
    }
    Ok(Record { key, value, version: head.version, expires_at: head.expires_at })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_survives_the_disk(version: u64, at: Option<u64>, further_parts: u32, value: Vec<u8>) {
            let at = at.filter(|at| *at != NEVER);
            let head = Head { version: Version(version), expires_at: at, further_parts };
            let entry = head.entry(&value);
            prop_assert_eq!(Head::parse(&entry), Ok((head, &value[..])));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes: Vec<u8>) {
            let _ = Head::parse(&bytes);
            let _ = expiry_of(&bytes);
            let _ = tenant_of(&bytes);
        }

        #[test]
        fn an_expiry_names_its_record(at: u64, id in proptest::collection::vec(any::<u8>(), 0..64)) {
            let key = record_key(&Key::new(&TenantId::default(), Table::new("t"), id).unwrap());
            prop_assert_eq!(expiry_of(&expiry_key(at, &key)), Some((at, key)));
        }

        #[test]
        fn physical_order_is_the_order_of_keys(a: Vec<u8>, b: Vec<u8>) {
            let key = |id: &[u8]| Key::new(&TenantId::default(), Table::new("t"), id).unwrap();
            prop_assert_eq!(key(&a).cmp(&key(&b)), record_key(&key(&a)).cmp(&record_key(&key(&b))));
        }
    }

    #[test]
    fn a_head_cut_short_is_damage() {
        let entry = Head { version: Version(1), expires_at: None, further_parts: 0 }.entry(b"");
        for len in 0..entry.len() {
            assert!(matches!(Head::parse(&entry[..len]), Err(StoreError::Damaged { .. })), "{len}");
        }
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let mut entry = Head { version: Version(1), expires_at: None, further_parts: 0 }.entry(b"");
        entry[0] = LAYOUT + 1;
        assert_eq!(Head::parse(&entry), Err(StoreError::FormatTooNew { found: 2, supported: 1 }));
    }
}
