//! Discover Features 2.0: which protocols, goal codes, headers and limits a peer is willing to name.
//!
//! `queries` asks with patterns, `disclose` answers. An empty answer means "not telling", never "not supported". The
//! caller chooses what each peer may see: it hands the responder the table for that peer.

mod messages;
mod requester;
mod responder;

use einmal_didcomm::MessageType;

pub use messages::{CONSTRAINT, Disclose, Disclosure, GOAL_CODE, HEADER, PROTOCOL, Queries, Query};
pub use requester::{Action, Requester, read_disclosures};
pub use responder::answer;

pub use crate::question::{Event, State};

/// Whether a message is one of this protocol, in any version.
pub fn covers(kind: &MessageType) -> bool {
    kind.standard_protocol() == Some("discoverfeatures")
}

/// Whether a message asks for features, in any version and spelling; [`answer`] takes it.
pub fn is_question(kind: &MessageType) -> bool {
    covers(kind) && matches!(kind.message(), "queries" | "query")
}

/// Spellings of the first version that are still in use.
const OLD_QUERIES: &str = "https://didcomm.org/discover-features/2.0/query";
const OLD_DISCLOSE: &str = "https://didcomm.org/discover-features/2.0/disclosures";
