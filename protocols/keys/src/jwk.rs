//! Keys as JSON Web Keys (RFC 7517, 7518, 8037).

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{KeyError, KeyKind, PublicKey, SecretKey, base64url_decode, base64url_encode};

/// Longest base64url member of a JWK that is read, in characters; P-521 needs 88.
pub const MAX_JWK_MEMBER_LEN: usize = 128;

/// A JWK as it appears in JSON. Convert received ones with [`PublicKey::from_jwk`] or [`SecretKey::from_jwk`].
///
/// Unknown members are ignored, as RFC 7517 demands.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `OKP` or `EC`.
    pub kty: String,
    /// Curve name.
    pub crv: String,
    /// x coordinate or OKP key, base64url.
    pub x: String,
    /// y coordinate, base64url; EC only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// Private scalar, base64url; absent in public keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d: Option<Zeroizing<String>>,
    /// Key id, if the key carries one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

/// Omits the private member.
impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwk").field("crv", &self.crv).field("x", &self.x).finish_non_exhaustive()
    }
}

impl Jwk {
    /// SHA-256 thumbprint of the public members, base64url (RFC 7638).
    ///
    /// # Errors
    ///
    /// The errors of [`PublicKey::from_jwk`]; a private member is ignored.
    pub fn thumbprint(&self) -> Result<String, KeyError> {
        Ok(PublicKey::from_jwk_public_part(self)?.thumbprint())
    }
}

impl PublicKey {
    /// Reads a public JWK.
    ///
    /// Coordinates shorter than the field are padded with leading zeros: a widespread library drops them, and the point
    /// must still lie on the curve. Longer ones are refused.
    ///
    /// # Errors
    ///
    /// [`KeyError`] naming what is wrong; [`KeyError::PrivateMemberInPublicKey`] if `d` is present.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        if jwk.d.is_some() {
            return Err(KeyError::PrivateMemberInPublicKey);
        }
        Self::from_jwk_public_part(jwk)
    }

    pub(crate) fn from_jwk_public_part(jwk: &Jwk) -> Result<Self, KeyError> {
        let kind = KeyKind::from_crv(&jwk.crv).ok_or(KeyError::UnsupportedKind)?;
        if kind.kty() != jwk.kty {
            return Err(KeyError::UnsupportedKind);
        }
        if kind.kty() == "OKP" {
            let x = member(&jwk.x, "x")?;
            return Self::from_okp(kind, &x);
        }
        let y = jwk.y.as_deref().ok_or(KeyError::Encoding { member: "y", expected: "present" })?;
        let mut sec1 = vec![0x04];
        sec1.extend_from_slice(&coordinate(kind, &jwk.x, "x")?);
        sec1.extend_from_slice(&coordinate(kind, y, "y")?);
        Self::from_sec1(kind, &sec1)
    }

    /// The key as public JWK, without `kid`.
    pub fn to_jwk(&self) -> Jwk {
        let kind = self.kind();
        let (x, y) = self.coordinates();
        Jwk {
            kty: kind.kty().to_owned(),
            crv: kind.crv().to_owned(),
            x: base64url_encode(x),
            y: y.map(base64url_encode),
            d: None,
            kid: None,
        }
    }

    /// SHA-256 thumbprint, base64url (RFC 7638, RFC 8037 appendix A.3).
    pub fn thumbprint(&self) -> String {
        let jwk = self.to_jwk();
        let text = match &jwk.y {
            Some(y) => {
                format!(r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{y}"}}"#, jwk.crv, jwk.kty, jwk.x)
            }
            None => format!(r#"{{"crv":"{}","kty":"{}","x":"{}"}}"#, jwk.crv, jwk.kty, jwk.x),
        };
        base64url_encode(Sha256::digest(text.as_bytes()))
    }

    /// The key in JOSE coordinates: `x` alone for OKP, both for EC.
    fn coordinates(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let bytes = self.sec1(false);
        if self.kind().kty() == "OKP" {
            return (bytes, None);
        }
        let (_, point) = bytes.split_at(1);
        let (x, y) = point.split_at(point.len() / 2);
        (x.to_vec(), Some(y.to_vec()))
    }
}

impl SecretKey {
    /// Reads a JWK with its private member and checks that both halves belong together.
    ///
    /// # Errors
    ///
    /// [`KeyError::Encoding`] if `d` is absent or broken, [`KeyError::HalvesDisagree`], and the errors of
    /// [`PublicKey::from_jwk`].
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let public = PublicKey::from_jwk_public_part(jwk)?;
        let d = jwk.d.as_deref().ok_or(KeyError::Encoding { member: "d", expected: "present" })?;
        let kind = public.kind();
        let scalar =
            Zeroizing::new(if kind.kty() == "OKP" { member(d, "d")? } else { coordinate(kind, d, "d")? });
        let secret = Self::from_bytes(kind, &scalar)?;
        if secret.public_key() != public {
            return Err(KeyError::HalvesDisagree);
        }
        Ok(secret)
    }

    /// The key as JWK with its private member. The text is as secret as the key.
    pub fn to_jwk(&self) -> Jwk {
        let mut jwk = self.public_key().to_jwk();
        jwk.d = Some(Zeroizing::new(base64url_encode(self.to_bytes().as_slice())));
        jwk
    }
}

fn member(text: &str, member: &'static str) -> Result<Vec<u8>, KeyError> {
    if text.len() > MAX_JWK_MEMBER_LEN {
        return Err(KeyError::Encoding { member, expected: "a short base64url text" });
    }
    base64url_decode(text).ok_or(KeyError::Encoding { member, expected: "unpadded base64url" })
}

fn coordinate(kind: KeyKind, text: &str, name: &'static str) -> Result<Vec<u8>, KeyError> {
    let bytes = Zeroizing::new(member(text, name)?);
    let missing = kind.field_len().checked_sub(bytes.len()).filter(|_| !bytes.is_empty());
    let missing = missing.ok_or(KeyError::Length { kind, expected: kind.field_len(), got: bytes.len() })?;
    let mut padded = vec![0; missing];
    padded.extend_from_slice(&bytes);
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    fn secret(kind: KeyKind) -> SecretKey {
        SecretKey::generate(kind, &SeededEntropy::new(3)).unwrap()
    }

    #[test]
    fn public_and_secret_jwk_round_trip_for_every_kind() {
        for kind in KeyKind::ALL {
            let key = secret(kind);
            assert_eq!(PublicKey::from_jwk(&key.public_key().to_jwk()).unwrap(), key.public_key());
            let again = SecretKey::from_jwk(&key.to_jwk()).unwrap();
            assert_eq!(again.to_bytes().as_slice(), key.to_bytes().as_slice());
        }
    }

    #[test]
    fn point_off_the_curve_is_refused() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Secp256k1] {
            let mut jwk = secret(kind).public_key().to_jwk();
            jwk.y = Some(jwk.x.clone());
            assert_eq!(PublicKey::from_jwk(&jwk), Err(KeyError::InvalidPoint { kind }));
        }
    }

    #[test]
    fn x25519_points_of_low_order_are_refused() {
        let mut one = [0u8; 32];
        one[0] = 1;
        for point in [[0u8; 32], one] {
            let jwk =
                Jwk { kty: "OKP".into(), crv: "X25519".into(), x: base64url_encode(point), ..Jwk::default() };
            assert_eq!(PublicKey::from_jwk(&jwk), Err(KeyError::InvalidPoint { kind: KeyKind::X25519 }));
        }
    }

    #[test]
    fn public_jwk_with_private_member_is_refused() {
        let jwk = secret(KeyKind::P256).to_jwk();
        assert_eq!(PublicKey::from_jwk(&jwk), Err(KeyError::PrivateMemberInPublicKey));
    }

    #[test]
    fn halves_of_two_keys_are_refused() {
        let other = SecretKey::generate(KeyKind::P256, &SeededEntropy::new(4)).unwrap();
        let mut jwk = secret(KeyKind::P256).to_jwk();
        jwk.d = other.to_jwk().d.clone();
        assert_eq!(SecretKey::from_jwk(&jwk).unwrap_err(), KeyError::HalvesDisagree);
    }

    #[test]
    fn short_p521_coordinates_are_padded_and_long_ones_refused() {
        let key = secret(KeyKind::P521).public_key();
        let mut jwk = key.to_jwk();
        let x = base64url_decode(&jwk.x).unwrap();
        let stripped: Vec<u8> = x.iter().copied().skip_while(|b| *b == 0).collect();
        jwk.x = base64url_encode(&stripped);
        assert_eq!(PublicKey::from_jwk(&jwk).unwrap(), key);
        jwk.x = base64url_encode([&[0][..], &x].concat());
        assert_eq!(
            PublicKey::from_jwk(&jwk),
            Err(KeyError::Length { kind: KeyKind::P521, expected: 66, got: 67 })
        );
    }

    #[test]
    fn key_type_that_does_not_fit_the_curve_is_refused() {
        let mut jwk = secret(KeyKind::X25519).public_key().to_jwk();
        jwk.kty = "EC".into();
        assert_eq!(PublicKey::from_jwk(&jwk), Err(KeyError::UnsupportedKind));
    }

    #[test]
    fn debug_of_a_secret_jwk_hides_the_secret() {
        let jwk = secret(KeyKind::P256).to_jwk();
        let d = jwk.d.clone().unwrap();
        assert!(!format!("{jwk:?}").contains(d.as_str()));
    }

    #[test]
    fn thumbprint_matches_the_value_printed_in_rfc_8037() {
        let jwk = Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".into(),
            ..Jwk::default()
        };
        assert_eq!(jwk.thumbprint().unwrap(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
