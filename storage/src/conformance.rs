//! One suite that every backend must pass.
//!
//! A backend implements [`Fixture`] and expands [`conformance_tests!`](crate::conformance_tests) in its test
//! module. Each function of this module is one rule of [`Store`].

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::{
    Batch, Key, MAX_BATCH_OPS, MAX_KEY_LEN, MAX_SCAN, MAX_VALUE_LEN, Record, Store, StoreError, Table,
    TenantId, Version,
};

/// A place in which a backend can be opened again and again.
pub trait Fixture {
    /// Opens the store of this place. Called again only after the earlier store was closed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] from the backend.
    fn open(&self) -> Result<Arc<dyn Store>, StoreError>;
}

/// Expands to one test for each rule. `$fixture` is an expression that makes a new [`Fixture`].
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::conformance_tests! { @each $fixture;
            an_absent_record_is_none_not_an_error
            a_committed_record_reads_back
            scan_keeps_the_order_of_ids_and_honours_prefix_after_and_limit
            scan_bounds_what_it_returns
            tenants_never_meet
            tables_never_meet
            tenants_are_listed_in_order
            a_dump_holds_every_record_once
            what_changed_since_a_version_comes_once_and_within_its_bound
            what_changed_since_a_version_holds_each_batch_whole
            a_batch_is_written_whole
            an_expectation_that_fails_leaves_nothing
            expectations_see_earlier_batches_that_are_not_yet_durable
            a_version_grows_with_each_write_and_over_deletion
            writers_who_expect_versions_lose_nothing
            expired_records_are_purged_and_no_others
            a_renewed_record_outlives_its_first_expiry
            a_deleted_record_is_gone
            large_values_read_back
            a_large_value_can_shrink_grow_and_go
            keys_of_every_length_and_byte_are_kept_apart
            limits_are_enforced
            the_last_change_of_a_key_counts
            an_empty_batch_is_a_fence
            a_dropped_commit_is_written_all_the_same
            a_closed_store_refuses
            reopening_keeps_everything
            versions_grow_over_reopening
        }
    };
    (@each $fixture:expr; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                $crate::conformance::$rule(&$fixture).unwrap();
            }
        )*
    };
}

type Checked = Result<(), StoreError>;

const BOOKS: Table = Table::new("books");
const BOOKS_LENT: Table = Table::new("books.lent");

fn key(id: impl AsRef<[u8]>) -> Result<Key, StoreError> {
    Key::new(&TenantId::default(), BOOKS, id)
}

fn put(store: &dyn Store, key: &Key, value: &[u8]) -> Result<Version, StoreError> {
    let mut batch = Batch::new();
    batch.put(key.clone(), value);
    Ok(store.commit(batch).wait()?.version)
}

fn value(store: &dyn Store, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(store.read(key)?.map(|record| record.value))
}

fn ids(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| record.key.id()).collect()
}

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

/// Puts and deletions across tables and tenants happen together.
pub fn a_batch_is_written_whole(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let other = Key::new(&TenantId::new("other")?, BOOKS_LENT, "c")?;
    put(&*store, &key("a")?, b"old")?;
    let mut batch = Batch::new();
    batch.delete(key("a")?).put(key("b")?, "1").put(other.clone(), "2");
    assert_eq!((batch.len(), batch.is_empty()), (3, false));
    store.commit(batch).wait()?;
    assert_eq!(value(&*store, &key("a")?)?, None);
    assert_eq!(value(&*store, &key("b")?)?, Some(b"1".to_vec()));
    assert_eq!(value(&*store, &other)?, Some(b"2".to_vec()));
    Ok(())
}

/// A batch with a failed expectation changes nothing, and the error names the record.
pub fn an_expectation_that_fails_leaves_nothing(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let version = put(&*store, &key("a")?, b"1")?;
    let attempt = |expect: &dyn Fn(&mut Batch) -> Checked, culprit: &str| -> Checked {
        let mut batch = Batch::new();
        batch.put(key("new")?, "x").delete(key("a")?);
        expect(&mut batch)?;
        assert_eq!(store.commit(batch).wait(), Err(StoreError::Conflict { key: key(culprit)? }));
        assert_eq!(value(&*store, &key("new")?)?, None);
        assert_eq!(value(&*store, &key("a")?)?, Some(b"1".to_vec()));
        Ok(())
    };
    attempt(
        &|batch| {
            batch.expect_absent(key("a")?);
            Ok(())
        },
        "a",
    )?;
    attempt(
        &|batch| {
            batch.expect_version(key("a")?, Version(version.0 + 1));
            Ok(())
        },
        "a",
    )?;
    attempt(
        &|batch| {
            batch.expect_version(key("gone")?, version);
            Ok(())
        },
        "gone",
    )?;
    attempt(
        &|batch| {
            batch.expect_absent(key("b")?).expect_absent(key("a")?);
            Ok(())
        },
        "a",
    )?;
    attempt(
        &|batch| {
            batch.expect_version(key("a")?, version).expect_absent(key("a")?);
            Ok(())
        },
        "a",
    )?;
    let mut batch = Batch::new();
    batch.expect_version(key("a")?, version).expect_absent(key("b")?).put(key("a")?, "2");
    store.commit(batch).wait()?;
    assert_eq!(value(&*store, &key("a")?)?, Some(b"2".to_vec()));
    Ok(())
}

/// Batches committed in sequence without waiting are checked against each other.
pub fn expectations_see_earlier_batches_that_are_not_yet_durable(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let commits: Vec<_> = (0..50u8)
        .map(|byte| {
            let mut batch = Batch::new();
            batch.expect_absent(key("a")?).put(key("a")?, [byte]);
            Ok(store.commit(batch))
        })
        .collect::<Result<_, StoreError>>()?;
    let answers: Vec<_> = commits.into_iter().map(|commit| commit.wait()).collect();
    let (first, rest) = answers.split_first().ok_or(StoreError::Closed)?;
    assert!(first.is_ok());
    assert!(rest.iter().all(|answer| matches!(answer, Err(StoreError::Conflict { .. }))));
    assert_eq!(value(&*store, &key("a")?)?, Some(vec![0]));
    Ok(())
}

/// No version is given twice, so a reader of an old record cannot mistake a new one for it.
pub fn a_version_grows_with_each_write_and_over_deletion(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let first = put(&*store, &key("a")?, b"1")?;
    let second = put(&*store, &key("a")?, b"1")?;
    assert!(second > first);
    let mut batch = Batch::new();
    batch.delete(key("a")?);
    store.commit(batch).wait()?;
    let third = put(&*store, &key("a")?, b"1")?;
    assert!(third > second);
    assert_eq!(store.read(&key("a")?)?.map(|record| record.version), Some(third));
    Ok(())
}

/// Four writers increment one counter by reading, expecting the version, and retrying on conflict.
pub fn writers_who_expect_versions_lose_nothing(fixture: &impl Fixture) -> Checked {
    const WRITERS: u64 = 4;
    const ROUNDS: u64 = 25;
    let store = fixture.open()?;
    let increment = |store: &dyn Store| -> Result<(), StoreError> {
        let counter = key("counter")?;
        loop {
            let mut batch = Batch::new();
            let count = match store.read(&counter)? {
                None => {
                    batch.expect_absent(counter.clone());
                    0
                }
                Some(record) => {
                    batch.expect_version(counter.clone(), record.version);
                    u64::from_be_bytes(record.value.try_into().map_err(|_| StoreError::Failed)?)
                }
            };
            batch.put(counter.clone(), (count + 1).to_be_bytes());
            match store.commit(batch).wait() {
                Err(StoreError::Conflict { .. }) => {}
                answer => return answer.map(drop),
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = Arc::clone(&store);
            thread::spawn(move || (0..ROUNDS).try_for_each(|_| increment(&*store)))
        })
        .collect();
    for writer in writers {
        writer.join().map_err(|_| StoreError::Failed)??;
    }
    assert_eq!(value(&*store, &key("counter")?)?, Some((WRITERS * ROUNDS).to_be_bytes().to_vec()));
    Ok(())
}

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

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at.wrapping_mul(31) % 251).unwrap_or(0)).collect()
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

/// One batch may name a key several times.
pub fn the_last_change_of_a_key_counts(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let mut batch = Batch::new();
    batch.put_expiring(key("a")?, vec![0; 30_000], 5).put(key("a")?, "2");
    batch.put(key("b")?, "1").delete(key("b")?);
    store.commit(batch).wait()?;
    assert_eq!(value(&*store, &key("a")?)?, Some(b"2".to_vec()));
    assert_eq!(store.read(&key("b")?)?, None);
    assert_eq!(store.purge_expired(100, 10)?, 0);
    Ok(())
}

/// An empty batch resolves after everything before it.
pub fn an_empty_batch_is_a_fence(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    let mut batch = Batch::new();
    batch.put(key("a")?, "1");
    drop(store.commit(batch));
    assert!(Batch::new().is_empty());
    store.commit(Batch::new()).wait()?;
    store.close()?;
    assert_eq!(value(&*fixture.open()?, &key("a")?)?, Some(b"1".to_vec()));
    Ok(())
}

/// Dropping the answer does not recall the batch.
pub fn a_dropped_commit_is_written_all_the_same(fixture: &impl Fixture) -> Checked {
    let store = fixture.open()?;
    for id in 0..20u8 {
        let mut batch = Batch::new();
        batch.put(key([id])?, "");
        drop(store.commit(batch));
    }
    store.close()?;
    assert_eq!(fixture.open()?.count(&TenantId::default(), BOOKS, b"")?, 20);
    Ok(())
}

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
