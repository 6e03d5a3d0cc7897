//! What can be wrong with an SD-JWT, in enough detail for tests and people to see which fault it is.

use einmal_keys::CustodyError;

use crate::{
    json::JsonFault,
    jwt::{JwtFault, SignFault},
};

/// A received SD-JWT was refused. Every variant is the sender's fault; none carries claims.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdJwtError {
    /// Longer than [`super::MAX_SD_JWT_BYTES`].
    #[error("the SD-JWT has {bytes} bytes, more than {} are not read", super::MAX_SD_JWT_BYTES)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// More than [`super::MAX_DISCLOSURES`].
    #[error("the SD-JWT has more than {} disclosures", super::MAX_DISCLOSURES)]
    TooManyDisclosures,
    /// Nested deeper than [`super::MAX_DEPTH`], in one text or through disclosures.
    #[error("claims are nested deeper than {} levels", super::MAX_DEPTH)]
    TooDeep,
    /// There is no `~`: this is a plain JWT.
    #[error("the text has no `~`; an SD-JWT without key binding ends with one")]
    MissingTilde,
    /// A part does not have the required format.
    #[error("{part} is malformed")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
    /// A JSON object in the named part has a member name twice.
    #[error("{part} has a member name twice")]
    DuplicateMember {
        /// Which part.
        part: &'static str,
    },
    /// The header demands an extension with `crit`.
    #[error("the header demands an extension that is not spoken here")]
    CriticalHeader,
    /// `alg` is `none`, symmetric or unknown.
    #[error("the signature algorithm is unknown, or proves nothing")]
    UnsupportedAlgorithm,
    /// `alg` is known but not among those the caller allows.
    #[error("the signature algorithm is not among those allowed here")]
    AlgorithmNotAllowed,
    /// `_sd_alg` is not sha-256, sha-384 or sha-512.
    #[error("`_sd_alg` names no hash that is accepted here")]
    UnsupportedHash,
    /// The issuer's signature does not verify.
    #[error("the issuer's signature does not hold")]
    BadSignature,
    /// A disclosure is not an array of a salt string and a value, with a name string between them or not.
    #[error("disclosure {index} does not have the form of a disclosure")]
    MalformedDisclosure {
        /// Which one, from 0.
        index: usize,
    },
    /// A claim uses a name that the format reserves: `_sd`, `...`, `_sd_alg`.
    #[error("a claim bears a name the format reserves")]
    ReservedName,
    /// `_sd` is not an array of strings, or `...` is not the only member of its object.
    #[error("a digest does not stand in the form the format asks for")]
    MalformedDigest,
    /// The same digest or disclosure occurs twice.
    #[error("a digest occurs twice")]
    DuplicateDigest,
    /// A disclosed claim already exists next to its digest.
    #[error("a disclosed claim exists already at its place")]
    DuplicateClaim,
    /// A disclosure of an array element is referenced as an object member, or the reverse.
    #[error("disclosure {index} does not fit the place of its digest")]
    MisplacedDisclosure {
        /// Which one, from 0.
        index: usize,
    },
    /// No digest refers to this disclosure.
    #[error("disclosure {index} is referenced by no digest")]
    UnreferencedDisclosure {
        /// Which one, from 0.
        index: usize,
    },
    /// The KB-JWT after the last `~` is malformed.
    #[error(transparent)]
    KeyBinding(#[from] KeyBindingError),
}

impl SdJwtError {
    pub(super) fn json(part: &'static str, fault: JsonFault) -> Self {
        match fault {
            JsonFault::Malformed => Self::Malformed { part },
            JsonFault::DuplicateMember => Self::DuplicateMember { part },
            JsonFault::TooDeep => Self::TooDeep,
        }
    }

    pub(super) fn jwt(fault: JwtFault) -> Self {
        const PART: &str = "the issuer-signed JWT";
        match fault {
            JwtFault::Malformed => Self::Malformed { part: PART },
            JwtFault::Json(fault) => Self::json(PART, fault),
            JwtFault::Algorithm => Self::UnsupportedAlgorithm,
            JwtFault::Critical => Self::CriticalHeader,
        }
    }
}

/// The holder's proof of possession (KB-JWT) was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyBindingError {
    /// The verifier requires one and there is none.
    #[error("the presentation lacks the proof that the holder made it")]
    Missing,
    /// Not a signed JWT with strings and times in the right places.
    #[error("the key binding is malformed")]
    Malformed,
    /// Its header `typ` is not `kb+jwt`.
    #[error("the key binding has another type than `kb+jwt`")]
    WrongType,
    /// Its algorithm is not among those allowed.
    #[error("the signature algorithm of the key binding is not among those allowed here")]
    AlgorithmNotAllowed,
    /// The credential names no holder key (`cnf.jwk`), or no usable one.
    #[error("the credential names no usable holder key")]
    NoHolderKey,
    /// It was not signed by the holder key the issuer named.
    #[error("the key binding was not signed with the holder's key")]
    WrongHolderKey,
    /// `sd_hash` belongs to a different selection of disclosures.
    #[error("the key binding was made for another presentation")]
    WrongHash,
    /// `aud` is someone else.
    #[error("the key binding was made for another verifier")]
    WrongAudience,
    /// `nonce` is not that of the request.
    #[error("the key binding answers another request")]
    WrongNonce,
    /// Older than allowed, or past its `exp`.
    #[error("the key binding is too old; ask the holder to present again")]
    Stale,
    /// `iat` or `nbf` lies in the future, beyond the accepted clock skew.
    #[error("the key binding is dated in the future; check the clocks")]
    FromTheFuture,
}

/// An SD-JWT could not be issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A path in `disclosable` matches no claim.
    #[error("disclosable path {index} leads to no claim")]
    UnknownPath {
        /// Which path, from 0.
        index: usize,
    },
    /// A claim uses a name the format reserves.
    #[error("a claim bears a name the format reserves (`_sd`, `_sd_alg`, `...`)")]
    ReservedName,
    /// The claims contain one that the request sets through a field of its own.
    #[error("claim `{name}` is set by the request's own field")]
    ReservedClaim {
        /// Its name.
        name: &'static str,
    },
    /// A claim that must stay visible was requested to be disclosable.
    #[error("claim `{name}` must not be selectively disclosable")]
    NotDisclosable {
        /// Its name.
        name: &'static str,
    },
    /// Nested deeper than [`super::MAX_DEPTH`].
    #[error("claims are nested deeper than {} levels", super::MAX_DEPTH)]
    TooDeep,
    /// More disclosures, decoys or bytes than a receiver would accept.
    #[error("the result would exceed the limit on {what}")]
    TooLarge {
        /// Which limit.
        what: &'static str,
    },
    /// A required string is empty, or the times contradict each other.
    #[error("`{field}` is missing or contradicts another field")]
    InvalidField {
        /// Which field.
        field: &'static str,
    },
    /// The signing key's id does not belong to the DID in `iss`.
    #[error("the signing key does not belong to the issuer's DID")]
    KeyOutsideIssuer,
    /// The named key is not a signing key.
    #[error("the key named cannot sign")]
    CannotSign,
    /// The secret key could not be used.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The random source failed.
    #[error("the random source failed")]
    Entropy,
    /// The claims could not be written as JSON.
    #[error("the claims could not be written as JSON")]
    Encoding,
}

impl From<SignFault> for IssueError {
    fn from(fault: SignFault) -> Self {
        match fault {
            SignFault::Custody(error) => Self::Custody(error),
            SignFault::CannotSign => Self::CannotSign,
            SignFault::Encoding => Self::Encoding,
        }
    }
}

/// A presentation could not be made from a held SD-JWT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresentError {
    /// A path matches no claim of this SD-JWT.
    #[error("path {index} leads to no claim of this credential")]
    UnknownPath {
        /// Which path, from 0.
        index: usize,
    },
    /// The SD-JWT is not bound to a key, so no key binding can be made.
    #[error("this credential is not bound to a holder key")]
    NoHolderKey,
    /// The named key is not the one the issuer bound the SD-JWT to.
    #[error("the key named is not the one this credential is bound to")]
    WrongHolderKey,
    /// The named key is not a signing key.
    #[error("the key named cannot sign")]
    CannotSign,
    /// The secret key could not be used.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The key binding could not be written as JSON.
    #[error("the key binding could not be written")]
    Encoding,
}

impl From<SignFault> for PresentError {
    fn from(fault: SignFault) -> Self {
        match fault {
            SignFault::Custody(error) => Self::Custody(error),
            SignFault::CannotSign => Self::CannotSign,
            SignFault::Encoding => Self::Encoding,
        }
    }
}
