//! The issuer's side of a credential.

use std::fmt;

use einmal_keys::{Custody, Entropy, KeyId, PublicKey};
use serde_json::{Value, json};

use super::{SD_JWT_VC_TYP, StatusReference, key_belongs, never_disclosable};
use crate::sd_jwt::{self, Claims, HashAlgorithm, IssueError, IssueRequest, PathElement};

/// Claims that the request sets through fields of its own.
const OWN_FIELDS: [&str; 7] = ["iss", "vct", "cnf", "iat", "nbf", "exp", "status"];

/// A credential to be issued.
#[derive(Clone)]
pub struct CredentialRequest {
    /// `iss`: the issuer's DID, or an HTTPS URI.
    pub issuer: String,
    /// `vct`: the type of credential.
    pub vct: String,
    /// The key the holder will prove possession of: `cnf.jwk`.
    pub holder: PublicKey,
    /// The certified claims. They must not use names that the other fields set.
    pub claims: Claims,
    /// Paths of the claims the holder may withhold.
    pub disclosable: Vec<Vec<PathElement>>,
    /// `iat`, in seconds since 1970. Issuers round it if credentials should not be recognisable by it.
    pub issued_at: u64,
    /// `nbf`, in seconds since 1970.
    pub not_before: Option<u64>,
    /// `exp`, in seconds since 1970.
    pub expires_at: u64,
    /// Where its status can be looked up. Every credential needs its own index, even within a batch.
    pub status: Option<StatusReference>,
}

/// Hides claims and holder.
impl fmt::Debug for CredentialRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialRequest")
            .field("issuer", &self.issuer)
            .field("vct", &self.vct)
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

/// Issues a credential, signed with the key `kid`, a DID URL that also goes into the header.
///
/// # Errors
///
/// [`IssueError`] naming what in the request is not allowed, or why signing failed.
///
/// # Specification
///
/// SD-JWT VC draft 19, section 2.2.
pub fn issue(
    custody: &dyn Custody,
    kid: &KeyId,
    request: &CredentialRequest,
    entropy: &dyn Entropy,
) -> Result<String, IssueError> {
    check(kid, request)?;
    let mut claims = request.claims.as_map().clone();
    claims.insert("iss".into(), Value::from(request.issuer.as_str()));
    claims.insert("vct".into(), Value::from(request.vct.as_str()));
    let jwk = serde_json::to_value(request.holder.to_jwk()).map_err(|_| IssueError::Encoding)?;
    claims.insert("cnf".into(), json!({ "jwk": jwk }));
    claims.insert("iat".into(), Value::from(request.issued_at));
    claims.insert("exp".into(), Value::from(request.expires_at));
    if let Some(not_before) = request.not_before {
        claims.insert("nbf".into(), Value::from(not_before));
    }
    if let Some(StatusReference { uri, idx }) = &request.status {
        claims.insert("status".into(), json!({ "status_list": { "uri": uri, "idx": idx } }));
    }
    let request = IssueRequest {
        typ: SD_JWT_VC_TYP.to_owned(),
        kid: Some(kid.as_str().to_owned()),
        x5c: Vec::new(),
        claims: Claims::new(claims),
        disclosable: request.disclosable.clone(),
        decoys: 0,
        hash: HashAlgorithm::Sha256,
    };
    Ok(sd_jwt::issue(custody, kid, &request, entropy)?.into_string())
}

fn check(kid: &KeyId, request: &CredentialRequest) -> Result<(), IssueError> {
    if request.issuer.is_empty() {
        return Err(IssueError::InvalidField { field: "issuer" });
    }
    if request.vct.is_empty() {
        return Err(IssueError::InvalidField { field: "vct" });
    }
    if request.expires_at <= request.issued_at.max(request.not_before.unwrap_or(0)) {
        return Err(IssueError::InvalidField { field: "expires_at" });
    }
    if !key_belongs(&request.issuer, Some(kid.as_str())) {
        return Err(IssueError::KeyOutsideIssuer);
    }
    if let Some(name) = OWN_FIELDS.into_iter().find(|name| request.claims.get(name).is_some()) {
        return Err(IssueError::ReservedClaim { name });
    }
    match request.disclosable.iter().find_map(|path| never_disclosable(path)) {
        Some(name) => Err(IssueError::NotDisclosable { name }),
        None => Ok(()),
    }
}
