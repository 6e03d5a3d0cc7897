//! Base64url as JOSE writes it, and a tolerant reader for what peers write.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const STRICT: GeneralPurpose = base64::engine::general_purpose::URL_SAFE_NO_PAD;
const TOLERANT_CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const TOLERANT_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, TOLERANT_CONFIG);
const TOLERANT_STANDARD: GeneralPurpose = GeneralPurpose::new(&STANDARD, TOLERANT_CONFIG);

/// Encodes `bytes` as base64url without padding (RFC 7515, section 2).
pub fn base64url_encode(bytes: impl AsRef<[u8]>) -> String {
    STRICT.encode(bytes)
}

/// Appends `bytes` to `text` as base64url without padding.
pub fn base64url_append(text: &mut String, bytes: impl AsRef<[u8]>) {
    STRICT.encode_string(bytes, text);
}

/// Decodes unpadded base64url; `None` for anything else, including stray bits in the last character.
pub fn base64url_decode(text: &str) -> Option<Vec<u8>> {
    STRICT.decode(text).ok()
}

/// Decodes base64 of either alphabet, padded or not, for places where deployed peers write both.
///
/// Use it only where the text is neither covered by a signature nor used as an identifier.
pub fn base64url_decode_tolerant(text: &str) -> Option<Vec<u8>> {
    TOLERANT_URL.decode(text).or_else(|_| TOLERANT_STANDARD.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appended_text_is_what_encoding_gives() {
        let mut text = "before ".to_owned();
        base64url_append(&mut text, [0xfb, 0xff]);
        assert_eq!(text, format!("before {}", base64url_encode([0xfb, 0xff])));
    }

    #[test]
    fn strict_reader_refuses_padding_foreign_alphabet_and_stray_bits() {
        assert_eq!(base64url_decode("-_8"), Some(vec![0xfb, 0xff]));
        for bad in ["-_8=", "+/8", "-_9", "-_ 8", "A"] {
            assert_eq!(base64url_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn tolerant_reader_takes_both_alphabets_and_padding() {
        for good in ["-_8", "-_8=", "+/8", "+/8="] {
            assert_eq!(base64url_decode_tolerant(good), Some(vec![0xfb, 0xff]), "{good}");
        }
        assert_eq!(base64url_decode_tolerant("!!"), None);
    }
}
