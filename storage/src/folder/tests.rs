//! The whole folder: header, records and lock together.

use std::{fs, path::PathBuf, sync::Arc};

use tempfile::TempDir;

use super::*;
use crate::{
    Batch, Key, Passphrase, Record, SEAL_FILE, Table, TenantId, create_key_file, rewrap, store_rules::Fixture,
};

struct Node(TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        create_key_file(&node.0.path().join("key")).unwrap();
        node
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn key_file(&self) -> Unlock {
        Unlock::KeyFile(self.0.path().join("key"))
    }

    fn header(&self) -> PathBuf {
        self.folder().join(SEAL_FILE)
    }

    /// Creates the store with one record and closes it.
    fn create(&self, unlock: &Unlock) {
        let store = open(&self.folder(), unlock).unwrap();
        let mut batch = Batch::new();
        batch.put(key(), "Erika Mustermann");
        store.commit(batch).wait().unwrap();
        store.close().unwrap();
    }

    fn read(&self, unlock: &Unlock) -> Result<Option<Record>, StoreError> {
        let store = open(&self.folder(), unlock)?;
        let record = store.read(&key());
        store.close()?;
        record
    }
}

impl Fixture for Node {
    fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(open(&self.folder(), &self.key_file())?))
    }
}

crate::store_rules!(Node::new());

fn key() -> Key {
    Key::new(&TenantId::default(), Table::new("people"), "1").unwrap()
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Passphrase::new(text).unwrap())
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_no_other_does() {
    let node = Node::new();
    node.create(&passphrase("correct horse"));
    assert_eq!(node.read(&passphrase("correct horse")).unwrap().unwrap().value, b"Erika Mustermann");
    assert_eq!(node.read(&passphrase("correct horsf")), Err(StoreError::WrongPassphrase));
    assert_eq!(node.read(&node.key_file()), Err(StoreError::WrongUnlock { expected: "a passphrase" }));
}

#[test]
fn a_key_file_opens_what_it_sealed_and_no_other_does() {
    let node = Node::new();
    node.create(&node.key_file());
    assert!(node.read(&node.key_file()).unwrap().is_some());
    let other = node.0.path().join("other");
    create_key_file(&other).unwrap();
    assert_eq!(node.read(&Unlock::KeyFile(other)), Err(StoreError::WrongKeyFile));
    assert_eq!(node.read(&passphrase("x")), Err(StoreError::WrongUnlock { expected: "a key file" }));
}

#[test]
fn no_value_lies_readable_on_the_disk() {
    let node = Node::new();
    node.create(&passphrase("correct horse"));
    let mut files = 0;
    for folder in [node.folder(), node.folder().join(RECORDS_FOLDER)] {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
            files += 1;
            let bytes = fs::read(entry.path()).unwrap();
            for secret in ["Erika", "correct horse"] {
                assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{:?}", entry.path());
            }
        }
    }
    assert!(files >= 3);
}

#[test]
fn rewrapping_changes_who_can_open_and_nothing_else() {
    let node = Node::new();
    let (old, new) = (passphrase("old"), passphrase("new"));
    node.create(&old);
    assert_eq!(rewrap(&node.folder(), &new, &old), Err(StoreError::WrongPassphrase));
    rewrap(&node.folder(), &old, &new).unwrap();
    assert_eq!(node.read(&old), Err(StoreError::WrongPassphrase));
    assert!(node.read(&new).unwrap().is_some());
    rewrap(&node.folder(), &new, &node.key_file()).unwrap();
    assert!(node.read(&node.key_file()).unwrap().is_some());
}

#[test]
fn a_lost_header_is_not_replaced_by_a_new_key() {
    let node = Node::new();
    node.create(&node.key_file());
    fs::remove_file(node.header()).unwrap();
    assert!(
        matches!(node.read(&node.key_file()), Err(StoreError::SealFile { problem, .. }) if problem.contains("missing"))
    );
    assert!(!node.header().exists());
}

#[test]
fn the_header_of_another_store_does_not_open_this_one() {
    let (node, other) = (Node::new(), Node::new());
    node.create(&passphrase("same"));
    other.create(&passphrase("same"));
    fs::copy(other.header(), node.header()).unwrap();
    let Err(StoreError::Unsealable { key }) = node.read(&passphrase("same")) else { panic!("it was opened") };
    assert_eq!(key.table(), Table::new("format"));
}

#[test]
fn a_damaged_header_is_refused() {
    let node = Node::new();
    node.create(&passphrase("p"));
    let good = fs::read_to_string(node.header()).unwrap();
    let refused = |text: &str| {
        fs::write(node.header(), text).unwrap();
        node.read(&passphrase("p")).unwrap_err()
    };
    let too_large = " ".repeat(5000);
    let weak = good.replace("19456", "8");
    let greedy = good.replace("19456", "4294967295");
    let no_salt = good.replace("\"salt\": \"", "\"salt\": \"!");
    for text in ["", "{", "[]", "{}", "{\"format\": 1}", &too_large, &weak, &greedy, &no_salt] {
        assert_ne!(text, good);
        assert!(matches!(refused(text), StoreError::SealFile { .. }), "{text}");
    }
    let newer = good.replace("\"format\": 1", "\"format\": 2");
    assert_eq!(refused(&newer), StoreError::FormatTooNew { found: 2, supported: 1 });
    let stretched_more = good.replace("19456", "19457");
    assert_eq!(refused(&stretched_more), StoreError::WrongPassphrase);
    fs::write(node.header(), good).unwrap();
    assert!(node.read(&passphrase("p")).is_ok());
}

#[test]
fn a_changed_wrapped_key_is_refused() {
    let node = Node::new();
    node.create(&node.key_file());
    let mut header: serde_json::Value = serde_json::from_slice(&fs::read(node.header()).unwrap()).unwrap();
    let sealed = header["sealed_key"].as_str().unwrap().to_owned();
    let flipped = if sealed.starts_with('A') { "B" } else { "A" };
    header["sealed_key"] = format!("{flipped}{}", &sealed[1..]).into();
    fs::write(node.header(), header.to_string()).unwrap();
    assert_eq!(node.read(&node.key_file()), Err(StoreError::WrongKeyFile));
}

#[test]
fn a_store_of_a_newer_format_is_refused_and_released() {
    let node = Node::new();
    let store = open(&node.folder(), &node.key_file()).unwrap();
    let format = Key::unchecked(&TenantId::house(), Table::new("format"), b"format");
    let mut batch = Batch::new();
    batch.put(format, (FORMAT + 1).to_be_bytes());
    store.commit(batch).wait().unwrap();
    store.close().unwrap();
    for _ in 0..2 {
        let too_new = StoreError::FormatTooNew { found: FORMAT + 1, supported: FORMAT };
        assert_eq!(node.read(&node.key_file()), Err(too_new));
    }
}

#[test]
fn a_second_opener_is_refused() {
    let node = Node::new();
    let _first = open(&node.folder(), &node.key_file()).unwrap();
    let path = node.folder().join(RECORDS_FOLDER);
    assert_eq!(open(&node.folder(), &node.key_file()).unwrap_err(), StoreError::InUse { path });
}

#[test]
fn a_flipped_byte_on_the_disk_never_yields_another_value() {
    let node = Node::new();
    node.create(&node.key_file());
    let store = open(&node.folder(), &node.key_file()).unwrap();
    for number in 0..20u8 {
        let mut batch = Batch::new();
        batch.put(Key::new(&TenantId::default(), Table::new("people"), [9, number]).unwrap(), "another");
        store.commit(batch).wait().unwrap();
    }
    store.close().unwrap();
    let folder = node.folder().join(RECORDS_FOLDER);
    let files =
        || fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file());
    let good: Vec<(PathBuf, Vec<u8>)> = files().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    // Reads the folder as it was closed, with one bit of the log flipped, or none.
    let read = |flipped: Option<usize>| {
        files().for_each(|path| fs::remove_file(path).unwrap());
        for (path, bytes) in &good {
            let mut bytes = bytes.clone();
            if let Some(at) = flipped.filter(|_| path.ends_with("db")) {
                bytes[at] ^= 0x10;
            }
            fs::write(path, bytes).unwrap();
        }
        node.read(&node.key_file()).ok().flatten().map(|record| record.value)
    };
    let erika = b"Erika Mustermann".to_vec();
    assert_eq!(read(None).as_ref(), Some(&erika), "undamaged");
    let log = &good.iter().find(|(path, _)| path.ends_with("db")).unwrap().1;
    let used = log.iter().rposition(|byte| *byte != 0).unwrap();
    // sled's checksums notice the damage, or sled drops the end of its log; whatever opens must be the true value.
    let found: Vec<_> = (0..=used).step_by(used / 40 + 1).map(|at| read(Some(at))).collect();
    assert!(found.iter().flatten().all(|value| *value == erika), "another value");
    let kept = found.iter().flatten().count();
    assert!(kept > 5 && kept < found.len(), "some damage is behind the record, some is not: {kept}");
}

#[cfg(unix)]
#[test]
fn locks_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let held = lock(folder.path()).unwrap();
    let mode = fs::metadata(folder.path().join(LOCK_FILE)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "whoever can open it can hold up the node");
    assert_eq!(lock(folder.path()).unwrap_err(), StoreError::InUse { path: folder.path().to_owned() });
    drop(held);
    lock(folder.path()).unwrap();
}

#[cfg(unix)]
#[test]
fn folder_and_header_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::new();
    node.create(&node.key_file());
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(node.folder()), 0o700);
    assert_eq!(mode(node.header()), 0o600);
}

#[cfg(unix)]
#[test]
fn a_key_file_others_can_read_does_not_open_the_store() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::new();
    node.create(&node.key_file());
    let path = node.0.path().join("key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(node.read(&node.key_file()), Err(StoreError::KeyFilePermissions { path, mode: 0o644 }));
}
