//! The seeds of the corpora, generated to the same bytes in every run.
//!
//! Targets must accept `valid-*` and refuse `bent-*`; `tests/replay.rs` asserts both, for the files checked in and for
//! those generated now.

use serde_json::Value;

mod bodies;
mod city;
mod credentials;
mod didcomm;
mod dids;

/// One file of a corpus.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed {
    /// Its target.
    pub target: &'static str,
    /// Its file name; begins with `valid-` or `bent-`.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} ({} bytes)", self.target, self.name, self.bytes.len())
    }
}

/// Every seed of every target.
pub fn seeds() -> Vec<Seed> {
    let corpora = [
        ("message", didcomm::messages()),
        ("jwe", [didcomm::packed(), didcomm::sealed(), didcomm::bent_envelopes()].concat()),
        ("jws", didcomm::signed()),
        ("did", dids::dids()),
        ("did_document", dids::did_documents()),
        ("sd_jwt", [credentials::credentials(), credentials::queries()].concat()),
        ("status_list", credentials::status_lists()),
        ("oob_url", didcomm::links()),
        ("csv", city::registers()),
        ("configuration", city::configurations()),
        ("bodies", bodies::bodies()),
        ("node_config", bodies::node_configurations()),
    ];
    let seed = |target, (name, bytes): (&str, _)| Seed { target, name: name.to_owned(), bytes };
    corpora
        .into_iter()
        .flat_map(|(target, files)| files.into_iter().map(move |file| seed(target, file)))
        .collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// `value` after a mode byte.
fn mode(mode: char, value: &Value) -> Vec<u8> {
    format!("{mode}{value}").into_bytes()
}

/// `base` with some members replaced, or removed if null.
fn with(base: &Value, changes: Value) -> Value {
    let mut changed = base.clone();
    for (name, value) in changes.as_object().expect("an object") {
        match value {
            Value::Null => changed.as_object_mut().expect("an object").remove(name),
            value => changed.as_object_mut().expect("an object").insert(name.clone(), value.clone()),
        };
    }
    changed
}
