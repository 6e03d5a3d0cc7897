//! A node killed at any moment: everything acknowledged is there, and no batch is there in part.
//!
//! The test starts itself as a child that writes, kills it (`SIGKILL`), opens the store and checks.
//! `EINMAL_CRASH_ROUNDS` sets how often, `EINMAL_CRASH_SEED` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the whole file is a test"
)]

#[cfg(unix)]
mod limited;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use einmal_storage::{
    Batch, Key, RECORDS_FOLDER, Store, StoreError, Table, TenantId, Unlock, create_key_file, open,
};

const FOLDER: &str = "EINMAL_CRASH_FOLDER";
const DEFAULT_ROUNDS: u64 = 25;
/// Rounds before a new folder is used; until then, each crash hits a store that has crashed before.
const ROUNDS_PER_FOLDER: u64 = 5;
const WRITERS: u64 = 4;
const PARTS: u64 = 5;
/// Batches of a writer that are kept; the batch that exceeds this deletes the oldest.
const KEPT: u64 = 30;
/// The last batch a writer wrote, overwritten by each: one record for each part.
const LAST: Table = Table::new("last");
/// One record for each part of each batch.
const HISTORY: Table = Table::new("history");

fn store(folder: &Path) -> impl Store {
    open(&folder.join("store"), &Unlock::KeyFile(folder.join("key"))).unwrap()
}

fn key(writer: u64, table: Table, id: &[u64]) -> Key {
    let tenant = TenantId::new(&format!("writer-{writer}")).unwrap();
    let id: Vec<u8> = id.iter().flat_map(|number| number.to_be_bytes()).collect();
    Key::new(&tenant, table, id).unwrap()
}

/// Content of one part: its batch number, then filling whose length depends on batch and part, sometimes more than one
/// entry of the backend holds.
fn content(batch: u64, part: u64) -> Vec<u8> {
    let len = if batch % 13 == part { 20_000 } else { (batch * 37 + part * 101) % 700 };
    let mut bytes = batch.to_be_bytes().to_vec();
    bytes.extend((0..len).map(|at| ((at * 7 + batch + part) % 251) as u8));
    bytes
}

fn batch_of(value: &[u8]) -> u64 {
    u64::from_be_bytes(*value.first_chunk().unwrap())
}

/// Writes until killed, and prints a line after each durable batch.
fn write_forever(store: &dyn Store, writer: u64) {
    let first = store.read(&key(writer, LAST, &[0])).unwrap().map_or(0, |record| batch_of(&record.value) + 1);
    let mut version = store.read(&key(writer, LAST, &[0])).unwrap().map(|record| record.version);
    for number in first.. {
        let mut batch = Batch::new();
        match version {
            None => batch.expect_absent(key(writer, LAST, &[0])),
            Some(version) => batch.expect_version(key(writer, LAST, &[0]), version),
        };
        for part in 0..PARTS {
            batch.put(key(writer, LAST, &[part]), content(number, part));
            batch.put_expiring(key(writer, HISTORY, &[number, part]), content(number, part), number + part);
            if let Some(old) = number.checked_sub(KEPT) {
                batch.delete(key(writer, HISTORY, &[old, part]));
            }
        }
        version = Some(store.commit(batch).wait().unwrap().version);
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nacknowledged {writer} {number}").and_then(|()| out.flush()).unwrap();
    }
}

#[test]
#[ignore = "the child of the other test, which kills it"]
fn child_that_writes_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let store = Arc::new(store(Path::new(&folder)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            thread::spawn(move || write_forever(&*store, writer))
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

/// Lets a child write for `life` and kills it. Returns the last acknowledged batch of each writer.
fn write_and_kill(folder: &Path, life: Duration) -> BTreeMap<u64, u64> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "child_that_writes_until_it_is_killed"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        let mut acknowledged = BTreeMap::new();
        // The kill may cut the last line, which then acknowledges nothing readable.
        for line in out.lines().map_while(Result::ok) {
            let mut words = line.split(' ');
            if words.next() != Some("acknowledged") {
                continue;
            }
            let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            if let [writer, number] = numbers[..] {
                let last = acknowledged.entry(writer).or_insert(number);
                *last = number.max(*last);
            }
        }
        acknowledged
    });
    thread::sleep(life);
    assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!complaints.contains("panicked"), "{complaints}");
    reader.join().unwrap()
}

/// Checks what one writer left. Returns the number of its last batch.
fn look(store: &dyn Store, writer: u64, acknowledged: Option<u64>) -> Option<u64> {
    let parts: Vec<_> = (0..PARTS).map(|part| store.read(&key(writer, LAST, &[part])).unwrap()).collect();
    let last = parts[0].as_ref().map(|record| batch_of(&record.value));
    for (part, record) in (0u64..).zip(&parts) {
        let found = record.as_ref().map(|record| record.value.clone());
        assert_eq!(found, last.map(|last| content(last, part)), "writer {writer}: a batch is there in part");
    }
    assert!(last >= acknowledged, "writer {writer}: {acknowledged:?} was acknowledged, {last:?} is there");
    let tenant = TenantId::new(&format!("writer-{writer}")).unwrap();
    let history = store.scan(&tenant, HISTORY, b"", None, 1000).unwrap();
    let expected: Vec<_> = last
        .into_iter()
        .flat_map(|last| (last + 1).saturating_sub(KEPT)..=last)
        .flat_map(|batch| (0..PARTS).map(move |part| (batch, part)))
        .collect();
    assert_eq!(history.len(), expected.len(), "writer {writer}: last batch {last:?}");
    for (record, (batch, part)) in history.iter().zip(expected) {
        assert_eq!(record.key, key(writer, HISTORY, &[batch, part]));
        assert!(record.value == content(batch, part) && record.expires_at == Some(batch + part));
    }
    last
}

fn number_from(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn a_node_killed_at_any_moment_keeps_every_acknowledged_batch_whole() {
    let rounds = number_from("EINMAL_CRASH_ROUNDS", DEFAULT_ROUNDS);
    let seed = number_from("EINMAL_CRASH_SEED", u64::from(std::process::id()));
    eprintln!("EINMAL_CRASH_SEED={seed} EINMAL_CRASH_ROUNDS={rounds}");
    let mut chance = seed;
    let mut folder = tempfile::tempdir().unwrap();
    let (mut acknowledged_in_all, mut lasts) = (0, BTreeMap::new());
    for round in 0..rounds {
        if round % ROUNDS_PER_FOLDER == 0 {
            folder = tempfile::tempdir().unwrap();
            create_key_file(&folder.path().join("key")).unwrap();
            lasts.clear();
        }
        // A step of a linear congruential generator (Knuth's constants), whose high bits are the good ones.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_micros(20_000 + (chance >> 33) % 600_000);
        let acknowledged = write_and_kill(folder.path(), life);
        let store = store(folder.path());
        for writer in 0..WRITERS {
            let known = acknowledged.get(&writer).or(lasts.get(&writer)).copied();
            let last = look(&store, writer, known);
            acknowledged_in_all += acknowledged.get(&writer).map_or(0, |_| 1);
            lasts.extend(last.map(|last| (writer, last)));
        }
        // Close the store properly every other time, so that both kinds of start are tested.
        if round % 2 == 0 {
            store.close().unwrap();
        }
    }
    assert!(rounds < 5 || acknowledged_in_all > 0, "no child lived long enough to write");
}

/// The shell's file size limit acts as a full disk: at some moment the child's writes begin to fail.
#[cfg(unix)]
#[test]
fn a_full_disk_stops_the_store_and_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    create_key_file(&folder.path().join("key")).unwrap();
    let out = limited::run("child_that_fills_the_disk", FOLDER, folder.path(), 8192);
    let acknowledged =
        out.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok()).max();
    assert!(acknowledged > Some(5), "{out}");
    assert!(
        fs::metadata(folder.path().join("store").join(RECORDS_FOLDER).join("db")).unwrap().len() > 1 << 20
    );
    let store = store(folder.path());
    for number in 0..=acknowledged.unwrap() {
        let found = store.read(&key(0, HISTORY, &[number])).unwrap().map(|record| batch_of(&record.value));
        assert_eq!(found, Some(number));
    }
    let mut batch = Batch::new();
    batch.put(key(0, LAST, &[]), "goes on");
    store.commit(batch).wait().unwrap();
}

#[test]
#[ignore = "the child of the other test, which limits its files"]
fn child_that_fills_the_disk() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let store = store(Path::new(&folder));
    let write = |number: u64| {
        let mut batch = Batch::new();
        batch.put(key(0, HISTORY, &[number]), [&number.to_be_bytes()[..], &[7; 100_000]].concat());
        store.commit(batch).wait()
    };
    let mut number = 0;
    let error = loop {
        match write(number) {
            Ok(_) => println!("\nacknowledged {number}"),
            Err(error) => break error,
        }
        number += 1;
    };
    assert_eq!(error, StoreError::Full);
    assert_eq!(write(number), Err(StoreError::Failed));
    assert_eq!(store.read(&key(0, HISTORY, &[number])), Err(StoreError::Failed), "may not be durable");
    assert_eq!(store.close(), Err(StoreError::Failed));
}
