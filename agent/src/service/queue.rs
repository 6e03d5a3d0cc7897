//! The mediator's mail: forwards are put into mailboxes and handed out until acknowledged.

use std::collections::HashMap;

use einmal_didcomm::{Forward, UnixSeconds};
use einmal_flows::{limits::MAX_DELIVERY_BYTES, message_pickup::QueueStatus};
use einmal_keys::{base64url_decode, base64url_encode};
use einmal_storage::{
    Batch, Record, StoreError, Table,
    mail::{LetterId, MailboxId, NewLetter, Quota},
};
use hmac::{Hmac, KeyInit, Mac, digest::InvalidLength};
use sha2::Sha256;

use crate::{
    config::MediatorSettings,
    handler::{Effects, Failure, PeerFault, Shared},
};

/// Payloads as version 0.1 kept them, among the records; moved at the first start.
const OLD_QUEUE: Table = Table::new("queue");
/// Old records moved at a time.
const OLD_PAGE: usize = 64;
/// Most messages kept for one recipient unless configured otherwise.
const DEFAULT_MAX_QUEUE: u64 = 10_000;
/// Most bytes kept for one recipient unless configured otherwise.
const DEFAULT_MAX_QUEUE_BYTES: u64 = 64 * 1024 * 1024;
/// Most messages kept for all recipients together unless configured otherwise; `docs/configuration.md` says how much
/// memory the index then takes.
const DEFAULT_MAX_TOTAL_QUEUE: u64 = 2_000_000;
/// Most bytes kept for all recipients together unless configured otherwise.
const DEFAULT_MAX_TOTAL_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// Seconds a message is kept unless configured otherwise.
pub(crate) const DEFAULT_KEEP_SECS: u64 = 30 * 24 * 3600;
/// Length in bytes of the ids that acknowledge messages, before they are encoded as text.
const ID_LEN: usize = 16;
/// The first byte of the input of a code, which says what it is for: here the tag of a letter's number.
const TAG: u8 = 1;
/// Here the mask over a letter's number.
const MASK: u8 = 2;

/// Moves mail that version 0.1 kept among the records into the mail store. Returns how many letters there were.
///
/// Unreadable records stay where they are and are reported: a later version may read them.
pub(crate) async fn take_over(shared: &Shared) -> Result<u64, StoreError> {
    let (mut moved, mut unread) = (0, 0);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = shared.db.scan_raw(OLD_QUEUE, b"", after.as_deref(), OLD_PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.id().to_vec());
        let (mut letters, mut batch) = (Vec::new(), Batch::new());
        for record in page {
            match old_letter(&record) {
                Some(letter) => {
                    letters.push(letter);
                    batch.delete(record.key);
                }
                None => unread += 1,
            }
        }
        moved += letters.len() as u64;
        // First written there, then deleted here: a crash in between leaves a letter twice, which is recognised.
        shared.mail.put(letters).await?;
        shared.db.store().commit(batch).await?;
    }
    if unread > 0 {
        tracing::error!(unread, "letters of an earlier version cannot be read and stay among the records");
    }
    Ok(moved)
}

/// Parses the id of an old record: recipient in hexadecimal, arrival in milliseconds, random part.
fn old_letter(record: &Record) -> Option<NewLetter> {
    let id = record.key.id();
    let mut mailbox = [0; 20];
    for (byte, digits) in mailbox.iter_mut().zip(id.get(..40)?.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(NewLetter {
        mailbox: MailboxId(mailbox),
        payload: record.value.clone(),
        arrived_ms: u64::from_be_bytes(*id.get(40..)?.first_chunk()?),
        expires_at: record.expires_at.unwrap_or(u64::MAX),
        quota: Quota::NONE,
        early: None,
    })
}

/// Writes and reads the ids by which recipients acknowledge messages.
///
/// They reveal nothing about other recipients' mail, not even how much there is, and need no table: a letter's number
/// under a keyed mask, with a tag that nobody else can make.
pub(crate) struct Ids(Hmac<Sha256>);

impl Ids {
    /// # Errors
    ///
    /// [`InvalidLength`] if a key of this length is not accepted; without a key there are no ids.
    pub(crate) fn new(key: &[u8]) -> Result<Self, InvalidLength> {
        Ok(Self(Hmac::new_from_slice(key)?))
    }

    fn mac(&self, purpose: u8, data: [u8; 8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&[purpose]);
        mac.update(&data);
        mac
    }

    fn tag(&self, id: u64) -> [u8; 8] {
        truncated(self.mac(TAG, id.to_le_bytes()))
    }

    /// A letter's number under the mask of its tag; or, applied again, the number itself.
    fn masked(&self, id: u64, tag: [u8; 8]) -> u64 {
        id ^ u64::from_le_bytes(truncated(self.mac(MASK, tag)))
    }

    /// The id of a letter, as text.
    pub(crate) fn write(&self, LetterId(id): LetterId) -> String {
        let tag = self.tag(id);
        base64url_encode([tag, self.masked(id, tag).to_le_bytes()].concat())
    }

    /// The letter an id names, if it was written here.
    pub(crate) fn read(&self, text: &str) -> Option<LetterId> {
        let bytes = base64url_decode(text).filter(|bytes| bytes.len() == ID_LEN)?;
        let (tag, masked) = (bytes.first_chunk::<8>()?, bytes.last_chunk::<8>()?);
        let id = self.masked(u64::from_le_bytes(*masked), *tag);
        // In constant time, whichever byte is wrong: otherwise a tag could be guessed byte by byte.
        self.mac(TAG, id.to_le_bytes()).verify_truncated_left(tag).ok()?;
        Some(LetterId(id))
    }
}

/// The first bytes of a code.
fn truncated(mac: Hmac<Sha256>) -> [u8; 8] {
    let mut first = [0; 8];
    first.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(to, from)| *to = from);
    first
}

/// The letters a forward puts into `mailbox`, the mailbox of its `next`.
pub(crate) fn letters(
    shared: &Shared,
    settings: &MediatorSettings,
    forward: Forward,
    mailbox: MailboxId,
    expires: Option<UnixSeconds>,
) -> Vec<NewLetter> {
    let keep = shared.kept_for(settings.keep_seconds.unwrap_or(DEFAULT_KEEP_SECS));
    let expires_at = expires.map_or(keep, |end| end.min(keep)).0;
    let arrived_ms = shared.now_ms();
    let quota = quota(settings);
    let letter = |payload| NewLetter { mailbox, payload, arrived_ms, expires_at, quota, early: None };
    forward.payloads.into_iter().map(letter).collect()
}

/// The limits on mail that is kept.
pub(crate) fn quota(settings: &MediatorSettings) -> Quota {
    Quota {
        letters: settings.max_queue.unwrap_or(DEFAULT_MAX_QUEUE),
        bytes: settings.max_queue_bytes.unwrap_or(DEFAULT_MAX_QUEUE_BYTES),
        total_letters: settings.max_total_queue.unwrap_or(DEFAULT_MAX_TOTAL_QUEUE),
        total_bytes: settings.max_total_bytes.unwrap_or(DEFAULT_MAX_TOTAL_BYTES),
    }
}

/// What the sender of mail that could not be kept is told.
pub(crate) fn not_kept(error: StoreError) -> Failure {
    match error {
        StoreError::MailboxFull => {
            Failure::peer(PeerFault::NoRoom, "the recipient's mailbox is full; try again later")
        }
        error => error.into(),
    }
}

/// The oldest payloads of several mailboxes with the ids they are acknowledged by, in order of arrival: at most
/// `limit`, and no more than one delivery can carry.
pub(crate) fn oldest(
    shared: &Shared,
    ids: &Ids,
    mailboxes: &[MailboxId],
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let (mut found, mut bytes, mut after) = (Vec::new(), 0, None);
    loop {
        let page = shared.mail.oldest(mailboxes, after, limit - found.len(), shared.now().0);
        let Some((_, last)) = page.last() else { return Ok(found) };
        after = Some(last.id);
        for (mailbox, letter) in page {
            if bytes > MAX_DELIVERY_BYTES {
                return Ok(found);
            }
            if let Some(payload) = read(shared, mailbox, letter.id)? {
                bytes += payload.len();
                found.push((ids.write(letter.id), payload));
            }
        }
        // The next letters take the place of damaged ones.
        if found.len() >= limit {
            return Ok(found);
        }
    }
}

/// Reads a letter; one that was damaged on the disk is counted, reported to the operator, and skipped.
pub(crate) fn read(
    shared: &Shared,
    mailbox: MailboxId,
    letter: LetterId,
) -> Result<Option<Vec<u8>>, StoreError> {
    match shared.mail.read(mailbox, letter) {
        Err(StoreError::Damaged { what }) => {
            tracing::error!(%what, letter = letter.0, "a letter is damaged on the disk and is not delivered");
            Ok(None)
        }
        read => read,
    }
}

/// How `mailboxes` will stand together once the letters `gone` are removed.
pub(crate) fn status(
    shared: &Shared,
    mailboxes: &[MailboxId],
    gone: &[(MailboxId, Vec<LetterId>)],
) -> QueueStatus {
    let mut status = QueueStatus::default();
    let now = shared.now().0;
    let gone: HashMap<MailboxId, &[LetterId]> =
        gone.iter().map(|(mailbox, letters)| (*mailbox, letters.as_slice())).collect();
    for mailbox in mailboxes {
        let gone = gone.get(mailbox).copied().unwrap_or_default();
        let state = shared.mail.state_without(*mailbox, gone, now);
        if state.letters == 0 {
            continue;
        }
        status.count += state.letters;
        status.bytes += state.bytes;
        status.oldest_ms = status.oldest_ms.into_iter().chain(state.oldest_ms).min();
        status.newest_ms = status.newest_ms.max(state.newest_ms);
    }
    status
}

/// Removes acknowledged letters of `mailboxes` with the event; others' mail and unknown ids are passed over.
pub(crate) fn acknowledge(
    shared: &Shared,
    ids: &Ids,
    mailboxes: &[MailboxId],
    named: &[String],
    fx: &mut Effects<'_>,
) -> Vec<(MailboxId, Vec<LetterId>)> {
    let mut letters: Vec<LetterId> = named.iter().filter_map(|id| ids.read(id)).collect();
    letters.sort_unstable();
    letters.dedup();
    let gone = shared.mail.held(mailboxes, &letters);
    for (mailbox, letters) in &gone {
        fx.remove_letters(*mailbox, letters.clone());
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(key: u8) -> Ids {
        Ids::new(&[key; 32]).unwrap()
    }

    #[test]
    fn every_bound_of_the_mail_is_that_of_the_settings_and_a_million_letters_in_a_hundred_mailboxes_fit_without()
     {
        let settings = MediatorSettings {
            max_queue: Some(1),
            max_queue_bytes: Some(2),
            max_total_queue: Some(3),
            max_total_bytes: Some(4),
            ..MediatorSettings::default()
        };
        let expected = Quota { letters: 1, bytes: 2, total_letters: 3, total_bytes: 4 };
        assert_eq!(quota(&settings), expected);
        let quota = quota(&MediatorSettings::default());
        let left = quota.total_letters - 990_000;
        assert!(quota.letters >= 10_000 && left / 64 >= 10_000, "{quota:?}");
    }

    #[test]
    fn ids_come_back_and_no_other_text_does() {
        for id in [LetterId(0), LetterId(7), LetterId(u64::MAX)] {
            let text = ids(1).write(id);
            assert_eq!(ids(1).read(&text), Some(id));
            assert_eq!(ids(2).read(&text), None, "another mediator's");
        }
        for text in ["", "7", "AAAAAAAAAAAAAAAAAAAAAA", "not base64!"] {
            assert_eq!(ids(1).read(text), None, "{text}");
        }
        assert_ne!(ids(1).write(LetterId(1)).get(..8), ids(1).write(LetterId(2)).get(..8), "no order shows");
    }

    #[test]
    fn id_with_any_byte_changed_names_no_letter() {
        let text = ids(1).write(LetterId(7));
        for at in 0..ID_LEN {
            let mut bytes = base64url_decode(&text).unwrap();
            bytes[at] ^= 1;
            assert_eq!(ids(1).read(&base64url_encode(bytes)), None, "byte {at}");
        }
    }

    /// Recipients hold ids that were handed out before an update.
    #[test]
    fn ids_of_earlier_versions_are_read() {
        for (id, text) in [(7, "moMFI18Ver8lcyiNHgkw6Q"), (u64::MAX, "PA0BGADUhWq9O17YmKghIg")] {
            assert_eq!(ids(1).read(text), Some(LetterId(id)));
            assert_eq!(ids(1).write(LetterId(id)), text);
        }
    }
}
