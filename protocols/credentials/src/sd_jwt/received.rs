//! An SD-JWT as received, and the check that consumes it and yields a verified one.

use std::{fmt, ops::Range};

use einmal_keys::{Jwk, PublicKey, SignatureAlgorithm, base64url_decode};
use serde_json::{Map, Value};

use super::{
    Claims, ElementPositions, HashAlgorithm, HeldSdJwt, KeyBindingError, MAX_DISCLOSURES, MAX_SD_JWT_BYTES,
    PathElement, SdJwtError, is_reserved,
    open::{self, Disclosed},
};
use crate::{
    json,
    jwt::{Jwt, JwtFault},
};

/// A received SD-JWT: well formed and within bounds, but not to be trusted yet.
pub struct SdJwtIn {
    text: String,
    issuer_jwt: Jwt,
    disclosures: Vec<(Range<usize>, Disclosed)>,
    /// Length of the text up to and including the last `~`.
    presented_len: usize,
    key_binding: Option<Jwt>,
}

/// Shows sizes, not claims.
impl fmt::Debug for SdJwtIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdJwtIn")
            .field("bytes", &self.text.len())
            .field("disclosures", &self.disclosures.len())
            .field("key_binding", &self.key_binding.is_some())
            .finish_non_exhaustive()
    }
}

impl SdJwtIn {
    /// Reads the compact form.
    ///
    /// # Errors
    ///
    /// [`SdJwtError`] for every fault that shows without a key.
    ///
    /// # Specification
    ///
    /// RFC 9901, section 4.
    pub fn parse(text: &str) -> Result<Self, SdJwtError> {
        if text.len() > MAX_SD_JWT_BYTES {
            return Err(SdJwtError::TooLarge { bytes: text.len() });
        }
        let mut parts = text.split('~');
        let (Some(signed), Some(last)) = (parts.next(), parts.next_back()) else {
            return Err(SdJwtError::MissingTilde);
        };
        let issuer_jwt = Jwt::parse(signed).map_err(SdJwtError::jwt)?;
        let mut start = signed.len().saturating_add(1);
        let mut disclosures = Vec::new();
        for (index, part) in parts.enumerate() {
            if index >= MAX_DISCLOSURES {
                return Err(SdJwtError::TooManyDisclosures);
            }
            let end = start.saturating_add(part.len());
            disclosures.push((start..end, read_disclosure(part, index)?));
            start = end.saturating_add(1);
        }
        let key_binding = if last.is_empty() { None } else { Some(read_key_binding(last)?) };
        let presented_len = text.len().saturating_sub(last.len());
        Ok(Self { text: text.to_owned(), issuer_jwt, disclosures, presented_len, key_binding })
    }

    /// The header's algorithm.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.issuer_jwt.header.algorithm
    }

    /// The header's `typ`, unproved.
    pub fn typ(&self) -> Option<&str> {
        self.issuer_jwt.header.typ.as_deref()
    }

    /// The header's `kid`, unproved: used to look up the verification key.
    pub fn kid(&self) -> Option<&str> {
        self.issuer_jwt.header.kid.as_deref()
    }

    /// Whether anything follows the last `~`. Says nothing about its validity.
    pub fn has_key_binding(&self) -> bool {
        self.key_binding.is_some()
    }

    /// Whether any disclosure has this name, wherever it belongs.
    pub(crate) fn has_disclosure_named(&self, name: &str) -> bool {
        self.disclosures.iter().any(|(_, disclosed)| disclosed.name.as_deref() == Some(name))
    }

    /// The signed payload, still with digests, unproved.
    pub(crate) fn raw_payload(&self) -> &Map<String, Value> {
        &self.issuer_jwt.payload
    }

    /// Checks the issuer's signature with `key` and puts all disclosures in place.
    ///
    /// The key binding is not checked here: see [`VerifiedSdJwt::check_key_binding`].
    ///
    /// # Errors
    ///
    /// [`SdJwtError`]; the signature is checked before the disclosures.
    ///
    /// # Specification
    ///
    /// RFC 9901, section 7.1.
    pub fn verify(
        self,
        key: &PublicKey,
        allowed: &[SignatureAlgorithm],
    ) -> Result<VerifiedSdJwt, SdJwtError> {
        if !allowed.contains(&self.algorithm()) {
            return Err(SdJwtError::AlgorithmNotAllowed);
        }
        if !self.issuer_jwt.is_signed_by(&self.text, key) {
            return Err(SdJwtError::BadSignature);
        }
        Ok(VerifiedSdJwt(self.open()?))
    }

    /// Puts all disclosures in place without checking the signature.
    pub(super) fn open(self) -> Result<Body, SdJwtError> {
        let Self { text, issuer_jwt, disclosures, presented_len, key_binding } = self;
        let mut payload = issuer_jwt.payload;
        let hash = open::take_hash(&mut payload)?;
        let (ranges, contents): (Vec<_>, Vec<_>) = disclosures.into_iter().unzip();
        let encoded = ranges.iter().map(|range| text.get(range.clone()).unwrap_or_default());
        let opened = open::open(payload, hash, encoded.zip(contents))?;
        let disclosures = ranges.into_iter().zip(opened.places).collect();
        Ok(Body {
            claims: Claims::new(opened.claims),
            positions: opened.positions,
            disclosures,
            hash,
            presented_len,
            key_binding,
            text,
        })
    }
}

fn read_disclosure(encoded: &str, index: usize) -> Result<Disclosed, SdJwtError> {
    let malformed = || SdJwtError::MalformedDisclosure { index };
    let bytes = base64url_decode(encoded).ok_or_else(malformed)?;
    let value = json::parse(&bytes).map_err(|fault| match SdJwtError::json("a disclosure", fault) {
        SdJwtError::Malformed { .. } => malformed(),
        other => other,
    })?;
    let Value::Array(items) = value else { return Err(malformed()) };
    let mut items = items.into_iter();
    match (items.next(), items.next(), items.next(), items.next()) {
        (Some(Value::String(_)), Some(value), None, None) => Ok(Disclosed { name: None, value }),
        (Some(Value::String(_)), Some(Value::String(name)), Some(value), None) => {
            if is_reserved(&name) {
                return Err(SdJwtError::ReservedName);
            }
            Ok(Disclosed { name: Some(name), value })
        }
        _ => Err(malformed()),
    }
}

fn read_key_binding(text: &str) -> Result<Jwt, KeyBindingError> {
    Jwt::parse(text).map_err(|fault| match fault {
        JwtFault::Algorithm => KeyBindingError::AlgorithmNotAllowed,
        _ => KeyBindingError::Malformed,
    })
}

/// What is known once all disclosures are in place.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) text: String,
    pub(super) claims: Claims,
    pub(super) positions: ElementPositions,
    /// The range of each disclosure in the text, and its path in the claims.
    pub(super) disclosures: Vec<(Range<usize>, Vec<PathElement>)>,
    pub(super) hash: HashAlgorithm,
    pub(super) presented_len: usize,
    pub(super) key_binding: Option<Jwt>,
}

impl Body {
    /// The key the issuer bound the SD-JWT to: `cnf.jwk` (RFC 7800).
    pub(super) fn holder_key(&self) -> Option<PublicKey> {
        let jwk = self.claims.get("cnf")?.get("jwk")?;
        let jwk: Jwk = serde::Deserialize::deserialize(jwk).ok()?;
        PublicKey::from_jwk(&jwk).ok()
    }

    pub(super) fn presented(&self) -> &str {
        self.text.get(..self.presented_len).unwrap_or_default()
    }
}

/// An SD-JWT with a valid issuer's signature and disclosures that all fit.
pub struct VerifiedSdJwt(pub(super) Body);

/// Shows sizes, not claims.
impl fmt::Debug for VerifiedSdJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedSdJwt")
            .field("claims", &self.0.claims)
            .field("disclosures", &self.0.disclosures.len())
            .finish_non_exhaustive()
    }
}

impl VerifiedSdJwt {
    /// The claims, with disclosed ones in their places and no digests left.
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }

    /// Paths of the claims that came from disclosures, in the order of the text.
    pub fn disclosed(&self) -> impl ExactSizeIterator<Item = &[PathElement]> {
        self.0.disclosures.iter().map(|(_, path)| path.as_slice())
    }

    /// Signed positions of array elements, for arrays that lost some.
    pub fn positions(&self) -> &ElementPositions {
        &self.0.positions
    }

    /// The key the issuer bound the SD-JWT to (`cnf.jwk`), if it is usable.
    pub fn holder_key(&self) -> Option<PublicKey> {
        self.0.holder_key()
    }

    /// The SD-JWT as its holder keeps it; a key binding is dropped.
    pub fn into_held(self) -> HeldSdJwt {
        HeldSdJwt::new(self.0)
    }

    /// Claims, positions and disclosed paths, by value.
    pub(crate) fn into_parts(self) -> (Claims, ElementPositions, Vec<Vec<PathElement>>) {
        let disclosed = self.0.disclosures.into_iter().map(|(_, path)| path).collect();
        (self.0.claims, self.0.positions, disclosed)
    }
}
