//! What a store does once it is closed, and what survives until it is opened again.

use super::{BOOKS, Checked, Fixture, key, pattern, put};
use crate::{Batch, MAX_SCAN, StoreError, TenantId, Version};

/// After closing, everything except closing is refused.
pub fn a_closed_store_refuses(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let main = TenantId::default();
    put(&*store, &key("a")?, b"1")?;
    assert!(store.stats()?.commits >= 1);
    store.close()?;
    store.close()?;
    assert_eq!(put(&*store, &key("b")?, b""), Err(StoreError::Closed));
    assert_eq!(store.read(&key("a")?), Err(StoreError::Closed));
    assert_eq!(store.scan(&main, BOOKS, b"", None, 1), Err(StoreError::Closed));
    assert_eq!(store.dump(None, 1), Err(StoreError::Closed));
    assert_eq!(store.dump_since(Version(0), 1), Err(StoreError::Closed));
    assert_eq!(store.count(&main, BOOKS, b""), Err(StoreError::Closed));
    assert_eq!(store.tenants(None, 1), Err(StoreError::Closed));
    assert_eq!(store.purge_expired(0, 1), Err(StoreError::Closed));
    assert_eq!(store.stats(), Err(StoreError::Closed));
    Ok(())
}

/// Records, versions, expiries and deletions survive closing.
pub fn reopening_keeps_everything(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let main = TenantId::default();
    for round in 0..3u8 {
        let mut batch = Batch::new();
        for id in 0..100u8 {
            batch.put_expiring(key([id])?, [id, round], 1000 + u64::from(id));
        }
        batch.put(key("large")?, pattern(300_000));
        store.commit(batch).wait()?;
    }
    let mut batch = Batch::new();
    batch.delete(key([5])?);
    store.commit(batch).wait()?;
    let before = store.scan(&main, BOOKS, b"", None, MAX_SCAN)?;
    store.close()?;
    let store = fixture.open()?;
    let after = store.scan(&main, BOOKS, b"", None, MAX_SCAN)?;
    assert!(before == after && after.len() == 100);
    assert_eq!(store.purge_expired(1009, 100)?, 9);
    Ok(())
}

/// A version read before a restart is never given again.
pub fn versions_grow_over_reopening(fixture: &impl Fixture) -> Checked {
    let mut last = None;
    for _ in 0..3 {
        let store = fixture.open()?;
        let first = put(&*store, &key("a")?, b"")?;
        let second = put(&*store, &key("a")?, b"")?;
        assert!(Some(first) > last && second > first);
        last = Some(second);
        store.close()?;
    }
    Ok(())
}
