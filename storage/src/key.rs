//! Names of records: tenant, table and id, which together form the full key.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::StoreError;

/// Longest tenant name in bytes.
pub const MAX_TENANT_LEN: usize = 64;
/// Longest table name in bytes.
pub const MAX_TABLE_LEN: usize = 32;
/// Longest id of a record in bytes. Hash anything that may be longer, such as a long-form DID.
pub const MAX_KEY_LEN: usize = 512;

/// Whether `name` is 1 to `max` bytes of lower-case letters, digits, `-`, `_` and `.`, and starts with a
/// letter or digit.
const fn is_name(name: &[u8], max: usize) -> bool {
    if name.len() > max {
        return false;
    }
    let [first, ..] = name else { return false };
    if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
        return false;
    }
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')) {
            return false;
        }
        rest = tail;
    }
    true
}

/// The owner of data: one city, shop or household of an installation. Data of different tenants never mix.
///
/// A name of 1 to [`MAX_TENANT_LEN`] lower-case ASCII letters, digits, `-`, `_` and `.`, starting with a letter
/// or digit. The default is `main`, the usual single tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Checks and wraps a tenant name.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidName`] if `name` breaks the rule above.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        if is_name(name.as_bytes(), MAX_TENANT_LEN) {
            Ok(Self(name.into()))
        } else {
            Err(StoreError::InvalidName { what: "tenant" })
        }
    }

    /// The tenant of the store's own records; no caller can name it.
    pub(crate) fn house() -> Self {
        Self("_store".into())
    }

    /// Whether it is the store's own tenant.
    pub(crate) fn is_house(&self) -> bool {
        &*self.0 == "_store"
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("main".into())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TenantId {
    type Err = StoreError;

    fn from_str(name: &str) -> Result<Self, StoreError> {
        Self::new(name)
    }
}

/// One kind of record, such as `inbox`. Tables are constants of the program, never outside input.
///
/// ```
/// # use einmal_storage::Table;
/// const INBOX: Table = Table::new("inbox");
/// assert_eq!(INBOX.name(), "inbox");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(&'static str);

impl Table {
    /// Names a table; make it a `const`, so that an invalid name fails the build.
    ///
    /// # Panics
    ///
    /// If `name` is not 1 to [`MAX_TABLE_LEN`] lower-case ASCII letters, digits, `-`, `_` and `.`, starting with
    /// a letter or digit.
    pub const fn new(name: &'static str) -> Self {
        assert!(is_name(name.as_bytes(), MAX_TABLE_LEN), "not a table name");
        Self(name)
    }

    /// The name as text.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Most table names in one process that may come from dumps.
pub const MAX_DUMPED_TABLES: usize = 1024;

/// The table name as a static string; each new name is kept for as long as the process lives.
fn interned(name: &str) -> Result<&'static str, StoreError> {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Ok(known);
    }
    if names.len() >= MAX_DUMPED_TABLES || !is_name(name.as_bytes(), MAX_TABLE_LEN) {
        return Err(StoreError::InvalidName { what: "table" });
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    Ok(kept)
}

/// The full name of one record. Ordered by tenant, then table, then id, byte by byte.
///
/// `Debug` shows tenant, table and length of the id, because the id itself may say something about a person.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    tenant: TenantId,
    table: Table,
    id: Vec<u8>,
}

impl Key {
    /// Names the record `id` of `table`; `id` has at most [`MAX_KEY_LEN`] bytes and may be empty.
    ///
    /// # Errors
    ///
    /// [`StoreError::KeyTooLong`].
    pub fn new(tenant: &TenantId, table: Table, id: impl AsRef<[u8]>) -> Result<Self, StoreError> {
        let id = id.as_ref();
        if id.len() > MAX_KEY_LEN {
            return Err(StoreError::KeyTooLong { table, len: id.len() });
        }
        Ok(Self::unchecked(tenant, table, id))
    }

    /// Names a record found in a dump. Table names are constants of the program; one from a dump is kept for as long as
    /// the process lives, at most [`MAX_DUMPED_TABLES`] of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidName`] if tenant or table is invalid or there are too many tables,
    /// [`StoreError::KeyTooLong`].
    pub fn dumped(tenant: &str, table: &str, id: &[u8]) -> Result<Self, StoreError> {
        if tenant == "_store" {
            return Ok(Self::unchecked(&TenantId::house(), Table(interned(table)?), id));
        }
        Self::new(&TenantId::new(tenant)?, Table(interned(table)?), id)
    }

    pub(crate) fn unchecked(tenant: &TenantId, table: Table, id: &[u8]) -> Self {
        Self { tenant: tenant.clone(), table, id: id.to_vec() }
    }

    /// The tenant it belongs to.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The table it is in.
    pub fn table(&self) -> Table {
        self.table
    }

    /// The id within the table.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// Bytes this key adds to a batch.
    pub(crate) fn size(&self) -> usize {
        self.tenant.0.len().saturating_add(self.table.0.len()).saturating_add(self.id.len())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}/{}/{} bytes)", self.tenant, self.table, self.id.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_tenant_is_main() {
        assert_eq!(TenantId::default(), TenantId::new("main").unwrap());
    }

    #[test]
    fn names_outside_the_rule_are_refused() {
        let long = "a".repeat(MAX_TENANT_LEN + 1);
        for name in ["", "_store", ".a", "Main", "a/b", "a\0b", "ä", "a b", long.as_str()] {
            assert_eq!(TenantId::new(name), Err(StoreError::InvalidName { what: "tenant" }), "{name:?}");
        }
        assert!(TenantId::new(&"a".repeat(MAX_TENANT_LEN)).is_ok());
    }

    #[test]
    fn an_id_longer_than_the_limit_is_refused() {
        let table = Table::new("t");
        let tenant = TenantId::default();
        assert!(Key::new(&tenant, table, [0; MAX_KEY_LEN]).is_ok());
        assert_eq!(
            Key::new(&tenant, table, [0; MAX_KEY_LEN + 1]),
            Err(StoreError::KeyTooLong { table, len: MAX_KEY_LEN + 1 })
        );
    }

    #[test]
    fn a_printed_key_does_not_show_the_id() {
        let key = Key::new(&TenantId::default(), Table::new("people"), "erika").unwrap();
        assert_eq!(format!("{key:?}"), "Key(main/people/5 bytes)");
    }
}
