//! The crate `affinidi-messaging-didcomm` 0.15: every curve, its only encryption, signatures, in both directions.

use affinidi_crypto::jose::key_agreement::{Curve, PrivateKeyAgreement, PublicKeyAgreement};
use affinidi_messaging_didcomm::{
    Message, SenderKey,
    jwe::{decrypt::authcrypt_sender_kid, encrypt},
    jws::{
        sign::{JwsSigner, sign_multi},
        verify::{SignerKey, VerifyKey},
    },
    message::{pack, unpack},
};
use einmal_didcomm::ContentEncryption;
use einmal_interop::{
    CURVES, Order, Peer, Stage, Unpacked, peer_to_us, sealed_signature_both_ways, signed_both_ways,
    us_to_peer,
};
use einmal_keys::{Jwk, KeyKind, PublicKey, SecretKey};
use serde_json::Value;

struct Affinidi(Vec<(String, Jwk)>);

impl Affinidi {
    fn new(stage: &Stage) -> Self {
        Self(stage.parties().into_iter().flat_map(|party| party.secrets.clone()).collect())
    }

    fn secret(&self, kid: &str) -> SecretKey {
        let (_, jwk) = self.0.iter().find(|(name, _)| name == kid).unwrap();
        SecretKey::from_jwk(jwk).unwrap()
    }

    fn agreement_key(&self, kid: &str) -> PrivateKeyAgreement {
        let key = self.secret(kid);
        PrivateKeyAgreement::from_raw_bytes(curve(key.kind()), &key.to_bytes()).unwrap()
    }

    fn verify_key(&self, kid: &str) -> VerifyKey {
        let key: PublicKey = self.secret(kid).public_key();
        match key.kind() {
            KeyKind::Ed25519 => VerifyKey::Ed25519(key.to_compressed().try_into().unwrap()),
            KeyKind::P256 => VerifyKey::P256(key.to_compressed()),
            _ => VerifyKey::Secp256k1(key.to_compressed()),
        }
    }
}

fn curve(kind: KeyKind) -> Curve {
    match kind {
        KeyKind::P256 => Curve::P256,
        KeyKind::P384 => Curve::P384,
        KeyKind::P521 => Curve::P521,
        _ => Curve::X25519,
    }
}

fn message(value: &Value) -> Message {
    serde_json::from_value(value.clone()).unwrap()
}

/// Without empty headers, as a message is sent.
fn value(message: &Message) -> Value {
    serde_json::to_value(message).unwrap()
}

impl Peer for Affinidi {
    fn pack(&self, order: &Order<'_>) -> String {
        let kids = [format!("{}#agree-1", order.to), format!("{}#agree-2", order.to)];
        let keys = kids.clone().map(|kid| self.agreement_key(&kid).public_key());
        let recipients: Vec<(&str, &PublicKeyAgreement)> =
            kids.iter().map(String::as_str).zip(&keys).collect();
        let plaintext = match order.signer {
            Some(signer) => self.sign(order.message, signer).into_bytes(),
            None => message(order.message).to_json().unwrap(),
        };
        let Some(from) = order.from else { return encrypt::anoncrypt(&plaintext, &recipients).unwrap() };
        let skid = format!("{from}#agree-1");
        encrypt::authcrypt(&plaintext, &skid, &self.agreement_key(&skid), &recipients).unwrap()
    }

    fn sign(&self, value: &Value, kid: &str) -> String {
        let key = self.secret(kid);
        let private: &[u8; 32] = &key.to_bytes().as_slice().try_into().unwrap();
        let signer = match key.kind() {
            KeyKind::Ed25519 => JwsSigner::Ed25519 { kid, private },
            KeyKind::P256 => JwsSigner::P256 { kid, private },
            _ => JwsSigner::Secp256k1 { kid, private },
        };
        sign_multi(&message(value).to_json().unwrap(), &[signer]).unwrap()
    }

    fn unpack(&self, packed: &str) -> Unpacked {
        let envelope: Value = serde_json::from_str(packed).unwrap();
        let alice = "did:example:alice";
        // The library must be told the signer; our envelope names the key in the unprotected header.
        let signer = envelope["signatures"][0]["header"]["kid"].as_str().map(str::to_owned);
        let signer = signer.unwrap_or_else(|| format!("{alice}#EdDSA"));
        let verify = self.verify_key(&signer);
        let signer = SignerKey::new(&signer, &verify);
        let result = if envelope.get("recipients").is_some() {
            let recipient = envelope["recipients"][1]["header"]["kid"].as_str().unwrap();
            let secret = self.agreement_key(recipient);
            let skid = authcrypt_sender_kid(packed).unwrap();
            let public = skid.as_ref().map(|skid| self.agreement_key(skid).public_key());
            let sender = skid.as_deref().zip(public.as_ref()).map(|(skid, key)| SenderKey::new(skid, key));
            unpack::unpack_bound(packed, Some(recipient), Some(&secret), sender, Some(signer))
        } else {
            unpack::unpack_bound(packed, None, None, None, Some(signer))
        };
        match result.unwrap() {
            unpack::UnpackResult::Encrypted { message, sender_kid, signer_kid, .. } => Unpacked {
                message: value(&message),
                sender: sender_kid,
                signer: signer_kid,
                rotation_key: None,
            },
            unpack::UnpackResult::Signed { message, signer_kid } => {
                Unpacked { message: value(&message), sender: None, signer: signer_kid, rotation_key: None }
            }
            _ => panic!("neither encrypted nor signed"),
        }
    }
}

#[test]
fn every_curve_goes_both_ways() {
    for kind in CURVES {
        let stage = Stage::new(kind);
        let peer = Affinidi::new(&stage);
        // The library supports neither other encryptions nor anoncrypt(authcrypt).
        peer_to_us(&peer, &stage, &["A256CBC-HS512"], false);
        us_to_peer(&peer, &stage, &[ContentEncryption::A256CbcHs512], false);
    }
}

#[test]
fn signatures_of_every_algorithm_go_both_ways() {
    let stage = Stage::new(KeyKind::X25519);
    let peer = Affinidi::new(&stage);
    signed_both_ways(&peer, &stage, &["EdDSA", "ES256", "ES256K"]);
    sealed_signature_both_ways(&peer, &stage);
}

#[test]
fn packing_by_its_own_front_door_opens_here() {
    let stage = Stage::new(KeyKind::X25519);
    let peer = Affinidi::new(&stage);
    let kid = stage.bob.kid("agree-1");
    let key = peer.agreement_key(&kid).public_key();
    let sent = Message::build("1", "https://didcomm.org/empty/1.0/empty", serde_json::json!({}))
        .from(stage.alice.did.to_string())
        .to(stage.bob.did.to_string())
        .finalize();
    let skid = stage.alice.kid("agree-2");
    let packed =
        pack::pack_encrypted_authcrypt(&sent, &skid, &peer.agreement_key(&skid), &[(&kid, &key)]).unwrap();
    let opened = stage.open(packed.as_bytes(), &stage.bob);
    assert_eq!(opened.proof.sender.unwrap().kid.as_str(), skid);
}
