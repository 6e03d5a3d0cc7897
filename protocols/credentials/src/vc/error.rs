//! What can be wrong with a credential: one variant per cause.

use crate::{
    sd_jwt::{KeyBindingError, SdJwtError},
    status_list::StatusError,
};

/// An issuer's key could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyLookupError {
    /// There is no permitted way to look up this issuer's keys.
    #[error("there is no accepted way to find the keys of this issuer")]
    NoMechanism,
    /// The issuer publishes no key of that name for signing credentials.
    #[error("the issuer publishes no such key for signing credentials")]
    UnknownKey,
    /// The issuer's keys are not available: resolve it, then verify again.
    #[error("the issuer's keys are not at hand: {reason}")]
    Unavailable {
        /// Why, without personal data.
        reason: String,
    },
}

/// A credential or presentation was refused. No variant carries claims.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The text breaks a rule of SD-JWT that has no variant of its own here.
    #[error(transparent)]
    Format(SdJwtError),
    /// The issuer's signature does not verify.
    #[error("the issuer's signature does not hold")]
    BadSignature,
    /// The algorithm of the signature is not accepted.
    #[error("the signature algorithm is not accepted")]
    AlgorithmNotAllowed,
    /// No digest refers to one of the disclosures.
    #[error("disclosure {index} is referenced by no digest")]
    UnreferencedDisclosure {
        /// Which one, from 0.
        index: usize,
    },
    /// A digest occurs twice.
    #[error("a digest occurs twice")]
    DuplicateDigest,
    /// Header `typ` is not `dc+sd-jwt`.
    #[error("the header's type is not `dc+sd-jwt`")]
    WrongType,
    /// A required claim is absent.
    #[error("claim `{name}` is missing")]
    MissingClaim {
        /// Its name.
        name: &'static str,
    },
    /// A claim has the wrong JSON type or an impossible value.
    #[error("claim `{name}` is malformed")]
    MalformedClaim {
        /// Its name.
        name: &'static str,
    },
    /// A claim that must stay visible was hidden, wholly or in part.
    #[error("claim `{name}` must not be selectively disclosable")]
    NotDisclosable {
        /// Its name.
        name: &'static str,
    },
    /// The `kid` belongs to a DID other than `iss`.
    #[error("the signing key belongs to another DID than the issuer")]
    ForeignKey,
    /// An issued credential carries a KB-JWT, which is not allowed.
    #[error("an issued credential must not carry a key binding")]
    UnexpectedKeyBinding,
    /// The presentation lacks the key binding that the verifier requires.
    #[error("the presentation lacks the proof that the holder made it")]
    KeyBindingMissing,
    /// Signed with or bound to another key than expected.
    #[error("the holder's key is not the one the credential is bound to")]
    WrongHolderKey,
    /// The key binding names another verifier.
    #[error("the presentation was made for another verifier")]
    WrongAudience,
    /// The key binding answers another request.
    #[error("the presentation answers another request")]
    WrongNonce,
    /// The key binding is too old, or past its `exp`.
    #[error("the presentation is too old; ask the holder to present again")]
    StaleKeyBinding,
    /// Another fault of the key binding.
    #[error(transparent)]
    KeyBinding(KeyBindingError),
    /// A status mechanism other than the Token Status List.
    #[error("the credential's status mechanism is not known here")]
    UnsupportedStatus,
    /// The credential names no status, but the verifier requires one.
    #[error("the credential has no status to check")]
    NoStatus,
    /// The issuer is not the one of the offer.
    #[error("the credential is from another issuer than offered")]
    WrongIssuer,
    /// `vct` is not among those expected.
    #[error("the credential is of another type than expected")]
    UnexpectedCredentialType,
    /// The verifier does not trust this issuer for this type.
    #[error("the issuer is not trusted for this type of credential")]
    UntrustedIssuer,
    /// `nbf` or `iat` lies ahead.
    #[error("the credential is not valid yet")]
    NotYetValid,
    /// `exp` has passed.
    #[error("the credential has expired; the holder should ask for a new one")]
    Expired,
    /// The status list says INVALID: final.
    #[error("the credential was revoked")]
    Revoked,
    /// The status list says SUSPENDED.
    #[error("the credential is suspended")]
    Suspended,
    /// The status list says something only its issuer understands; treated as a refusal.
    #[error("the credential has the application-specific status {value}")]
    UnknownStatus {
        /// The value.
        value: u8,
    },
    /// The issuer's key could not be found.
    #[error(transparent)]
    KeyLookup(#[from] KeyLookupError),
    /// The status could not be determined; on [`StatusError::NotFetched`], fetch the list and verify again.
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// What a [`VerifyError`] comes down to for whoever relies on the credential: one list without an end left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerifyFault {
    /// Its issuer is not trusted for this.
    UntrustedIssuer,
    /// The issuer's signature does not hold.
    BadSignature,
    /// Something was added to it.
    Tampered,
    /// Whoever shows it does not prove to be its holder.
    NotTheHolder,
    /// It was shown to another verifier.
    OtherVerifier,
    /// It answers another request.
    OtherRequest,
    /// It was shown too long ago.
    TooOld,
    /// The holder's proof has another fault.
    KeyBinding,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It was revoked for good.
    Revoked,
    /// It does not count for a time.
    Suspended,
    /// Whether it was revoked cannot be known.
    StatusUnknown,
    /// The issuer's keys cannot be known.
    IssuerUnknown,
    /// It breaks a rule of its form.
    Malformed,
}

impl VerifyError {
    /// What it comes down to.
    pub fn fault(&self) -> VerifyFault {
        match self {
            Self::UntrustedIssuer => VerifyFault::UntrustedIssuer,
            Self::BadSignature => VerifyFault::BadSignature,
            Self::UnreferencedDisclosure { .. } | Self::DuplicateDigest => VerifyFault::Tampered,
            Self::WrongHolderKey | Self::KeyBindingMissing => VerifyFault::NotTheHolder,
            Self::WrongAudience => VerifyFault::OtherVerifier,
            Self::WrongNonce => VerifyFault::OtherRequest,
            Self::StaleKeyBinding => VerifyFault::TooOld,
            Self::KeyBinding(_) => VerifyFault::KeyBinding,
            Self::Expired => VerifyFault::Expired,
            Self::NotYetValid => VerifyFault::NotYetValid,
            Self::Revoked => VerifyFault::Revoked,
            Self::Suspended => VerifyFault::Suspended,
            Self::Status(_) | Self::UnknownStatus { .. } => VerifyFault::StatusUnknown,
            Self::KeyLookup(_) => VerifyFault::IssuerUnknown,
            Self::Format(_)
            | Self::AlgorithmNotAllowed
            | Self::WrongType
            | Self::MissingClaim { .. }
            | Self::MalformedClaim { .. }
            | Self::NotDisclosable { .. }
            | Self::ForeignKey
            | Self::UnexpectedKeyBinding
            | Self::UnsupportedStatus
            | Self::NoStatus
            | Self::WrongIssuer
            | Self::UnexpectedCredentialType => VerifyFault::Malformed,
        }
    }
}

impl From<SdJwtError> for VerifyError {
    fn from(error: SdJwtError) -> Self {
        match error {
            SdJwtError::BadSignature => Self::BadSignature,
            SdJwtError::AlgorithmNotAllowed | SdJwtError::UnsupportedAlgorithm => Self::AlgorithmNotAllowed,
            SdJwtError::UnreferencedDisclosure { index } => Self::UnreferencedDisclosure { index },
            SdJwtError::DuplicateDigest => Self::DuplicateDigest,
            SdJwtError::KeyBinding(error) => error.into(),
            other => Self::Format(other),
        }
    }
}

impl From<KeyBindingError> for VerifyError {
    fn from(error: KeyBindingError) -> Self {
        match error {
            KeyBindingError::Missing => Self::KeyBindingMissing,
            KeyBindingError::WrongHolderKey => Self::WrongHolderKey,
            KeyBindingError::WrongAudience => Self::WrongAudience,
            KeyBindingError::WrongNonce => Self::WrongNonce,
            KeyBindingError::Stale => Self::StaleKeyBinding,
            other => Self::KeyBinding(other),
        }
    }
}
