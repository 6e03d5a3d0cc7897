//! Why a message or an event was refused, and what a peer is told about it.

use einmal_didcomm::{AttachmentError, MessageError, ProblemCode};

/// A message or an event was refused. The machine that refused it has not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    // The peer is to blame.
    /// The message belongs to another thread.
    #[error("the message belongs to another thread")]
    WrongThread,
    /// The message comes from someone other than the peer of this exchange.
    #[error("the message comes from someone who takes no part in this exchange")]
    WrongSender,
    /// The message reached us at a DID other than the one this exchange uses.
    #[error("the message was sent to another DID of ours than this exchange uses")]
    WrongRecipient,
    /// The message or event does not fit the present state.
    #[error("{message} is not expected in state {state}")]
    Unexpected {
        /// Name of the message or event.
        message: &'static str,
        /// Name of the state.
        state: &'static str,
    },
    /// Headers or body break the rules of the message type.
    #[error(transparent)]
    Malformed(#[from] MessageError),
    /// A member of a body or attachment is missing, of the wrong form, or out of bounds.
    #[error("`{what}` is missing, malformed or out of bounds")]
    InvalidContent {
        /// Name of the member.
        what: &'static str,
    },
    /// An attachment cannot be read.
    #[error(transparent)]
    Attachment(#[from] AttachmentError),
    /// None of the attachments has a format spoken here.
    #[error("none of the attachments has a format spoken here")]
    UnknownFormat,
    /// The message type is not one of this protocol and role.
    #[error("the message is of no type this role understands")]
    UnknownMessage,
    /// The message, offer or request is past its end.
    #[error("it came too late: its time is over")]
    Expired,
    /// More entries than accepted.
    #[error("more than {most} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// Most accepted.
        most: usize,
    },
    /// The sender claims to be someone other than the proved sender.
    #[error("`{what}` names someone other than the proved sender")]
    Untrusted {
        /// Name of the member.
        what: &'static str,
    },
    /// The sender has no account at this mediator, or asks about a DID that is not registered for it.
    #[error("the sender is not enrolled here for this")]
    NotEnrolled,
    /// Live delivery was asked for on a connection that does not stay open.
    #[error("live delivery needs a connection that stays open")]
    LiveMode,
    // We are to blame.
    /// The caller handed in something this protocol does not allow to be sent.
    #[error("cannot send this: {reason}")]
    Misuse {
        /// Which rule it breaks, and so how to fix it.
        reason: &'static str,
    },
    // A dependency is to blame.
    /// The random source failed.
    #[error("the system's random source failed")]
    Entropy,
    /// The registrations could not be read.
    #[error("the mediator's registrations cannot be read at present")]
    Unavailable,
}

/// Who is to blame for a [`FlowError`], and for what: one list without an end left open, for those who act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowFault {
    // The peer.
    /// It is not who may do this.
    Untrusted,
    /// It does what does not fit the present state.
    Unexpected,
    /// It breaks the rules of the message type.
    Malformed,
    /// It speaks what is not spoken here.
    Unsupported,
    /// It comes too late.
    TooLate,
    /// It is not enrolled here.
    NotEnrolled,
    /// It asks for live delivery where there is none.
    LiveMode,

    // We.
    /// What we wanted to send breaks a rule.
    Misuse {
        /// Which, and so how to fix it.
        reason: &'static str,
    },

    // A dependency.
    /// The random source or the store did not answer; it may later.
    Dependency,
}

impl FlowError {
    /// Who is to blame, and for what.
    pub fn fault(&self) -> FlowFault {
        match self {
            Self::WrongSender | Self::WrongRecipient | Self::Untrusted { .. } => FlowFault::Untrusted,
            Self::WrongThread | Self::Unexpected { .. } => FlowFault::Unexpected,
            Self::Malformed(MessageError::WrongType { .. }) | Self::UnknownFormat | Self::UnknownMessage => {
                FlowFault::Unsupported
            }
            Self::Malformed(_) | Self::InvalidContent { .. } | Self::Attachment(_) | Self::TooMany { .. } => {
                FlowFault::Malformed
            }
            Self::Expired => FlowFault::TooLate,
            Self::NotEnrolled => FlowFault::NotEnrolled,
            Self::LiveMode => FlowFault::LiveMode,
            Self::Misuse { reason } => FlowFault::Misuse { reason },
            Self::Entropy | Self::Unavailable => FlowFault::Dependency,
        }
    }
}

/// What a peer whose message was refused would be told.
impl From<&FlowError> for ProblemCode {
    fn from(error: &FlowError) -> Self {
        match error.fault() {
            FlowFault::Untrusted => Self::TRUST,
            FlowFault::Unexpected => Self::REQUEST,
            FlowFault::Malformed => Self::MALFORMED,
            FlowFault::Unsupported => Self::UNSUPPORTED,
            FlowFault::TooLate => Self::TIME,
            FlowFault::NotEnrolled => Self::NOT_ENROLLED,
            FlowFault::LiveMode => Self::LIVE_MODE,
            FlowFault::Misuse { .. } | FlowFault::Dependency => Self::INTERNAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_blame_has_its_code() {
        let cases = [
            (FlowError::WrongThread, ProblemCode::REQUEST),
            (FlowError::WrongSender, ProblemCode::TRUST),
            (FlowError::Untrusted { what: "client_id" }, ProblemCode::TRUST),
            (FlowError::Malformed(MessageError::InvalidType), ProblemCode::MALFORMED),
            (FlowError::Malformed(MessageError::WrongType { expected: "x" }), ProblemCode::UNSUPPORTED),
            (FlowError::UnknownFormat, ProblemCode::UNSUPPORTED),
            (FlowError::Expired, ProblemCode::TIME),
            (FlowError::NotEnrolled, ProblemCode::NOT_ENROLLED),
            (FlowError::LiveMode, ProblemCode::LIVE_MODE),
            (FlowError::Entropy, ProblemCode::INTERNAL),
        ];
        for (error, code) in cases {
            assert_eq!(ProblemCode::from(&error), code, "{error}");
        }
    }
}
