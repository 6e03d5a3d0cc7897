//! Stores written by earlier versions open and read as they were written.
//!
//! The ignored test below wrote `testdata/format-1` with the first version. Never write it again: a change that this
//! test refuses needs a new format and a migration.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "the whole file is a test")]

use std::{fs, path::Path};

use einmal_storage::{
    Batch, FORMAT, Key, MAX_KEY_LEN, Passphrase, Record, Store, StoreError, Table, TenantId, Unlock, Version,
    open,
};

const PASSPHRASE: &str = "a passphrase for tests only";
const CARDS: Table = Table::new("cards");
const INBOX: Table = Table::new("inbox");

fn unlock(text: &str) -> Unlock {
    Unlock::Passphrase(Passphrase::new(text).unwrap())
}

fn testdata(format: u32) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("format-{format}"))
}

/// The contents of the format 1 store: key, value, expiry.
fn contents() -> Vec<(Key, Vec<u8>, Option<u64>)> {
    let (main, wetzlar) = (TenantId::default(), TenantId::new("wetzlar").unwrap());
    let key = |tenant, table, id: &[u8]| Key::new(tenant, table, id).unwrap();
    vec![
        (key(&main, CARDS, b""), b"empty id".to_vec(), None),
        (key(&main, CARDS, b"a"), vec![], None),
        (key(&main, CARDS, &[0xff; MAX_KEY_LEN]), b"longest id".to_vec(), Some(4_000_000_000)),
        (
            key(&main, INBOX, b"large"),
            (0..40_000u32).map(|at| (at % 251) as u8).collect(),
            Some(2_000_000_000),
        ),
        (key(&wetzlar, CARDS, b"a"), b"of another tenant".to_vec(), None),
    ]
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_store_of_format_1_reads_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("store");
    copy(&testdata(1), &folder);
    assert_eq!(open(&folder, &unlock("another")).unwrap_err(), StoreError::WrongPassphrase);
    let store = open(&folder, &unlock(PASSPHRASE)).unwrap();
    let mut newest = Version(0);
    for (key, value, expires_at) in contents() {
        let record = store.read(&key).unwrap().unwrap();
        newest = newest.max(record.version);
        assert_eq!(record, Record { key, value, version: record.version, expires_at });
    }
    let tenants = store.tenants(None, 10).unwrap();
    assert_eq!(tenants.iter().map(TenantId::as_str).collect::<Vec<_>>(), ["main", "wetzlar"]);
    let deleted = Key::new(&TenantId::default(), INBOX, "deleted").unwrap();
    assert_eq!(store.read(&deleted).unwrap(), None);
    let mut batch = Batch::new();
    batch.expect_absent(deleted.clone()).put(deleted, "");
    assert!(store.commit(batch).wait().unwrap().version > newest);
    assert_eq!(store.purge_expired(2_000_000_000, 10).unwrap(), 1);
}

#[test]
#[ignore = "writes testdata/format-N once, when format N is new"]
fn write_testdata_of_the_newest_format() {
    let folder = testdata(FORMAT);
    assert!(!folder.exists(), "testdata of a format is never written anew");
    let store = open(&folder, &unlock(PASSPHRASE)).unwrap();
    let deleted = Key::new(&TenantId::default(), INBOX, "deleted").unwrap();
    let (mut first, mut second) = (Batch::new(), Batch::new());
    first.put_expiring(deleted.clone(), vec![1; 20_000], 1_000_000_000);
    second.delete(deleted);
    for (key, value, expires_at) in contents() {
        match expires_at {
            None => second.put(key, value),
            Some(at) => second.put_expiring(key, value, at),
        };
    }
    for batch in [first, second] {
        store.commit(batch).wait().unwrap();
    }
    store.close().unwrap();
}
