//! What one batch does: whole or not at all, expectations, versions, and the order of batches.

use std::{sync::Arc, thread};

use super::{BOOKS, BOOKS_LENT, Checked, Fixture, key, put, value};
use crate::{Batch, Key, Store, StoreError, TenantId, Version};

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
