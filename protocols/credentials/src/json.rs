//! Strict JSON reading that tells faults apart, as callers need for tokens and disclosures.

use einmal_did::{StrictJsonError, parse_strict_json};
use serde_json::{Map, Value};

/// Deepest nesting of arrays and objects that is read in one JSON text.
pub(crate) const MAX_JSON_DEPTH: usize = einmal_did::limits::MAX_JSON_DEPTH;

/// Why a text was not accepted as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonFault {
    Malformed,
    DuplicateMember,
    TooDeep,
}

impl From<StrictJsonError> for JsonFault {
    fn from(error: StrictJsonError) -> Self {
        match error {
            StrictJsonError::DuplicateMember { .. } => Self::DuplicateMember,
            StrictJsonError::TooDeep { .. } => Self::TooDeep,
            _ => Self::Malformed,
        }
    }
}

/// Parses `bytes` as one JSON value; the caller has bounded their length.
///
/// Two readers may disagree on the meaning of `{"exp":1,"exp":9}`, so such a text is refused, whoever signed it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, JsonFault> {
    Ok(parse_strict_json(bytes, bytes.len())?)
}

/// Parses `bytes` as one JSON object.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonFault> {
    match parse(bytes)? {
        Value::Object(map) => Ok(map),
        _ => Err(JsonFault::Malformed),
    }
}

/// Reads a NumericDate (RFC 7519, section 2) as whole seconds; truncates fractions and refuses negative times.
pub(crate) fn numeric_date(value: &Value) -> Option<u64> {
    /// Beyond 2^53 not every reader takes a JSON number exactly.
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    if let Some(seconds) = value.as_u64() {
        return Some(seconds);
    }
    let seconds = value.as_f64()?;
    if !(0.0..LIMIT).contains(&seconds) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked above")]
    Some(seconds as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strict_reading_agrees_with_the_library_on_plain_values() {
        for text in [
            r#"{"a":[1,-2,3.5,null,true,"x\u00e9"],"b":{"c":{}}}"#,
            "[]",
            "\"s\"",
            " 7 ",
            "18446744073709551616",
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn a_member_name_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"x":{"a":1,"\u0061":1}}]"#] {
            assert_eq!(parse(text.as_bytes()), Err(JsonFault::DuplicateMember));
        }
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(MAX_JSON_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_JSON_DEPTH + 1).as_bytes()), Err(JsonFault::TooDeep));
        assert_eq!(parse("[".repeat(100_000).as_bytes()), Err(JsonFault::TooDeep));
    }

    #[test]
    fn text_after_the_value_or_a_cut_value_is_refused() {
        for text in ["{} {}", "{\"a\":", "", "\u{feff}{}", "1e999"] {
            assert_eq!(parse(text.as_bytes()), Err(JsonFault::Malformed), "{text}");
        }
        assert_eq!(parse_object(b"[]"), Err(JsonFault::Malformed));
    }

    #[test]
    fn numeric_dates_are_whole_seconds() {
        assert_eq!(numeric_date(&json!(17)), Some(17));
        assert_eq!(numeric_date(&json!(17.9)), Some(17));
        for bad in [json!(-1), json!(-0.5), json!("17"), json!(1e300), json!(null)] {
            assert_eq!(numeric_date(&bad), None, "{bad}");
        }
    }
}
