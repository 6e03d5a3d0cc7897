//! What only the embedded backend promises.

use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::{disk::tests::synced, store_rules::Fixture};

struct Folder(TempDir);

impl Fixture for Folder {
    fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(SledStore::open(&self.0.path().join("records"))?))
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

crate::store_rules!(folder());

const TABLE: Table = Table::new("t");

fn key(id: impl AsRef<[u8]>) -> Key {
    Key::new(&TenantId::default(), TABLE, id).unwrap()
}

fn put(id: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) -> Batch {
    let mut batch = Batch::new();
    batch.put(key(id), value);
    batch
}

#[test]
fn a_second_opener_is_refused_until_the_first_closes() {
    let folder = folder();
    let path = folder.0.path().join("records");
    let first = SledStore::open(&path).unwrap();
    assert_eq!(SledStore::open(&path).unwrap_err(), StoreError::InUse { path: path.clone() });
    first.close().unwrap();
    SledStore::open(&path).unwrap();
}

#[test]
fn what_an_opened_store_reads_is_from_the_disk_and_durable() {
    let folder = folder();
    let path = folder.0.path().join("records");
    let store = SledStore::open(&path).unwrap();
    store.commit(put("a", "")).wait().unwrap();
    store.close().unwrap();
    let _ = synced();
    let _store = SledStore::open(&path).unwrap();
    let synced = synced();
    let log = path.join(RECORDS_FILE);
    let behind = |path: &Path| synced.iter().rposition(|synced| synced == path).unwrap();
    assert_eq!(synced.iter().filter(|path| **path == log).count(), 2, "{synced:?}");
    assert!(behind(&log) < behind(&path), "read anew, opened, and then flushed: {synced:?}");
}

#[test]
fn a_dropped_store_lets_the_folder_go() {
    let folder = folder();
    for round in 0..5u8 {
        let store = folder.open().unwrap();
        store.commit(put([round], "")).wait().unwrap();
        drop(store);
    }
    assert_eq!(folder.open().unwrap().count(&TenantId::default(), TABLE, b"").unwrap(), 5);
}

#[test]
fn no_node_of_the_tree_outgrows_the_log() {
    // sled never flushes the files for oversized nodes, so there must be none.
    let folder = folder();
    let store = folder.open().unwrap();
    let long = |n: usize| [&n.to_be_bytes()[..], &[0; crate::MAX_KEY_LEN - 8]].concat();
    for n in 0..2000 {
        drop(store.commit(put(long(n * 7919 % 2000), vec![1; 8192])));
    }
    store.commit(put("large", vec![1; crate::MAX_VALUE_LEN])).wait().unwrap();
    for n in (0..2000).filter(|n| n % 3 != 0) {
        let mut batch = Batch::new();
        batch.delete(key(long(n)));
        drop(store.commit(batch));
    }
    store.close().unwrap();
    assert_eq!(std::fs::read_dir(folder.0.path().join("records/blobs")).unwrap().count(), 0);
    let store = folder.open().unwrap();
    assert_eq!(store.count(&TenantId::default(), TABLE, b"").unwrap(), 668);
}

/// A lock that the writer needs acts as a disk that does not answer.
#[test]
fn a_disk_that_hangs_is_told_of_and_new_batches_are_refused_until_it_answers() {
    let folder = folder();
    let store = SledStore::open(&folder.0.path().join("records")).unwrap();
    let patience = Duration::from_millis(200);
    store.shared.queue.set_patience(patience);
    store.commit(put("a", "")).wait().unwrap();
    thread::sleep(patience * 2);
    assert!(!store.is_stalled(), "nobody asked it for anything");
    let state = store.shared.state();
    let held = store.commit(put("b", ""));
    thread::sleep(patience * 2);
    assert!(store.is_stalled());
    let begun = Instant::now();
    assert_eq!(store.commit(put("c", "")).wait(), Err(StoreError::Stalled));
    assert!(begun.elapsed() < patience, "at once");
    drop(state);
    held.wait().unwrap();
    // Callers are answered a moment before the writer asks for more.
    while store.is_stalled() {
        thread::yield_now();
    }
    assert_eq!(store.read(&key("c")).unwrap(), None);
    store.commit(put("c", "")).wait().unwrap();
}

#[test]
fn waiting_batches_share_flushes() {
    let folder = folder();
    let store = folder.open().unwrap();
    let commits: Vec<_> = (0..500u32).map(|n| store.commit(put(n.to_be_bytes(), "x"))).collect();
    for commit in commits {
        commit.wait().unwrap();
    }
    let stats = store.stats().unwrap();
    assert_eq!((stats.commits, stats.waiting), (500, 0));
    assert!(stats.flushes < 250, "{} flushes for 500 batches", stats.flushes);
    assert!(stats.bytes_on_disk > 0);
}

#[test]
fn a_conflict_in_a_group_does_not_touch_its_neighbours() {
    let folder = folder();
    let store = folder.open().unwrap();
    let mut refused = put("b", "");
    refused.expect_absent(key("a"));
    let commits = [put("a", ""), refused, put("c", "")].map(|batch| store.commit(batch));
    let answers = commits.map(|commit| commit.wait().map(drop));
    assert_eq!(answers, [Ok(()), Err(StoreError::Conflict { key: key("a") }), Ok(())]);
    assert_eq!(store.read(&key("b")).unwrap(), None);
}

#[test]
fn what_a_reader_sees_is_already_durable() {
    // The flush counter rises before a group becomes readable, so a reader of the n-th write finds n flushes.
    let folder = folder();
    let store = folder.open().unwrap();
    let writer = thread::spawn({
        let store = Arc::clone(&store);
        move || {
            for n in 1..=50u64 {
                store.commit(put("n", n.to_be_bytes())).wait().unwrap();
            }
        }
    });
    let mut seen = 0;
    while seen < 50 {
        if let Some(record) = store.read(&key("n")).unwrap() {
            seen = u64::from_be_bytes(record.value.try_into().unwrap());
            assert!(store.stats().unwrap().flushes >= seen);
        }
    }
    writer.join().unwrap();
}

#[test]
fn a_scan_never_sees_half_a_batch() {
    let folder = folder();
    let store = folder.open().unwrap();
    let writer = thread::spawn({
        let store = Arc::clone(&store);
        move || {
            for n in 0..200u8 {
                let mut batch = Batch::new();
                for id in 0..30u8 {
                    batch.put(key([id]), [n]);
                }
                store.commit(batch).wait().unwrap();
            }
        }
    });
    while !writer.is_finished() {
        let records = store.scan(&TenantId::default(), TABLE, b"", None, 100).unwrap();
        assert!(records.windows(2).all(|pair| pair[0].value == pair[1].value));
        assert!(records.is_empty() || records.len() == 30);
    }
    writer.join().unwrap();
}

#[test]
fn purging_leaves_no_trace_in_the_tree() {
    let folder = folder();
    let store = SledStore::open(&folder.0.path().join("records")).unwrap();
    for n in 0..10u8 {
        let mut batch = Batch::new();
        batch.put_expiring(key([n]), vec![0; 30_000], n.into()).put_expiring(key([n]), vec![0; 20_000], 50);
        store.commit(batch).wait().unwrap();
    }
    assert_eq!(store.purge_expired(50, 100).unwrap(), 10);
    let entries = store.shared.state().db().unwrap().iter().keys().count();
    assert_eq!(entries, 1, "the version counter only");
}

#[test]
fn a_missing_part_of_a_value_is_damage() {
    let folder = folder();
    let store = SledStore::open(&folder.0.path().join("records")).unwrap();
    store.commit(put("a", vec![0; 30_000])).wait().unwrap();
    let part = layout::part_key(&layout::record_key(&key("a")), 2);
    store.shared.state().db().unwrap().remove(part).unwrap().unwrap();
    assert_eq!(store.read(&key("a")), Err(StoreError::Unsealable { key: key("a") }));
    store.commit(put("a", "mended")).wait().unwrap();
    assert_eq!(store.read(&key("a")).unwrap().unwrap().value, b"mended");
}

#[test]
fn a_damaged_record_is_named_so_that_others_are_read_without_it_and_can_be_deleted() {
    let folder = folder();
    let store = SledStore::open(&folder.0.path().join("records")).unwrap();
    for id in ["a", "b", "c"] {
        store.commit(put(id, vec![0; 30_000])).wait().unwrap();
    }
    let named = Err(StoreError::Unsealable { key: key("b") });
    let physical = layout::record_key(&key("b"));
    for is_short in [false, true] {
        {
            let state = store.shared.state();
            let db = state.db().unwrap();
            if is_short {
                db.insert(&physical, vec![1; 5]).unwrap();
            } else {
                db.remove(layout::part_key(&physical, 1)).unwrap();
            }
        }
        let (b, table) = (key("b"), key("b").table());
        let ids = |read: Result<Vec<Record>, _>| {
            read.map(|records| records.iter().map(|one| one.key.id().to_vec()).collect::<Vec<_>>())
        };
        assert_eq!(ids(store.scan(b.tenant(), table, b"", None, 9)), named.clone().map(|()| vec![]));
        assert_eq!(ids(store.dump(None, 9)), named.clone().map(|()| vec![]));
        assert_eq!(
            ids(store.dump_since(Version(0), usize::MAX).map(Option::unwrap)),
            named.clone().map(|()| vec![])
        );
        assert_eq!(ids(store.scan(b.tenant(), table, b"", Some(b"b"), 9)), Ok(vec![b"c".to_vec()]));
        assert_eq!(ids(store.dump(Some(&b), 9)), Ok(vec![b"c".to_vec()]));
    }
    let mut batch = Batch::new();
    batch.delete(key("b"));
    store.commit(batch).wait().unwrap();
    assert_eq!(store.scan(key("b").tenant(), key("b").table(), b"", None, 9).unwrap().len(), 2);
}

#[test]
fn a_damaged_record_does_not_keep_others_from_being_purged() {
    let folder = folder();
    let store = SledStore::open(&folder.0.path().join("records")).unwrap();
    for id in ["a", "b"] {
        let mut batch = Batch::new();
        batch.put_expiring(key(id), "value", 10);
        store.commit(batch).wait().unwrap();
    }
    store.shared.state().db().unwrap().insert(layout::record_key(&key("a")), vec![1; 5]).unwrap();
    assert_eq!(store.purge_expired(10, 9), Ok(1));
    assert_eq!(store.read(&key("b")), Ok(None));
    assert_eq!(
        store.read(&key("a")),
        Err(StoreError::Unsealable { key: key("a") }),
        "it is left to who reads it"
    );
}

#[test]
fn a_record_of_a_newer_layout_is_refused_and_its_neighbours_are_not() {
    let folder = folder();
    let store = SledStore::open(&folder.0.path().join("records")).unwrap();
    store.shared.state().db().unwrap().insert(layout::record_key(&key("a")), vec![2; 40]).unwrap();
    let too_new = StoreError::FormatTooNew { found: 2, supported: 1 };
    assert_eq!(store.read(&key("a")), Err(too_new.clone()));
    assert_eq!(store.commit(put("a", "")).wait(), Err(too_new));
    store.commit(put("b", "")).wait().unwrap();
}

#[test]
fn a_panicking_writer_fails_the_store_instead_of_hanging_it() {
    let folder = folder();
    let store = SledStore::open(&folder.0.path().join("records")).unwrap();
    let (reply, answer) = mpsc::sync_channel(1);
    store.shared.queue.push(Job::Panic(reply)).unwrap();
    assert_eq!(answer.recv().unwrap_or(Err(StoreError::Failed)), Err(StoreError::Failed));
    store.writer.lock().unwrap().take().unwrap().join().unwrap_err();
    assert_eq!(store.commit(put("a", "")).wait(), Err(StoreError::Failed));
    assert_eq!(store.read(&key("a")), Err(StoreError::Failed));
    assert_eq!(store.close(), Err(StoreError::Failed));
    assert_eq!(store.commit(put("a", "")).wait(), Err(StoreError::Closed));
}

#[test]
fn closing_tells_a_writer_that_panicked_from_a_disk_that_failed() {
    let folder = folder();
    let store = SledStore::open(&folder.0.path().join("records")).unwrap();
    let (reply, answer) = mpsc::sync_channel(1);
    store.shared.queue.push(Job::Panic(reply)).unwrap();
    let _ = answer.recv();
    assert_eq!(store.close(), Err(StoreError::TaskPanicked));
    assert_eq!(store.close(), Ok(()), "closing again is fine");
}
