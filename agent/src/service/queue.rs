//! The mediator's mail: queued in order of arrival, handed out until acknowledged.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use einmal_did::Did;
use einmal_didcomm::{ProblemCode, UnixSeconds};
use einmal_flows::message_pickup::QueueStatus;
use einmal_storage::{Record, StoreError, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    config::MediatorSettings,
    db::{Db, did_id, digest_id},
    node::{Effects, Failure, Handled, Shared},
};

/// Payloads: recipient id, then instant of arrival, then a random tail; the value is the payload itself.
const QUEUE: Table = Table::new("queue");
/// Where a payload stands in the queue, by its id.
const QUEUED: Table = Table::new("queued");
/// Most messages kept for one recipient unless configured otherwise.
const DEFAULT_MAX_QUEUE: u64 = 10_000;
/// Seconds a message is kept unless configured otherwise.
const DEFAULT_KEEP_SECS: u64 = 30 * 24 * 3600;

/// Most messages of one recipient counted for a status.
const MAX_COUNTED: usize = 10_000;

/// Payloads read at a time.
const PAGE: usize = 32;

/// The tables above.
pub(crate) fn tables() -> [Table; 2] {
    [QUEUE, QUEUED]
}

/// Where a payload stands.
#[derive(Serialize, Deserialize)]
struct Place {
    recipient: String,
    key: Vec<u8>,
}

/// A payload waiting for its recipient.
pub(crate) struct Waiting {
    /// The id it is acknowledged by.
    pub(crate) id: String,
    /// The envelope.
    pub(crate) payload: Vec<u8>,
    /// When it arrived, in Unix milliseconds.
    pub(crate) arrived_ms: u64,
}

/// How many messages wait for each recipient, as far as it is known without counting.
///
/// An entry may be too high (an event that was handled again counts twice), never too low: before a message is
/// refused for it, the queue is counted.
#[derive(Debug, Default)]
pub(crate) struct Depths(Mutex<HashMap<String, u64>>);

/// Most recipients whose depth is remembered.
const MAX_DEPTHS: usize = 100_000;

impl Depths {
    /// Counts one more message for `recipient` unless there are `most` already.
    fn admit(&self, shared: &Shared, recipient: &str, most: u64) -> Result<bool, StoreError> {
        let known = self.lock().get(recipient).copied();
        let depth = match known.filter(|depth| *depth < most) {
            Some(depth) => depth,
            None => shared.db.count_prefix(QUEUE, recipient.as_bytes())?,
        };
        let mut depths = self.lock();
        if depths.len() >= MAX_DEPTHS {
            depths.clear();
        }
        depths.insert(recipient.to_owned(), depth.saturating_add(1));
        Ok(depth < most)
    }

    /// Forgets what was known: messages were removed.
    fn forget(&self, recipient: &str) {
        self.lock().remove(recipient);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id of a payload: the same bytes for the same recipient are one message, however often they come.
fn payload_id(recipient: &str, payload: &[u8]) -> String {
    let hash: String = Sha256::digest(payload).iter().map(|byte| format!("{byte:02x}")).collect();
    digest_id(&[recipient, &hash])
}

/// Puts a payload into the queue of `next`; a repeated one changes nothing.
pub(crate) fn push(
    shared: &Shared,
    settings: &MediatorSettings,
    depths: &Depths,
    next: &Did,
    payload: &[u8],
    expires: Option<UnixSeconds>,
    fx: &mut Effects<'_>,
) -> Handled {
    let recipient = did_id(next);
    let id = payload_id(&recipient, payload);
    if shared.db.exists(QUEUED, &id)? {
        return Ok(());
    }
    let most = settings.max_queue.unwrap_or(DEFAULT_MAX_QUEUE);
    if !depths.admit(shared, &recipient, most)? {
        return Err(Failure::peer(ProblemCode::STORAGE, "the recipient's mailbox is full; try again later"));
    }
    let mut key = recipient.clone().into_bytes();
    key.extend_from_slice(&shared.now_ms().to_be_bytes());
    let mut tail = [0u8; 8];
    shared.entropy().fill(&mut tail).map_err(|error| Failure::user(error.to_string()))?;
    key.extend_from_slice(&tail);
    let keep = shared.now().plus(settings.keep_seconds.unwrap_or(DEFAULT_KEEP_SECS));
    let until = expires.map_or(keep, |end| end.min(keep));
    let place = Place { recipient, key: key.clone() };
    let full_key = fx.db().key(QUEUE, &key)?;
    let id_key = fx.db().key(QUEUED, &id)?;
    fx.batch().put_expiring(full_key, payload, until.0).expect_absent(id_key);
    fx.put_expiring(QUEUED, &id, &place, until)?;
    crate::node::count(&shared.stats.queued);
    Ok(())
}

/// The oldest payloads waiting for `recipient`, at most `limit`; expired ones are left out.
pub(crate) fn waiting(shared: &Shared, recipient: &Did, limit: usize) -> Result<Vec<Waiting>, StoreError> {
    let mut found = Vec::new();
    pages(shared, recipient, limit.min(PAGE), |message| {
        found.push(message);
        found.len() < limit
    })?;
    Ok(found)
}

/// Looks at every payload waiting for `recipient`, holding only a few at a time.
fn visit(shared: &Shared, recipient: &Did, mut look: impl FnMut(Waiting)) -> Result<(), StoreError> {
    let mut left = MAX_COUNTED;
    pages(shared, recipient, PAGE, |message| {
        look(message);
        left -= 1;
        left > 0
    })
}

/// Hands over payloads in order of arrival until told to stop.
fn pages(
    shared: &Shared,
    recipient: &Did,
    page: usize,
    mut take: impl FnMut(Waiting) -> bool,
) -> Result<(), StoreError> {
    let prefix = did_id(recipient);
    let now = shared.now().0;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let records: Vec<Record> = shared.db.scan_raw(QUEUE, prefix.as_bytes(), after.as_deref(), page)?;
        let Some(last) = records.last() else { return Ok(()) };
        after = Some(last.key.id().to_vec());
        for record in records.into_iter().filter(|record| !record.is_expired(now)) {
            let message = Waiting {
                id: payload_id(&prefix, &record.value),
                arrived_ms: arrival(record.key.id(), prefix.len()),
                payload: record.value,
            };
            if !take(message) {
                return Ok(());
            }
        }
    }
}

fn arrival(key: &[u8], prefix: usize) -> u64 {
    key.get(prefix..prefix + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// The oldest payloads of several recipients, with the ids they are acknowledged by, in order of arrival.
pub(crate) fn oldest(
    shared: &Shared,
    recipients: &[Did],
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut all: Vec<Waiting> = Vec::new();
    for recipient in recipients {
        all.extend(waiting(shared, recipient, limit)?);
        // Never more in memory than one answer can carry and one mailbox adds.
        all.sort_by_key(|message| message.arrived_ms);
        all.truncate(limit);
    }
    Ok(all.into_iter().map(|message| (message.id, message.payload)).collect())
}

/// How the queues of `recipients` stand.
pub(crate) fn status(shared: &Shared, recipients: &[Did]) -> Result<QueueStatus, StoreError> {
    status_without(shared, recipients, &[])
}

/// How the queues will stand once the messages with these ids are gone.
pub(crate) fn status_without(
    shared: &Shared,
    recipients: &[Did],
    gone: &[String],
) -> Result<QueueStatus, StoreError> {
    let mut status = QueueStatus::default();
    for recipient in recipients {
        visit(shared, recipient, |message| {
            if gone.contains(&message.id) {
                return;
            }
            let arrived = UnixSeconds(message.arrived_ms / 1000);
            status.count += 1;
            status.bytes += message.payload.len() as u64;
            status.oldest = Some(status.oldest.map_or(arrived, |oldest| oldest.min(arrived)));
            status.newest = Some(status.newest.map_or(arrived, |newest| newest.max(arrived)));
        })?;
    }
    Ok(status)
}

/// Removes acknowledged payloads of `recipients` and returns their ids; others' mail and unknown ids are passed over.
pub(crate) fn acknowledge(
    depths: &Depths,
    recipients: &[Did],
    ids: &[String],
    fx: &mut Effects<'_>,
) -> Result<Vec<String>, Failure> {
    let own: HashSet<String> = recipients.iter().map(did_id).collect();
    let mut gone = Vec::new();
    for id in ids {
        let Some(place) = fx.db().get::<Place>(QUEUED, id)? else { continue };
        if own.contains(&place.value.recipient) {
            fx.delete(QUEUE, &place.value.key)?;
            fx.delete(QUEUED, id)?;
            depths.forget(&place.value.recipient);
            gone.push(id.clone());
        }
    }
    Ok(gone)
}

/// All messages kept.
pub(crate) fn total(db: &Db) -> Result<u64, StoreError> {
    db.count(QUEUE)
}
