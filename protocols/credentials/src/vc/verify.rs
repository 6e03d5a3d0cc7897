//! The verifier's side: every check a presentation must pass, in one fixed order.

use einmal_keys::{PublicKey, SignatureAlgorithm};

use super::{
    IssuerKeys, LEGACY_SD_JWT_VC_TYP, SD_JWT_VC_TYP, StatusReference, VerifyError, hidden_inside,
    key_belongs, never_disclosable, read_date, read_status, visible_text,
};
use crate::{
    sd_jwt::{
        Claims, ElementPositions, KeyBinding, KeyBindingCheck, MAX_CLOCK_SKEW_SECS, PathElement, SdJwtIn,
        VerifiedSdJwt,
    },
    status_list::{Status, StatusSource},
};

/// Algorithms accepted by default.
pub(super) const DEFAULT_ALGORITHMS: &[SignatureAlgorithm] =
    &[SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa];

/// Says which issuer may certify what. Implemented for closures over `(iss, vct)`.
pub trait IssuerTrust {
    /// Whether credentials of type `vct` are accepted from `iss`.
    fn trusts(&self, iss: &str, vct: &str) -> bool;
}

impl<F: Fn(&str, &str) -> bool> IssuerTrust for F {
    fn trusts(&self, iss: &str, vct: &str) -> bool {
        self(iss, vct)
    }
}

/// What the key binding must name.
#[derive(Clone, Copy, Debug)]
pub struct KeyBindingRequirement<'a> {
    /// The verifier's own name, as in the request.
    pub audience: &'a str,
    /// The nonce of the request. The caller must use it up.
    pub nonce: &'a str,
    /// When that request was made, in seconds since 1970: what was made since is fresh, however long it was on its way. `None` if
    /// that is not known; then only its age counts.
    pub asked_at: Option<u64>,
}

/// Whether a credential must have a status. If it has one, it is always checked; an unknown status is a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusPolicy {
    /// A credential without status is refused.
    Required,
    /// A credential without status passes.
    #[default]
    IfReferenced,
}

/// The verifier's policy for one presentation.
#[derive(Clone, Copy)]
pub struct VerificationContext<'a> {
    /// Seconds since 1970.
    pub now: u64,
    /// Accepted types; `None` for any that the issuer is trusted for.
    pub expected_vcts: Option<&'a [String]>,
    /// Whether `vc+sd-jwt`, the type of old drafts, is accepted.
    pub accept_legacy_typ: bool,
    /// The required key binding; `None` if possession need not be proved.
    pub require_key_binding: Option<KeyBindingRequirement<'a>>,
    /// Who may issue what.
    pub trust: &'a dyn IssuerTrust,
    /// Algorithms issuer and holder may sign with.
    pub algorithms: &'a [SignatureAlgorithm],
    /// Whether a status is required.
    pub status: StatusPolicy,
    /// Tolerated difference between the issuer's clock and ours, in seconds.
    pub clock_skew: u64,
}

impl<'a> VerificationContext<'a> {
    /// The usual policy: `dc+sd-jwt` only, ES256 or EdDSA, bound to the holder, status checked if there is one.
    pub fn new(
        now: u64,
        trust: &'a dyn IssuerTrust,
        require_key_binding: Option<KeyBindingRequirement<'a>>,
    ) -> Self {
        Self {
            now,
            expected_vcts: None,
            accept_legacy_typ: false,
            require_key_binding,
            trust,
            algorithms: DEFAULT_ALGORITHMS,
            status: StatusPolicy::default(),
            clock_skew: MAX_CLOCK_SKEW_SECS,
        }
    }
}

impl std::fmt::Debug for VerificationContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerificationContext")
            .field("now", &self.now)
            .field("expected_vcts", &self.expected_vcts)
            .field("require_key_binding", &self.require_key_binding)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A credential that passed every check of a [`VerificationContext`]; only [`verify_presentation`] makes one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifiedCredential {
    /// `iss`.
    pub issuer: String,
    /// `vct`.
    pub vct: String,
    /// The claims that were shown.
    pub claims: Claims,
    /// Paths of the claims the holder chose to show, for the record of disclosures.
    pub disclosed: Vec<Vec<PathElement>>,
    /// Signed positions of array elements, for arrays that were not shown completely.
    pub positions: ElementPositions,
    /// The key it is bound to.
    pub holder: Option<PublicKey>,
    /// The proof of possession, if it was required.
    pub key_binding: Option<KeyBinding>,
    /// Where its status can be looked up.
    pub status: Option<StatusReference>,
    /// `iat`, if shown, in seconds since 1970.
    pub issued_at: Option<u64>,
    /// `nbf`, in seconds since 1970.
    pub not_before: Option<u64>,
    /// `exp`, in seconds since 1970.
    pub expires_at: Option<u64>,
}

/// Verifies a presentation against `context`.
///
/// The order: bounds and form, type, algorithm, expected type of credential, trust in the issuer, signature, digests,
/// claims that must not be hidden, validity, key binding. Status comes last, because the list's operator should learn
/// only of credentials that are otherwise valid.
///
/// # Errors
///
/// [`VerifyError`] naming the first check that failed.
///
/// # Specification
///
/// RFC 9901 section 7.3, SD-JWT VC draft 19 section 2.4, Token Status List draft 20 section 8.3.
pub fn verify_presentation(
    text: &str,
    context: &VerificationContext<'_>,
    keys: &dyn IssuerKeys,
    statuses: &dyn StatusSource,
) -> Result<VerifiedCredential, VerifyError> {
    let opening = Opening::parse(text, context.accept_legacy_typ, context.algorithms)?;
    if context.expected_vcts.is_some_and(|expected| !expected.contains(&opening.vct)) {
        return Err(VerifyError::UnexpectedCredentialType);
    }
    if !context.trust.trusts(&opening.issuer, &opening.vct) {
        return Err(VerifyError::UntrustedIssuer);
    }
    let (issuer, vct) = (opening.issuer.clone(), opening.vct.clone());
    let verified = opening.verify(keys, context.algorithms)?;
    let claims = verified.claims().as_map();
    let not_before = read_date(claims, "nbf")?;
    let expires_at = read_date(claims, "exp")?;
    let issued_at = read_date(claims, "iat")?;
    let status = read_status(claims)?;
    // A credential with an `iat` in the future was not issued yet, whatever its validity says.
    check_begun(not_before.max(issued_at), context.now, context.clock_skew)?;
    check_not_expired(expires_at, context.now, context.clock_skew)?;
    let key_binding = check_possession(&verified, context)?;
    check_status(&issuer, status.as_ref(), context.status, statuses)?;
    let holder = match &key_binding {
        Some(binding) => Some(binding.holder.clone()),
        None => verified.holder_key(),
    };
    let (claims, positions, disclosed) = verified.into_parts();
    Ok(VerifiedCredential {
        issuer,
        vct,
        claims,
        disclosed,
        positions,
        holder,
        key_binding,
        status,
        issued_at,
        not_before,
        expires_at,
    })
}

/// A well-formed credential, with what it claims to be.
pub(super) struct Opening {
    pub(super) issuer: String,
    pub(super) vct: String,
    received: SdJwtIn,
}

impl Opening {
    pub(super) fn parse(
        text: &str,
        accept_legacy_typ: bool,
        algorithms: &[SignatureAlgorithm],
    ) -> Result<Self, VerifyError> {
        let received = SdJwtIn::parse(text)?;
        match received.typ() {
            Some(SD_JWT_VC_TYP) => {}
            Some(LEGACY_SD_JWT_VC_TYP) if accept_legacy_typ => {}
            _ => return Err(VerifyError::WrongType),
        }
        if !algorithms.contains(&received.algorithm()) {
            return Err(VerifyError::AlgorithmNotAllowed);
        }
        let issuer = visible_text(&received, "iss")?;
        let vct = visible_text(&received, "vct")?;
        if !key_belongs(&issuer, received.kid()) {
            return Err(VerifyError::ForeignKey);
        }
        Ok(Self { issuer, vct, received })
    }

    pub(super) fn has_key_binding(&self) -> bool {
        self.received.has_key_binding()
    }

    /// Checks the signature, the digests, and that no claim is hidden that must stay visible.
    pub(super) fn verify(
        self,
        keys: &dyn IssuerKeys,
        algorithms: &[SignatureAlgorithm],
    ) -> Result<VerifiedSdJwt, VerifyError> {
        let key = keys.issuer_key(&self.issuer, self.received.kid())?;
        let hidden = hidden_inside(self.received.raw_payload());
        let verified = self.received.verify(&key, algorithms)?;
        match hidden.or_else(|| verified.disclosed().find_map(never_disclosable)) {
            Some(name) => Err(VerifyError::NotDisclosable { name }),
            None => Ok(verified),
        }
    }
}

fn check_begun(not_before: Option<u64>, now: u64, skew: u64) -> Result<(), VerifyError> {
    match not_before {
        Some(begin) if now.saturating_add(skew) < begin => Err(VerifyError::NotYetValid),
        _ => Ok(()),
    }
}

pub(super) fn check_not_expired(expires_at: Option<u64>, now: u64, skew: u64) -> Result<(), VerifyError> {
    match expires_at {
        Some(end) if now >= end.saturating_add(skew) => Err(VerifyError::Expired),
        _ => Ok(()),
    }
}

fn check_possession(
    verified: &VerifiedSdJwt,
    context: &VerificationContext<'_>,
) -> Result<Option<KeyBinding>, VerifyError> {
    let Some(required) = context.require_key_binding else { return Ok(None) };
    let check = KeyBindingCheck {
        audience: required.audience,
        nonce: required.nonce,
        asked_at: required.asked_at,
        now: context.now,
        algorithms: context.algorithms,
    };
    Ok(Some(verified.check_key_binding(&check)?))
}

fn check_status(
    issuer: &str,
    reference: Option<&StatusReference>,
    policy: StatusPolicy,
    statuses: &dyn StatusSource,
) -> Result<(), VerifyError> {
    let Some(reference) = reference else {
        return if policy == StatusPolicy::Required { Err(VerifyError::NoStatus) } else { Ok(()) };
    };
    match statuses.status(&reference.uri, reference.idx, issuer)? {
        Status::Valid => Ok(()),
        Status::Invalid => Err(VerifyError::Revoked),
        Status::Suspended => Err(VerifyError::Suspended),
        Status::ApplicationSpecific(value) => Err(VerifyError::UnknownStatus { value }),
    }
}
