//! The crate `didcomm` 0.4.1: its curves (X25519, P-256), every encryption, signatures, rotation, forward, both ways.

use didcomm::{
    FromPrior, Message, PackEncryptedOptions, UnpackOptions,
    algorithms::AnonCryptAlg,
    did::{DIDDoc, resolvers::ExampleDIDResolver},
    secrets::{Secret, resolvers::ExampleSecretsResolver},
};
use einmal_didcomm::ContentEncryption;
use einmal_interop::{
    Order, Peer, Stage, Unpacked, forwarded_by_peer, from_prior_both_ways, peer_to_us,
    sealed_signature_both_ways, signed_both_ways, us_to_peer,
};
use einmal_keys::KeyKind;
use futures::executor::block_on;
use serde_json::{Value, json};

const ENCRYPTIONS: [&str; 3] = ["A256CBC-HS512", "A256GCM", "XC20P"];

struct Sicpa {
    documents: ExampleDIDResolver,
    secrets: ExampleSecretsResolver,
}

impl Sicpa {
    fn new(stage: &Stage) -> Self {
        let read = |value: Value| serde_json::from_value::<DIDDoc>(value).unwrap();
        let documents = stage.parties().map(|party| read(party.document.clone())).to_vec();
        let secrets = stage.parties().into_iter().flat_map(|party| &party.secrets).map(|(kid, jwk)| {
            let secret = json!({"id": kid, "type": "JsonWebKey2020", "privateKeyJwk": jwk});
            serde_json::from_value::<Secret>(secret).unwrap()
        });
        Self {
            documents: ExampleDIDResolver::new(documents),
            secrets: ExampleSecretsResolver::new(secrets.collect()),
        }
    }
}

fn message(value: &Value) -> Message {
    serde_json::from_value(value.clone()).unwrap()
}

impl Peer for Sicpa {
    fn pack(&self, order: &Order<'_>) -> String {
        let enc_alg_anon = match order.enc {
            "A256GCM" => AnonCryptAlg::A256gcmEcdhEsA256kw,
            "XC20P" => AnonCryptAlg::Xc20pEcdhEsA256kw,
            _ => AnonCryptAlg::A256cbcHs512EcdhEsA256kw,
        };
        let options = PackEncryptedOptions {
            protect_sender: order.hide_sender,
            forward: order.forward,
            enc_alg_anon,
            ..PackEncryptedOptions::default()
        };
        let message = message(order.message);
        let packing = message.pack_encrypted(
            order.to,
            order.from,
            order.signer,
            &self.documents,
            &self.secrets,
            &options,
        );
        block_on(packing).unwrap().0
    }

    fn sign(&self, value: &Value, kid: &str) -> String {
        block_on(message(value).pack_signed(kid, &self.documents, &self.secrets)).unwrap().0
    }

    fn unpack(&self, packed: &str) -> Unpacked {
        let options = UnpackOptions::default();
        let unpacking = Message::unpack(packed, &self.documents, &self.secrets, &options);
        let (message, metadata) = block_on(unpacking).unwrap();
        Unpacked {
            message: serde_json::to_value(message).unwrap(),
            sender: metadata.encrypted_from_kid,
            signer: metadata.sign_from,
            rotation_key: metadata.from_prior_issuer_kid,
        }
    }

    fn rotation(&self, claims: Value) -> Value {
        let claims: FromPrior = serde_json::from_value(claims).unwrap();
        block_on(claims.pack(None, &self.documents, &self.secrets)).unwrap().0.into()
    }
}

#[test]
fn every_curve_and_encryption_goes_both_ways() {
    for kind in [KeyKind::X25519, KeyKind::P256] {
        let stage = Stage::new(kind);
        let peer = Sicpa::new(&stage);
        peer_to_us(&peer, &stage, &ENCRYPTIONS, true);
        us_to_peer(&peer, &stage, &ContentEncryption::ALL, true);
    }
}

#[test]
fn signatures_of_every_algorithm_go_both_ways() {
    let stage = Stage::new(KeyKind::X25519);
    let peer = Sicpa::new(&stage);
    signed_both_ways(&peer, &stage, &["EdDSA", "ES256", "ES256K"]);
    sealed_signature_both_ways(&peer, &stage);
}

#[test]
fn rotation_goes_both_ways() {
    let stage = Stage::new(KeyKind::X25519);
    from_prior_both_ways(&Sicpa::new(&stage), &stage);
}

#[test]
fn forwards_go_both_ways() {
    for kind in [KeyKind::X25519, KeyKind::P256] {
        let stage = Stage::new(kind);
        forwarded_by_peer(&Sicpa::new(&stage), &stage);
    }
}
