//! A message around JSON that no strict reader takes: what is carried must not make its carrier unreadable.

use std::{borrow::Cow, fmt};

use einmal_did::{StrictJsonError, parse_strict_json};
use einmal_keys::base64url_encode;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};
use zeroize::Zeroizing;

use crate::{
    error::MessageError,
    limits::{MAX_ATTACHMENTS, MAX_ENVELOPE_BYTES},
};

/// Members of one object that are told apart; a message has far fewer.
const MAX_MEMBERS: usize = 1_024;

/// Reads the JSON of one decrypted layer or message strictly. Only what attachments carry as `data.json` may be anything: if a strict
/// reader refuses it, they come back as `data.base64`.
///
/// # Errors
///
/// [`MessageError::NotJson`].
pub(crate) fn layer_json(bytes: &[u8]) -> Result<Value, MessageError> {
    match parse_strict_json(bytes, MAX_ENVELOPE_BYTES) {
        Ok(value) => Ok(value),
        Err(StrictJsonError::TooLong { .. }) => Err(MessageError::NotJson),
        Err(_) => {
            let rewritten =
                with_opaque_attachments(bytes).map(Zeroizing::new).ok_or(MessageError::NotJson)?;
            parse_strict_json(&rewritten, 2 * MAX_ENVELOPE_BYTES).map_err(|_| MessageError::NotJson)
        }
    }
}

/// Writes the message in `bytes` with the `data.json` of every attachment as `data.base64`, so that its readers meet the carried text
/// by itself and refuse it by itself.
///
/// None if `bytes` are no JSON object, have no such attachment, or name a member twice outside of what is carried.
fn with_opaque_attachments(bytes: &[u8]) -> Option<Vec<u8>> {
    let message: Members<'_> = serde_json::from_slice(bytes).ok()?;
    let mut carried = 0;
    let rewritten = message.rewrite(|name, value| match name {
        "attachments" => rewrite_list(value, &mut carried),
        _ => None,
    })?;
    (carried > 0).then(|| rewritten.into_bytes())
}

fn rewrite_list(list: &str, carried: &mut usize) -> Option<String> {
    let attachments: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    if attachments.len() > MAX_ATTACHMENTS {
        return None;
    }
    let rewritten: Vec<Cow<'_, str>> = attachments
        .into_iter()
        .map(|attachment| {
            let text = attachment.get();
            rewrite_attachment(text, carried).map_or(Cow::Borrowed(text), Cow::Owned)
        })
        .collect();
    Some(format!("[{}]", rewritten.join(",")))
}

fn rewrite_attachment(attachment: &str, carried: &mut usize) -> Option<String> {
    let members: Members<'_> = serde_json::from_str(attachment).ok()?;
    members.rewrite(|name, value| match name {
        "data" => rewrite_data(value, carried),
        _ => None,
    })
}

fn rewrite_data(data: &str, carried: &mut usize) -> Option<String> {
    let members: Members<'_> = serde_json::from_str(data).ok()?;
    if !members.0.iter().any(|(name, _)| name == "json") || members.0.iter().any(|(name, _)| name == "base64")
    {
        return None;
    }
    *carried += 1;
    let written = members.0.iter().map(|(name, value)| match name.as_ref() {
        "json" => Some(format!("\"base64\":\"{}\"", base64url_encode(value.get()))),
        _ => member(name, value.get()),
    });
    written.collect::<Option<Vec<_>>>().map(|members| format!("{{{}}}", members.join(",")))
}

/// The members of one object in the order they were written, values unread.
struct Members<'b>(Vec<(Cow<'b, str>, &'b RawValue)>);

impl Members<'_> {
    /// The object as text, with the values that `change` has something else for.
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
    fn nothing_but_an_object_with_such_an_attachment_is_rewritten() {
        for text in ["", "[]", "{}", r#"{"attachments":1}"#, r#"{"attachments":[{"data":{"base64":"e30"}}]}"#]
        {
            assert_eq!(with_opaque_attachments(text.as_bytes()), None, "{text}");
        }
        let crowd: Value = (0..=MAX_ATTACHMENTS).map(|_| json!({"data": {"json": {}}})).collect();
        assert_eq!(with_opaque_attachments(json!({"attachments": crowd}).to_string().as_bytes()), None);
    }
}
