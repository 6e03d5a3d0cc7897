//! Trust Ping 2.0: whether a peer is there and the two sides can talk to each other.
//!
//! `ping` asks; `ping-response` answers in the ping's thread, unless the ping asks for no answer. A response reveals
//! that the agent is awake; the node limits how often it responds.

mod messages;
mod receiver;
mod sender;

pub use messages::{Ping, PingResponse};
pub use receiver::answer;
pub use sender::{Action, Sender};

pub use crate::question::{Event, State};
