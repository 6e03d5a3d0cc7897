//! What deployed peers do despite the specifications: each habit that is accepted, and how far.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;
mod forge;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common::{DEVICES, Party, Stage, World, X, agreement, message};
use einmal_did::{Did, DidDocument, Relationship, ResolveError, Resolver, peer};
use einmal_didcomm::{EnvelopeError, OpenContext, OpenError, PackOptions, SenderProtection, open};
use einmal_keys::{
    Custody, CustodyError, KeyId, KeyKind, Keyring, PeerKeyUse, PublicKey, SecretKey, SharedSecret,
    base64url_decode, base64url_encode,
};
use forge::{Forge, ForgedSignature, signed};
use serde_json::{Value, json};

impl Stage {
    fn assert_opens(&self, envelope: &Value) {
        let opened = self.world.open_json(envelope, &self.bob).unwrap();
        assert_eq!(opened.recipient(), Some(&self.bob.did), "{envelope}");
    }
}

/// PyPI didcomm-messaging, authcrypt; also the short form, parameters and the old JWM.
#[test]
fn foreign_spellings_of_the_media_type_are_accepted() {
    let stage = Stage::new();
    for typ in [
        "application/didcomm+encrypted",
        "didcomm-encrypted+json",
        "application/didcomm-encrypted+json; charset=utf-8",
        "Application/DIDComm-Encrypted+JSON",
        "JWM",
    ] {
        stage.assert_opens(&stage.authcrypt().with("typ", json!(typ)).seal());
    }
}

#[test]
fn missing_media_type_is_accepted_in_every_layer_and_always_sent() {
    let stage = Stage::new();
    let mut plaintext = stage.plaintext();
    plaintext.as_object_mut().unwrap().remove("typ");
    let signature = stage.signature().with("typ", Value::Null);
    let jws = signed(plaintext, &[signature]);
    let envelope = Forge::authcrypt(jws, &stage.alice, X, &stage.bob, &[X]).with("typ", Value::Null).seal();
    stage.assert_opens(&envelope);
    assert_eq!(stage.plaintext()["typ"], "application/didcomm-plain+json");
}

/// PyPI didcomm-messaging, anoncrypt.
#[test]
fn ephemeral_key_in_the_header_of_the_only_recipient_is_accepted_and_never_sent() {
    let stage = Stage::new();
    let forged = Forge::anoncrypt(stage.plaintext(), &stage.bob, &[X]);
    let epk = forged.header["epk"].clone();
    let mut envelope = forged.with("epk", Value::Null).seal();
    envelope["recipients"][0]["header"]["epk"] = epk;
    stage.assert_opens(&envelope);

    let options = PackOptions::protecting(SenderProtection::Anoncrypt);
    let packed = stage.world.pack(&stage.message(), &stage.alice, &stage.bob, &options).unwrap();
    let packed: Value = serde_json::from_slice(&packed.bytes).unwrap();
    assert_eq!(packed["recipients"][0]["header"].as_object().unwrap().len(), 1, "`kid` alone");
}

/// SICPA libraries and all published vectors.
#[test]
fn key_id_of_a_signature_is_read_in_both_headers_and_written_unprotected_as_the_vectors_have_it() {
    let stage = Stage::new();
    let signature = stage.signature().with_unprotected_kid();
    let envelope = signed(stage.plaintext(), &[signature]);
    assert!(stage.world.open_json(&envelope, &stage.bob).unwrap().proof.signer.is_some());

    let sent = stage.world.packer(&stage.alice.ring).sign(&stage.message()).unwrap();
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    let protected = base64url_decode(sent["signatures"][0]["protected"].as_str().unwrap()).unwrap();
    let protected: Value = serde_json::from_slice(&protected).unwrap();
    assert!(sent["signatures"][0]["header"]["kid"].is_string());
    assert_eq!(protected.get("kid"), None, "RFC 7515 wants the names in the two headers disjoint");
}

#[test]
fn another_signer_whose_algorithm_nobody_knows_takes_nothing_from_the_senders_signature() {
    let stage = Stage::new();
    let good = ForgedSignature::by(&stage.alice, "auth-ed25519");
    let unknown = ForgedSignature::by(&stage.bob, "auth-ed25519").with("alg", json!("ES384"));
    let envelope = signed(stage.plaintext(), &[good, unknown]);
    assert!(stage.world.open_json(&envelope, &stage.bob).unwrap().proof.signer.is_some());
}

#[test]
fn headers_nobody_knows_may_be_called_as_members_of_envelopes_are() {
    let stage = Stage::new();
    for name in ["payload", "ciphertext"] {
        for value in [json!({"a": 1}), Value::Null] {
            let mut plaintext = stage.plaintext();
            plaintext[name] = value;
            stage.assert_opens(&Forge::authcrypt(plaintext, &stage.alice, X, &stage.bob, &[X]).seal());
        }
    }
}

/// A P-521 key with a coordinate that begins with a zero byte, as half of all coordinates do, and a JWK without it.
fn short_p521(mut seed: u64) -> (SecretKey, Value) {
    loop {
        let key = common::secret(KeyKind::P521, seed);
        let mut jwk = serde_json::to_value(key.public_key().to_jwk()).unwrap();
        let mut cut = false;
        for name in ["x", "y"] {
            let full = base64url_decode(jwk[name].as_str().unwrap()).unwrap();
            assert_eq!(full.len(), 66, "always sent in full");
            let short: Vec<u8> = full.iter().copied().skip_while(|byte| *byte == 0).collect();
            cut |= short.len() < full.len();
            jwk[name] = json!(base64url_encode(short));
        }
        if cut {
            return (key, jwk);
        }
        seed += 1;
    }
}

/// PyPI didcomm over Authlib.
#[test]
fn p521_ephemeral_key_without_its_leading_zeros_is_accepted() {
    let stage = Stage::new();
    let mut forged = Forge::anoncrypt(stage.plaintext(), &stage.bob, &["agree-p-521"]);
    let (epk, short) = short_p521(1000);
    forged.epk = epk;
    stage.assert_opens(&forged.with("epk", short).seal());
}

#[test]
fn p521_sender_key_without_its_leading_zeros_in_its_document_is_accepted() {
    let stage = Stage::new();
    let (key, short) = short_p521(2000);
    let did = common::did("did:example:short");
    let kid = format!("{did}#k");
    let document = json!({
        "id": did.as_str(),
        "verificationMethod": [
            {"id": kid, "type": "JsonWebKey2020", "controller": did.as_str(), "publicKeyJwk": short}
        ],
        "keyAgreement": [kid],
    });
    stage.world.resolver.remember(DidDocument::from_json(&did, document.to_string().as_bytes()).unwrap());
    let plaintext = message(&did, &stage.bob.did).to_value();
    let mut forged = Forge::anoncrypt(plaintext, &stage.bob, &["agree-p-521"])
        .with("alg", json!("ECDH-1PU+A256KW"))
        .with("skid", json!(kid))
        .with("apu", json!(base64url_encode(&kid)));
    forged.sender = Some(key);
    forged.tag_in_kdf = forge::TagInKdf::Prefixed;
    let opened = stage.world.open_json(&forged.seal(), &stage.bob).unwrap();
    assert_eq!(opened.sender(), Some(&did));
}

/// A did:peer:2 of one X25519 and one Ed25519 key.
fn peer_two(seed: u64) -> Party {
    let (agree, sign) = (common::secret(KeyKind::X25519, seed), common::secret(KeyKind::Ed25519, seed + 1));
    let keys =
        [(Relationship::KeyAgreement, agree.public_key()), (Relationship::Authentication, sign.public_key())];
    let mut party = Party::new(peer::two::create(&keys, &[]).unwrap());
    let own = party.did.clone();
    party.hold(&own, "key-1", KeyKind::X25519, seed);
    party.hold(&own, "key-2", KeyKind::Ed25519, seed + 1);
    party
}

/// The names that older software gives the first key of [`peer_two`].
fn older_names(party: &Party) -> [String; 2] {
    let multikey = party.public("key-1").to_multikey();
    let without_base = multikey.strip_prefix('z').unwrap().to_owned();
    [multikey, without_base]
}

#[test]
fn did_peer_two_keys_named_by_multibase_are_found_on_both_sides() {
    let world = World::new();
    let (alice, bob) = (peer_two(100), peer_two(200));
    for (skid, kid) in older_names(&alice).iter().zip(older_names(&bob)) {
        let plaintext = message(&alice.did, &bob.did).to_value();
        let skid = alice.kid(skid);
        let forged = Forge::authcrypt(plaintext, &alice, "key-1", &bob, &["key-1"])
            .with("skid", json!(skid))
            .with("apu", json!(base64url_encode(&skid)))
            .naming(&[&bob.kid(&kid)]);
        let opened = world.open_json(&forged.seal(), &bob).unwrap();
        assert_eq!((opened.sender(), opened.recipient()), (Some(&alice.did), Some(&bob.did)));
    }
}

#[test]
fn did_peer_two_signature_under_an_older_key_name_holds() {
    let world = World::new();
    let (alice, bob) = (peer_two(100), peer_two(200));
    let older = alice.public("key-2").to_multikey();
    let signature = ForgedSignature::by(&alice, "key-2").with("kid", json!(alice.kid(&older[1..])));
    let envelope = signed(message(&alice.did, &bob.did).to_value(), &[signature]);
    assert_eq!(world.open_json(&envelope, &bob).unwrap().sender(), Some(&alice.did));
}

#[test]
fn keys_of_did_peer_two_are_sent_under_their_current_names() {
    let world = World::new();
    let (alice, bob) = (peer_two(100), peer_two(200));
    let sent = message(&alice.did, &bob.did);
    let packed = world.pack(&sent, &alice, &bob, &PackOptions::default()).unwrap();
    let envelope: Value = serde_json::from_slice(&packed.bytes).unwrap();
    assert_eq!(envelope["recipients"][0]["header"]["kid"], json!(bob.kid("key-1")));
}

/// Documents may use relative key ids; an envelope must name its keys in full.
#[test]
fn relative_key_ids_are_accepted_in_documents_and_refused_in_envelopes() {
    let world = World::new();
    let bob = peer_two(200);
    let document = world.resolver.resolve(&bob.did).unwrap();
    assert!(
        document.methods(Relationship::KeyAgreement).next().unwrap().id.as_str().starts_with("did:peer:2")
    );
    let forged = Forge::anoncrypt("{}", &bob, &["key-1"]).naming(&["#key-1"]);
    assert_eq!(world.refusal(&forged.seal(), &bob), OpenError::Envelope(EnvelopeError::RecipientKids));
}

/// Counts key agreements, the main cost of an envelope.
struct Counting<'a> {
    ring: &'a Keyring,
    agreements: AtomicUsize,
}

impl Custody for Counting<'_> {
    fn public_key(&self, kid: &KeyId) -> Option<PublicKey> {
        self.ring.public_key(kid)
    }

    fn sign(&self, kid: &KeyId, message: &[u8]) -> Result<Vec<u8>, CustodyError> {
        self.ring.sign(kid, message)
    }

    fn agree(
        &self,
        kid: &KeyId,
        peer: &PublicKey,
        peer_use: PeerKeyUse,
    ) -> Result<SharedSecret, CustodyError> {
        self.agreements.fetch_add(1, Ordering::Relaxed);
        self.ring.agree(kid, peer, peer_use)
    }
}

#[test]
fn one_key_under_three_names_costs_one_agreement() {
    let world = World::new();
    let bob = peer_two(200);
    let [multikey, short] = older_names(&bob);
    let names = [bob.kid("key-1"), bob.kid(&multikey), bob.kid(&short)];
    let forged = Forge::anoncrypt("{}", &bob, &["key-1"]).naming(&[&names[0], &names[1], &names[2]]);
    let mut envelope = forged.seal();
    for recipient in envelope["recipients"].as_array_mut().unwrap() {
        recipient["encrypted_key"] = json!(base64url_encode([0u8; 72]));
    }
    let counting = Counting { ring: &bob.ring, agreements: AtomicUsize::new(0) };
    let error = open(envelope.to_string().as_bytes(), &world.context(&counting)).unwrap_err();
    assert_eq!((error, counting.agreements.into_inner()), (OpenError::Decrypt, 1));
}

/// Counts look-ups, which may cost much.
struct Asked<'a> {
    resolver: &'a dyn Resolver,
    count: AtomicUsize,
}

impl Resolver for Asked<'_> {
    fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.resolver.resolve(did)
    }
}

#[test]
fn recipient_that_is_nobody_here_is_looked_up_once_whatever_its_keys() {
    let world = World::new();
    let bob = peer_two(200);
    let kids: Vec<String> = (0..64).map(|number| format!("did:example:nobody#{number}")).collect();
    let kids: Vec<&str> = kids.iter().map(String::as_str).collect();
    let forged = Forge::anoncrypt("{}", &bob, &["key-1"]).naming(&kids);
    let asked = Asked { resolver: &world.resolver, count: AtomicUsize::new(0) };
    let context = OpenContext { resolver: &asked, ..world.context(&bob.ring) };
    let error = open(forged.seal().to_string().as_bytes(), &context).unwrap_err();
    assert_eq!((error, asked.count.into_inner()), (OpenError::NotForUs, 1));
}

/// A city that has moved keeps its key for cards under the old name: nobody may have it agree.
#[test]
fn key_that_can_also_sign_opens_nothing_without_a_document_that_lists_it_for_that() {
    let stage = Stage::new();
    for kind in [KeyKind::P256, KeyKind::X25519] {
        let key = agreement(kind);
        let forged = Forge::anoncrypt(stage.plaintext(), &stage.bob, &[&key]).seal().to_string();
        let elsewhere = World::new();
        let opened = open(forged.as_bytes(), &elsewhere.context(&stage.bob.ring));
        match kind {
            KeyKind::X25519 => assert!(opened.is_ok()),
            _ => assert_eq!(opened.unwrap_err(), OpenError::NotForUs),
        }
        assert!(open(forged.as_bytes(), &stage.world.context(&stage.bob.ring)).is_ok());
    }
}

/// PyPI didcomm-messaging hashes the key ids for `apv` in the order it finds them.
#[test]
fn recipients_are_listed_in_the_order_of_their_key_ids() {
    let world = World::new();
    let alice = world.party("alice", 1);
    let bob = world.owner_of_devices("bob", 2);
    let sent = message(&alice.did, &bob.did);
    let packed = world.pack(&sent, &alice, &bob, &PackOptions::default()).unwrap();
    let packed: Value = serde_json::from_slice(&packed.bytes).unwrap();
    let listed = packed["recipients"].as_array().unwrap().iter().map(|one| one["header"]["kid"].clone());
    let mut sorted = DEVICES;
    sorted.sort_unstable();
    let expected = sorted.map(|name| json!(bob.kid(name)));
    assert_eq!(listed.collect::<Vec<_>>(), expected);
}

/// Several encoders write absent headers as `null`.
#[test]
fn headers_that_are_null_count_as_absent() {
    let stage = Stage::new();
    let mut plaintext = stage.plaintext();
    for header in
        ["typ", "thid", "pthid", "created_time", "expires_time", "attachments", "from_prior", "ack", "body"]
    {
        plaintext[header] = Value::Null;
    }
    stage.assert_opens(&Forge::authcrypt(plaintext, &stage.alice, X, &stage.bob, &[X]).seal());
}

/// Veramo.
#[test]
fn authcrypt_without_apv_and_with_gcm_is_refused_with_the_reason() {
    let stage = Stage::new();
    stage.refused(&stage.authcrypt().with("apv", Value::Null).seal(), EnvelopeError::Apv);
    stage.refused(&stage.authcrypt().with("enc", json!("A256GCM")).seal(), EnvelopeError::Algorithm);
}

/// In a first message, `from` may hold the long form of a did:peer:4 while its key ids use the short form.
#[test]
fn long_form_in_from_is_enough_for_a_signature_named_by_the_short_form() {
    let world = World::new();
    let bob = world.party("bob", 2);
    let key = common::secret(KeyKind::Ed25519, 300);
    let input =
        peer::four::InputDocument::new().add_method("k", key.public_key(), &[Relationship::Authentication]);
    let made = input.create().unwrap();
    let mut alice = Party::new(made.short.clone());
    alice.hold(&made.short, "k", KeyKind::Ed25519, 300);
    let envelope =
        |from: &Did| signed(message(from, &bob.did).to_value(), &[ForgedSignature::by(&alice, "k")]);
    let source = ResolveError::NotFound { did: made.short.clone() };
    let unknown = OpenError::Resolve { did: made.short.clone(), source };
    assert_eq!(world.refusal(&envelope(&made.short), &bob), unknown);
    let opened = world.open_json(&envelope(&made.long), &bob).unwrap();
    assert_eq!((opened.sender(), opened.message.from.as_ref()), (Some(&made.short), Some(&made.long)));
}

#[test]
fn long_form_in_from_and_short_form_in_the_key_ids_name_the_same_sender() {
    let world = World::new();
    let bob = world.party("bob", 2);
    let key = common::secret(KeyKind::X25519, 300);
    let input =
        peer::four::InputDocument::new().add_method("k", key.public_key(), &[Relationship::KeyAgreement]);
    let made = input.create().unwrap();
    world.resolver.learn(&made.long).unwrap();
    for (named, from) in [(&made.short, &made.long), (&made.long, &made.short)] {
        let mut alice = Party::new(named.clone());
        alice.hold(&made.short, "k", KeyKind::X25519, 300);
        let forged = Forge::authcrypt(message(from, &bob.did).to_value(), &alice, "k", &bob, &[X]);
        let opened = world.open_json(&forged.seal(), &bob).unwrap();
        assert_eq!((opened.sender(), opened.message.from.as_ref()), (Some(&made.short), Some(from)));
    }
}
