//! Migrations on a made-up history of three formats.

use super::*;
use crate::MemoryStore;

const CARDS: Table = Table::new("cards");

fn key(tenant: &str, id: u8) -> Key {
    Key::new(&TenantId::new(tenant).unwrap(), CARDS, [id]).unwrap()
}

/// Format 1 to 2: every card of every tenant gets a `2` appended, two cards at a time. The cursor is `tenant 00 id` of
/// the last finished card.
fn append_two(store: &dyn Store, cursor: Option<&[u8]>) -> Result<Progress, StoreError> {
    let mut done = cursor.map(|cursor| {
        let (name, id) = cursor.split_at(cursor.iter().position(|byte| *byte == 0).unwrap());
        (TenantId::new(std::str::from_utf8(name).unwrap()).unwrap(), id[1..].to_vec())
    });
    loop {
        let (tenant, after) = match &done {
            Some((tenant, id)) => (tenant.clone(), Some(id.clone())),
            None => match store.tenants(None, 1)?.pop() {
                Some(tenant) => (tenant, None),
                None => return Ok(Progress::Done { changes: Batch::new() }),
            },
        };
        let cards = store.scan(&tenant, CARDS, b"", after.as_deref(), 2)?;
        let Some(last) = cards.last() else {
            match store.tenants(Some(&tenant), 1)?.pop() {
                None => return Ok(Progress::Done { changes: Batch::new() }),
                Some(next) => done = Some((next, vec![])),
            }
            continue;
        };
        let cursor = [tenant.as_str().as_bytes(), &[0], last.key.id()].concat();
        let mut changes = Batch::new();
        for card in cards {
            changes.put(card.key, [card.value, b"2".to_vec()].concat());
        }
        return Ok(Progress::More { changes, cursor });
    }
}

/// Format 2 to 3: removes card 1 of `main`.
fn drop_one(_: &dyn Store, _: Option<&[u8]>) -> Result<Progress, StoreError> {
    let mut changes = Batch::new();
    changes.delete(key("main", 1));
    Ok(Progress::Done { changes })
}

const HISTORY: &[Migration] =
    &[Migration { from: 1, part: append_two }, Migration { from: 2, part: drop_one }];

/// A store of format 1 with five cards each of two tenants.
fn old_store() -> MemoryStore {
    let store = MemoryStore::new();
    migrate(&store, &[], 1).unwrap();
    let mut batch = Batch::new();
    for id in 1..=5 {
        batch.put(key("main", id), "1").put(key("zoo", id), "1");
    }
    store.commit(batch).wait().unwrap();
    store
}

fn assert_migrated(store: &MemoryStore) {
    for tenant in ["main", "zoo"] {
        for id in 1..=5 {
            let value = store.read(&key(tenant, id)).unwrap().map(|record| record.value);
            let expected = ((tenant, id) != ("main", 1)).then(|| b"12".to_vec());
            assert_eq!(value, expected, "{tenant} {id}");
        }
    }
}

#[test]
fn an_old_store_is_brought_up_step_by_step_and_only_once() {
    let store = old_store();
    for _ in 0..2 {
        migrate(&store, HISTORY, 3).unwrap();
        assert_migrated(&store);
    }
}

#[test]
fn a_migration_interrupted_anywhere_goes_on_where_it_was() {
    for parts_done in 0..9 {
        let store = old_store();
        // Every commit but the first few fails, as if the node crashed there.
        let mut budget = parts_done;
        loop {
            store.fail_next_commits(usize::from(budget == 0));
            match migrate_one_part(&store) {
                Ok(true) => break,
                Ok(false) if budget > 0 => budget -= 1,
                Ok(false) => {}
                Err(error) => {
                    assert!(matches!(error, StoreError::Io { .. }));
                    migrate(&store, HISTORY, 3).unwrap();
                    break;
                }
            }
        }
        assert_migrated(&store);
    }
}

/// Runs until one part is committed; returns whether the store then has format 3.
fn migrate_one_part(store: &MemoryStore) -> Result<bool, StoreError> {
    let record = store.read(&format_key())?.unwrap();
    let (found, cursor) = decode(&record.value)?;
    let Some(step) = HISTORY.iter().find(|step| step.from == found) else { return Ok(true) };
    let (mut changes, next) = match (step.part)(store, cursor)? {
        Progress::More { changes, cursor } => (changes, encode(found, Some(&cursor))),
        Progress::Done { changes } => (changes, encode(found + 1, None)),
    };
    changes.expect_version(format_key(), record.version).put(format_key(), next);
    store.commit(changes).wait().map(|_| false)
}

#[test]
fn a_lost_answer_does_not_repeat_a_part() {
    let store = old_store();
    store.lose_next_answers(1);
    assert_eq!(migrate(&store, HISTORY, 3), Err(StoreError::Failed));
    migrate(&store, HISTORY, 3).unwrap();
    assert_migrated(&store);
}

#[test]
fn a_newer_format_is_refused() {
    let store = old_store();
    migrate(&store, HISTORY, 3).unwrap();
    assert_eq!(migrate(&store, HISTORY, 2), Err(StoreError::FormatTooNew { found: 3, supported: 2 }));
}

#[test]
fn a_missing_step_is_refused() {
    assert_eq!(migrate(&old_store(), &HISTORY[1..], 3), Err(StoreError::NoMigration { found: 1 }));
}

#[test]
fn records_without_a_format_are_not_taken_for_an_empty_store() {
    let store = MemoryStore::new();
    let mut batch = Batch::new();
    batch.put(key("main", 1), "1");
    store.commit(batch).wait().unwrap();
    assert!(matches!(migrate(&store, &[], 1), Err(StoreError::Damaged { .. })));
}

#[test]
fn an_unreadable_format_is_damage() {
    for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\x01\x02"] {
        assert!(matches!(decode(bytes), Err(StoreError::Damaged { .. })), "{bytes:?}");
    }
}
