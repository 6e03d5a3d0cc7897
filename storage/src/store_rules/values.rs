//! Values and keys of every size, what is deleted, and the limits.

use std::collections::BTreeSet;

use super::{BOOKS, Checked, Fixture, ids, key, pattern, put, value};
use crate::{Batch, MAX_BATCH_OPS, MAX_KEY_LEN, MAX_SCAN, MAX_VALUE_LEN, StoreError, TenantId};

/// Deleting is final, and deleting an absent record is allowed.
pub fn a_deleted_record_is_gone(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    put(&*store, &key("a")?, b"1")?;
    for _ in 0..2 {
        let mut batch = Batch::new();
        batch.delete(key("a")?);
        store.commit(batch).wait()?;
        assert_eq!(store.read(&key("a")?)?, None);
        assert_eq!(store.count(&TenantId::default(), BOOKS, b"")?, 0);
    }
    Ok(())
}

/// Values of every size up to the limit read back whole, even next to each other.
pub fn large_values_read_back(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let lens = [1, 8191, 8192, 8193, 16_384, 65_536, 1_000_003, MAX_VALUE_LEN];
    for len in lens {
        put(&*store, &key(format!("{len:09}"))?, &pattern(len))?;
    }
    for len in lens {
        assert!(value(&*store, &key(format!("{len:09}"))?)? == Some(pattern(len)), "{len} bytes");
    }
    let found: Vec<usize> = store
        .scan(&TenantId::default(), BOOKS, b"", None, 100)?
        .iter()
        .map(|record| record.value.len())
        .collect();
    assert_eq!(found, lens);
    Ok(())
}

/// A record that changes its size leaves nothing of its earlier value behind.
pub fn a_large_value_can_shrink_grow_and_go(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    for len in [100_000, 20_000, 10, 50_000, 0, 200_000] {
        put(&*store, &key("a")?, &pattern(len))?;
        assert!(value(&*store, &key("a")?)? == Some(pattern(len)), "{len} bytes");
    }
    let mut batch = Batch::new();
    batch.delete(key("a")?);
    store.commit(batch).wait()?;
    assert_eq!(store.read(&key("a")?)?, None);
    assert_eq!(store.count(&TenantId::default(), BOOKS, b"")?, 0);
    Ok(())
}

/// Ids are bytes: empty, zeros, full length, one a prefix of the other; each value has two chunks.
pub fn keys_of_every_length_and_byte_are_kept_apart(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let mut all = BTreeSet::from([vec![], vec![0], vec![0, 0], vec![0xff], vec![0xff; MAX_KEY_LEN]]);
    all.extend((0..=MAX_KEY_LEN).step_by(37).map(|len| vec![0; len]));
    all.extend((0..=255).map(|byte| vec![b'k', byte]));
    let mut batch = Batch::new();
    for id in &all {
        let mut text = id.clone();
        text.resize(9000, 1);
        batch.put(key(id)?, text);
    }
    store.commit(batch).wait()?;
    for id in &all {
        let found = value(&*store, &key(id)?)?;
        assert!(found.is_some_and(|value| value.starts_with(id) && value.len() == 9000), "{id:?}");
    }
    let scanned = store.scan(&TenantId::default(), BOOKS, b"", None, MAX_SCAN)?;
    assert_eq!(ids(&scanned), all.iter().map(Vec::as_slice).collect::<Vec<_>>());
    Ok(())
}

/// A batch just within the limits is written; one just beyond is refused as a whole.
pub fn limits_are_enforced(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let mut batch = Batch::new();
    for id in 0..MAX_BATCH_OPS {
        batch.put(key(id.to_be_bytes())?, "");
    }
    store.commit(batch).wait()?;
    let mut batch = Batch::new();
    for id in 0..=MAX_BATCH_OPS {
        batch.delete(key(id.to_be_bytes())?);
    }
    let (ops, bytes) = (batch.len(), batch.bytes());
    assert_eq!(store.commit(batch).wait(), Err(StoreError::BatchTooLarge { ops, bytes }));
    assert!(store.read(&key(0usize.to_be_bytes())?)?.is_some());
    let mut batch = Batch::new();
    batch.put(key("a")?, vec![0; MAX_VALUE_LEN]).put(key("b")?, vec![0; MAX_VALUE_LEN]);
    let (ops, bytes) = (batch.len(), batch.bytes());
    assert_eq!(store.commit(batch).wait(), Err(StoreError::BatchTooLarge { ops, bytes }));
    let mut batch = Batch::new();
    batch.put(key("a")?, vec![0; MAX_VALUE_LEN + 1]);
    assert_eq!(store.commit(batch).wait(), Err(StoreError::ValueTooLarge { len: MAX_VALUE_LEN + 1 }));
    assert_eq!(store.read(&key("a")?)?, None);
    Ok(())
}
