//! Why a key was refused.

use crate::KeyKind;

/// A key, or the text of one, was refused. Never carries key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// einmal does not support the curve or key type.
    #[error("unsupported key type or curve")]
    UnsupportedKind,
    /// A base64url, base58 or JSON member did not decode.
    #[error("key member `{member}` is not {expected}")]
    Encoding {
        /// Which part of the key.
        member: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// The bytes have the wrong length for the kind.
    #[error("{kind:?} key has {got} bytes where {expected} belong")]
    Length {
        /// Kind the key claims to be.
        kind: KeyKind,
        /// Length required.
        expected: usize,
        /// Length found.
        got: usize,
    },
    /// The bytes are not a point of the curve, or are the identity or (for X25519) a point of low order.
    #[error("public key is not a usable point of {kind:?}")]
    InvalidPoint {
        /// Kind the key claims to be.
        kind: KeyKind,
    },
    /// The secret scalar is zero or too large for the group order.
    #[error("secret key is not a scalar of {kind:?}")]
    InvalidScalar {
        /// Kind the key claims to be.
        kind: KeyKind,
    },
    /// A public JWK has the private member `d`: someone leaked a key.
    #[error("a public key carries the private member `d`; discard that key, it is no longer secret")]
    PrivateMemberInPublicKey,
    /// The secret and public half of a JWK do not belong together.
    #[error("the secret and the public half of this key do not belong together")]
    HalvesDisagree,
    /// The kind cannot do what was requested, such as signing with X25519.
    #[error("a {kind:?} key cannot {operation}")]
    WrongUse {
        /// Kind of the key.
        kind: KeyKind,
        /// What was requested: `sign` or `agree`.
        operation: &'static str,
    },
    /// A key agreement between keys on different curves was requested.
    #[error("cannot agree between {ours:?} and {theirs:?}")]
    CurveMismatch {
        /// Kind of our key.
        ours: KeyKind,
        /// Kind of the peer's key.
        theirs: KeyKind,
    },
    /// The operating system gave no randomness.
    #[error("the system's random source failed")]
    Entropy,
}
