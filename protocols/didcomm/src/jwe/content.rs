//! Content encryption: A256CBC-HS512, A256GCM and XC20P behind one pair of functions.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut, KeyInit},
};
use chacha20poly1305::XChaCha20Poly1305;
use einmal_keys::{Entropy, EntropyError};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::primitive;

/// How the plaintext itself is encrypted.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Content Encryption Algorithms".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ContentEncryption {
    /// AES-256-CBC with HMAC-SHA-512: required, and the only one authcrypt permits.
    #[default]
    #[serde(rename = "A256CBC-HS512")]
    A256CbcHs512,
    /// AES-256-GCM: recommended for anoncrypt.
    #[serde(rename = "A256GCM")]
    A256Gcm,
    /// XChaCha20-Poly1305: optional for anoncrypt.
    #[serde(rename = "XC20P")]
    Xc20P,
}

/// The key and IV for one message, and no other.
pub(super) struct Fresh {
    pub(super) key: Zeroizing<Vec<u8>>,
    iv: Vec<u8>,
}

/// Ciphertext with everything but the key that opening needs.
pub(super) struct Sealed {
    pub(super) iv: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
    pub(super) tag: Vec<u8>,
}

impl ContentEncryption {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::A256CbcHs512, Self::A256Gcm, Self::Xc20P];

    /// The JWE `enc` value.
    pub fn name(self) -> &'static str {
        match self {
            Self::A256CbcHs512 => "A256CBC-HS512",
            Self::A256Gcm => "A256GCM",
            Self::Xc20P => "XC20P",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|enc| enc.name() == name)
    }

    /// Length of the content encryption key in bytes.
    pub(super) fn key_len(self) -> usize {
        match self {
            Self::A256CbcHs512 => 64,
            Self::A256Gcm | Self::Xc20P => 32,
        }
    }

    fn iv_len(self) -> usize {
        match self {
            Self::A256CbcHs512 => 16,
            Self::A256Gcm => 12,
            Self::Xc20P => 24,
        }
    }

    /// Draws a fresh content encryption key and initialisation vector in one go, because system randomness is not
    /// cheap.
    pub(super) fn fresh(self, entropy: &dyn Entropy) -> Result<Fresh, EntropyError> {
        let mut key = Zeroizing::new(vec![0u8; self.key_len() + self.iv_len()]);
        entropy.fill(&mut key)?;
        let iv = key.split_off(self.key_len());
        Ok(Fresh { key, iv })
    }

    /// Encrypts `plaintext`; `aad` is the encoded protected header. `None` only if the backend fails.
    pub(super) fn seal(self, fresh: &Fresh, plaintext: &[u8], aad: &[u8]) -> Option<Sealed> {
        let Fresh { key, iv } = fresh;
        let (ciphertext, tag) = match self {
            Self::A256CbcHs512 => seal_cbc(key, iv, plaintext, aad),
            Self::A256Gcm => seal_aead::<Aes256Gcm>(key, iv, plaintext, aad),
            Self::Xc20P => seal_aead::<XChaCha20Poly1305>(key, iv, plaintext, aad),
        }?;
        Some(Sealed { iv: iv.clone(), ciphertext, tag })
    }

    /// Decrypts; every failure gives `None`.
    pub(super) fn open(self, key: &[u8], sealed: Sealed, aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if key.len() != self.key_len() || sealed.iv.len() != self.iv_len() {
            return None;
        }
        let plaintext = match self {
            Self::A256CbcHs512 => open_cbc(key, sealed, aad),
            Self::A256Gcm => open_aead::<Aes256Gcm>(key, sealed, aad),
            Self::Xc20P => open_aead::<XChaCha20Poly1305>(key, sealed, aad),
        };
        plaintext.map(Zeroizing::new)
    }
}

/// The first half of the HMAC over header, IV, ciphertext and header length in bits (RFC 7518, 5.2.2.1).
fn cbc_tag(mac_key: &[u8; 32], aad: &[u8], iv: &[u8], ciphertext: &[u8]) -> [u8; 32] {
    let bits = (aad.len() as u64).wrapping_mul(8).to_be_bytes();
    let mac = primitive::hmac_sha512(mac_key, &[aad, iv, ciphertext, &bits]);
    let mut tag = [0; 32];
    for (to, from) in tag.iter_mut().zip(mac) {
        *to = from;
    }
    tag
}

fn halves(key: &[u8]) -> Option<(&[u8; 32], &[u8; 32])> {
    let (mac_key, rest) = key.split_first_chunk::<32>()?;
    Some((mac_key, rest.try_into().ok()?))
}

fn seal_cbc(key: &[u8], iv: &[u8], plaintext: &[u8], aad: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mac_key, aes_key) = halves(key)?;
    let ciphertext = primitive::cbc_encrypt(aes_key, iv.try_into().ok()?, plaintext)?;
    let tag = cbc_tag(mac_key, aad, iv, &ciphertext);
    Some((ciphertext, tag.to_vec()))
}

fn open_cbc(key: &[u8], sealed: Sealed, aad: &[u8]) -> Option<Vec<u8>> {
    let (mac_key, aes_key) = halves(key)?;
    let expected = cbc_tag(mac_key, aad, &sealed.iv, &sealed.ciphertext);
    if !bool::from(expected.as_slice().ct_eq(&sealed.tag)) {
        return None;
    }
    primitive::cbc_decrypt(aes_key, sealed.iv.as_slice().try_into().ok()?, sealed.ciphertext)
}

fn seal_aead<A: AeadInOut + KeyInit>(
    key: &[u8],
    iv: &[u8],
    plaintext: &[u8],
    aad: &[u8],
) -> Option<(Vec<u8>, Vec<u8>)> {
    let cipher = A::new_from_slice(key).ok()?;
    let mut buffer = plaintext.to_vec();
    let tag = cipher.encrypt_inout_detached(iv.try_into().ok()?, aad, buffer.as_mut_slice().into()).ok()?;
    Some((buffer, tag.to_vec()))
}

fn open_aead<A: AeadInOut + KeyInit>(key: &[u8], sealed: Sealed, aad: &[u8]) -> Option<Vec<u8>> {
    let cipher = A::new_from_slice(key).ok()?;
    let mut buffer = sealed.ciphertext;
    let iv = sealed.iv.as_slice().try_into().ok()?;
    let tag = sealed.tag.as_slice().try_into().ok()?;
    cipher.decrypt_inout_detached(iv, aad, buffer.as_mut_slice().into(), tag).ok()?;
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use einmal_keys::SeededEntropy;

    use super::*;

    fn sealed(enc: ContentEncryption) -> (Zeroizing<Vec<u8>>, Sealed) {
        let entropy = SeededEntropy::new(1);
        let fresh = enc.fresh(&entropy).unwrap();
        let sealed = enc.seal(&fresh, b"plaintext", b"header").unwrap();
        (fresh.key, sealed)
    }

    #[test]
    fn what_was_sealed_opens() {
        for enc in ContentEncryption::ALL {
            let (key, sealed) = sealed(enc);
            assert_eq!(enc.open(&key, sealed, b"header").unwrap().as_slice(), b"plaintext");
        }
    }

    #[test]
    fn changed_iv_ciphertext_tag_header_or_key_does_not_open() {
        for enc in ContentEncryption::ALL {
            let bend: [fn(&mut Sealed); 5] = [
                |s| s.iv[0] ^= 1,
                |s| s.ciphertext[0] ^= 1,
                |s| s.tag[0] ^= 1,
                |s| s.tag.truncate(15),
                |s| s.iv.push(0),
            ];
            for change in bend {
                let (key, mut sealed) = sealed(enc);
                change(&mut sealed);
                assert!(enc.open(&key, sealed, b"header").is_none(), "{enc:?}");
            }
            let (mut key, first) = sealed(enc);
            assert!(enc.open(&key, first, b"Header").is_none());
            let (_, second) = sealed(enc);
            key[0] ^= 1;
            assert!(enc.open(&key, second, b"header").is_none());
        }
    }

    /// RFC 7518, appendix B.3: the published example of AES_256_CBC_HMAC_SHA_512.
    #[test]
    fn cbc_hmac_matches_the_published_example() {
        let key: Vec<u8> = (0..64).collect();
        let iv =
            [0x1a, 0xf3, 0x8c, 0x2d, 0xc2, 0xb9, 0x6f, 0xfd, 0xd8, 0x66, 0x94, 0x09, 0x23, 0x41, 0xbc, 0x04];
        let plaintext = b"A cipher system must not be required to be secret, and it must be able to fall \
            into the hands of the enemy without inconvenience";
        let aad = b"The second principle of Auguste Kerckhoffs";
        let (ciphertext, tag) = seal_cbc(&key, &iv, plaintext, aad).unwrap();
        assert_eq!(ciphertext[..4], [0x4a, 0xff, 0xaa, 0xad]);
        assert_eq!(tag[..8], [0x4d, 0xd3, 0xb4, 0xc0, 0x88, 0xa7, 0xf4, 0x5c]);
    }
}
