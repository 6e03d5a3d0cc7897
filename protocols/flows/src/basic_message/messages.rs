//! The body of Basic Message 2.0.

use std::fmt;

use einmal_didcomm::Body;
use serde::{Deserialize, Serialize};

/// A text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicMessage {
    /// The text.
    pub content: String,
}

impl Body for BasicMessage {
    const TYPE: &'static str = "https://didcomm.org/basicmessage/2.0/message";
}

/// Withholds the text.
impl fmt::Debug for BasicMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicMessage").finish_non_exhaustive()
    }
}
