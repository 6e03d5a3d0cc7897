//! Trust Ping 2.0: whether a peer is there and both can speak to each other.
//!
//! `ping` asks, `ping-response` answers in the ping's thread unless the ping says it needs no answer. A response
//! reveals that the agent is awake; how often it may do so is for the node to limit.

mod messages;
mod receiver;
mod sender;

pub use messages::{Ping, PingResponse};
pub use receiver::answer;
pub use sender::{Action, Sender};

pub use crate::question::{Event, State};
