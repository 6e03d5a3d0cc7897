//! Envelopes around any bytes, with fixed keys: a second implementation of what `einmal-didcomm` packs.
//!
//! That crate packs only messages. To reach the inner layers with other bytes, the harness encrypts them itself,
//! deterministically: content key, nonce and ephemeral key are constants, and the agreements are computed once.

use std::sync::LazyLock;

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut, KeyInit as _},
};
use aes_kw::KwAes256;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use einmal_did::{DidUrl, Relationship};
use einmal_didcomm::{ENCRYPTED_MEDIA_TYPE, SIGNED_MEDIA_TYPE};
use einmal_keys::{Custody, KeyKind, PeerKeyUse, SecretKey, base64url_encode};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::keys::{World, secret, world};

const ANONCRYPT: &str = "ECDH-ES+A256KW";
const AUTHCRYPT: &str = "ECDH-1PU+A256KW";

/// Values that are the same in every run.
struct Fixed {
    epk: SecretKey,
    bob_kid: String,
    alice_kid: String,
    /// Agreement of the ephemeral key with bob's key.
    ephemeral: Vec<u8>,
    /// Agreement of alice's key with bob's key.
    stat: Vec<u8>,
    apv: [u8; 32],
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let world = world();
    let epk = secret(KeyKind::X25519, 90);
    let bob = world.public(&world.bob_short, Relationship::KeyAgreement, "key-1");
    let kid = |did, fragment| DidUrl::new(did, fragment).expect("a good fragment").as_str().to_owned();
    let bob_kid = kid(&world.bob_short, "key-1");
    let stat = world.ring.agree(&World::key_id(&world.alice, "key-1"), &bob, PeerKeyUse::LongTerm);
    Fixed {
        ephemeral: epk.agree(&bob).expect("same curve").as_bytes().to_vec(),
        stat: stat.expect("same curve").as_bytes().to_vec(),
        apv: Sha256::digest(&bob_kid).into(),
        alice_kid: kid(&world.alice, "key-1"),
        epk,
        bob_kid,
    }
});

/// anoncrypt to bob with A256GCM.
pub(crate) fn anoncrypt(plaintext: &[u8]) -> Vec<u8> {
    anoncrypt_under(anoncrypt_header().to_string().as_bytes(), plaintext)
}

/// The protected header of [`anoncrypt`].
pub(crate) fn anoncrypt_header() -> Value {
    json!({
        "typ": ENCRYPTED_MEDIA_TYPE, "alg": ANONCRYPT, "enc": "A256GCM",
        "epk": FIXED.epk.public_key().to_jwk(), "apv": base64url_encode(FIXED.apv),
    })
}

/// The same under a given protected header, which may be any bytes.
pub(crate) fn anoncrypt_under(header: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let protected = base64url_encode(header);
    let (cek, iv) = ([0x11; 32], [0x22; 12]);
    let mut ciphertext = plaintext.to_vec();
    let cipher = Aes256Gcm::new_from_slice(&cek).expect("32 bytes");
    let tag = cipher
        .encrypt_inout_detached((&iv).into(), protected.as_bytes(), ciphertext.as_mut_slice().into())
        .expect("a short text");
    let kek = derive(&[&FIXED.ephemeral], ANONCRYPT, b"", None);
    envelope(&protected, &wrap(&kek, &cek), &iv, &ciphertext, &tag)
}

/// authcrypt from alice to bob.
pub(crate) fn authcrypt(plaintext: &[u8]) -> Vec<u8> {
    let apu = FIXED.alice_kid.as_bytes();
    let header = json!({
        "typ": ENCRYPTED_MEDIA_TYPE, "alg": AUTHCRYPT, "enc": "A256CBC-HS512", "skid": FIXED.alice_kid,
        "epk": FIXED.epk.public_key().to_jwk(), "apv": base64url_encode(FIXED.apv), "apu": base64url_encode(apu),
    });
    let protected = base64url_encode(header.to_string());
    let (mac_key, aes_key, iv) = ([0x33u8; 32], [0x44u8; 32], [0x55u8; 16]);
    let cipher = cbc::Encryptor::<aes::Aes256>::new((&aes_key).into(), (&iv).into());
    let ciphertext = cipher.encrypt_padded_vec::<Pkcs7>(plaintext);
    let mut mac = <Hmac<Sha512> as hmac::KeyInit>::new_from_slice(&mac_key).expect("any length");
    let bits = (protected.len() as u64 * 8).to_be_bytes();
    for part in [protected.as_bytes(), &iv, &ciphertext, &bits] {
        mac.update(part);
    }
    let tag = &mac.finalize().into_bytes()[..32];
    let kek = derive(&[&FIXED.ephemeral, &FIXED.stat], AUTHCRYPT, apu, Some(tag));
    envelope(&protected, &wrap(&kek, &[mac_key, aes_key].concat()), &iv, &ciphertext, tag)
}

/// A signed envelope around `payload`, by alice.
pub(crate) fn sign(payload: &[u8]) -> Vec<u8> {
    sign_under(sign_header().to_string().as_bytes(), payload)
}

/// The protected header of [`sign`].
pub(crate) fn sign_header() -> Value {
    let kid = DidUrl::new(&world().alice, "key-2").expect("a good fragment");
    json!({"typ": SIGNED_MEDIA_TYPE, "alg": "EdDSA", "kid": kid.as_str()})
}

/// The same under a given protected header, in the flattened serialization.
pub(crate) fn sign_under(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let (protected, payload) = (base64url_encode(header), base64url_encode(payload));
    let input = format!("{protected}.{payload}");
    let key = World::key_id(&world().alice, "key-2");
    let signature = world().ring.sign(&key, input.as_bytes()).expect("alice can sign");
    let signature = base64url_encode(signature);
    json!({"payload": payload, "protected": protected, "signature": signature}).to_string().into_bytes()
}

/// RFC 7518, 4.6.2, with the tag of ECDH-1PU.
fn derive(secrets: &[&[u8]], alg: &str, apu: &[u8], tag: Option<&[u8]>) -> [u8; 32] {
    let prefixed = |part: &[u8]| {
        let length = u32::try_from(part.len()).expect("a short part");
        [&length.to_be_bytes(), part].concat()
    };
    let mut input = vec![0, 0, 0, 1];
    input.extend(secrets.concat());
    input.extend([alg.as_bytes(), apu, &FIXED.apv].map(prefixed).concat());
    input.extend(256u32.to_be_bytes());
    input.extend(tag.map(prefixed).unwrap_or_default());
    Sha256::digest(input).into()
}

fn wrap(kek: &[u8; 32], cek: &[u8]) -> Vec<u8> {
    let mut wrapped = vec![0; cek.len() + 8];
    let _ = KwAes256::new(kek.into()).wrap_key(cek, &mut wrapped).expect("a whole number of blocks");
    wrapped
}

fn envelope(protected: &str, wrapped: &[u8], iv: &[u8], ciphertext: &[u8], tag: &[u8]) -> Vec<u8> {
    let [wrapped, iv, ciphertext, tag] = [wrapped, iv, ciphertext, tag].map(base64url_encode);
    let recipient = json!({"encrypted_key": wrapped, "header": {"kid": FIXED.bob_kid}});
    json!({"protected": protected, "recipients": [recipient], "iv": iv, "ciphertext": ciphertext, "tag": tag})
        .to_string()
        .into_bytes()
}
