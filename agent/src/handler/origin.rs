//! Where a message came from, so that what one place causes can be bounded.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a message came from: a digest of an address, or of the libp2p relay in front of it, under a key that dies with
/// the process. It tells origins apart and reveals nothing about them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin(u64);

impl Origin {
    /// The origin with this digest; only the outbox knows the key.
    pub(crate) fn from_digest(digest: u64) -> Self {
        Self(digest)
    }
}

/// Does not show the digest, so that log lines of one origin cannot be linked by it.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin(..)")
    }
}
