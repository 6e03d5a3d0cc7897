//! The exchanges themselves, the same for every peer.

use einmal_didcomm::{
    ContentEncryption, FORWARD_TYPE, Forward, Message, Opened, PackOptions, ProvedKey, SenderProtection,
    UnixSeconds, deliveries, from_prior_jwt,
};
use einmal_keys::KeyKind;
use serde_json::{Value, json};

use crate::{Order, Peer, Stage};

/// When the rotations of these tests were decided.
const DECIDED: u64 = 1_600_000_000;

/// Includes `thid`, because one of the peers adds it if it is absent.
fn plaintext(stage: &Stage) -> Value {
    json!({
        "id": "1234567890", "typ": "application/didcomm-plain+json",
        "type": "https://didcomm.org/basicmessage/2.0/message",
        "from": stage.alice.did.as_str(), "to": [stage.bob.did.as_str()],
        "created_time": 1_516_269_022, "thid": "1234567890", "body": {"content": "Grüß Gott", "numbers": [1, 2.5, null]},
    })
}

fn message(stage: &Stage) -> Message {
    Message::from_value(plaintext(stage)).expect("a message")
}

/// The default order to every peer: authcrypt from Alice to Bob.
fn order<'a>(stage: &'a Stage, message: &'a Value) -> Order<'a> {
    Order {
        message,
        from: Some(stage.alice.did.as_str()),
        signer: None,
        to: stage.bob.did.as_str(),
        enc: "A256CBC-HS512",
        hide_sender: false,
        forward: false,
    }
}

fn kid(key: Option<&ProvedKey>) -> Option<&str> {
    key.map(|key| key.kid.as_str())
}

fn assert_is_message(stage: &Stage, opened: &Opened) {
    let mut whole = opened.message.clone();
    whole.from = whole.from.or(opened.claimed_from.clone());
    assert_eq!(whole, message(stage));
    assert_eq!(opened.recipient(), Some(&stage.bob.did));
}

/// Everything the peer can encrypt opens here and proves its sender.
///
/// # Panics
///
/// If it does not.
pub fn peer_to_us(peer: &impl Peer, stage: &Stage, encs: &[&str], can_hide_sender: bool) {
    let message = plaintext(stage);
    let sender = stage.alice.kid("agree-1");
    for hide_sender in [false, true] {
        if hide_sender && !can_hide_sender {
            continue;
        }
        let packed = peer.pack(&Order { hide_sender, ..order(stage, &message) });
        let opened = stage.open(packed.as_bytes(), &stage.bob);
        assert_is_message(stage, &opened);
        assert_eq!(kid(opened.proof.sender.as_ref()), Some(sender.as_str()));
    }
    for enc in encs {
        let packed = peer.pack(&Order { from: None, enc, ..order(stage, &message) });
        let opened = stage.open(packed.as_bytes(), &stage.bob);
        assert_is_message(stage, &opened);
        assert_eq!(opened.sender(), None);
    }
}

/// Everything we can encrypt opens there and proves its sender.
///
/// # Panics
///
/// If it does not.
pub fn us_to_peer(peer: &impl Peer, stage: &Stage, encs: &[ContentEncryption], can_hide_sender: bool) {
    let sender = stage.alice.kid("agree-1");
    let mut cases = vec![PackOptions::protecting(SenderProtection::Authcrypt)];
    for enc in encs {
        for protection in [SenderProtection::Anoncrypt, SenderProtection::AuthcryptHidden] {
            if protection == SenderProtection::AuthcryptHidden && !can_hide_sender {
                continue;
            }
            let mut options = PackOptions::protecting(protection);
            options.anoncrypt_enc = *enc;
            cases.push(options);
        }
    }
    for options in cases {
        let packed =
            stage.packer(&stage.alice).pack(&message(stage), &stage.bob.did, &options).expect("packs");
        let unpacked = peer.unpack(&String::from_utf8(packed.bytes).expect("JSON"));
        assert_eq!(unpacked.message, plaintext(stage), "{options:?}");
        let expected = (options.protection != SenderProtection::Anoncrypt).then_some(&sender);
        assert_eq!(unpacked.sender.as_ref(), expected, "{options:?}");
        assert_eq!(unpacked.signer, None);
    }
}

/// Signed messages verify on both sides: with the peer's algorithms there, with ours here.
///
/// # Panics
///
/// If they do not.
pub fn signed_both_ways(peer: &impl Peer, stage: &Stage, algorithms: &[&str]) {
    for algorithm in algorithms {
        let signer = stage.alice.kid(algorithm);
        let packed = peer.sign(&plaintext(stage), &signer);
        let opened = stage.open(packed.as_bytes(), &stage.bob);
        assert_eq!(
            (&opened.message, kid(opened.proof.signer.as_ref())),
            (&message(stage), Some(signer.as_str()))
        );
        // We sign with the first authentication key held, so hold only this one.
        let alone = stage.only_holding(&signer);
        let packed = stage.packer(&alone).sign(&message(stage)).expect("signs");
        let unpacked = peer.unpack(&String::from_utf8(packed).expect("JSON"));
        assert_eq!((unpacked.message, unpacked.signer), (plaintext(stage), Some(signer)));
    }
}

/// anoncrypt(sign) both ways and the peer's authcrypt(sign) to us.
///
/// # Panics
///
/// If one is refused.
pub fn sealed_signature_both_ways(peer: &impl Peer, stage: &Stage) {
    let (message_json, signer) = (plaintext(stage), stage.alice.kid("EdDSA"));
    for from in [None, Some(stage.alice.did.as_str())] {
        let packed = peer.pack(&Order { from, signer: Some(&signer), ..order(stage, &message_json) });
        let opened = stage.open(packed.as_bytes(), &stage.bob);
        assert_is_message(stage, &opened);
        assert_eq!(kid(opened.proof.signer.as_ref()), Some(signer.as_str()));
        assert_eq!(opened.proof.sender.is_some(), from.is_some());
    }
    let options = PackOptions::protecting(SenderProtection::SignedAnoncrypt);
    let packed = stage.packer(&stage.alice).pack(&message(stage), &stage.bob.did, &options).expect("packs");
    let unpacked = peer.unpack(&String::from_utf8(packed.bytes).expect("JSON"));
    assert_eq!((unpacked.message, unpacked.sender, unpacked.signer), (message_json, None, Some(signer)));
}

/// A rotation from the mediator's DID to Alice's, announced by either side and proved on the other.
///
/// # Panics
///
/// If it is not proved.
pub fn from_prior_both_ways(peer: &impl Peer, stage: &Stage) {
    let (prior, new) = (&stage.mediator.did, &stage.alice.did);
    let mut sent = plaintext(stage);
    sent["from_prior"] = peer.rotation(json!({"iss": prior.as_str(), "sub": new.as_str(), "iat": DECIDED}));
    let packed = peer.pack(&order(stage, &sent));
    let rotation = stage.open(packed.as_bytes(), &stage.bob).proof.rotation.expect("a rotation");
    assert_eq!((&rotation.prior, rotation.new.as_ref()), (prior, Some(new)));
    assert_eq!(rotation.issued_at, UnixSeconds(DECIDED));

    let ours = stage.packer(&stage.mediator);
    let jwt =
        from_prior_jwt(prior, Some(new), UnixSeconds(DECIDED), ours.custody, ours.resolver).expect("signs");
    let mut sent = message(stage);
    sent.from_prior = Some(jwt);
    let packed =
        stage.packer(&stage.alice).pack(&sent, &stage.bob.did, &PackOptions::default()).expect("packs");
    let unpacked = peer.unpack(&String::from_utf8(packed.bytes).expect("JSON"));
    assert_eq!(unpacked.sender, Some(stage.alice.kid("agree-1")));
    assert_eq!(unpacked.rotation_key, Some(stage.mediator.kid("EdDSA")));
}

/// The peer wraps for Bob's mediator, played by us; then we wrap, and the peer is mediator and recipient.
///
/// # Panics
///
/// If a hop fails.
pub fn forwarded_by_peer(peer: &impl Peer, stage: &Stage) {
    let message_json = plaintext(stage);
    let packed = peer.pack(&Order { forward: true, ..order(stage, &message_json) });
    let opened = stage.open(packed.as_bytes(), &stage.mediator);
    let forward = Forward::from_message(&opened.message).expect("a forward");
    assert_eq!(forward.next, stage.bob.did);
    let [payload] = &forward.payloads[..] else { panic!("one payload") };
    assert_is_message(stage, &stage.open(payload, &stage.bob));

    let packer = stage.packer(&stage.alice);
    let packed = packer.pack(&message(stage), &stage.bob.did, &PackOptions::default()).expect("packs");
    let way = deliveries(&packer, &packed, None).expect("an endpoint").remove(0);
    let unpacked = peer.unpack(&String::from_utf8(way.bytes).expect("JSON"));
    // Peers that also hold the keys of `next` unwrap at once.
    let inner = if unpacked.message["type"] == json!(FORWARD_TYPE) {
        assert_eq!(unpacked.message["body"]["next"], json!(stage.bob.did.as_str()));
        peer.unpack(&unpacked.message["attachments"][0]["data"]["json"].to_string())
    } else {
        unpacked
    };
    assert_eq!((inner.message, inner.sender), (message_json, Some(stage.alice.kid("agree-1"))));
}

/// All curves of DIDComm.
pub const CURVES: [KeyKind; 4] = [KeyKind::X25519, KeyKind::P256, KeyKind::P384, KeyKind::P521];
