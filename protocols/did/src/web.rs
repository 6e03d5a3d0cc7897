//! did:web: where the document of a DID is, and which DID a document's URL stands for. Nothing is fetched here.
//!
//! The mapping accepts any well-formed host; the code that fetches must refuse private and loopback addresses after
//! resolving the name, follow no redirects, and bound time and size.

use std::fmt::Write;

use crate::{
    Did, DidDocument, DidError, DocumentSource,
    limits::{MAX_HOST_LEN, MAX_WEB_SEGMENTS},
};

/// The port of HTTPS, which is never written.
const HTTPS_PORT: u16 = 443;

/// Longest label of a host name (RFC 1035).
const MAX_LABEL_LEN: usize = 63;

/// The location of the document of a did:web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebLocation {
    /// The whole URL; always `https`.
    pub url: String,
    /// Host, lower case. May be an IPv4 address; the guard of the fetch decides whether that is allowed.
    pub host: String,
    /// Port, unless it is the HTTPS default.
    pub port: Option<u16>,
    /// Path, as in the URL: `/…/did.json`.
    pub path: String,
}

impl WebLocation {
    fn new(host: String, port: Option<u16>, path: String) -> Self {
        let authority = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Self { url: format!("https://{authority}{path}"), host, port, path }
    }
}

/// The location of the document of a did:web.
///
/// # Errors
///
/// [`DidError::WrongMethod`] for another method; [`DidError::Web`] for a host that is not a DNS name or address, a bad
/// port, user information, empty segments, and segments that leave their folder once decoded; [`DidError::TooMany`].
///
/// # Specification
///
/// did:web, "Read (Resolve)".
pub fn location(did: &Did) -> Result<WebLocation, DidError> {
    if did.method() != "web" {
        return Err(DidError::WrongMethod { expected: "did:web" });
    }
    let mut segments = did.method_specific_id().split(':');
    let (host, port) = authority(segments.next().unwrap_or_default())?;
    let mut path = String::new();
    let mut count = 0;
    for segment in segments {
        count += 1;
        if count > MAX_WEB_SEGMENTS {
            return Err(DidError::TooMany { what: "path segments", count, max: MAX_WEB_SEGMENTS });
        }
        check_segment(segment)?;
        path.push('/');
        path.push_str(segment);
    }
    path.push_str(if count == 0 { "/.well-known/did.json" } else { "/did.json" });
    Ok(WebLocation::new(host, port, path))
}

/// The did:web of the document at `url`, which ends in `did.json`, or has no path for a host's own DID.
///
/// # Errors
///
/// [`DidError::Web`] if the URL is not `https`, has user information, query or fragment, or cannot be that of a
/// did:web; [`DidError::TooMany`]; [`DidError::TooLong`].
///
/// # Specification
///
/// did:web, "Create (Register)".
pub fn did_from_url(url: &str) -> Result<Did, DidError> {
    let rest = url.strip_prefix("https://").ok_or(web("the URL does not begin with `https://`"))?;
    if rest.contains(['?', '#']) {
        return Err(web("the URL has a query or a fragment"));
    }
    let (authority_text, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority_text.contains('%') {
        return Err(web("the host is no DNS name"));
    }
    let (host, port) = authority(&authority_text.replacen(':', "%3A", 1))?;
    let mut text = format!("did:web:{host}");
    if let Some(port) = port {
        text.push_str("%3A");
        text.push_str(&port.to_string());
    }
    if !matches!(path, "" | ".well-known/did.json") {
        let folder = path.strip_suffix("/did.json").ok_or(web("the path does not end in `/did.json`"))?;
        let segments: Vec<&str> = folder.split('/').collect();
        if segments.len() > MAX_WEB_SEGMENTS {
            let (what, count) = ("path segments", segments.len());
            return Err(DidError::TooMany { what, count, max: MAX_WEB_SEGMENTS });
        }
        for segment in segments {
            text.push(':');
            text.push_str(&did_segment(segment)?);
        }
    }
    let did = Did::try_from(text)?;
    location(&did).map(|_| did)
}

/// Checks a fetched document against the rules of did:web: it must be about `did`.
///
/// # Errors
///
/// Those of [`location`] and of [`DidDocument::from_json`].
pub fn document<'d>(did: &Did, source: impl Into<DocumentSource<'d>>) -> Result<DidDocument, DidError> {
    location(did)?;
    DidDocument::from_json(did, source)
}

/// Host in lower case, percent-encoding in capitals.
pub(crate) fn canonical(did: &Did) -> Did {
    let id = did.method_specific_id();
    let (host, path) = id.split_at_checked(id.find(':').unwrap_or(id.len())).unwrap_or((id, ""));
    let text =
        format!("did:web:{}{}", encoding_in_capitals(&host.to_ascii_lowercase()), encoding_in_capitals(path));
    if text == did.as_str() { did.clone() } else { Did::assembled(text) }
}

fn encoding_in_capitals(text: &str) -> String {
    let mut digits_left = 0u8;
    let raise = |character: char| {
        if character == '%' {
            digits_left = 2;
        } else if digits_left > 0 {
            digits_left -= 1;
            return character.to_ascii_uppercase();
        }
        character
    };
    text.chars().map(raise).collect()
}

fn web(reason: &'static str) -> DidError {
    DidError::Web { reason }
}

/// Reads the first segment of a did:web: host, and port after an encoded colon.
fn authority(segment: &str) -> Result<(String, Option<u16>), DidError> {
    let colon = segment.find("%3A").or_else(|| segment.find("%3a"));
    let (host, port) = match colon.and_then(|at| segment.split_at_checked(at)) {
        Some((host, encoded)) => (host, Some(port(encoded.get(3..).unwrap_or_default())?)),
        None => (segment, None),
    };
    if host.contains('@') || host.contains("%40") {
        return Err(web("the host carries user information"));
    }
    let label_char = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let good_label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL_LEN
            && label.bytes().all(label_char)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > MAX_HOST_LEN || !host.split('.').all(good_label) {
        return Err(web("the host is no DNS name"));
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number =
        last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    // For trying things out on one machine.
    let is_own = host.parse::<core::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    if is_number && !is_own {
        return Err(web("the host is an address, not a DNS name"));
    }
    Ok((host.to_ascii_lowercase(), port.filter(|port| *port != HTTPS_PORT)))
}

fn port(text: &str) -> Result<u16, DidError> {
    let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    let port = if plain { text.parse().ok() } else { None };
    port.ok_or(web("the port is no number from 1 to 65535"))
}

/// Refuses a path segment that is empty or that, once decoded, names another folder or hides a separator.
fn check_segment(segment: &str) -> Result<(), DidError> {
    if segment.is_empty() {
        return Err(web("a path segment is empty"));
    }
    let decoded = percent_decode(segment).ok_or(web("a path segment is not percent-encoded UTF-8"))?;
    if matches!(decoded.as_str(), "." | "..") {
        return Err(web("a path segment is `.` or `..`"));
    }
    // A remaining percent sign could become anything at the next server on the way.
    if decoded.contains(['/', '\\', '%']) || decoded.chars().any(char::is_control) {
        return Err(web("a path segment hides a separator or a control character"));
    }
    Ok(())
}

fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

/// Writes a segment of a URL's path with the characters a DID may have.
fn did_segment(segment: &str) -> Result<String, DidError> {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'%' | b'.' | b'-' | b'_' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':'
            | b'@' => {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
            _ => return Err(web("the path holds a character that a URL must encode")),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn did(text: &str) -> Did {
        Did::parse(text).unwrap()
    }

    #[test]
    fn dids_and_locations_map_both_ways() {
        for (text, url) in [
            ("did:web:city.example", "https://city.example/.well-known/did.json"),
            ("did:web:city.example%3A8443", "https://city.example:8443/.well-known/did.json"),
            ("did:web:city.example:offices:pool", "https://city.example/offices/pool/did.json"),
            ("did:web:city.example%3A8443:a%3Ab", "https://city.example:8443/a%3Ab/did.json"),
            ("did:web:localhost%3A8080", "https://localhost:8080/.well-known/did.json"),
        ] {
            assert_eq!(location(&did(text)).unwrap().url, url);
            assert_eq!(did_from_url(url).unwrap(), did(text));
        }
        assert_eq!(
            did_from_url("https://City.example:443/a:b~/did.json").unwrap(),
            did("did:web:city.example:a%3Ab%7E")
        );
        assert_eq!(did_from_url("https://city.example/").unwrap(), did("did:web:city.example"));
    }

    #[test]
    fn parts_of_the_location_are_given() {
        let location = location(&did("did:web:City.example%3a8443:a")).unwrap();
        assert_eq!((location.host.as_str(), location.port), ("city.example", Some(8443)));
        assert_eq!(location.path, "/a/did.json");
        assert_eq!(super::location(&did("did:web:city.example")).unwrap().port, None);
    }

    #[test]
    fn dids_that_name_no_safe_place_are_refused() {
        for text in [
            "did:web:city.example:..",
            "did:web:city.example:%2e%2E:a",
            "did:web:city.example:.",
            "did:web:city.example::a",
            "did:web:city.example:a%2Fb",
            "did:web:city.example:a%5cb",
            "did:web:city.example:%252e",
            "did:web:city.example:a%00",
            "did:web:city.example:%ff",
            "did:web:user%40city.example",
            "did:web:city.example%3A",
            "did:web:city.example%3A0",
            "did:web:city.example%3A080",
            "did:web:city.example%3A65536",
            "did:web:city.example%3A80%3A80",
            "did:web:city.example%3A+80",
            "did:web:user%3Apass%40city.example",
            "did:web:.city.example",
            "did:web:city..example",
            "did:web:city.example.",
            "did:web:-city.example",
            "did:web:city%2eexample",
            "did:web:%5B%3A%3A1%5D",
            "did:web:b%C3%BCro.example",
            "did:web:1.1.1.1",
            "did:web:16843009",
            "did:web:0x1.1.1.0x1",
            "did:web:0001.1.1.1",
            "did:web:city.0X7",
        ] {
            let Ok(did) = Did::parse(text) else {
                assert!(text.contains('+'), "{text}");
                continue;
            };
            assert!(matches!(location(&did), Err(DidError::Web { .. })), "{text}");
        }
        let deep = did(&format!("did:web:a{}", ":b".repeat(MAX_WEB_SEGMENTS + 1)));
        assert!(matches!(location(&deep), Err(DidError::TooMany { what: "path segments", .. })));
        let long = did(&format!("did:web:{}", ["a"; 200].join(".")));
        assert!(matches!(location(&long), Err(DidError::Web { .. })));
        assert_eq!(location(&did("did:key:z")), Err(DidError::WrongMethod { expected: "did:web" }));
    }

    #[test]
    fn urls_that_no_did_means_are_refused() {
        for url in [
            "http://city.example",
            "city.example",
            "https://",
            "https://user@city.example/",
            "https://city.example/?a",
            "https://city.example/#a",
            "https://city.example/a",
            "https://city.example/did.json",
            "https://city.example/a/../did.json",
            "https://city.example//did.json",
            "https://city.example/a b/did.json",
            "https://u:p@city.example/",
            "https://[::1]/",
            "https://city.example:99999/",
            "https://city.example/ü/did.json",
            "https://city.example/%zz/did.json",
            "https://city.example%3A80/",
            "https://city.example/%2f/did.json",
        ] {
            let error = did_from_url(url).unwrap_err();
            assert!(matches!(error, DidError::Web { .. } | DidError::Syntax { .. }), "{url}: {error}");
        }
    }

    #[test]
    fn document_must_be_about_the_did() {
        let asked = did("did:web:city.example");
        let document = document(&asked, &json!({ "id": "did:web:CITY.example" })).unwrap();
        assert_eq!(document.id, asked);
        let other = super::document(&asked, &json!({ "id": "did:web:city.example:a" }));
        assert_eq!(other, Err(DidError::IdMismatch));
        let unsafe_did = did("did:web:city.example:..");
        let refused = super::document(&unsafe_did, &json!({ "id": unsafe_did }));
        assert!(matches!(refused, Err(DidError::Web { .. })));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_location_means_its_did(text in "did:web:[a-zA-Z0-9.%:_-]{1,40}") {
            if let Ok(did) = Did::parse(&text) && let Ok(location) = location(&did) {
                let again = did_from_url(&location.url).unwrap();
                prop_assert_eq!(super::location(&again).unwrap(), location);
            }
        }

        #[test]
        fn no_url_panics(text in "(https://)?[ -~]{0,40}") {
            let _ = did_from_url(&text);
        }
    }
}
