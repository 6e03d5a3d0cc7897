//! Present Proof 3.0: asking for facts and showing only those.
//!
//! ```text
//! Prover    (proposal-sent) ─▶ request-received ─▶ presentation-sent ─▶ done | abandoned
//! Verifier  (proposal-received) ─▶ request-sent ─▶ presentation-received ─▶ done | abandoned
//! ```
//!
//! Without `will_confirm` the prover is done once it has presented. A request names its verifier in `client_id` and
//! counts only if that is the proved sender; otherwise a presentation could be relayed. The `ack` means the verifier
//! accepts, not merely that the signature is valid.

mod messages;
pub mod prover;
#[cfg(test)]
mod tests;
pub mod verifier;

use einmal_did::Did;
use einmal_didcomm::{MessageType, ProblemCode};
use serde::{Deserialize, Serialize};

pub use messages::{Ack, Presentation, ProposePresentation, RequestPresentation};
pub use prover::Prover;
pub use verifier::Verifier;

use crate::Protocol;

/// The `client_id` prefix for a verifier known by its DID (OpenID4VP 1.0, section 5.9.3).
const CLIENT_ID_PREFIX: &str = "decentralized_identifier:";

/// The `client_id` of a verifier, which is also the audience of presentations to it.
pub fn client_id(verifier: &Did) -> String {
    format!("{CLIENT_ID_PREFIX}{verifier}")
}

/// Whether `client_id` names `did`, in any spelling of the DID.
fn names(client_id: &str, did: &Did) -> bool {
    let named = client_id.strip_prefix(CLIENT_ID_PREFIX);
    named.and_then(|text| Did::parse(text).ok()).is_some_and(|named| named.same_as(did))
}

/// Whether a message is one of this protocol, also under the namespace of a widely deployed agent.
pub fn covers(kind: &MessageType) -> bool {
    let standard = Protocol::of(kind) == Some(Protocol::PresentProof);
    let alias = MessageType::parse(Presentation::ALIAS).is_ok_and(|alias| kind.same_protocol(&alias));
    (standard || alias) && kind.major() == 3
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Presented, and accepted if a confirmation was promised.
    Done,
    /// Presented, but the promised verdict never came.
    Unconfirmed,
    /// The person on our side declined.
    Declined {
        /// What the peer was told.
        code: ProblemCode,
    },
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
            Self::Done | Self::Unconfirmed => None,
            Self::TimedOut => Some(ProblemCode::TIME),
            Self::Declined { code } | Self::Refused { code } | Self::PeerAbandoned { code } => {
                Some(code.clone())
            }
        }
    }
}
