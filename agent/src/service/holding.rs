//! Holding: offers are taken or declined, cards are checked and kept, each bound to a key of its own.

use einmal_credentials::{
    proof,
    status_list::{Status, StatusError, StatusSource},
    vc::{HeldCredential, IssuedExpectation, KeyLookupError, StatusReference, VerifyError, accept_issued},
};
use einmal_did::Did;
use einmal_didcomm::{ProblemCode, UnixSeconds};
use einmal_flows::issue_credential::holder::{Action, Event, Holder, OfferView};
use einmal_keys::{KeyId, KeyKind, SecretKey, SignatureAlgorithm};
use einmal_storage::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    exchange::{Exchange, Job, Work},
    keys::DidIssuerKeys,
    shown::{Decision, check_shown, shown_code, with_shown_name},
    status::KnownLists,
};
use crate::handler::{self, Effects, Failure, Handled, Need, Shared};

/// The exchange must admit the same proofs as the verification: neither crate knows the other's bound.
const _: () = assert!(einmal_flows::limits::MAX_PROOF_JWT_LEN == proof::MAX_PROOF_BYTES);

/// Cards, by their id.
const CARDS: Table = Table::new("card");
/// Most cards of one wallet read.
const MAX_CARDS: usize = 10_000;

/// What a holding exchange is about.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct HoldJob {
    /// Take the offer without asking.
    #[serde(default)]
    pub(crate) auto: bool,
    /// The one request that came before the offer was answered without asking; records of earlier versions do not say.
    #[serde(default)]
    pub(crate) proof_given: bool,
    /// The offer as it is shown.
    #[serde(default)]
    offer: Option<ShownOffer>,
    /// The key the card will be bound to.
    #[serde(default)]
    holder_key: Option<String>,
    /// Cards received.
    #[serde(default)]
    cards: Vec<String>,
    /// Why it ended without a card, as a code of ours or of the issuer's.
    #[serde(default)]
    reason: Option<String>,
}

/// An offer as stored. Holds personal data.
#[derive(Clone, Serialize, Deserialize)]
struct ShownOffer {
    vct: String,
    nonce: String,
    aud: String,
    /// Algorithms the holder's key may have.
    #[serde(default)]
    alg: Vec<String>,
    comment: Option<String>,
    preview: Vec<(String, String)>,
}

impl ShownOffer {
    /// The kind of key the card can be bound to, with its algorithm as the issuer names it; `None` if the issuer
    /// accepts none that we support.
    fn key_kind(&self) -> Option<(KeyKind, &str)> {
        let called = |algorithm: SignatureAlgorithm| {
            self.alg.iter().find(|name| SignatureAlgorithm::from_name(name) == Some(algorithm))
        };
        if self.alg.is_empty() {
            return Some((KeyKind::P256, SignatureAlgorithm::Es256.name()));
        }
        [(KeyKind::P256, SignatureAlgorithm::Es256), (KeyKind::Ed25519, SignatureAlgorithm::EdDsa)]
            .into_iter()
            .find_map(|(kind, algorithm)| Some((kind, called(algorithm)?.as_str())))
    }
}

impl HoldJob {
    pub(crate) fn new(auto: bool) -> Self {
        Self { auto, ..Self::default() }
    }
}

/// A holding exchange.
pub(crate) type Holding = Exchange<Job<Holder, HoldJob>>;

/// A card as stored. Holds personal data.
#[derive(Clone, Serialize, Deserialize)]
struct StoredCard {
    text: String,
    holder_key: String,
    from: Did,
    received: UnixSeconds,
}

/// A card with the name of its key.
pub(crate) struct Card {
    pub(crate) id: String,
    pub(crate) credential: HeldCredential,
    pub(crate) holder_key: KeyId,
    received: UnixSeconds,
}

/// Feeds an event into the machine and carries out what follows.
pub(crate) fn handle(
    shared: &Shared,
    exchange: &mut Holding,
    event: Event<'_>,
    fx: &mut Effects<'_>,
) -> Handled {
    let actions = exchange.work.machine.handle(event, fx.now())?;
    carry_out(shared, exchange, actions, fx)
}

/// Carries out actions of the machine.
pub(crate) fn carry_out(
    shared: &Shared,
    exchange: &mut Holding,
    actions: Vec<Action>,
    fx: &mut Effects<'_>,
) -> Handled {
    for action in actions {
        match action {
            Action::Send(draft) => exchange.send(draft, fx)?,
            Action::WakeAt(at) => exchange.wake(at, fx)?,
            // The peer that offers must be the issuer: an offer in another's name is declined unseen.
            Action::ShowOffer(view)
                if !Did::parse(&view.aud).is_ok_and(|aud| aud.same_as(&exchange.theirs)) =>
            {
                tracing::warn!("an offer names another issuer than its sender and was declined");
                handle(shared, exchange, Event::Declined, fx)?;
            }
            Action::ShowOffer(view) => {
                let offer = shown(view);
                if offer.key_kind().is_none() {
                    tracing::warn!("an offer for keys of a kind that is not made here was declined");
                    handle(shared, exchange, Event::Declined, fx)?;
                    continue;
                }
                exchange.work.job.offer = Some(offer);
                if exchange.work.job.auto {
                    decide(shared, exchange, Decision::AgreedBefore, fx)?;
                }
            }
            Action::Verify { credentials } => {
                let event = keep(shared, exchange, &credentials, fx)?;
                handle(shared, exchange, event, fx)?;
            }
            // What was shown is needed no longer; the card itself is kept.
            Action::Ended(outcome) => {
                exchange.work.job.offer = None;
                exchange.work.job.reason = outcome.failure().as_ref().map(shown_code);
            }
        }
    }
    Ok(())
}

fn shown(view: OfferView) -> ShownOffer {
    ShownOffer {
        vct: view.vct,
        nonce: view.nonce,
        aud: view.aud,
        alg: view.alg,
        comment: view.comment,
        preview: view.preview,
    }
}

/// Takes or declines the offer that was shown.
pub(crate) fn decide(
    shared: &Shared,
    exchange: &mut Holding,
    decision: Decision<'_>,
    fx: &mut Effects<'_>,
) -> Handled {
    let Some(offer) = exchange.work.job.offer.clone() else {
        return Err(Failure::user("there is no offer to decide about yet"));
    };
    match decision {
        Decision::Decline => return handle(shared, exchange, Event::Declined, fx),
        Decision::AgreeTo(shown) => check_shown(shown, &view(exchange, &offer))?,
        Decision::AgreedBefore => {}
    }
    let Some((kind, alg)) = offer.key_kind() else {
        return Err(Failure::internal("an offer was shown that no key here fits"));
    };
    // Each card has a key of its own, so that cards cannot be linked by it.
    let name = shared.fresh_id()?;
    let kid = KeyId::new(format!("holder:{name}"));
    let key = SecretKey::generate(kind, shared.entropy()).map_err(Failure::entropy)?;
    handler::keep_key(fx, &shared.keyring, kid.clone(), key)?;
    exchange.work.job.holder_key = Some(kid.as_str().to_owned());
    let proof_jwt =
        proof::prove_by_name(shared.custody(), (&kid, alg), &offer.aud, &offer.nonce, shared.now().0)
            .map_err(Failure::key)?;
    handle(shared, exchange, Event::Accepted { proof_jwt }, fx)
}

/// Checks what was issued against what was offered, and keeps it.
fn keep(
    shared: &Shared,
    exchange: &mut Holding,
    credentials: &[String],
    fx: &mut Effects<'_>,
) -> Result<Event<'static>, Failure> {
    let job = &exchange.work.job;
    let (Some(offer), Some(kid)) = (job.offer.clone(), job.holder_key.clone()) else {
        return Ok(Event::Rejected { code: ProblemCode::REQUEST });
    };
    let kid = KeyId::new(kid);
    let Some(holder) = shared.custody().public_key(&kid) else {
        return Ok(Event::Rejected { code: ProblemCode::INTERNAL });
    };
    for text in credentials {
        let keys = DidIssuerKeys::new(&shared.resolver);
        let expected = IssuedExpectation::new(&offer.aud, &offer.vct, &holder, shared.now().0);
        match accept_issued(text, &expected, &keys) {
            Ok(_) => {}
            // The card stays where it is until the issuer can be asked again: refusing it would lose it for good.
            Err(VerifyError::KeyLookup(KeyLookupError::Unavailable { .. })) => {
                return Err(keys
                    .need()
                    .map_or(Failure::later("the issuer cannot be reached"), Failure::Need));
            }
            Err(error) => {
                tracing::warn!(%error, "an issued card was refused");
                return Ok(Event::Rejected { code: ProblemCode::CRYPTO });
            }
        }
    }
    // All were checked first: a refused issuance leaves nothing behind.
    let mut cards = Vec::new();
    for text in credentials {
        let id = shared.fresh_id()?.to_key();
        let card = StoredCard {
            text: text.clone(),
            holder_key: kid.as_str().to_owned(),
            from: exchange.theirs.clone(),
            received: shared.now(),
        };
        fx.put(CARDS, &id, &card)?;
        cards.push(id);
    }
    exchange.work.job.cards = cards;
    Ok(Event::Verified)
}

/// An offer as the user sees it.
fn view(exchange: &Holding, offer: &ShownOffer) -> Value {
    let preview: Vec<String> = offer.preview.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let view = json!({
        "kind": "offer",
        "from": exchange.theirs,
        "vct": offer.vct,
        "comment": offer.comment,
        "preview": preview,
    });
    with_shown_name(view, &exchange.key, &offer.nonce)
}

/// The state of a holding exchange, for its user.
pub(crate) fn progress(exchange: &Holding) -> Value {
    let machine = &exchange.work.machine;
    let job = &exchange.work.job;
    let open = job.offer.as_ref().filter(|_| job.holder_key.is_none());
    let decide = open.map(|offer| view(exchange, offer));
    let pending = !exchange.work.has_ended() && decide.is_none();
    json!({
        "thread": machine.pthid().unwrap_or(machine.thread()),
        "state": machine.state_name(),
        "pending": pending,
        "decide": decide,
        "cards": job.cards,
        "reason": job.reason,
    })
}

/// All cards, oldest first.
pub(crate) fn cards(shared: &Shared) -> Result<Vec<Card>, Failure> {
    let mut cards = Vec::new();
    let listed = shared.db.all::<StoredCard>(CARDS, MAX_CARDS)?;
    if listed.cut {
        tracing::warn!(
            "this wallet holds more than {MAX_CARDS} cards; some are neither listed nor shown to anybody"
        );
    }
    for (id, stored) in listed.records {
        let credential = HeldCredential::from_store(&stored.text)
            .map_err(|error| Failure::damaged(format!("a stored card does not parse: {error}")))?;
        cards.push(Card {
            id: String::from_utf8_lossy(&id).into_owned(),
            credential,
            holder_key: KeyId::new(stored.holder_key),
            received: stored.received,
        });
    }
    cards.sort_by_key(|card| card.received);
    Ok(cards)
}

/// One card by its id.
pub(crate) fn card(shared: &Shared, id: &str) -> Result<Card, Failure> {
    cards(shared)?
        .into_iter()
        .find(|card| card.id == id)
        .ok_or_else(|| Failure::user(format!("no card `{id}`; see: einmal citizen list")))
}

/// Deletes a card and the key it is bound to.
pub(crate) fn forget(shared: &Shared, id: &str, fx: &mut Effects<'_>) -> Handled {
    let (card, held) = (card(shared, id)?, cards(shared)?);
    fx.delete(CARDS, &card.id)?;
    let others = held.iter().filter(|other| other.id != card.id);
    if others.clone().all(|other| other.holder_key != card.holder_key) {
        handler::forget_key(fx, &card.holder_key)?;
    }
    Ok(())
}

/// The cards as their owner sees them; their statuses are fetched if what is known is no longer fresh, all at once: a list that
/// does not answer keeps nobody waiting for the others.
///
/// # Errors
///
/// [`Failure::Need`] if lists they stand in, or documents of their issuers, must be fetched first.
pub(crate) fn list(shared: &Shared, lists: &KnownLists, fx: &Effects<'_>) -> Result<Value, Failure> {
    let (mut rows, mut needs) = (Vec::new(), Vec::new());
    for card in &cards(shared)? {
        let (state, need) = state(shared, lists, card);
        rows.push(summary(card, state));
        needs.extend(need);
    }
    // Only so many are fetched at once: those that did not answer the last time must not keep out the others for good.
    needs.sort_by_key(|need| lists.has_failed(need));
    match fx.to_fetch(needs) {
        Some(need) if fx.fetches_left > 0 => Err(Failure::Need(need)),
        _ => Ok(rows.into()),
    }
}

/// What is known of a card, in a word and perhaps a reason, and what must be fetched to know more.
fn state(shared: &Shared, lists: &KnownLists, card: &Card) -> (State, Option<Need>) {
    let expired = card.credential.expires_at.is_some_and(|end| shared.now().0 >= end);
    match &card.credential.status {
        _ if expired => (("expired", None), None),
        // Nothing can revoke it.
        None => (("valid", None), None),
        Some(reference) => look_up(shared, lists, card, reference),
    }
}

fn summary(card: &Card, (state, reason): State) -> Value {
    let mut summary = json!({
        "card": card.id,
        "vct": card.credential.vct,
        "issuer": card.credential.issuer,
        "expires_at": card.credential.expires_at,
        "state": state,
    });
    if let (Some(reason), Some(members)) = (reason, summary.as_object_mut()) {
        members.insert("reason".into(), reason.into());
    }
    summary
}

/// The word for it, and the reason where there is something to explain.
type State = (&'static str, Option<String>);

fn in_words(status: Status) -> State {
    match status {
        Status::Valid => ("valid", None),
        Status::Invalid => ("revoked", None),
        Status::Suspended => ("suspended", None),
        Status::ApplicationSpecific(value) => {
            ("unknown", Some(format!("its issuer gives it the status {value}, which is no common one")))
        }
    }
}

/// What the issuer's list says about a card, or why that is not known, and what must be fetched to know it.
///
/// The whole list is fetched, as any verifier does: the issuer does not learn which card it is about.
fn look_up(
    shared: &Shared,
    lists: &KnownLists,
    card: &Card,
    reference: &StatusReference,
) -> (State, Option<Need>) {
    let keys = DidIssuerKeys::new(&shared.resolver);
    let source = lists.source(shared, &keys);
    let state = match source.status(&reference.uri, reference.idx, &card.credential.issuer) {
        Ok(status) => in_words(status),
        Err(StatusError::NotFetched { .. }) => {
            ("unknown", Some("its status list could not be fetched; list the cards again in a moment".into()))
        }
        Err(error) => ("unknown", Some(error.to_string())),
    };
    (state, source.need())
}

/// Puts a card into a wallet, named by its type.
#[cfg(test)]
pub(crate) async fn keep_for_test(
    node: &std::sync::Arc<crate::node::Node>,
    issuer: &super::testing::Issuer,
    vct: &str,
    (uri, idx): (&str, u64),
) {
    let shared = node.shared();
    let key = SecretKey::generate(KeyKind::P256, shared.entropy()).unwrap();
    let (kid, text) = (KeyId::new(format!("holder:{vct}")), issuer.card(vct, key.public_key(), uri, idx));
    let from = Did::parse(&issuer.did).unwrap();
    let card = StoredCard { text, holder_key: kid.as_str().into(), from, received: shared.now() };
    shared.keyring.insert(kid, key);
    node.change(|fx| Ok(fx.put(CARDS, vct, &card)?)).await.unwrap();
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, OnceLock},
        time::Duration,
    };

    use einmal_did::DidDocument;
    use einmal_storage::MemoryStore;
    use tokio::time::Instant;

    use super::{super::testing::Issuer, *};
    use crate::{
        clock::ManualClock,
        command::{CitizenCommand, Nothing},
        config::Role,
        net::memory::MemoryNetwork,
        node::testing,
        transport::{BoxFuture, FetchError, Fetcher},
    };

    #[test]
    fn every_status_has_its_word_and_what_is_not_common_a_reason() {
        let word = |status| in_words(status).0;
        assert_eq!(
            [Status::Valid, Status::Invalid, Status::Suspended].map(word),
            ["valid", "revoked", "suspended"]
        );
        let (word, reason) = in_words(Status::ApplicationSpecific(12));
        assert!(word == "unknown" && reason.is_some_and(|reason| reason.contains("12")));
    }
    /// Takes the time a fetch may take, and finds nothing.
    #[derive(Default)]
    struct Hanging {
        asked: Mutex<Vec<String>>,
        clock: OnceLock<Arc<ManualClock>>,
    }

    const PATIENCE: Duration = Duration::from_secs(5);

    impl Fetcher for Hanging {
        fn document<'a>(&'a self, _: &'a Did) -> BoxFuture<'a, Result<DidDocument, FetchError>> {
            Box::pin(async { Err(FetchError::Busy) })
        }

        fn status_list<'a>(&'a self, uri: &'a str) -> BoxFuture<'a, Result<String, FetchError>> {
            self.asked.lock().unwrap().push(uri.to_owned());
            Box::pin(async {
                tokio::time::sleep(PATIENCE).await;
                self.clock.get().unwrap().advance(5_000);
                Err(FetchError::Unreachable { reason: "no answer".into() })
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lists_that_hang_keep_the_cards_from_being_listed_no_longer_than_one_does() {
        let hanging = Arc::new(Hanging::default());
        let (store, network) = (Arc::new(MemoryStore::new()), MemoryNetwork::new(1));
        let (node, clock) =
            testing::node_with(Role::Citizen, store, network, Arc::clone(&hanging) as _).await;
        hanging.clock.set(clock).unwrap();
        let (issuer, names) = (Issuer::new(1), ["a", "b", "c"]);
        for name in names {
            let uri = format!("https://{name}.example/status/1");
            keep_for_test(&node, &issuer, name, (&uri, 0)).await;
        }
        let begun = Instant::now();
        let listed = node.command(&CitizenCommand::List(Nothing {}).into()).await.unwrap();
        let states: Vec<_> = listed.as_array().unwrap().iter().map(|card| &card["state"]).collect();
        assert_eq!(states, ["unknown"; 3]);
        assert_eq!(begun.elapsed(), PATIENCE);
        let mut asked = hanging.asked.lock().unwrap().clone();
        asked.sort();
        assert_eq!(asked, names.map(|name| format!("https://{name}.example/status/1")));
    }
}
