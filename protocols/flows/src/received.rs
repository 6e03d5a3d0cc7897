//! A received message with a proved sender: the only input a protocol sees.

use std::fmt;

use einmal_did::{Did, Relationship};
use einmal_didcomm::{Body, Message, MessageError, Opened, UnixSeconds};
use einmal_keys::PublicKey;
use serde_json::Value;

use crate::FlowError;

/// A received message whose sender is proved.
///
/// Both DIDs are the proved, canonical ones, never those the plaintext names. Only [`Received::of`] makes one, from an
/// opened message.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    message: &'a Message,
    sender: &'a Did,
    sender_key: Option<SenderKey<'a>>,
    recipient: &'a Did,
    prior: Option<&'a Did>,
}

/// The key that proved who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderKey<'a> {
    /// The key, as the sender's document listed it when the envelope was opened.
    pub key: &'a PublicKey,
    /// What the key is listed for: key agreement if it encrypted, authentication if it signed.
    pub purpose: Relationship,
}

impl<'a> SenderKey<'a> {
    fn of(opened: &'a Opened) -> Option<Self> {
        let proof = &opened.proof;
        let (proved, purpose) = match (&proof.sender, &proof.signer) {
            (Some(sender), _) => (sender, Relationship::KeyAgreement),
            (None, Some(signer)) => (signer, Relationship::Authentication),
            (None, None) => return None,
        };
        proved.key.as_ref().map(|key| Self { key, purpose })
    }
}

impl<'a> Received<'a> {
    /// The message in `opened`, if it came encrypted and its sender is proved; `None` otherwise.
    ///
    /// # Specification
    ///
    /// DIDComm Messaging v2.1, "Message Layer Addressing Consistency".
    pub fn of(opened: &'a Opened) -> Option<Self> {
        if !opened.is_authenticated() {
            return None;
        }
        Some(Self {
            message: &opened.message,
            sender: opened.sender()?,
            sender_key: SenderKey::of(opened),
            recipient: opened.recipient()?,
            prior: opened.proof.rotation.as_ref().map(|rotation| &rotation.prior),
        })
    }

    /// A message as if `sender` were proved to have sent it to `recipient`, without any proof: for tests and fuzzing,
    /// where no envelope is opened.
    #[cfg(any(test, feature = "unproved-messages"))]
    pub fn unproved(message: &'a Message, sender: &'a Did, recipient: &'a Did) -> Self {
        Self { message, sender, sender_key: None, recipient, prior: None }
    }

    /// The same as if this key had proved its sender.
    #[cfg(test)]
    pub(crate) fn as_proved_by(self, key: SenderKey<'a>) -> Self {
        Self { sender_key: Some(key), ..self }
    }

    /// The message.
    pub fn message(&self) -> &'a Message {
        self.message
    }

    /// The proved sender.
    pub fn sender(&self) -> &'a Did {
        self.sender
    }

    /// The key that proved it; `None` if it is a key of ours.
    pub fn sender_key(&self) -> Option<SenderKey<'a>> {
        self.sender_key
    }

    /// Our DID, which the message was encrypted to.
    pub fn recipient(&self) -> &'a Did {
        self.recipient
    }

    /// The DID that the sender's DID replaces, if the message proves one (`from_prior`).
    pub fn prior(&self) -> Option<&'a Did> {
        self.prior
    }

    /// Whether the message is of type `uri`, in the same major version.
    pub(crate) fn is(&self, uri: &str) -> bool {
        self.message.kind.is(uri)
    }

    /// Reads the body, also if the message bears one of the type URIs in `also`.
    pub(crate) fn body<B: Body>(&self, also: &[&'static str]) -> Result<B, FlowError> {
        match also.iter().find(|uri| self.is(uri)) {
            Some(kind) => self.body_of_any_type(kind),
            None => Ok(self.message.body_as()?),
        }
    }

    /// Reads the body whatever the message's type is; `kind` is what the error names.
    pub(crate) fn body_of_any_type<B: Body>(&self, kind: &'static str) -> Result<B, FlowError> {
        serde_json::from_value(Value::Object(self.message.body.clone()))
            .map_err(|_| MessageError::InvalidBody { kind }.into())
    }

    /// Refuses a message past its `expires_time`; time may have passed since it was opened.
    pub(crate) fn check_time(&self, now: UnixSeconds) -> Result<(), FlowError> {
        match self.message.expires_time {
            Some(end) if end <= now => Err(FlowError::Expired),
            _ => Ok(()),
        }
    }
}

/// Shows headers only.
impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("message", self.message).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use einmal_didcomm::{MessageId, MessageType, Proof};

    use super::*;
    use crate::testing::did;

    #[test]
    fn anonymous_and_unencrypted_messages_are_no_received_ones() {
        let kind = MessageType::parse("https://didcomm.org/empty/1.0/empty").unwrap();
        let message = Message::new(MessageId::try_from("m-1").unwrap(), kind);
        // `Opened` and `Proof` can only be made by opening; a default proof gives an unproved message.
        let bytes = message.to_bytes();
        let (custody, resolver) = (einmal_keys::Keyring::new(), einmal_did::LocalResolver::default());
        let context = einmal_didcomm::OpenContext {
            custody: &custody,
            resolver: &resolver,
            now: UnixSeconds(1),
            accept_plaintext: true,
            layers: einmal_didcomm::LayerPolicy::Strict,
        };
        let opened = einmal_didcomm::open(&bytes, &context).unwrap();
        assert_eq!(opened.proof, Proof::default());
        assert!(Received::of(&opened).is_none());
    }

    #[test]
    fn expired_message_is_refused_at_its_last_second() {
        let kind = MessageType::parse("https://didcomm.org/empty/1.0/empty").unwrap();
        let mut message = Message::new(MessageId::try_from("m-1").unwrap(), kind);
        message.expires_time = Some(UnixSeconds(10));
        let (a, b) = (did("did:example:a"), did("did:example:b"));
        let received = Received::unproved(&message, &a, &b);
        assert_eq!(received.check_time(UnixSeconds(9)), Ok(()));
        assert_eq!(received.check_time(UnixSeconds(10)), Err(FlowError::Expired));
    }
}
