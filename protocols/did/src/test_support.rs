//! Shared by several test modules of this crate.

use std::path::PathBuf;

use einmal_keys::{KeyKind, PublicKey, SecretKey, SeededEntropy};
use serde_json::Value;

/// A key derived from the seed.
pub(crate) fn key(kind: KeyKind, seed: u64) -> PublicKey {
    SecretKey::generate(kind, &SeededEntropy::new(seed)).unwrap().public_key()
}

/// A file of published vectors, or `None` with a note on stderr.
pub(crate) fn vectors(file: &str) -> Option<Value> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..", "/../shared/vectors"));
    let folder = std::env::var_os("EINMAL_VECTORS").map_or_else(beside, PathBuf::from);
    if !folder.is_dir() {
        eprintln!("skipped: no vectors at {}", folder.display());
        return None;
    }
    Some(serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap())
}
