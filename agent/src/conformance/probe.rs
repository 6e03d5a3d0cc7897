//! The client of the suite: throw-away identities in memory, envelopes, and exchanges that end in time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use einmal_did::{
    Did, DidDocument, DidUrl, Endpoint, LocalResolver, Relationship, ResolveError, Resolver, Service,
    did_key, peer,
};
use einmal_didcomm::{
    Envelope, Irregularity, LayerPolicy, Message, MessageId, MessageType, OpenContext, OpenError, Opened,
    PackError, PackOptions, Packer, ReturnRoute, SenderProtection, ThreadId, UnixSeconds, open,
};
use einmal_keys::{KeyId, KeyKind, Keyring, PublicKey, SecretKey, SystemEntropy};
use serde_json::Value;

use super::{
    answer::{self, Answer, Heard},
    outcome::{Outcome, Problem, holds},
    socket::Sockets,
};
use crate::{
    clock::{Clock, SystemClock},
    config::Network,
    net::client::HttpClient,
    transport::Fetcher,
};

/// Endpoint of an identity that cannot be called.
pub(super) const QUEUE: &str = "didcomm:transport/queue";
/// Longest silence that counts as an answer: what must not come has had this long to come.
const QUIET: Duration = Duration::from_millis(1500);
/// Most documents fetched to pack or open one message.
const MAX_FETCHES: usize = 4;
/// Most attempts at one requirement while the target, or a gateway before it, fails inside.
const MAX_LOOKS: usize = 3;
/// Every DIDComm v2.1 agent has a key agreement key on one of these curves that are not deprecated.
const LASTING_CURVES: [KeyKind; 2] = [KeyKind::X25519, KeyKind::P384];
/// Curves on which we can agree on keys, the most common first.
const USABLE_CURVES: [KeyKind; 4] = [KeyKind::X25519, KeyKind::P384, KeyKind::P256, KeyKind::P521];

/// The target, and everything needed to talk to it as many different strangers.
pub(super) struct Probe {
    /// The target's DID.
    pub(super) target: Did,
    /// Its HTTP endpoint, if it has one that leads to it directly.
    pub(super) http: Option<String>,
    /// Its WebSocket endpoint, if it has one that leads to it directly.
    pub(super) socket: Option<String>,
    /// Whether it is reached only through mediators of its own: then answers cannot come back on the connection.
    pub(super) behind_hops: bool,
    /// What it may connect to.
    pub(super) network: Network,
    /// Longest an answer takes.
    pub(super) timeout: Duration,
    /// The thread all messages to the target have as their parent: that of its invitation, if it wants one.
    pub(super) parent: Option<ThreadId>,
    /// The curve of our identities' agreement keys.
    pub(super) curve: KeyKind,
    pub(super) client: HttpClient,
    pub(super) keyring: Keyring,
    pub(super) resolver: LocalResolver,
    /// The target's DID for each identity of ours: it may rotate for each.
    peers: Mutex<BTreeMap<Did, Did>>,
    /// Whether its WebSockets open.
    pub(super) sockets: Sockets,
    /// How often the target, or a gateway before it, failed inside.
    failures: AtomicU32,
    /// Whether the ids of the target's messages have the required form; `None` before any came.
    ids: Mutex<Option<Outcome>>,
    end: Instant,
}

impl Probe {
    /// A client for `target`, which is not contacted yet; it waits for nothing after `end`.
    pub(super) fn new(
        target: Did,
        network: Network,
        timeout: Duration,
        end: Instant,
    ) -> Result<Self, String> {
        Ok(Self {
            target,
            http: None,
            socket: None,
            behind_hops: false,
            client: HttpClient::new(&network)?,
            network,
            timeout,
            parent: None,
            curve: KeyKind::X25519,
            keyring: Keyring::new(),
            resolver: LocalResolver::new(),
            peers: Mutex::default(),
            sockets: Sockets::default(),
            failures: AtomicU32::new(0),
            ids: Mutex::default(),
            end,
        })
    }

    /// The present.
    pub(super) fn now(&self) -> UnixSeconds {
        SystemClock.now()
    }

    /// How long the next answer may take; zero once the whole run is over.
    pub(super) fn patience(&self) -> Duration {
        self.timeout.min(self.end.saturating_duration_since(Instant::now()))
    }

    /// How long silence must last to be believed.
    pub(super) fn quiet(&self) -> Duration {
        self.patience().min(QUIET)
    }

    /// The time left for the whole run.
    pub(super) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Weighs an answer, and counts it if something failed inside.
    pub(super) fn noted(&self, answer: Answer) -> Answer {
        let answer = answer.weighed();
        if matches!(answer.heard, Heard::Failed(_)) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// How often the target, or a gateway before it, failed inside so far.
    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Checks something, and repeats the check from the start if a failure inside the target or a gateway may explain
    /// its result.
    pub(super) async fn again<T, F: Future<Output = Outcome<T>>>(
        &self,
        mut look: impl FnMut() -> F,
    ) -> Outcome<T> {
        for _ in 0..MAX_LOOKS {
            let before = self.failures();
            let found = look().await;
            if found.is_ok() || self.failures() == before {
                return found;
            }
        }
        Err(Problem::Unknown("the target, or a gateway before it, failed whenever it was tried".to_owned()))
    }

    /// Looks at what much else depends on, and once more from the start if nothing could be concluded.
    pub(super) async fn twice<T, F: Future<Output = Outcome<T>>>(
        &self,
        mut look: impl FnMut() -> F,
    ) -> Outcome<T> {
        match look().await {
            Err(problem) if problem.is_unknown() => look().await,
            known => known,
        }
    }

    /// Who the target is for `me`: itself, or the DID it proved to have rotated to.
    pub(super) fn peer_of(&self, me: &Did) -> Did {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(&me.canonical()).unwrap_or(&self.target).clone()
    }

    /// Whether the target rotated its DID for any of us.
    pub(super) fn rotated(&self) -> bool {
        !self.peers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether a message provably comes from the target, or from the DID it has for the recipient now.
    pub(super) fn is_from_target(&self, opened: &Opened) -> bool {
        let (Some(sender), Some(me)) = (opened.sender(), opened.recipient()) else { return false };
        opened.is_authenticated() && (sender.same_as(&self.target) || sender.same_as(&self.peer_of(me)))
    }

    /// Records the target's new DID, if it was the target that rotated.
    fn follow(&self, opened: &Opened) {
        let (Some(rotation), Some(me)) = (&opened.proof.rotation, opened.recipient()) else { return };
        let known = rotation.prior.same_as(&self.target) || rotation.prior.same_as(&self.peer_of(me));
        let Some(new) = rotation.new.as_ref().filter(|_| known) else { return };
        if opened.sender().is_some_and(|sender| sender.same_as(new)) {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            peers.insert(me.canonical(), new.clone());
        }
    }

    /// Checks the form of the id of a message from the target.
    fn note_id(&self, opened: &Opened) {
        if !self.is_from_target(opened) {
            return;
        }
        let id = &opened.message.id;
        let form = holds(id.is_regular(), || format!("the id `{id}` holds other characters"));
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        *ids = Some(ids.take().unwrap_or(Ok(())).and(form));
    }

    /// Whether all ids of the target's messages have the required form; `None` if none came.
    pub(super) fn ids(&self) -> Option<Outcome> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The document of a DID, fetched if it must be.
    pub(super) async fn document(&self, did: &Did) -> Outcome<Arc<DidDocument>> {
        let document = match self.resolver.resolve(did) {
            Err(ResolveError::NotFetched { .. }) => {
                self.fetch(did).await?;
                self.resolver.resolve(did)
            }
            known => known,
        };
        document.map_err(|error| error.to_string().into())
    }

    /// Chooses the curve of our identities by the target's keys; returns whether there is one, and whether the target
    /// has a key on a curve that lasts.
    pub(super) async fn choose_curve(&mut self) -> Outcome<Outcome> {
        let document = self.document(&self.target).await?;
        let kinds: Vec<KeyKind> =
            document.methods(Relationship::KeyAgreement).map(|method| method.key.kind()).collect();
        let first = kinds.iter().find(|kind| USABLE_CURVES.contains(kind));
        let everybodys = kinds.iter().find(|kind| **kind == KeyKind::X25519);
        let chosen =
            everybodys.or(first).ok_or("the document has no key agreement key on a curve of DIDComm")?;
        self.curve = *chosen;
        let lasting = kinds.iter().any(|kind| LASTING_CURVES.contains(kind));
        Ok(holds(lasting, || "its key agreement keys lie on other curves".to_owned()))
    }

    async fn fetch(&self, did: &Did) -> Outcome {
        let fetched = tokio::time::timeout(self.patience(), self.client.document(did)).await;
        let document = fetched.map_err(|_| "the DID document does not come in time")?;
        self.resolver.remember(document.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// A fresh key.
    pub(super) fn key(&self, kind: KeyKind) -> Outcome<(SecretKey, PublicKey)> {
        let key = SecretKey::generate(kind, &SystemEntropy).map_err(own)?;
        let public = key.public_key();
        Ok((key, public))
    }

    /// A fresh did:peer:2 reached at `endpoint`, with an Ed25519 key and an agreement key on X25519, and another on the
    /// target's curve if the target has none on X25519.
    pub(super) fn stranger_at(&self, endpoint: &str) -> Outcome<Did> {
        let mut kinds = vec![KeyKind::X25519];
        kinds.extend(Some(self.curve).filter(|curve| *curve != KeyKind::X25519));
        kinds.push(KeyKind::Ed25519);
        let (mut secrets, mut shown) = (Vec::new(), Vec::new());
        for kind in kinds {
            let (secret, public) = self.key(kind)?;
            let agrees = kind != KeyKind::Ed25519;
            let purpose = if agrees { Relationship::KeyAgreement } else { Relationship::Authentication };
            secrets.push(secret);
            shown.push((purpose, public));
        }
        let service = Service::didcomm("#service", vec![Endpoint::didcomm(endpoint)]);
        let did = peer::two::create(&shown, &[service]).map_err(own)?;
        for (number, secret) in (1..).zip(secrets) {
            self.keyring.insert(KeyId::new(format!("{did}#key-{number}")), secret);
        }
        Ok(did)
    }

    /// A fresh did:peer:2 that cannot be called.
    pub(super) fn stranger(&self) -> Outcome<Did> {
        self.stranger_at(QUEUE)
    }

    /// A fresh did:peer:4, in its long form, whose key for agreement is of `kind`.
    pub(super) fn stranger_peer_4(&self, kind: KeyKind) -> Outcome<Did> {
        let (agreement, public) = self.key(kind)?;
        let (authentication, shown) = self.key(KeyKind::Ed25519)?;
        let made = peer::four::InputDocument::new()
            .add_method("key-1", public, &[Relationship::KeyAgreement])
            .add_method("key-2", shown, &[Relationship::Authentication])
            .add_service(Service::didcomm("#service", vec![Endpoint::didcomm(QUEUE)]))
            .create()
            .map_err(own)?;
        self.resolver.learn(&made.long).map_err(own)?;
        self.keyring.insert(KeyId::new(format!("{}#key-1", made.short)), agreement);
        self.keyring.insert(KeyId::new(format!("{}#key-2", made.short)), authentication);
        Ok(made.long)
    }

    /// A fresh did:key on the curve that suits the target.
    pub(super) fn stranger_key(&self) -> Outcome<Did> {
        let (agreement, public) = self.key(self.curve)?;
        let did = did_key(&public);
        let fragment = did.method_specific_id().to_owned();
        let kid = DidUrl::new(&did, &fragment).map_err(own)?;
        self.keyring.insert(kid.to_key_id(), agreement);
        Ok(did)
    }

    /// A message from `from` to `to` with a fresh id.
    pub(super) fn message(&self, kind: &str, from: &Did, to: &Did, body: &Value) -> Outcome<Message> {
        let id = MessageId::random(&SystemEntropy).map_err(own)?;
        let kind = MessageType::parse(kind).map_err(own)?;
        let mut message = Message::new(id, kind);
        message.from = Some(from.clone());
        message.to = vec![to.clone()];
        message.created_time = Some(self.now());
        message.body = body.as_object().cloned().unwrap_or_default();
        message.pthid = self.parent.clone().filter(|_| to.same_as(&self.peer_of(from)));
        Ok(message)
    }

    /// A request to the target whose answer may come back on the connection.
    pub(super) fn request(&self, kind: &str, from: &Did, body: &Value) -> Outcome<Message> {
        let mut message = self.message(kind, from, &self.peer_of(from), body)?;
        message.return_route = Some(ReturnRoute::All);
        Ok(message)
    }

    /// Packs a message for its first recipient.
    pub(super) async fn pack(&self, message: &Message, protection: SenderProtection) -> Outcome<Vec<u8>> {
        let to = message.to.first().cloned().unwrap_or_else(|| self.target.clone());
        let options = PackOptions::protecting(protection);
        self.packing(|packer| packer.pack(message, &to, &options).map(|packed| packed.bytes)).await
    }

    /// Encrypts arbitrary bytes to the target, with `sender` proved.
    pub(super) async fn pack_raw(
        &self,
        plaintext: &[u8],
        sender: &Did,
        rule: Irregularity,
    ) -> Outcome<Vec<u8>> {
        let peer = self.peer_of(sender);
        self.packing(|packer| packer.authcrypt_unchecked(plaintext, sender, &peer, rule)).await
    }

    /// Packs, fetching the documents that are needed. Our own failure to pack says nothing about the target.
    pub(super) async fn packing<T>(&self, pack: impl Fn(&Packer<'_>) -> Result<T, PackError>) -> Outcome<T> {
        for _ in 0..MAX_FETCHES {
            let packer = Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &SystemEntropy };
            match pack(&packer) {
                Ok(packed) => return Ok(packed),
                Err(PackError::Resolve { source: ResolveError::NotFetched { did }, .. }) => {
                    self.fetch(&did).await?;
                }
                Err(error) => {
                    return Err(Problem::Unknown(format!("our side cannot pack the message: {error}")));
                }
            }
        }
        Err(Problem::Unknown("too many documents must be fetched".to_owned()))
    }

    /// Opens an envelope for any of our identities.
    pub(super) async fn open(&self, bytes: &[u8]) -> Outcome<Opened> {
        for _ in 0..MAX_FETCHES {
            let context = OpenContext {
                custody: &self.keyring,
                resolver: &self.resolver,
                now: self.now(),
                accept_plaintext: false,
                layers: LayerPolicy::Tolerant,
            };
            match open(bytes, &context) {
                Ok(opened) => {
                    self.follow(&opened);
                    self.note_id(&opened);
                    return Ok(opened);
                }
                Err(OpenError::Resolve { source: ResolveError::NotFetched { did }, .. }) => {
                    self.fetch(&did).await?;
                }
                Err(error) => return Err(error.to_string().into()),
            }
        }
        Err("too many documents must be fetched".into())
    }

    /// What received bytes say.
    pub(super) async fn hear(&self, body: &[u8]) -> Heard {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Heard::Nothing;
        }
        match self.open(body).await {
            Ok(opened) => Heard::Message(Box::new(opened)),
            Err(_) if Envelope::classify(body).is_err() => Heard::Noise,
            Err(problem) => {
                answer::bare(body).map_or_else(|| Heard::Unreadable(problem.to_string()), Heard::Bare)
            }
        }
    }

    /// Asks the target as `from` and takes the answer off the connection.
    pub(super) async fn ask(&self, kind: &str, from: &Did, body: &Value) -> Answer {
        match self.request(kind, from, body) {
            Ok(message) => self.say(&message).await,
            Err(problem) => Answer::lost(problem),
        }
    }

    /// As [`Probe::ask`]; the answer's type must be one of `kinds`, and it must provably come from the target.
    pub(super) async fn get(&self, kind: &str, from: &Did, body: &Value, kinds: &[&str]) -> Outcome<Message> {
        self.ask(kind, from, body).await.expect(kinds, self)
    }

    /// As [`Probe::get`]; also returns whether the answer names the request as its thread.
    pub(super) async fn get_with_thread(
        &self,
        kind: &str,
        from: &Did,
        body: &Value,
        kinds: &[&str],
    ) -> Outcome<(Message, Outcome)> {
        let request = self.request(kind, from, body)?;
        let message = self.say(&request).await.expect(kinds, self)?;
        let threaded = in_thread(&message, &request);
        Ok((message, threaded))
    }
}

/// Checks that a message names `request` as its thread.
pub(super) fn in_thread(message: &Message, request: &Message) -> Outcome {
    holds(message.thid.as_ref() == Some(&request.thread()), || "thid is not the id of the request".to_owned())
}

/// A failure on our own side says nothing about the target.
pub(super) fn own(error: impl std::fmt::Display) -> Problem {
    Problem::Unknown(format!("our own side fails: {error}"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn probe() -> Probe {
        let network = Network { allow_private: true, allow_http: true };
        let end = Instant::now() + Duration::from_secs(60);
        Probe::new(Did::parse("did:web:localhost").unwrap(), network, Duration::from_secs(5), end).unwrap()
    }

    /// The final result of a check with this first result, failing inside or not, and how often the check runs.
    async fn looks(first: Outcome, fails: bool) -> (Outcome, u32) {
        let (probe, looks) = (probe(), Cell::new(0));
        let found = probe.again(async || {
            looks.set(looks.get() + 1);
            if looks.get() > 1 {
                return Ok(());
            }
            if fails {
                let heard = Heard::Failed("status 502".to_owned());
                probe.noted(Answer { status: Some(502), media_type: None, heard });
            }
            first.clone()
        });
        (found.await, looks.get())
    }

    #[tokio::test]
    async fn what_was_found_amiss_is_looked_at_again_only_if_something_failed_inside_meanwhile() {
        let amiss = || Err(Problem::Broken("2 letters instead of 1".to_owned()));
        assert_eq!(looks(amiss(), true).await, (Ok(()), 2));
        assert_eq!(looks(amiss(), false).await, (amiss(), 1));
        assert_eq!(looks(Ok(()), true).await, (Ok(()), 1));
    }

    #[tokio::test]
    async fn what_fails_inside_at_every_look_stays_unknown() {
        let probe = probe();
        let found: Outcome = probe
            .again(async || {
                let heard = Heard::Failed("status 504".to_owned());
                probe.noted(Answer { status: Some(504), media_type: None, heard });
                Err("no letter".into())
            })
            .await;
        assert!(found.is_err_and(|problem| problem.is_unknown()));
        assert_eq!(probe.failures() as usize, MAX_LOOKS);
    }
}
