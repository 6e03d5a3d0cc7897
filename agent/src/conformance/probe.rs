//! The client of the suite: throw-away identities in memory, envelopes, and exchanges that end in time.

use std::time::{Duration, Instant};

use einmal_did::{
    Did, DidUrl, Endpoint, LocalResolver, Relationship, ResolveError, Resolver, Service, did_key, peer,
};
use einmal_didcomm::{
    ENCRYPTED_MEDIA_TYPE, Irregularity, LayerPolicy, Message, MessageId, MessageType, OpenContext, OpenError,
    Opened, PackError, PackOptions, Packer, ReturnRoute, SenderProtection, UnixSeconds, open,
};
use einmal_keys::{KeyId, KeyKind, Keyring, PublicKey, SecretKey, SystemEntropy};
use serde_json::Value;

use super::answer::{Answer, Heard};
use crate::{
    clock::{Clock, SystemClock},
    config::Network,
    net::{Fetcher, client::HttpClient},
};

/// Endpoint of somebody who cannot be called.
pub(super) const QUEUE: &str = "didcomm:transport/queue";
/// Longest silence that is taken for an answer: what must not come has had this long to come.
const QUIET: Duration = Duration::from_millis(1500);
/// Longest a whole run takes.
const TOTAL: Duration = Duration::from_secs(900);
/// Most documents fetched to pack or open one message.
const MAX_FETCHES: usize = 4;

/// The target, and everything needed to talk to it as many different strangers.
pub(super) struct Probe {
    /// The target's DID.
    pub(super) target: Did,
    /// Its HTTP endpoint, if it has one.
    pub(super) http: Option<String>,
    /// Its WebSocket endpoint, if it has one.
    pub(super) socket: Option<String>,
    /// What it may connect to.
    pub(super) network: Network,
    /// Longest an answer takes.
    pub(super) timeout: Duration,
    keyring: Keyring,
    resolver: LocalResolver,
    client: HttpClient,
    end: Instant,
}

impl Probe {
    /// A client for `target`, which is not contacted yet.
    pub(super) fn new(target: Did, network: Network, timeout: Duration) -> Result<Self, String> {
        let client = HttpClient::new(&network)?;
        let end = Instant::now() + TOTAL;
        let (keyring, resolver) = (Keyring::new(), LocalResolver::new());
        Ok(Self { target, http: None, socket: None, network, timeout, keyring, resolver, client, end })
    }

    /// The present.
    pub(super) fn now(&self) -> UnixSeconds {
        SystemClock.now()
    }

    /// How long the next answer may take; nothing once the whole run is over.
    pub(super) fn patience(&self) -> Duration {
        self.timeout.min(self.end.saturating_duration_since(Instant::now()))
    }

    /// How long nothing must come for silence to be believed.
    pub(super) fn quiet(&self) -> Duration {
        self.patience().min(QUIET)
    }

    /// Reads the target's document and keeps its endpoints.
    pub(super) async fn find_endpoints(&mut self) -> Result<(), String> {
        let endpoints = self.endpoints_of(&self.target.clone()).await?;
        let with = |schemes: [&str; 2]| {
            endpoints.iter().find(|uri| schemes.iter().any(|scheme| uri.starts_with(scheme))).cloned()
        };
        self.http = with(["http://", "https://"]);
        self.socket = with(["ws://", "wss://"]);
        if self.http.is_none() {
            return Err("its document names no endpoint over HTTP".to_owned());
        }
        Ok(())
    }

    async fn endpoints_of(&self, did: &Did) -> Result<Vec<String>, String> {
        let document = match self.resolver.resolve(did) {
            Err(ResolveError::NotFetched { .. }) => {
                self.fetch(did).await?;
                self.resolver.resolve(did)
            }
            known => known,
        };
        let document = document.map_err(|error| error.to_string())?;
        let endpoints = document.didcomm_endpoints().filter(|endpoint| endpoint.routing_keys.is_empty());
        Ok(endpoints.map(|endpoint| endpoint.uri.clone()).collect())
    }

    /// Whether the target's document has a key messages can be encrypted to.
    pub(super) async fn can_be_encrypted_to(&self) -> Result<(), String> {
        let _ = self.endpoints_of(&self.target).await?;
        let document = self.resolver.resolve(&self.target).map_err(|error| error.to_string())?;
        let mut kinds = document.methods(Relationship::KeyAgreement).map(|method| method.key.kind());
        if kinds.any(|kind| kind == KeyKind::X25519) {
            return Ok(());
        }
        Err("the document has no key agreement key on X25519, the curve everybody has".to_owned())
    }

    async fn fetch(&self, did: &Did) -> Result<(), String> {
        let fetched = tokio::time::timeout(self.patience(), self.client.document(did)).await;
        let document = fetched.map_err(|_| "the DID document does not come in time".to_owned())?;
        self.resolver.remember(document.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn key(&self, kind: KeyKind) -> Result<(SecretKey, PublicKey), String> {
        let key = SecretKey::generate(kind, &SystemEntropy).map_err(|error| error.to_string())?;
        let public = key.public_key();
        Ok((key, public))
    }

    /// A fresh did:peer:2 reached at `endpoint`, with keys for agreement of `kind`, and an Ed25519 key.
    pub(super) fn stranger_at(&self, endpoint: &str) -> Result<Did, String> {
        let (agreement, public) = self.key(KeyKind::X25519)?;
        let (authentication, shown) = self.key(KeyKind::Ed25519)?;
        let keys = [(Relationship::KeyAgreement, public), (Relationship::Authentication, shown)];
        let service = Service::didcomm("#service", vec![Endpoint::didcomm(endpoint)]);
        let did = peer::two::create(&keys, &[service]).map_err(|error| error.to_string())?;
        self.keyring.insert(KeyId::new(format!("{did}#key-1")), agreement);
        self.keyring.insert(KeyId::new(format!("{did}#key-2")), authentication);
        Ok(did)
    }

    /// A fresh did:peer:2 that cannot be called.
    pub(super) fn stranger(&self) -> Result<Did, String> {
        self.stranger_at(QUEUE)
    }

    /// A fresh did:peer:4, in its long form, whose key for agreement is of `kind`.
    pub(super) fn stranger_peer_4(&self, kind: KeyKind) -> Result<Did, String> {
        let (agreement, public) = self.key(kind)?;
        let (authentication, shown) = self.key(KeyKind::Ed25519)?;
        let made = peer::four::InputDocument::new()
            .add_method("key-1", public, &[Relationship::KeyAgreement])
            .add_method("key-2", shown, &[Relationship::Authentication])
            .add_service(Service::didcomm("#service", vec![Endpoint::didcomm(QUEUE)]))
            .create()
            .map_err(|error| error.to_string())?;
        self.resolver.learn(&made.long).map_err(|error| error.to_string())?;
        self.keyring.insert(KeyId::new(format!("{}#key-1", made.short)), agreement);
        self.keyring.insert(KeyId::new(format!("{}#key-2", made.short)), authentication);
        Ok(made.long)
    }

    /// A fresh did:key on X25519.
    pub(super) fn stranger_key(&self) -> Result<Did, String> {
        let (agreement, public) = self.key(KeyKind::X25519)?;
        let did = did_key(&public);
        let fragment = did.method_specific_id().to_owned();
        let kid = DidUrl::new(&did, &fragment).map_err(|error| error.to_string())?;
        self.keyring.insert(kid.to_key_id(), agreement);
        Ok(did)
    }

    /// A message from `from` to `to` with a fresh id.
    pub(super) fn message(&self, kind: &str, from: &Did, to: &Did, body: &Value) -> Result<Message, String> {
        let id = MessageId::random(&SystemEntropy).map_err(|error| error.to_string())?;
        let kind = MessageType::parse(kind).map_err(|error| error.to_string())?;
        let mut message = Message::new(id, kind);
        message.from = Some(from.clone());
        message.to = vec![to.clone()];
        message.created_time = Some(self.now());
        message.body = body.as_object().cloned().unwrap_or_default();
        Ok(message)
    }

    /// A request to the target whose answer may come back on the connection.
    pub(super) fn request(&self, kind: &str, from: &Did, body: &Value) -> Result<Message, String> {
        let mut message = self.message(kind, from, &self.target, body)?;
        message.return_route = Some(ReturnRoute::All);
        Ok(message)
    }

    /// Packs a message for its first recipient.
    pub(super) async fn pack(
        &self,
        message: &Message,
        protection: SenderProtection,
    ) -> Result<Vec<u8>, String> {
        let to = message.to.first().cloned().unwrap_or_else(|| self.target.clone());
        let options = PackOptions::protecting(protection);
        self.packing(|packer| packer.pack(message, &to, &options).map(|packed| packed.bytes)).await
    }

    /// Encrypts whatever bytes to the target, `sender` proved.
    pub(super) async fn pack_raw(
        &self,
        plaintext: &[u8],
        sender: &Did,
        rule: Irregularity,
    ) -> Result<Vec<u8>, String> {
        self.packing(|packer| packer.authcrypt_unchecked(plaintext, sender, &self.target, rule)).await
    }

    async fn packing(
        &self,
        pack: impl Fn(&Packer<'_>) -> Result<Vec<u8>, PackError>,
    ) -> Result<Vec<u8>, String> {
        for _ in 0..MAX_FETCHES {
            let packer = Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &SystemEntropy };
            match pack(&packer) {
                Ok(bytes) => return Ok(bytes),
                Err(PackError::Resolve { source: ResolveError::NotFetched { did }, .. }) => {
                    self.fetch(&did).await?;
                }
                Err(error) => return Err(format!("our side cannot pack the message: {error}")),
            }
        }
        Err("too many documents must be fetched".to_owned())
    }

    /// Opens an envelope for any of our identities.
    pub(super) async fn open(&self, bytes: &[u8]) -> Result<Opened, String> {
        for _ in 0..MAX_FETCHES {
            let context = OpenContext {
                custody: &self.keyring,
                resolver: &self.resolver,
                now: self.now(),
                accept_plaintext: false,
                layers: LayerPolicy::Tolerant,
            };
            match open(bytes, &context) {
                Ok(opened) => return Ok(opened),
                Err(OpenError::Resolve { source: ResolveError::NotFetched { did }, .. }) => {
                    self.fetch(&did).await?;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("too many documents must be fetched".to_owned())
    }

    /// Posts bytes to the target's endpoint and opens what comes back.
    pub(super) async fn post(&self, bytes: Vec<u8>, media_type: &str) -> Answer {
        let Some(uri) = &self.http else { return Answer::lost("there is no HTTP endpoint") };
        self.post_to(uri, bytes, media_type).await
    }

    async fn post_to(&self, uri: &str, bytes: Vec<u8>, media_type: &str) -> Answer {
        let exchange = self.client.exchange(uri, media_type, bytes);
        match tokio::time::timeout(self.patience(), exchange).await {
            Err(_) => Answer::lost("no answer in time"),
            Ok(Err(error)) => Answer::lost(&error.to_string()),
            Ok(Ok((status, media_type, body))) => {
                Answer { status: Some(status), media_type, heard: self.hear(&body).await }
            }
        }
    }

    /// What bytes that came say.
    pub(super) async fn hear(&self, body: &[u8]) -> Heard {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Heard::Nothing;
        }
        match self.open(body).await {
            Ok(opened) => Heard::Message(Box::new(opened)),
            Err(problem) => Heard::Unreadable(problem),
        }
    }

    /// Sends a message, sender proved.
    pub(super) async fn say(&self, message: &Message) -> Answer {
        self.say_as(message, SenderProtection::Authcrypt).await
    }

    /// Sends a message, protected as told.
    pub(super) async fn say_as(&self, message: &Message, protection: SenderProtection) -> Answer {
        match self.pack(message, protection).await {
            Ok(bytes) => self.post(bytes, ENCRYPTED_MEDIA_TYPE).await,
            Err(problem) => Answer::lost(&problem),
        }
    }

    /// Sends an envelope to where `did`, a mediator, is reached.
    pub(super) async fn send_to(&self, did: &Did, bytes: Vec<u8>) -> Answer {
        if did.same_as(&self.target) {
            return self.post(bytes, ENCRYPTED_MEDIA_TYPE).await;
        }
        let endpoints = self.endpoints_of(did).await.unwrap_or_default();
        match endpoints.iter().find(|uri| uri.starts_with("http")) {
            Some(uri) => self.post_to(uri, bytes, ENCRYPTED_MEDIA_TYPE).await,
            None => self.post(bytes, ENCRYPTED_MEDIA_TYPE).await,
        }
    }

    /// Asks the target as `from` and takes the answer off the connection.
    pub(super) async fn ask(&self, kind: &str, from: &Did, body: &Value) -> Answer {
        match self.request(kind, from, body) {
            Ok(message) => self.say(&message).await,
            Err(problem) => Answer::lost(&problem),
        }
    }

    /// As [`Probe::ask`]; the answer must be of one of `kinds`, and prove to come from the target.
    pub(super) async fn get(
        &self,
        kind: &str,
        from: &Did,
        body: &Value,
        kinds: &[&str],
    ) -> Result<Message, String> {
        self.ask(kind, from, body).await.expect(kinds, &self.target)
    }
}
