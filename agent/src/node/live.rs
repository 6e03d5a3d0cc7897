//! Live delivery: what is pushed to a session, and in which form its version wants it.

use einmal_storage::{
    StoreError,
    mail::{LetterId, MailboxId},
};

use super::Node;
use crate::service::{live::Session, queue};

impl Node {
    /// Up to `limit` envelopes for a session from one of its mailboxes, and whether there may be more.
    ///
    /// What is returned counts as pushed, not as delivered: it stays in the mailbox until it is acknowledged.
    pub(crate) async fn live_letters(
        &self,
        session: &Session,
        mailbox: MailboxId,
        limit: usize,
    ) -> Result<(Vec<Vec<u8>>, bool), StoreError> {
        let now = self.shared.now().0;
        let after: LetterId = session.pushed(mailbox);
        let listed = self.shared.mail.list(mailbox, Some(after), limit, now);
        let mut frames = Vec::with_capacity(listed.len());
        for letter in &listed {
            if let Some(payload) = queue::read(&self.shared, mailbox, letter.id)? {
                frames.push(payload);
            }
            session.note_pushed(mailbox, letter.id);
        }
        self.shared.stats.pushed.inc_by(frames.len() as u64);
        Ok((frames, listed.len() == limit))
    }
}
