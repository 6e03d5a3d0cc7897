//! Signature algorithms by their JOSE names, and verification.

use std::fmt;

use crate::{KeyKind, PublicKey, ecdsa, public::Inner};

/// A signature algorithm that einmal makes or checks. There is no `none` and no symmetric one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA over P-256 with SHA-256 (RFC 7518).
    Es256,
    /// ECDSA over secp256k1 with SHA-256 (RFC 8812).
    Es256K,
}

impl SignatureAlgorithm {
    /// The algorithm that keys of `kind` sign with, if they can sign.
    pub fn of(kind: KeyKind) -> Option<Self> {
        match kind {
            KeyKind::Ed25519 => Some(Self::EdDsa),
            KeyKind::P256 => Some(Self::Es256),
            KeyKind::Secp256k1 => Some(Self::Es256K),
            KeyKind::X25519 | KeyKind::P384 | KeyKind::P521 => None,
        }
    }

    /// The JOSE `alg` value.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es256K => "ES256K",
        }
    }

    /// Reads a JOSE `alg`; also accepts the fully specified `Ed25519` of RFC 9864.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "ES256K" => Some(Self::Es256K),
            _ => None,
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A signature does not verify; the error does not tell why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct SignatureError;

impl PublicKey {
    /// Checks that `signature` (JOSE form) over `message` was made by this key with `algorithm`.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] if it was not, or if the algorithm does not fit the key.
    pub fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let holds = match (self.inner(), algorithm) {
            (Inner::Ed25519(key), SignatureAlgorithm::EdDsa) => verify_ed25519(key, message, signature),
            (Inner::P256(key), SignatureAlgorithm::Es256) => ecdsa::verify_es256(key, message, signature),
            (Inner::Secp256k1(key), SignatureAlgorithm::Es256K) => {
                ecdsa::verify_es256k(key, message, signature)
            }
            _ => false,
        };
        if holds { Ok(()) } else { Err(SignatureError) }
    }
}

fn verify_ed25519(key: &ed25519_dalek::VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
    key.verify_strict(message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretKey, SeededEntropy};

    fn signers() -> Vec<(SecretKey, SignatureAlgorithm)> {
        KeyKind::ALL
            .into_iter()
            .filter_map(|kind| {
                let key = SecretKey::generate(kind, &SeededEntropy::new(5)).unwrap();
                SignatureAlgorithm::of(kind).map(|algorithm| (key, algorithm))
            })
            .collect()
    }

    #[test]
    fn own_signature_holds() {
        for (key, algorithm) in signers() {
            let signature = key.sign(b"message").unwrap();
            assert_eq!(signature.len(), 64);
            key.public_key().verify(algorithm, b"message", &signature).unwrap();
        }
    }

    #[test]
    fn changed_message_signature_or_key_is_refused() {
        for (key, algorithm) in signers() {
            let signature = key.sign(b"message").unwrap();
            let mut bent = signature.clone();
            bent[10] ^= 1;
            let other = SecretKey::generate(key.kind(), &SeededEntropy::new(6)).unwrap();
            let public = key.public_key();
            assert!(public.verify(algorithm, b"massage", &signature).is_err());
            assert!(public.verify(algorithm, b"message", &bent).is_err());
            assert!(public.verify(algorithm, b"message", &signature[..63]).is_err());
            assert!(other.public_key().verify(algorithm, b"message", &signature).is_err());
        }
    }

    #[test]
    fn algorithm_of_another_curve_is_refused() {
        for (key, algorithm) in signers() {
            let signature = key.sign(b"message").unwrap();
            for (_, other) in signers() {
                let holds = key.public_key().verify(other, b"message", &signature).is_ok();
                assert_eq!(holds, other == algorithm);
            }
        }
    }

    #[test]
    fn symmetric_and_absent_algorithms_have_no_name_here() {
        for name in ["none", "HS256", "RS256", "ES384", "es256", ""] {
            assert_eq!(SignatureAlgorithm::from_name(name), None);
        }
    }
}
