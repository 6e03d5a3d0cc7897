//! Discover Features 2.0: which protocols, goal codes, headers and limits a peer is willing to name.
//!
//! `queries` asks with patterns, `disclose` answers. An empty answer means "not telling", never "not supported". What
//! is disclosed to whom is the caller's choice: it hands the responder the table for this peer.

mod messages;
mod requester;
mod responder;

pub use messages::{CONSTRAINT, Disclose, Disclosure, GOAL_CODE, HEADER, PROTOCOL, Queries, Query};
pub use requester::{Action, Event, Requester, State, read_disclosures};
pub use responder::answer;

/// Spellings of the first version that are still in use.
const OLD_QUERIES: &str = "https://didcomm.org/discover-features/2.0/query";
const OLD_DISCLOSE: &str = "https://didcomm.org/discover-features/2.0/disclosures";
