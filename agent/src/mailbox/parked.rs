//! Letters that cannot be handled yet, kept here instead of at the mediator, where they would block all others.

use std::sync::Arc;

use einmal_did::{DidUrl, parse_strict_json, web};
use einmal_didcomm::{UnixSeconds, limits::MAX_ENVELOPE_BYTES};
use einmal_keys::{base64url_decode, base64url_encode};
use einmal_storage::{Fault, StoreError, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::Instrument;

use crate::{
    db::{DEAD, PARKED, Sound},
    handler::{Arrival, Effects, Failure, Refusal},
    log,
    node::Node,
};

/// The letters themselves, still sealed for their recipient.
const ENVELOPES: Table = Table::new("parked-envelope");
/// Most letters parked.
const MAX_PARKED: usize = 512;
/// Most letters parked for one host, so that its operator takes no more room than that.
const MAX_OF_ONE_HOST: usize = 16;
/// Most bytes of parked letters.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Most letters tried again at one visit: each may cost a slow fetch.
const TRIED_AT_ONCE: usize = 4;
/// Seconds before the first further attempt; each later pause is twice as long.
const FIRST_PAUSE_SECS: u64 = 30;
/// Longest pause between two attempts, in seconds.
const LONGEST_PAUSE_SECS: u64 = 6 * 3600;
/// Seconds after which a letter is given up.
const GIVE_UP_SECS: u64 = 7 * 24 * 3600;

/// A parked letter.
#[derive(Clone, Serialize, Deserialize)]
struct Parked {
    /// A digest of the host that must be reached to know its sender; empty if the letter does not name it.
    #[serde(default)]
    host: String,
    #[serde(default)]
    bytes: usize,
    attempts: u32,
    due: UnixSeconds,
    give_up_at: UnixSeconds,
}

/// The name of a letter among those that are parked.
fn id_of(envelope: &[u8]) -> String {
    base64url_encode(Sha256::digest(envelope))
}

impl Parked {
    /// The record of a letter that was not tried again yet.
    fn of(node: &Node, envelope: &[u8]) -> Self {
        let now = node.shared().now();
        let give_up_at = node.shared().kept_for(GIVE_UP_SECS);
        let parked =
            Self { host: host_of(envelope), bytes: envelope.len(), attempts: 0, due: now, give_up_at };
        Self { due: now.plus(parked.pause()), ..parked }
    }

    fn pause(&self) -> u64 {
        FIRST_PAUSE_SECS.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_PAUSE_SECS)
    }

    /// The record after another attempt in vain. `latest` caps its end: an end set by a clock that was ahead, or by
    /// none, would have it tried for years.
    fn tried(&self, now: UnixSeconds, latest: UnixSeconds) -> Self {
        let attempts = self.attempts.saturating_add(1);
        let again = Self { attempts, give_up_at: self.give_up_at.min(latest), ..self.clone() };
        Self { due: now.plus(again.pause()), ..again }
    }

    /// Whether it is time to try again; also if a clock that was ahead has put that off for years.
    fn is_due(&self, now: UnixSeconds) -> bool {
        self.due <= now || self.due > now.plus(LONGEST_PAUSE_SECS)
    }
}

/// Durably keeps a letter whose sender cannot be resolved at present: the mediator may forget it.
///
/// Without room, other letters are given up: of the same host if it has its share, else of the host that has most.
pub(super) async fn park(node: &Arc<Node>, envelope: &[u8]) -> Result<(), Failure> {
    let (id, parked) = (id_of(envelope), Parked::of(node, envelope));
    all(node).await?;
    node.change(|fx| {
        if fx.db().exists(PARKED, &id)? {
            return Ok(());
        }
        for worst in displaced(records(node)?, &parked) {
            give_up(&worst, "its sender could not be resolved, and there was no room", fx)?;
        }
        fx.put(ENVELOPES, &id, &base64url_encode(envelope))?;
        Ok(fx.put(PARKED, &id, &parked)?)
    })
    .await
}

/// Those of `kept` that must go to make room for `more`.
fn displaced(mut kept: Vec<(Vec<u8>, Parked)>, more: &Parked) -> Vec<Vec<u8>> {
    let mut gone = Vec::new();
    loop {
        let of = |host: &str| kept.iter().filter(|(_, one)| one.host == host).count();
        let bytes: usize = kept.iter().map(|(_, one)| one.bytes).sum();
        let fits = kept.len() < MAX_PARKED && bytes.saturating_add(more.bytes) <= MAX_BYTES;
        let host = if of(&more.host) >= most_of(&more.host) {
            more.host.clone()
        } else if fits {
            return gone;
        } else {
            let largest = kept.iter().map(|(_, one)| &one.host).max_by_key(|host| of(host));
            let Some(host) = largest else { return gone };
            host.clone()
        };
        let of_host = kept.iter().enumerate().filter(|(_, (_, one))| one.host == host);
        let Some((at, _)) = of_host.max_by_key(|(_, (_, one))| one.attempts) else { return gone };
        gone.push(kept.swap_remove(at).0);
    }
}

/// Most letters parked for one host; letters that name no host share a higher limit.
fn most_of(host: &str) -> usize {
    if host.is_empty() { 4 * MAX_OF_ONE_HOST } else { MAX_OF_ONE_HOST }
}

/// The host of the sender's DID, as a digest; empty if the envelope does not say.
fn host_of(envelope: &[u8]) -> String {
    let host = || {
        let jwe = parse_strict_json(envelope, MAX_ENVELOPE_BYTES).ok()?;
        let header = base64url_decode(jwe.get("protected")?.as_str()?)?;
        let header = parse_strict_json(&header, MAX_ENVELOPE_BYTES).ok()?;
        let skid = DidUrl::parse(header.get("skid")?.as_str()?).ok()?;
        let host = web::location(skid.did()).ok()?.host;
        Some(base64url_encode(Sha256::digest(host.to_ascii_lowercase())))
    };
    host().unwrap_or_default()
}

/// Handles some due letters again, and gives up those that were tried for too long.
pub(super) async fn try_again(node: &Arc<Node>) -> Result<(), Failure> {
    let now = node.shared().now();
    let due = all(node).await?.into_iter().filter(|(_, parked)| parked.is_due(now));
    for (id, parked) in due.take(TRIED_AT_ONCE) {
        let Some(envelope) = stored_envelope(node, &id)? else {
            // Nothing is left to try again; the loss is reported, as for every letter that is given up.
            node.change(|fx| give_up(&id, "its bytes cannot be read any more", fx)).await?;
            continue;
        };
        let handled = node.receive(&envelope, Arrival::Mailbox { from: None });
        let handled = handled.instrument(log::request("parked")).await;
        let parked = parked.tried(now, node.shared().kept_for(GIVE_UP_SECS));
        let waits = handled.refused == Some(Refusal::Unavailable);
        let given_up = waits && now >= parked.give_up_at && node.shared().present().stands;
        node.change(|fx| {
            if given_up {
                return give_up(&id, "its sender could not be resolved", fx);
            }
            if waits {
                return Ok(fx.put(PARKED, &id, &parked)?);
            }
            fx.delete(ENVELOPES, &id)?;
            Ok(fx.delete(PARKED, &id)?)
        })
        .await?;
    }
    Ok(())
}

/// The bytes of a parked letter; `None` if its record is missing or damaged, which no later attempt will change. If the
/// store itself fails, the whole pass ends.
fn stored_envelope(node: &Node, id: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    match node.shared().db.get::<String>(ENVELOPES, id) {
        Ok(stored) => Ok(stored.and_then(|text| base64url_decode(&text.value))),
        Err(error) if error.fault() == Fault::Data => Ok(None),
        Err(error) => Err(error),
    }
}

fn give_up(id: &[u8], reason: &str, fx: &mut Effects<'_>) -> Result<(), Failure> {
    tracing::warn!(reason, "a letter was given up");
    fx.shared().stats.given_up.inc();
    let until = fx.now().plus(GIVE_UP_SECS);
    fx.put_expiring(DEAD, id, &serde_json::json!({ "reason": reason }), until)?;
    fx.delete(ENVELOPES, id)?;
    Ok(fx.delete(PARKED, id)?)
}

/// All parked letters. Records that do not parse or unseal are written anew from the letters, or given up with them: they would keep all
/// others from being tried.
async fn all(node: &Arc<Node>) -> Result<Vec<(Vec<u8>, Parked)>, Failure> {
    loop {
        match records(node) {
            Err(error) if error.fault() == Fault::Data => mend(node).await?,
            read => return Ok(read?),
        }
    }
}

fn records(node: &Node) -> Result<Vec<(Vec<u8>, Parked)>, StoreError> {
    Ok(node.shared().db.all(PARKED, 2 * MAX_PARKED)?.records)
}

async fn mend(node: &Arc<Node>) -> Result<(), Failure> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let Sound { records, damaged } =
            node.shared().db.scan_sound::<Parked>(PARKED, after.as_deref(), MAX_PARKED)?;
        if damaged.is_empty() {
            let Some((last, _)) = records.into_iter().next_back() else { return Ok(()) };
            after = Some(last);
            continue;
        }
        let mut letters = Vec::new();
        for key in damaged {
            let envelope = stored_envelope(node, key.id())?;
            let is_whole = |envelope: &Vec<u8>| id_of(envelope).as_bytes() == key.id();
            letters.push((key.id().to_vec(), envelope.filter(is_whole)));
        }
        node.change(|fx| {
            letters.iter().try_for_each(|(id, envelope)| match envelope {
                Some(envelope) => Ok(fx.put(PARKED, id, &Parked::of(node, envelope))?),
                None => give_up(id, "its record is damaged", fx),
            })
        })
        .await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(skid: &str) -> Vec<u8> {
        let header = base64url_encode(serde_json::json!({ "skid": skid }).to_string());
        serde_json::json!({"protected": header, "ciphertext": "x"}).to_string().into_bytes()
    }

    fn parked(host: &str, bytes: usize) -> Parked {
        Parked { host: host.into(), bytes, attempts: 0, due: UnixSeconds(0), give_up_at: UnixSeconds(9) }
    }

    #[test]
    fn letters_count_for_the_host_of_their_sender_whatever_its_path_and_key() {
        let one = host_of(&envelope("did:web:a.example:users:1#key-1"));
        for same in ["did:web:a.example:users:2#key-2", "did:web:A.Example#k", "did:web:a.example%3A8443#k"] {
            assert_eq!(host_of(&envelope(same)), one, "{same}");
        }
        assert_ne!(one, host_of(&envelope("did:web:b.example#key-1")));
        assert_eq!((host_of(b"no envelope"), host_of(b"{}")), (String::new(), String::new()));
    }

    #[tokio::test]
    async fn a_damaged_record_keeps_no_letter_from_being_tried_or_parked() {
        let node = crate::node::testing::node(crate::config::Role::Citizen).await.0;
        let damage = || async {
            let mut fx = einmal_storage::Batch::new();
            let key = einmal_storage::Key::new(&einmal_storage::TenantId::default(), PARKED, b"a").unwrap();
            fx.put(key, "no record");
            node.shared().db.store().commit(fx).await.unwrap();
        };
        let count = |table| node.shared().db.count(table).unwrap();
        damage().await;
        park(&node, &envelope("did:web:b.example#key-1")).await.unwrap();
        assert_eq!((count(PARKED), count(DEAD)), (1, 1));
        damage().await;
        try_again(&node).await.unwrap();
        assert_eq!((count(PARKED), count(DEAD)), (1, 1), "the letter is not due yet");
        let (id, _) = all(&node).await.unwrap().remove(0);
        let mut fx = einmal_storage::Batch::new();
        let key = einmal_storage::Key::new(&einmal_storage::TenantId::default(), PARKED, id.clone()).unwrap();
        fx.put(key, "no record");
        node.shared().db.store().commit(fx).await.unwrap();
        let again = all(&node).await.unwrap();
        assert_eq!(
            (again[0].0.clone(), again[0].1.attempts, count(DEAD)),
            (id, 0, 1),
            "the letter itself is whole"
        );
    }

    #[test]
    fn one_host_displaces_its_own_and_whoever_has_most_makes_room_for_others() {
        let kept = |count: usize, host: &str| -> Vec<_> {
            let one = |number: usize| (format!("{host}{number}").into_bytes(), parked(host, 1));
            (0..count).map(one).collect()
        };
        let mut all = kept(MAX_OF_ONE_HOST, "a");
        all[3].1.attempts = 5;
        assert_eq!(displaced(all.clone(), &parked("a", 1)), [b"a3"]);
        assert!(displaced(all.clone(), &parked("b", 1)).is_empty());
        all.push((b"honest".to_vec(), Parked { attempts: 9, ..parked("b", 1) }));
        let gone = displaced(all, &parked("c", MAX_BYTES - 10));
        assert_eq!(gone.len(), 7);
        assert!(!gone.contains(&b"honest".to_vec()), "not of who has one");
    }

    #[test]
    fn a_letter_put_off_by_a_clock_that_was_ahead_is_due() {
        let now = UnixSeconds(1_000_000);
        let late = |due: u64| Parked { due: UnixSeconds(due), ..parked("a", 1) };
        assert!(late(1_000_000).is_due(now) && !late(1_000_001).is_due(now));
        assert!(late(900_000_000).is_due(now));
    }

    #[tokio::test]
    async fn a_letter_whose_bytes_are_gone_is_given_up_and_counted_and_not_taken_for_done() {
        let (node, clock) = crate::node::testing::node(crate::config::Role::Citizen).await;
        park(&node, &envelope("did:web:a.example#key-1")).await.unwrap();
        let (id, _) = all(&node).await.unwrap().remove(0);
        node.change(|fx| Ok(fx.delete(ENVELOPES, &id)?)).await.unwrap();
        clock.advance(LONGEST_PAUSE_SECS * 1000);
        try_again(&node).await.unwrap();
        let shared = node.shared();
        assert_eq!((all(&node).await.unwrap().len(), shared.stats.given_up.get()), (0, 1));
        let dead = shared.db.get::<serde_json::Value>(DEAD, &id).unwrap().unwrap().value;
        assert_eq!(dead["reason"], "its bytes cannot be read any more");
    }

    #[test]
    fn an_end_set_by_a_clock_that_was_wrong_comes_into_reach_when_it_is_tried_again() {
        let now = UnixSeconds(1_800_000_000);
        let end = now.plus(GIVE_UP_SECS);
        let of_1970 = Parked { give_up_at: UnixSeconds(u64::MAX), ..parked("", 1) };
        let again = of_1970.tried(now, end);
        assert_eq!((again.attempts, again.give_up_at, again.due), (1, end, now.plus(2 * FIRST_PAUSE_SECS)));
        let nearer = Parked { give_up_at: now, ..parked("", 1) };
        assert_eq!(nearer.tried(now, end).give_up_at, now);
    }
}
