//! Problem codes, and the one table that maps errors of this crate to what a peer is told.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::error::{EnvelopeError, MessageError, OpenError};

/// A problem code such as `e.p.req.time`: sorter, scope, descriptors from general to particular.
///
/// Received codes are kept unchanged (deployed mediators put whole URIs into them) and compared by prefix.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Problem Codes".
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProblemCode(Cow<'static, str>);

/// Longest problem code kept from a peer, in characters.
const MAX_CODE_LEN: usize = 256;

impl ProblemCode {
    /// The sender is unknown here, or not enrolled for this.
    pub const NOT_ENROLLED: Self = Self(Cow::Borrowed("e.p.req.not_enroll"));
    /// The protocol, version or message type is not supported here.
    pub const UNSUPPORTED: Self = Self(Cow::Borrowed("e.p.msg.unsupported"));
    /// The message is malformed.
    pub const MALFORMED: Self = Self(Cow::Borrowed("e.p.msg"));
    /// The message was seen before.
    pub const REPLAYED: Self = Self(Cow::Borrowed("e.p.crypto.message.dejavu"));
    /// Cryptographic checks failed.
    pub const CRYPTO: Self = Self(Cow::Borrowed("e.p.trust.crypto"));
    /// The sender is not trusted for this.
    pub const TRUST: Self = Self(Cow::Borrowed("e.p.trust"));
    /// A DID cannot be resolved or used.
    pub const DID: Self = Self(Cow::Borrowed("e.p.did"));
    /// Its time is over.
    pub const TIME: Self = Self(Cow::Borrowed("e.p.req.time"));
    /// The request cannot be met in the present state.
    pub const REQUEST: Self = Self(Cow::Borrowed("e.p.req"));
    /// The offer or request was declined by a person or a policy.
    pub const DECLINED: Self = Self(Cow::Borrowed("e.p.req.declined"));
    /// An exchange of issue-credential was given up.
    pub const ISSUANCE_ABANDONED: Self = Self(Cow::Borrowed("e.p.issuance-abandoned"));
    /// Live delivery needs a connection that stays open.
    pub const LIVE_MODE: Self = Self(Cow::Borrowed("e.m.live-mode-not-supported"));
    /// Out of space.
    pub const STORAGE: Self = Self(Cow::Borrowed("e.p.me.res.storage"));
    /// The message is larger than is kept, now or later.
    pub const TOO_BIG: Self = Self(Cow::Borrowed("e.p.me.res.storage.message_too_big"));
    /// Something failed on our side.
    pub const INTERNAL: Self = Self(Cow::Borrowed("e.p.me"));
    /// Too many errors on one thread; no more reports will follow.
    pub const MAX_ERRORS: Self = Self(Cow::Borrowed("e.p.req.max-errors-exceeded"));

    /// What a code that we send means, for a person: always the same text for one code.
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Problem Reports", `comment`.
    pub fn meaning(&self) -> Option<&'static str> {
        let known = [
            (Self::NOT_ENROLLED, "The sender or the recipient is not enrolled here"),
            (Self::UNSUPPORTED, "This is not supported here"),
            (Self::MALFORMED, "The message breaks the rules of its type"),
            (Self::REPLAYED, "The message was seen before, or a newer one has replaced it"),
            (Self::CRYPTO, "A proof does not hold"),
            (Self::TRUST, "The sender may not do this"),
            (Self::DID, "A DID cannot be resolved or used"),
            (Self::TIME, "It comes too late"),
            (Self::REQUEST, "The request cannot be met in the present state"),
            (Self::DECLINED, "It was declined"),
            (Self::ISSUANCE_ABANDONED, "No card will come of this any more"),
            (Self::LIVE_MODE, "Live delivery is not possible on this connection"),
            (Self::STORAGE, "There is no room at present"),
            (Self::TOO_BIG, "It is larger than is taken"),
            (Self::INTERNAL, "Something failed on this side"),
            (Self::MAX_ERRORS, "There were too many errors; no more is said in this thread"),
        ];
        known.into_iter().find_map(|(code, meaning)| (code == *self).then_some(meaning))
    }

    /// Keeps a received code, shortened to a bounded length.
    pub fn received(text: &str) -> Self {
        Self(Cow::Owned(text.chars().take(MAX_CODE_LEN).collect()))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the code equals `prefix` or is a case of it: `e.p.req.time` is a case of `e.p.req`.
    pub fn is_case_of(&self, prefix: &str) -> bool {
        self.0.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Whether this is a warning, after which the protocol may go on.
    pub fn is_warning(&self) -> bool {
        self.0.starts_with("w.")
    }
}

impl fmt::Debug for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a peer would be told. Other code decides whether it is told anything: input that does not decrypt, or whose
/// sender is unproved, gets no answer.
impl From<&OpenError> for ProblemCode {
    fn from(error: &OpenError) -> Self {
        match error {
            OpenError::Envelope(EnvelopeError::Algorithm) => Self::UNSUPPORTED,
            OpenError::Envelope(_) | OpenError::PlaintextRefused => Self::MALFORMED,
            OpenError::Message(error) => error.into(),
            OpenError::Expired => Self::TIME,
            OpenError::Resolve { .. } => Self::DID,
            OpenError::Custody(_) => Self::INTERNAL,
            OpenError::Decrypt
            | OpenError::Signature
            | OpenError::SenderKey
            | OpenError::SignerKey
            | OpenError::FromIsNotSender
            | OpenError::FromIsNotSigner
            | OpenError::SignerIsNotSender
            | OpenError::NotAddressed
            | OpenError::SignedWithoutTo
            | OpenError::FromPrior { .. }
            | OpenError::NotForUs => Self::CRYPTO,
        }
    }
}

impl From<&MessageError> for ProblemCode {
    fn from(error: &MessageError) -> Self {
        match error {
            MessageError::WrongType { .. } => Self::UNSUPPORTED,
            MessageError::NotJson
            | MessageError::MissingHeader { .. }
            | MessageError::InvalidHeader { .. }
            | MessageError::InvalidType
            | MessageError::InvalidBody { .. } => Self::MALFORMED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_match_by_whole_descriptors() {
        assert!(ProblemCode::TIME.is_case_of("e.p.req"));
        assert!(ProblemCode::TIME.is_case_of("e.p.req.time"));
        assert!(!ProblemCode::TIME.is_case_of("e.p.re"));
        assert!(!ProblemCode::REQUEST.is_case_of("e.p.req.time"));
    }

    #[test]
    fn codes_of_ours_have_a_meaning_and_unknown_ones_none() {
        assert_eq!(ProblemCode::received("e.p.req.time").meaning(), ProblemCode::TIME.meaning());
        assert!(ProblemCode::TIME.meaning().is_some());
        assert_eq!(ProblemCode::received("e.p.req.tim").meaning(), None);
    }

    #[test]
    fn received_code_is_bounded() {
        assert_eq!(ProblemCode::received(&"x".repeat(10_000)).as_str().len(), MAX_CODE_LEN);
    }
}
