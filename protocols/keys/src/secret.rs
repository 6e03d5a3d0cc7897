//! Secret keys: zeroized on drop, unprintable, able to sign or agree.

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    Entropy, KeyError, KeyKind, PublicKey, SharedSecret, SignatureAlgorithm, ecdsa, multiples::Often,
    public::Inner as PublicInner,
};

/// A secret key of one curve.
///
/// Cloning is not meant to be cheap: every copy is one more place that holds the secret.
#[derive(Clone)]
pub struct SecretKey(Inner);

#[derive(Clone)]
enum Inner {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    X25519(Box<X25519Secret>),
    P256(Box<ecdsa::P256Secret>),
    P384(Box<Paired<p384::SecretKey, p384::PublicKey>>),
    P521(Box<Paired<p521::SecretKey, p521::PublicKey>>),
    Secp256k1(Box<Paired<k256::SecretKey, k256::PublicKey>>),
}

/// A secret with its public half, which costs as much to compute as an agreement and is needed all the time.
#[derive(Clone)]
struct Paired<S, P> {
    secret: S,
    public: P,
}

/// An X25519 secret, also in the form that the fast backend needs.
#[derive(Clone)]
struct X25519Secret {
    secret: x25519_dalek::StaticSecret,
    public: [u8; 32],
    #[cfg(feature = "aws-lc")]
    fast: std::sync::Arc<aws_lc_rs::agreement::PrivateKey>,
}

impl X25519Secret {
    fn new(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let secret = x25519_dalek::StaticSecret::from(bytes);
        #[cfg(feature = "aws-lc")]
        {
            use aws_lc_rs::agreement::{PrivateKey, X25519};
            let invalid = KeyError::InvalidScalar { kind: KeyKind::X25519 };
            let fast =
                PrivateKey::from_private_key(&X25519, secret.as_bytes()).map_err(|_| invalid.clone())?;
            let public = fast.compute_public_key().map_err(|_| invalid.clone())?;
            let public = public.as_ref().try_into().map_err(|_| invalid)?;
            Ok(Self { secret, public, fast: std::sync::Arc::new(fast) })
        }
        #[cfg(not(feature = "aws-lc"))]
        {
            let public = x25519_dalek::PublicKey::from(&secret).to_bytes();
            Ok(Self { secret, public })
        }
    }

    fn agree(&self, peer: &[u8; 32]) -> Result<SharedSecret, KeyError> {
        let low_order = KeyError::InvalidPoint { kind: KeyKind::X25519 };
        #[cfg(feature = "aws-lc")]
        {
            use aws_lc_rs::agreement::{UnparsedPublicKey, X25519, agree};
            // The backend itself refuses an all-zero result.
            agree(&self.fast, UnparsedPublicKey::new(&X25519, peer), low_order, |z| {
                Ok(SharedSecret::from_slice(z))
            })
        }
        #[cfg(not(feature = "aws-lc"))]
        {
            let shared = self.secret.diffie_hellman(&x25519_dalek::PublicKey::from(*peer));
            if !shared.was_contributory() {
                return Err(low_order);
            }
            Ok(SharedSecret::from_slice(shared.as_bytes()))
        }
    }
}

impl SecretKey {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Entropy`] if the random source fails.
    pub fn generate(kind: KeyKind, entropy: &dyn Entropy) -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new(vec![0u8; kind.field_len()]);
        loop {
            entropy.fill(&mut bytes).map_err(|_| KeyError::Entropy)?;
            if let (KeyKind::P521, Some(top)) = (kind, bytes.first_mut()) {
                // 521 bits leave one bit for the top byte; without the mask nearly every draw would be too large.
                *top &= 1;
            }
            match Self::from_bytes(kind, &bytes) {
                // Zero, or not below the order: draw again, so that keys stay uniform.
                Err(KeyError::InvalidScalar { .. }) => {}
                done => return done,
            }
        }
    }

    /// Reads the raw secret: the seed for Ed25519, the scalar for the others; big-endian for NIST curves and secp256k1.
    ///
    /// # Errors
    ///
    /// [`KeyError::Length`] or [`KeyError::InvalidScalar`].
    pub fn from_bytes(kind: KeyKind, bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != kind.field_len() {
            return Err(KeyError::Length { kind, expected: kind.field_len(), got: bytes.len() });
        }
        let invalid = KeyError::InvalidScalar { kind };
        let inner = match kind {
            KeyKind::Ed25519 | KeyKind::X25519 => {
                let mut array = Zeroizing::new([0u8; 32]);
                array.copy_from_slice(bytes);
                if kind == KeyKind::Ed25519 {
                    Inner::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&array)))
                } else {
                    Inner::X25519(Box::new(X25519Secret::new(*array)?))
                }
            }
            KeyKind::P256 => Inner::P256(Box::new(ecdsa::P256Secret::from_bytes(bytes)?)),
            KeyKind::P384 => {
                let secret = p384::SecretKey::from_slice(bytes).map_err(|_| invalid)?;
                Inner::P384(Box::new(Paired { public: secret.public_key(), secret }))
            }
            KeyKind::P521 => {
                let secret = p521::SecretKey::from_slice(bytes).map_err(|_| invalid)?;
                Inner::P521(Box::new(Paired { public: secret.public_key(), secret }))
            }
            KeyKind::Secp256k1 => {
                let secret = k256::SecretKey::from_slice(bytes).map_err(|_| invalid)?;
                Inner::Secp256k1(Box::new(Paired { public: secret.public_key(), secret }))
            }
        };
        Ok(Self(inner))
    }

    /// The raw secret, in the form of [`SecretKey::from_bytes`], for sealed storage only.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match &self.0 {
            Inner::Ed25519(key) => key.to_bytes().to_vec(),
            Inner::X25519(key) => key.secret.as_bytes().to_vec(),
            Inner::P256(key) => key.to_bytes(),
            Inner::P384(key) => key.secret.to_bytes().to_vec(),
            Inner::P521(key) => key.secret.to_bytes().to_vec(),
            Inner::Secp256k1(key) => key.secret.to_bytes().to_vec(),
        })
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

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::new(match &self.0 {
            Inner::Ed25519(key) => PublicInner::Ed25519(key.verifying_key()),
            Inner::X25519(key) => PublicInner::X25519(key.public),
            Inner::P256(key) => PublicInner::P256(key.public_key()),
            Inner::P384(key) => PublicInner::P384(key.public),
            Inner::P521(key) => PublicInner::P521(key.public),
            Inner::Secp256k1(key) => PublicInner::Secp256k1(key.public),
        })
    }

    /// Signs `message`; the result is in JOSE form (64 bytes for every algorithm supported here).
    ///
    /// # Errors
    ///
    /// [`KeyError::WrongUse`] if the kind cannot sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.0 {
            Inner::Ed25519(key) => {
                use ed25519_dalek::Signer;
                Ok(key.sign(message).to_bytes().to_vec())
            }
            Inner::P256(key) => key.sign(message),
            Inner::Secp256k1(key) => ecdsa::sign_es256k(&key.secret, message),
            _ => Err(KeyError::WrongUse { kind: self.kind(), operation: "sign" }),
        }
    }

    /// The algorithm that [`SecretKey::sign`] uses, if the kind can sign.
    pub fn signature_algorithm(&self) -> Option<SignatureAlgorithm> {
        SignatureAlgorithm::of(self.kind())
    }

    /// Agrees on the raw shared secret with `peer`.
    ///
    /// # Errors
    ///
    /// [`KeyError::WrongUse`] if the kind cannot agree, [`KeyError::CurveMismatch`] for a peer on another curve,
    /// [`KeyError::InvalidPoint`] if the result is all zero.
    pub fn agree(&self, peer: &PublicKey) -> Result<SharedSecret, KeyError> {
        match (&self.0, peer.inner()) {
            (Inner::X25519(ours), PublicInner::X25519(theirs)) => ours.agree(theirs),
            (Inner::P256(ours), PublicInner::P256(theirs)) => {
                let z = p256::ecdh::diffie_hellman(ours.scalar().to_nonzero_scalar(), theirs.as_affine());
                Ok(SharedSecret::from_slice(z.raw_secret_bytes()))
            }
            (Inner::P384(ours), PublicInner::P384(theirs)) => {
                let z = p384::ecdh::diffie_hellman(ours.secret.to_nonzero_scalar(), theirs.as_affine());
                Ok(SharedSecret::from_slice(z.raw_secret_bytes()))
            }
            (Inner::P521(ours), PublicInner::P521(theirs)) => {
                let z = p521::ecdh::diffie_hellman(ours.secret.to_nonzero_scalar(), theirs.as_affine());
                Ok(SharedSecret::from_slice(z.raw_secret_bytes()))
            }
            _ if !self.kind().can_agree() => {
                Err(KeyError::WrongUse { kind: self.kind(), operation: "agree" })
            }
            _ => Err(KeyError::CurveMismatch { ours: self.kind(), theirs: peer.kind() }),
        }
    }

    /// Like [`SecretKey::agree`], but uses the table of `peer`'s multiples if `often` has one.
    pub(crate) fn agree_with(&self, peer: &PublicKey, often: &Often) -> Result<SharedSecret, KeyError> {
        let (Inner::X25519(ours), PublicInner::X25519(theirs)) = (&self.0, peer.inner()) else {
            return self.agree(peer);
        };
        match often.table(theirs) {
            Some(multiples) => multiples.agree(ours.secret.as_bytes()),
            None => ours.agree(theirs),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({:?}, ..)", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    fn pair(kind: KeyKind) -> (SecretKey, SecretKey) {
        let make = |seed| SecretKey::generate(kind, &SeededEntropy::new(seed)).unwrap();
        (make(1), make(2))
    }

    #[test]
    fn both_sides_agree_on_the_same_secret() {
        for kind in KeyKind::ALL.into_iter().filter(|kind| kind.can_agree()) {
            let (a, b) = pair(kind);
            let ab = a.agree(&b.public_key()).unwrap();
            let ba = b.agree(&a.public_key()).unwrap();
            assert_eq!(ab.as_bytes(), ba.as_bytes());
            assert_eq!(ab.as_bytes().len(), kind.field_len());
        }
    }

    #[test]
    fn agreement_across_curves_is_refused() {
        let (a, _) = pair(KeyKind::P256);
        let (b, _) = pair(KeyKind::P384);
        assert_eq!(
            a.agree(&b.public_key()).unwrap_err(),
            KeyError::CurveMismatch { ours: KeyKind::P256, theirs: KeyKind::P384 }
        );
    }

    #[test]
    fn signing_with_an_agreement_key_is_refused() {
        let (a, _) = pair(KeyKind::X25519);
        assert_eq!(
            a.sign(b"x").unwrap_err(),
            KeyError::WrongUse { kind: KeyKind::X25519, operation: "sign" }
        );
    }

    #[test]
    fn zero_and_oversized_scalars_are_refused() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Secp256k1] {
            for byte in [0x00, 0xff] {
                let bytes = vec![byte; kind.field_len()];
                assert_eq!(
                    SecretKey::from_bytes(kind, &bytes).unwrap_err(),
                    KeyError::InvalidScalar { kind }
                );
            }
        }
    }

    #[test]
    fn debug_shows_the_kind_and_nothing_else() {
        for kind in KeyKind::ALL {
            let text = format!("{:?}", pair(kind).0);
            assert_eq!(text, format!("SecretKey({kind:?}, ..)"));
        }
    }
}
