//! Mail kept for others: queues of sealed letters, one per mailbox, in order of arrival.
//!
//! A mediator's mail is written once, read once and deleted; it needs no versions, scans or tree. So it is not among
//! the records but in a log of its own ([`LogMail`]), which is appended to, flushed once for all waiting callers, and
//! cleaned from its oldest end. The index of the letters is held in memory (some 130 bytes each) and rebuilt at the
//! start.
//!
//! The rules of the [`Store`](crate::Store) hold here too: what was put is durable when its [`Commit`] resolves, and
//! what is read or listed would survive a crash. The same letter put twice into one mailbox is one letter.

mod index;
mod log;
mod memory;

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

pub use self::{
    index::{Letter, MailboxState},
    log::{Inspection, LogMail, MAX_LETTER_LEN, SEGMENT_LEN, inspect},
    memory::MemoryMail,
};
use crate::{Commit, StoreError};

/// Most letters one [`Mail::list`] returns.
pub const MAX_LISTED: usize = 1000;

/// The owner of a mailbox: a digest that the caller makes of the recipient. Readable on the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxId(pub [u8; 20]);

impl fmt::Debug for MailboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailboxId(..)")
    }
}

/// The id of a letter; greater means later. A store never gives one twice, whatever happens to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub u64);

/// Is told of a mailbox, a new letter in it, and the letter's payload.
pub type Tell = dyn Fn(MailboxId, LetterId, Option<Vec<u8>>) + Send + Sync;

/// Is told of a letter while it is on its way to the disk.
#[derive(Clone)]
pub struct Early {
    /// Called once for each letter that is new and within its quota, in the order of all ids, before the letter is
    /// durable or listed; only a failing disk keeps it from becoming so. The arguments are its mailbox, its id, and its
    /// payload if wanted and if the disk accepted the last group. Runs within [`Mail::put`] while the mail is locked:
    /// it must return at once and not call the mail. The letter may be removed from then on: [`Mail::held`] knows of
    /// it.
    pub tell: Arc<Tell>,
    /// Whether the payload is wanted.
    pub with_payload: bool,
}

impl fmt::Debug for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Early").field("with_payload", &self.with_payload).finish_non_exhaustive()
    }
}

/// A letter to be kept.
#[derive(Clone)]
pub struct NewLetter {
    /// The mailbox it goes to.
    pub mailbox: MailboxId,
    /// Its bytes, at most [`MAX_LETTER_LEN`]. They are sealed before they reach the disk.
    pub payload: Vec<u8>,
    /// When it arrived, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// When it expires, in seconds since 1970; `u64::MAX` for never.
    pub expires_at: u64,
    /// Most the mailbox may hold, including this letter.
    pub quota: Quota,
    /// Who is told of it before it is durable.
    pub early: Option<Early>,
}

impl fmt::Debug for NewLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewLetter").field("payload_len", &self.payload.len()).finish_non_exhaustive()
    }
}

/// How much one mailbox, and all of them together, may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Most letters in the mailbox. Fewer if few are left of `total_letters`, because each mailbox gets only a share of
    /// the rest.
    pub letters: u64,
    /// Most bytes of payload in the mailbox. Fewer if little is left of `total_bytes`, because each mailbox gets only a
    /// share of the rest.
    pub bytes: u64,
    /// Most letters in all mailboxes. Each takes memory, even a short one.
    pub total_letters: u64,
    /// Most bytes of payload in all mailboxes.
    pub total_bytes: u64,
}

impl Quota {
    /// No limits.
    pub const NONE: Self =
        Self { letters: u64::MAX, bytes: u64::MAX, total_letters: u64::MAX, total_bytes: u64::MAX };
}

/// The key for sealing letters and making their digests. Wiped when dropped; cannot be printed.
pub struct MailKey(pub(crate) Zeroizing<[u8; 32]>);

impl MailKey {
    /// Takes 32 random bytes, which the caller keeps for as long as the mail exists.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }
}

impl fmt::Debug for MailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailKey(..)")
    }
}

/// Numbers about all mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailStats {
    /// Letters kept.
    pub letters: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Mailboxes that hold at least one letter.
    pub mailboxes: u64,
    /// When the oldest letter arrived, in milliseconds since 1970: the earliest of the first letters of all mailboxes, also one that
    /// has expired and is not swept yet. Kept up to date with each letter, so asking is cheap.
    pub oldest_ms: Option<u64>,
    /// Bytes the log takes on the disk, without what is set aside for cleaning; 0 in memory.
    pub bytes_on_disk: u64,
    /// Flushes since the start.
    pub flushes: u64,
    /// Letters found unreadable since the start; they are skipped, and dropped when their segment is cleaned.
    pub damaged: u64,
}

/// Keeps letters for mailboxes.
pub trait Mail: Send + Sync + 'static {
    /// Puts letters into their mailboxes, in order, all or none. A letter that already waits in its mailbox, byte for
    /// byte, changes nothing.
    ///
    /// # Errors
    ///
    /// The commit resolves to [`StoreError::MailboxFull`] beyond a quota, [`StoreError::ValueTooLarge`],
    /// [`StoreError::Full`], [`StoreError::Stalled`], [`StoreError::Closed`], or another error of the disk; then none was put.
    fn put(&self, letters: Vec<NewLetter>) -> Commit;

    /// Removes letters of one mailbox; ignores unknown ones.
    ///
    /// # Errors
    ///
    /// Those of [`Mail::put`], except the quotas.
    fn remove(&self, mailbox: MailboxId, letters: Vec<LetterId>) -> Commit;

    /// Removes all letters of a mailbox up to and including `last`. Letters that were put later stay, so that a mailbox which
    /// gets a new owner meanwhile keeps what the new owner gets.
    ///
    /// # Errors
    ///
    /// As [`Mail::remove`].
    fn clear(&self, mailbox: MailboxId, last: LetterId) -> Commit;

    /// The letters of a mailbox after the given one, oldest first, at most `limit` and never more than [`MAX_LISTED`].
    /// Letters that have expired at `now` (seconds since 1970) are left out.
    fn list(&self, mailbox: MailboxId, after: Option<LetterId>, limit: usize, now: u64) -> Vec<Letter>;

    /// The oldest letters of several mailboxes together, in order of arrival: those after `after`, at most `limit` and never
    /// more than [`MAX_LISTED`], without those that have expired at `now` (seconds since 1970).
    fn oldest(
        &self,
        mailboxes: &[MailboxId],
        after: Option<LetterId>,
        limit: usize,
        now: u64,
    ) -> Vec<(MailboxId, Letter)>;

    /// The last durable letter, as far as is known: all later ones have greater ids.
    fn last(&self) -> LetterId;

    /// The last letter that was let in, durable or on its way: all later ones have greater ids.
    fn newest(&self) -> LetterId;

    /// Which of `letters`, given in order and each once, wait in these mailboxes or are on their way into them. Mailboxes that
    /// have none of them are left out.
    fn held(&self, mailboxes: &[MailboxId], letters: &[LetterId]) -> Vec<(MailboxId, Vec<LetterId>)>;

    /// Reads a letter. `None` if it is no longer there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it was altered on the disk, [`StoreError::LetterMoved`] if it is moved on the disk
    /// faster than it can be read, [`StoreError::Io`].
    fn read(&self, mailbox: MailboxId, letter: LetterId) -> Result<Option<Vec<u8>>, StoreError>;

    /// How a mailbox stands. Letters that have expired at `now` (seconds since 1970) do not count.
    fn state(&self, mailbox: MailboxId, now: u64) -> MailboxState {
        self.state_without(mailbox, &[], now)
    }

    /// How a mailbox will stand once the letters `gone` are removed; those that are not there make no difference.
    fn state_without(&self, mailbox: MailboxId, gone: &[LetterId], now: u64) -> MailboxState;

    /// Forgets letters that have expired at `now` (seconds since 1970), looking at about `limit` letters; the next call
    /// continues after them. Returns how many were removed.
    fn expire(&self, now: u64, limit: usize) -> u64;

    /// Mailboxes that hold letters, after the given one, in a fixed order; at most [`MAX_LISTED`].
    fn mailboxes(&self, after: Option<MailboxId>) -> Vec<MailboxId>;

    /// Numbers about all mail.
    fn stats(&self) -> MailStats;

    /// Whether letters are still accepted: `false` once a write has failed permanently, or the mail was closed.
    fn is_open(&self) -> bool;

    /// Whether the disk refused the last write, being full or read-only. New letters are refused until it accepts one.
    fn is_held_up(&self) -> bool;

    /// Whether the disk has been busy with one write for longer than [`STALLED_AFTER`](crate::STALLED_AFTER). Meanwhile what
    /// would have to wait for it is refused with [`StoreError::Stalled`].
    fn is_stalled(&self) -> bool;

    /// Tests whether a disk that refused the last write accepts one now, so that mail is accepted again even if nobody
    /// sends any meanwhile. Otherwise does nothing.
    fn try_again(&self);

    /// Writes what was accepted and releases the folder. Later calls get [`StoreError::Closed`].
    ///
    /// # Errors
    ///
    /// [`StoreError`] if something accepted could not be written.
    fn close(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
