//! Empty 1.0: a message that carries headers only, such as a pure acknowledgement. It is read but never sent.

use einmal_didcomm::Body;
use serde::{Deserialize, Serialize};

/// The body of an empty message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

impl Body for Empty {
    const TYPE: &'static str = "https://didcomm.org/empty/1.0/empty";
}
