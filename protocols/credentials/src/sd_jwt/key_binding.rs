//! The verifier's check that the holder made exactly this presentation for exactly this request.

use einmal_keys::{PublicKey, SignatureAlgorithm};
use serde_json::Value;

use super::{KeyBindingError, VerifiedSdJwt, received::Body};
use crate::{json::numeric_date, jwt::Jwt};

/// Most seconds by which two honest clocks may differ.
pub const MAX_CLOCK_SKEW_SECS: u64 = 60;

/// Seconds after which a key binding is too old, unless it was made since its nonce was given out.
pub const MAX_KEY_BINDING_AGE_SECS: u64 = 300;

/// Header type of a KB-JWT.
pub(super) const KEY_BINDING_TYP: &str = "kb+jwt";

/// What a key binding must say to be accepted.
#[derive(Clone, Copy, Debug)]
pub struct KeyBindingCheck<'a> {
    /// The verifier's own name, as in the request; compared byte by byte.
    pub audience: &'a str,
    /// The request's nonce.
    pub nonce: &'a str,
    /// When the nonce was given out, in seconds since 1970: a key binding made since is fresh, however long it was on its
    /// way. `None` if that is not known; then only its age counts.
    pub asked_at: Option<u64>,
    /// Seconds since 1970.
    pub now: u64,
    /// Algorithms the holder may sign with.
    pub algorithms: &'a [SignatureAlgorithm],
}

/// A valid key binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBinding {
    /// The key that proved possession: the one in `cnf.jwk`.
    pub holder: PublicKey,
    /// When it was made, in seconds since 1970.
    pub issued_at: u64,
}

impl VerifiedSdJwt {
    /// Checks the KB-JWT: type, algorithm, signature by `cnf.jwk`, `sd_hash`, `aud`, `nonce` and age.
    ///
    /// # Errors
    ///
    /// [`KeyBindingError`] naming the first check that failed; [`KeyBindingError::Missing`] if there is none.
    ///
    /// # Specification
    ///
    /// RFC 9901, section 7.3.
    pub fn check_key_binding(&self, check: &KeyBindingCheck<'_>) -> Result<KeyBinding, KeyBindingError> {
        let jwt = self.0.key_binding.as_ref().ok_or(KeyBindingError::Missing)?;
        if jwt.header.typ.as_deref() != Some(KEY_BINDING_TYP) {
            return Err(KeyBindingError::WrongType);
        }
        if !check.algorithms.contains(&jwt.header.algorithm) {
            return Err(KeyBindingError::AlgorithmNotAllowed);
        }
        let holder = self.0.holder_key().ok_or(KeyBindingError::NoHolderKey)?;
        let text = self.0.text.get(self.0.presented_len..).unwrap_or_default();
        if !jwt.is_signed_by(text, &holder) {
            return Err(KeyBindingError::WrongHolderKey);
        }
        let issued_at = check_payload(jwt, &self.0, check)?;
        Ok(KeyBinding { holder, issued_at })
    }
}

/// Whether what answers a nonce is fresh: made since the nonce was given out, or not longer than `max_age` seconds ago.
///
/// Nobody can have answered a nonce that did not exist, and it is taken once: what was made since cannot be a repetition. Its age
/// alone would refuse an honest answer that waited for a network.
pub(crate) fn is_fresh(made_at: u64, asked_at: Option<u64>, now: u64, max_age: u64) -> bool {
    let since = asked_at.is_some_and(|asked_at| made_at.saturating_add(MAX_CLOCK_SKEW_SECS) >= asked_at);
    since || now.saturating_sub(made_at) <= max_age
}

fn check_payload(jwt: &Jwt, body: &Body, check: &KeyBindingCheck<'_>) -> Result<u64, KeyBindingError> {
    let text = |name: &str| jwt.payload.get(name).and_then(Value::as_str).ok_or(KeyBindingError::Malformed);
    if text("sd_hash")? != body.hash.digest(body.presented().as_bytes()) {
        return Err(KeyBindingError::WrongHash);
    }
    if text("aud")? != check.audience {
        return Err(KeyBindingError::WrongAudience);
    }
    if text("nonce")? != check.nonce {
        return Err(KeyBindingError::WrongNonce);
    }
    let issued_at = jwt.payload.get("iat").and_then(numeric_date).ok_or(KeyBindingError::Malformed)?;
    if issued_at > check.now.saturating_add(MAX_CLOCK_SKEW_SECS) {
        return Err(KeyBindingError::FromTheFuture);
    }
    if !is_fresh(issued_at, check.asked_at, check.now, MAX_KEY_BINDING_AGE_SECS) {
        return Err(KeyBindingError::Stale);
    }
    // Further limits set by the holder apply, as in any JWT (RFC 9901, section 7.3, and RFC 7519).
    let bound = |name: &str| match jwt.payload.get(name) {
        Some(value) => numeric_date(value).map(Some).ok_or(KeyBindingError::Malformed),
        None => Ok(None),
    };
    if bound("exp")?.is_some_and(|end| end.saturating_add(MAX_CLOCK_SKEW_SECS) <= check.now) {
        return Err(KeyBindingError::Stale);
    }
    if bound("nbf")?.is_some_and(|start| start > check.now.saturating_add(MAX_CLOCK_SKEW_SECS)) {
        return Err(KeyBindingError::FromTheFuture);
    }
    Ok(issued_at)
}
