//! Every published envelope and one of every kind we pack, changed in one place at a time: each change is refused, or
//! changes nothing that anybody reads. [`VOID`] lists the changes that survive, with the reason.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use common::{AGREEMENT_KINDS, NOW, Party, SIGNING_KINDS, World, did, message, secret, vectors};
use einmal_did::{Did, DidDocument, LocalResolver, Relationship, peer};
use einmal_didcomm::{
    ContentEncryption, FORWARD_TYPE, Forward, LayerPolicy, Message, OpenContext, Opened, PackOptions,
    SenderProtection, UnixSeconds, open,
};
use einmal_keys::{
    Jwk, KeyId, KeyKind, Keyring, SecretKey, SeededEntropy, base64url_decode, base64url_encode,
};
use einmal_mutate::{ADDED, Change, changes, general, paths, replaced};
use serde_json::{Value, json};

/// Changes an envelope survives: the place (list positions as `#`, `*` for anywhere), the change, and the reason.
const VOID: [(&str, &str, &str); 19] = [
    ("*", "escape", "the same text, written with an escape"),
    ("*", "reorder", "the order of members says nothing"),
    ("*", "space", "space between the parts of JSON says nothing"),
    ("*", "unknown member", "members nobody knows are ignored (RFC 7515, 7516)"),
    ("*", "unknown member named twice", "the same"),
    ("*", "name of raw JSON within", "the same"),
    ("/signatures/#/header", "name of raw JSON alone", "`kid` stands in the protected header too"),
    ("/signatures/#/header/kid", "other case", "the same"),
    ("*", "known member elsewhere", "a member that has no meaning in this place, or is null there"),
    ("/recipients", "reverse", "`apv` is over the sorted key ids"),
    ("/signatures", "entry twice", "the sender's first signature counts"),
    ("/signatures/#", "flatten", "the flattened form of the same"),
    ("/signatures/#/header", "remove", "`kid` stands in the protected header too"),
    ("/signatures/#/header", "null", "the same"),
    ("/signatures/#/header", "empty object", "the same"),
    ("/signatures/#/header", "in an object", "the same"),
    ("/signatures/#/header", "other case", "the same"),
    ("/signatures/#/header/kid", "remove", "the same"),
    ("/signatures/#/header/kid", "null", "the same"),
];

/// A changed key here is harmless if there are several: another key of ours, of the same DID, opens the envelope.
const ONE_OF_SEVERAL: &str = "/recipients/#/encrypted_key";

/// An envelope, and the means to open it.
struct Case {
    name: String,
    envelope: Value,
    ring: Keyring,
    resolver: LocalResolver,
    now: UnixSeconds,
}

impl Case {
    fn open(&self, bytes: &[u8]) -> Option<Opened> {
        let context = OpenContext {
            custody: &self.ring,
            resolver: &self.resolver,
            now: self.now,
            accept_plaintext: false,
            layers: LayerPolicy::Tolerant,
        };
        open(bytes, &context).ok()
    }
}

/// The signed and encrypted messages of the appendix, each with all of its keys.
fn published() -> Vec<Case> {
    const THEN: UnixSeconds = UnixSeconds(1_516_269_022);
    let Some(file) = vectors("didcomm/spec-v2.1-appendix.json") else { return Vec::new() };
    let messages = file["messages"].as_array().unwrap().iter().map(|entry| &entry["message"]);
    let sealed = messages.filter(|one| one.get("type").is_none()).enumerate();
    sealed
        .map(|(index, envelope)| {
            let resolver = LocalResolver::new();
            for (name, document) in file["diddocs"].as_object().unwrap() {
                let bytes = document.to_string();
                resolver.remember(DidDocument::from_json(&did(name), bytes.as_bytes()).unwrap());
            }
            let ring = Keyring::new();
            for (kid, jwk) in file["secrets"].as_object().unwrap() {
                let jwk: Jwk = serde_json::from_value(jwk.clone()).unwrap();
                ring.insert(KeyId::new(kid.as_str()), SecretKey::from_jwk(&jwk).unwrap());
            }
            Case { name: format!("published {index}"), envelope: envelope.clone(), ring, resolver, now: THEN }
        })
        .collect()
}

/// A sender and a recipient. The recipient has two keys on each curve and is known to everybody as `did:example:bob`.
fn parties() -> (World, Party, Party) {
    let world = World::new();
    let keys = |twice: bool| {
        let once = AGREEMENT_KINDS.map(|kind| (common::agreement(kind), kind, Relationship::KeyAgreement));
        let again = AGREEMENT_KINDS
            .map(|kind| (format!("{}-2", common::agreement(kind)), kind, Relationship::KeyAgreement));
        let sign =
            SIGNING_KINDS.map(|kind| (common::authentication(kind), kind, Relationship::Authentication));
        once.into_iter()
            .chain(again.into_iter().filter(|(_, kind, _)| twice && *kind == KeyKind::X25519))
            .chain(sign)
            .collect::<Vec<_>>()
    };
    let alice = world.party_with("did:example:alice", 1, keys(false));
    let bob = world.party_with("did:example:bob", 2, keys(true));
    world.party_with("did:example:mallory", 3, keys(false));
    (world, alice, bob)
}

fn fresh() -> Vec<Case> {
    let cases = RefCell::new(Vec::new());
    let pack = |name: String, options: PackOptions, signer: Option<KeyKind>| {
        let (world, alice, bob) = parties();
        if let Some(kind) = signer {
            // Only the key of this kind signs; the others are removed.
            for other in SIGNING_KINDS.into_iter().filter(|other| *other != kind) {
                alice.ring.remove(&KeyId::new(alice.kid(&common::authentication(other))));
            }
        }
        let message = full_message(&alice.did, &bob.did);
        let bytes = world.packer(&alice.ring).pack(&message, &bob.did, &options).unwrap().bytes;
        let envelope = serde_json::from_slice(&bytes).unwrap();
        cases.borrow_mut().push(Case { name, envelope, ring: bob.ring, resolver: world.resolver, now: NOW });
    };
    for (curve, enc) in AGREEMENT_KINDS.into_iter().zip(ContentEncryption::ALL.into_iter().cycle()) {
        let mut options = PackOptions::protecting(SenderProtection::Anoncrypt);
        (options.anoncrypt_enc, options.curve) = (enc, Some(curve));
        pack(format!("anoncrypt {} {}", curve.crv(), enc.name()), options, None);
        let mut authcrypt = PackOptions::default();
        authcrypt.curve = Some(curve);
        pack(format!("authcrypt {}", curve.crv()), authcrypt, None);
    }
    pack("hidden authcrypt".into(), PackOptions::protecting(SenderProtection::AuthcryptHidden), None);
    for kind in SIGNING_KINDS {
        let signed = PackOptions::protecting(SenderProtection::SignedAnoncrypt);
        pack(format!("signed and encrypted {}", kind.crv()), signed, Some(kind));
        let (world, alice, bob) = parties();
        for other in SIGNING_KINDS.into_iter().filter(|other| *other != kind) {
            alice.ring.remove(&KeyId::new(alice.kid(&common::authentication(other))));
        }
        let bytes = world.packer(&alice.ring).sign(&full_message(&alice.did, &bob.did)).unwrap();
        let (name, envelope) = (format!("signed {}", kind.crv()), serde_json::from_slice(&bytes).unwrap());
        cases.borrow_mut().push(Case { name, envelope, ring: bob.ring, resolver: world.resolver, now: NOW });
    }
    let mut cases = cases.into_inner();
    cases.extend(between_peers());
    cases
}

fn full_message(from: &Did, to: &Did) -> Message {
    let mut full = message(from, to);
    full.created_time = Some(NOW);
    full.expires_time = Some(NOW.plus(60));
    full
}

/// authcrypt between a did:peer:2 and a did:peer:4 in its long and its short form, and from a did:key.
fn between_peers() -> Vec<Case> {
    let (resolver, entropy) = (LocalResolver::new(), SeededEntropy::new(5));
    let key = |kind, seed| secret(kind, seed).public_key();
    let two = peer::two::create(
        &[
            (Relationship::KeyAgreement, key(KeyKind::X25519, 61)),
            (Relationship::Authentication, key(KeyKind::Ed25519, 62)),
        ],
        &[],
    )
    .unwrap();
    let four = peer::four::InputDocument::new()
        .add_method("key-1", key(KeyKind::X25519, 71), &[Relationship::KeyAgreement])
        .add_method("key-2", key(KeyKind::Ed25519, 72), &[Relationship::Authentication])
        .create()
        .unwrap();
    resolver.learn(&four.long).unwrap();
    let ring = || {
        let ring = Keyring::new();
        for (did, agreement, authentication) in [(&two, 61, 62), (&four.short, 71, 72)] {
            ring.insert(KeyId::new(format!("{did}#key-1")), secret(KeyKind::X25519, agreement));
            ring.insert(KeyId::new(format!("{did}#key-2")), secret(KeyKind::Ed25519, authentication));
        }
        ring
    };
    let mut cases = Vec::new();
    for (name, from, to) in [
        ("did:peer:2 to long did:peer:4", &two, &four.long),
        ("did:peer:2 to short did:peer:4", &two, &four.short),
        ("long did:peer:4 to did:peer:2", &four.long, &two),
        ("short did:peer:4 to did:peer:2", &four.short, &two),
    ] {
        let ring = ring();
        let packer = einmal_didcomm::Packer { custody: &ring, resolver: &resolver, entropy: &entropy };
        let bytes = packer.pack(&full_message(from, to), to, &PackOptions::default()).unwrap().bytes;
        let resolver = LocalResolver::new();
        resolver.learn(&four.long).unwrap();
        let envelope = serde_json::from_slice(&bytes).unwrap();
        cases.push(Case { name: name.to_owned(), envelope, ring, resolver, now: NOW });
    }
    cases
}

/// Members that have a meaning somewhere in an envelope or a message.
const KNOWN: [&str; 19] = [
    "zip",
    "crit",
    "b64",
    "aad",
    "unprotected",
    "header",
    "encrypted_key",
    "epk",
    "skid",
    "apu",
    "apv",
    "alg",
    "enc",
    "payload",
    "ciphertext",
    "signatures",
    "signature",
    "id",
    "type",
];

/// One changed envelope.
struct Mutant {
    path: String,
    change: String,
    bytes: Vec<u8>,
}

/// All single changes of an envelope: in its own JSON, and in its protected headers.
fn mutants(envelope: &Value) -> Vec<Mutant> {
    let mut out: Vec<Mutant> = changes(envelope, &KNOWN)
        .into_iter()
        .map(|Change { path, what, text }| {
            let change = named(&path, what);
            Mutant { path: general(&path), change, bytes: text.into_bytes() }
        })
        .collect();
    let protected = paths(envelope).into_iter().filter(|path| path.ends_with("/protected"));
    for path in protected {
        let header = base64url_decode(envelope.pointer(&path).unwrap().as_str().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        for Change { path: inner, what, text } in changes(&header, &KNOWN) {
            let change = named(&inner, what);
            let bytes = replaced(envelope, &path, json!(base64url_encode(text))).to_string().into_bytes();
            out.push(Mutant { path: format!("{}!{}", general(&path), general(&inner)), change, bytes });
        }
    }
    // Test both serializations of a JWS.
    if let Some(one) = envelope.pointer("/signatures/0") {
        let mut flat = one.clone();
        flat["payload"] = envelope["payload"].clone();
        out.push(Mutant {
            path: "/signatures/#".into(),
            change: "flatten".into(),
            bytes: flat.to_string().into_bytes(),
        });
        let mut both = envelope.clone();
        both["protected"] = one["protected"].clone();
        both["signature"] = one["signature"].clone();
        out.push(Mutant {
            path: "/signatures/#".into(),
            change: "both forms".into(),
            bytes: both.to_string().into_bytes(),
        });
    }
    let text = envelope.to_string();
    for (change, bytes) in [
        ("byte order mark", format!("\u{feff}{text}")),
        ("something after it", format!("{text}x")),
        ("twice", format!("{text}{text}")),
        ("space", format!(" \r\n\t{text} \n")),
        ("in a list", format!("[{text}]")),
        ("as text", json!(text).to_string()),
        ("NUL after it", format!("{text}\0")),
        ("comma", text.replacen(":", ":,", 1)),
    ] {
        out.push(Mutant { path: String::new(), change: change.into(), bytes: bytes.into_bytes() });
    }
    for cut in (0..text.len()).step_by((text.len() / 32).max(1)) {
        out.push(Mutant {
            path: String::new(),
            change: "cut off".into(),
            bytes: text.as_bytes()[..cut].to_vec(),
        });
        let mut bytes = text.as_bytes().to_vec();
        bytes[cut] = 0xff;
        out.push(Mutant { path: String::new(), change: "no UTF-8".into(), bytes });
    }
    out
}

/// The name of a change that adds a known member. Where the member has a meaning, or would hide one that has, it must
/// be refused.
fn named(path: &str, change: String) -> String {
    let Some((name, kind)) = change.strip_prefix(ADDED).and_then(|added| added.split_once(": ")) else {
        return change;
    };
    let place = general(path);
    let matters = match place.as_str() {
        "" => ["aad", "unprotected", "header", "encrypted_key", "ciphertext"].contains(&name),
        "/recipients/#/header" => name == "epk",
        "/signatures/#/header" => ["crit", "b64"].contains(&name),
        _ => false,
    };
    if matters && kind != "null" { "known member".into() } else { "known member elsewhere".into() }
}

fn is_void(case: &Case, mutant: &Mutant) -> bool {
    let several = case.envelope.pointer("/recipients/1").is_some();
    let signed = case.envelope.get("payload").is_some();
    VOID.iter().any(|(path, change, _)| (*path == "*" || *path == mutant.path) && *change == mutant.change)
        || (several && mutant.path == ONE_OF_SEVERAL)
        // Members of the other kind of envelope, and a key that is read only if there is one recipient.
        || (mutant.change == "known member" && (signed && mutant.path.is_empty()))
        || (mutant.change == "known member" && several && mutant.path == "/recipients/#/header")
}

#[test]
fn a_changed_envelope_is_refused_or_means_the_same() {
    let mut survivors: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let (mut tried, mut other) = (0, Vec::new());
    for case in published().into_iter().chain(fresh()) {
        let sound = case.open(case.envelope.to_string().as_bytes());
        let sound = sound.unwrap_or_else(|| panic!("{} does not open at all", case.name));
        for mutant in mutants(&case.envelope) {
            tried += 1;
            let Some(opened) = case.open(&mutant.bytes) else { continue };
            // One of our keys may fail to open it; then another key of the same DID opened it.
            let (mut opened, mut sound) = (opened, sound.clone());
            for one in [&mut opened, &mut sound] {
                if let Some(key) = &mut one.proof.recipient {
                    key.kid = key.did.clone().into();
                }
            }
            if opened != sound {
                other.push(format!("{}: {} {}", case.name, mutant.path, mutant.change));
            } else if !is_void(&case, &mutant) {
                survivors.entry((mutant.path, mutant.change)).or_default().insert(case.name.clone());
            }
        }
    }
    eprintln!("{tried} changes tried");
    assert!(other.is_empty(), "opened as something else:\n{}", other.join("\n"));
    let list: Vec<String> =
        survivors.iter().map(|((path, change), cases)| format!("{path} | {change} | {cases:?}")).collect();
    assert!(list.is_empty(), "survived:\n{}", list.join("\n"));
    assert!(tried > 20_000, "{tried}");
}

/// What a message says, in each way it is read: as received, as written, and as stored.
fn assert_reads_alike(message: &Message, what: &str) {
    let bytes = message.to_bytes();
    assert!(Message::from_bytes(&bytes).is_ok_and(|again| again == *message), "{what}: written otherwise");
    let body = Value::Object(message.body.clone());
    let typed: Option<Value> = serde_json::from_value(body.clone()).ok();
    assert_eq!(typed, Some(body), "{what}: a typed body is another one");
    let value = message.to_value();
    let stored: Option<Value> = serde_json::from_slice(value.to_string().as_bytes()).ok();
    assert_eq!(stored.as_ref(), Some(&value), "{what}: another one after it was stored");
    let stored = Message::from_value(value).unwrap();
    let contents = |message: &Message| -> Vec<Option<Value>> {
        message.attachments.iter().map(|one| one.to_json().ok()).collect()
    };
    assert_eq!(contents(&stored), contents(message), "{what}: other attachments after it was stored");
}

/// Plaintexts of a valid sender, changed in one place: each is refused, or its sender stays the same.
#[test]
fn a_changed_plaintext_of_a_proper_sender_stays_that_senders() {
    let (world, alice, bob) = parties();
    let payload = json!({"protected": "eyJ9", "recipients": [], "x": {"a": 1e2}});
    let kinds = [FORWARD_TYPE, "https://didcomm.org/basicmessage/2.0/message"];
    let mut opened_too = 0;
    for kind in kinds {
        let sound = json!({
            "id": "m-1", "typ": "application/didcomm-plain+json", "type": kind, "from": alice.did, "to": [bob.did],
            "thid": "t-1", "created_time": NOW.0, "expires_time": NOW.0 + 60, "please_ack": [""], "ack": ["m-0"],
            "body": {"next": "did:example:carol", "x": [{"y": 1}]}, "return_route": "all",
            "attachments": [
                {"id": "a", "media_type": "application/json", "data": {"json": payload}},
                {"id": "b", "data": {"base64": "e30"}},
            ],
        });
        for Change { path, what: change, text } in changes(&sound, &KNOWN) {
            let packer = world.packer(&alice.ring);
            let rule = einmal_didcomm::Irregularity::None;
            let bytes = packer.authcrypt_unchecked(text.as_bytes(), &alice.did, &bob.did, rule).unwrap();
            let Ok(opened) = world.open(&bytes, &bob) else { continue };
            opened_too += 1;
            let what = format!("{path} {change}");
            assert_eq!(opened.sender(), Some(&alice.did), "{what}");
            assert_eq!(opened.message.from.as_ref(), Some(&alice.did), "{what}");
            assert_eq!(opened.claimed_from, None, "{what}");
            assert!(opened.message.to.is_empty() || opened.message.to.contains(&bob.did), "{what}");
            assert_reads_alike(&opened.message, &what);
        }
    }
    assert!(opened_too > 100, "{opened_too}");
}

/// What a forward carries comes out byte for byte, whatever it is, and never changes the message around it.
#[test]
fn a_forward_carries_every_json_as_it_was_written() {
    let (world, alice, bob) = parties();
    let deep = format!("{}{{}}{}", r#"{"a":"#.repeat(60), "}".repeat(60));
    let many = format!(r#"{{"a":[{}0]}}"#, "{},".repeat(5_000));
    for payload in [
        "{}",
        "{ }",
        "{\n}",
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"a":1e400}"#,
        r#"{"a":1E2,"b":-0,"c":0.10}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\ud83d\ude00\/"}"#,
        r#"{"json":{"base64":""},"data":{}}"#,
        "[1, 2]",
        "\"text\"",
        "7",
        "null",
        "true",
        r#"{"id":"evil","type":"https://didcomm.org/routing/2.0/forward","attachments":[{"data":{"json":{}}}]}"#,
        r#"{"x":{"$serde_json::private::RawValue":"{"}}"#,
        r#"{"$serde_json::private::RawValue":"[1]"}"#,
        deep.as_str(),
        many.as_str(),
    ] {
        for (kind, next) in [(FORWARD_TYPE, "x"), ("https://didcomm.org/Routing/2.1/Forward", "y")] {
            let forward = format!(
                r#"{{"id":"m-1","type":"{kind}","from":"{}","to":["{}"],"body":{{"next":"did:example:{next}"}},"attachments":[{{"data":{{"json":{payload}}}}},{{"data":{{"json":{{"z":1}}}}}}]}}"#,
                alice.did, bob.did
            );
            let packer = world.packer(&alice.ring);
            let rule = einmal_didcomm::Irregularity::None;
            let bytes = packer.authcrypt_unchecked(forward.as_bytes(), &alice.did, &bob.did, rule).unwrap();
            let what: String = payload.chars().take(60).collect();
            let opened = world.open(&bytes, &bob).unwrap_or_else(|error| panic!("{kind} {what}: {error}"));
            let read = Forward::from_message(&opened.message).unwrap();
            if kind == FORWARD_TYPE {
                assert_eq!(read.payloads, [payload.as_bytes(), br#"{"z":1}"#], "{what}");
            }
            assert_eq!(read.next.as_str(), format!("did:example:{next}"));
            assert_eq!(opened.message.id.as_str(), "m-1");
            assert_reads_alike(&opened.message, &what);
        }
    }
}
