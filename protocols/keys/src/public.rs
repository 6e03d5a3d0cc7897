//! Public keys, validated once, when they are made.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use p256::elliptic_curve::sec1::ToSec1Point;

use crate::{KeyError, KeyKind};

/// A public key known to be a usable point of its curve.
#[derive(Clone)]
pub struct PublicKey(Inner);

#[derive(Clone)]
pub(crate) enum Inner {
    Ed25519(ed25519_dalek::VerifyingKey),
    X25519([u8; 32]),
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    P521(p521::PublicKey),
    Secp256k1(k256::PublicKey),
}

impl PublicKey {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(inner)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The curve of the key.
    pub fn kind(&self) -> KeyKind {
        match &self.0 {
            Inner::Ed25519(_) => KeyKind::Ed25519,
            Inner::X25519(_) => KeyKind::X25519,
            Inner::P256(_) => KeyKind::P256,
            Inner::P384(_) => KeyKind::P384,
            Inner::P521(_) => KeyKind::P521,
            Inner::Secp256k1(_) => KeyKind::Secp256k1,
        }
    }

    /// Reads the 32 bytes of an OKP key, or a SEC1 compressed point, as multikey carries them.
    ///
    /// # Errors
    ///
    /// [`KeyError::Length`] if `bytes` has the wrong length for the kind, [`KeyError::InvalidPoint`] if it is not a
    /// usable point.
    pub fn from_compressed(kind: KeyKind, bytes: &[u8]) -> Result<Self, KeyError> {
        let expected = match kind {
            KeyKind::Ed25519 | KeyKind::X25519 => 32,
            _ => kind.field_len() + 1,
        };
        if bytes.len() != expected {
            return Err(KeyError::Length { kind, expected, got: bytes.len() });
        }
        match kind {
            KeyKind::Ed25519 | KeyKind::X25519 => Self::from_okp(kind, bytes),
            // The libraries read a third spelling too, which would make a second name for the same key.
            _ if matches!(bytes.first(), Some(2 | 3)) => Self::from_sec1(kind, bytes),
            _ => Err(KeyError::InvalidPoint { kind }),
        }
    }

    /// Reads an OKP key from its 32 bytes.
    pub(crate) fn from_okp(kind: KeyKind, bytes: &[u8]) -> Result<Self, KeyError> {
        let array: [u8; 32] =
            bytes.try_into().map_err(|_| KeyError::Length { kind, expected: 32, got: bytes.len() })?;
        if kind == KeyKind::Ed25519 {
            let key = ed25519_dalek::VerifyingKey::from_bytes(&array)
                .map_err(|_| KeyError::InvalidPoint { kind })?;
            if key.is_weak() {
                return Err(KeyError::InvalidPoint { kind });
            }
            return Ok(Self(Inner::Ed25519(key)));
        }
        if is_low_order_x25519(&array) {
            return Err(KeyError::InvalidPoint { kind });
        }
        Ok(Self(Inner::X25519(array)))
    }

    /// Reads a SEC1 point, compressed or not; off-curve points and the identity are refused.
    pub(crate) fn from_sec1(kind: KeyKind, bytes: &[u8]) -> Result<Self, KeyError> {
        let invalid = KeyError::InvalidPoint { kind };
        let inner = match kind {
            KeyKind::P256 => p256::PublicKey::from_sec1_bytes(bytes).ok().map(Inner::P256),
            KeyKind::P384 => p384::PublicKey::from_sec1_bytes(bytes).ok().map(Inner::P384),
            KeyKind::P521 => p521::PublicKey::from_sec1_bytes(bytes).ok().map(Inner::P521),
            KeyKind::Secp256k1 => k256::PublicKey::from_sec1_bytes(bytes).ok().map(Inner::Secp256k1),
            KeyKind::Ed25519 | KeyKind::X25519 => return Err(KeyError::UnsupportedKind),
        };
        inner.map(Self).ok_or(invalid)
    }

    /// The key as in a multikey: 32 bytes for OKP, SEC1 compressed otherwise.
    pub fn to_compressed(&self) -> Vec<u8> {
        self.sec1(true)
    }

    /// SEC1 bytes, or the 32 bytes of an OKP key.
    pub(crate) fn sec1(&self, compress: bool) -> Vec<u8> {
        match &self.0 {
            Inner::Ed25519(key) => key.as_bytes().to_vec(),
            Inner::X25519(bytes) => bytes.to_vec(),
            Inner::P256(key) => key.to_sec1_point(compress).as_bytes().to_vec(),
            Inner::P384(key) => key.to_sec1_point(compress).as_bytes().to_vec(),
            Inner::P521(key) => key.to_sec1_point(compress).as_bytes().to_vec(),
            Inner::Secp256k1(key) => key.to_sec1_point(compress).as_bytes().to_vec(),
        }
    }

    /// The X25519 key of the same secret as this Ed25519 key, for documents that derive one (did:key).
    ///
    /// `None` for other kinds, and if the birational map has no usable image.
    pub fn to_x25519(&self) -> Option<Self> {
        let Inner::Ed25519(key) = &self.0 else { return None };
        Self::from_okp(KeyKind::X25519, &key.to_montgomery().to_bytes()).ok()
    }
}

/// The u coordinates that every clamped scalar maps to zero, as the first 31 bytes and the last one without its top
/// bit: two of order 8, and 0, 1, p - 1, p, p + 1.
const LOW_ORDER_X25519: [[u8; 32]; 7] = [
    [0; 32],
    least_byte(1),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    near_prime(0xec),
    near_prime(0xed),
    near_prime(0xee),
];

const fn least_byte(byte: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = byte;
    bytes
}

const fn near_prime(byte: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = byte;
    bytes[31] = 0x7f;
    bytes
}

fn is_low_order_x25519(u: &[u8; 32]) -> bool {
    let mut masked = *u;
    if let Some(top) = masked.last_mut() {
        *top &= 0x7f;
    }
    LOW_ORDER_X25519.contains(&masked)
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Inner::Ed25519(one), Inner::Ed25519(other)) => one == other,
            (Inner::X25519(one), Inner::X25519(other)) => one == other,
            (Inner::P256(one), Inner::P256(other)) => one == other,
            (Inner::P384(one), Inner::P384(other)) => one == other,
            (Inner::P521(one), Inner::P521(other)) => one == other,
            (Inner::Secp256k1(one), Inner::Secp256k1(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind().hash(state);
        match &self.0 {
            Inner::Ed25519(key) => key.as_bytes().hash(state),
            Inner::X25519(bytes) => bytes.hash(state),
            _ => self.sec1(true).hash(state),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_multikey())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_point_gives_zero_and_is_refused_with_either_top_bit() {
        let probe = x25519_dalek::StaticSecret::from([0x42; 32]);
        for mut point in LOW_ORDER_X25519 {
            for _ in 0..2 {
                let shared = probe.diffie_hellman(&x25519_dalek::PublicKey::from(point));
                assert!(!shared.was_contributory());
                let refused = PublicKey::from_compressed(KeyKind::X25519, &point).unwrap_err();
                assert_eq!(refused, KeyError::InvalidPoint { kind: KeyKind::X25519 });
                point[31] |= 0x80;
            }
        }
    }

    /// Else one key would have two did:key DIDs.
    #[test]
    fn only_the_two_spellings_of_a_compressed_point_are_read() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Secp256k1] {
            let key = crate::SecretKey::generate(kind, &crate::SeededEntropy::new(1)).unwrap().public_key();
            let mut bytes = key.to_compressed();
            assert_eq!(PublicKey::from_compressed(kind, &bytes).unwrap(), key);
            for tag in [0, 4, 5, 6] {
                bytes[0] = tag;
                let refused = PublicKey::from_compressed(kind, &bytes).unwrap_err();
                assert_eq!(refused, KeyError::InvalidPoint { kind }, "{tag}");
            }
        }
    }
}
