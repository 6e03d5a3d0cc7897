//! Live delivery: what is pushed to a session, and in which form its version wants it.

use std::sync::Arc;

use einmal_flows::message_pickup;
use einmal_storage::mail::{LetterId, MailboxId};
use tokio::sync::Notify;

use super::{Failure, Node};
use crate::service::{
    live::{LiveChange, Session},
    queue,
};

/// Most letters wrapped in one envelope.
const WRAPPED_AT_ONCE: usize = 8;

/// What is to be pushed, and whether there may be more.
pub(crate) struct Pushes {
    pub(crate) envelopes: Vec<Vec<u8>>,
    pub(crate) more: bool,
}

impl Node {
    /// Opens a session; `bell` rings when there is something to push.
    pub(crate) fn open_session(&self, change: LiveChange, bell: &Arc<Notify>) -> Arc<Session> {
        let session = self.shared.live.open(change, Arc::clone(bell));
        // What came between the answer and now, and nobody was rung for.
        let (mail, change, now) = (&self.shared.mail, &session.change, self.shared.now().0);
        let newer = |mailbox: &&MailboxId| !mail.list(**mailbox, Some(change.since), 1, now).is_empty();
        change.mailboxes.iter().filter(newer).for_each(|mailbox| session.look_again(*mailbox));
        session
    }

    /// Up to `limit` letters a session was offered before they were durable, as envelopes.
    pub(crate) fn offered_letters(&self, session: &Session, limit: usize) -> Result<Vec<Vec<u8>>, Failure> {
        let offered = std::iter::from_fn(|| session.next_offered()).take(limit);
        let letters: Vec<_> = offered.map(|(id, payload)| (self.role.letter_id(id), payload)).collect();
        self.shared.stats.pushed.inc_by(letters.len() as u64);
        self.in_form_of(session, letters)
    }

    /// Up to `limit` letters for a session from one of its mailboxes, as envelopes.
    ///
    /// What is returned counts as pushed, not as delivered: it stays in the mailbox until it is acknowledged.
    pub(crate) fn live_letters(
        &self,
        session: &Session,
        mailbox: MailboxId,
        limit: usize,
    ) -> Result<Pushes, Failure> {
        let after: LetterId = session.pushed(mailbox);
        let listed = self.shared.mail.list(mailbox, Some(after), limit, self.shared.now().0);
        let mut letters = Vec::with_capacity(listed.len());
        for letter in &listed {
            if !session.claim(mailbox, letter.id) {
                continue;
            }
            if let Some(payload) = queue::read(&self.shared, mailbox, letter.id)? {
                letters.push((self.role.letter_id(letter.id), payload));
            }
        }
        let count = letters.len() as u64;
        let envelopes = self.in_form_of(session, letters)?;
        self.shared.stats.pushed.inc_by(count);
        Ok(Pushes { envelopes, more: listed.len() == limit })
    }

    /// Raw in 3.0, in deliveries of the mediator's in 4.0.
    fn in_form_of(
        &self,
        session: &Session,
        letters: Vec<(String, Vec<u8>)>,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let change = &session.change;
        let theirs = session.owner();
        let mut envelopes = Vec::new();
        let mut rest = letters.as_slice();
        while !rest.is_empty() {
            let some = rest.get(..WRAPPED_AT_ONCE).unwrap_or(rest);
            let Some(draft) = message_pickup::push(change.version, None, some) else {
                return Ok(letters.into_iter().map(|(_, payload)| payload).collect());
            };
            // One envelope carries fewer if they are large.
            rest = rest.get(draft.attachments.len().max(1)..).unwrap_or_default();
            let message =
                draft.into_message(&change.ours, &theirs, self.shared.now(), self.shared.entropy())?;
            envelopes.push(self.pack(&message, &theirs)?);
        }
        Ok(envelopes)
    }
}
