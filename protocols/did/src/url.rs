//! DID URLs: a DID with path, query or fragment, most often the id of a verification method.

use std::{fmt, str::FromStr, sync::Arc};

use einmal_keys::KeyId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Did, DidError, limits::MAX_DID_URL_LEN};

/// An absolute DID URL. Compares and hashes by its text.
///
/// # Specification
///
/// DID Core 1.0, section 3.2.
#[derive(Clone)]
pub struct DidUrl {
    text: Arc<str>,
    did: Did,
}

impl DidUrl {
    /// Reads an absolute DID URL; a bare DID is one too.
    ///
    /// # Errors
    ///
    /// [`DidError::TooLong`], [`DidError::UrlSyntax`], and the errors of [`Did::parse`] for its DID.
    pub fn parse(text: &str) -> Result<Self, DidError> {
        check_len(text)?;
        let end = text.find(['/', '?', '#']).unwrap_or(text.len());
        let (did, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        let did = Did::parse(did)?;
        check_rest(rest)?;
        let text = if rest.is_empty() { did.to_shared() } else { text.into() };
        Ok(Self { text, did })
    }

    /// The DID URL of `fragment` (without `#`) in the document of `did`.
    ///
    /// # Errors
    ///
    /// [`DidError::UrlSyntax`] if the fragment is empty or holds characters that are not allowed,
    /// [`DidError::TooLong`].
    pub fn new(did: &Did, fragment: &str) -> Result<Self, DidError> {
        Self::join(did, &format!("#{fragment}"))
    }

    /// Reads `reference`, which is absolute or relative to `base`.
    ///
    /// # Errors
    ///
    /// Those of [`DidUrl::parse`].
    pub fn resolve(base: &Did, reference: &str) -> Result<Self, DidError> {
        if reference.starts_with("did:") { Self::parse(reference) } else { Self::join(base, reference) }
    }

    fn join(did: &Did, rest: &str) -> Result<Self, DidError> {
        if !rest.starts_with(['/', '?', '#']) {
            return Err(DidError::UrlSyntax { reason: "it is neither absolute nor relative to a DID" });
        }
        check_rest(rest)?;
        let text = format!("{did}{rest}");
        check_len(&text)?;
        Ok(Self { text: text.into(), did: did.clone() })
    }

    /// The DID.
    pub fn did(&self) -> &Did {
        &self.did
    }

    /// The part after `#`, if there is a fragment.
    pub fn fragment(&self) -> Option<&str> {
        self.rest().split_once('#').map(|(_, fragment)| fragment)
    }

    /// The part after the DID and its `/`, up to query and fragment.
    pub fn path(&self) -> Option<&str> {
        self.rest().strip_prefix('/').and_then(|path| path.split(['?', '#']).next())
    }

    /// The part after `?`, up to the fragment.
    pub fn query(&self) -> Option<&str> {
        let before_fragment = self.rest().split('#').next()?;
        before_fragment.split_once('?').map(|(_, query)| query)
    }

    /// The whole DID URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same text, as the name of a secret key.
    pub fn to_key_id(&self) -> KeyId {
        KeyId::new(Arc::clone(&self.text))
    }

    /// Everything after the DID.
    pub(crate) fn rest(&self) -> &str {
        self.text.get(self.did.as_str().len()..).unwrap_or_default()
    }

    /// Whether the URL is a DID and a fragment, without path and query.
    pub(crate) fn names_a_part(&self) -> bool {
        self.rest().starts_with('#')
    }

    /// The same path, query and fragment under another spelling of the DID.
    pub(crate) fn under(&self, did: &Did) -> Result<Self, DidError> {
        if self.rest().is_empty() {
            return Ok(Self { text: did.to_shared(), did: did.clone() });
        }
        Self::join(did, self.rest())
    }
}

fn check_len(text: &str) -> Result<(), DidError> {
    if text.len() > MAX_DID_URL_LEN {
        return Err(DidError::TooLong { what: "DID URL", len: text.len(), max: MAX_DID_URL_LEN });
    }
    Ok(())
}

/// Checks path, query and fragment against RFC 3986.
fn check_rest(rest: &str) -> Result<(), DidError> {
    let wrong = |reason| Err(DidError::UrlSyntax { reason });
    let mut bytes = rest.bytes();
    let mut in_fragment = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'#' if in_fragment => return wrong("it holds two fragments"),
            b'#' => in_fragment = true,
            b'%' => {
                let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
                if !hex(bytes.next()) || !hex(bytes.next()) {
                    return wrong("a percent sign is not followed by two hexadecimal digits");
                }
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte) => {}
            _ => return wrong("it holds a character that is not allowed"),
        }
    }
    if rest.ends_with('#') {
        return wrong("its fragment is empty");
    }
    Ok(())
}

impl PartialEq for DidUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DidUrl {}

impl PartialOrd for DidUrl {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DidUrl {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl std::hash::Hash for DidUrl {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl FromStr for DidUrl {
    type Err = DidError;

    fn from_str(text: &str) -> Result<Self, DidError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for DidUrl {
    type Error = DidError;

    fn try_from(text: String) -> Result<Self, DidError> {
        Self::parse(&text)
    }
}

impl From<Did> for DidUrl {
    fn from(did: Did) -> Self {
        Self { text: did.to_shared(), did }
    }
}

impl fmt::Display for DidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Shows only the beginning of a long DID, and everything after the DID.
impl fmt::Debug for DidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DidUrl({:?}{})", self.did, self.rest())
    }
}

impl Serialize for DidUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for DidUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_of_a_did_url_are_told_apart() {
        let url = DidUrl::parse("did:example:a/b/c?d=e?f#g/h?i").unwrap();
        assert_eq!(url.did().as_str(), "did:example:a");
        assert_eq!((url.path(), url.query(), url.fragment()), (Some("b/c"), Some("d=e?f"), Some("g/h?i")));
        let bare = DidUrl::parse("did:example:a").unwrap();
        assert_eq!((bare.path(), bare.query(), bare.fragment()), (None, None, None));
        let query_like = DidUrl::parse("did:example:a#x?y").unwrap();
        assert_eq!((query_like.path(), query_like.query(), query_like.fragment()), (None, None, Some("x?y")));
    }

    #[test]
    fn a_fragment_is_joined_to_its_did_and_names_its_key() {
        let did = Did::parse("did:example:a").unwrap();
        let url = DidUrl::new(&did, "key-1").unwrap();
        assert_eq!(url, DidUrl::parse("did:example:a#key-1").unwrap());
        assert_eq!(url.to_key_id(), KeyId::new("did:example:a#key-1"));
        assert_eq!(DidUrl::resolve(&did, "#key-1").unwrap(), url);
        assert_eq!(DidUrl::resolve(&did, "did:example:b#key-1").unwrap().did().as_str(), "did:example:b");
    }

    #[test]
    fn text_outside_the_syntax_is_refused() {
        for text in [
            "did:example:a#",
            "did:example:a#b#c",
            "did:example:a#b c",
            "did:example:a/%2",
            "did:example:a?%zz",
            "did:example:a#ä",
            "did:example:a#b\"",
            "did:example:a\\b#c",
        ] {
            let error = DidUrl::parse(text).unwrap_err();
            assert!(matches!(error, DidError::UrlSyntax { .. } | DidError::Syntax { .. }), "{text}: {error}");
        }
        let did = Did::parse("did:example:a").unwrap();
        assert!(matches!(DidUrl::new(&did, ""), Err(DidError::UrlSyntax { .. })));
        assert!(matches!(DidUrl::new(&did, "a#b"), Err(DidError::UrlSyntax { .. })));
        assert!(matches!(DidUrl::resolve(&did, "key-1"), Err(DidError::UrlSyntax { .. })));
        assert!(matches!(DidUrl::parse("#key-1"), Err(DidError::Syntax { .. })));
    }

    #[test]
    fn length_is_bounded() {
        let text = format!("did:example:a#{}", "x".repeat(MAX_DID_URL_LEN));
        assert!(matches!(DidUrl::parse(&text), Err(DidError::TooLong { what: "DID URL", .. })));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_keeps_its_text(text in "did:a:[a-z]{1,4}[ -~]{0,40}") {
            if let Ok(url) = DidUrl::parse(&text) {
                prop_assert_eq!(url.as_str(), text.as_str());
                let again: DidUrl = serde_json::from_str(&serde_json::to_string(&url).unwrap()).unwrap();
                prop_assert_eq!(again, url);
            }
        }
    }
}
