//! The plaintext message: all headers of DIDComm v2.1, read tolerantly and written strictly.

use std::fmt;

use einmal_did::{Did, DidUrl};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{Attachment, Layer, MessageType};
use crate::{
    PLAIN_MEDIA_TYPE,
    error::MessageError,
    ids::{MessageId, ThreadId, UnixSeconds},
    limits::{MAX_ACKS, MAX_ATTACHMENTS, MAX_FROM_PRIOR_LEN, MAX_TO},
};

/// A typed message body and the type URI that announces it on the wire.
pub trait Body: Serialize + DeserializeOwned {
    /// The full message type URI, such as `https://didcomm.org/trust-ping/2.0/ping`.
    const TYPE: &'static str;
}

/// What may come back on the connection that carried the message (return-route extension).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReturnRoute {
    /// Nothing.
    #[default]
    None,
    /// Anything for the sender's DID.
    All,
    /// Messages of one thread.
    Thread,
}

/// A plaintext message whose headers passed their syntax checks and whose body is still raw JSON.
///
/// Headers einmal does not know are kept in `extra` and written back. `Debug` shows headers only: bodies and
/// attachments hold personal data.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Plaintext Message Structure".
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// Unique to the sender.
    pub id: MessageId,
    /// What kind of message this is.
    pub kind: MessageType,
    /// Sender. In an [`Opened`](crate::Opened) message this is the proved sender, or `None`.
    pub from: Option<Did>,
    /// Recipients.
    pub to: Vec<Did>,
    /// Thread; `None` on a first message, whose `id` then names the thread.
    pub thid: Option<ThreadId>,
    /// Parent thread.
    pub pthid: Option<ThreadId>,
    /// When the sender made the message.
    pub created_time: Option<UnixSeconds>,
    /// The instant from which the message is void.
    pub expires_time: Option<UnixSeconds>,
    /// Protocol specific content.
    pub body: Map<String, Value>,
    /// Content beside the body.
    pub attachments: Vec<Attachment>,
    /// JWT by which the sender announces a new DID.
    pub from_prior: Option<String>,
    /// Ids the sender wants acknowledged; the empty string stands for this message.
    pub please_ack: Vec<String>,
    /// Ids the sender acknowledges, in the order it received them.
    pub ack: Vec<MessageId>,
    /// What may come back on the same connection.
    pub return_route: Option<ReturnRoute>,
    /// The thread meant by [`ReturnRoute::Thread`].
    pub return_route_thread: Option<ThreadId>,
    /// Every other header, such as `lang`, `accept-lang`, `trace` and `web_redirect`, and also an empty `attachments`
    /// list.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message of type `kind` with an empty body and nothing else set.
    pub fn new(id: MessageId, kind: MessageType) -> Self {
        Self {
            id,
            kind,
            from: None,
            to: Vec::new(),
            thid: None,
            pthid: None,
            created_time: None,
            expires_time: None,
            body: Map::new(),
            attachments: Vec::new(),
            from_prior: None,
            please_ack: Vec::new(),
            ack: Vec::new(),
            return_route: None,
            return_route_thread: None,
            extra: Map::new(),
        }
    }

    /// Reads the body as `B`; the type URI must name the same message in the same major version.
    ///
    /// # Errors
    ///
    /// [`MessageError::WrongType`] or [`MessageError::InvalidBody`].
    pub fn body_as<B: Body>(&self) -> Result<B, MessageError> {
        if !self.kind.is(B::TYPE) {
            return Err(MessageError::WrongType { expected: B::TYPE });
        }
        serde_json::from_value(Value::Object(self.body.clone()))
            .map_err(|_| MessageError::InvalidBody { kind: B::TYPE })
    }

    /// The thread the message belongs to: `thid`, or its own id if it opens one.
    pub fn thread(&self) -> ThreadId {
        self.thid.clone().unwrap_or_else(|| self.id.to_thread())
    }

    /// Parses a plaintext message.
    ///
    /// # Errors
    ///
    /// [`MessageError`] naming the header at fault.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        Self::from_layer(Layer::read(bytes)?)
    }

    /// Reads a message from a layer.
    ///
    /// # Errors
    ///
    /// [`MessageError`] naming the header at fault.
    pub(crate) fn from_layer(layer: Layer) -> Result<Self, MessageError> {
        let mut message = Self::from_value(layer.value)?;
        for (number, json) in layer.carried {
            if let Some(attachment) = message.attachments.get_mut(number) {
                attachment.data.base64 = None;
                attachment.data.carried = Some(json);
            }
        }
        Ok(message)
    }

    /// Reads a message from parsed JSON; the caller has bounded size and depth.
    ///
    /// # Errors
    ///
    /// [`MessageError`] naming the header at fault.
    pub fn from_value(value: Value) -> Result<Self, MessageError> {
        let Value::Object(mut headers) = value else { return Err(MessageError::NotJson) };
        check_typ(headers.remove("typ"))?;
        let id = text(&mut headers, "id")?.ok_or(MessageError::MissingHeader { header: "id" })?;
        let kind = text(&mut headers, "type")?.ok_or(MessageError::MissingHeader { header: "type" })?;
        let mut message = Self::new(id_of(id, "id")?, MessageType::received(&kind)?);
        message.from = sender(&mut headers)?;
        message.to = dids(&mut headers)?;
        message.thid = thread(&mut headers, "thid")?;
        message.pthid = thread(&mut headers, "pthid")?;
        // Nothing here depends on it, and deployed clients write it as a date.
        message.created_time = seconds(&mut headers, "created_time").unwrap_or_default();
        message.expires_time = seconds(&mut headers, "expires_time")?;
        message.body = body(&mut headers)?;
        message.attachments = attachments(&mut headers)?;
        message.from_prior = text(&mut headers, "from_prior")?;
        if message.from_prior.as_ref().is_some_and(|jwt| jwt.len() > MAX_FROM_PRIOR_LEN) {
            return Err(MessageError::InvalidHeader { header: "from_prior" });
        }
        message.please_ack = acks(&mut headers, "please_ack")?;
        message.ack =
            acks(&mut headers, "ack")?.into_iter().map(|id| id_of(id, "ack")).collect::<Result<_, _>>()?;
        message.return_route = return_route(&mut headers)?;
        message.return_route_thread = thread(&mut headers, "return_route_thread")?;
        message.extra = headers;
        Ok(message)
    }

    /// Writes the message as JSON, always with `typ` and `body`.
    pub fn to_value(&self) -> Value {
        self.parts().into_iter().map(|(name, part)| (name.to_owned(), Value::from(part))).collect()
    }

    /// Writes the message as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = self.parts();
        let length = weight_of(&parts);
        // Leave room for some escapes: growing the buffer would cost a copy and leave copies of the plaintext behind.
        let mut bytes = Vec::with_capacity(length + length / 16 + 64);
        match serde_json::Serializer::new(&mut bytes).collect_map(parts) {
            Ok(()) => bytes,
            // Names are strings and a vector accepts every byte, so this cannot fail.
            Err(_) => Vec::new(),
        }
    }

    /// Roughly how many bytes it takes as JSON, if little in it needs escaping; computed without writing it.
    pub fn weight(&self) -> usize {
        weight_of(&self.parts())
    }

    /// The headers that are set, with their names, borrowed; each name occurs once.
    fn parts(&self) -> Vec<(&str, Part<'_>)> {
        let mut parts = vec![("typ", Part::Text(PLAIN_MEDIA_TYPE)), ("body", Part::Object(&self.body))];
        let texts = [
            ("id", Some(self.id.as_str())),
            ("type", Some(self.kind.as_str())),
            ("from", self.from.as_ref().map(Did::as_str)),
            ("thid", self.thid.as_ref().map(ThreadId::as_str)),
            ("pthid", self.pthid.as_ref().map(ThreadId::as_str)),
            ("from_prior", self.from_prior.as_deref()),
            ("return_route", self.return_route.map(ReturnRoute::name)),
            ("return_route_thread", self.return_route_thread.as_ref().map(ThreadId::as_str)),
        ];
        parts.extend(texts.into_iter().filter_map(|(name, text)| Some((name, Part::Text(text?)))));
        let times = [("created_time", self.created_time), ("expires_time", self.expires_time)];
        parts.extend(times.into_iter().filter_map(|(name, time)| Some((name, Part::Seconds(time?.0)))));
        let lists: [(_, Vec<&str>); 3] = [
            ("to", self.to.iter().map(Did::as_str).collect()),
            ("please_ack", self.please_ack.iter().map(String::as_str).collect()),
            ("ack", self.ack.iter().map(MessageId::as_str).collect()),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        parts.extend(lists.map(|(name, list)| (name, Part::Texts(list))));
        if !self.attachments.is_empty() {
            parts.push(("attachments", Part::Attachments(&self.attachments)));
        }
        // Our own header wins over one of the same name in `extra`.
        let own = parts.len();
        for (name, value) in &self.extra {
            if parts.iter().take(own).all(|(known, _)| known != name) {
                parts.push((name, Part::Value(value)));
            }
        }
        parts
    }
}

/// One header as it is written; borrowed where possible, because bodies are large.
#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Text(&'a str),
    Seconds(u64),
    Texts(Vec<&'a str>),
    Object(&'a Map<String, Value>),
    Value(&'a Value),
    Attachments(&'a [Attachment]),
}

fn weight_of(parts: &[(&str, Part<'_>)]) -> usize {
    parts.iter().map(|(name, part)| name.len() + part.weight() + 4).sum()
}

impl Part<'_> {
    /// Roughly how many bytes it takes as JSON, if nothing in it needs escaping.
    fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 2,
            Self::Seconds(_) => 20,
            Self::Texts(texts) => texts.iter().map(|text| text.len() + 3).sum::<usize>() + 2,
            Self::Object(map) => object_weight(map),
            Self::Value(value) => weight(value),
            Self::Attachments(list) => list.iter().map(|one| one.weight() + 1).sum::<usize>() + 2,
        }
    }
}

pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 20,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| weight(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => object_weight(map),
    }
}

fn object_weight(map: &Map<String, Value>) -> usize {
    map.iter().map(|(name, value)| name.len() + weight(value) + 4).sum::<usize>() + 2
}

impl From<Part<'_>> for Value {
    fn from(part: Part<'_>) -> Self {
        match part {
            Part::Text(text) => text.into(),
            Part::Seconds(time) => time.into(),
            Part::Texts(texts) => texts.into(),
            Part::Object(map) => Self::Object(map.clone()),
            Part::Value(value) => value.clone(),
            // Strings, numbers and values that already are JSON: nothing can fail.
            Part::Attachments(list) => serde_json::to_value(list).unwrap_or_default(),
        }
    }
}

impl ReturnRoute {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::All => "all",
            Self::Thread => "thread",
        }
    }
}

/// Shows only headers without personal data; never body, attachments or unknown headers.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id.as_str())
            .field("type", &self.kind)
            .field("thid", &self.thid.as_ref().map(ThreadId::as_str))
            .finish_non_exhaustive()
    }
}

/// Any text is accepted: deployed libraries put the type of the envelope or of the message here.
fn check_typ(typ: Option<Value>) -> Result<(), MessageError> {
    match typ {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(_) => Err(MessageError::InvalidHeader { header: "typ" }),
    }
}

/// Removes a text header; `null` counts as absent, as several deployed encoders write it.
fn text(headers: &mut Map<String, Value>, header: &'static str) -> Result<Option<String>, MessageError> {
    match headers.remove(header) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(MessageError::InvalidHeader { header }),
    }
}

fn id_of(text: String, header: &'static str) -> Result<MessageId, MessageError> {
    MessageId::try_from(text).map_err(|_| MessageError::InvalidHeader { header })
}

fn thread(headers: &mut Map<String, Value>, header: &'static str) -> Result<Option<ThreadId>, MessageError> {
    text(headers, header)?
        .map(|id| ThreadId::try_from(id).map_err(|_| MessageError::InvalidHeader { header }))
        .transpose()
}

/// A DID, or the DID of a DID URL.
fn did_of(text: &str, header: &'static str) -> Result<Did, MessageError> {
    if let Ok(did) = Did::parse(text) {
        return Ok(did);
    }
    Ok(DidUrl::parse(text).map_err(|_| MessageError::InvalidHeader { header })?.did().clone())
}

/// A sender is a DID, not one of its keys: the envelope proves which key it was.
fn sender(headers: &mut Map<String, Value>) -> Result<Option<Did>, MessageError> {
    let invalid = MessageError::InvalidHeader { header: "from" };
    let Some(text) = text(headers, "from")? else { return Ok(None) };
    if text.contains('#') { Err(invalid) } else { did_of(&text, "from").map(Some) }
}

fn dids(headers: &mut Map<String, Value>) -> Result<Vec<Did>, MessageError> {
    list(headers, "to", MAX_TO)?.iter().map(|text| did_of(text, "to")).collect()
}

fn list(
    headers: &mut Map<String, Value>,
    header: &'static str,
    most: usize,
) -> Result<Vec<String>, MessageError> {
    let invalid = MessageError::InvalidHeader { header };
    match headers.remove(header) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= most => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(invalid.clone()),
            })
            .collect(),
        Some(_) => Err(invalid),
    }
}

/// Ids of messages. Deployed v1 clients write a single id as a string, or `true` for this message.
fn acks(headers: &mut Map<String, Value>, header: &'static str) -> Result<Vec<String>, MessageError> {
    match headers.get(header) {
        Some(Value::String(id)) => {
            let id = id.clone();
            headers.remove(header);
            Ok(vec![id])
        }
        Some(Value::Bool(asked)) => {
            let asked = *asked;
            headers.remove(header);
            Ok(if asked { vec![String::new()] } else { Vec::new() })
        }
        _ => list(headers, header, MAX_ACKS),
    }
}

/// Seconds as an integer; published examples also write decimal strings.
fn seconds(
    headers: &mut Map<String, Value>,
    header: &'static str,
) -> Result<Option<UnixSeconds>, MessageError> {
    let invalid = MessageError::InvalidHeader { header };
    match headers.remove(header) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_u64().map(|n| Some(UnixSeconds(n))).ok_or(invalid),
        Some(Value::String(text)) => text.parse().map(|n| Some(UnixSeconds(n))).map_err(|_| invalid),
        Some(_) => Err(invalid),
    }
}

fn body(headers: &mut Map<String, Value>) -> Result<Map<String, Value>, MessageError> {
    match headers.remove("body") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(MessageError::InvalidHeader { header: "body" }),
    }
}

fn attachments(headers: &mut Map<String, Value>) -> Result<Vec<Attachment>, MessageError> {
    match headers.remove("attachments") {
        None | Some(Value::Null) => Ok(Vec::new()),
        // Keep the empty list where writing finds it: pickup 4.0 requires it, and nothing else records it.
        Some(none @ Value::Array(_)) if none == Value::Array(Vec::new()) => {
            headers.insert("attachments".to_owned(), none);
            Ok(Vec::new())
        }
        Some(Value::Array(items)) if items.len() <= MAX_ATTACHMENTS => {
            items.into_iter().map(Attachment::from_value).collect()
        }
        Some(_) => Err(MessageError::InvalidHeader { header: "attachments" }),
    }
}

fn return_route(headers: &mut Map<String, Value>) -> Result<Option<ReturnRoute>, MessageError> {
    match text(headers, "return_route")?.as_deref() {
        None => Ok(None),
        Some("none") => Ok(Some(ReturnRoute::None)),
        Some("all") => Ok(Some(ReturnRoute::All)),
        Some("thread") => Ok(Some(ReturnRoute::Thread)),
        Some(_) => Err(MessageError::InvalidHeader { header: "return_route" }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn full() -> Value {
        json!({
            "id": "m-1", "typ": "application/didcomm-plain+json",
            "type": "https://didcomm.org/basicmessage/2.0/message",
            "from": "did:example:alice", "to": ["did:example:bob"], "thid": "t-1", "pthid": "p-1",
            "created_time": 10, "expires_time": 20, "body": {"content": "hallo"},
            "attachments": [{"id": "a", "data": {"json": {"x": 1}}}],
            "from_prior": "a.b.c", "please_ack": [""], "ack": ["m-0"],
            "return_route": "thread", "return_route_thread": "t-1", "lang": "de", "unknown": [1, 2]
        })
    }

    #[test]
    fn every_header_survives_a_round_trip() {
        let message = Message::from_value(full()).unwrap();
        assert_eq!(message.to_value(), full());
        assert_eq!(Message::from_bytes(&message.to_bytes()).unwrap(), message);
    }

    #[test]
    fn header_hidden_among_the_others_is_written_once_and_loses_to_ours() {
        let mut message = Message::from_value(full()).unwrap();
        message.extra.insert("thid".into(), json!("forged"));
        assert_eq!(message.to_value(), full());
        assert_eq!(Message::from_bytes(&message.to_bytes()).unwrap().to_value(), full());
    }

    #[test]
    fn missing_body_and_missing_typ_are_accepted_and_written_back() {
        let message = Message::from_value(json!({"id": "1", "type": "https://didcomm.org/empty/1.0/empty"}));
        let value = message.unwrap().to_value();
        assert_eq!(value["body"], json!({}));
        assert_eq!(value["typ"], json!(PLAIN_MEDIA_TYPE));
    }

    #[test]
    fn what_deployed_clients_write_otherwise_is_read_all_the_same() {
        let read = |header: &str, value: Value| {
            let mut message = full();
            message[header] = value;
            Message::from_value(message).unwrap()
        };
        assert_eq!(read("created_time", json!("2026-11-29T10:00:00.000Z")).created_time, None);
        assert_eq!(read("created_time", json!("1795000000")).created_time, Some(UnixSeconds(1_795_000_000)));
        assert_eq!(read("please_ack", json!(true)).please_ack, [""]);
        assert!(read("please_ack", json!(false)).please_ack.is_empty());
        assert_eq!(read("ack", json!("m-0")).ack, [MessageId::try_from("m-0").unwrap()]);
    }

    /// The Swift library of beatt83 writes both into its forwards, and a wallet of adorsys writes the message type.
    #[test]
    fn names_of_envelopes_and_keys_where_others_belong_say_nothing_and_do_no_harm() {
        for typ in
            ["application/didcomm-encrypted+json", "https://didcomm.org/messagepickup/3.0/status-request"]
        {
            let mut message = full();
            message["typ"] = json!(typ);
            message["to"] = json!(["did:example:bob#key-1"]);
            let read = Message::from_value(message).unwrap();
            assert_eq!(read.to, [Did::parse("did:example:bob").unwrap()]);
            assert_eq!(
                read.to_value()["typ"],
                json!(PLAIN_MEDIA_TYPE),
                "what is written is as the text has it"
            );
        }
    }

    /// Pickup 4.0 requires the list even if nothing is delivered.
    #[test]
    fn list_of_attachments_in_which_nothing_is_is_told_from_none() {
        let mut shown = full();
        shown["attachments"] = json!([]);
        let read = Message::from_value(shown.clone()).unwrap();
        assert!(read.attachments.is_empty() && read.extra.contains_key("attachments"));
        assert_eq!(read.to_value()["attachments"], json!([]), "and written again");
        shown.as_object_mut().unwrap().remove("attachments");
        assert!(!Message::from_value(shown).unwrap().extra.contains_key("attachments"));
        assert!(!Message::from_value(full()).unwrap().extra.contains_key("attachments"));
    }

    #[test]
    fn each_broken_header_is_named() {
        let cases = [
            ("id", json!("a b")),
            ("typ", json!(["application/didcomm-plain+json"])),
            ("from", json!("did:example:alice#key-1")),
            ("to", json!(["not a did"])),
            ("to", json!("did:example:bob")),
            ("thid", json!(7)),
            ("expires_time", json!(-1)),
            ("body", json!([1])),
            ("attachments", json!({})),
            ("ack", json!([1])),
            ("please_ack", json!(vec!["x"; MAX_ACKS + 1])),
            ("return_route", json!("sideways")),
        ];
        for (header, value) in cases {
            let mut message = full();
            message[header] = value;
            assert_eq!(
                Message::from_value(message).unwrap_err(),
                MessageError::InvalidHeader { header },
                "{header}"
            );
        }
    }

    #[test]
    fn message_without_id_or_type_is_refused() {
        for header in ["id", "type"] {
            let mut message = full();
            message.as_object_mut().unwrap().remove(header);
            assert_eq!(Message::from_value(message).unwrap_err(), MessageError::MissingHeader { header });
        }
    }

    #[test]
    fn duplicate_member_names_are_refused() {
        let text = br#"{"id":"1","id":"2","type":"https://didcomm.org/empty/1.0/empty"}"#;
        assert_eq!(Message::from_bytes(text).unwrap_err(), MessageError::NotJson);
    }

    #[test]
    fn debug_shows_no_body_and_no_attachment() {
        let text = format!("{:?}", Message::from_value(full()).unwrap());
        assert!(!text.contains("hallo") && !text.contains("lang") && !text.contains("attachments"));
    }

    #[test]
    fn decimal_text_is_read_as_time() {
        let mut message = full();
        message["created_time"] = json!("1516269022");
        assert_eq!(Message::from_value(message).unwrap().created_time, Some(UnixSeconds(1_516_269_022)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::from_bytes(&bytes);
        }
    }
}
