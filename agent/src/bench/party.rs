//! A client of a mediator, for load: an identity in memory, envelopes packed ahead, answers opened.

use einmal_did::{Did, LocalResolver, Relationship, Resolver, peer};
use einmal_didcomm::{
    Attachment, FORWARD_TYPE, LayerPolicy, Message, MessageId, MessageType, OpenContext, Opened, PackOptions,
    Packer, ReturnRoute, open,
};
use einmal_keys::{KeyId, KeyKind, Keyring, SecretKey, SystemEntropy};
use serde_json::{Value, json};

use super::Problem;
use crate::clock::{Clock, SystemClock};

/// Text of each message: what is stored is then the smallest realistic envelope.
const TEXT: &str = "The quick brown fox jumps over the lazy dog; pack my box with five dozen jugs.";

/// An identity with its keys.
pub(super) struct Party {
    pub(super) did: Did,
    keyring: Keyring,
    resolver: LocalResolver,
}

impl Party {
    /// A fresh did:peer:2 with an X25519 and an Ed25519 key, without endpoint.
    pub(super) fn new() -> Result<Self, Problem> {
        let agreement = SecretKey::generate(KeyKind::X25519, &SystemEntropy)?;
        let authentication = SecretKey::generate(KeyKind::Ed25519, &SystemEntropy)?;
        let keys = [
            (Relationship::KeyAgreement, agreement.public_key()),
            (Relationship::Authentication, authentication.public_key()),
        ];
        let did = peer::two::create(&keys, &[])?;
        let keyring = Keyring::new();
        keyring.insert(KeyId::new(format!("{did}#key-1")), agreement);
        keyring.insert(KeyId::new(format!("{did}#key-2")), authentication);
        Ok(Self { did, keyring, resolver: LocalResolver::new() })
    }

    fn packer(&self) -> Packer<'_> {
        Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &SystemEntropy }
    }

    fn message(&self, kind: &str, to: &Did) -> Result<Message, Problem> {
        let mut message = Message::new(MessageId::random(&SystemEntropy)?, MessageType::parse(kind)?);
        message.from = Some(self.did.clone());
        message.to = vec![to.clone()];
        Ok(message)
    }

    /// A request to the mediator whose answer is to come back on the same connection.
    pub(super) fn request(&self, kind: &str, body: &Value, mediator: &Did) -> Result<Vec<u8>, Problem> {
        let mut message = self.message(kind, mediator)?;
        message.body = body.as_object().cloned().unwrap_or_default();
        message.return_route = Some(ReturnRoute::All);
        Ok(self.packer().pack(&message, mediator, &PackOptions::default())?.bytes)
    }

    /// An authcrypt message to `next` in an authcrypt forward to the mediator; also the inner envelope alone.
    pub(super) fn forward(&self, next: &Did, serial: u64, mediator: &Did) -> Result<Forward, Problem> {
        let mut inner = self.message("https://didcomm.org/basicmessage/2.0/message", next)?;
        inner.body = json!({"content": TEXT, "serial": serial}).as_object().cloned().unwrap_or_default();
        let inner = self.packer().pack(&inner, next, &PackOptions::default())?.bytes;
        let mut outer = self.message(FORWARD_TYPE, mediator)?;
        outer.body = json!({"next": next.as_str()}).as_object().cloned().unwrap_or_default();
        outer.attachments = vec![Attachment::base64("0", &inner)];
        let bytes = self.packer().pack(&outer, mediator, &PackOptions::default())?.bytes;
        Ok(Forward { bytes, inner })
    }

    /// Opens an answer.
    pub(super) fn open(&self, envelope: &[u8]) -> Result<Opened, Problem> {
        let context = OpenContext {
            custody: &self.keyring,
            resolver: &self.resolver,
            now: SystemClock.now(),
            accept_plaintext: false,
            layers: LayerPolicy::Tolerant,
        };
        Ok(open(envelope, &context)?)
    }

    /// Computes a DID's document ahead of time, so that packing does not pay for it.
    pub(super) fn learn(&self, did: &Did) -> Result<(), Problem> {
        self.resolver.resolve(did).map(drop).map_err(Problem::from)
    }
}

/// A forward ready to be sent.
pub(super) struct Forward {
    pub(super) bytes: Vec<u8>,
    pub(super) inner: Vec<u8>,
}
