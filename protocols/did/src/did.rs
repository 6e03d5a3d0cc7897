//! Decentralized identifiers: their syntax, their canonical form, and equality by that form.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{DidError, limits::MAX_DID_LEN, peer::four, web};

/// Characters of a DID that `Debug` shows, so that a long did:peer:4 does not fill a log.
const DEBUG_LEN: usize = 96;

/// A syntactically valid DID without path, query or fragment. Holding one proves nothing about who controls it.
///
/// Compares, orders and hashes by its text; [`Did::same_as`] compares by meaning. Cloning shares the text.
///
/// # Specification
///
/// DID Core 1.0, section 3.1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did(Arc<str>);

impl Did {
    /// Reads a DID of at most [`MAX_DID_LEN`] bytes.
    ///
    /// # Errors
    ///
    /// [`DidError::TooLong`] or [`DidError::Syntax`]. Method-specific rules are not checked here.
    pub fn parse(text: &str) -> Result<Self, DidError> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The DID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The method name, such as `peer`.
    pub fn method(&self) -> &str {
        self.parts().0
    }

    /// What follows the method name and its colon.
    pub fn method_specific_id(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.strip_prefix("did:").and_then(|rest| rest.split_once(':')).unwrap_or_default()
    }

    /// The canonical form, in which DIDs of the same meaning are equal.
    ///
    /// The long form of did:peer:4 becomes its short form if it hashes to it. If not, the DID stays as it is, so that
    /// nobody can impersonate another DID by naming its hash. For did:web the host becomes lower case and
    /// percent-encoding upper case. Other DIDs stay unchanged.
    pub fn canonical(&self) -> Self {
        match self.method() {
            "peer" => four::short_form(self).unwrap_or_else(|_| self.clone()),
            "web" => web::canonical(self),
            _ => self.clone(),
        }
    }

    /// Whether both DIDs have the same canonical form.
    pub fn same_as(&self, other: &Self) -> bool {
        self == other || (self.method() == other.method() && self.canonical() == other.canonical())
    }

    /// Wraps text that this crate built from checked parts, within syntax and length.
    pub(crate) fn assembled(text: String) -> Self {
        debug_assert!(check(&text).is_ok(), "assembled text must be a DID");
        Self(text.into())
    }

    /// Shares the text, for a key id or a table.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

fn check(text: &str) -> Result<(), DidError> {
    if text.len() > MAX_DID_LEN {
        return Err(DidError::TooLong { what: "DID", len: text.len(), max: MAX_DID_LEN });
    }
    let syntax = |reason| DidError::Syntax { reason };
    let rest = text.strip_prefix("did:").ok_or(syntax("it does not begin with `did:`"))?;
    let (method, id) = rest.split_once(':').ok_or(syntax("no method-specific id follows the method name"))?;
    let name_char = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if method.is_empty() || !method.bytes().all(name_char) {
        return Err(syntax("the method name is not of lower-case letters and digits"));
    }
    if id.is_empty() || id.ends_with(':') {
        return Err(syntax("the method-specific id ends with a colon or is empty"));
    }
    let mut bytes = id.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b':' => {}
            b'%' => {
                let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
                if !hex(bytes.next()) || !hex(bytes.next()) {
                    return Err(syntax("a percent sign is not followed by two hexadecimal digits"));
                }
            }
            _ => return Err(syntax("the method-specific id holds a character that is not allowed")),
        }
    }
    Ok(())
}

impl FromStr for Did {
    type Err = DidError;

    fn from_str(text: &str) -> Result<Self, DidError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Did {
    type Error = DidError;

    fn try_from(text: &str) -> Result<Self, DidError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Did {
    type Error = DidError;

    fn try_from(text: String) -> Result<Self, DidError> {
        check(&text)?;
        Ok(Self(text.into()))
    }
}

impl From<Did> for String {
    fn from(did: Did) -> Self {
        did.as_str().to_owned()
    }
}

impl AsRef<str> for Did {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Sound, because a DID compares and hashes by its text.
impl Borrow<str> for Did {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shows only the beginning of a long DID.
impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..DEBUG_LEN) {
            Some(head) if self.0.len() > DEBUG_LEN => write!(f, "Did({head}… {} bytes)", self.0.len()),
            _ => write!(f, "Did({})", self.0),
        }
    }
}

impl Serialize for Did {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Did {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn did(text: &str) -> Did {
        Did::parse(text).unwrap()
    }

    #[test]
    fn parts_of_a_did_are_told_apart() {
        let did = did("did:web:city.example%3A8443:citizens::a");
        assert_eq!((did.method(), did.method_specific_id()), ("web", "city.example%3A8443:citizens::a"));
        assert_eq!(did.to_string(), did.as_str());
    }

    #[test]
    fn text_outside_the_syntax_is_refused() {
        for text in [
            "",
            "did",
            "did:",
            "did:web",
            "did:web:",
            "did::a",
            "DID:web:a",
            "did:Web:a",
            "did:we-b:a",
            "did:web:a:",
            "did:web:a/b",
            "did:web:a#b",
            "did:web:a?b",
            "did:web:a b",
            "did:web:ü",
            "did:web:a%",
            "did:web:a%2",
            "did:web:a%2g",
            "did:web:a@b",
            " did:web:a",
            "did:peer:2.Sabc=",
        ] {
            assert!(matches!(Did::parse(text), Err(DidError::Syntax { .. })), "{text}");
            assert!(serde_json::from_value::<Did>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn length_is_bounded_exactly() {
        let of_len = |len: usize| format!("did:a:{}", "x".repeat(len - 6));
        assert!(Did::parse(&of_len(MAX_DID_LEN)).is_ok());
        assert_eq!(
            Did::parse(&of_len(MAX_DID_LEN + 1)),
            Err(DidError::TooLong { what: "DID", len: MAX_DID_LEN + 1, max: MAX_DID_LEN })
        );
    }

    #[test]
    fn web_hosts_compare_without_case_and_paths_with_it() {
        assert!(did("did:web:City.Example%3a8443:A%2fb").same_as(&did("did:web:city.example%3A8443:A%2Fb")));
        assert!(!did("did:web:city.example:A").same_as(&did("did:web:city.example:a")));
        assert!(!did("did:web:city.example").same_as(&did("did:key:city.example")));
        assert_eq!(did("did:example:ABC%3a").canonical(), did("did:example:ABC%3a"));
    }

    #[test]
    fn serde_form_is_the_text() {
        let did = did("did:example:a");
        assert_eq!(serde_json::to_string(&did).unwrap(), "\"did:example:a\"");
        assert_eq!(serde_json::from_str::<Did>("\"did:example:a\"").unwrap(), did);
    }

    #[test]
    fn debug_of_a_long_did_is_short() {
        let did = did(&format!("did:a:{}", "x".repeat(10_000)));
        assert!(format!("{did:?}").len() < 200);
    }

    proptest! {
        #[test]
        fn no_text_panics_and_canonical_forms_are_stable(text in "(did:(web|peer|key|a):)?[ -~]{0,60}") {
            if let Ok(did) = Did::parse(&text) {
                let canonical = did.canonical();
                prop_assert!(did.same_as(&canonical));
                prop_assert_eq!(canonical.canonical(), canonical);
            }
        }
    }
}
