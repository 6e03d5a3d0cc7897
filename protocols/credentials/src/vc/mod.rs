//! Credentials in the format `dc+sd-jwt` (SD-JWT VC): issuing, holding, presenting, verifying.
//!
//! The caller decides who may issue and how an issuer's key is found: [`IssuerTrust`] and [`IssuerKeys`]. The standard
//! defines issuer metadata and X.509. A DID as `iss` follows this project's own profile, of which one rule is enforced
//! here: `kid` must use the DID in `iss`.

use einmal_keys::PublicKey;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    json::numeric_date,
    sd_jwt::{PathElement, SdJwtIn},
};

mod error;
mod held;
mod issue;
mod verify;

pub use error::{KeyLookupError, VerifyError, VerifyFault};
pub use held::{HeldCredential, IssuedExpectation, TECHNICAL_CLAIMS, accept_issued};
pub use issue::{CredentialRequest, issue};
pub use verify::{
    IssuerTrust, KeyBindingRequirement, StatusPolicy, VerificationContext, VerifiedCredential,
    verify_presentation,
};

pub use crate::sd_jwt::{IssueError, KeyBindingRequest, PresentError};

/// Format identifier and header type (SD-JWT VC, section 2.2.1).
pub const SD_JWT_VC_TYP: &str = "dc+sd-jwt";

/// Header type of drafts until November 2024; accepted only on request.
pub const LEGACY_SD_JWT_VC_TYP: &str = "vc+sd-jwt";

/// Claims that must never be hidden, wholly or in part (SD-JWT VC, section 2.2.2.2).
pub const NEVER_DISCLOSABLE: [&str; 8] =
    ["iss", "nbf", "exp", "cnf", "vct", "vct#integrity", "aka_vcts", "status"];

/// Finds the key an issuer signs with. Do blocking work before the call: see [`peek`].
pub trait IssuerKeys {
    /// The key of issuer `iss` that the header's `kid` names.
    ///
    /// An implementation returns only keys that the issuer itself published for signing credentials; for a DID that is
    /// `assertionMethod`.
    ///
    /// # Errors
    ///
    /// [`KeyLookupError`], in particular [`KeyLookupError::NoMechanism`] for an issuer it has no way to ask.
    fn issuer_key(&self, iss: &str, kid: Option<&str>) -> Result<PublicKey, KeyLookupError>;
}

/// Where the status of a credential can be looked up (Token Status List, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StatusReference {
    /// Address of the list, compared byte by byte.
    pub uri: String,
    /// Position in the list.
    pub idx: u64,
}

/// What a received credential claims before anything is proved: enough to fetch the issuer's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// `iss`.
    pub issuer: String,
    /// Header `kid`.
    pub kid: Option<String>,
    /// `vct`.
    pub vct: String,
    /// Status list it refers to.
    pub status: Option<StatusReference>,
}

/// Reads what is needed to resolve the issuer's key, without trusting it.
///
/// # Errors
///
/// [`VerifyError`], as [`verify_presentation`] would return it for the same text.
pub fn peek(text: &str) -> Result<Peek, VerifyError> {
    let received = SdJwtIn::parse(text)?;
    Ok(Peek {
        issuer: visible_text(&received, "iss")?,
        kid: received.kid().map(str::to_owned),
        vct: visible_text(&received, "vct")?,
        status: read_status(received.raw_payload())?,
    })
}

/// A required string claim that is in the signed payload itself.
fn visible_text(received: &SdJwtIn, name: &'static str) -> Result<String, VerifyError> {
    match received.raw_payload().get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(_) => Err(VerifyError::MalformedClaim { name }),
        None if received.has_disclosure_named(name) => Err(VerifyError::NotDisclosable { name }),
        None => Err(VerifyError::MissingClaim { name }),
    }
}

fn read_status(payload: &Map<String, Value>) -> Result<Option<StatusReference>, VerifyError> {
    let Some(status) = payload.get("status") else { return Ok(None) };
    let Value::Object(status) = status else {
        return Err(VerifyError::MalformedClaim { name: "status" });
    };
    let list = status.get("status_list").ok_or(VerifyError::UnsupportedStatus)?;
    let uri = list.get("uri").and_then(Value::as_str);
    let idx = list.get("idx").and_then(Value::as_u64);
    match (uri, idx) {
        (Some(uri), Some(idx)) => Ok(Some(StatusReference { uri: uri.to_owned(), idx })),
        _ => Err(VerifyError::MalformedClaim { name: "status" }),
    }
}

fn read_date(payload: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, VerifyError> {
    payload.get(name).map(|value| numeric_date(value).ok_or(VerifyError::MalformedClaim { name })).transpose()
}

/// The first of [`NEVER_DISCLOSABLE`] with a digest anywhere in its value.
fn hidden_inside(payload: &Map<String, Value>) -> Option<&'static str> {
    NEVER_DISCLOSABLE.into_iter().find(|name| payload.get(*name).is_some_and(holds_digest))
}

/// The depth limit at parsing bounds the recursion.
fn holds_digest(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.contains_key("_sd") || members.contains_key("...") || members.values().any(holds_digest)
        }
        Value::Array(items) => items.iter().any(holds_digest),
        _ => false,
    }
}

/// The name from [`NEVER_DISCLOSABLE`] that `path` starts with.
fn never_disclosable(path: &[PathElement]) -> Option<&'static str> {
    let Some(PathElement::Name(first)) = path.first() else { return None };
    NEVER_DISCLOSABLE.into_iter().find(|name| name == first)
}

/// Whether `kid` may name a key of `iss`: for a DID, only keys under that DID; for other issuers, any.
pub(crate) fn key_belongs(iss: &str, kid: Option<&str>) -> bool {
    match kid {
        Some(kid) if iss.starts_with("did:") => {
            kid.split_once('#').is_some_and(|(did, name)| (did.is_empty() || did == iss) && !name.is_empty())
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
