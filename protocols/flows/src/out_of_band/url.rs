//! Invitations as links: the `_oob` parameter, written strictly and read tolerantly.

use einmal_keys::{base64url_decode_tolerant, base64url_encode};

use super::InvitationError;
use crate::limits::{MAX_INVITATION_URL_LEN, MAX_QUERY_PARAMETERS, MAX_SHORT_ID_CHARS};

const PARAMETER: &str = "_oob";
const SHORT_PARAMETER: &str = "_oobid";

/// `base` with the content in its query.
pub(super) fn with_content(base: &str, content: &[u8]) -> String {
    let (base, fragment) = match base.split_once('#') {
        Some((base, fragment)) => (base, Some(fragment)),
        None => (base, None),
    };
    let joint = if !base.contains('?') {
        "?"
    } else if base.ends_with(['?', '&']) {
        ""
    } else {
        "&"
    };
    let mut url = format!("{base}{joint}{PARAMETER}={}", base64url_encode(content));
    if let Some(fragment) = fragment {
        url.push('#');
        url.push_str(fragment);
    }
    url
}

/// The bytes in the `_oob` parameter of a link: the JSON text of an invitation, signed or not.
///
/// Accepts padding and the standard alphabet, percent-encoded or not, and ignores other parameters.
///
/// # Errors
///
/// [`InvitationError::TooLong`], [`InvitationError::NoInvitation`], [`InvitationError::Ambiguous`],
/// [`InvitationError::ShortForm`], [`InvitationError::Encoding`].
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Standard Message Encoding" and "Short URL Message Retrieval".
pub fn url_content(text: &str) -> Result<Vec<u8>, InvitationError> {
    let text = text.trim();
    if text.len() > MAX_INVITATION_URL_LEN {
        return Err(InvitationError::TooLong);
    }
    let (before_fragment, _) = text.split_once('#').unwrap_or((text, ""));
    let (_, query) = before_fragment.split_once('?').ok_or(InvitationError::NoInvitation)?;
    let (mut content, mut short) = (None, None);
    for parameter in query.split('&').take(MAX_QUERY_PARAMETERS) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let slot = match percent_decoded(name).as_deref() {
            Some(PARAMETER) => &mut content,
            Some(SHORT_PARAMETER) => &mut short,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(InvitationError::Ambiguous);
        }
    }
    match (content, short) {
        (Some(value), _) => {
            // A space was a `+` of the standard alphabet before a form decoder changed it.
            let value = percent_decoded(value).ok_or(InvitationError::Encoding)?.replace(' ', "+");
            base64url_decode_tolerant(&value)
                .filter(|bytes| !bytes.is_empty())
                .ok_or(InvitationError::Encoding)
        }
        (None, Some(id)) => {
            let id = percent_decoded(id).ok_or(InvitationError::Encoding)?;
            Err(InvitationError::ShortForm { id: id.chars().take(MAX_SHORT_ID_CHARS).collect() })
        }
        (None, None) => Err(InvitationError::NoInvitation),
    }
}

/// `text` with `%XX` resolved; `None` if that is malformed or not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit()?, digit()?);
        out.push(high << 4 | low);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::out_of_band::{Invitation, messages::example};

    #[test]
    fn link_round_trips_and_its_content_is_unpadded_base64url_without_white_space() {
        let url = example().to_url("https://shop.example/i");
        let (base, content) = url.split_once("?_oob=").unwrap();
        assert_eq!(base, "https://shop.example/i");
        assert!(content.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        let json = String::from_utf8(url_content(&url).unwrap()).unwrap();
        assert!(!json.contains(": ") && !json.contains("\"typ\""), "{json}");
        assert_eq!(Invitation::from_url(&url), Ok(example()));
    }

    #[test]
    fn base_with_query_or_fragment_stays_usable() {
        for base in
            ["https://shop.example/i?lang=de", "https://shop.example/i?", "https://shop.example/i#top"]
        {
            let url = example().to_url(base);
            assert_eq!(Invitation::from_url(&url), Ok(example()), "{url}");
        }
        assert!(example().to_url("https://shop.example/i#top").ends_with("#top"));
    }

    #[test]
    fn padding_standard_alphabet_and_foreign_parameters_are_accepted() {
        let content = [0xfb, 0xff];
        for query in [
            "_oob=-_8",
            "_oob=-_8=",
            "_oob=-_8%3D",
            "_oob=+/8=",
            "_oob=%2B%2F8%3D",
            "a=1&_oob=-_8&b",
            "_oob=%20/8",
            "%5Foob=-_8&_oobid=x",
        ] {
            assert_eq!(url_content(&format!(" didcomm://?{query}#f ")), Ok(content.to_vec()), "{query}");
        }
    }

    #[test]
    fn links_without_one_readable_invitation_are_refused_by_their_reason() {
        let cases = [
            ("https://shop.example/i", InvitationError::NoInvitation),
            ("https://shop.example/i?x_oob=-_8", InvitationError::NoInvitation),
            ("https://shop.example/i#?_oob=-_8", InvitationError::NoInvitation),
            ("https://shop.example/i?_oob=-_8&_oob=-_8", InvitationError::Ambiguous),
            ("https://shop.example/i?_oob=", InvitationError::Encoding),
            ("https://shop.example/i?_oob=%zz", InvitationError::Encoding),
            ("https://shop.example/i?_oob=!!", InvitationError::Encoding),
            ("https://shop.example/i?_oobid=f1-2", InvitationError::ShortForm { id: "f1-2".into() }),
        ];
        for (url, error) in cases {
            assert_eq!(url_content(url), Err(error), "{url}");
        }
        let cut = |chars| url_content(&format!("https://shop.example/i?_oobid={}", "x".repeat(chars)));
        let told = InvitationError::ShortForm { id: "x".repeat(MAX_SHORT_ID_CHARS) };
        assert_eq!(cut(MAX_SHORT_ID_CHARS + 1), Err(told));
        let long = format!("https://shop.example/i?_oob={}", "A".repeat(MAX_INVITATION_URL_LEN));
        assert_eq!(url_content(&long), Err(InvitationError::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(https://x/)?\\?(_oob=)?[ -~äß]{0,60}") {
            let _ = Invitation::from_url(&text);
        }

        #[test]
        fn every_content_survives(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            prop_assert_eq!(url_content(&with_content("https://x/?a=b", &bytes)), Ok(bytes));
        }
    }
}
