//! Why something was not taken in: as a transport may know it, as it is counted, and as it is logged.

use einmal_did::ResolveError;
use einmal_didcomm::{EnvelopeError, OpenError, ProblemCode};

use super::{Failure, stats::Reason};

/// Why an envelope was refused, as far as a transport may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Larger than accepted.
    TooLarge,
    /// Does not open, breaks a rule, or is for nobody here. Not told apart.
    Invalid,
    /// Our store or a fetch failed; try again later.
    Unavailable,
    /// More than its sender may send in this time; try again later.
    TooOften,
}

impl Refusal {
    /// Whether the same envelope may be taken later.
    pub(crate) fn is_temporary(self) -> bool {
        matches!(self, Self::Unavailable | Self::TooOften)
    }

    /// The HTTP status that says so.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge => 413,
            Self::Invalid => 400,
            Self::Unavailable => 503,
            Self::TooOften => 429,
        }
    }
}

pub(crate) fn refusal_of(error: &OpenError) -> Refusal {
    match error {
        OpenError::Envelope(EnvelopeError::TooLarge) => Refusal::TooLarge,
        // A did:web may be back later; what is computed from the DID itself will not change.
        OpenError::Resolve {
            source: ResolveError::NotFetched { .. } | ResolveError::Unavailable { .. },
            ..
        }
        | OpenError::Custody(_) => Refusal::Unavailable,
        OpenError::Resolve { did, source: ResolveError::NotFound { .. } } if did.method() == "web" => {
            Refusal::Unavailable
        }
        _ => Refusal::Invalid,
    }
}

/// What a transport is told about a message that was not handled.
pub(crate) fn refusal_for(failure: &Failure) -> Refusal {
    match failure {
        Failure::TooOften => Refusal::TooOften,
        Failure::Store(_) | Failure::Need(_) | Failure::Later(_) => Refusal::Unavailable,
        // Room may come back.
        Failure::Peer { code, .. } if *code == ProblemCode::STORAGE => Refusal::Unavailable,
        _ => Refusal::Invalid,
    }
}

pub(crate) fn reason_for(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::TooLarge => Reason::TooLarge,
        Refusal::Invalid => Reason::Invalid,
        Refusal::Unavailable => Reason::Unavailable,
        Refusal::TooOften => Reason::Rate,
    }
}

pub(crate) fn reason_for_failure(failure: &Failure) -> Reason {
    match failure {
        Failure::Peer { code, .. } => reason_for_code(code),
        Failure::User(_) => Reason::Invalid,
        Failure::TooOften => Reason::Rate,
        _ => Reason::Unavailable,
    }
}

pub(crate) fn reason_for_code(code: &ProblemCode) -> Reason {
    if *code == ProblemCode::NOT_ENROLLED {
        Reason::NotEnrolled
    } else if *code == ProblemCode::STORAGE {
        Reason::MailboxFull
    } else {
        Reason::Invalid
    }
}

/// The reason without identifiers, for the log.
pub(crate) fn reason_of(error: &OpenError) -> String {
    match error {
        OpenError::Resolve { did, .. } => {
            format!("the sender's DID cannot be resolved; its method is {}", did.method())
        }
        other => other.to_string(),
    }
}

/// Why something was not handled, for the log: a failure itself may name a DID.
pub(crate) fn log_reason(failure: &Failure) -> String {
    match failure {
        Failure::Pack(_) => "an answer could not be packed".into(),
        Failure::Open(error) => reason_of(error),
        other => other.to_string(),
    }
}
