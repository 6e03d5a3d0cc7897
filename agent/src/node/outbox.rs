//! The outbox: messages committed but not yet handed over, sent with backoff, across restarts.

mod origin;
mod queued;
mod schedule;
mod seats;

use std::{borrow::Cow, hash::Hash, sync::Arc};

use einmal_did::{Did, Resolver};
use einmal_didcomm::{Message, PackError, PackOptions, Packed, SenderProtection, UnixSeconds, deliveries};
use einmal_storage::StoreError;
use origin::{Queued, Waiting};
pub(super) use seats::Served;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::Instrument;

use super::Node;
use crate::{
    config::Role,
    db::{DEAD, OUTBOX, did_id},
    handler::{Arrival, Cause, Effects, Failure, Need, Origin, Outgoing, describe_packing},
    identity, log,
    service::rotating,
    transport::{self, SendError},
};

/// Seconds after which an undelivered message is given up, unless it expires sooner by itself.
const GIVE_UP_SECS: u64 = 7 * 24 * 3600;
/// The same for an answer that is of use only while the asker waits for it.
const GIVE_UP_TRANSIENT_SECS: u64 = 15 * 60;
/// Limits of one batch that puts messages off: changes, and bytes.
const MOVED_AT_ONCE: usize = 1_000;
const MOVED_BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// Milliseconds before the second attempt; doubled for each further one.
const FIRST_PAUSE_MS: u64 = 500;
/// Attempts during which a message holds up those behind it for the same recipient: about half a minute.
const MAX_HOLDING_UP: u32 = 6;
/// Longest pause between attempts, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 5 * 60 * 1000;

/// A message waiting to be handed over. The store seals it.
#[derive(Clone, Serialize, Deserialize)]
struct Item {
    message: Value,
    to: Did,
    attempts: u32,
    give_up_at: UnixSeconds,
    /// The origin of the message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Origin>,
    /// Of use only as an answer, and only soon.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    transient: bool,
    /// When it was queued, in Unix milliseconds: the order of messages for one recipient, even if some were put off.
    #[serde(default)]
    queued_ms: u64,
    /// About how many bytes it takes.
    #[serde(default)]
    bytes: usize,
}

/// What became of an attempt: whether the item leaves the outbox.
enum Outcome {
    Sent(Option<Vec<u8>>),
    Later,
    Never(String),
}

impl Node {
    /// The origin under which messages that answer somebody at `place` are counted.
    pub fn origin(&self, place: impl Hash) -> Origin {
        self.outbox_served.origin(place)
    }

    /// Puts messages into the batch, due at once, in their order. They are counted for the origin that caused them; the
    /// caller keeps that count if the batch is committed.
    ///
    /// # Errors
    ///
    /// [`Failure::TooOften`] if as many as allowed already wait because of that origin; the store's failures.
    pub(super) fn enqueue(
        &self,
        fx: &mut Effects<'_>,
        outgoing: Vec<Outgoing>,
    ) -> Result<Queued<'_>, Failure> {
        let from = fx.arrival().and_then(Arrival::origin);
        let waiting = put_due(fx, outgoing, from)?;
        self.outbox_served.queue(from, waiting).ok_or(Failure::TooOften)
    }
}

/// Puts messages into the batch, due at once, in their order, and counts them.
fn put_due(fx: &mut Effects<'_>, outgoing: Vec<Outgoing>, from: Option<Origin>) -> Result<Waiting, Failure> {
    let shared = fx.shared();
    let mut waiting = Waiting::default();
    for (index, out) in outgoing.into_iter().enumerate() {
        if !shared.can_be_sent_to(&out.to) {
            // Nobody to deliver to: the message can only go back on the connection it answers.
            continue;
        }
        // A transient answer is not carried for days, neither to the asker nor to anybody the asker named.
        let end = shared.kept_for(if out.transient { GIVE_UP_TRANSIENT_SECS } else { GIVE_UP_SECS });
        let give_up_at = out.message.expires_time.map_or(end, |expires| expires.min(end));
        let (transient, queued_ms) = (out.transient, shared.present().steady_ms);
        let (message, bytes) = (out.message.to_value(), out.message.weight());
        let item = Item { message, to: out.to, attempts: 0, give_up_at, from, transient, queued_ms, bytes };
        fx.put(OUTBOX, item_id(queued_ms, index, shared.entropy())?, &item)?;
        waiting = waiting.and(Waiting { messages: 1, bytes });
    }
    Ok(waiting)
}

/// Orders items by the instant they are due; the random tail makes ids unique, because an item with an equal id would
/// replace the other.
fn item_id(due_ms: u64, index: usize, entropy: &dyn einmal_keys::Entropy) -> Result<Vec<u8>, StoreError> {
    let mut tail = [0u8; 8];
    entropy.fill(&mut tail).map_err(|_| StoreError::Entropy)?;
    let mut id = due_ms.to_be_bytes().to_vec();
    id.extend_from_slice(&u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes());
    id.extend_from_slice(&tail);
    Ok(id)
}

fn due_ms(id: &[u8]) -> u64 {
    id.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Node {
    /// Sends the messages for one recipient in their order. The first that must wait holds up the rest, but not for
    /// ever: a message its recipient never takes, though it takes others, stops blocking after some attempts.
    async fn send_group(self: Arc<Self>, group: Vec<(Vec<u8>, Item)>) -> Result<(), StoreError> {
        let mut group = group.into_iter();
        while let Some((id, item)) = group.next() {
            let request = log::request("outbox");
            let outcome = self.attempt(&item).instrument(request.clone()).await;
            if let Outcome::Sent(_) | Outcome::Later = &outcome {
                let is_sent = matches!(&outcome, Outcome::Sent(_));
                self.outbox_served.note(item.to.canonical().as_str(), is_sent);
            }
            // Trying those behind it would be in vain, and they would stand before the messages of other recipients.
            let holds_up = matches!(outcome, Outcome::Later) && item.attempts < MAX_HOLDING_UP;
            let held_up = if holds_up { group.by_ref().collect() } else { Vec::new() };
            self.settle(&id, item, outcome, held_up).instrument(request).await?;
        }
        Ok(())
    }

    async fn attempt(self: &Arc<Self>, item: &Item) -> Outcome {
        // A clock that was just read may be years ahead: until it is trusted, it expires nothing.
        let present = self.shared.present();
        if present.stands && present.earliest() >= item.give_up_at.0 {
            return Outcome::Never("it expired before it could be delivered".into());
        }
        let Ok(message) = Message::from_value(item.message.clone()) else {
            return Outcome::Never("it does not parse".into());
        };
        let ways = match self.ways(&message, &item.to).await {
            Ok(ways) => ways,
            // A recipient that does not resolve now may resolve later; a document without an endpoint will not change.
            Err(failure @ Failure::Pack(_)) if failure.is_temporary() => return Outcome::Later,
            Err(Failure::Pack(error)) => return Outcome::Never(describe_packing(&error)),
            Err(_) => return Outcome::Later,
        };
        let mut last = Outcome::Never("its recipient has no endpoint that can be used".into());
        for way in ways {
            match self.shared.transport.send_to(&way.uri, &way.multi_addrs, way.bytes).await {
                Ok(reply) => return Outcome::Sent(reply),
                // The message itself was taken.
                Err(SendError::AnswerTooLarge { .. }) => return Outcome::Sent(None),
                Err(error) => {
                    self.shared.stats.send_failures.inc();
                    if self.shared.complaints.admit(&()) {
                        tracing::info!(%error, "a message was not handed over");
                    }
                    // One way that may work later is reason enough to keep the message.
                    last = match (error, last) {
                        (error, _) if error.is_temporary() => Outcome::Later,
                        (_, Outcome::Later) => Outcome::Later,
                        (SendError::Forbidden { reason }, _) => Outcome::Never(reason),
                        (error, _) => Outcome::Never(error.to_string()),
                    };
                }
            }
        }
        last
    }

    /// Packs a message and finds the ways to its recipient, fetching documents where needed.
    pub(super) async fn ways(
        &self,
        message: &Message,
        to: &Did,
    ) -> Result<Vec<einmal_didcomm::Delivery>, Failure> {
        for _ in 0..super::MAX_FETCHES {
            match self.try_ways(message, to) {
                Err(failure) => match failure.need() {
                    Some(need) => {
                        self.fetch(&need, None).await;
                    }
                    None => return Err(failure),
                },
                ways => return ways,
            }
        }
        Err(Failure::Need(Need::Document { did: to.clone() }))
    }

    fn try_ways(&self, message: &Message, to: &Did) -> Result<Vec<einmal_didcomm::Delivery>, Failure> {
        let message = self.in_known_form(message, to)?;
        let packer = self.shared.packer();
        let packed = self.packed(&message, to, &self.protection_towards(to))?;
        let mut ways = deliveries(&packer, &packed, message.expires_time)?;
        if self.shared.peer_endpoint().is_none() {
            ways.retain(|way| !transport::is_one_way(&way.uri));
        }
        // Among ways of one kind the owner's order decides.
        ways.sort_by_key(|way| (way.mediated, transport::rank(&way.uri, &way.multi_addrs)));
        Ok(ways)
    }

    /// Who writes to whom is nobody's business on the way: where a mediator carries the message, the sender's key id is
    /// hidden from it.
    fn protection_towards(&self, to: &Did) -> PackOptions {
        let mediated = self.shared.resolver.resolve(to).is_ok_and(|document| {
            document
                .didcomm_endpoints()
                .any(|endpoint| endpoint.uri.starts_with("did:") || !endpoint.routing_keys.is_empty())
        });
        if mediated {
            PackOptions::protecting(SenderProtection::AuthcryptHidden)
        } else {
            PackOptions::default()
        }
    }

    /// Packs a message for the connection its request came by.
    pub(crate) fn pack(&self, message: &Message, to: &Did) -> Result<Vec<u8>, Failure> {
        let message = self.in_known_form(message, to)?;
        Ok(self.packed(&message, to, &PackOptions::default())?.bytes)
    }

    /// Packs a message. Without a common curve (a recipient with NIST keys only) it is signed and encrypted
    /// anonymously; a citizen does not do that, because a signature would bind them to every word.
    fn packed(&self, message: &Message, to: &Did, options: &PackOptions) -> Result<Packed, PackError> {
        let packer = self.shared.packer();
        match packer.pack(message, to, options) {
            Err(PackError::NoCommonCurve { .. }) if self.shared.config.role != Role::Citizen => {
                packer.pack(message, to, &PackOptions::protecting(SenderProtection::SignedAnoncrypt))
            }
            packed => packed,
        }
    }

    /// Shortens our did:peer:4 towards a peer that has used it before; other peers need the long form, and the
    /// announcement of the DID it replaced.
    fn in_known_form<'m>(&self, message: &'m Message, to: &Did) -> Result<Cow<'m, Message>, Failure> {
        let mut message = Cow::Borrowed(message);
        let Some(from) = &message.from else { return Ok(message) };
        let Some(peer) = identity::peer_of(&self.shared.db, from, to)? else { return Ok(message) };
        let form = from.canonical();
        // A message that needs no change is not copied: deliveries are large.
        if peer.value.knows_us && form != *from {
            message.to_mut().from = Some(form);
        }
        if let Some(jwt) = rotating::announcement(&self.shared, &peer.value)? {
            message.to_mut().from_prior = Some(jwt);
        }
        Ok(message)
    }

    /// Writes down what became of a message; those `held_up` by it fall due after it.
    async fn settle(
        self: &Arc<Self>,
        id: &[u8],
        item: Item,
        outcome: Outcome,
        held_up: Vec<(Vec<u8>, Item)>,
    ) -> Result<(), StoreError> {
        let (from, waiting) = (item.from, Waiting { messages: 1, bytes: item.bytes });
        let mut fx = Effects::new(&self.shared, Cause::Own);
        match outcome {
            Outcome::Later => return self.put_off(id, item, held_up).await,
            Outcome::Never(reason) => self.give_up(id, item, &reason, &mut fx)?,
            Outcome::Sent(reply) => {
                self.shared.stats.sent.inc();
                if let Some(envelope) = reply {
                    // First: after a crash in between, the message is sent again and has the same answer. Boxed,
                    // because taking in an envelope may in turn send. What it causes counts for the origin of the
                    // message we answered.
                    Box::pin(self.receive(&envelope, Arrival::Mailbox { from })).await;
                }
            }
        }
        fx.delete(OUTBOX, id)?;
        self.shared.db.store().commit(fx.into_parts().0).await?;
        self.outbox_served.gone(from, waiting);
        Ok(())
    }

    /// Schedules a message for a later attempt, and the messages it holds up after it.
    async fn put_off(
        &self,
        id: &[u8],
        mut item: Item,
        held_up: Vec<(Vec<u8>, Item)>,
    ) -> Result<(), StoreError> {
        item.attempts = item.attempts.saturating_add(1);
        // An instant written by a clock that was ahead would keep it tried for years.
        item.give_up_at = item.give_up_at.min(self.shared.kept_for(GIVE_UP_SECS));
        let due = self.shared.present().steady_ms.saturating_add(self.pause_ms(item.attempts));
        if item.attempts <= MAX_HOLDING_UP {
            self.outbox_served.put_off(item.to.canonical().as_str(), due);
        }
        let mut fx = Effects::new(&self.shared, Cause::Own);
        // The last first: together they may exceed one batch, and a crash in between must not reverse the order.
        for (index, (id, item)) in held_up.iter().enumerate().rev() {
            fx.delete(OUTBOX, id)?;
            fx.put(OUTBOX, item_id(due, index + 1, self.shared.entropy())?, item)?;
            if fx.batch().len() >= MOVED_AT_ONCE || fx.batch().bytes() >= MOVED_BYTES_AT_ONCE {
                let full = std::mem::replace(&mut fx, Effects::new(&self.shared, Cause::Own));
                self.shared.db.store().commit(full.into_parts().0).await?;
            }
        }
        fx.put(OUTBOX, item_id(due, 0, self.shared.entropy())?, &item)?;
        fx.delete(OUTBOX, id)?;
        self.shared.db.store().commit(fx.into_parts().0).await?;
        // Whoever waits for something to be due does not know of this one: the look found it due at once.
        self.outbox_bell.notify_one();
        Ok(())
    }

    /// Notes that a message will never be sent, why, and of which kind it was. Not what it said: a card that could not be delivered is
    /// nobody's to keep.
    fn give_up(&self, id: &[u8], item: Item, reason: &str, fx: &mut Effects<'_>) -> Result<(), StoreError> {
        self.shared.stats.given_up.inc();
        // A transient answer is not worth looking at later, and strangers cause as many as they like.
        if item.transient {
            tracing::debug!(reason, "an answer was given up");
            return Ok(());
        }
        tracing::warn!(reason, "a message was given up");
        let until = self.shared.now().plus(GIVE_UP_SECS);
        let kind = item.message.get("type");
        let note = serde_json::json!({"reason": reason, "type": kind, "to": did_id(&item.to)});
        fx.put_expiring(DEAD, id, &note, until)
    }

    /// Exponential with up to a quarter of jitter either way, so that many nodes do not return in step.
    fn pause_ms(&self, attempts: u32) -> u64 {
        let base =
            FIRST_PAUSE_MS.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST_PAUSE_MS);
        let mut dice = [0u8; 2];
        let _ = self.shared.entropy().fill(&mut dice);
        let jitter = u64::from(u16::from_be_bytes(dice)) * (base / 2) / u64::from(u16::MAX);
        base - base / 4 + jitter
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use einmal_did::{Endpoint, Relationship, Service, peer};
    use einmal_flows::{Draft, basic_message::BasicMessage};
    use einmal_keys::{KeyKind, SecretKey, SeededEntropy};
    use einmal_storage::MemoryStore;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        node::testing,
        transport::{BoxFuture, Transport},
    };

    /// Longest envelope the peer of these tests takes, in bytes.
    const MOST: usize = 20_000;

    /// A peer that fails on long envelopes, and notes the others.
    #[derive(Default)]
    struct Picky(Mutex<Vec<usize>>);

    impl Transport for Picky {
        fn send<'a>(
            &'a self,
            _: &'a str,
            envelope: Vec<u8>,
        ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>> {
            Box::pin(async move {
                if envelope.len() > MOST {
                    return Err(SendError::Refused { status: 500 });
                }
                self.0.lock().unwrap().push(envelope.len());
                Ok(None)
            })
        }
    }

    fn peer_did() -> Did {
        let key = SecretKey::generate(KeyKind::X25519, &SeededEntropy::new(9)).unwrap().public_key();
        let service = Service::didcomm("#service", vec![Endpoint::didcomm("https://peer.example")]);
        peer::two::create(&[(Relationship::KeyAgreement, key)], &[service]).unwrap()
    }

    #[tokio::test]
    async fn a_message_that_its_recipient_never_takes_holds_up_the_others_for_some_attempts_only() {
        let picky = Arc::new(Picky::default());
        let store = Arc::new(MemoryStore::new());
        let (node, clock) = testing::node_behind(Role::Mediator, store, Arc::clone(&picky) as _).await;
        let (own, peer) = (node.public_did().unwrap().clone(), peer_did());
        for content in ["x".repeat(2 * MOST), "short".into()] {
            let send = node.change(|fx| {
                Ok(fx.send(Draft::of(&BasicMessage { content: content.clone() }), &own, &peer)?)
            });
            send.await.unwrap();
            clock.advance(1_000);
        }
        let attempt = async || {
            node.outbox_pass().await.unwrap();
            clock.advance(2 * LONGEST_PAUSE_MS);
        };
        for _ in 0..MAX_HOLDING_UP {
            attempt().await;
            assert!(picky.0.lock().unwrap().is_empty(), "the order is kept for a while");
        }
        attempt().await;
        assert_eq!(picky.0.lock().unwrap().len(), 1);
        assert_eq!(node.shared.db.count(OUTBOX).unwrap(), 1, "the long one is tried on");
    }
    /// A peer that is away for the first attempt; notes when it was tried.
    #[derive(Default)]
    struct Away(Mutex<Vec<Instant>>);

    impl Transport for Away {
        fn send<'a>(&'a self, _: &'a str, _: Vec<u8>) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>> {
            Box::pin(async move {
                let mut tried = self.0.lock().unwrap();
                tried.push(Instant::now());
                if tried.len() == 1 { Err(SendError::Refused { status: 503 }) } else { Ok(None) }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_was_put_off_is_tried_again_when_it_is_due() {
        let away = Arc::new(Away::default());
        let store = Arc::new(MemoryStore::new());
        let (node, clock) = testing::node_behind(Role::Mediator, store, Arc::clone(&away) as _).await;
        let (own, peer) = (node.public_did().unwrap().clone(), peer_did());
        let running = tokio::spawn(Arc::clone(&node).run_outbox());
        // It waits, so that the bell for the message is spent when that is sent.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let send = node.change(|fx| {
            Ok(fx.send(Draft::of(&BasicMessage { content: "Guten Tag".into() }), &own, &peer)?)
        });
        send.await.unwrap();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            clock.advance(100);
        }
        running.abort();
        let tried = away.0.lock().unwrap().clone();
        assert_eq!(tried.len(), 2, "not again within two seconds");
        assert!(tried[1] - tried[0] >= Duration::from_millis(FIRST_PAUSE_MS / 2));
        assert_eq!(node.shared.db.count(OUTBOX).unwrap(), 0);
    }
    #[tokio::test]
    async fn of_a_message_given_up_no_word_and_no_address_is_kept() {
        let away = Arc::new(Away::default());
        let store = Arc::new(MemoryStore::new());
        let (node, clock) = testing::node_behind(Role::Mediator, store, away).await;
        let (own, peer) = (node.public_did().unwrap().clone(), peer_did());
        let content = "Erika Mustermann";
        let send = node
            .change(|fx| Ok(fx.send(Draft::of(&BasicMessage { content: content.into() }), &own, &peer)?));
        send.await.unwrap();
        node.outbox_pass().await.unwrap();
        // The clock must be seen to go on, or the jump is not believed.
        for _ in 0..2 {
            clock.advance((GIVE_UP_SECS + 3600) * 1000);
            node.shared.present();
        }
        node.outbox_pass().await.unwrap();
        let dead: Vec<(Vec<u8>, Value)> = node.shared.db.all(DEAD, 9).unwrap().records;
        let [(_, note)] = dead.as_slice() else { panic!("{dead:?}") };
        let said = note.to_string();
        assert!(note["reason"].as_str().is_some_and(|reason| reason.contains("expired")), "{said}");
        assert_eq!(note["type"], "https://didcomm.org/basicmessage/2.0/message");
        assert_eq!(note["to"], did_id(&peer));
        assert!(!said.contains(content) && !said.contains("did:"), "{said}");
    }
}
