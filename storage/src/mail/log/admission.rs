//! Decides what is admitted to the mail (known letters, quotas, ids) when a letter is put, not when it is written.

use std::collections::{HashMap, HashSet};

use super::{
    frame::{Header, Kind},
    job::Sealed,
    leaving::Leaving,
};
use crate::{
    StoreError,
    mail::{
        LetterId, MailboxId,
        index::{Ahead, Index},
    },
};

/// Letters that are admitted but not in the index yet, and the next free id.
pub(super) struct Admission {
    next_id: u64,
    /// What is on its way out: the same letter put now would be promised and not be there.
    pub(super) leaving: Leaving,
    digests: HashSet<u64>,
    letters: HashMap<LetterId, MailboxId>,
    /// Letters and bytes on their way into a mailbox, and bytes on their way in all.
    ahead: HashMap<MailboxId, (u64, u64)>,
    ahead_bytes: u64,
}

impl Admission {
    pub(super) fn new(next_id: u64) -> Self {
        Self {
            next_id,
            leaving: Leaving::default(),
            digests: HashSet::new(),
            letters: HashMap::new(),
            ahead: HashMap::new(),
            ahead_bytes: 0,
        }
    }

    /// The next free id; all later letters have this id or a greater one.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Those of `letters` that are on their way, with their mailboxes.
    pub(super) fn awaited(&self, letters: &[LetterId]) -> impl Iterator<Item = (MailboxId, LetterId)> {
        letters.iter().filter_map(|letter| Some((*self.letters.get(letter)?, *letter)))
    }

    /// Admits letters that are not known yet and gives them ids: all of them, or none.
    ///
    /// A letter that is already on its way is admitted again, without counting it again: if the disk refuses the first
    /// one, nobody may be told that the second is there.
    pub(super) fn admit(&mut self, letters: Vec<Sealed>, index: &Index) -> Result<Vec<Sealed>, StoreError> {
        let mut fresh: Vec<Sealed> = Vec::with_capacity(letters.len());
        let mut own = HashMap::<MailboxId, (u64, u64)>::new();
        let (mut own_letters, mut own_bytes) = (0u64, 0u64);
        for mut letter in letters {
            let Header { mailbox, digest, arrived_ms, expires_at, .. } = letter.header;
            let leaves = |twin| self.leaving.takes(mailbox, twin);
            if index.stands_in(mailbox, digest, (arrived_ms, expires_at), leaves) {
                continue;
            }
            if let Some(twin) = fresh.iter_mut().find(|other| other.header.digest == digest) {
                // Of two equal letters in one call, keep the one that lasts longer.
                if twin.header.expires_at < expires_at {
                    letter.again = twin.again;
                    *twin = letter;
                }
                continue;
            }
            if self.digests.contains(&digest) {
                letter.again = true;
                fresh.push(letter);
                continue;
            }
            let len = u64::from(letter.header.payload_len());
            let before = self.ahead.get(&mailbox).copied().unwrap_or_default();
            let count = own.entry(mailbox).or_default();
            let ahead = Ahead {
                letters: before.0 + count.0,
                bytes: before.1 + count.1,
                letters_in_all: self.letters.len() as u64 + own_letters,
                bytes_in_all: self.ahead_bytes + own_bytes,
            };
            index.admit(mailbox, len, letter.quota, ahead)?;
            count.0 += 1;
            count.1 += len;
            own_letters += 1;
            own_bytes += len;
            fresh.push(letter);
        }
        let free = self.next_id.checked_add(fresh.len() as u64).ok_or(StoreError::Full)?;
        for (id, letter) in (self.next_id..free).zip(&mut fresh) {
            letter.header.id = id;
            if !letter.again {
                self.enter(&letter.header);
            }
        }
        self.next_id = free;
        Ok(fresh)
    }

    fn enter(&mut self, header: &Header) {
        let len = u64::from(header.payload_len());
        self.digests.insert(header.digest);
        self.letters.insert(LetterId(header.id), header.mailbox);
        let ahead = self.ahead.entry(header.mailbox).or_default();
        *ahead = (ahead.0 + 1, ahead.1 + len);
        self.ahead_bytes += len;
    }

    /// Called when an entry is in the index, or will never be.
    pub(super) fn retire(&mut self, header: &Header) {
        // Other entries have other numbers in the place of an id.
        if header.kind != Kind::Letter || self.letters.remove(&LetterId(header.id)).is_none() {
            return;
        }
        let len = u64::from(header.payload_len());
        self.digests.remove(&header.digest);
        self.ahead_bytes -= len;
        if let Some(ahead) = self.ahead.get_mut(&header.mailbox) {
            *ahead = (ahead.0 - 1, ahead.1 - len);
            if ahead.0 == 0 {
                self.ahead.remove(&header.mailbox);
            }
        }
    }
}
