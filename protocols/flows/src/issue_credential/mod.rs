//! Issue Credential 3.0: from an offer to a credential in the holder's hands.
//!
//! ```text
//! Holder  (proposal-sent) ─▶ offer-received ─▶ request-sent ─▶ credential-received ─▶ done
//! Issuer  (proposal-received) ─▶ offer-sent ─▶ request-received ─▶ credential-issued ─▶ done
//! ```
//!
//! Any problem report, refusal or timeout ends the exchange. The specification calls that state `null`; here it is
//! `abandoned`, to tell an ended exchange from one that has not begun. Offers, requests and credentials travel in
//! attachments of [`formats`](crate::formats).

pub mod holder;
pub mod issuer;
mod messages;
#[cfg(test)]
mod tests;

use einmal_didcomm::{MessageType, ProblemCode};
use serde::{Deserialize, Serialize};

pub use holder::Holder;
pub use issuer::Issuer;
pub use messages::{
    Ack, AckStatus, CredentialPreview, IssueCredential, OfferCredential, PreviewAttribute, ProposeCredential,
    RequestCredential,
};

use crate::Protocol;

/// Whether a message is one of this protocol.
pub fn covers(kind: &MessageType) -> bool {
    Protocol::of(kind) == Some(Protocol::IssueCredential) && kind.major() == 3
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The holder has the credential.
    Done,
    /// The credential was issued, but the holder never acknowledged it.
    Unacknowledged,
    /// The person on our side declined.
    Declined,
    /// Nothing came in time.
    TimedOut,
    /// We refused what the peer sent.
    Refused {
        /// Why.
        code: ProblemCode,
    },
    /// The peer gave up, or refused what we sent.
    PeerAbandoned {
        /// Why, in its words.
        code: ProblemCode,
    },
}

impl Outcome {
    /// Why the exchange ended without what it was for: the code one of the two has told the other.
    pub fn failure(&self) -> Option<ProblemCode> {
        match self {
            Self::Done | Self::Unacknowledged => None,
            Self::Declined => Some(ProblemCode::ISSUANCE_ABANDONED),
            Self::TimedOut => Some(ProblemCode::TIME),
            Self::Refused { code } | Self::PeerAbandoned { code } => Some(code.clone()),
        }
    }
}
