//! Whether a strict reader would accept bytes as JSON, without building it: for JSON that is carried, not read.

use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::{
    limits::{MAX_JSON_DEPTH, MAX_JSON_OBJECTS, MAX_JSON_VALUES},
    strict_json::is_reserved,
};

/// How much a JSON text holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonCensus {
    /// Values of any kind.
    pub values: usize,
    /// Objects among them.
    pub objects: usize,
}

/// What `bytes` hold, if they are exactly one UTF-8 JSON object that [`parse_strict_json`](crate::parse_strict_json)
/// still accepts when it lies `levels` arrays and objects deep in another text: no duplicate member names, not too
/// deep, and not too many values, not counting those around it.
///
/// # Specification
///
/// RFC 8259; unique names as in RFC 7493, section 2.3.
pub fn strict_json_object(bytes: &[u8], levels: usize) -> Option<JsonCensus> {
    let depth_left = MAX_JSON_DEPTH.checked_sub(levels)?;
    let census = Cell::default();
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let holds = begins == Some(&b'{')
        && Check { depth_left, census: &census }.deserialize(&mut reader).is_ok()
        && reader.end().is_ok();
    holds.then(|| census.get())
}

/// Reads one value and discards it.
#[derive(Clone, Copy)]
struct Check<'c> {
    depth_left: usize,
    census: &'c Cell<JsonCensus>,
}

impl Check<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth_left, ..self })
    }

    fn count<E: Error>(self, change: impl FnOnce(&mut JsonCensus)) -> Result<(), E> {
        let mut census = self.census.get();
        change(&mut census);
        self.census.set(census);
        let fits = census.values <= MAX_JSON_VALUES && census.objects <= MAX_JSON_OBJECTS;
        if fits { Ok(()) } else { Err(E::custom("too many values")) }
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.count(|census| census.values += 1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if value.is_finite() { Ok(()) } else { Err(E::custom("number out of range")) }
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        self.count(|census| census.objects += 1)?;
        let mut names = HashSet::new();
        while let Some(name) = members.next_key_seed(Name)? {
            if is_reserved(&name) || !names.insert(name) {
                return Err(A::Error::custom("a member is named twice, or as none may be"));
            }
            members.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// Reads the name of a member, borrowed unless it has escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse_strict_json;

    fn is_strict_json_object(bytes: &[u8], levels: usize) -> bool {
        strict_json_object(bytes, levels).is_some()
    }

    #[test]
    fn values_and_objects_are_counted_as_the_strict_reader_counts_them() {
        let census = strict_json_object(br#"{"a":[1,{},{"b":null}],"c":"x"}"#, 0).unwrap();
        assert_eq!(census, JsonCensus { values: 7, objects: 3 });
        let list = |item: &str, count: usize| format!(r#"{{"a":[{}]}}"#, vec![item; count].join(","));
        let exact = [list("0", MAX_JSON_VALUES - 2), list("{}", MAX_JSON_OBJECTS - 1)];
        let over = [list("0", MAX_JSON_VALUES - 1), list("{}", MAX_JSON_OBJECTS)];
        for (text, expected) in
            exact.map(|text| (text, true)).into_iter().chain(over.map(|text| (text, false)))
        {
            assert_eq!(is_strict_json_object(text.as_bytes(), 0), expected);
            assert_eq!(parse_strict_json(text.as_bytes(), usize::MAX).is_ok(), expected);
        }
    }

    /// `object`, nested inside `levels` arrays.
    fn within(object: &[u8], levels: usize) -> Vec<u8> {
        [vec![b'['; levels], object.to_vec(), vec![b']'; levels]].concat()
    }

    #[test]
    fn objects_are_told_from_all_else() {
        for good in ["{}", r#" {"a":[1,-2,0.5,null,true,"x"],"b":{"a":{}}} "#, r#"{"a":1,"\u0062":2}"#] {
            assert!(is_strict_json_object(good.as_bytes(), 4), "{good}");
        }
        let bad = ["", "[]", "1", r#""{}""#, "{", "{}{}", r#"{"a":1,}"#, r#"{"a":01}"#, r#"{"a":1e999}"#];
        for bad in bad {
            assert!(!is_strict_json_object(bad.as_bytes(), 4), "{bad}");
        }
        assert!(!is_strict_json_object(b"{\"a\":\"\xff\"}", 4), "no UTF-8");
    }

    #[test]
    fn member_named_twice_is_refused_however_it_is_spelt() {
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, r#"{"x":[{"a":1,"a":2}]}"#] {
            assert!(!is_strict_json_object(bad.as_bytes(), 0), "{bad}");
        }
    }

    #[test]
    fn depth_counts_from_where_the_object_will_lie() {
        let nested =
            |depth: usize| [r#"{"a":"#.repeat(depth - 1), "{}".into(), "}".repeat(depth - 1)].concat();
        let deepest = nested(MAX_JSON_DEPTH - 4);
        assert!(
            is_strict_json_object(deepest.as_bytes(), 4) && !is_strict_json_object(deepest.as_bytes(), 5)
        );
        assert!(!is_strict_json_object(nested(MAX_JSON_DEPTH - 3).as_bytes(), 4));
        assert!(!is_strict_json_object(b"{}", MAX_JSON_DEPTH + 1));
    }

    proptest! {
        #[test]
        fn what_passes_is_what_the_strict_reader_takes(
            bytes in r#"\{("[ab]":(1|0\.5|"x"|\[\{\}\]|\{"a":\{\}\}|null|tru)?,?){0,4}\}?"#,
            levels in 0usize..6,
        ) {
            let inside = within(bytes.as_bytes(), levels);
            let taken = parse_strict_json(&inside, usize::MAX).is_ok();
            prop_assert_eq!(is_strict_json_object(bytes.as_bytes(), levels), taken);
        }
    }
}
