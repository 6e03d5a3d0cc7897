//! Identifiers and instants of the message headers.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use einmal_keys::{Entropy, EntropyError};
use serde::{Deserialize, Serialize};

use crate::limits::MAX_ID_LEN;

/// An identifier was empty, too long, or held a character outside RFC 3986 `unreserved`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("identifier of {len} bytes is not 1..={MAX_ID_LEN} unreserved URI characters")]
pub struct InvalidId {
    /// Length of the refused text in bytes. The text itself is withheld: it is a peer's choice.
    pub len: usize,
}

macro_rules! header_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Compared without regard to case, as the specification asks.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as its maker wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The lower-case form, for use in storage keys.
            pub fn to_key(&self) -> String {
                self.0.to_ascii_lowercase()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
                if text.is_empty() || text.len() > MAX_ID_LEN || !text.bytes().all(unreserved) {
                    return Err(InvalidId { len: text.len() });
                }
                Ok(Self(text))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;

            fn try_from(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.eq_ignore_ascii_case(&other.0)
            }
        }

        impl Eq for $name {}

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                for byte in self.0.bytes() {
                    byte.to_ascii_lowercase().hash(state);
                }
            }
        }
    };
}

header_id! {
    /// Names one message of one sender.
    MessageId
}

header_id! {
    /// Names a thread: the id of its first message.
    ThreadId
}

impl MessageId {
    /// Makes a fresh id: a random UUID in lower case.
    ///
    /// # Errors
    ///
    /// [`EntropyError`] if the random source fails.
    pub fn random(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut bytes = [0u8; 16];
        entropy.fill(&mut bytes)?;
        Ok(Self(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()))
    }

    /// The thread this message would open.
    pub fn to_thread(&self) -> ThreadId {
        ThreadId(self.0.clone())
    }
}

impl ThreadId {
    /// The id of the message that opened the thread.
    pub fn to_message_id(&self) -> MessageId {
        MessageId(self.0.clone())
    }
}

/// Whole seconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This instant moved `seconds` into the future; saturates at the end of time.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

#[cfg(test)]
mod tests {
    use einmal_keys::SeededEntropy;

    use super::*;

    #[test]
    fn ids_compare_without_case() {
        let upper = MessageId::try_from("ABC-1").unwrap();
        let lower = MessageId::try_from("abc-1").unwrap();
        assert_eq!(upper, lower);
        assert_eq!(upper.to_key(), lower.to_key());
    }

    #[test]
    fn empty_overlong_and_reserved_ids_are_refused() {
        for bad in [String::new(), "a".repeat(MAX_ID_LEN + 1), "a/b".into(), "ä".into(), "a b".into()] {
            assert_eq!(MessageId::try_from(bad.clone()), Err(InvalidId { len: bad.len() }));
        }
        assert!(MessageId::try_from("a".repeat(MAX_ID_LEN)).is_ok());
    }

    #[test]
    fn random_ids_are_uuids_and_differ() {
        let entropy = SeededEntropy::new(1);
        let first = MessageId::random(&entropy).unwrap();
        assert_eq!(first.as_str().len(), 36);
        assert_ne!(first, MessageId::random(&entropy).unwrap());
    }
}
