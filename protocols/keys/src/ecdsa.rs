//! ECDSA over P-256 and secp256k1 in the JOSE form: `r || s`, 64 bytes.

use p256::ecdsa::signature::{Signer, Verifier};

use crate::{KeyError, KeyKind};

/// A P-256 secret, also in the form that the fast backend needs, with its public half, which is expensive to compute.
#[derive(Clone)]
pub(crate) struct P256Secret {
    key: p256::SecretKey,
    public: p256::PublicKey,
    #[cfg(not(feature = "aws-lc"))]
    signer: p256::ecdsa::SigningKey,
    #[cfg(feature = "aws-lc")]
    fast: std::sync::Arc<aws_lc_rs::signature::EcdsaKeyPair>,
}

impl P256Secret {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let invalid = || KeyError::InvalidScalar { kind: KeyKind::P256 };
        let key = p256::SecretKey::from_slice(bytes).map_err(|_| invalid())?;
        let public = key.public_key();
        #[cfg(feature = "aws-lc")]
        {
            use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
            use p256::elliptic_curve::sec1::ToSec1Point;
            let point = public.to_sec1_point(false);
            let fast = EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                bytes,
                point.as_bytes(),
            )
            .map_err(|_| invalid())?;
            Ok(Self { key, public, fast: std::sync::Arc::new(fast) })
        }
        #[cfg(not(feature = "aws-lc"))]
        Ok(Self { signer: p256::ecdsa::SigningKey::from(&key), key, public })
    }

    pub(crate) fn scalar(&self) -> &p256::SecretKey {
        &self.key
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.key.to_bytes().to_vec()
    }

    pub(crate) fn public_key(&self) -> p256::PublicKey {
        self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        #[cfg(feature = "aws-lc")]
        {
            let rng = aws_lc_rs::rand::SystemRandom::new();
            let signature = self.fast.sign(&rng, message).map_err(|_| KeyError::Entropy)?;
            Ok(signature.as_ref().to_vec())
        }
        #[cfg(not(feature = "aws-lc"))]
        {
            let signature: p256::ecdsa::Signature =
                self.signer.try_sign(message).map_err(|_| KeyError::Entropy)?;
            Ok(signature.to_bytes().to_vec())
        }
    }
}

/// Checks an ES256 signature; `key` is on the curve by construction.
pub(crate) fn verify_es256(key: &p256::PublicKey, message: &[u8], signature: &[u8]) -> bool {
    #[cfg(feature = "aws-lc")]
    {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
        use p256::elliptic_curve::sec1::ToSec1Point;
        let point = key.to_sec1_point(false);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.as_bytes()).verify(message, signature).is_ok()
    }
    #[cfg(not(feature = "aws-lc"))]
    {
        let Ok(signature) = p256::ecdsa::Signature::from_slice(signature) else { return false };
        p256::ecdsa::VerifyingKey::from(key).verify(message, &signature).is_ok()
    }
}

pub(crate) fn sign_es256k(key: &k256::SecretKey, message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let signer = k256::ecdsa::SigningKey::from(key);
    let signature: k256::ecdsa::Signature = signer.try_sign(message).map_err(|_| KeyError::Entropy)?;
    Ok(signature.to_bytes().to_vec())
}

/// Checks an ES256K signature, in low-s or high-s form: JOSE requires neither.
pub(crate) fn verify_es256k(key: &k256::PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = k256::ecdsa::Signature::from_slice(signature) else { return false };
    let signature = signature.normalize_s();
    k256::ecdsa::VerifyingKey::from(key).verify(message, &signature).is_ok()
}
