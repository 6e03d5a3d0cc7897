//! Identifiers and instants of the message headers.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use einmal_keys::{Entropy, EntropyError};
use serde::{Deserialize, Serialize};

use crate::limits::MAX_ID_LEN;

/// An identifier was empty, too long, or held a character that is not visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("identifier of {len} bytes is not 1..={MAX_ID_LEN} visible ASCII characters")]
pub struct InvalidId {
    /// Length of the refused text in bytes. The text itself is withheld, because a peer chose it.
    pub len: usize,
}

/// RFC 3986 `unreserved`, the characters the specification permits.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

macro_rules! header_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Compared case-insensitively, as the specification demands.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as its creator wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether all characters are ones the specification permits. Deployed agents also write `urn:uuid:…`,
            /// which is accepted but never created here.
            pub fn is_regular(&self) -> bool {
                self.0.bytes().all(is_unreserved)
            }

            /// The lower-case form for storage keys. It holds only `unreserved` characters and `%`, so a separator
            /// after it is unambiguous.
            pub fn to_key(&self) -> String {
                let mut key = String::with_capacity(self.0.len());
                for byte in self.0.bytes() {
                    if is_unreserved(byte) {
                        key.push(char::from(byte.to_ascii_lowercase()));
                    } else {
                        key.push_str(&format!("%{:02x}", byte.to_ascii_lowercase()));
                    }
                }
                key
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                let visible = |byte: u8| byte.is_ascii_graphic();
                if text.is_empty() || text.len() > MAX_ID_LEN || !text.bytes().all(visible) {
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

    /// The thread this message would start.
    pub fn to_thread(&self) -> ThreadId {
        ThreadId(self.0.clone())
    }
}

impl ThreadId {
    /// The id of the message that started the thread.
    pub fn to_message_id(&self) -> MessageId {
        MessageId(self.0.clone())
    }
}

/// Whole seconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The instant `seconds` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// Reads a JSON object. The reader of structures would also take an array of their members, which JOSE does not know.
pub(crate) fn read_object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if begins != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(bytes).ok()
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
    fn empty_overlong_and_invisible_ids_are_refused() {
        for bad in [String::new(), "a".repeat(MAX_ID_LEN + 1), "a\n".into(), "ä".into(), "a b".into()] {
            assert_eq!(MessageId::try_from(bad.clone()), Err(InvalidId { len: bad.len() }));
        }
        assert!(MessageId::try_from("a".repeat(MAX_ID_LEN)).is_ok());
    }

    /// didcomm-mediator-rs, and wallets made together with it.
    #[test]
    fn ids_of_other_characters_are_understood_and_their_keys_cannot_be_taken_for_longer_ones() {
        let urn = MessageId::try_from("urn:uuid:F81D4FAE-7dec-11d0-a765-00a0c91e6bf6").unwrap();
        assert!(!urn.is_regular());
        assert_eq!(urn.to_key(), "urn%3auuid%3af81d4fae-7dec-11d0-a765-00a0c91e6bf6");
        let percent = MessageId::try_from("urn%3auuid").unwrap();
        assert_ne!(percent.to_key(), MessageId::try_from("urn:uuid").unwrap().to_key());
        assert!(MessageId::random(&SeededEntropy::new(1)).unwrap().is_regular());
    }

    #[test]
    fn random_ids_are_uuids_and_differ() {
        let entropy = SeededEntropy::new(1);
        let first = MessageId::random(&entropy).unwrap();
        assert_eq!(first.as_str().len(), 36);
        assert_ne!(first, MessageId::random(&entropy).unwrap());
    }
}
