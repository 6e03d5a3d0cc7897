//! Backups of other formats, which no command of this version makes, and of a node that keeps writing.

use std::{
    fs::File,
    sync::atomic::{AtomicU64, Ordering},
};

use age::Encryptor;
use einmal_storage::{Batch, Key, MemoryStore, Store, Table, TenantId};

use super::{
    item::{Item, Writer},
    *,
};
use crate::{
    config::{Config, Role},
    home,
    node::testing::Watched,
};

fn passphrase() -> SecretString {
    SecretString::from("seven geese under one umbrella".to_owned())
}

/// A backup of a node without records, which begins with `first`.
fn backup_of(file: &Path, first: &[Item]) {
    let sealed = Encryptor::with_user_passphrase(passphrase()).wrap_output(File::create(file).unwrap());
    let mut items = Writer::begin(sealed.unwrap()).unwrap();
    let config = toml::to_string(&Config::new(Role::Citizen)).unwrap();
    first.iter().for_each(|item| items.write(item).unwrap());
    items.write(&Item::Config(config)).unwrap();
    items.write(&Item::End { records: 0, letters: 0 }).unwrap();
    items.into_inner().finish().unwrap();
}

#[test]
fn records_of_another_store_format_are_refused_with_the_version_to_take_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (file, dir) = (folder.path().join("x.age"), folder.path().join("node"));
    for (format, remedy) in [
        (einmal_storage::FORMAT + 1, "install a newer version"),
        (einmal_storage::FORMAT - 1, "the version it was made with"),
    ] {
        backup_of(&file, &[Item::Format(format)]);
        let refused = restore(&file, &dir, passphrase()).unwrap_err();
        assert!(matches!(refused, SetupError::Usage { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(&format!("store format {format},")) && text.contains(remedy), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the backup");
    }
}

#[test]
fn a_backup_of_this_format_or_from_before_formats_were_said_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.age");
    for (name, first) in [("a", vec![Item::Format(einmal_storage::FORMAT)]), ("b", Vec::new())] {
        backup_of(&file, &first);
        let restored = restore(&file, &folder.path().join(name), passphrase()).unwrap();
        assert_eq!(restored.role, Role::Citizen);
    }
}

#[test]
fn a_format_said_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.age");
    let format = || Item::Format(einmal_storage::FORMAT);
    backup_of(&file, &[format(), format()]);
    let refused = restore(&file, &folder.path().join("node"), passphrase()).unwrap_err().to_string();
    assert!(refused.contains("does not begin with a configuration"), "{refused}");
}

/// A table that is read early, and a table that is read late.
const EARLY: Table = Table::new("account-route");
const LATE: Table = Table::new("route");

/// A store that is written to whenever a part of a dump was read: one record of each table in one batch.
fn restless() -> Watched {
    let written = AtomicU64::new(0);
    let write = move |store: &MemoryStore| {
        // Each before the last one, so that none lies ahead of the reader.
        let number = u64::MAX - written.fetch_add(1, Ordering::SeqCst);
        let mut batch = Batch::new();
        for table in [EARLY, LATE] {
            batch.put(Key::new(&TenantId::default(), table, number.to_be_bytes()).unwrap(), b"1");
        }
        store.commit(batch).wait().unwrap();
    };
    let inner = MemoryStore::new();
    write(&inner);
    let mut watched = Watched::new(move |store, _| write(store));
    watched.inner = inner;
    watched
}

#[test]
fn a_backup_of_a_node_that_does_not_rest_holds_each_batch_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (node, file) = (folder.path().join("node"), folder.path().join("x.age"));
    home::init(&node, &Config::new(Role::Mediator)).unwrap();
    let written = backup_running(&node, &restless(), None, &file, passphrase()).unwrap();
    assert!(written.records > 20, "it wrote all the time: {written:?}");
    let again = folder.path().join("again");
    restore(&file, &again, passphrase()).unwrap();
    let db = home::open_store(&again, &Config::new(Role::Mediator)).unwrap();
    let ids = |table| {
        let found = db.store().scan(&TenantId::default(), table, b"", None, 1000).unwrap();
        found.into_iter().map(|record| record.key.id().to_vec()).collect::<Vec<_>>()
    };
    assert!(ids(EARLY).len() > 10);
    assert_eq!(ids(EARLY), ids(LATE), "each has its pair");
    db.store().close().unwrap();
}

#[test]
fn a_record_that_does_not_unseal_is_left_out_and_told_and_all_others_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (node, file) = (folder.path().join("node"), folder.path().join("x.age"));
    home::init(&node, &Config::new(Role::Mediator)).unwrap();
    let key = |number: u32| Key::new(&TenantId::default(), EARLY, number.to_be_bytes()).unwrap();
    for damaged in [0, 300, 599] {
        let mut store = Watched::new(|_, _| {});
        store.unsealable = Some(key(damaged));
        let mut batch = Batch::new();
        for number in 0..600 {
            batch.put(key(number), b"1");
        }
        store.commit(batch).wait().unwrap();
        let written = backup_running(&node, &store, None, &file, passphrase()).unwrap();
        assert_eq!((written.records, written.damaged), (599, 1));
        let again = folder.path().join(format!("again-{damaged}"));
        assert_eq!(restore(&file, &again, passphrase()).unwrap().records, 599);
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_backup_that_cannot_follow_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (node, file) = (folder.path().join("node"), folder.path().join("x.age"));
    home::init(&node, &Config::new(Role::Mediator)).unwrap();
    let mut store = restless();
    store.follows = false;
    let refused = backup_running(&node, &store, None, &file, passphrase()).unwrap_err();
    assert!(refused.to_string().contains("at a quieter time"), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the node");
}
