//! Bodies of Message Pickup 3.0.

use serde::{Deserialize, Deserializer, Serialize, de};

/// Asks how much is waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRequest {
    /// The DID asked about; the whole account if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_did: Option<String>,
}

/// How much is waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The DID of the request, if it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_did: Option<String>,
    /// Number of messages.
    pub message_count: u64,
    /// How long the oldest has waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_waited_seconds: Option<u64>,
    /// When the newest arrived, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_received_time: Option<u64>,
    /// When the oldest arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_received_time: Option<u64>,
    /// Size of all messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Whether messages are pushed on this connection.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_flag")]
    pub live_delivery: Option<bool>,
}

/// Asks for messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AnyDeliveryRequest")]
pub struct DeliveryRequest {
    /// Most messages wanted.
    pub limit: u64,
    /// The DID asked about; the whole account if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_did: Option<String>,
}

/// A delivery request as clients write it: 4.0 says `message_count_limit`, drafts of it `limit`, and some clients give both names.
#[derive(Deserialize)]
struct AnyDeliveryRequest {
    #[serde(default, deserialize_with = "optional_count")]
    limit: Option<u64>,
    #[serde(default, deserialize_with = "optional_count")]
    message_count_limit: Option<u64>,
    recipient_did: Option<String>,
}

impl TryFrom<AnyDeliveryRequest> for DeliveryRequest {
    type Error = &'static str;

    fn try_from(any: AnyDeliveryRequest) -> Result<Self, Self::Error> {
        let limit = any.limit.or(any.message_count_limit).ok_or("`limit` is missing")?;
        Ok(Self { limit, recipient_did: any.recipient_did })
    }
}

/// Delivers messages, which are its attachments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The DID of the request, if it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient_did: Option<String>,
}

/// Confirms messages, which may now be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagesReceived {
    /// Their attachment ids.
    pub message_id_list: Vec<String>,
}

/// Turns live delivery on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveDeliveryChange {
    /// Whether messages shall be pushed.
    #[serde(deserialize_with = "flag")]
    pub live_delivery: bool,
}

bodies! {
    "https://didcomm.org/messagepickup/3.0/":
    StatusRequest = "status-request",
    Status = "status",
    DeliveryRequest = "delivery-request",
    Delivery = "delivery",
    MessagesReceived = "messages-received",
    LiveDeliveryChange = "live-delivery-change",
}

/// A boolean, also accepted as text, as one deployed client writes it.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Value(bool),
        Text(String),
    }
    match Flag::deserialize(deserializer)? {
        Flag::Value(value) => Ok(value),
        Flag::Text(text) if text == "true" => Ok(true),
        Flag::Text(text) if text == "false" => Ok(false),
        Flag::Text(_) => Err(de::Error::custom("neither true nor false")),
    }
}

/// A number, also accepted as decimal text, as a deployed library for phones sends it.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Count {
        Value(u64),
        Text(String),
    }
    match Count::deserialize(deserializer)? {
        Count::Value(value) => Ok(value),
        Count::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_err(|_| de::Error::custom("too large a number"))
        }
        Count::Text(_) => Err(de::Error::custom("not a number")),
    }
}

fn optional_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Wrapped(#[serde(deserialize_with = "count")] u64);
    Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
}

fn maybe_flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    struct Wrapped(#[serde(deserialize_with = "flag")] bool);
    Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::Body;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::Draft;

    fn exact<B: Body + PartialEq + std::fmt::Debug + DeserializeOwned>(body: &B, expected: Value) {
        assert_eq!(Value::Object(Draft::of(body).body), expected);
        assert_eq!(&serde_json::from_value::<B>(expected).unwrap(), body);
    }

    #[test]
    fn bodies_have_exactly_the_members_of_the_text() {
        let did = || Some("did:example:a".to_owned());
        exact(&StatusRequest::default(), json!({}));
        exact(&StatusRequest { recipient_did: did() }, json!({"recipient_did": "did:example:a"}));
        exact(&Status::default(), json!({"message_count": 0}));
        let status = Status {
            recipient_did: did(),
            message_count: 7,
            longest_waited_seconds: Some(3600),
            newest_received_time: Some(1_658_085_169),
            oldest_received_time: Some(1_658_084_293),
            total_bytes: Some(8096),
            live_delivery: Some(false),
        };
        let expected = json!({"recipient_did": "did:example:a", "message_count": 7, "longest_waited_seconds": 3600,
            "newest_received_time": 1_658_085_169, "oldest_received_time": 1_658_084_293, "total_bytes": 8096,
            "live_delivery": false});
        exact(&status, expected);
        exact(&DeliveryRequest { limit: 10, recipient_did: None }, json!({"limit": 10}));
        exact(&Delivery::default(), json!({}));
        exact(&MessagesReceived { message_id_list: vec!["1".into()] }, json!({"message_id_list": ["1"]}));
        exact(&LiveDeliveryChange { live_delivery: true }, json!({"live_delivery": true}));
    }

    #[test]
    fn deployed_spellings_are_read() {
        let limit: DeliveryRequest = serde_json::from_value(json!({"message_count_limit": 3})).unwrap();
        assert_eq!(limit.limit, 3);
        let live: LiveDeliveryChange = serde_json::from_value(json!({"live_delivery": "true"})).unwrap();
        assert!(live.live_delivery);
        let status: Status =
            serde_json::from_value(json!({"message_count": 1, "live_delivery": "false"})).unwrap();
        assert_eq!(status.live_delivery, Some(false));
        let status: Status =
            serde_json::from_value(json!({"message_count": 1, "live_delivery": null})).unwrap();
        assert_eq!(status.live_delivery, None);
        assert!(serde_json::from_value::<LiveDeliveryChange>(json!({"live_delivery": "maybe"})).is_err());
        assert!(serde_json::from_value::<DeliveryRequest>(json!({"limit": -1})).is_err());
    }
}
