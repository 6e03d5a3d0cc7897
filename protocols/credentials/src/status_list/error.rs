//! Why a status could not be read or set.

use crate::vc::KeyLookupError;

/// A status could not be determined. Every variant means: do not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// No fresh list is available: fetch it from `uri`, then ask again.
    #[error("the status list at {uri} has to be fetched first")]
    NotFetched {
        /// Address of the list.
        uri: String,
    },
    /// The token is not a signed JWT with the members a status list needs.
    #[error("the status list token is malformed: {part}")]
    MalformedToken {
        /// Which part.
        part: &'static str,
    },
    /// Longer than a limit allows, compressed or not.
    #[error("the status list is larger than accepted")]
    TooLarge,
    /// Header `typ` is not `statuslist+jwt`.
    #[error("the status list token has another type than `statuslist+jwt`")]
    WrongType,
    /// The signature algorithm is not accepted.
    #[error("the signature algorithm of the status list is not accepted")]
    AlgorithmNotAllowed,
    /// The signature does not verify.
    #[error("the signature of the status list does not hold")]
    BadSignature,
    /// `sub` is not the address the list was requested from.
    #[error("the status list belongs to another address")]
    WrongSubject,
    /// `iss` is present but is not the credential's issuer, or the key belongs to another DID.
    #[error("the status list is from another issuer than the credential")]
    WrongIssuer,
    /// `exp` has passed.
    #[error("the status list has expired; fetch a new one")]
    Expired,
    /// `iat` lies ahead.
    #[error("the status list is dated in the future; check the clocks")]
    FromTheFuture,
    /// `bits` is not 1, 2, 4 or 8.
    #[error("a status may have 1, 2, 4 or 8 bits, nothing else")]
    InvalidBits,
    /// `lst` is not base64url of ZLIB data.
    #[error("the status list does not decompress")]
    MalformedList,
    /// The list has no such entry.
    #[error("the status list has no entry {index}")]
    IndexOutOfRange {
        /// The requested entry.
        index: u64,
    },
    /// The key of the list's issuer could not be found.
    #[error(transparent)]
    KeyLookup(#[from] KeyLookupError),
}

/// A status could not be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The list has no such entry.
    #[error("the status list has no entry {index}")]
    IndexOutOfRange {
        /// The requested entry.
        index: u64,
    },
    /// Revocation is final.
    #[error("entry {index} is revoked, which is final; issue a new credential instead")]
    RevokedIsFinal {
        /// The entry.
        index: u64,
    },
    /// The value does not fit into the list's bits.
    #[error("a list of {bits} bits cannot hold this status; start one with more")]
    TooNarrow {
        /// Bits per entry.
        bits: u8,
    },
}
