//! Mail on a slow disk: letters are there, but nobody is told that they are durable until the test says so.

use std::sync::{Mutex, PoisonError};

use einmal_storage::{
    Acknowledgement, Commit, StoreError,
    mail::{Letter, LetterId, Mail, MailStats, MailboxId, MailboxState, MemoryMail, NewLetter},
};

/// Holds back the acknowledgements of letters that were put.
#[derive(Debug, Default)]
pub struct HeldMail {
    inner: MemoryMail,
    held: Mutex<Vec<(Acknowledgement, Commit)>>,
    damaged: Mutex<Vec<LetterId>>,
}

impl HeldMail {
    fn held(&self) -> Vec<(Acknowledgement, Commit)> {
        std::mem::take(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many callers wait for one.
    pub fn waiting(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Tells all waiting callers that their letters are durable.
    pub async fn release(&self) {
        for (acknowledgement, commit) in self.held() {
            acknowledgement.answer(commit.await);
        }
    }

    /// Makes these letters unreadable from now on.
    pub fn damage(&self, letters: impl IntoIterator<Item = LetterId>) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).extend(letters);
    }

    /// Tells all waiting callers that the mailbox is full.
    pub fn refuse(&self) {
        for (acknowledgement, _) in self.held() {
            acknowledgement.answer(Err(StoreError::MailboxFull));
        }
    }

    /// Tells all waiting callers that the disk failed.
    pub fn fail(&self) {
        for (acknowledgement, _) in self.held() {
            acknowledgement.answer(Err(StoreError::Full));
        }
    }
}

impl Mail for HeldMail {
    fn put(&self, letters: Vec<NewLetter>) -> Commit {
        let (acknowledgement, commit) = Commit::pending();
        let put = self.inner.put(letters);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push((acknowledgement, put));
        commit
    }

    fn remove(&self, mailbox: MailboxId, letters: Vec<LetterId>) -> Commit {
        self.inner.remove(mailbox, letters)
    }

    fn clear(&self, mailbox: MailboxId, last: LetterId) -> Commit {
        self.inner.clear(mailbox, last)
    }

    fn list(&self, mailbox: MailboxId, after: Option<LetterId>, limit: usize, now: u64) -> Vec<Letter> {
        self.inner.list(mailbox, after, limit, now)
    }

    fn oldest(
        &self,
        mailboxes: &[MailboxId],
        after: Option<LetterId>,
        limit: usize,
        now: u64,
    ) -> Vec<(MailboxId, Letter)> {
        self.inner.oldest(mailboxes, after, limit, now)
    }

    fn last(&self) -> LetterId {
        self.inner.last()
    }

    fn newest(&self) -> LetterId {
        self.inner.newest()
    }

    fn held(&self, mailboxes: &[MailboxId], letters: &[LetterId]) -> Vec<(MailboxId, Vec<LetterId>)> {
        self.inner.held(mailboxes, letters)
    }

    fn read(&self, mailbox: MailboxId, letter: LetterId) -> Result<Option<Vec<u8>>, StoreError> {
        if self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&letter) {
            return Err(StoreError::Damaged { what: "a letter of a test".into() });
        }
        self.inner.read(mailbox, letter)
    }

    fn state_without(&self, mailbox: MailboxId, gone: &[LetterId], now: u64) -> MailboxState {
        self.inner.state_without(mailbox, gone, now)
    }

    fn expire(&self, now: u64, limit: usize) -> u64 {
        self.inner.expire(now, limit)
    }

    fn mailboxes(&self, after: Option<MailboxId>) -> Vec<MailboxId> {
        self.inner.mailboxes(after)
    }

    fn stats(&self) -> MailStats {
        self.inner.stats()
    }

    fn is_open(&self) -> bool {
        self.inner.is_open()
    }

    fn is_held_up(&self) -> bool {
        self.inner.is_held_up()
    }

    fn is_stalled(&self) -> bool {
        self.inner.is_stalled()
    }

    fn try_again(&self) {
        self.inner.try_again();
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}
