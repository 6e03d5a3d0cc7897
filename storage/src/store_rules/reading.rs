//! What is read: absent and present records, scans, tenants and tables, dumps, and what changed since.

use std::{collections::BTreeSet, sync::atomic::AtomicBool, sync::atomic::Ordering, thread};

use super::{BOOKS, BOOKS_LENT, Checked, Fixture, ids, key, pattern, put};
use crate::{Batch, Key, MAX_SCAN, MAX_VALUE_LEN, Record, StoreError, Table, TenantId};

/// Reading an absent record is not an error.
pub fn an_absent_record_is_none_not_an_error(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    assert_eq!(store.read(&key("nothing")?)?, None);
    assert_eq!(store.scan(&TenantId::default(), BOOKS, b"", None, 10)?, []);
    assert_eq!(store.count(&TenantId::default(), BOOKS, b"")?, 0);
    assert_eq!(store.tenants(None, 10)?, []);
    Ok(())
}

/// Key, value, version and expiry are read as they were written, even with an empty value.
pub fn a_committed_record_reads_back(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let mut batch = Batch::new();
    batch.put(key("a")?, "Faust").put_expiring(key("b")?, "", 77).put_expiring(key("c")?, "x", u64::MAX);
    let version = store.commit(batch).wait()?.version;
    let expected = |id, value: &str, expires_at| {
        key(id).map(|key| Some(Record { key, value: value.into(), version, expires_at }))
    };
    assert_eq!(store.read(&key("a")?)?, expected("a", "Faust", None)?);
    assert_eq!(store.read(&key("b")?)?, expected("b", "", Some(77))?);
    assert_eq!(store.read(&key("c")?)?, expected("c", "x", None)?);
    Ok(())
}

/// Ids are in byte order, `after` is exclusive, and `prefix` is a prefix of the id.
pub fn scan_keeps_the_order_of_ids_and_honours_prefix_after_and_limit(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let mut batch = Batch::new();
    let all: [&[u8]; 7] = [b"", b"a", b"a\x00", b"a/1", b"a/2", b"b", b"\xff\xff"];
    for id in all.iter().rev() {
        batch.put(key(id)?, *id);
    }
    store.commit(batch).wait()?;
    let main = TenantId::default();
    let scan = |prefix: &[u8], after, limit| store.scan(&main, BOOKS, prefix, after, limit);
    assert_eq!(ids(&scan(b"", None, 100)?), all);
    assert_eq!(ids(&scan(b"", None, 2)?), [&b""[..], b"a"]);
    assert_eq!(ids(&scan(b"", Some(b"a"), 2)?), [&b"a\x00"[..], b"a/1"]);
    assert_eq!(ids(&scan(b"", Some(b"a/"), 1)?), [b"a/1"], "after need not exist");
    assert_eq!(ids(&scan(b"a/", None, 100)?), [b"a/1", b"a/2"]);
    assert_eq!(ids(&scan(b"a/", Some(b"a/1"), 100)?), [b"a/2"]);
    assert_eq!(ids(&scan(b"a/", Some(b""), 100)?), [b"a/1", b"a/2"], "after before the prefix");
    assert_eq!(scan(b"a/", Some(b"b"), 100)?, [], "after beyond the prefix");
    assert_eq!(ids(&scan(b"\xff", None, 100)?), [b"\xff\xff"]);
    assert_eq!(scan(b"", None, 0)?, []);
    assert_eq!(store.count(&main, BOOKS, b"a")?, 4);
    assert!(scan(b"", None, 100)?.iter().all(|record| record.value == record.key.id()));
    Ok(())
}

/// However much is requested, one scan returns a bounded number of records; further scans return the rest.
pub fn scan_bounds_what_it_returns(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let main = TenantId::default();
    let mut batch = Batch::new();
    for id in 0..=MAX_SCAN {
        batch.put(key(format!("{id:05}"))?, "");
    }
    store.commit(batch).wait()?;
    let first = store.scan(&main, BOOKS, b"", None, usize::MAX)?;
    assert_eq!(first.len(), MAX_SCAN);
    let last = first.last().map(|record| record.key.id().to_vec());
    assert_eq!(store.scan(&main, BOOKS, b"", last.as_deref(), usize::MAX)?.len(), 1);
    let large = vec![7; MAX_VALUE_LEN];
    for id in ["x1", "x2", "x3"] {
        put(&*store, &key(id)?, &large)?;
    }
    assert_eq!(ids(&store.scan(&main, BOOKS, b"x", None, 10)?), [b"x1", b"x2"]);
    assert_eq!(ids(&store.scan(&main, BOOKS, b"x", Some(b"x2"), 10)?), [b"x3"]);
    Ok(())
}

/// The same table and id under two tenants are two records.
pub fn tenants_never_meet(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let names = ["wetzlar", "wetz", "wetzlar.old"];
    let mut tenants = Vec::new();
    for name in names {
        let tenant = TenantId::new(name)?;
        put(&*store, &Key::new(&tenant, BOOKS, "a")?, name.as_bytes())?;
        tenants.push(tenant);
    }
    for tenant in &tenants {
        let records = store.scan(tenant, BOOKS, b"", None, 10)?;
        assert_eq!(records.len(), 1);
        assert!(records.iter().all(|record| record.value == tenant.as_str().as_bytes()));
        assert!(records.iter().all(|record| record.key.tenant() == tenant));
        assert_eq!(store.count(tenant, BOOKS, b"")?, 1);
    }
    let mut batch = Batch::new();
    batch.delete(Key::new(&TenantId::new("wetz")?, BOOKS, "a")?);
    store.commit(batch).wait()?;
    assert!(store.read(&Key::new(&TenantId::new("wetzlar")?, BOOKS, "a")?)?.is_some());
    Ok(())
}

/// Tables are separate, even if the name of one starts with the name of the other.
pub fn tables_never_meet(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let main = TenantId::default();
    put(&*store, &Key::new(&main, BOOKS, ".lent")?, b"1")?;
    put(&*store, &Key::new(&main, BOOKS_LENT, "")?, b"2")?;
    put(&*store, &Key::new(&main, BOOKS_LENT, "x")?, b"3")?;
    assert_eq!(ids(&store.scan(&main, BOOKS, b"", None, 10)?), [b".lent"]);
    assert_eq!(ids(&store.scan(&main, BOOKS_LENT, b"", None, 10)?), [&b""[..], b"x"]);
    assert_eq!(store.count(&main, BOOKS, b"")?, 1);
    Ok(())
}

/// Each tenant with a record is named once.
pub fn tenants_are_listed_in_order(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let names = ["a", "a.b", "ab", "b"];
    for name in names.iter().rev() {
        for id in ["1", "2"] {
            put(&*store, &Key::new(&TenantId::new(name)?, BOOKS, id)?, b"")?;
        }
    }
    let list = |after: Option<&str>, limit| -> Result<Vec<String>, StoreError> {
        let after = after.map(TenantId::new).transpose()?;
        Ok(store.tenants(after.as_ref(), limit)?.iter().map(ToString::to_string).collect())
    };
    assert_eq!(list(None, 10)?, names);
    assert_eq!(list(None, 2)?, ["a", "a.b"]);
    assert_eq!(list(Some("a.b"), 10)?, ["ab", "b"]);
    assert_eq!(list(Some("aa"), 1)?, ["ab"]);
    Ok(())
}

/// A dump holds every record of every tenant and table once, page by page, with value and expiry, and none of the
/// store's own records.
pub fn a_dump_holds_every_record_once(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let mut batch = Batch::new();
    let mut expected = Vec::new();
    for tenant in ["a", "b"] {
        for table in [Table::new("x"), Table::new("y")] {
            for number in 0..5u8 {
                let key = Key::new(&TenantId::new(tenant)?, table, [number, 0, number])?;
                batch.put_expiring(key.clone(), [number; 3], 1000 + u64::from(number));
                expected.push((key, vec![number; 3], Some(1000 + u64::from(number))));
            }
        }
    }
    store.commit(batch).wait()?;
    let mut found = Vec::new();
    loop {
        let page = store.dump(found.last().map(|(key, _, _)| key), 3)?;
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3, "a page is no longer than asked for");
        found.extend(page.into_iter().map(|record| (record.key, record.value, record.expires_at)));
    }
    assert_eq!(found, expected, "everything comes once, in order, and nothing else");
    assert!(store.dump(None, 0)?.is_empty(), "nothing asked for is nothing given");
    Ok(())
}

/// Returns what was put after a version, nothing put before it, and no more than requested.
pub fn what_changed_since_a_version_comes_once_and_within_its_bound(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let other = Key::new(&TenantId::new("other")?, BOOKS_LENT, "c")?;
    put(&*store, &key("a")?, b"old")?;
    put(&*store, &key("b")?, b"old")?;
    let since = put(&*store, &key("c")?, b"old")?;
    assert_eq!(store.dump_since(since, usize::MAX)?, Some(Vec::new()));
    put(&*store, &key("b")?, b"new")?;
    put(&*store, &other, &pattern(100_000))?;
    let found = store.dump_since(since, usize::MAX)?.unwrap_or_default();
    let found: Vec<_> = found.into_iter().map(|record| (record.key, record.value)).collect();
    let mut expected = vec![(key("b")?, b"new".to_vec()), (other, pattern(100_000))];
    expected.sort();
    assert!(found == expected, "what was put since, once, in order");
    assert!(store.dump_since(since, 100_000)?.is_none(), "keys count too");
    assert!(store.dump_since(since, 200_000)?.is_some());
    Ok(())
}

/// A batch is never read in part while someone writes.
pub fn what_changed_since_a_version_holds_each_batch_whole(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let since = put(&*store, &key("before")?, b"")?;
    let last = Key::new(&TenantId::new("zz")?, BOOKS_LENT, "last")?;
    let put_all = |number: u32| -> Checked {
        let mut batch = Batch::new();
        batch.put(key("first")?, number.to_be_bytes()).put(last.clone(), number.to_be_bytes());
        // The records in between take time to read.
        for id in 0..50u8 {
            batch.put(key([b'm', id])?, number.to_be_bytes());
        }
        store.commit(batch).wait().map(drop)
    };
    put_all(0)?;
    let stop = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        let writer =
            scope.spawn(|| (1..).take_while(|_| !stop.load(Ordering::Relaxed)).try_for_each(put_all));
        let read = || store.dump_since(since, usize::MAX).map(Option::unwrap_or_default);
        let found: Result<Vec<Vec<Record>>, StoreError> = (0..50).map(|_| read()).collect();
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| StoreError::TaskPanicked)?.and(found)
    })?;
    for records in found {
        let values: BTreeSet<_> = records.iter().map(|record| &record.value).collect();
        assert_eq!((records.len(), values.len()), (52, 1), "a batch is there in part");
    }
    Ok(())
}
