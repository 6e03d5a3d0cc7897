//! Mail in memory, for simulations and tests: the same rules, without a disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Letter, LetterId, Mail, MailStats, MailboxId, MailboxState, NewLetter,
    index::{Ahead, Entry, Index, Place},
    log::{check_len, digest},
};
use crate::{Commit, Committed, StoreError, Version};

/// Key of the digests: nobody attacks a simulation.
const DIGEST_KEY: [u8; 32] = [7; 32];

/// Mail in memory. Clones share it, as a disk survives the process that wrote to it.
#[derive(Clone, Default)]
pub struct MemoryMail(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    index: Index,
    payloads: HashMap<u64, Vec<u8>>,
    last: u64,
}

impl std::fmt::Debug for MemoryMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryMail(..)")
    }
}

impl MemoryMail {
    /// No mail yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, letters: Vec<NewLetter>) -> Result<(), StoreError> {
        let mut fresh: Vec<(u64, NewLetter)> = Vec::new();
        for letter in letters {
            let digest = digest(&DIGEST_KEY, letter.mailbox, &letter.payload);
            let NewLetter { mailbox, arrived_ms, expires_at, .. } = letter;
            if self.index.stands_in(mailbox, digest, (arrived_ms, expires_at), |_| false) {
                continue;
            }
            check_len(&letter.payload)?;
            if let Some((_, twin)) = fresh.iter_mut().find(|(other, _)| *other == digest) {
                // Of two equal letters in one call, keep the one that lasts longer.
                if twin.expires_at < expires_at {
                    *twin = letter;
                }
                continue;
            }
            let mut ahead = Ahead::default();
            for (_, other) in &fresh {
                let len = other.payload.len() as u64;
                let same = u64::from(other.mailbox == letter.mailbox);
                ahead.letters += same;
                ahead.bytes += same * len;
                ahead.letters_in_all += 1;
                ahead.bytes_in_all += len;
            }
            self.index.admit(letter.mailbox, letter.payload.len() as u64, letter.quota, ahead)?;
            fresh.push((digest, letter));
        }
        for (digest, letter) in fresh {
            self.last += 1;
            let entry = Entry {
                id: self.last,
                place: Place::default(),
                len: u32::try_from(letter.payload.len()).unwrap_or(u32::MAX),
                digest,
                arrived_ms: letter.arrived_ms,
                expires_at: letter.expires_at,
            };
            if let Some(early) = letter.early {
                let payload = early.with_payload.then(|| letter.payload.clone());
                (early.tell)(letter.mailbox, LetterId(self.last), payload);
            }
            self.index.insert(letter.mailbox, entry);
            self.payloads.insert(self.last, letter.payload);
        }
        Ok(())
    }

    fn remove(&mut self, mailbox: MailboxId, id: u64) -> bool {
        self.payloads.remove(&id);
        self.index.remove(mailbox, id).is_some()
    }
}

fn answered(answer: Result<(), StoreError>, last: u64) -> Commit {
    Commit::answered(answer.map(|()| Committed { version: Version(last) }))
}

impl Mail for MemoryMail {
    fn put(&self, letters: Vec<NewLetter>) -> Commit {
        let mut state = self.lock();
        let answer = state.put(letters);
        answered(answer, state.last)
    }

    fn remove(&self, mailbox: MailboxId, letters: Vec<LetterId>) -> Commit {
        let mut state = self.lock();
        for LetterId(id) in letters {
            if state.index.entry(mailbox, id).is_some() {
                state.remove(mailbox, id);
            }
        }
        answered(Ok(()), state.last)
    }

    fn clear(&self, mailbox: MailboxId, last: LetterId) -> Commit {
        let mut state = self.lock();
        for entry in state.index.clear(mailbox, last.0) {
            state.payloads.remove(&entry.id);
        }
        answered(Ok(()), state.last)
    }

    fn list(&self, mailbox: MailboxId, after: Option<LetterId>, limit: usize, now: u64) -> Vec<Letter> {
        self.lock().index.list(mailbox, after, limit, now)
    }

    fn oldest(
        &self,
        mailboxes: &[MailboxId],
        after: Option<LetterId>,
        limit: usize,
        now: u64,
    ) -> Vec<(MailboxId, Letter)> {
        self.lock().index.oldest(mailboxes, after, limit, now)
    }

    fn last(&self) -> LetterId {
        self.lock().index.last()
    }

    fn newest(&self) -> LetterId {
        LetterId(self.lock().last)
    }

    fn held(&self, mailboxes: &[MailboxId], letters: &[LetterId]) -> Vec<(MailboxId, Vec<LetterId>)> {
        self.lock().index.held(mailboxes, letters)
    }

    fn read(&self, mailbox: MailboxId, letter: LetterId) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.lock();
        let held = state.index.entry(mailbox, letter.0).is_some();
        Ok(held.then(|| state.payloads.get(&letter.0).cloned()).flatten())
    }

    fn state_without(&self, mailbox: MailboxId, gone: &[LetterId], now: u64) -> MailboxState {
        self.lock().index.state(mailbox, gone, now)
    }

    fn expire(&self, now: u64, limit: usize) -> u64 {
        let mut state = self.lock();
        let gone = state.index.expired(now, limit);
        for (mailbox, id) in &gone {
            state.remove(*mailbox, *id);
        }
        state.index.note_ends(gone.iter().map(|(mailbox, _)| *mailbox));
        gone.len() as u64
    }

    fn mailboxes(&self, after: Option<MailboxId>) -> Vec<MailboxId> {
        self.lock().index.mailboxes(after)
    }

    fn stats(&self) -> MailStats {
        self.lock().index.stats()
    }

    fn is_open(&self) -> bool {
        true
    }

    fn is_held_up(&self) -> bool {
        false
    }

    fn is_stalled(&self) -> bool {
        false
    }

    fn try_again(&self) {}

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
