//! Discover Features 2.0: which protocols, goal codes, headers and limits a peer is willing to name.
//!
//! `queries` asks with patterns, `disclose` answers. An empty answer means "not telling", never "not supported". The
//! caller chooses what each peer may see: it hands the responder the table for that peer.

mod messages;
mod requester;
mod responder;

use einmal_didcomm::{Body, MessageType};

pub use messages::{CONSTRAINT, Disclose, Disclosure, GOAL_CODE, HEADER, PROTOCOL, Queries, Query};
pub use requester::{Action, Requester, read_disclosures};
pub use responder::answer;

use crate::Protocol;
pub use crate::question::{Event, State};

/// Whether a message is one of this protocol, in any version.
pub fn covers(kind: &MessageType) -> bool {
    Protocol::of(kind) == Some(Protocol::DiscoverFeatures)
}

/// Whether a message asks for features, in any version and spelling; [`answer`] takes it.
pub fn is_question(kind: &MessageType) -> bool {
    covers(kind) && [Queries::TYPE, OLD_QUERIES].iter().any(|uri| kind.has_name_of(uri))
}

/// Spellings of the first version that are still in use.
const OLD_QUERIES: &str = "https://didcomm.org/discover-features/2.0/query";
const OLD_DISCLOSE: &str = "https://didcomm.org/discover-features/2.0/disclosures";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_told_in_any_version_and_spelling_and_an_answer_is_none() {
        let is_question = |uri: &str| is_question(&MessageType::parse(uri).unwrap());
        for question in [
            Queries::TYPE,
            OLD_QUERIES,
            "https://didcomm.org/discover-features/1.0/query",
            "did:sov:BzCbsNYhMrjHiqZDTUASHg;spec/discover-features/1.0/query",
        ] {
            assert!(is_question(question), "{question}");
        }
        for other in [Disclose::TYPE, OLD_DISCLOSE, "https://example.org/discover-features/2.0/queries"] {
            assert!(!is_question(other), "{other}");
        }
    }
}
