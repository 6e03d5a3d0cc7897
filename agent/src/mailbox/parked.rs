//! Letters that cannot be handled yet, kept here instead of at the mediator, so that they do not stand before all others.

use std::sync::Arc;

use einmal_didcomm::UnixSeconds;
use einmal_keys::{base64url_decode, base64url_encode};
use einmal_storage::{StoreError, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::Instrument;

use crate::{
    db::DEAD,
    log,
    node::{Arrival, Failure, Node, Refusal},
};

/// Letters kept for later, by a digest of their bytes.
const PARKED: Table = Table::new("parked-letter");
/// Most of them; with one more, that goes which was tried most often.
const MAX_PARKED: usize = 128;
/// Most of them tried again at one visit: each may cost a fetch that takes its time.
const TRIED_AT_ONCE: usize = 4;
/// Seconds before the first further attempt; each one after it waits twice as long.
const FIRST_PAUSE_SECS: u64 = 30;
/// Longest pause between two attempts, in seconds.
const LONGEST_PAUSE_SECS: u64 = 6 * 3600;
/// Seconds after which a letter is given up.
const GIVE_UP_SECS: u64 = 7 * 24 * 3600;

/// A letter as it is kept: still sealed for its recipient.
#[derive(Clone, Serialize, Deserialize)]
struct Parked {
    envelope: String,
    attempts: u32,
    due: UnixSeconds,
    give_up_at: UnixSeconds,
}

impl Parked {
    fn pause(&self) -> u64 {
        FIRST_PAUSE_SECS.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_PAUSE_SECS)
    }
}

/// Keeps a letter whose sender cannot be resolved at present, durably: the mediator may forget it.
pub(super) async fn park(node: &Arc<Node>, envelope: &[u8]) -> Result<(), Failure> {
    let now = node.shared().now();
    let id = base64url_encode(Sha256::digest(envelope));
    let give_up_at = node.shared().kept_for(GIVE_UP_SECS);
    let parked = Parked { envelope: base64url_encode(envelope), attempts: 0, due: now, give_up_at };
    let parked = Parked { due: now.plus(parked.pause()), ..parked };
    node.change(|fx| {
        if fx.db().exists(PARKED, &id)? {
            return Ok(());
        }
        let kept = all(node)?;
        if let Some((worst, _)) = kept.iter().max_by_key(|(_, parked)| parked.attempts)
            && kept.len() >= MAX_PARKED
        {
            tracing::warn!(
                "too many letters cannot be handled yet: the one that was tried most often is given up"
            );
            fx.delete(PARKED, worst)?;
        }
        Ok(fx.put(PARKED, &id, &parked)?)
    })
    .await
}

/// Handles some of those again that are due, and gives up those that were tried for too long.
pub(super) async fn try_again(node: &Arc<Node>) -> Result<(), Failure> {
    let now = node.shared().now();
    let due = all(node)?.into_iter().filter(|(_, parked)| parked.due <= now);
    for (id, mut parked) in due.take(TRIED_AT_ONCE) {
        let envelope = base64url_decode(&parked.envelope).unwrap_or_default();
        let handled = node.receive(&envelope, Arrival::Mailbox { from: None });
        let handled = handled.instrument(log::request("parked")).await;
        parked.attempts = parked.attempts.saturating_add(1);
        parked.due = now.plus(parked.pause());
        let waits = handled.refused == Some(Refusal::Unavailable);
        let given_up = waits && now >= parked.give_up_at && node.shared().present().stands;
        node.change(|fx| {
            if given_up {
                let reason = "its sender could not be resolved";
                let until = now.plus(GIVE_UP_SECS);
                fx.put_expiring(DEAD, &id, &serde_json::json!({"reason": reason}), until)?;
            }
            if waits && !given_up {
                return Ok(fx.put(PARKED, &id, &parked)?);
            }
            Ok(fx.delete(PARKED, &id)?)
        })
        .await?;
    }
    Ok(())
}

fn all(node: &Node) -> Result<Vec<(Vec<u8>, Parked)>, StoreError> {
    node.shared().db.all(PARKED, 2 * MAX_PARKED)
}
