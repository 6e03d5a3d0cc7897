//! A message to send, before the node gives it sender, recipient and time.

use std::{borrow::Cow, fmt};

use einmal_did::Did;
use einmal_didcomm::{Attachment, Body, Message, MessageId, MessageType, ReturnRoute, ThreadId, UnixSeconds};
use einmal_keys::Entropy;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value, json};

use crate::{FlowError, empty::Empty};

/// A message to send; the node adds id (unless set), sender, recipient and time.
#[derive(Clone, PartialEq)]
pub struct Draft {
    /// Id to use; chosen by the node if `None`.
    pub id: Option<MessageId>,
    /// Message type URI.
    pub kind: Cow<'static, str>,
    /// Body.
    pub body: Map<String, Value>,
    /// Thread it continues.
    pub thid: Option<ThreadId>,
    /// Parent thread.
    pub pthid: Option<ThreadId>,
    /// Attachments.
    pub attachments: Vec<Attachment>,
    /// Ids to be acknowledged; the empty string stands for this message.
    pub please_ack: Vec<String>,
    /// Ids this message acknowledges.
    pub ack: Vec<MessageId>,
    /// The instant from which the message is void.
    pub expires_time: Option<UnixSeconds>,
    /// What may come back on the same connection.
    pub return_route: Option<ReturnRoute>,
    /// Whether `attachments` is written even when empty, where a specification requires the empty array.
    pub shows_no_attachments: bool,
}

impl Draft {
    /// A draft around a typed body. Bodies are structs; anything else gives an empty body.
    pub fn of<B: Body>(body: &B) -> Self {
        let body = match serde_json::to_value(body) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        Self {
            id: None,
            kind: Cow::Borrowed(B::TYPE),
            body,
            thid: None,
            pthid: None,
            attachments: Vec::new(),
            please_ack: Vec::new(),
            ack: Vec::new(),
            expires_time: None,
            return_route: None,
            shows_no_attachments: false,
        }
    }

    /// The same draft in thread `thid`.
    #[must_use]
    pub fn in_thread(mut self, thid: ThreadId) -> Self {
        self.thid = Some(thid);
        self
    }

    /// The same draft below thread `pthid`.
    #[must_use]
    pub fn child_of(mut self, pthid: ThreadId) -> Self {
        self.pthid = Some(pthid);
        self
    }

    /// The same draft with its id fixed.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// The same draft with one more attachment.
    #[must_use]
    pub fn attach(mut self, attachment: Attachment) -> Self {
        self.attachments.push(attachment);
        self
    }

    /// The same draft, void from `at` onwards.
    #[must_use]
    pub fn expiring(mut self, at: UnixSeconds) -> Self {
        self.expires_time = Some(at);
        self
    }

    /// The same draft, saying what may come back on its connection.
    #[must_use]
    pub fn returning(mut self, route: ReturnRoute) -> Self {
        self.return_route = Some(route);
        self
    }

    /// Makes the message: from `from`, to `to`, created `now`, always with a body.
    ///
    /// # Errors
    ///
    /// [`FlowError::Entropy`] if an id is needed and the random source fails, [`FlowError::Malformed`] if `kind` is not
    /// a message type URI.
    pub fn into_message(
        self,
        from: &Did,
        to: &Did,
        now: UnixSeconds,
        entropy: &dyn Entropy,
    ) -> Result<Message, FlowError> {
        let id = match self.id {
            Some(id) => id,
            None => MessageId::random(entropy).map_err(|_| FlowError::Entropy)?,
        };
        let mut message = Message::new(id, MessageType::parse(&self.kind)?);
        message.from = Some(from.clone());
        message.to = vec![to.clone()];
        message.created_time = Some(now);
        message.expires_time = self.expires_time;
        message.thid = self.thid;
        message.pthid = self.pthid;
        message.body = self.body;
        message.attachments = self.attachments;
        message.please_ack = self.please_ack;
        message.ack = self.ack;
        message.return_route = self.return_route;
        if self.shows_no_attachments {
            message.extra.insert("attachments".into(), Value::Array(Vec::new()));
        }
        Ok(message)
    }
}

/// Shows what kind of message it is and where it belongs; never body or attachments.
impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("type", &self.kind)
            .field("id", &self.id.as_ref().map(MessageId::as_str))
            .field("thid", &self.thid.as_ref().map(ThreadId::as_str))
            .finish_non_exhaustive()
    }
}

/// The stored form, with attachments in wire form.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: Option<MessageId>,
    kind: String,
    body: Map<String, Value>,
    thid: Option<ThreadId>,
    pthid: Option<ThreadId>,
    attachments: Value,
    please_ack: Vec<String>,
    ack: Vec<MessageId>,
    expires_time: Option<UnixSeconds>,
    return_route: Option<ReturnRoute>,
    #[serde(default)]
    shows_no_attachments: bool,
}

/// A dummy message, used to read and write attachments in wire form.
fn carrier(attachments: Value) -> Result<Message, einmal_didcomm::MessageError> {
    Message::from_value(json!({ "id": "0", "type": Empty::TYPE, "attachments": attachments }))
}

impl Serialize for Draft {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut carrier = carrier(Value::Null).map_err(serde::ser::Error::custom)?;
        carrier.attachments.clone_from(&self.attachments);
        let attachments = carrier.to_value().get("attachments").cloned().unwrap_or_default();
        let stored = Stored {
            id: self.id.clone(),
            kind: self.kind.clone().into_owned(),
            body: self.body.clone(),
            thid: self.thid.clone(),
            pthid: self.pthid.clone(),
            attachments,
            please_ack: self.please_ack.clone(),
            ack: self.ack.clone(),
            expires_time: self.expires_time,
            return_route: self.return_route,
            shows_no_attachments: self.shows_no_attachments,
        };
        stored.serialize(serializer)
    }
}

/// Reads the stored form.
impl<'de> Deserialize<'de> for Draft {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        MessageType::parse(&stored.kind).map_err(de::Error::custom)?;
        Ok(Self {
            id: stored.id,
            kind: Cow::Owned(stored.kind),
            body: stored.body,
            thid: stored.thid,
            pthid: stored.pthid,
            attachments: carrier(stored.attachments).map_err(de::Error::custom)?.attachments,
            please_ack: stored.please_ack,
            ack: stored.ack,
            expires_time: stored.expires_time,
            return_route: stored.return_route,
            shows_no_attachments: stored.shows_no_attachments,
        })
    }
}

#[cfg(test)]
mod tests {
    use einmal_keys::{EntropyError, SeededEntropy};

    use super::*;
    use crate::testing::did;

    fn full() -> Draft {
        let thread = |text: &str| ThreadId::try_from(text).unwrap();
        let ack = vec![MessageId::try_from("m-0").unwrap()];
        Draft { please_ack: vec![String::new()], ack, ..Draft::of(&Empty {}) }
            .with_id(MessageId::try_from("m-1").unwrap())
            .in_thread(thread("t-1"))
            .child_of(thread("p-1"))
            .attach(Attachment::json("a", json!({"name": "Erika"})).with_format("f"))
            .expiring(UnixSeconds(20))
            .returning(ReturnRoute::All)
    }

    #[test]
    fn message_holds_exactly_what_the_draft_says() {
        let message = full()
            .into_message(
                &did("did:example:a"),
                &did("did:example:b"),
                UnixSeconds(10),
                &SeededEntropy::new(1),
            )
            .unwrap();
        let expected = json!({
            "id": "m-1", "typ": "application/didcomm-plain+json", "type": "https://didcomm.org/empty/1.0/empty",
            "from": "did:example:a", "to": ["did:example:b"], "thid": "t-1", "pthid": "p-1",
            "created_time": 10, "expires_time": 20, "body": {}, "please_ack": [""], "ack": ["m-0"],
            "return_route": "all",
            "attachments": [{"id": "a", "media_type": "application/json", "format": "f",
                "data": {"json": {"name": "Erika"}}}],
        });
        assert_eq!(message.to_value(), expected);
    }

    #[test]
    fn bare_draft_gets_a_fresh_id_and_an_empty_body() {
        let entropy = SeededEntropy::new(1);
        let make = || {
            let draft = Draft::of(&Empty {});
            draft
                .into_message(&did("did:example:a"), &did("did:example:b"), UnixSeconds(1), &entropy)
                .unwrap()
        };
        let (first, second) = (make(), make());
        assert_ne!(first.id, second.id);
        assert_eq!(first.to_value()["body"], json!({}));
    }

    #[test]
    fn failing_random_source_is_told() {
        struct Broken;
        impl Entropy for Broken {
            fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
                Err(EntropyError)
            }
        }
        let (a, b) = (did("did:example:a"), did("did:example:b"));
        let refused = Draft::of(&Empty {}).into_message(&a, &b, UnixSeconds(1), &Broken);
        assert_eq!(refused.unwrap_err(), FlowError::Entropy);
    }

    #[test]
    fn stored_draft_is_read_back_whatever_it_is_about_and_one_of_no_type_is_not() {
        let text = serde_json::to_string(&full()).unwrap();
        assert_eq!(serde_json::from_str::<Draft>(&text).unwrap(), full());
        let of_another = text.replace("empty/1.0/empty", "own/9.0/new");
        let draft: Draft = serde_json::from_str(&of_another).unwrap();
        assert_eq!(draft.kind, "https://didcomm.org/own/9.0/new");
        let of_none = text.replace("https://didcomm.org/empty/1.0/empty", "empty");
        assert!(serde_json::from_str::<Draft>(&of_none).unwrap_err().to_string().contains("type"));
    }

    #[test]
    fn debug_shows_no_attachment() {
        assert!(!format!("{:?}", full()).contains("Erika"));
    }
}
