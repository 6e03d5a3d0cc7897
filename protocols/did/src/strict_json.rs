//! A JSON reader for bytes from strangers: no duplicate member names, bounded depth and length, one pass.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, map::Entry};

use crate::limits::{MAX_JSON_DEPTH, MAX_JSON_OBJECTS, MAX_JSON_VALUES};

/// Bytes were refused as JSON. The error never contains any of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StrictJsonError {
    /// More bytes than the caller allows.
    #[error("{len} bytes of JSON are more than the {max} allowed")]
    TooLong {
        /// Number of bytes.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// Arrays and objects nest deeper than [`MAX_JSON_DEPTH`].
    #[error("JSON nests deeper than {max} levels")]
    TooDeep {
        /// The bound.
        max: usize,
    },
    /// More values than anyone needs: an object takes few bytes on the wire but hundreds in memory once it has a
    /// member.
    #[error("more than {MAX_JSON_OBJECTS} objects or {MAX_JSON_VALUES} values of JSON")]
    TooMany,
    /// One object names a member twice, so two readers may understand it differently.
    #[error("an object names a member twice (line {line}, column {column})")]
    DuplicateMember {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// A member has a name that serde_json uses internally to wrap special values. Reading the value again would parse
    /// its text as JSON without any of these bounds.
    #[error("an object has a member whose name is reserved (line {line}, column {column})")]
    ReservedMember {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Not JSON (RFC 8259), or something follows the value.
    #[error("not JSON (line {line}, column {column})")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
}

/// Parses exactly one JSON value of at most `max_len` bytes.
///
/// # Errors
///
/// [`StrictJsonError`] naming the rule that was broken.
///
/// # Specification
///
/// RFC 8259; unique names as in RFC 7515, section 4, and RFC 7493, section 2.3.
pub fn parse_strict_json(bytes: &[u8], max_len: usize) -> Result<Value, StrictJsonError> {
    if bytes.len() > max_len {
        return Err(StrictJsonError::TooLong { len: bytes.len(), max: max_len });
    }
    let state = State::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = Strict { depth_left: MAX_JSON_DEPTH, state: &state }.deserialize(&mut reader);
    parsed.and_then(|value| reader.end().map(|()| value)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match state.refusal.get() {
            Some(Refusal::Number) => StrictJsonError::TooMany,
            Some(Refusal::Reserved) => StrictJsonError::ReservedMember { line, column },
            Some(Refusal::Duplicate) => StrictJsonError::DuplicateMember { line, column },
            Some(Refusal::Depth) => StrictJsonError::TooDeep { max: MAX_JSON_DEPTH },
            None => StrictJsonError::Syntax { line, column },
        }
    })
}

/// Whether a member's name is one that serde_json uses internally to wrap special values.
///
/// `Value` parses the text next to such a name as JSON, even when it is built from another `Value`.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with("$serde_json::private::")
}

/// The reasons for refusal that serde_json does not have.
#[derive(Clone, Copy)]
enum Refusal {
    Reserved,
    Duplicate,
    Depth,
    Number,
}

/// State shared by all parts of one reading.
#[derive(Default)]
struct State {
    refusal: Cell<Option<Refusal>>,
    values: Cell<usize>,
    objects: Cell<usize>,
}

/// Builds one value; on refusal it leaves the reason in the state.
#[derive(Clone, Copy)]
struct Strict<'r> {
    depth_left: usize,
    state: &'r State,
}

impl Strict<'_> {
    fn refuse<E: Error>(self, reason: Refusal) -> E {
        self.state.refusal.set(Some(reason));
        E::custom("refused")
    }

    /// Counts one more; fails beyond `most`.
    fn count<E: Error>(self, counter: &Cell<usize>, most: usize) -> Result<(), E> {
        counter.set(counter.get() + 1);
        if counter.get() > most { Err(self.refuse(Refusal::Number)) } else { Ok(()) }
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left, ..self }),
            None => Err(self.refuse(Refusal::Depth)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count(&self.state.values, MAX_JSON_VALUES)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        self.count(&self.state.objects, MAX_JSON_OBJECTS)?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            // Checked before the value is read, so that the error points at the name.
            if is_reserved(&name) {
                return Err(self.refuse(Refusal::Reserved));
            }
            match object.entry(name) {
                Entry::Occupied(_) => return Err(self.refuse(Refusal::Duplicate)),
                Entry::Vacant(slot) => slot.insert(members.next_value_seed(inner)?),
            };
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Value, StrictJsonError> {
        parse_strict_json(text.as_bytes(), 4096)
    }

    #[test]
    fn values_equal_those_of_the_ordinary_reader() {
        for text in [
            r#"{"a":[1,-2,3.5,true,false,null,"x\u00e9\n"],"b":{"a":{}},"":18446744073709551615}"#,
            " [] ",
            "\"\"",
            "-0.0",
            "1e3",
        ] {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn a_member_named_twice_is_refused_at_every_depth_and_however_it_is_escaped() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"c":2,"a":3}}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(matches!(parse(text), Err(StrictJsonError::DuplicateMember { line: 1, .. })), "{text}");
        }
        assert!(parse(r#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn names_under_which_the_library_hides_raw_json_are_refused_however_they_are_written() {
        for name in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
            for text in [
                format!(r#"{{"{name}":"[]"}}"#),
                format!(r#"{{"a":[{{"b":1,"{name}":"[]"}}]}}"#),
                format!(r#"{{"\u0024{}":"[]"}}"#, &name[1..]),
            ] {
                assert!(matches!(parse(&text), Err(StrictJsonError::ReservedMember { .. })), "{text}");
                assert_eq!(crate::strict_json_object(text.as_bytes(), 0), None, "{text}");
            }
        }
        assert!(parse(r#"{"$serde_json":"[]"}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded_exactly() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(MAX_JSON_DEPTH)).is_ok());
        let too_deep = Err(StrictJsonError::TooDeep { max: MAX_JSON_DEPTH });
        assert_eq!(parse(&nested(MAX_JSON_DEPTH + 1)), too_deep);
        assert_eq!(parse(&r#"{"a":"#.repeat(400)), too_deep);
    }

    #[test]
    fn values_and_objects_are_counted() {
        let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
        let read = |text: &str| parse_strict_json(text.as_bytes(), 1 << 20);
        assert!(read(&list("0", MAX_JSON_VALUES - 1)).is_ok());
        assert_eq!(read(&list("0", MAX_JSON_VALUES)), Err(StrictJsonError::TooMany));
        assert!(read(&list("{}", MAX_JSON_OBJECTS)).is_ok());
        assert_eq!(read(&list(r#"{"":0}"#, MAX_JSON_OBJECTS + 1)), Err(StrictJsonError::TooMany));
    }

    #[test]
    fn length_is_bounded_exactly() {
        assert!(parse_strict_json(b"[10]", 4).is_ok());
        assert_eq!(parse_strict_json(b"[10]", 3), Err(StrictJsonError::TooLong { len: 4, max: 3 }));
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for text in
            ["", "{", "[1,]", "{}x", "{} {}", "{'a':1}", "01", "1e999", "NaN", "\"\\ud800\"", "\u{feff}{}"]
        {
            assert!(matches!(parse(text), Err(StrictJsonError::Syntax { .. })), "{text}");
        }
        assert!(matches!(parse_strict_json(b"\"\xff\"", 9), Err(StrictJsonError::Syntax { .. })));
    }

    #[test]
    fn error_text_does_not_echo_the_input() {
        let error = parse(r#"{"secret":1,"secret":2}"#).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_strict_json(&bytes, 4096);
        }

        #[test]
        fn what_is_accepted_is_what_the_ordinary_reader_reads(text in r#"[\[\]{}:," a-c0-9.eE+-]{0,40}"#) {
            if let Ok(value) = parse(&text) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
