//! What expires, and what is renewed in time.

use super::{BOOKS, BOOKS_LENT, Checked, Fixture, ids, key};
use crate::{Batch, Key, TenantId};

/// Purging removes expired records of all tenants, oldest first, and leaves the rest.
pub fn expired_records_are_purged_and_no_others(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let other = Key::new(&TenantId::new("other")?, BOOKS_LENT, "x")?;
    let mut batch = Batch::new();
    batch
        .put(key("stays")?, "")
        .put_expiring(key("at 10")?, "", 10)
        .put_expiring(other.clone(), "", 9)
        .put_expiring(key("at 11")?, "", 11)
        .put_expiring(key("at 0")?, "", 0)
        .put_expiring(key("late")?, "", u64::MAX - 1);
    store.commit(batch).wait()?;
    assert!(store.read(&key("at 0")?)?.is_some(), "the store has no clock of its own");
    assert_eq!(store.purge_expired(8, 0)?, 0);
    assert_eq!(store.purge_expired(8, 10)?, 1);
    assert_eq!(store.purge_expired(8, 10)?, 0);
    assert_eq!(store.purge_expired(10, 1)?, 1);
    assert_eq!(store.read(&other)?, None, "the one due longest goes first");
    assert!(store.read(&key("at 10")?)?.is_some());
    assert_eq!(store.purge_expired(10, usize::MAX)?, 1);
    let left = store.scan(&TenantId::default(), BOOKS, b"", None, 10)?;
    assert_eq!(ids(&left), [&b"at 11"[..], b"late", b"stays"]);
    assert_eq!(store.purge_expired(u64::MAX, 10)?, 2);
    assert!(store.read(&key("stays")?)?.is_some());
    Ok(())
}

/// Writing a record again replaces its expiry; so does deleting and writing it again.
pub fn a_renewed_record_outlives_its_first_expiry(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let commit = |change: &dyn Fn(&mut Batch) -> Checked| -> Checked {
        let mut batch = Batch::new();
        change(&mut batch)?;
        store.commit(batch).wait().map(drop)
    };
    for id in ["a", "b", "c"] {
        commit(&|batch| {
            batch.put_expiring(key(id)?, "", 10);
            Ok(())
        })?;
    }
    commit(&|batch| {
        batch.put_expiring(key("a")?, "", 20);
        Ok(())
    })?;
    commit(&|batch| {
        batch.put(key("b")?, "");
        Ok(())
    })?;
    commit(&|batch| {
        batch.delete(key("c")?);
        Ok(())
    })?;
    commit(&|batch| {
        batch.put(key("c")?, "");
        Ok(())
    })?;
    assert_eq!(store.purge_expired(15, 10)?, 0);
    assert_eq!(store.count(&TenantId::default(), BOOKS, b"")?, 3);
    assert_eq!(store.purge_expired(20, 10)?, 1);
    assert_eq!(store.read(&key("a")?)?, None);
    Ok(())
}
