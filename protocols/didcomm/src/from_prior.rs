//! DID rotation: the `from_prior` JWT, made and verified.

use einmal_did::{Did, DidUrl, Relationship, Resolver};
use einmal_keys::{Custody, SignatureAlgorithm, base64url_decode, base64url_encode};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    error::{OpenError, PackError},
    ids::{UnixSeconds, read_object},
    limits::MAX_FROM_PRIOR_LEN,
    open::{key_id, resolve_fuller},
};

/// A rotation proved by its prior DID. The caller must know whether that DID is a peer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// The DID that is replaced, canonical.
    pub prior: Did,
    /// The DID that replaces it, as the JWT spells it; `None` ends the relationship.
    pub new: Option<Did>,
    /// When the rotation was decided. A value lower than one already seen is a replay.
    pub issued_at: UnixSeconds,
}

/// Which rule of a rotation a received `from_prior` breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FromPriorFault {
    /// The JWT is longer than accepted.
    #[error("the JWT is too long")]
    TooLong,
    /// It does not have the three parts of a compact JWT.
    #[error("not a compact JWT")]
    NotCompact,
    /// The header does not parse.
    #[error("the header does not parse")]
    Header,
    /// The claims do not parse, or are others than those of a rotation.
    #[error("the payload does not parse")]
    Payload,
    /// The header demands extensions that are not understood.
    #[error("critical extensions are not understood")]
    Critical,
    /// `typ` names a token of another kind.
    #[error("`typ` names a token of another kind")]
    Kind,
    /// It is used before `nbf`, or from `exp` on.
    #[error("the JWT is not valid at this time")]
    NotNow,
    /// `alg` names no signature algorithm known here.
    #[error("unknown algorithm")]
    Algorithm,
    /// `iss` is no DID.
    #[error("`iss` is no DID")]
    Issuer,
    /// `sub` is no DID.
    #[error("`sub` is no DID")]
    Subject,
    /// `sub` is another DID than the message's `from`.
    #[error("`sub` is not `from`")]
    NotSender,
    /// The DID rotates to itself.
    #[error("`sub` is `iss`")]
    ToItself,
    /// `kid` is no DID URL.
    #[error("`kid` is no DID URL")]
    KeyId,
    /// `kid` names a key of another DID than `iss`.
    #[error("`kid` is no key of `iss`")]
    ForeignKey,
    /// The prior DID does not authenticate with the key that `kid` names.
    #[error("`kid` is no authentication key of `iss`")]
    NoAuthentication,
    /// The signature is no base64url.
    #[error("the signature does not parse")]
    SignatureForm,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// It came in a message that is not encrypted.
    #[error("the message is not encrypted")]
    NotEncrypted,
    /// It came in a message that does not prove the new DID to be its sender.
    #[error("the new DID does not prove to be the sender")]
    Unproved,
}

#[derive(Serialize, Deserialize)]
struct Header {
    typ: Option<String>,
    alg: String,
    kid: String,
    #[serde(skip_serializing)]
    crit: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    b64: Option<IgnoredAny>,
}

/// The claims of a rotation and no others: a credential or access token that an old key signed for another purpose must
/// not pass as a rotation.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    iss: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    iat: u64,
    #[serde(skip_serializing)]
    exp: Option<u64>,
    #[serde(skip_serializing)]
    nbf: Option<u64>,
    /// Written by deployed libraries; ignored here.
    #[serde(skip_serializing, rename = "aud")]
    _aud: Option<IgnoredAny>,
    /// Likewise ignored.
    #[serde(skip_serializing, rename = "jti")]
    _jti: Option<IgnoredAny>,
}

/// Value of `typ`.
const JWT: &str = "JWT";

/// Makes the JWT that announces the rotation from `prior` to `new`, or the end of the relationship if `new` is `None`.
///
/// `decided_at` is the time of the rotation; it stays the same on every repetition.
///
/// # Errors
///
/// [`PackError::Resolve`] or [`PackError::NoSigningKey`] if no authentication key of `prior` is held.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "DID Rotation" and "Ending a Relationship".
pub fn from_prior_jwt(
    prior: &Did,
    new: Option<&Did>,
    decided_at: UnixSeconds,
    custody: &dyn Custody,
    resolver: &dyn Resolver,
) -> Result<String, PackError> {
    let (kid, algorithm) = crate::pack::signing_key(prior, custody, resolver)?;
    let header = Header {
        typ: Some(JWT.into()),
        alg: algorithm.name().into(),
        kid: kid.as_str().into(),
        crit: None,
        b64: None,
    };
    let payload = Payload {
        iss: prior.as_str().into(),
        sub: new.map(|did| did.as_str().into()),
        iat: decided_at.0,
        ..Payload::default()
    };
    let part = |json: serde_json::Result<String>| {
        json.map(base64url_encode).map_err(|_| PackError::Internal { step: "writing `from_prior`" })
    };
    let input =
        format!("{}.{}", part(serde_json::to_string(&header))?, part(serde_json::to_string(&payload))?);
    let signature = custody.sign(&key_id(&kid), input.as_bytes())?;
    Ok(format!("{input}.{}", base64url_encode(signature)))
}

/// Verifies a received JWT against the message's `from`.
pub(crate) fn verify(
    jwt: &str,
    from: Option<&Did>,
    resolver: &dyn Resolver,
    now: UnixSeconds,
) -> Result<Rotation, OpenError> {
    use FromPriorFault as Fault;
    let bad = |reason| OpenError::FromPrior { reason };
    if jwt.len() > MAX_FROM_PRIOR_LEN {
        return Err(bad(Fault::TooLong));
    }
    let (input, signature) = jwt.rsplit_once('.').ok_or(bad(Fault::NotCompact))?;
    let (header, payload) = input.split_once('.').ok_or(bad(Fault::NotCompact))?;
    let header: Header = decode(header).ok_or(bad(Fault::Header))?;
    let payload: Payload = decode(payload).ok_or(bad(Fault::Payload))?;
    if header.crit.is_some() || header.b64.is_some() {
        return Err(bad(Fault::Critical));
    }
    if header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case(JWT)) {
        return Err(bad(Fault::Kind));
    }
    let timely = payload.exp.is_none_or(|end| now.0 < end) && payload.nbf.is_none_or(|start| start <= now.0);
    if !timely {
        return Err(bad(Fault::NotNow));
    }
    let algorithm = SignatureAlgorithm::from_name(&header.alg).ok_or(bad(Fault::Algorithm))?;
    let prior = Did::parse(&payload.iss).map_err(|_| bad(Fault::Issuer))?;
    let new = payload.sub.as_deref().map(Did::parse).transpose().map_err(|_| bad(Fault::Subject))?;
    match (&new, from) {
        (Some(new), Some(from)) if new.same_as(from) => {}
        (None, None) => {}
        _ => return Err(bad(Fault::NotSender)),
    }
    if new.as_ref().is_some_and(|new| new.same_as(&prior)) {
        return Err(bad(Fault::ToItself));
    }
    let kid = DidUrl::parse(&header.kid).map_err(|_| bad(Fault::KeyId))?;
    if !kid.did().same_as(&prior) {
        return Err(bad(Fault::ForeignKey));
    }
    let document = resolve_fuller(&prior, kid.did(), resolver)?;
    let method =
        document.method_for(Relationship::Authentication, &kid).ok_or(bad(Fault::NoAuthentication))?;
    let signature = base64url_decode(signature).ok_or(bad(Fault::SignatureForm))?;
    method.key.verify(algorithm, input.as_bytes(), &signature).map_err(|_| bad(Fault::Signature))?;
    Ok(Rotation { prior: prior.canonical(), new, issued_at: UnixSeconds(payload.iat) })
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    read_object(&base64url_decode(part)?)
}
