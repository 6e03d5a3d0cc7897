//! The signed form in which a list is published: `statuslist+jwt`.

use einmal_keys::{Custody, KeyId, SignatureAlgorithm};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{StatusError, StatusList};
use crate::{
    json::{JsonFault, numeric_date},
    jwt::{self, HeaderOut, Jwt, JwtFault},
    sd_jwt::{IssueError, MAX_CLOCK_SKEW_SECS},
    vc::IssuerKeys,
};

/// Header type of the token.
pub const STATUS_LIST_TYP: &str = "statuslist+jwt";

/// Longest token that is read, in bytes.
pub const MAX_STATUS_TOKEN_BYTES: usize = 9 * 1024 * 1024;

const ALGORITHMS: [SignatureAlgorithm; 2] = [SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa];

/// A list to be signed.
#[derive(Clone, Copy, Debug)]
pub struct StatusTokenRequest<'a> {
    /// Address at which it is published: `sub`, and the `uri` of every reference to it.
    pub uri: &'a str,
    /// The issuer of the credentials it covers: `iss`.
    pub issuer: &'a str,
    /// The list.
    pub list: &'a StatusList,
    /// `iat`, in seconds since 1970.
    pub issued_at: u64,
    /// `exp`, in seconds since 1970; at least two `ttl` after `issued_at`, or a short outage stops all verifiers.
    pub expires_at: u64,
    /// Seconds a verifier may keep it before asking again.
    pub ttl: u64,
}

#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    sub: &'a str,
    iat: u64,
    exp: u64,
    ttl: u64,
    status_list: ListMember,
}

#[derive(Serialize)]
struct ListMember {
    bits: u8,
    lst: String,
}

/// Signs a list with the key `kid`, a DID URL that also goes into the header.
///
/// # Errors
///
/// [`IssueError::InvalidField`] if the times contradict each other or the address is empty; other variants if signing
/// failed.
///
/// # Specification
///
/// Token Status List draft 20, section 5.1.
pub fn issue_token(
    custody: &dyn Custody,
    kid: &KeyId,
    request: &StatusTokenRequest<'_>,
) -> Result<String, IssueError> {
    if request.uri.is_empty() {
        return Err(IssueError::InvalidField { field: "uri" });
    }
    if request.ttl == 0 {
        return Err(IssueError::InvalidField { field: "ttl" });
    }
    let earliest_end = request.issued_at.saturating_add(request.ttl.saturating_mul(2));
    if request.expires_at < earliest_end {
        return Err(IssueError::InvalidField { field: "expires_at" });
    }
    let alg = jwt::algorithm_of(custody, kid)?.name();
    let header = HeaderOut { alg, typ: STATUS_LIST_TYP, kid: Some(kid.as_str()), x5c: &[] };
    let lst = request.list.encode().map_err(|_| IssueError::Encoding)?;
    let payload = Payload {
        iss: request.issuer,
        sub: request.uri,
        iat: request.issued_at,
        exp: request.expires_at,
        ttl: request.ttl,
        status_list: ListMember { bits: request.list.bits(), lst },
    };
    Ok(jwt::sign(custody, kid, &header, &payload)?)
}

/// A list with checked signature, address and times.
#[derive(Clone, Debug)]
pub struct VerifiedStatusList {
    uri: String,
    issuer: String,
    list: StatusList,
    issued_at: u64,
    expires_at: Option<u64>,
    ttl: Option<u64>,
}

impl VerifiedStatusList {
    /// The address it was published at.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The issuer whose credentials it covers.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The entries.
    pub fn list(&self) -> &StatusList {
        &self.list
    }

    /// `iat`, in seconds since 1970.
    pub fn issued_at(&self) -> u64 {
        self.issued_at
    }

    /// `exp`, in seconds since 1970.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Seconds for which it may be kept.
    pub fn ttl(&self) -> Option<u64> {
        self.ttl
    }
}

/// Verifies a token fetched from `uri` for credentials of `issuer`.
///
/// The list must be signed by the credential issuer itself; its key is found in the same way as for its credentials.
///
/// # Errors
///
/// [`StatusError`] naming the first check that failed.
///
/// # Specification
///
/// Token Status List draft 20, section 8.3.
pub fn verify_token(
    text: &str,
    uri: &str,
    issuer: &str,
    now: u64,
    keys: &dyn IssuerKeys,
) -> Result<VerifiedStatusList, StatusError> {
    if text.len() > MAX_STATUS_TOKEN_BYTES {
        return Err(StatusError::TooLarge);
    }
    let token = Jwt::parse(text).map_err(token_fault)?;
    if token.header.typ.as_deref() != Some(STATUS_LIST_TYP) {
        return Err(StatusError::WrongType);
    }
    if !ALGORITHMS.contains(&token.header.algorithm) {
        return Err(StatusError::AlgorithmNotAllowed);
    }
    let kid = token.header.kid.as_deref();
    if !crate::vc::key_belongs(issuer, kid) {
        return Err(StatusError::WrongIssuer);
    }
    let key = keys.issuer_key(issuer, kid)?;
    if !token.is_signed_by(text, &key) {
        return Err(StatusError::BadSignature);
    }
    check_payload(&token.payload, uri, issuer, now)
}

fn check_payload(
    payload: &Map<String, Value>,
    uri: &str,
    issuer: &str,
    now: u64,
) -> Result<VerifiedStatusList, StatusError> {
    let malformed = |part| StatusError::MalformedToken { part };
    if payload.get("sub").and_then(Value::as_str).ok_or(malformed("sub"))? != uri {
        return Err(StatusError::WrongSubject);
    }
    if payload.get("iss").is_some_and(|iss| iss.as_str() != Some(issuer)) {
        return Err(StatusError::WrongIssuer);
    }
    let date = |name| payload.get(name).map(|value| numeric_date(value).ok_or(malformed(name))).transpose();
    let issued_at = date("iat")?.ok_or(malformed("iat"))?;
    let (expires_at, ttl) = (date("exp")?, date("ttl")?);
    let begins_at = date("nbf")?.unwrap_or(0).max(issued_at);
    if begins_at > now.saturating_add(MAX_CLOCK_SKEW_SECS) {
        return Err(StatusError::FromTheFuture);
    }
    if expires_at.is_some_and(|end| now >= end.saturating_add(MAX_CLOCK_SKEW_SECS)) {
        return Err(StatusError::Expired);
    }
    let list = payload.get("status_list").ok_or(malformed("status_list"))?;
    let bits = list.get("bits").and_then(Value::as_u64).ok_or(malformed("bits"))?;
    let bits = u8::try_from(bits).map_err(|_| StatusError::InvalidBits)?;
    let lst = list.get("lst").and_then(Value::as_str).ok_or(malformed("lst"))?;
    Ok(VerifiedStatusList {
        uri: uri.to_owned(),
        issuer: issuer.to_owned(),
        list: StatusList::decode(bits, lst)?,
        issued_at,
        expires_at,
        ttl,
    })
}

fn token_fault(fault: JwtFault) -> StatusError {
    match fault {
        JwtFault::Algorithm => StatusError::AlgorithmNotAllowed,
        JwtFault::Critical => StatusError::MalformedToken { part: "crit" },
        JwtFault::Json(JsonFault::DuplicateMember) => {
            StatusError::MalformedToken { part: "a member name twice" }
        }
        JwtFault::Json(JsonFault::TooDeep) => StatusError::MalformedToken { part: "nested too deeply" },
        JwtFault::Json(JsonFault::Malformed) | JwtFault::Malformed => {
            StatusError::MalformedToken { part: "not a signed JWT" }
        }
    }
}
