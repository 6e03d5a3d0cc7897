//! The holder's side: accepting what an issuer delivers, keeping it, presenting it.

use std::fmt;

use einmal_keys::{PublicKey, SignatureAlgorithm};
use serde_json::Value;

use super::{
    IssuerKeys, KeyBindingRequest, PresentError, SD_JWT_VC_TYP, StatusReference, VerifyError, read_date,
    read_status,
    verify::{self, Opening},
};
use crate::{
    dcql::Candidate,
    sd_jwt::{Claims, HeldSdJwt, MAX_CLOCK_SKEW_SECS, PathElement},
};

/// A credential held by its holder.
///
/// The public fields come from the signed text and cannot be set independently of it.
#[derive(Clone)]
#[non_exhaustive]
pub struct HeldCredential {
    /// `iss`.
    pub issuer: String,
    /// `vct`.
    pub vct: String,
    /// The key it is bound to.
    pub holder: Option<PublicKey>,
    /// Where its status can be looked up.
    pub status: Option<StatusReference>,
    /// `nbf`, in seconds since 1970.
    pub not_before: Option<u64>,
    /// `exp`, in seconds since 1970.
    pub expires_at: Option<u64>,
    sd_jwt: HeldSdJwt,
}

/// Hides the claims.
impl fmt::Debug for HeldCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldCredential")
            .field("issuer", &self.issuer)
            .field("vct", &self.vct)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Members that say how to check a credential, and nothing about a person.
pub const TECHNICAL_CLAIMS: [&str; 9] =
    ["iss", "iat", "nbf", "exp", "vct", "vct#integrity", "cnf", "status", "aud"];

fn gather_shown(
    path: &mut Vec<PathElement>,
    value: &Value,
    hidden: &[&[PathElement]],
    shown: &mut Vec<Vec<PathElement>>,
) {
    if hidden.contains(&path.as_slice()) {
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                path.push(PathElement::Name(name.clone()));
                gather_shown(path, member, hidden, shown);
                path.pop();
            }
        }
        // An array whose elements can all be withheld shows at most their number.
        Value::Array(elements) => {
            let below = |one: &&&[PathElement]| one.len() == path.len() + 1 && one.starts_with(path);
            if hidden.iter().filter(below).count() < elements.len() {
                shown.push(path.clone());
            }
        }
        _ => shown.push(path.clone()),
    }
}

impl HeldCredential {
    fn read(sd_jwt: HeldSdJwt) -> Result<Self, VerifyError> {
        let claims = sd_jwt.claims().as_map();
        let text = |name: &'static str| match claims.get(name).and_then(|value| value.as_str()) {
            Some(text) => Ok(text.to_owned()),
            None => Err(VerifyError::MissingClaim { name }),
        };
        Ok(Self {
            issuer: text("iss")?,
            vct: text("vct")?,
            holder: sd_jwt.holder_key(),
            status: read_status(claims)?,
            not_before: read_date(claims, "nbf")?,
            expires_at: read_date(claims, "exp")?,
            sd_jwt,
        })
    }

    /// Reads back a previously accepted credential from the holder's own sealed store. The issuer's signature is not
    /// checked again.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if the text is damaged.
    pub fn from_store(text: &str) -> Result<Self, VerifyError> {
        Self::read(HeldSdJwt::from_store(text)?)
    }

    /// The compact text with all disclosures, for the sealed store.
    pub fn as_str(&self) -> &str {
        self.sd_jwt.as_str()
    }

    /// All claims, hidden ones included.
    pub fn claims(&self) -> &Claims {
        self.sd_jwt.claims()
    }

    /// The SD-JWT underneath.
    pub fn sd_jwt(&self) -> &HeldSdJwt {
        &self.sd_jwt
    }

    /// Paths of the claims that can be withheld.
    pub fn disclosable(&self) -> impl ExactSizeIterator<Item = &[PathElement]> {
        self.sd_jwt.disclosable()
    }

    /// Paths of the claims that cannot be withheld: everyone who sees the credential sees them. Leaves out the members
    /// that say how to check it ([`TECHNICAL_CLAIMS`]).
    pub fn always_shown(&self) -> Vec<Vec<PathElement>> {
        let hidden: Vec<&[PathElement]> = self.disclosable().collect();
        let mut shown = Vec::new();
        for (name, value) in self.claims().as_map() {
            if !TECHNICAL_CLAIMS.contains(&name.as_str()) {
                gather_shown(&mut vec![PathElement::Name(name.clone())], value, &hidden, &mut shown);
            }
        }
        shown
    }

    /// The credential as a possible answer to a query, under an id the caller chooses.
    pub fn candidate(&self, id: impl Into<String>) -> Candidate<'_> {
        Candidate {
            id: id.into(),
            format: SD_JWT_VC_TYP,
            vct: &self.vct,
            holder_bound: self.holder.is_some(),
            claims: self.sd_jwt.claims(),
            positions: self.sd_jwt.positions(),
            disclosable: self.sd_jwt.disclosable().collect(),
            always_shown: self.always_shown().len(),
            last_resort: false,
        }
    }

    /// Presents the claims at `paths` to the verifier named in `key_binding`.
    ///
    /// # Errors
    ///
    /// [`PresentError`].
    pub fn present(
        &self,
        paths: &[Vec<PathElement>],
        key_binding: Option<&KeyBindingRequest<'_>>,
    ) -> Result<String, PresentError> {
        self.sd_jwt.present(paths, key_binding)
    }
}

/// What the holder was offered, and so what must arrive.
#[derive(Clone, Copy, Debug)]
pub struct IssuedExpectation<'a> {
    /// Issuer that made the offer.
    pub issuer: &'a str,
    /// Type of the offered credential.
    pub vct: &'a str,
    /// The key that the holder asked to have the credential bound to.
    pub holder_key: &'a PublicKey,
    /// Seconds since 1970.
    pub now: u64,
    /// Whether `vc+sd-jwt`, the type of old drafts, is accepted.
    pub accept_legacy_typ: bool,
    /// Algorithms the issuer may sign with.
    pub algorithms: &'a [SignatureAlgorithm],
}

impl<'a> IssuedExpectation<'a> {
    /// The usual expectation: `dc+sd-jwt`, signed with ES256 or EdDSA.
    pub fn new(issuer: &'a str, vct: &'a str, holder_key: &'a PublicKey, now: u64) -> Self {
        let algorithms = verify::DEFAULT_ALGORITHMS;
        Self { issuer, vct, holder_key, now, accept_legacy_typ: false, algorithms }
    }
}

/// Accepts what an issuer delivers, if it matches the offer.
///
/// A credential that becomes valid later is accepted. Its status is not checked, since it was just issued.
///
/// # Errors
///
/// [`VerifyError`] naming what differs.
pub fn accept_issued(
    text: &str,
    expected: &IssuedExpectation<'_>,
    keys: &dyn IssuerKeys,
) -> Result<HeldCredential, VerifyError> {
    let opening = Opening::parse(text, expected.accept_legacy_typ, expected.algorithms)?;
    if opening.has_key_binding() {
        return Err(VerifyError::UnexpectedKeyBinding);
    }
    if opening.issuer != expected.issuer {
        return Err(VerifyError::WrongIssuer);
    }
    if opening.vct != expected.vct {
        return Err(VerifyError::UnexpectedCredentialType);
    }
    let credential = HeldCredential::read(opening.verify(keys, expected.algorithms)?.into_held())?;
    verify::check_not_expired(credential.expires_at, expected.now, MAX_CLOCK_SKEW_SECS)?;
    match &credential.holder {
        Some(key) if key == expected.holder_key => Ok(credential),
        _ => Err(VerifyError::WrongHolderKey),
    }
}
