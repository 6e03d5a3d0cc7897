//! The Python library `didcomm-messaging` 0.1.1 with did:peer:2 and Askar: authcrypt and anoncrypt, both ways.

use einmal_did::{Did, LocalResolver, Relationship, peer};
use einmal_didcomm::{
    ContentEncryption, LayerPolicy, Message, OpenContext, OpenError, Opened, PackOptions, Packer,
    SenderProtection, UnixSeconds, open,
};
use einmal_interop::{Order, Peer, PythonPeer};
use einmal_keys::{Jwk, KeyId, KeyKind, Keyring, SecretKey, SystemEntropy};
use serde_json::{Value, json};

struct Party {
    did: Did,
    ring: Keyring,
    secrets: Vec<(String, Jwk)>,
}

/// A did:peer:2 with one X25519 key per device, and one Ed25519 key.
fn party(devices: usize) -> Party {
    let kinds: Vec<KeyKind> =
        std::iter::repeat_n(KeyKind::X25519, devices).chain([KeyKind::Ed25519]).collect();
    let secrets: Vec<SecretKey> =
        kinds.iter().map(|kind| SecretKey::generate(*kind, &SystemEntropy).unwrap()).collect();
    let purpose = |kind: KeyKind| match kind {
        KeyKind::X25519 => Relationship::KeyAgreement,
        _ => Relationship::Authentication,
    };
    let keys: Vec<_> = secrets.iter().map(|key| (purpose(key.kind()), key.public_key())).collect();
    let did = peer::two::create(&keys, &[]).unwrap();
    let kid = |index: usize| format!("{did}#key-{}", index + 1);
    let exported = secrets.iter().enumerate().map(|(index, key)| (kid(index), key.to_jwk())).collect();
    let ring = Keyring::new();
    for (index, key) in secrets.into_iter().enumerate() {
        ring.insert(KeyId::new(kid(index)), key);
    }
    Party { did, ring, secrets: exported }
}

fn plaintext(from: &Party, to: &Party) -> Value {
    json!({"id": "1", "typ": "application/didcomm-plain+json", "type": "https://didcomm.org/empty/1.0/empty",
        "body": {"a": "ü"}, "from": from.did.as_str(), "to": [to.did.as_str()]})
}

fn read(packed: &[u8], party: &Party) -> Result<Opened, OpenError> {
    let context = OpenContext {
        custody: &party.ring,
        resolver: &LocalResolver::new(),
        now: UnixSeconds(1_700_000_000),
        accept_plaintext: false,
        layers: LayerPolicy::Strict,
    };
    open(packed, &context)
}

#[test]
fn authcrypt_and_anoncrypt_of_the_peer_open_here() {
    let (alice, bob) = (party(1), party(1));
    let Some(peer) = PythonPeer::start_messaging(alice.secrets.clone()) else { return };
    let message = plaintext(&alice, &bob);
    for from in [Some(alice.did.as_str()), None] {
        let order = Order {
            message: &message,
            from,
            signer: None,
            to: bob.did.as_str(),
            enc: "",
            hide_sender: false,
            forward: false,
        };
        let opened = read(peer.pack(&order).as_bytes(), &bob).unwrap();
        assert_eq!(opened.sender().map(Did::as_str), from);
        assert_eq!(opened.message.body["a"], "ü");
    }
}

#[test]
fn what_we_pack_for_one_device_or_several_opens_there() {
    for devices in [1, 3] {
        let (alice, bob) = (party(1), party(devices));
        let Some(peer) = PythonPeer::start_messaging(bob.secrets.clone()) else { return };
        let resolver = LocalResolver::new();
        let packer = Packer { custody: &alice.ring, resolver: &resolver, entropy: &SystemEntropy };
        let message = Message::from_value(plaintext(&alice, &bob)).unwrap();
        let mut cases = vec![PackOptions::protecting(SenderProtection::Authcrypt)];
        for enc in ContentEncryption::ALL {
            let mut options = PackOptions::protecting(SenderProtection::Anoncrypt);
            options.anoncrypt_enc = enc;
            cases.push(options);
        }
        for options in cases {
            let packed = packer.pack(&message, &bob.did, &options).unwrap();
            let unpacked = peer.unpack(&String::from_utf8(packed.bytes).unwrap());
            assert_eq!(unpacked.message, plaintext(&alice, &bob), "{options:?}");
            let sender =
                (options.protection == SenderProtection::Authcrypt).then(|| format!("{}#key-1", alice.did));
            assert_eq!(unpacked.sender, sender, "{options:?}");
        }
    }
}
