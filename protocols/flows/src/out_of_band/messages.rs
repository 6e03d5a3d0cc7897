//! The invitation and its message form.

use std::fmt;

use einmal_did::{Did, parse_strict_json};
use einmal_didcomm::{
    Attachment, Body, Message, MessageError, MessageId, MessageType, ThreadId, UnixSeconds,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{InvitationError, url};
use crate::limits::{MAX_ACCEPT_ENTRIES, MAX_GOAL_CODE_LEN, MAX_INVITATION_URL_LEN};

/// An invitation to talk to `from`, with its purpose.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "Out Of Band Messages".
#[derive(Clone, PartialEq)]
pub struct Invitation {
    /// Becomes the `pthid` of the response.
    pub id: MessageId,
    /// The inviter.
    pub from: Did,
    /// The purpose, for programs.
    pub goal_code: Option<String>,
    /// The purpose, for people: untrusted text.
    pub goal: Option<String>,
    /// Profiles the inviter accepts, in its order of preference; empty means any.
    pub accept: Vec<String>,
    /// Requests, in order of preference: alternatives, of which one is acted on.
    pub attachments: Vec<Attachment>,
    /// When it becomes void.
    pub expires_time: Option<UnixSeconds>,
}

/// Body of the invitation message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationBody {
    /// The purpose, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal_code: Option<String>,
    /// The purpose, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// Profiles accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<Vec<String>>,
}

impl Body for InvitationBody {
    const TYPE: &'static str = "https://didcomm.org/out-of-band/2.0/invitation";
}

impl Invitation {
    /// A bare invitation by `from` that accepts DIDComm v2.
    pub fn new(id: MessageId, from: Did) -> Self {
        Self {
            id,
            from,
            goal_code: None,
            goal: None,
            accept: vec![einmal_did::DIDCOMM_V2.to_owned()],
            attachments: Vec::new(),
            expires_time: None,
        }
    }

    /// The thread a response names as its parent.
    pub fn thread(&self) -> ThreadId {
        self.id.to_thread()
    }

    /// Whether the invitation is void.
    pub fn is_expired(&self, now: UnixSeconds) -> bool {
        self.expires_time.is_some_and(|end| end <= now)
    }

    /// The invitation as a message.
    pub fn to_message(&self) -> Message {
        let body = InvitationBody {
            goal_code: self.goal_code.clone(),
            goal: self.goal.clone(),
            accept: (!self.accept.is_empty()).then(|| self.accept.clone()),
        };
        let mut message = Message::new(self.id.clone(), kind());
        message.from = Some(self.from.clone());
        if let Ok(Value::Object(members)) = serde_json::to_value(body) {
            message.body = members;
        }
        message.attachments.clone_from(&self.attachments);
        message.expires_time = self.expires_time;
        message
    }

    /// Reads an invitation message.
    ///
    /// # Errors
    ///
    /// [`InvitationError::Message`] if the type is wrong or `from` is missing, [`InvitationError::OutOfBounds`].
    pub fn from_message(message: &Message) -> Result<Self, InvitationError> {
        let body: InvitationBody = message.body_as()?;
        let from = message.from.clone().ok_or(MessageError::MissingHeader { header: "from" })?;
        let accept = body.accept.unwrap_or_default();
        if accept.len() > MAX_ACCEPT_ENTRIES {
            return Err(InvitationError::OutOfBounds { what: "accept" });
        }
        if body.goal_code.as_ref().is_some_and(|code| code.len() > MAX_GOAL_CODE_LEN) {
            return Err(InvitationError::OutOfBounds { what: "goal_code" });
        }
        Ok(Self {
            id: message.id.clone(),
            from,
            goal_code: body.goal_code,
            goal: body.goal,
            accept,
            attachments: message.attachments.clone(),
            expires_time: message.expires_time,
        })
    }

    /// Reads the JSON text of an invitation, such as the response to a short link.
    ///
    /// # Errors
    ///
    /// [`InvitationError::Signed`] if it is a signed message; otherwise as [`Invitation::from_message`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, InvitationError> {
        let value =
            parse_strict_json(bytes, MAX_INVITATION_URL_LEN).map_err(|_| InvitationError::Encoding)?;
        if value.get("payload").is_some() {
            return Err(InvitationError::Signed);
        }
        Self::from_message(&Message::from_value(value)?)
    }

    /// The invitation as a link: `base` and the parameter `_oob`.
    ///
    /// `base` is an absolute URL, such as `https://city.example/invite`; it may have a query or a fragment.
    pub fn to_url(&self, base: &str) -> String {
        let mut json = self.to_message().to_value();
        // Every byte makes the QR code larger, and `typ` says nothing useful here.
        json.as_object_mut().map(|members: &mut Map<String, Value>| members.remove("typ"));
        url::with_content(base, json.to_string().as_bytes())
    }

    /// Reads an invitation link.
    ///
    /// # Errors
    ///
    /// [`InvitationError`]; [`InvitationError::ShortForm`] asks to fetch the link first.
    pub fn from_url(text: &str) -> Result<Self, InvitationError> {
        Self::from_json(&url::url_content(text)?)
    }
}

fn kind() -> MessageType {
    #[allow(clippy::expect_used, reason = "a constant, checked by every test that makes an invitation")]
    MessageType::parse(InvitationBody::TYPE).expect("the type URI of the invitation parses")
}

/// Stored in message form.
impl Serialize for Invitation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_message().to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Invitation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let message = Message::from_value(value).map_err(serde::de::Error::custom)?;
        Self::from_message(&message).map_err(serde::de::Error::custom)
    }
}

/// Leaves out goal and attachments.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("id", &self.id.as_str())
            .field("goal_code", &self.goal_code)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) fn example() -> Invitation {
    Invitation {
        goal_code: Some("org.example.age".into()),
        goal: Some("Prove your age".into()),
        expires_time: Some(UnixSeconds(2_000)),
        attachments: vec![Attachment::json("r", serde_json::json!({"x": 1})).with_format("f")],
        ..Invitation::new(crate::testing::id("oob-1"), crate::testing::did("did:example:shop"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::vector;

    #[test]
    fn message_has_exactly_the_members_of_the_text() {
        let expected = json!({"id": "oob-1", "typ": "application/didcomm-plain+json",
            "type": "https://didcomm.org/out-of-band/2.0/invitation", "from": "did:example:shop",
            "expires_time": 2000,
            "body": {"goal_code": "org.example.age", "goal": "Prove your age", "accept": ["didcomm/v2"]},
            "attachments": [{"id": "r", "media_type": "application/json", "format": "f", "data": {"json": {"x": 1}}}]});
        assert_eq!(example().to_message().to_value(), expected);
        assert_eq!(Invitation::from_message(&example().to_message()), Ok(example()));
        let stored = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Invitation>(&stored).unwrap(), example());
    }

    #[test]
    fn invitation_without_sender_of_another_type_or_out_of_bounds_is_refused() {
        let mut message = example().to_message();
        message.from = None;
        let missing = MessageError::MissingHeader { header: "from" };
        assert_eq!(Invitation::from_message(&message), Err(missing.into()));
        let other = br#"{"id":"1","type":"https://didcomm.org/empty/1.0/empty","from":"did:example:a"}"#;
        let wrong = MessageError::WrongType { expected: InvitationBody::TYPE };
        assert_eq!(Invitation::from_json(other), Err(wrong.into()));
        let mut many = example();
        many.accept = vec!["didcomm/v2".into(); MAX_ACCEPT_ENTRIES + 1];
        let refused = InvitationError::OutOfBounds { what: "accept" };
        assert_eq!(Invitation::from_message(&many.to_message()), Err(refused));
        let mut long = example();
        long.goal_code = Some("x".repeat(MAX_GOAL_CODE_LEN + 1));
        let refused = InvitationError::OutOfBounds { what: "goal_code" };
        assert_eq!(Invitation::from_message(&long.to_message()), Err(refused));
    }

    #[test]
    fn signed_invitation_is_recognised_and_damaged_json_refused() {
        assert_eq!(
            Invitation::from_json(br#"{"payload":"x","signatures":[]}"#),
            Err(InvitationError::Signed)
        );
        assert_eq!(Invitation::from_json(b"{"), Err(InvitationError::Encoding));
    }

    #[test]
    fn published_invitations_are_read() {
        for (path, goal) in [
            ("waci/issuance/1.out-of-band.json", "streamlined-vc"),
            ("waci/presentation/1.out-of-band.json", "streamlined-vp"),
        ] {
            let Some(value) = vector(path) else { return };
            let invitation = Invitation::from_json(value.to_string().as_bytes()).unwrap();
            assert_eq!(invitation.goal_code.as_deref(), Some(goal));
            assert_eq!(invitation.accept, ["didcomm/v2"]);
        }
    }
}
