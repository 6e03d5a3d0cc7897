//! What we pack opens, for every curve, protection, encryption and DID method, and proves what was requested.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking too")]

mod common;

use common::{AGREEMENT_KINDS, DEVICES, NOW, Party, SIGNING_KINDS, Stage, World, agreement, did, message};
use einmal_did::{DidUrl, Endpoint, Relationship, Resolver, Service, did_key, peer};
use einmal_didcomm::{
    Attachment, ContentEncryption, LayerPolicy, Message, MessageId, MessageType, OpenError, Opened,
    PackError, PackOptions, ReturnRoute, SenderProtection, ThreadId, UnixSeconds,
};
use einmal_keys::{KeyId, KeyKind, Keyring};
use proptest::prelude::*;
use serde_json::{Value, json};

const PROTECTIONS: [SenderProtection; 4] = [
    SenderProtection::Authcrypt,
    SenderProtection::AuthcryptHidden,
    SenderProtection::SignedAnoncrypt,
    SenderProtection::Anoncrypt,
];

fn options(protection: SenderProtection, enc: ContentEncryption, curve: Option<KeyKind>) -> PackOptions {
    let mut options = PackOptions::protecting(protection);
    options.anoncrypt_enc = enc;
    options.curve = curve;
    options
}

/// Checks that `opened` is `sent` and proves exactly what `protection` promises.
fn assert_proves(opened: &Opened, sent: &Message, protection: SenderProtection) {
    let from = sent.from.as_ref().unwrap().canonical();
    let encrypted = matches!(protection, SenderProtection::Authcrypt | SenderProtection::AuthcryptHidden);
    let signed = protection == SenderProtection::SignedAnoncrypt;
    assert_eq!(opened.proof.sender.as_ref().map(|key| &key.did), encrypted.then_some(&from));
    assert_eq!(opened.proof.signer.as_ref().map(|key| &key.did), signed.then_some(&from));
    assert_eq!(opened.is_authenticated(), encrypted || signed);
    if opened.is_authenticated() {
        assert_eq!(&opened.message, sent);
    } else {
        let mut claimed = opened.message.clone();
        claimed.from = opened.claimed_from.clone();
        assert_eq!(&claimed, sent);
    }
}

fn send(world: &World, from: &Party, to: &Party, options: &PackOptions) -> Result<Opened, PackError> {
    let sent = message(&from.did, &to.did);
    let packed = world.pack(&sent, from, to, options)?;
    let opened = world.open(&packed.bytes, to).unwrap();
    assert_proves(&opened, &sent, options.protection);
    assert_eq!(opened.recipient(), Some(&to.did.canonical()));
    Ok(opened)
}

#[test]
fn every_curve_protection_and_encryption_round_trips() {
    let Stage { world, alice, bob } = Stage::new();
    for kind in AGREEMENT_KINDS {
        for protection in PROTECTIONS {
            for enc in ContentEncryption::ALL {
                let opened = send(&world, &alice, &bob, &options(protection, enc, Some(kind))).unwrap();
                let kid = opened.proof.recipient.unwrap().kid;
                assert_eq!(kid.as_str(), bob.kid(&agreement(kind)), "{protection:?} {enc:?}");
            }
        }
    }
}

#[test]
fn what_we_pack_opens_under_the_strict_policy() {
    let Stage { world, alice, bob } = Stage::new();
    for protection in PROTECTIONS {
        let sent = message(&alice.did, &bob.did);
        let packed = world.pack(&sent, &alice, &bob, &PackOptions::protecting(protection)).unwrap();
        let mut context = world.context(&bob.ring);
        context.layers = LayerPolicy::Strict;
        assert_proves(&einmal_didcomm::open(&packed.bytes, &context).unwrap(), &sent, protection);
    }
}

#[test]
fn every_kind_of_authentication_key_signs() {
    let world = World::new();
    let bob = world.party("bob", 2);
    for kind in SIGNING_KINDS {
        let keys = [("k".to_owned(), kind, Relationship::Authentication)];
        let alice = world.party_with("did:example:signer", 5, keys);
        let sent = message(&alice.did, &bob.did);
        let bytes = world.packer(&alice.ring).sign(&sent).unwrap();
        let opened = world.open(&bytes, &bob).unwrap();
        assert_eq!(opened.proof.signer.unwrap().kid.as_str(), alice.kid("k"));
        assert_eq!((opened.proof.recipient, &opened.message), (None, &sent));
        let sealed = options(SenderProtection::SignedAnoncrypt, ContentEncryption::A256Gcm, None);
        assert!(send(&world, &alice, &bob, &sealed).unwrap().is_authenticated());
    }
}

#[test]
fn authcrypt_takes_the_recipients_first_curve_that_the_sender_has_too() {
    let world = World::new();
    let p384 = [("k".to_owned(), KeyKind::P384, Relationship::KeyAgreement)];
    let alice = world.party_with("did:example:p384", 5, p384);
    let bob = world.party("bob", 2);
    let opened = send(&world, &alice, &bob, &PackOptions::default()).unwrap();
    assert_eq!(opened.proof.recipient.unwrap().kid.as_str(), bob.kid("agree-p-384"));
    let none = options(SenderProtection::Authcrypt, ContentEncryption::default(), Some(KeyKind::X25519));
    let error = send(&world, &alice, &bob, &none).unwrap_err();
    assert_eq!(error, PackError::NoCommonCurve { recipient: bob.did.clone() });
}

#[test]
fn each_device_alone_opens_what_is_sent_to_all_of_them() {
    let world = World::new();
    let alice = world.party("alice", 1);
    let bob = world.owner_of_devices("bob", 2);
    for protection in PROTECTIONS {
        let sent = message(&alice.did, &bob.did);
        let packed = world.pack(&sent, &alice, &bob, &PackOptions::protecting(protection)).unwrap();
        for name in DEVICES {
            let ring = Keyring::new();
            ring.insert(KeyId::new(bob.kid(name)), bob.secret(name));
            let opened = einmal_didcomm::open(&packed.bytes, &world.context(&ring)).unwrap();
            assert_proves(&opened, &sent, protection);
            assert_eq!(opened.proof.recipient.unwrap().kid.as_str(), bob.kid(name));
        }
        let nobody = Keyring::new();
        let error = einmal_didcomm::open(&packed.bytes, &world.context(&nobody)).unwrap_err();
        assert_eq!(error, OpenError::NotForUs);
    }
}

/// A did:key whose X25519 key is derived from, or is, the key itself.
fn did_key_party(kind: KeyKind, seed: u64) -> Party {
    let key = common::secret(kind, seed);
    let mut party = Party::new(did_key(&key.public_key()));
    let own = party.did.clone();
    party.hold(&own, &key.public_key().to_multikey(), kind, seed);
    party
}

#[test]
fn did_key_parties_on_every_agreement_curve_understand_each_other() {
    let world = World::new();
    for kind in AGREEMENT_KINDS {
        let (alice, bob) = (did_key_party(kind, 31), did_key_party(kind, 32));
        for protection in
            [SenderProtection::Authcrypt, SenderProtection::AuthcryptHidden, SenderProtection::Anoncrypt]
        {
            send(&world, &alice, &bob, &PackOptions::protecting(protection)).unwrap();
        }
    }
}

fn peer_two_party(seed: u64) -> Party {
    let (agree, sign) = (common::secret(KeyKind::X25519, seed), common::secret(KeyKind::Ed25519, seed + 1));
    let keys =
        [(Relationship::KeyAgreement, agree.public_key()), (Relationship::Authentication, sign.public_key())];
    let mut party = Party::new(peer::two::create(&keys, &[]).unwrap());
    let own = party.did.clone();
    party.hold(&own, "key-1", KeyKind::X25519, seed);
    party.hold(&own, "key-2", KeyKind::Ed25519, seed + 1);
    party
}

/// The party under its long form and under its short form.
fn peer_four_party(seed: u64) -> (Party, Party) {
    let mut forms = Vec::new();
    for _ in 0..2 {
        let keys = [("agree", KeyKind::X25519, seed), ("sign", KeyKind::Ed25519, seed + 1)];
        let public = |index: usize| common::secret(keys[index].1, keys[index].2).public_key();
        let input = peer::four::InputDocument::new()
            .add_method("agree", public(0), &[Relationship::KeyAgreement])
            .add_method("sign", public(1), &[Relationship::Authentication]);
        let made = input.create().unwrap();
        let mut party = Party::new(if forms.is_empty() { made.long } else { made.short.clone() });
        for (fragment, kind, seed) in keys {
            party.hold(&made.short, fragment, kind, seed);
        }
        forms.push(party);
    }
    let short = forms.pop().unwrap();
    (forms.pop().unwrap(), short)
}

#[test]
fn did_peer_two_parties_understand_each_other() {
    let world = World::new();
    let (alice, bob) = (peer_two_party(41), peer_two_party(51));
    for protection in PROTECTIONS {
        send(&world, &alice, &bob, &PackOptions::protecting(protection)).unwrap();
    }
}

#[test]
fn did_peer_four_parties_understand_each_other_in_long_and_short_form() {
    let world = World::new();
    let (alice, alice_short) = peer_four_party(61);
    let (bob, bob_short) = peer_four_party(71);
    for protection in PROTECTIONS {
        let options = PackOptions::protecting(protection);
        // The long forms first: they teach the resolver what the short ones mean.
        send(&world, &alice, &bob, &options).unwrap();
        let opened = send(&world, &alice_short, &bob_short, &options).unwrap();
        assert_eq!(opened.recipient(), Some(&bob_short.did));
        send(&world, &alice_short, &bob, &options).unwrap();
        send(&world, &alice, &bob_short, &options).unwrap();
    }
}

#[test]
fn short_form_of_a_stranger_is_refused_until_the_long_form_was_seen() {
    let (sender_side, receiver_side) = (World::new(), World::new());
    let (alice, alice_short) = peer_four_party(61);
    let (bob, _) = peer_four_party(71);
    sender_side.resolver.learn(&alice.did).unwrap();
    let sent = message(&alice_short.did, &bob.did);
    let packer = sender_side.packer(&alice_short.ring);
    let packed = packer.pack(&sent, &bob.did, &PackOptions::default()).unwrap();
    assert!(matches!(
        receiver_side.open(&packed.bytes, &bob).unwrap_err(),
        OpenError::Resolve { source: einmal_did::ResolveError::NotFound { .. }, .. }
    ));
    receiver_side.resolver.learn(&alice.did).unwrap();
    assert_proves(&receiver_side.open(&packed.bytes, &bob).unwrap(), &sent, SenderProtection::Authcrypt);
}

#[test]
fn canonical_did_is_proved_and_the_spelling_of_from_is_kept() {
    let world = World::new();
    let (alice, alice_short) = peer_four_party(61);
    let (bob, bob_short) = peer_four_party(71);
    let opened = send(&world, &alice, &bob, &PackOptions::default()).unwrap();
    assert_eq!((opened.sender(), opened.recipient()), (Some(&alice_short.did), Some(&bob_short.did)));
    assert_eq!(opened.message.from, Some(alice.did));
}

#[test]
fn attachments_and_all_headers_arrive_as_they_were_sent() {
    let Stage { world, alice, bob } = Stage::new();
    let mut sent = message(&alice.did, &bob.did);
    sent.thid = Some(ThreadId::try_from("t-1").unwrap());
    sent.pthid = Some(ThreadId::try_from("p-1").unwrap());
    sent.created_time = Some(NOW);
    sent.expires_time = Some(NOW.plus(60));
    sent.please_ack = vec![String::new()];
    sent.ack = vec![MessageId::try_from("m-0").unwrap()];
    sent.return_route = Some(ReturnRoute::Thread);
    sent.return_route_thread = Some(ThreadId::try_from("t-1").unwrap());
    sent.extra.insert("lang".into(), json!("de"));
    let mut bytes =
        Attachment::base64("b", &[0, 1, 254, 255]).with_format("x/y@1").with_media_type("image/png");
    bytes.sign(&alice.ring, &KeyId::new(alice.kid("auth-ed25519"))).unwrap();
    sent.attachments = vec![Attachment::json("a", json!({"n": [1, 2.5, null, "ü"]})), bytes];
    for protection in PROTECTIONS {
        let options = PackOptions::protecting(protection);
        let packed = world.pack(&sent, &alice, &bob, &options).unwrap();
        let opened = world.open(&packed.bytes, &bob).unwrap();
        assert_proves(&opened, &sent, protection);
        assert_eq!(opened.message.attachments[1].bytes().unwrap(), [0, 1, 254, 255]);
        let signer = opened.message.attachments[1].verify_signature(&world.resolver).unwrap();
        assert_eq!(signer.0.as_str(), alice.kid("auth-ed25519"));
    }
}

#[test]
fn message_too_large_for_peers_is_not_packed() {
    let Stage { world, alice, bob } = Stage::new();
    for (size, protection) in
        [(800_000, SenderProtection::Authcrypt), (600_000, SenderProtection::AuthcryptHidden)]
    {
        let mut sent = message(&alice.did, &bob.did);
        sent.body.insert("content".into(), json!("x".repeat(size)));
        let packed = world.pack(&sent, &alice, &bob, &PackOptions::protecting(protection));
        assert!(matches!(packed, Err(PackError::TooLarge { .. })), "{protection:?}");
    }
}

#[test]
fn signing_without_a_held_authentication_key_fails() {
    let Stage { world, alice, bob } = Stage::new();
    let error = world.packer(&bob.ring).sign(&message(&alice.did, &bob.did)).unwrap_err();
    assert_eq!(error, PackError::NoSigningKey { did: alice.did });
}

#[test]
fn protected_header_hides_the_sender_only_where_asked() {
    let Stage { world, alice, bob } = Stage::new();
    for protection in PROTECTIONS {
        let sent = message(&alice.did, &bob.did);
        let packed = world.pack(&sent, &alice, &bob, &PackOptions::protecting(protection)).unwrap();
        let jwe: Value = serde_json::from_slice(&packed.bytes).unwrap();
        let header = einmal_keys::base64url_decode(jwe["protected"].as_str().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header["skid"].is_string(), protection == SenderProtection::Authcrypt);
        assert_eq!(header["apu"].is_string(), protection == SenderProtection::Authcrypt);
        assert_eq!(header["typ"], "application/didcomm-encrypted+json");
        let members: Vec<&String> = jwe.as_object().unwrap().keys().collect();
        assert_eq!(members, ["ciphertext", "iv", "protected", "recipients", "tag"]);
    }
}

#[test]
fn two_packings_of_one_message_share_no_ephemeral_key_iv_or_wrapped_key() {
    let Stage { world, alice, bob } = Stage::new();
    let sent = message(&alice.did, &bob.did);
    let pack = || -> Value {
        let packed = world.pack(&sent, &alice, &bob, &PackOptions::default()).unwrap();
        serde_json::from_slice(&packed.bytes).unwrap()
    };
    let (first, second) = (pack(), pack());
    for member in ["/protected", "/iv", "/ciphertext", "/tag", "/recipients/0/encrypted_key"] {
        assert_ne!(first.pointer(member), second.pointer(member), "{member}");
    }
}

#[test]
fn documents_with_a_service_keep_their_keys() {
    let world = World::new();
    let endpoint = Service::didcomm("#s", vec![Endpoint::didcomm("https://a.example")]);
    let key = common::secret(KeyKind::X25519, 9).public_key();
    let two = peer::two::create(&[(Relationship::KeyAgreement, key)], &[endpoint]).unwrap();
    let document = world.resolver.resolve(&two).unwrap();
    let kid = DidUrl::new(&two, "key-1").unwrap();
    assert!(document.method_for(Relationship::KeyAgreement, &kid).is_some());
}

fn any_id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._~-]{1,64}"
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn any_message()(
        id in any_id(), thid in prop::option::of(any_id()), pthid in prop::option::of(any_id()),
        created in prop::option::of(0..u64::MAX), expires in prop::option::of(NOW.0 + 1..u64::MAX),
        body in prop::collection::hash_map(".{0,10}", any_json(), 0..4),
        json in prop::option::of(any_json()), bytes in prop::option::of(prop::collection::vec(any::<u8>(), 0..64)),
    ) -> Message {
        let kind = MessageType::parse("https://didcomm.org/basicmessage/2.0/message").unwrap();
        let mut message = Message::new(MessageId::try_from(id).unwrap(), kind);
        message.from = Some(did("did:example:alice"));
        message.to = vec![did("did:example:bob")];
        message.thid = thid.map(|id| ThreadId::try_from(id).unwrap());
        message.pthid = pthid.map(|id| ThreadId::try_from(id).unwrap());
        message.created_time = created.map(UnixSeconds);
        message.expires_time = expires.map(UnixSeconds);
        message.body = body.into_iter().collect();
        message.attachments.extend(json.map(|value| Attachment::json("j", value)));
        message.attachments.extend(bytes.map(|bytes| Attachment::base64("b", &bytes)));
        message
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_message_round_trips(sent in any_message(), protection in 0..4usize, kind in 0..4usize, enc in 0..3usize) {
        let Stage { world, alice, bob } = Stage::new();
        let options = options(PROTECTIONS[protection], ContentEncryption::ALL[enc], Some(AGREEMENT_KINDS[kind]));
        let packed = world.pack(&sent, &alice, &bob, &options).unwrap();
        assert_proves(&world.open(&packed.bytes, &bob).unwrap(), &sent, PROTECTIONS[protection]);
    }
}

/// One envelope of each kind, made once, because the properties below change them many times.
struct Envelopes {
    world: World,
    bob: Party,
    made: Vec<Vec<u8>>,
}

impl Envelopes {
    fn new() -> Self {
        let Stage { world, alice, bob } = Stage::new();
        let sent = message(&alice.did, &bob.did);
        let packer = world.packer(&alice.ring);
        let mut made = vec![packer.sign(&sent).unwrap()];
        for protection in PROTECTIONS {
            made.push(packer.pack(&sent, &bob.did, &PackOptions::protecting(protection)).unwrap().bytes);
        }
        Self { world, bob, made }
    }
}

/// Index of the signed, unencrypted envelope in [`Envelopes::made`].
const SIGNED: usize = 0;

impl Envelopes {
    /// Whether a changed copy of an envelope is refused or opens to the same.
    ///
    /// In the latter case an encrypted one may differ in whitespace only.
    fn bears(&self, which: usize, bent: &[u8]) -> bool {
        let Ok(opened) = self.world.open(bent, &self.bob) else { return true };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let unmeant = which == SIGNED || parse(bent) == parse(&self.made[which]);
        unmeant && opened == self.world.open(&self.made[which], &self.bob).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn envelope_with_one_changed_bit_is_never_accepted_as_something_else(
        edits in prop::collection::vec((0..5usize, any::<prop::sample::Index>(), 0..8u32), 40)
    ) {
        let envelopes = Envelopes::new();
        for (which, place, bit) in edits {
            let mut bent = envelopes.made[which].clone();
            let at = place.index(bent.len());
            bent[at] ^= 1 << bit;
            prop_assert!(envelopes.bears(which, &bent), "{}", String::from_utf8_lossy(&bent));
        }
    }

    #[test]
    fn envelope_with_a_changed_cut_or_added_byte_is_never_accepted_as_something_else(
        edits in prop::collection::vec((0..5usize, any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 40)
    ) {
        let envelopes = Envelopes::new();
        for (which, place, byte, how) in edits {
            let mut bent = envelopes.made[which].clone();
            let at = place.index(bent.len());
            match how {
                0 => bent[at] = byte,
                1 => { bent.remove(at); }
                _ => bent.insert(at, byte),
            }
            prop_assert!(envelopes.bears(which, &bent), "{}", String::from_utf8_lossy(&bent));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let world = World::new();
        let bob = world.party("bob", 2);
        prop_assert!(world.open(&bytes, &bob).is_err());
    }
}

#[test]
fn envelope_without_any_one_of_its_members_is_refused() {
    let envelopes = Envelopes::new();
    for bytes in &envelopes.made {
        let whole: Value = serde_json::from_slice(bytes).unwrap();
        let list = if whole.get("recipients").is_some() { "recipients" } else { "signatures" };
        for member in whole.as_object().unwrap().keys() {
            let mut bent = whole.clone();
            bent.as_object_mut().unwrap().remove(member);
            envelopes.world.refusal(&bent, &envelopes.bob);
        }
        for member in whole[list][0].as_object().unwrap().keys() {
            let mut bent = whole.clone();
            bent[list][0].as_object_mut().unwrap().remove(member);
            let opened = envelopes.world.open_json(&bent, &envelopes.bob);
            assert!(opened.is_err(), "{member}");
        }
    }
}
