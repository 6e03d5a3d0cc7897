//! Message type URIs and media types, compared as the specification demands.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{error::MessageError, limits::MAX_TYPE_LEN};

/// Documentation URIs of the protocols on didcomm.org: the present one, and the one that DIDComm v1 used before.
const DIDCOMM_ORG: [&str; 2] = ["https://didcomm.org/", "did:sov:BzCbsNYhMrjHiqZDTUASHg;spec/"];

/// A message type URI, parsed: `doc-uri` + protocol name + version + message name.
///
/// Equality compares names ignoring case and punctuation (v2.1, "Protocol Identifier URI"), and versions exactly; use
/// [`MessageType::is`] to compare with a constant of ours under the version rule.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageType {
    text: String,
    doc_uri_len: usize,
    name: String,
    major: u32,
    minor: u32,
    message: String,
}

impl MessageType {
    /// Parses a type URI such as `https://didcomm.org/trust-ping/2.0/ping`.
    ///
    /// # Errors
    ///
    /// [`MessageError::InvalidType`] if it is too long or lacks one of the parts.
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Message Type URI".
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        if text.len() > MAX_TYPE_LEN {
            return Err(MessageError::InvalidType);
        }
        Self::split(text).ok_or(MessageError::InvalidType)
    }

    /// Reads the type of a received message, even a URI that names no protocol, version or message. Such a type matches
    /// nothing, so its sender, once proved, can be told that it is not supported here.
    ///
    /// # Errors
    ///
    /// [`MessageError::InvalidType`] if it is too long or not a URI.
    pub fn received(text: &str) -> Result<Self, MessageError> {
        Self::parse(text).or_else(|error| {
            let is_uri = text.len() <= MAX_TYPE_LEN
                && text
                    .split_once("://")
                    .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
                && text.bytes().all(|byte| byte.is_ascii_graphic());
            let nothing = || Self {
                text: text.to_owned(),
                // The whole text: two such types are equal only if their texts are.
                doc_uri_len: text.len(),
                name: String::new(),
                major: 0,
                minor: 0,
                message: String::new(),
            };
            is_uri.then(nothing).ok_or(error)
        })
    }

    fn split(text: &str) -> Option<Self> {
        let (rest, message) = text.rsplit_once('/')?;
        let (rest, version) = rest.rsplit_once('/')?;
        let (major, minor) = version.split_once('.')?;
        let at = rest.rfind(['?', '/', '&', ':', ';', '='])?;
        let name = rest.get(at + 1..)?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        if name.is_empty() || message.is_empty() || at == 0 {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            doc_uri_len: at + 1,
            name: canonical(name),
            major: number(major)?,
            minor: number(minor)?,
            message: canonical(message),
        })
    }

    /// The URI as its creator wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Everything before the protocol name, with the delimiter.
    pub fn doc_uri(&self) -> &str {
        self.text.get(..self.doc_uri_len).unwrap_or_default()
    }

    /// Protocol name in canonical form: lower case, without punctuation.
    ///
    /// It does not say whose protocol it is: anybody may use this name below a documentation URI of their own.
    pub fn protocol(&self) -> &str {
        &self.name
    }

    /// Protocol name, as in [`MessageType::protocol`], if didcomm.org describes the protocol.
    ///
    /// This includes protocols below the former documentation URI, so that they can be refused by name. They are not
    /// messages of ours: [`MessageType::is`] does not match them.
    pub fn standard_protocol(&self) -> Option<&str> {
        DIDCOMM_ORG.contains(&self.doc_uri()).then_some(self.name.as_str())
    }

    /// Message name in canonical form: lower case, without punctuation.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Major version; two versions are compatible if it is equal.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Minor version.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// Whether this is the message that `uri` names, in the same major version.
    pub fn is(&self, uri: &str) -> bool {
        Self::split(uri).is_some_and(|other| {
            self.same_protocol(&other) && self.major == other.major && self.message == other.message
        })
    }

    /// Whether this has the message name of `uri`, in whatever protocol and version.
    pub fn has_name_of(&self, uri: &str) -> bool {
        Self::split(uri).is_some_and(|other| self.message == other.message)
    }

    /// Whether both belong to the same protocol, in any version.
    pub fn same_protocol(&self, other: &Self) -> bool {
        self.doc_uri() == other.doc_uri() && self.name == other.name
    }
}

/// Lower case without punctuation: the form in which names are compared.
fn canonical(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl PartialEq for MessageType {
    fn eq(&self, other: &Self) -> bool {
        self.same_protocol(other)
            && (self.major, self.minor) == (other.major, other.minor)
            && self.message == other.message
    }
}

impl Eq for MessageType {}

impl TryFrom<String> for MessageType {
    type Error = MessageError;

    fn try_from(text: String) -> Result<Self, MessageError> {
        Self::parse(&text)
    }
}

impl From<MessageType> for String {
    fn from(kind: MessageType) -> Self {
        kind.text
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A media type without parameters and without `application/`, in lower case.
///
/// A `typ` without a slash means `application/` stands before it; HTTP adds parameters; both compare equal here.
pub fn bare_media_type(text: &str) -> String {
    let bare = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    bare.strip_prefix("application/").map(str::to_owned).unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uri_that_names_no_message_belongs_to_no_protocol() {
        let odd = MessageType::received("https://didcomm.org/unsupported-protocol").unwrap();
        assert_eq!((odd.as_str(), odd.protocol()), ("https://didcomm.org/unsupported-protocol", ""));
        assert!(!odd.is("https://didcomm.org/trust-ping/2.0/ping"));
        assert_ne!(odd, MessageType::received("https://didcomm.org/another").unwrap());
        for none in ["", "ping", "://x", "https://", "https://a b", "https://ä.example/x"] {
            assert!(MessageType::received(none).is_err(), "{none}");
        }
        assert!(MessageType::received(&format!("https://{}", "x".repeat(MAX_TYPE_LEN))).is_err());
        assert!(MessageType::parse(odd.as_str()).is_err(), "we name none so ourselves");
    }

    #[test]
    fn parts_are_taken_from_the_right() {
        let kind =
            MessageType::parse("https://didcomm.org/coordinate-mediation/3.0/mediate-request").unwrap();
        assert_eq!(kind.doc_uri(), "https://didcomm.org/");
        assert_eq!((kind.protocol(), kind.message()), ("coordinatemediation", "mediaterequest"));
        assert_eq!((kind.major(), kind.minor()), (3, 0));
    }

    #[test]
    fn names_compare_without_case_and_punctuation() {
        let kind = MessageType::parse("https://didcomm.org/Message_Pickup/3.1/status-Request").unwrap();
        assert!(kind.is("https://didcomm.org/messagepickup/3.0/status-request"));
        assert!(!kind.is("https://didcomm.org/messagepickup/4.0/status-request"));
        assert!(!kind.is("https://example.org/messagepickup/3.0/status-request"));
        assert!(!kind.is("https://didcomm.org/messagepickup/3.0/status"));
    }

    #[test]
    fn the_name_of_a_message_is_the_same_in_every_protocol_and_spelling() {
        let kind = MessageType::parse("https://example.org/own/1.0/Problem_Report").unwrap();
        assert!(kind.has_name_of("https://didcomm.org/report-problem/2.0/problem-report"));
        assert!(!kind.has_name_of("https://didcomm.org/report-problem/2.0/problem"));
        assert!(!kind.has_name_of("problem-report"), "a name alone is no type");
        let nothing = MessageType::received("https://didcomm.org/odd").unwrap();
        assert!(!nothing.has_name_of("https://didcomm.org/odd"));
    }

    #[test]
    fn protocols_of_others_that_bear_a_standard_name_are_told_apart() {
        let standard =
            |text: &str| MessageType::received(text).unwrap().standard_protocol().map(str::to_owned);
        let pickup = Some("messagepickup".to_owned());
        assert_eq!(standard("https://didcomm.org/messagepickup/3.0/status"), pickup);
        assert_eq!(standard("https://didcomm.org/Message-Pickup/4.0/status"), pickup);
        assert_eq!(standard("did:sov:BzCbsNYhMrjHiqZDTUASHg;spec/messagepickup/3.0/status"), pickup);
        for foreign in [
            "https://example.org/messagepickup/3.0/status",
            "https://didcomm.org.example/messagepickup/3.0/status",
            "https://didcomm.org/x/messagepickup/3.0/status",
            "http://didcomm.org/messagepickup/3.0/status",
            "did:sov:AzCbsNYhMrjHiqZDTUASHg;spec/messagepickup/3.0/status",
            "https://didcomm.org/messagepickup",
        ] {
            assert_eq!(standard(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn texts_without_all_parts_are_refused() {
        let overlong = format!("https://didcomm.org/{}/1.0/x", "a".repeat(300));
        for bad in ["", "ping", "https://didcomm.org/ping", "a/1.0/", "/x/1/y", "x:p/1.a/m", &overlong] {
            assert_eq!(MessageType::parse(bad), Err(MessageError::InvalidType), "{bad}");
        }
    }

    #[test]
    fn media_types_compare_after_normalisation() {
        assert_eq!(bare_media_type("application/didcomm-plain+json; charset=utf-8"), "didcomm-plain+json");
        assert_eq!(bare_media_type("didcomm-plain+json"), "didcomm-plain+json");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = MessageType::parse(&text);
        }
    }
}
