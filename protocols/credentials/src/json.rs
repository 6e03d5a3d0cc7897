//! Reading JSON strictly: no member name twice, no nesting without end.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting of arrays and objects that is read in one JSON text.
pub(crate) const MAX_JSON_DEPTH: usize = 32;

/// Why a text was not taken as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonFault {
    Malformed,
    DuplicateMember,
    TooDeep,
}

const DUPLICATE: &str = "einmal: member name occurs twice";
const TOO_DEEP: &str = "einmal: nested too deeply";

/// Parses `bytes` as one JSON value.
///
/// Two readers of `{"exp":1,"exp":9}` may disagree on its meaning, so such a text is refused whoever signed it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, JsonFault> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).map_err(|error| fault(&error))?;
    reader.end().map_err(|_| JsonFault::Malformed)?;
    Ok(value)
}

/// Parses `bytes` as one JSON object.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, JsonFault> {
    match parse(bytes)? {
        Value::Object(map) => Ok(map),
        _ => Err(JsonFault::Malformed),
    }
}

fn fault(error: &serde_json::Error) -> JsonFault {
    // serde passes custom errors on as text only; both constants are ours and no other error starts like them.
    let text = error.to_string();
    if text.starts_with(DUPLICATE) {
        JsonFault::DuplicateMember
    } else if text.starts_with(TOO_DEEP) {
        JsonFault::TooDeep
    } else {
        JsonFault::Malformed
    }
}

/// A seed that builds a [`Value`] and counts how deep it is.
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(&self) -> Result<usize, E> {
        let depth = self.depth.saturating_add(1);
        if depth > MAX_JSON_DEPTH { Err(E::custom(TOO_DEEP)) } else { Ok(depth) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self { depth })? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self { depth })?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(map))
    }
}

/// Reads a NumericDate (RFC 7519, section 2) as whole seconds; fractions are cut off, negative times refused.
pub(crate) fn numeric_date(value: &Value) -> Option<u64> {
    /// Beyond 2^53 a JSON number is not exact for every reader.
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
