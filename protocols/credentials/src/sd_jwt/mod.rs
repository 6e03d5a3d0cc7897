//! Selective disclosure for JWTs: issuing, presenting and checking them (RFC 9901).
//!
//! ```text
//! issuer  issue()            -> SdJwt              compact text, no key binding
//! holder  SdJwtIn::parse     -> SdJwtIn::verify    -> VerifiedSdJwt::into_held -> HeldSdJwt::present
//! verifier SdJwtIn::parse    -> SdJwtIn::verify    -> VerifiedSdJwt::check_key_binding
//! ```
//!
//! Whether a presentation must carry a key binding is the verifier's policy and is never inferred from the text.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha384, Sha512};

use einmal_keys::base64url_encode;

mod error;
mod held;
mod issue;
mod key_binding;
mod open;
mod received;

pub use error::{IssueError, KeyBindingError, PresentError, SdJwtError};
pub use held::{HeldSdJwt, KeyBindingRequest};
pub use issue::{IssueRequest, MAX_DECOYS, SdJwt, issue};
pub use key_binding::{KeyBinding, KeyBindingCheck, MAX_CLOCK_SKEW_SECS, MAX_KEY_BINDING_AGE_SECS};
pub use open::ElementPositions;
pub use received::{SdJwtIn, VerifiedSdJwt};

/// Longest SD-JWT that is read or issued, in bytes; it has room for a portrait and fits into a DIDComm frame (1 MiB).
pub const MAX_SD_JWT_BYTES: usize = 512 * 1024;

/// Most disclosures one SD-JWT may carry.
pub const MAX_DISCLOSURES: usize = 1000;

/// Deepest nesting of claims, counted through disclosures inside disclosures.
pub const MAX_DEPTH: usize = crate::json::MAX_JSON_DEPTH;

/// Bytes of randomness in each salt (RFC 9901, section 9.3, demands at least 128 bits).
pub const SALT_BYTES: usize = 16;

const SD: &str = "_sd";
const SD_ALG: &str = "_sd_alg";
const DOTS: &str = "...";

/// Names no claim may have, because the format uses them itself.
fn is_reserved(name: &str) -> bool {
    matches!(name, SD | SD_ALG | DOTS)
}

/// One step of the path to a claim. In JSON a string or a non-negative integer.
///
/// An index counts elements as the issuer signed them, disclosed or not, so that holder and verifier mean the same
/// element.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathElement {
    /// A member of an object.
    Name(String),
    /// An element of an array, from 0.
    Index(usize),
}

impl From<&str> for PathElement {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<usize> for PathElement {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The claims about a person or thing. `Debug` shows how many there are, never what they say.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Takes an object of claims.
    pub fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// The claims as a JSON object.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The top-level claim of this name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(members: Map<String, Value>) -> Self {
        Self(members)
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claims({} members, hidden)", self.0.len())
    }
}

/// The hash behind digests and `sd_hash`, by its name in `_sd_alg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// `sha-256`, the default if `_sd_alg` is absent.
    #[default]
    Sha256,
    /// `sha-384`.
    Sha384,
    /// `sha-512`.
    Sha512,
}

impl HashAlgorithm {
    /// The name in the registry "Named Information Hash Algorithm".
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Reads a value of `_sd_alg`; case-sensitive.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|hash| hash.name() == name)
    }

    /// The hash of `bytes`, base64url.
    fn digest(self, bytes: &[u8]) -> String {
        match self {
            Self::Sha256 => base64url_encode(Sha256::digest(bytes)),
            Self::Sha384 => base64url_encode(Sha384::digest(bytes)),
            Self::Sha512 => base64url_encode(Sha512::digest(bytes)),
        }
    }
}

#[cfg(test)]
mod tests;
