//! Work that no implementation can avoid: the key agreements, and encryption and base64 of the content.

use std::hint::black_box;

use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use aws_lc_rs::{
    agreement,
    cipher::{
        AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    hmac as fast_hmac,
    iv::FixedLength,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bench_harness::{Case, Results};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha512;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::secret;

const VARIABLE: &str = "x25519-dalek, variable base";
const FIXED: &str = "x25519-dalek, fixed base";
const FAST_VARIABLE: &str = "aws-lc, variable base";
const FAST_FIXED: &str = "aws-lc, fixed base";
const SEAL: &str = "RustCrypto AES-256-CBC + HMAC-SHA-512, seal";
const OPEN: &str = "RustCrypto AES-256-CBC + HMAC-SHA-512, open";
const FAST_SEAL: &str = "aws-lc AES-256-CBC + HMAC-SHA-512, seal";
const FAST_OPEN: &str = "aws-lc AES-256-CBC + HMAC-SHA-512, open";
const ENCODE: &str = "base64 encode";
const DECODE: &str = "base64 decode";

/// Every primitive, in printing order.
pub(crate) const NAMES: [&str; 10] =
    [VARIABLE, FIXED, FAST_VARIABLE, FAST_FIXED, SEAL, OPEN, FAST_SEAL, FAST_OPEN, ENCODE, DECODE];

/// The inputs of the primitives.
pub(crate) struct Inputs {
    plaintext: Vec<u8>,
    ciphertext: Vec<u8>,
    encoded: String,
    mine: [u8; 32],
    secret: StaticSecret,
    peer: PublicKey,
    fast_secret: agreement::PrivateKey,
}

const KEY: [u8; 32] = [7; 32];
const IV: [u8; 16] = [9; 16];

impl Inputs {
    pub(crate) fn new(plaintext: Vec<u8>) -> Self {
        let mine = secret();
        let (ciphertext, _) = seal(&plaintext);
        Self {
            encoded: URL_SAFE_NO_PAD.encode(&ciphertext),
            ciphertext,
            plaintext,
            mine,
            secret: StaticSecret::from(mine),
            peer: PublicKey::from(&StaticSecret::from(secret())),
            fast_secret: agreement::PrivateKey::from_private_key(&agreement::X25519, &mine).unwrap(),
        }
    }
}

fn seal(plaintext: &[u8]) -> (Vec<u8>, [u8; 64]) {
    let cipher = cbc::Encryptor::<aes::Aes256>::new(&KEY.into(), &IV.into());
    let ciphertext = cipher.encrypt_padded_vec::<Pkcs7>(plaintext);
    let tag = tag(&ciphertext);
    (ciphertext, tag)
}

fn tag(ciphertext: &[u8]) -> [u8; 64] {
    let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(&KEY).unwrap();
    mac.update(ciphertext);
    mac.finalize().into_bytes().into()
}

fn open(ciphertext: &[u8]) -> ([u8; 64], Vec<u8>) {
    let tag = tag(ciphertext);
    let cipher = cbc::Decryptor::<aes::Aes256>::new(&KEY.into(), &IV.into());
    (tag, cipher.decrypt_padded_vec::<Pkcs7>(ciphertext).unwrap())
}

fn fast_seal(plaintext: &[u8]) -> (Vec<u8>, fast_hmac::Tag) {
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &KEY).unwrap()).unwrap();
    let mut buffer = Vec::with_capacity(plaintext.len() + IV.len());
    buffer.extend_from_slice(plaintext);
    key.less_safe_encrypt(&mut buffer, EncryptionContext::Iv128(FixedLength::from(&IV))).unwrap();
    let tag = fast_hmac::sign(&fast_hmac::Key::new(fast_hmac::HMAC_SHA512, &KEY), &buffer);
    (buffer, tag)
}

fn fast_open(ciphertext: &[u8]) -> (fast_hmac::Tag, Vec<u8>) {
    let tag = fast_hmac::sign(&fast_hmac::Key::new(fast_hmac::HMAC_SHA512, &KEY), ciphertext);
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &KEY).unwrap()).unwrap();
    let mut buffer = ciphertext.to_vec();
    let length = key.decrypt(&mut buffer, DecryptionContext::Iv128(FixedLength::from(&IV))).unwrap().len();
    buffer.truncate(length);
    (tag, buffer)
}

fn fast_agree(secret: &agreement::PrivateKey, peer: &PublicKey) -> [u8; 32] {
    let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, peer.as_bytes());
    agreement::agree(secret, peer, (), |z| z.try_into().map_err(|_| ())).unwrap()
}

/// Computes the public half, which happens when the key is made.
fn fast_public(secret: &[u8; 32]) -> agreement::PublicKey {
    let secret = agreement::PrivateKey::from_private_key(&agreement::X25519, secret).unwrap();
    secret.compute_public_key().unwrap()
}

pub(crate) fn cases(on: &Inputs) -> Vec<Case<'_>> {
    vec![
        Case::new(VARIABLE, || drop(black_box(on.secret.diffie_hellman(black_box(&on.peer))))),
        Case::new(FIXED, || _ = black_box(PublicKey::from(black_box(&on.secret)))),
        Case::new(FAST_VARIABLE, || _ = black_box(fast_agree(&on.fast_secret, black_box(&on.peer)))),
        Case::new(FAST_FIXED, || _ = black_box(fast_public(black_box(&on.mine)))),
        Case::new(SEAL, || drop(black_box(seal(black_box(&on.plaintext))))),
        Case::new(OPEN, || drop(black_box(open(black_box(&on.ciphertext))))),
        Case::new(FAST_SEAL, || drop(black_box(fast_seal(black_box(&on.plaintext))))),
        Case::new(FAST_OPEN, || drop(black_box(fast_open(black_box(&on.ciphertext))))),
        Case::new(ENCODE, || drop(black_box(URL_SAFE_NO_PAD.encode(black_box(&on.ciphertext))))),
        Case::new(DECODE, || drop(black_box(URL_SAFE_NO_PAD.decode(black_box(&on.encoded)).unwrap()))),
    ]
}

/// The unavoidable work of one table row: agreements with the peer's key, a sender's ephemeral key, and the content in
/// A256CBC-HS512.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    packs: bool,
    agreements: u32,
    /// Agreements using a table of the peer's multiples; each costs as much as one with the base point.
    by_table: u32,
}

impl Work {
    pub(crate) const fn pack(agreements: u32) -> Self {
        Self { packs: true, agreements, by_table: 0 }
    }

    pub(crate) const fn pack_by_table() -> Self {
        Self { packs: true, agreements: 0, by_table: 1 }
    }

    pub(crate) const fn open(agreements: u32) -> Self {
        Self { packs: false, agreements, by_table: 0 }
    }

    /// The sum, for the backend einmal was built with.
    pub(crate) fn micros(self, results: &Results, fast: bool) -> f64 {
        let pick = |portable, quick| results.of(if fast { quick } else { portable }).micros();
        let agreeing = f64::from(self.agreements) * pick(VARIABLE, FAST_VARIABLE)
            + f64::from(self.by_table) * results.of(FIXED).micros();
        if self.packs {
            pick(FIXED, FAST_FIXED) + agreeing + pick(SEAL, FAST_SEAL) + results.of(ENCODE).micros()
        } else {
            agreeing + pick(OPEN, FAST_OPEN) + results.of(DECODE).micros()
        }
    }
}
