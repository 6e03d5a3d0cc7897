//! Bodies of Trust Ping 2.0.

use einmal_didcomm::Body;
use serde::{Deserialize, Serialize};

/// Asks for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Whether a response is wanted; `true` if the sender does not say.
    #[serde(default = "wanted")]
    pub response_requested: bool,
}

fn wanted() -> bool {
    true
}

impl Body for Ping {
    const TYPE: &'static str = "https://didcomm.org/trust-ping/2.0/ping";
}

/// The sign of life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingResponse {}

impl Body for PingResponse {
    const TYPE: &'static str = "https://didcomm.org/trust-ping/2.0/ping-response";
}
