//! Proof of possession at issuance: the holder signs the issuer's nonce with the key the card will be bound to.

use einmal_keys::{Custody, Jwk, KeyId, PublicKey, SignatureAlgorithm};
use serde::Serialize;
use serde_json::Value;

use crate::{
    json::numeric_date,
    jwt::{self, Jwt, SignFault},
    sd_jwt::{MAX_CLOCK_SKEW_SECS, is_fresh},
};

/// Header `typ` of a proof.
pub const PROOF_TYP: &str = "openid4vci-proof+jwt";
/// Longest proof read, in bytes.
pub const MAX_PROOF_BYTES: usize = 8 * 1024;
/// Oldest accepted proof, in seconds, unless it was made since its nonce was given out.
pub const MAX_PROOF_AGE_SECS: u64 = 300;

const ALGORITHMS: [SignatureAlgorithm; 2] = [SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa];

/// A proof was refused or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Not a compact JWT of bounded size with the members of a proof.
    #[error("not a proof of possession")]
    Malformed,
    /// `typ` is wrong.
    #[error("the header's type is not `{PROOF_TYP}`")]
    WrongType,
    /// The algorithm is not accepted for holder keys.
    #[error("the proof's algorithm is not accepted")]
    AlgorithmNotAllowed,
    /// The key in the header is unusable, or only named.
    #[error("the proof must carry its public key as `jwk`, and nothing else that names a key")]
    Key,
    /// The signature does not verify.
    #[error("the proof's signature does not hold")]
    BadSignature,
    /// Made for another issuer.
    #[error("the proof was made for another issuer")]
    WrongAudience,
    /// Made for another offer.
    #[error("the proof answers another nonce")]
    WrongNonce,
    /// Too old, expired, or from the future.
    #[error("the proof is not fresh")]
    Stale,
    /// Our own key refused to sign.
    #[error("the holder key cannot sign")]
    Signing,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'static str,
    jwk: Jwk,
}

#[derive(Serialize)]
struct Payload<'a> {
    aud: &'a str,
    iat: u64,
    nonce: &'a str,
}

/// Makes a proof that the holder has the secret key `kid`.
///
/// `audience` is the issuer's identifier and `nonce` the offer's; `now` is in seconds since 1970.
///
/// # Errors
///
/// [`ProofError::Signing`] if the key is not held or cannot sign.
///
/// # Specification
///
/// OpenID4VCI 1.0, "jwt Proof Type", with the issuer's DID as audience.
pub fn prove(
    custody: &dyn Custody,
    kid: &KeyId,
    audience: &str,
    nonce: &str,
    now: u64,
) -> Result<String, ProofError> {
    let key = custody.public_key(kid).ok_or(ProofError::Signing)?;
    let alg = SignatureAlgorithm::of(key.kind()).ok_or(ProofError::Signing)?.name();
    prove_by_name(custody, (kid, alg), audience, nonce, now)
}

/// Like [`prove`], but the header calls the algorithm `alg`, as the issuer does: an algorithm may have two names (RFC
/// 9864).
///
/// # Errors
///
/// [`ProofError::Signing`] if the key is not held, cannot sign, or `alg` is not a name of its algorithm.
pub fn prove_by_name(
    custody: &dyn Custody,
    (kid, alg): (&KeyId, &str),
    audience: &str,
    nonce: &str,
    now: u64,
) -> Result<String, ProofError> {
    let key = custody.public_key(kid).ok_or(ProofError::Signing)?;
    let algorithm = SignatureAlgorithm::of(key.kind()).ok_or(ProofError::Signing)?;
    if SignatureAlgorithm::from_name(alg) != Some(algorithm) {
        return Err(ProofError::Signing);
    }
    let header = Header { alg, typ: PROOF_TYP, jwk: key.to_jwk() };
    let payload = Payload { aud: audience, iat: now, nonce };
    jwt::sign(custody, kid, &header, &payload).map_err(|_: SignFault| ProofError::Signing)
}

/// What a proof must say to be accepted.
#[derive(Clone, Copy, Debug)]
pub struct ProofCheck<'a> {
    /// The issuer's identifier, compared byte by byte.
    pub audience: &'a str,
    /// The offer's nonce.
    pub nonce: &'a str,
    /// When the nonce was given out, in seconds since 1970: a proof made since is fresh, however long it was on its way. `None`
    /// if that is not known; then only its age counts.
    pub asked_at: Option<u64>,
    /// Seconds since 1970.
    pub now: u64,
}

/// Checks a proof, a compact JWT, and returns the key it proves.
///
/// # Errors
///
/// [`ProofError`] naming the rule it breaks.
pub fn verify(text: &str, check: &ProofCheck<'_>) -> Result<PublicKey, ProofError> {
    if text.len() > MAX_PROOF_BYTES {
        return Err(ProofError::Malformed);
    }
    let token = Jwt::parse(text).map_err(|_| ProofError::Malformed)?;
    if token.header.typ.as_deref() != Some(PROOF_TYP) {
        return Err(ProofError::WrongType);
    }
    if !ALGORITHMS.contains(&token.header.algorithm) {
        return Err(ProofError::AlgorithmNotAllowed);
    }
    let jwk = token.header.jwk.clone().filter(|_| token.header.kid.is_none()).ok_or(ProofError::Key)?;
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| ProofError::Key)?;
    let key = PublicKey::from_jwk(&jwk).map_err(|_| ProofError::Key)?;
    if !token.is_signed_by(text, &key) {
        return Err(ProofError::BadSignature);
    }
    let member = |name: &str| token.payload.get(name).and_then(Value::as_str);
    if member("aud") != Some(check.audience) {
        return Err(ProofError::WrongAudience);
    }
    if member("nonce") != Some(check.nonce) {
        return Err(ProofError::WrongNonce);
    }
    let date = |name: &str| match token.payload.get(name) {
        Some(value) => numeric_date(value).map(Some).ok_or(ProofError::Malformed),
        None => Ok(None),
    };
    let issued = date("iat")?.ok_or(ProofError::Malformed)?;
    // Further limits set by the holder apply, as in any JWT (RFC 7519).
    let begins = date("nbf")?.unwrap_or(0).max(issued);
    let too_early = begins > check.now.saturating_add(MAX_CLOCK_SKEW_SECS);
    let over = date("exp")?.is_some_and(|end| end.saturating_add(MAX_CLOCK_SKEW_SECS) <= check.now);
    let too_old = over || !is_fresh(issued, check.asked_at, check.now, MAX_PROOF_AGE_SECS);
    if too_early || too_old { Err(ProofError::Stale) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use einmal_keys::{KeyKind, Keyring, SecretKey, SeededEntropy, base64url_decode, base64url_encode};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn ring(kind: KeyKind) -> (Keyring, KeyId) {
        let ring = Keyring::new();
        let kid = KeyId::new("holder");
        ring.insert(kid.clone(), SecretKey::generate(kind, &SeededEntropy::new(1)).unwrap());
        (ring, kid)
    }

    fn check<'a>(audience: &'a str, nonce: &'a str, now: u64) -> ProofCheck<'a> {
        ProofCheck { audience, nonce, asked_at: None, now }
    }

    fn proof() -> String {
        let (ring, kid) = ring(KeyKind::P256);
        prove(&ring, &kid, "did:web:city.example", "n-1", NOW).unwrap()
    }

    #[test]
    fn proof_yields_the_key_that_made_it() {
        for kind in [KeyKind::P256, KeyKind::Ed25519] {
            let (ring, kid) = ring(kind);
            let text = prove(&ring, &kid, "a", "n", NOW).unwrap();
            assert_eq!(verify(&text, &check("a", "n", NOW)).unwrap(), ring.public_key(&kid).unwrap());
        }
    }

    #[test]
    fn proof_calls_its_algorithm_as_it_is_told_if_that_is_a_name_of_it() {
        let (ring, kid) = ring(KeyKind::Ed25519);
        let named = |alg| prove_by_name(&ring, (&kid, alg), "a", "n", NOW);
        for alg in ["EdDSA", "Ed25519"] {
            let text = named(alg).unwrap();
            let header = base64url_decode(text.split('.').next().unwrap()).unwrap();
            let header: Value = serde_json::from_slice(&header).unwrap();
            assert_eq!(header["alg"], alg);
            assert!(verify(&text, &check("a", "n", NOW)).is_ok());
        }
        assert_eq!(named("ES256"), Err(ProofError::Signing));
    }

    #[test]
    fn proof_for_another_issuer_offer_or_time_is_refused() {
        let text = proof();
        let at = |aud, nonce, now| verify(&text, &check(aud, nonce, now));
        assert_eq!(at("did:web:evil.example", "n-1", NOW), Err(ProofError::WrongAudience));
        assert_eq!(at("did:web:city.example", "n-2", NOW), Err(ProofError::WrongNonce));
        assert_eq!(at("did:web:city.example", "n-1", NOW + MAX_PROOF_AGE_SECS + 1), Err(ProofError::Stale));
        assert_eq!(at("did:web:city.example", "n-1", NOW - MAX_CLOCK_SKEW_SECS - 1), Err(ProofError::Stale));
    }

    /// A phone that agreed without a network sends its proof hours later.
    #[test]
    fn old_proof_is_fresh_if_it_was_made_since_its_nonce_was_given_out() {
        let (text, hours_later) = (proof(), NOW + 5 * 3600);
        let asked_at =
            |asked_at| ProofCheck { asked_at, ..check("did:web:city.example", "n-1", hours_later) };
        assert!(verify(&text, &asked_at(Some(NOW + MAX_CLOCK_SKEW_SECS))).is_ok());
        assert_eq!(verify(&text, &asked_at(Some(NOW + MAX_CLOCK_SKEW_SECS + 1))), Err(ProofError::Stale));
        assert_eq!(verify(&text, &asked_at(None)), Err(ProofError::Stale));
    }

    #[test]
    fn proof_with_another_key_in_its_header_is_refused() {
        let text = proof();
        let parts: Vec<&str> = text.split('.').collect();
        let mut header: Value = serde_json::from_slice(&base64url_decode(parts[0]).unwrap()).unwrap();
        let other = SecretKey::generate(KeyKind::P256, &SeededEntropy::new(2)).unwrap();
        header["jwk"] = serde_json::to_value(other.public_key().to_jwk()).unwrap();
        let bent = format!("{}.{}.{}", base64url_encode(header.to_string()), parts[1], parts[2]);
        assert_eq!(verify(&bent, &check("did:web:city.example", "n-1", NOW)), Err(ProofError::BadSignature));
    }

    #[test]
    fn header_that_names_a_key_or_another_type_is_refused() {
        let text = proof();
        let parts: Vec<&str> = text.split('.').collect();
        let bend = |change: fn(&mut Value)| {
            let mut header: Value = serde_json::from_slice(&base64url_decode(parts[0]).unwrap()).unwrap();
            change(&mut header);
            let bent = format!("{}.{}.{}", base64url_encode(header.to_string()), parts[1], parts[2]);
            verify(&bent, &check("did:web:city.example", "n-1", NOW)).unwrap_err()
        };
        assert_eq!(bend(|h| h["typ"] = "kb+jwt".into()), ProofError::WrongType);
        assert_eq!(bend(|h| h["kid"] = "did:example:a#1".into()), ProofError::Key);
        assert_eq!(bend(|h| h["jwk"] = Value::Null), ProofError::Key);
        assert_eq!(bend(|h| h["alg"] = "ES256K".into()), ProofError::AlgorithmNotAllowed);
        assert_eq!(bend(|h| h["alg"] = "none".into()), ProofError::Malformed);
    }
}
