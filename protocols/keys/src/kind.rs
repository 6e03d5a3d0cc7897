//! The curves einmal supports, and the fixed facts about each.

use serde::{Deserialize, Serialize};

/// A curve together with its purpose; every key has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum KeyKind {
    /// Signatures, `EdDSA`.
    Ed25519,
    /// Key agreement.
    X25519,
    /// Key agreement and `ES256`.
    P256,
    /// Key agreement.
    P384,
    /// Key agreement.
    P521,
    /// `ES256K`.
    Secp256k1,
}

impl KeyKind {
    /// All kinds, in a fixed order.
    pub const ALL: [Self; 6] =
        [Self::Ed25519, Self::X25519, Self::P256, Self::P384, Self::P521, Self::Secp256k1];

    /// The JWK `kty` value (RFC 7518, RFC 8037).
    pub fn kty(self) -> &'static str {
        match self {
            Self::Ed25519 | Self::X25519 => "OKP",
            Self::P256 | Self::P384 | Self::P521 | Self::Secp256k1 => "EC",
        }
    }

    /// The JWK `crv` value.
    pub fn crv(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::X25519 => "X25519",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::Secp256k1 => "secp256k1",
        }
    }

    /// The kind with this JWK `crv`, if einmal supports it.
    pub fn from_crv(crv: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.crv() == crv)
    }

    /// Length in bytes of one coordinate, which is also the length of the secret scalar.
    pub fn field_len(self) -> usize {
        match self {
            Self::Ed25519 | Self::X25519 | Self::P256 | Self::Secp256k1 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// Whether keys of this kind may agree on a secret in DIDComm (v2.1, "Curves").
    pub fn can_agree(self) -> bool {
        matches!(self, Self::X25519 | Self::P256 | Self::P384 | Self::P521)
    }

    /// The multicodec code of the public key, as its unsigned varint.
    pub(crate) fn multicodec(self) -> [u8; 2] {
        match self {
            Self::Ed25519 => [0xed, 0x01],
            Self::X25519 => [0xec, 0x01],
            Self::Secp256k1 => [0xe7, 0x01],
            Self::P256 => [0x80, 0x24],
            Self::P384 => [0x81, 0x24],
            Self::P521 => [0x82, 0x24],
        }
    }
}
