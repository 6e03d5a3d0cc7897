//! A foreign peer, driven by hand: it sends what no node of ours would send.

use std::{hash::Hash, sync::Arc};

use einmal::node::{Arrival, Node, Receipt};
use einmal_did::{Did, DidDocument, Endpoint, LocalResolver, Relationship, Service, peer};
use einmal_didcomm::{
    Attachment, FORWARD_TYPE, LayerPolicy, Message, MessageId, MessageType, OpenContext, Opened, PackOptions,
    Packer, ReturnRoute, SenderProtection, UnixSeconds, from_prior_jwt, open,
};
use einmal_flows::Draft;
use einmal_keys::{Custody, KeyId, KeyKind, Keyring, PublicKey, SecretKey, SeededEntropy};
use serde_json::{Value, json};

use crate::START_MS;

/// The stranger's present time: worlds begin then, and tests that let time pass say so.
const NOW: UnixSeconds = UnixSeconds(START_MS / 1000);

const MEDIATION: &str = "https://didcomm.org/coordinate-mediation/3.0";

/// Keys and DIDs, but no rules.
pub struct Stranger {
    did: Did,
    keyring: Keyring,
    entropy: SeededEntropy,
    resolver: LocalResolver,
    endpoints: Vec<Endpoint>,
}

impl std::fmt::Debug for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stranger").field("did", &self.did).finish_non_exhaustive()
    }
}

impl Stranger {
    /// A stranger that nobody can reach: it hears only answers on its own connections.
    pub fn new(seed: u64) -> Self {
        Self::made(seed, Vec::new())
    }

    /// A stranger whose document names several endpoints.
    pub fn reached_by(seed: u64, endpoints: Vec<Endpoint>) -> Self {
        Self::made(seed, endpoints)
    }

    /// A stranger whose document names an endpoint: a URL, or the DID of a mediator.
    pub fn reached_at(seed: u64, endpoint: &str) -> Self {
        Self::made(seed, vec![Endpoint::didcomm(endpoint)])
    }

    /// A stranger reached at `endpoint` that may also sign cards, with `#key-2` of its DID.
    pub fn issuing_at(seed: u64, endpoint: &str) -> Self {
        let roles = &[Relationship::Authentication, Relationship::AssertionMethod];
        Self::with_roles(seed, vec![Endpoint::didcomm(endpoint)], KeyKind::X25519, roles)
    }

    /// A stranger whose only agreement key is of `kind`, and that sends signed and anonymously encrypted messages.
    pub fn with_agreement(seed: u64, kind: KeyKind) -> Self {
        Self::of_kind(seed, Vec::new(), kind)
    }

    /// A stranger with its own did:web, whether or not anyone publishes its document; also returns that document.
    pub fn of_the_web(seed: u64, did: &Did) -> (Self, DidDocument) {
        let mut stranger = Self::made(seed, Vec::new());
        let agreement = SecretKey::generate(KeyKind::X25519, &stranger.entropy).unwrap();
        let mut document = DidDocument::new(did.clone());
        document.add_method("key-1", agreement.public_key(), &[Relationship::KeyAgreement]).unwrap();
        stranger.keyring.insert(KeyId::new(format!("{did}#key-1")), agreement);
        stranger.resolver.remember(document.clone());
        stranger.did = did.clone();
        (stranger, document)
    }

    fn made(seed: u64, endpoints: Vec<Endpoint>) -> Self {
        Self::of_kind(seed, endpoints, KeyKind::X25519)
    }

    fn of_kind(seed: u64, endpoints: Vec<Endpoint>, kind: KeyKind) -> Self {
        Self::with_roles(seed, endpoints, kind, &[Relationship::Authentication])
    }

    fn with_roles(seed: u64, endpoints: Vec<Endpoint>, kind: KeyKind, roles: &[Relationship]) -> Self {
        let (keyring, entropy) = (Keyring::new(), SeededEntropy::new(seed ^ 0x57a9_6e00));
        let did = fresh_did(&keyring, &entropy, &endpoints, kind, roles);
        let resolver = LocalResolver::new();
        einmal_did::Resolver::resolve(&resolver, &did).unwrap();
        Self { did, keyring, entropy, resolver, endpoints }
    }

    /// The long form of the stranger's DID.
    pub fn did(&self) -> &Did {
        &self.did
    }

    /// Another DID with new keys, which the stranger also holds.
    pub fn another_did(&self) -> Did {
        let roles = &[Relationship::Authentication];
        let did = fresh_did(&self.keyring, &self.entropy, &self.endpoints, KeyKind::X25519, roles);
        einmal_did::Resolver::resolve(&self.resolver, &did).unwrap();
        did
    }

    /// Uses `did` from now on; returns the previous DID.
    pub fn become_did(&mut self, did: Did) -> Did {
        std::mem::replace(&mut self.did, did)
    }

    /// The stranger's keys.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The stranger's source of randomness.
    pub fn entropy(&self) -> &SeededEntropy {
        &self.entropy
    }

    /// Makes a key for a card to be bound to.
    pub fn holder_key(&self) -> (KeyId, PublicKey) {
        let kid = KeyId::new("holder:stranger");
        self.keyring.insert(kid.clone(), SecretKey::generate(KeyKind::P256, &self.entropy).unwrap());
        let key = self.keyring.public_key(&kid).unwrap();
        (kid, key)
    }

    /// Learns the document that a node publishes.
    pub fn learn(&self, node: &Node) {
        let did = node.public_did().unwrap();
        if let Some(document) = node.published_document(did) {
            self.resolver.remember((*document).clone());
        }
    }

    /// The proof that `new` replaces `prior`, decided at `decided_at`.
    pub fn rotation(&self, prior: &Did, new: &Did, decided_at: UnixSeconds) -> String {
        from_prior_jwt(prior, Some(new), decided_at, &self.keyring, &self.resolver).unwrap()
    }

    /// A message from the stranger to `to` with a new id.
    pub fn message(&self, kind: &str, to: &Did, body: Value) -> Message {
        let id = MessageId::random(&self.entropy).unwrap();
        let mut message = Message::new(id, MessageType::parse(kind).unwrap());
        message.from = Some(self.did.clone());
        message.to = vec![to.clone()];
        message.body = body.as_object().cloned().unwrap_or_default();
        message
    }

    /// A forward to a mediator: one payload for `next`.
    pub fn forward(&self, mediator: &Did, next: &Did, payload: Value) -> Message {
        let mut forward = self.message(FORWARD_TYPE, mediator, json!({"next": next.as_str()}));
        forward.attachments = vec![Attachment::json("0", payload)];
        forward
    }

    /// A draft as a message from the stranger to `to`.
    pub fn drafted(&self, draft: Draft, to: &Did) -> Message {
        draft.into_message(&self.did, to, NOW, &self.entropy).unwrap()
    }

    /// Packs a message for its first recipient.
    pub fn pack(&self, message: &Message, protection: SenderProtection) -> Vec<u8> {
        let packer = Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &self.entropy };
        let to = message.to.first().unwrap();
        packer.pack(message, to, &PackOptions::protecting(protection)).unwrap().bytes
    }

    /// Signs a message without encrypting it.
    pub fn sign(&self, message: &Message) -> Vec<u8> {
        let packer = Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &self.entropy };
        packer.sign(message).unwrap()
    }

    /// Opens an envelope for one of the stranger's DIDs.
    pub fn open(&self, bytes: &[u8]) -> Opened {
        let context = OpenContext {
            custody: &self.keyring,
            resolver: &self.resolver,
            now: NOW,
            accept_plaintext: false,
            layers: LayerPolicy::Strict,
        };
        open(bytes, &context).unwrap()
    }

    /// Sends a message with proved sender, and returns the result.
    pub async fn say(&self, node: &Arc<Node>, message: &Message) -> Receipt {
        node.receive(&self.pack(message, SenderProtection::Authcrypt), Arrival::Http { from: None }).await
    }

    /// Like [`Stranger::say`], but from `place`.
    pub async fn say_from(&self, place: impl Hash, node: &Arc<Node>, message: &Message) -> Receipt {
        let arrival = Arrival::Http { from: Some(node.origin(place)) };
        node.receive(&self.pack(message, SenderProtection::Authcrypt), arrival).await
    }

    /// Sends a message that asks for an answer on the same connection, and returns that answer.
    pub async fn ask(&self, node: &Arc<Node>, message: &Message) -> Message {
        match self.hear(node, message).await {
            Some(answer) => answer,
            None => panic!("{} was not answered", message.kind),
        }
    }

    /// Opens an account at a mediator and registers the stranger's own DID there.
    pub async fn enrol(&self, mediator: &Arc<Node>) {
        let to = mediator.public_did().unwrap();
        let request = self.message(&format!("{MEDIATION}/mediate-request"), to, json!({}));
        self.ask(mediator, &request).await;
        let updates = json!({"updates": [{"recipient_did": self.did.as_str(), "action": "add"}]});
        let update = self.message(&format!("{MEDIATION}/recipient-update"), to, updates);
        let answer = self.ask(mediator, &update).await;
        assert_eq!(answer.body["updated"][0]["result"], "success", "{:?}", answer.body);
    }

    /// Like [`Stranger::ask`], but there may be no answer.
    pub async fn hear(&self, node: &Arc<Node>, message: &Message) -> Option<Message> {
        let mut message = message.clone();
        message.return_route = Some(ReturnRoute::All);
        let receipt = self.say(node, &message).await;
        // A forward that is not kept is refused and reported.
        let is_told = !receipt.replies.is_empty();
        assert!(is_told || receipt.refused.is_none(), "{} was refused: {:?}", message.kind, receipt.refused);
        receipt.replies.first().map(|reply| self.open(reply).message)
    }
}

/// `roles` are the roles of the signing key.
fn fresh_did(
    keyring: &Keyring,
    entropy: &SeededEntropy,
    endpoints: &[Endpoint],
    kind: KeyKind,
    roles: &[Relationship],
) -> Did {
    let agreement = SecretKey::generate(kind, entropy).unwrap();
    let authentication = SecretKey::generate(KeyKind::Ed25519, entropy).unwrap();
    let mut input = peer::four::InputDocument::new()
        .add_method("key-1", agreement.public_key(), &[Relationship::KeyAgreement])
        .add_method("key-2", authentication.public_key(), roles);
    if !endpoints.is_empty() {
        input = input.add_service(Service::didcomm("#service", endpoints.to_vec()));
    }
    let made = input.create().unwrap();
    keyring.insert(KeyId::new(format!("{}#key-1", made.short)), agreement);
    keyring.insert(KeyId::new(format!("{}#key-2", made.short)), authentication);
    made.long
}
