//! The crate `didcomm`, used with its own example resolvers.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use didcomm::{
    Message, PackEncryptedOptions, UnpackOptions,
    algorithms::AnonCryptAlg,
    did::{
        DIDDoc, VerificationMaterial, VerificationMethod, VerificationMethodType,
        resolvers::ExampleDIDResolver,
    },
    secrets::{Secret, SecretMaterial, SecretType, resolvers::ExampleSecretsResolver},
};
use futures::executor::block_on;
use serde_json::json;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{ALICE, BOB, CREATED, ID, KIND, secret};

pub(crate) struct Sicpa {
    resolver: ExampleDIDResolver,
    alice: ExampleSecretsResolver,
    bob: ExampleSecretsResolver,
    message: Message,
}

fn party(did: &str) -> (DIDDoc, Secret) {
    let secret = StaticSecret::from(secret());
    let kid = format!("{did}#key-x25519-1");
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let x = encode(PublicKey::from(&secret).as_bytes());
    let public_key_jwk = json!({ "kty": "OKP", "crv": "X25519", "x": x });
    let private_key_jwk = json!({ "kty": "OKP", "crv": "X25519", "x": x, "d": encode(&secret.to_bytes()) });
    let method = VerificationMethod {
        id: kid.clone(),
        controller: did.into(),
        type_: VerificationMethodType::JsonWebKey2020,
        verification_material: VerificationMaterial::JWK { public_key_jwk },
    };
    let document = DIDDoc {
        id: did.into(),
        authentication: vec![],
        key_agreement: vec![kid.clone()],
        verification_method: vec![method],
        service: vec![],
    };
    let secret_material = SecretMaterial::JWK { private_key_jwk };
    (document, Secret { id: kid, type_: SecretType::JsonWebKey2020, secret_material })
}

impl Sicpa {
    pub(crate) fn new(payload: &str) -> Self {
        let ((alice_document, alice), (bob_document, bob)) = (party(ALICE), party(BOB));
        let message = Message::build(ID.into(), KIND.into(), json!({ "t": payload }))
            .from(ALICE.into())
            .to(BOB.into())
            .created_time(CREATED)
            .finalize();
        Self {
            resolver: ExampleDIDResolver::new(vec![alice_document, bob_document]),
            alice: ExampleSecretsResolver::new(vec![alice]),
            bob: ExampleSecretsResolver::new(vec![bob]),
            message,
        }
    }

    /// `content` is the content encryption of anoncrypt; that of authcrypt is fixed.
    pub(crate) fn pack(&self, authenticated: bool, content: AnonCryptAlg) -> String {
        let options =
            PackEncryptedOptions { forward: false, enc_alg_anon: content, ..PackEncryptedOptions::default() };
        let from = authenticated.then_some(ALICE);
        let packed = self.message.pack_encrypted(BOB, from, None, &self.resolver, &self.alice, &options);
        block_on(packed).unwrap().0
    }

    pub(crate) fn open(&self, packed: &str) -> Message {
        let options = UnpackOptions::default();
        block_on(Message::unpack(packed, &self.resolver, &self.bob, &options)).unwrap().0
    }
}
