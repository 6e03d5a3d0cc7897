//! Sealing over the memory backend, where every byte can be tampered with.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::*;
use crate::{MemoryStore, store_rules::Fixture};

fn data_key(byte: u8) -> DataKey {
    DataKey::new(&Zeroizing::new([byte; 32]))
}

#[derive(Default)]
struct SealedMemory(MemoryStore);

impl Fixture for SealedMemory {
    fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(Sealed::new(self.0.reopen(), data_key(1))))
    }
}

crate::store_rules!(SealedMemory::default());

const TABLE: Table = Table::new("people");

fn key(id: &str) -> Key {
    Key::new(&TenantId::default(), TABLE, id).unwrap()
}

/// What a record that does not unseal is refused with.
fn unsealable(key: Key) -> StoreError {
    StoreError::Unsealable { key }
}

/// A sealed store with one record `a`, and the backend below it.
fn store() -> (Sealed<MemoryStore>, MemoryStore) {
    let below = MemoryStore::new();
    let store = Sealed::new(below.reopen(), data_key(1));
    let mut batch = Batch::new();
    batch.put_expiring(key("a"), "Erika Mustermann", 99).put_expiring(key("b"), "Max Mustermann", 99);
    store.commit(batch).wait().unwrap();
    (store, below)
}

#[test]
fn the_backend_never_sees_the_value() {
    let (_, below) = store();
    let value = below.read(&key("a")).unwrap().unwrap().value;
    assert!(!value.windows(5).any(|window| window == b"Erika"));
    assert_eq!(value.len(), 16 + 41);
}

#[test]
fn equal_values_are_sealed_differently() {
    let key = key("a");
    let seal = || data_key(1).seal(&key, None, b"same".to_vec()).unwrap();
    assert_ne!(seal(), seal());
}

#[test]
fn any_flipped_byte_of_a_sealed_value_is_found() {
    let (store, below) = store();
    let len = below.read(&key("a")).unwrap().unwrap().value.len();
    // Byte 0 is the format, see `a_newer_seal_is_named_as_such`.
    for at in 1..len {
        below.tamper(&key("a"), |record| record.value[at] ^= 0xff);
        assert_eq!(store.read(&key("a")), Err(unsealable(key("a"))), "byte {at}");
        below.tamper(&key("a"), |record| record.value[at] ^= 0xff);
    }
    assert!(store.read(&key("a")).is_ok());
}

#[test]
fn a_value_cut_short_is_refused() {
    let (store, below) = store();
    while !below.read(&key("a")).unwrap().unwrap().value.is_empty() {
        below.tamper(&key("a"), |record| record.value.truncate(record.value.len() - 1));
        assert_eq!(store.read(&key("a")), Err(unsealable(key("a"))));
    }
}

#[test]
fn a_record_moved_to_another_key_is_refused() {
    let (store, below) = store();
    let stolen = below.read(&key("b")).unwrap().unwrap().value;
    let other_tenant = Key::new(&TenantId::new("other").unwrap(), TABLE, "b").unwrap();
    let mut batch = Batch::new();
    batch.put_expiring(key("a"), stolen.clone(), 99).put_expiring(other_tenant.clone(), stolen, 99);
    below.commit(batch).wait().unwrap();
    assert_eq!(store.read(&key("a")), Err(unsealable(key("a"))));
    assert_eq!(store.read(&other_tenant), Err(unsealable(other_tenant)));
    assert_eq!(store.scan(&TenantId::default(), TABLE, b"", None, 10), Err(unsealable(key("a"))));
    assert!(store.read(&key("b")).is_ok());
}

#[test]
fn an_expiry_that_was_prolonged_is_found() {
    let (store, below) = store();
    below.tamper(&key("a"), |record| record.expires_at = Some(100));
    assert_eq!(store.read(&key("a")), Err(unsealable(key("a"))));
    below.tamper(&key("a"), |record| record.expires_at = None);
    assert_eq!(store.read(&key("a")), Err(unsealable(key("a"))));
}

#[test]
fn another_data_key_opens_nothing() {
    let (_, below) = store();
    assert_eq!(Sealed::new(below, data_key(2)).read(&key("a")), Err(unsealable(key("a"))));
}

#[test]
fn a_newer_seal_is_named_as_such() {
    let (store, below) = store();
    below.tamper(&key("a"), |record| record.value[0] = 2);
    assert_eq!(store.read(&key("a")), Err(StoreError::FormatTooNew { found: 2, supported: 1 }));
    below.tamper(&key("a"), |record| record.value[0] = 0);
    assert_eq!(store.read(&key("a")), Err(unsealable(key("a"))));
}

#[test]
fn secrets_do_not_print() {
    let passphrase = Passphrase::new("correct horse").unwrap();
    let text = format!("{:?} {:?}", data_key(1), Unlock::Passphrase(passphrase));
    assert_eq!(text, "DataKey(..) Passphrase(Passphrase(..))");
}

#[test]
fn a_passphrase_has_bounds() {
    assert_eq!(Passphrase::new("").unwrap_err(), StoreError::PassphraseLength);
    assert_eq!(
        Passphrase::new("x".repeat(MAX_PASSPHRASE_LEN + 1)).unwrap_err(),
        StoreError::PassphraseLength
    );
}
