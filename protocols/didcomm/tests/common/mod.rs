//! Parties with keys, documents and a resolver: the basis of all envelope tests.

#![allow(dead_code, reason = "every test binary uses its own part of this module")]

use std::path::PathBuf;

use einmal_did::{Did, DidDocument, DidUrl, LocalResolver, Relationship};
use einmal_didcomm::{
    EnvelopeError, LayerPolicy, Message, MessageId, MessageType, OpenContext, OpenError, Opened, PackError,
    PackOptions, Packed, Packer, UnixSeconds, open,
};
use einmal_keys::{Custody, KeyKind, Keyring, PublicKey, SecretKey, SeededEntropy};
use serde_json::{Value, json};

/// The present time in all tests.
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

pub(crate) const AGREEMENT_KINDS: [KeyKind; 4] =
    [KeyKind::X25519, KeyKind::P256, KeyKind::P384, KeyKind::P521];
pub(crate) const SIGNING_KINDS: [KeyKind; 3] = [KeyKind::Ed25519, KeyKind::P256, KeyKind::Secp256k1];

/// Fragment of the X25519 key of a [`World::party`].
pub(crate) const X: &str = "agree-x25519";
/// Fragment of the Ed25519 key of a [`World::party`].
pub(crate) const ED: &str = "auth-ed25519";
/// Fragments of the keys of a [`World::owner_of_devices`].
pub(crate) const DEVICES: [&str; 3] = ["phone", "tablet", "laptop"];

/// A key derived from the seed.
pub(crate) fn secret(kind: KeyKind, seed: u64) -> SecretKey {
    SecretKey::generate(kind, &SeededEntropy::new(seed)).unwrap()
}

pub(crate) fn did(text: &str) -> Did {
    Did::parse(text).unwrap()
}

/// A DID with its keys; every secret can be derived again from its seed.
pub(crate) struct Party {
    pub(crate) did: Did,
    pub(crate) ring: Keyring,
    keys: Vec<(String, KeyKind, u64)>,
}

impl Party {
    pub(crate) fn new(did: Did) -> Self {
        Self { did, ring: Keyring::new(), keys: Vec::new() }
    }

    /// Makes the key `fragment` and holds it under `did`, the DID's canonical form.
    pub(crate) fn hold(&mut self, did: &Did, fragment: &str, kind: KeyKind, seed: u64) -> PublicKey {
        let key = secret(kind, seed);
        let public = key.public_key();
        self.ring.insert(DidUrl::new(did, fragment).unwrap().to_key_id(), key);
        self.keys.push((fragment.to_owned(), kind, seed));
        public
    }

    pub(crate) fn kid(&self, fragment: &str) -> String {
        format!("{}#{fragment}", self.did)
    }

    pub(crate) fn secret(&self, fragment: &str) -> SecretKey {
        let (_, kind, seed) = self.keys.iter().find(|(name, ..)| name == fragment).unwrap();
        secret(*kind, *seed)
    }

    pub(crate) fn public(&self, fragment: &str) -> PublicKey {
        self.secret(fragment).public_key()
    }
}

/// Fragment of the key agreement key of `kind` in a [`World::party`].
pub(crate) fn agreement(kind: KeyKind) -> String {
    format!("agree-{}", kind.crv().to_lowercase())
}

/// Fragment of the authentication key of `kind` in a [`World::party`].
pub(crate) fn authentication(kind: KeyKind) -> String {
    format!("auth-{}", kind.crv().to_lowercase())
}

/// Documents known to everybody.
pub(crate) struct World {
    pub(crate) resolver: LocalResolver,
    pub(crate) entropy: SeededEntropy,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { resolver: LocalResolver::new(), entropy: SeededEntropy::new(77) }
    }

    /// `did:example:<name>` with one agreement key of every curve, X25519 first, and one authentication key of every
    /// kind, Ed25519 first.
    pub(crate) fn party(&self, name: &str, seed: u64) -> Party {
        let agree = AGREEMENT_KINDS.map(|kind| (agreement(kind), kind, Relationship::KeyAgreement));
        let sign = SIGNING_KINDS.map(|kind| (authentication(kind), kind, Relationship::Authentication));
        self.party_with(&format!("did:example:{name}"), seed, agree.into_iter().chain(sign))
    }

    /// A DID with exactly these keys, each under one relationship.
    pub(crate) fn party_with(
        &self,
        text: &str,
        seed: u64,
        keys: impl IntoIterator<Item = (String, KeyKind, Relationship)>,
    ) -> Party {
        let mut party = Party::new(did(text));
        let mut document = DidDocument::new(party.did.clone());
        for (index, (fragment, kind, relationship)) in keys.into_iter().enumerate() {
            let key = party.hold(&party.did.clone(), &fragment, kind, seed * 100 + index as u64);
            document.add_method(&fragment, key, &[relationship]).unwrap();
        }
        self.resolver.remember(document);
        party
    }

    /// A party with one X25519 key for each of the [`DEVICES`].
    pub(crate) fn owner_of_devices(&self, name: &str, seed: u64) -> Party {
        let device = |name: &str| (name.to_owned(), KeyKind::X25519, Relationship::KeyAgreement);
        self.party_with(&format!("did:example:{name}"), seed, DEVICES.map(device))
    }

    pub(crate) fn pack(
        &self,
        sent: &Message,
        from: &Party,
        to: &Party,
        options: &PackOptions,
    ) -> Result<Packed, PackError> {
        self.packer(&from.ring).pack(sent, &to.did, options)
    }

    pub(crate) fn packer<'a>(&'a self, custody: &'a dyn Custody) -> Packer<'a> {
        Packer { custody, resolver: &self.resolver, entropy: &self.entropy }
    }

    pub(crate) fn context<'a>(&'a self, custody: &'a dyn Custody) -> OpenContext<'a> {
        OpenContext {
            custody,
            resolver: &self.resolver,
            now: NOW,
            accept_plaintext: false,
            layers: LayerPolicy::Tolerant,
        }
    }

    pub(crate) fn open(&self, bytes: &[u8], party: &Party) -> Result<Opened, OpenError> {
        open(bytes, &self.context(&party.ring))
    }

    pub(crate) fn open_json(&self, envelope: &Value, party: &Party) -> Result<Opened, OpenError> {
        self.open(envelope.to_string().as_bytes(), party)
    }

    /// Why the envelope is refused.
    pub(crate) fn refusal(&self, envelope: &Value, party: &Party) -> OpenError {
        self.open_json(envelope, party).unwrap_err()
    }
}

/// Alice, who writes, and Bob, who reads.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) alice: Party,
    pub(crate) bob: Party,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let (alice, bob) = (world.party("alice", 1), world.party("bob", 2));
        Self { world, alice, bob }
    }

    /// What Alice writes to Bob.
    pub(crate) fn message(&self) -> Message {
        message(&self.alice.did, &self.bob.did)
    }

    pub(crate) fn plaintext(&self) -> Value {
        self.message().to_value()
    }

    /// Checks that Bob refuses the envelope for this reason.
    pub(crate) fn refused(&self, envelope: &Value, error: impl Into<OpenError>) {
        assert_eq!(self.world.refusal(envelope, &self.bob), error.into(), "{envelope}");
    }
}

pub(crate) fn malformed(member: &'static str) -> EnvelopeError {
    EnvelopeError::Malformed { member }
}

pub(crate) fn not_allowed(member: &'static str) -> EnvelopeError {
    EnvelopeError::NotAllowed { member }
}

/// A plaintext message from one DID to another.
pub(crate) fn message(from: &Did, to: &Did) -> Message {
    let kind = MessageType::parse("https://didcomm.org/basicmessage/2.0/message").unwrap();
    let mut message = Message::new(MessageId::try_from("m-1").unwrap(), kind);
    message.from = Some(from.clone());
    message.to = vec![to.clone()];
    message.body = json!({"content": "Grüß Gott"}).as_object().unwrap().clone();
    message
}

/// A file of published vectors, or `None` with a note on stderr if there is no folder of them. A file that is missing in the folder
/// is a failure: a test must not stop looking because a name has changed.
pub(crate) fn vectors(file: &str) -> Option<Value> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..", "/../shared/vectors"));
    let folder = std::env::var_os("EINMAL_VECTORS").map_or_else(beside, PathBuf::from);
    if !folder.is_dir() {
        eprintln!("skipped: no vectors at {}", folder.display());
        return None;
    }
    Some(serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap())
}
