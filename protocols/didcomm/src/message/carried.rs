//! Reads attached JSON apart from the message around it: a forward's payload stays byte for byte as written, and
//! attached JSON that strict readers refuse does not make the message unreadable.

use std::{borrow::Cow, fmt};

use einmal_did::{StrictJsonError, parse_strict_json};
use einmal_keys::base64url_encode;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};
use zeroize::Zeroizing;

use super::{CarriedJson, MessageType};
use crate::{
    FORWARD_TYPE,
    error::MessageError,
    limits::{MAX_ATTACHMENTS, MAX_ENVELOPE_BYTES},
};

/// Most members of one object; a message has far fewer.
const MAX_MEMBERS: usize = 1_024;

/// One decrypted layer: its JSON, and the attached JSON as it was written.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The whole message except the carried JSON.
    pub(crate) value: Value,
    /// The carried JSON, by index of its attachment, which has an empty `base64` in its place.
    pub(crate) carried: Vec<(usize, CarriedJson)>,
}

impl Layer {
    /// Reads a layer strictly. Only attached `data.json` may be anything: if a strict reader would refuse it, it is
    /// returned as `data.base64`, so that whoever reads the attachment refuses only that.
    ///
    /// # Errors
    ///
    /// [`MessageError::NotJson`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        if let Some((rest, carried)) = forwarded(bytes) {
            let value =
                parse_strict_json(&rest, 2 * MAX_ENVELOPE_BYTES).map_err(|_| MessageError::NotJson)?;
            return Ok(Self { value, carried });
        }
        match parse_strict_json(bytes, MAX_ENVELOPE_BYTES) {
            Ok(value) => Ok(Self { value, carried: Vec::new() }),
            Err(StrictJsonError::TooLong { .. }) => Err(MessageError::NotJson),
            Err(_) => {
                let message: Members<'_> =
                    serde_json::from_slice(bytes).map_err(|_| MessageError::NotJson)?;
                let (rest, _) = Taking::opaque().apart(&message).ok_or(MessageError::NotJson)?;
                let value =
                    parse_strict_json(&rest, 2 * MAX_ENVELOPE_BYTES).map_err(|_| MessageError::NotJson)?;
                Ok(Self { value, carried: Vec::new() })
            }
        }
    }
}

/// A message without its carried JSON, and the carried JSON.
type Apart = (Zeroizing<Vec<u8>>, Vec<(usize, CarriedJson)>);

/// A forward without its payloads, and the payloads. `None` if it is not a forward, or has no JSON payload.
fn forwarded(bytes: &[u8]) -> Option<Apart> {
    // A cheap test first, because every message comes through here.
    if bytes.len() > MAX_ENVELOPE_BYTES || !str::from_utf8(bytes).ok()?.contains("/forward") {
        return None;
    }
    let message: Members<'_> = serde_json::from_slice(bytes).ok()?;
    let (_, kind) = message.0.iter().find(|(name, _)| name == "type")?;
    let kind: Cow<'_, str> = serde_json::from_str(kind.get()).ok()?;
    let is_forward = MessageType::received(&kind).is_ok_and(|kind| kind.is(FORWARD_TYPE));
    is_forward.then(|| Taking::verbatim().apart(&message)).flatten()
}

/// Separates a message from the JSON it carries.
struct Taking {
    verbatim: bool,
    /// Attachments that carried JSON.
    count: usize,
    carried: Vec<(usize, CarriedJson)>,
}

impl Taking {
    /// Takes JSON verbatim where a strict reader accepts it.
    fn verbatim() -> Self {
        Self { verbatim: true, count: 0, carried: Vec::new() }
    }

    /// Takes JSON as bytes.
    fn opaque() -> Self {
        Self { verbatim: false, ..Self::verbatim() }
    }

    fn apart(mut self, message: &Members<'_>) -> Option<Apart> {
        let rest = message.rewrite(|name, value| match name {
            "attachments" => self.list(value),
            _ => None,
        })?;
        (self.count > 0).then(|| (Zeroizing::new(rest.into_bytes()), self.carried))
    }

    fn list(&mut self, list: &str) -> Option<String> {
        let attachments: Vec<&RawValue> = serde_json::from_str(list).ok()?;
        if attachments.len() > MAX_ATTACHMENTS {
            return None;
        }
        let rest: Vec<Cow<'_, str>> = attachments
            .into_iter()
            .enumerate()
            .map(|(number, attachment)| {
                let text = attachment.get();
                self.attachment(number, text).map_or(Cow::Borrowed(text), Cow::Owned)
            })
            .collect();
        Some(format!("[{}]", rest.join(",")))
    }

    fn attachment(&mut self, number: usize, attachment: &str) -> Option<String> {
        let members: Members<'_> = serde_json::from_str(attachment).ok()?;
        members.rewrite(|name, value| match name {
            "data" => self.data(number, value),
            _ => None,
        })
    }

    fn data(&mut self, number: usize, data: &str) -> Option<String> {
        let members: Members<'_> = serde_json::from_str(data).ok()?;
        let count = |wanted: &str| members.0.iter().filter(|(name, _)| name == wanted).count();
        if count("json") != 1 || count("base64") != 0 {
            return None;
        }
        self.count += 1;
        let written = members.0.iter().map(|(name, value)| match name.as_ref() {
            "json" => {
                let text = value.get();
                let kept = CarriedJson::new(text.as_bytes()).filter(|_| self.verbatim);
                let bytes = if kept.is_some() { String::new() } else { base64url_encode(text) };
                self.carried.extend(kept.map(|json| (number, json)));
                Some(format!("\"base64\":\"{bytes}\""))
            }
            _ => member(name, value.get()),
        });
        written.collect::<Option<Vec<_>>>().map(|members| format!("{{{}}}", members.join(",")))
    }
}

/// The members of one object in the order they were written, values unread.
struct Members<'b>(Vec<(Cow<'b, str>, &'b RawValue)>);

impl Members<'_> {
    /// The object as text, with `change` replacing the values for which it returns something.
    fn rewrite(&self, mut change: impl FnMut(&str, &str) -> Option<String>) -> Option<String> {
        let written = self.0.iter().map(|(name, value)| {
            let changed = change(name, value.get());
            member(name, changed.as_deref().unwrap_or(value.get()))
        });
        written.collect::<Option<Vec<_>>>().map(|members| format!("{{{}}}", members.join(",")))
    }
}

fn member(name: &str, value: &str) -> Option<String> {
    serde_json::to_string(name).ok().map(|name| format!("{name}:{value}"))
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = entries.next_entry()? {
                    if members.len() >= MAX_MEMBERS {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Message;

    fn carrying(json: &str) -> String {
        format!(
            r#"{{"id":"1","type":"https://didcomm.org/messagepickup/3.0/delivery","body":{{}},"attachments":[
               {{"id":"bad","data":{{"json":{json}}}}},{{"id":"good","data":{{"json":{{"a":1}}}}}}]}}"#
        )
    }

    #[test]
    fn json_that_names_a_member_twice_is_carried_as_bytes() {
        let message = Message::from_bytes(carrying(r#"{"a":1,"a":2}"#).as_bytes()).unwrap();
        assert_eq!(message.attachments[0].bytes().unwrap(), br#"{"a":1,"a":2}"#);
        assert!(message.attachments[0].to_json().is_err(), "who reads it as JSON still refuses it");
        assert_eq!(message.attachments[1].to_json().unwrap(), json!({"a": 1}));
    }

    #[test]
    fn json_that_nests_too_deep_or_holds_too_much_is_carried_as_bytes() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(60), "}".repeat(60));
        let many = format!("[{}0]", "{},".repeat(5_000));
        for text in [deep, many] {
            let message = Message::from_bytes(carrying(&text).as_bytes()).unwrap();
            assert_eq!(message.attachments[0].bytes().unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn json_that_strict_readers_take_stays_json() {
        let message = Message::from_bytes(carrying(r#"{"a":1}"#).as_bytes()).unwrap();
        assert_eq!(message.attachments[0].data.json, Some(json!({"a": 1})));
        assert_eq!(message.attachments[0].data.base64, None);
    }

    #[test]
    fn a_member_named_twice_outside_of_what_is_carried_is_refused() {
        let twice = |at: &str, what: &str| carrying(r#"{"a":1,"a":2}"#).replacen(at, what, 1);
        for text in [
            twice(r#""id":"1""#, r#""id":"1","id":"2""#),
            twice(r#""body":{}"#, r#""body":{"a":1,"a":2}"#),
            twice(r#""id":"bad""#, r#""id":"bad","id":"good""#),
            twice(r#""data":{"#, r#""data":{"base64":"e30","#),
        ] {
            assert!(Message::from_bytes(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_forward_carries_what_it_was_given_byte_by_byte() {
        let payload = r#"{ "protected" : "\u0065", "b":1e2,"a":[ ] }"#;
        let forward =
            |payload: &str| carrying(payload).replace("messagepickup/3.0/delivery", "routing/2.1/forward");
        let message = Message::from_bytes(forward(payload).as_bytes()).unwrap();
        assert_eq!(message.attachments[0].bytes().unwrap(), payload.as_bytes());
        assert_eq!(message.attachments[0].data.base64, None);
        let odd = Message::from_bytes(forward(r#"{"a":1,"a":2}"#).as_bytes()).unwrap();
        assert_eq!(odd.attachments[0].bytes().unwrap(), br#"{"a":1,"a":2}"#);
        assert!(odd.attachments[0].data.carried.is_none() && odd.attachments[1].data.carried.is_some());
        let twice = forward(r#"{},"json":{"a":1}"#);
        assert!(Message::from_bytes(twice.as_bytes()).is_err(), "which of the two is meant");
        let other = Message::from_bytes(carrying(payload).as_bytes()).unwrap();
        assert!(other.attachments[0].data.carried.is_none(), "only forwards carry");
    }

    #[test]
    fn nothing_but_an_object_with_such_an_attachment_is_taken_apart() {
        let apart = |text: &str| Taking::opaque().apart(&serde_json::from_str::<Members<'_>>(text).ok()?);
        for text in ["", "[]", "{}", r#"{"attachments":1}"#, r#"{"attachments":[{"data":{"base64":"e30"}}]}"#]
        {
            assert!(apart(text).is_none(), "{text}");
        }
        let crowd: Value = (0..=MAX_ATTACHMENTS).map(|_| json!({"data": {"json": {}}})).collect();
        assert!(apart(&json!({"attachments": crowd}).to_string()).is_none());
    }
}
