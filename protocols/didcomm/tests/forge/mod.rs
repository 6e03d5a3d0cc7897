//! A forger of envelopes: correctly encrypted or signed, and malformed wherever a test wants it.
//!
//! It shares only keys and base64url with the crate, so that agreement between the two is evidence.

#![allow(dead_code, reason = "every test binary uses its own part of this module")]

use aes::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Payload},
};
use aes_kw::KwAes256;
use chacha20poly1305::XChaCha20Poly1305;
use einmal_keys::{KeyKind, PublicKey, SecretKey, base64url_decode, base64url_encode};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::common::{ED, Party, Stage, X, secret};

/// What Alice writes to Bob, forged with their first keys.
impl Stage {
    pub(crate) fn authcrypt(&self) -> Forge {
        Forge::authcrypt(self.plaintext(), &self.alice, X, &self.bob, &[X])
    }

    pub(crate) fn anoncrypt(&self) -> Forge {
        Forge::anoncrypt(self.plaintext(), &self.bob, &[X])
    }

    pub(crate) fn signature(&self) -> ForgedSignature {
        ForgedSignature::by(&self.alice, ED)
    }
}

/// How the content's tag enters the key derivation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagInKdf {
    /// With its length in front: ECDH-1PU.
    Prefixed,
    /// Without the length, as one deployed stack once did.
    Bare,
    /// Not at all: ECDH-ES.
    Absent,
}

/// An envelope to be encrypted; tests may change every field before [`Forge::seal`].
pub(crate) struct Forge {
    /// The protected header.
    pub(crate) header: Value,
    /// Key id and key of each recipient.
    pub(crate) recipients: Vec<(String, PublicKey)>,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) epk: SecretKey,
    pub(crate) sender: Option<SecretKey>,
    pub(crate) tag_in_kdf: TagInKdf,
    /// Replaces the agreement with `epk`, for example by the zeros that a low-order point gives.
    pub(crate) ephemeral_secret: Option<Vec<u8>>,
}

impl Forge {
    /// anoncrypt of `plaintext` to the named keys of `party`.
    pub(crate) fn anoncrypt(plaintext: impl ToString, party: &Party, fragments: &[&str]) -> Self {
        let recipients: Vec<_> = fragments.iter().map(|name| (party.kid(name), party.public(name))).collect();
        let epk = secret(recipients[0].1.kind(), 4242);
        let mut forge = Self {
            header: json!({
                "typ": "application/didcomm-encrypted+json", "alg": "ECDH-ES+A256KW", "enc": "A256CBC-HS512",
                "epk": epk.public_key().to_jwk(),
            }),
            recipients,
            plaintext: plaintext.to_string().into_bytes(),
            epk,
            sender: None,
            tag_in_kdf: TagInKdf::Absent,
            ephemeral_secret: None,
        };
        forge.name_recipients();
        forge
    }

    /// authcrypt with the key `skid` of `from`.
    pub(crate) fn authcrypt(
        plaintext: impl ToString,
        from: &Party,
        skid: &str,
        party: &Party,
        fragments: &[&str],
    ) -> Self {
        let mut forge = Self::anoncrypt(plaintext, party, fragments);
        forge.header["alg"] = json!("ECDH-1PU+A256KW");
        forge.header["skid"] = json!(from.kid(skid));
        forge.header["apu"] = json!(base64url_encode(from.kid(skid)));
        forge.sender = Some(from.secret(skid));
        forge.tag_in_kdf = TagInKdf::Prefixed;
        forge
    }

    /// Another ephemeral key, also in the header.
    pub(crate) fn with_epk(mut self, kind: KeyKind) -> Self {
        self.epk = secret(kind, 4343);
        self.header["epk"] = json!(self.epk.public_key().to_jwk());
        self
    }

    /// The same with a member of the protected header set, or removed if `null`.
    pub(crate) fn with(mut self, member: &str, value: Value) -> Self {
        let header = self.header.as_object_mut().unwrap();
        if value.is_null() {
            header.remove(member);
        } else {
            header.insert(member.to_owned(), value);
        }
        self
    }

    /// Recomputes `apv` from the present recipients.
    pub(crate) fn name_recipients(&mut self) {
        let mut kids: Vec<&str> = self.recipients.iter().map(|(kid, _)| kid.as_str()).collect();
        kids.sort_unstable();
        self.header["apv"] = json!(base64url_encode(Sha256::digest(kids.join("."))));
    }

    /// The same for recipients under other names.
    pub(crate) fn naming(mut self, kids: &[&str]) -> Self {
        let keys: Vec<PublicKey> = self.recipients.iter().map(|(_, key)| key.clone()).collect();
        let key = |index: usize| keys.get(index).unwrap_or(&keys[0]).clone();
        self.recipients = kids.iter().enumerate().map(|(i, kid)| ((*kid).to_owned(), key(i))).collect();
        self.name_recipients();
        self
    }

    /// Encrypts under the present header.
    pub(crate) fn seal(&self) -> Value {
        self.seal_under(&self.header.to_string())
    }

    /// Encrypts under a header given as text, for headers that no JSON writer produces.
    pub(crate) fn seal_under(&self, header: &str) -> Value {
        let protected = base64url_encode(header);
        let enc = self.header["enc"].as_str().unwrap_or_default();
        let cek = vec![9u8; if enc == "A256GCM" || enc == "XC20P" { 32 } else { 64 }];
        let (iv, ciphertext, tag) = encrypt_content(enc, &cek, &self.plaintext, protected.as_bytes());
        let recipients: Vec<Value> = self
            .recipients
            .iter()
            .map(|(kid, key)| {
                let wrapped = wrap(&self.kek(key, &tag), &cek);
                json!({"header": {"kid": kid}, "encrypted_key": base64url_encode(wrapped)})
            })
            .collect();
        json!({
            "protected": protected, "recipients": recipients, "iv": base64url_encode(iv),
            "ciphertext": base64url_encode(ciphertext), "tag": base64url_encode(tag),
        })
    }

    fn kek(&self, recipient: &PublicKey, tag: &[u8]) -> [u8; 32] {
        let party = |name: &str| self.header[name].as_str().and_then(base64url_decode).unwrap_or_default();
        let alg = self.header["alg"].as_str().unwrap_or_default();
        // A curve that does not fit gives no secret; the envelope must be refused before that matters.
        let agree = |key: &SecretKey| key.agree(recipient).map(|z| z.as_bytes().to_vec()).unwrap_or_default();
        let mut input = vec![0, 0, 0, 1];
        input.extend(self.ephemeral_secret.clone().unwrap_or_else(|| agree(&self.epk)));
        input.extend(self.sender.as_ref().map(agree).unwrap_or_default());
        for part in [alg.as_bytes(), &party("apu"), &party("apv")] {
            prefixed(&mut input, part);
        }
        input.extend([0, 0, 1, 0]);
        match self.tag_in_kdf {
            TagInKdf::Prefixed => prefixed(&mut input, tag),
            TagInKdf::Bare => input.extend(tag),
            TagInKdf::Absent => {}
        }
        Sha256::digest(&input).into()
    }
}

fn prefixed(input: &mut Vec<u8>, part: &[u8]) {
    input.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
    input.extend(part);
}

fn wrap(kek: &[u8; 32], cek: &[u8]) -> Vec<u8> {
    let mut out = vec![0; cek.len() + 8];
    KwAes256::new(kek.into()).wrap_key(cek, &mut out).unwrap();
    out
}

fn encrypt_content(enc: &str, cek: &[u8], plaintext: &[u8], aad: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let payload = Payload { msg: plaintext, aad };
    let split = |mut sealed: Vec<u8>| {
        let tag = sealed.split_off(sealed.len() - 16);
        (sealed, tag)
    };
    match enc {
        "A256GCM" => {
            let iv = [5u8; 12];
            let cipher = Aes256Gcm::new_from_slice(cek).unwrap();
            let (ciphertext, tag) = split(cipher.encrypt((&iv).into(), payload).unwrap());
            (iv.to_vec(), ciphertext, tag)
        }
        "XC20P" => {
            let iv = [5u8; 24];
            let cipher = XChaCha20Poly1305::new_from_slice(cek).unwrap();
            let (ciphertext, tag) = split(cipher.encrypt((&iv).into(), payload).unwrap());
            (iv.to_vec(), ciphertext, tag)
        }
        _ => {
            let (iv, (mac_key, aes_key)) = ([5u8; 16], cek.split_at(32));
            let cipher = cbc::Encryptor::<aes::Aes256>::new_from_slices(aes_key, &iv).unwrap();
            let ciphertext = cipher.encrypt_padded_vec::<Pkcs7>(plaintext);
            let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(mac_key).unwrap();
            for part in [aad, &iv, &ciphertext, &(aad.len() as u64 * 8).to_be_bytes()] {
                mac.update(part);
            }
            let tag = mac.finalize().into_bytes()[..32].to_vec();
            (iv.to_vec(), ciphertext, tag)
        }
    }
}

/// A signature to be made.
pub(crate) struct ForgedSignature {
    pub(crate) protected: Value,
    pub(crate) header: Option<Value>,
    pub(crate) key: SecretKey,
}

impl ForgedSignature {
    /// A valid one by the key `fragment` of `party`, with `kid` protected.
    pub(crate) fn by(party: &Party, fragment: &str) -> Self {
        let key = party.secret(fragment);
        let alg = key.signature_algorithm().map_or("ES256", |algorithm| algorithm.name());
        let typ = "application/didcomm-signed+json";
        Self { protected: json!({"typ": typ, "alg": alg, "kid": party.kid(fragment)}), header: None, key }
    }

    /// The same with a member of the protected header set, or removed if `null`.
    pub(crate) fn with(mut self, member: &str, value: Value) -> Self {
        let header = self.protected.as_object_mut().unwrap();
        if value.is_null() {
            header.remove(member);
        } else {
            header.insert(member.to_owned(), value);
        }
        self
    }

    /// The same with `kid` in the unprotected header only.
    pub(crate) fn with_unprotected_kid(mut self) -> Self {
        let kid = self.protected.as_object_mut().unwrap().remove("kid").unwrap();
        self.header = Some(json!({"kid": kid}));
        self
    }

    fn over(&self, payload: &str) -> Value {
        let protected = base64url_encode(self.protected.to_string());
        let input = format!("{protected}.{payload}");
        let signature = self.key.sign(input.as_bytes()).unwrap();
        let mut out = json!({"protected": protected, "signature": base64url_encode(signature)});
        if let Some(header) = &self.header {
            out["header"] = header.clone();
        }
        out
    }

    /// The flattened serialization of this signature over `payload`.
    pub(crate) fn flattened(&self, payload: impl ToString) -> Value {
        let payload = base64url_encode(payload.to_string());
        let mut out = self.over(&payload);
        out["payload"] = json!(payload);
        out
    }
}

/// The general serialization of several signatures over `payload`.
pub(crate) fn signed(payload: impl ToString, signatures: &[ForgedSignature]) -> Value {
    let payload = base64url_encode(payload.to_string());
    let signatures: Vec<Value> = signatures.iter().map(|one| one.over(&payload)).collect();
    json!({"payload": payload, "signatures": signatures})
}
