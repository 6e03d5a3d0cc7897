//! A wallet by another maker, driven by hand: it sends what an attacker, or a phone that breaks its own rules, would.

use einmal_credentials::proof;
use einmal_did::{Did, LocalResolver, Relationship, ResolveError, peer};
use einmal_didcomm::{
    LayerPolicy, Message, MessageId, OpenContext, OpenError, Opened, PackError, PackOptions, Packer,
    ReturnRoute, ThreadId, UnixSeconds, deliveries, open,
};
use einmal_flows::{
    Draft, Received, formats::DcqlPresentation, issue_credential::holder, out_of_band::Invitation,
    present_proof::prover,
};
use einmal_keys::{KeyId, KeyKind, Keyring, SecretKey, SystemEntropy};

use crate::{
    clock::{Clock, SystemClock},
    config::Network,
    net::client::HttpClient,
    transport::{Fetcher, Transport},
};

/// Name of the wallet's own holder key.
const HOLDER_KEY: &str = "holder:foreign";
/// Most messages of one exchange.
const MAX_STEPS: usize = 8;

/// What a verifier asks, as the wallet needs it for its answer.
pub(super) struct Asked {
    pub(super) nonce: String,
    pub(super) client_id: String,
}

/// The wallet: keys, one DID without an endpoint, and a connection out.
pub(super) struct ForeignWallet {
    pub(super) keyring: Keyring,
    pub(super) holder: KeyId,
    did: Did,
    resolver: LocalResolver,
    client: HttpClient,
}

impl ForeignWallet {
    pub(super) fn new() -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let key = |kind| SecretKey::generate(kind, &SystemEntropy).map_err(|error| text(&error));
        let (agreement, authentication) = (key(KeyKind::X25519)?, key(KeyKind::Ed25519)?);
        let made = peer::four::InputDocument::new()
            .add_method("key-1", agreement.public_key(), &[Relationship::KeyAgreement])
            .add_method("key-2", authentication.public_key(), &[Relationship::Authentication])
            .create()
            .map_err(|error| text(&error))?;
        let keyring = Keyring::new();
        keyring.insert(KeyId::new(format!("{}#key-1", made.short)), agreement);
        keyring.insert(KeyId::new(format!("{}#key-2", made.short)), authentication);
        let holder = KeyId::new(HOLDER_KEY);
        keyring.insert(holder.clone(), key(KeyKind::P256)?);
        let network = Network { allow_private: true, allow_http: true };
        let client = HttpClient::new(&network)?;
        Ok(Self { keyring, holder, did: made.long, resolver: LocalResolver::new(), client })
    }

    fn now(&self) -> UnixSeconds {
        SystemClock.now()
    }

    /// Takes the card an invitation offers, as its rightful holder, and returns its text.
    pub(super) async fn take_card(&self, url: &str) -> Result<String, String> {
        let invitation = Invitation::from_url(url).map_err(|error| error.to_string())?;
        let (thid, own, issuer) = self.begin(&invitation)?;
        let (mut machine, actions) =
            holder::Holder::propose(own, issuer, thid, Some(invitation.thread()), self.now());
        let mut todo = std::collections::VecDeque::from(actions);
        let mut card = None;
        for _ in 0..4 * MAX_STEPS {
            let Some(action) = todo.pop_front() else { break };
            match action {
                holder::Action::Send(draft) => {
                    let Some(answer) = self.post(draft, &invitation.from).await? else { continue };
                    let rx = Received::of(&answer).ok_or("an answer without proved sender")?;
                    todo.extend(
                        machine.handle(holder::Event::Message(&rx), self.now()).map_err(|e| e.to_string())?,
                    );
                }
                holder::Action::ShowOffer(offer) => {
                    let proof_jwt =
                        proof::prove(&self.keyring, &self.holder, &offer.aud, &offer.nonce, self.now().0)
                            .map_err(|error| error.to_string())?;
                    let event = holder::Event::Accepted { proof_jwt };
                    todo.extend(machine.handle(event, self.now()).map_err(|e| e.to_string())?);
                }
                holder::Action::Verify { credentials } => {
                    card = credentials.into_iter().next();
                    todo.extend(
                        machine.handle(holder::Event::Verified, self.now()).map_err(|e| e.to_string())?,
                    );
                }
                _ => {}
            }
        }
        card.ok_or_else(|| "no card came".into())
    }

    /// Answers a request with whatever `make` produces; the verifier gives the verdict.
    pub(super) async fn answer(
        &self,
        url: &str,
        make: impl Fn(&Asked) -> Result<DcqlPresentation, String>,
    ) -> Result<(), String> {
        let invitation = Invitation::from_url(url).map_err(|error| error.to_string())?;
        let (thid, own, verifier) = self.begin(&invitation)?;
        let (mut machine, actions) =
            prover::Prover::propose(own, verifier, thid, Some(invitation.thread()), self.now());
        let mut todo = std::collections::VecDeque::from(actions);
        for _ in 0..4 * MAX_STEPS {
            let Some(action) = todo.pop_front() else { break };
            match action {
                prover::Action::Send(draft) => {
                    let Some(answer) = self.post(draft, &invitation.from).await? else { continue };
                    let rx = Received::of(&answer).ok_or("an answer without proved sender")?;
                    // After the presentation comes the verdict, which the verifier's own record tells.
                    if let Ok(next) = machine.handle(prover::Event::Message(&rx), self.now()) {
                        todo.extend(next);
                    }
                }
                prover::Action::ShowRequest(request) => {
                    let asked = Asked { nonce: request.nonce, client_id: request.client_id };
                    let event = prover::Event::Present { vp: make(&asked)? };
                    todo.extend(machine.handle(event, self.now()).map_err(|e| e.to_string())?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn begin(&self, invitation: &Invitation) -> Result<(ThreadId, Did, Did), String> {
        let thid = MessageId::random(&SystemEntropy).map_err(|error| error.to_string())?.to_thread();
        Ok((thid, self.did.canonical(), invitation.from.canonical()))
    }

    /// Posts a message and opens the answer that comes back on the same connection, if any.
    async fn post(&self, draft: Draft, to: &Did) -> Result<Option<Opened>, String> {
        let draft = draft.returning(ReturnRoute::All);
        let message = draft
            .into_message(&self.did, to, self.now(), &SystemEntropy)
            .map_err(|error| error.to_string())?;
        let mut failure = "no endpoint".to_owned();
        for (uri, bytes) in self.pack(&message, to).await? {
            match self.client.send(&uri, bytes).await {
                Ok(Some(reply)) => return self.open(&reply).await.map(Some),
                Ok(None) => return Ok(None),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(failure)
    }

    async fn pack(&self, message: &Message, to: &Did) -> Result<Vec<(String, Vec<u8>)>, String> {
        let packer = Packer { custody: &self.keyring, resolver: &self.resolver, entropy: &SystemEntropy };
        loop {
            let packed = packer
                .pack(message, to, &PackOptions::default())
                .and_then(|packed| deliveries(&packer, &packed, None));
            match packed {
                Ok(ways) => return Ok(ways.into_iter().map(|way| (way.uri, way.bytes)).collect()),
                Err(PackError::Resolve { source: ResolveError::NotFetched { did }, .. }) => {
                    self.fetch(&did).await?
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn open(&self, bytes: &[u8]) -> Result<Opened, String> {
        loop {
            let context = OpenContext {
                custody: &self.keyring,
                resolver: &self.resolver,
                now: self.now(),
                accept_plaintext: false,
                layers: LayerPolicy::Strict,
            };
            match open(bytes, &context) {
                Ok(opened) => return Ok(opened),
                Err(OpenError::Resolve { source: ResolveError::NotFetched { did }, .. }) => {
                    self.fetch(&did).await?
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn fetch(&self, did: &Did) -> Result<(), String> {
        let document = self.client.document(did).await.map_err(|error| error.to_string())?;
        self.resolver.remember(document);
        Ok(())
    }
}
