//! Every message of the specification's appendix, opened with the keys and documents printed there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;

use common::vectors;
use einmal_did::{Did, DidDocument, LocalResolver, Resolver};
use einmal_didcomm::{
    EnvelopeError, LayerPolicy, OpenContext, OpenError, Opened, ProvedKey, UnixSeconds, open,
};
use einmal_keys::{Jwk, KeyId, Keyring, SecretKey};
use serde_json::Value;

const FILE: &str = "didcomm/spec-v2.1-appendix.json";

/// The messages' own `created_time`; they expired long ago.
const THEN: UnixSeconds = UnixSeconds(1_516_269_022);

struct Appendix {
    messages: Vec<Value>,
    resolver: LocalResolver,
    ring: Keyring,
}

impl Appendix {
    fn read() -> Option<Self> {
        let file = vectors(FILE)?;
        let resolver = LocalResolver::new();
        for (did, document) in file["diddocs"].as_object().unwrap() {
            let did = Did::parse(did).unwrap();
            let bytes = document.to_string();
            let document = DidDocument::from_json(&did, bytes.as_bytes()).unwrap();
            resolver.remember(document);
        }
        let ring = Keyring::new();
        for (kid, jwk) in file["secrets"].as_object().unwrap() {
            let jwk: Jwk = serde_json::from_value(jwk.clone()).unwrap();
            ring.insert(KeyId::new(kid.as_str()), SecretKey::from_jwk(&jwk).unwrap());
        }
        let messages = file["messages"].as_array().unwrap().iter().map(|entry| entry["message"].clone());
        Some(Self { messages: messages.collect(), resolver, ring })
    }

    fn open_under(&self, index: usize, layers: LayerPolicy) -> Result<Opened, OpenError> {
        let context = OpenContext {
            custody: &self.ring,
            resolver: &self.resolver,
            now: THEN,
            accept_plaintext: true,
            layers,
        };
        open(self.messages[index].to_string().as_bytes(), &context)
    }

    fn open(&self, index: usize) -> Opened {
        self.open_under(index, LayerPolicy::Tolerant).unwrap()
    }
}

fn text(key: &Option<ProvedKey>) -> Option<&str> {
    key.as_ref().map(|key| key.kid.as_str())
}

fn assert_is_lunch(opened: &Opened) {
    assert_eq!(opened.message.id.as_str(), "1234567890");
    assert_eq!((opened.message.kind.protocol(), opened.message.kind.message()), ("letsdolunch", "proposal"));
    assert_eq!(opened.message.to[0].as_str(), "did:example:bob");
    assert_eq!(opened.message.body["messagespecificattribute"], "and its value");
}

#[test]
fn all_ten_messages_of_the_appendix_are_there() {
    let Some(appendix) = Appendix::read() else { return };
    assert_eq!(appendix.messages.len(), 10);
}

#[test]
fn plaintext_message_opens_and_proves_nothing() {
    let Some(appendix) = Appendix::read() else { return };
    let opened = appendix.open(0);
    assert_is_lunch(&opened);
    assert_eq!(opened.sender(), None);
    assert_eq!(opened.message.from, None);
    assert_eq!(opened.claimed_from.unwrap().as_str(), "did:example:alice");
}

#[test]
fn signed_messages_open_and_prove_their_signer_only() {
    let Some(appendix) = Appendix::read() else { return };
    for (index, key) in [(1, "key-1"), (2, "key-2"), (3, "key-3")] {
        let opened = appendix.open(index);
        assert_is_lunch(&opened);
        assert_eq!(text(&opened.proof.signer), Some(format!("did:example:alice#{key}").as_str()));
        assert_eq!((text(&opened.proof.sender), text(&opened.proof.recipient)), (None, None));
        assert!(!opened.is_authenticated());
    }
}

#[test]
fn encrypted_messages_open_and_prove_exactly_what_they_hold() {
    let Some(appendix) = Appendix::read() else { return };
    let sender_x25519 = Some("did:example:alice#key-x25519-1");
    let expected = [
        // sender, signer, the first key of Bob that is named
        (4, None, None, "did:example:bob#key-x25519-1"),
        (5, None, None, "did:example:bob#key-p384-1"),
        (6, None, None, "did:example:bob#key-p521-1"),
        (7, sender_x25519, None, "did:example:bob#key-x25519-1"),
        (
            8,
            Some("did:example:alice#key-p256-1"),
            Some("did:example:alice#key-1"),
            "did:example:bob#key-p256-1",
        ),
        (
            9,
            Some("did:example:alice#key-p521-1"),
            Some("did:example:alice#key-1"),
            "did:example:bob#key-p521-1",
        ),
    ];
    for (index, sender, signer, recipient) in expected {
        let opened = appendix.open(index);
        assert_is_lunch(&opened);
        assert_eq!(text(&opened.proof.sender), sender, "message {index}");
        assert_eq!(text(&opened.proof.signer), signer, "message {index}");
        assert_eq!(text(&opened.proof.recipient), Some(recipient), "message {index}");
        assert_eq!(opened.is_authenticated(), sender.is_some(), "message {index}");
        let claimed = opened.claimed_from.as_ref().map(Did::as_str);
        assert_eq!(claimed.is_some(), sender.is_none(), "message {index}");
    }
}

#[test]
fn every_key_of_bob_alone_opens_what_is_encrypted_to_it() {
    let Some(appendix) = Appendix::read() else { return };
    let file = vectors(FILE).unwrap();
    let mut opened = 0;
    for (index, message) in appendix.messages.iter().enumerate().skip(4) {
        for recipient in message["recipients"].as_array().unwrap() {
            let kid = recipient["header"]["kid"].as_str().unwrap();
            let jwk: Jwk = serde_json::from_value(file["secrets"][kid].clone()).unwrap();
            let ring = Keyring::new();
            ring.insert(KeyId::new(kid), SecretKey::from_jwk(&jwk).unwrap());
            let one = Appendix { messages: appendix.messages.clone(), ring, resolver: LocalResolver::new() };
            for did in ["did:example:alice", "did:example:bob"] {
                let document = appendix.resolver.resolve(&Did::parse(did).unwrap()).unwrap();
                one.resolver.remember((*document).clone());
            }
            // The inner layer of the last message is for the same keys.
            assert_eq!(text(&one.open(index).proof.recipient), Some(kid), "message {index}");
            opened += 1;
        }
    }
    assert!(opened > 6, "several keys each");
}

/// The last one is anoncrypt(authcrypt(sign)), which the specification itself forbids.
#[test]
fn all_examples_but_the_last_open_also_under_the_strict_policy() {
    let Some(appendix) = Appendix::read() else { return };
    for index in 0..9 {
        assert_is_lunch(&appendix.open_under(index, LayerPolicy::Strict).unwrap());
    }
    let last = appendix.open_under(9, LayerPolicy::Strict).unwrap_err();
    assert_eq!(last, OpenError::Envelope(EnvelopeError::Combination));
}

#[test]
fn expired_example_is_refused_today() {
    let Some(appendix) = Appendix::read() else { return };
    let context = OpenContext {
        custody: &appendix.ring,
        resolver: &appendix.resolver,
        now: UnixSeconds(1_516_385_931),
        accept_plaintext: true,
        layers: LayerPolicy::Tolerant,
    };
    let bytes = appendix.messages[7].to_string();
    assert_eq!(open(bytes.as_bytes(), &context).unwrap_err(), OpenError::Expired);
}
