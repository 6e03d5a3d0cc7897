//! Live delivery: what is pushed to a session, and in which form its version wants it.

use std::sync::Arc;

use einmal_did::Did;
use einmal_flows::message_pickup;
use einmal_storage::mail::{LetterId, MailboxId};
use tokio::sync::Notify;

use super::Node;
use crate::{
    delivery::{LiveChange, Session},
    handler::Failure,
    service::queue,
};

/// Most letters wrapped in one envelope.
const WRAPPED_AT_ONCE: usize = 8;

/// What is to be pushed, and whether there may be more.
pub(crate) struct Pushes {
    pub(crate) envelopes: Vec<Vec<u8>>,
    pub(crate) more: bool,
}

impl Node {
    /// Whether letters of `account` are pushed on any connection.
    pub fn is_live(&self, account: &Did) -> bool {
        self.shared.live.is_live(account)
    }

    /// Opens a session; `bell` rings when there is something to push.
    pub(crate) fn open_session(&self, change: LiveChange, bell: &Arc<Notify>) -> Arc<Session> {
        let session = self.shared.live.open(change, Arc::clone(bell));
        // Looks again for what came between the answer and now: nobody was rung for it.
        let (mail, change, now) = (&self.shared.mail, &session.change, self.shared.now().0);
        let newer = |mailbox: &&MailboxId| !mail.list(**mailbox, Some(change.since), 1, now).is_empty();
        change.mailboxes.iter().filter(newer).for_each(|mailbox| session.look_again(*mailbox));
        session
    }

    /// Up to `limit` letters that were offered to a session before they were durable, as envelopes.
    pub(crate) fn offered_letters(&self, session: &Session, limit: usize) -> Result<Vec<Vec<u8>>, Failure> {
        let offered = std::iter::from_fn(|| session.next_offered()).take(limit);
        let letters: Vec<_> = offered.map(|(id, payload)| (self.role.letter_id(id), payload)).collect();
        self.shared.stats.pushed.inc_by(letters.len() as u64);
        self.in_form_of(session, letters)
    }

    /// Up to `limit` letters for a session from one of its mailboxes, as envelopes.
    ///
    /// A returned letter counts as pushed, not as delivered: it stays in the mailbox until it is acknowledged.
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

    /// Letters as they are, or wrapped in deliveries from the mediator.
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
            let Some(draft) = message_pickup::push(change.form, some) else {
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

#[cfg(test)]
mod tests {
    use einmal_did::Did;
    use einmal_flows::message_pickup::PushForm;
    use einmal_storage::mail::{NewLetter, Quota};

    use super::*;
    use crate::{config::Role, node::testing};

    async fn mediator() -> Arc<Node> {
        testing::node(Role::Mediator).await.0
    }

    /// Puts a letter that rings for nobody, and returns its id.
    async fn put(node: &Node, mailbox: MailboxId, payload: &[u8]) -> LetterId {
        let (payload, quota) = (payload.to_vec(), Quota::NONE);
        let letter = NewLetter { mailbox, payload, arrived_ms: 1, expires_at: u64::MAX, quota, early: None };
        node.shared.mail.put(vec![letter]).await.unwrap();
        node.shared.mail.list(mailbox, None, 9, 0).last().unwrap().id
    }

    fn change(since: LetterId, mailbox: MailboxId) -> LiveChange {
        let did = |name: &str| Did::parse(&format!("did:web:{name}.example")).unwrap();
        let (account, ours, theirs) = (did("alice"), did("mediator"), did("alice"));
        let (form, mailboxes) = (PushForm::Raw, vec![mailbox]);
        LiveChange { account, ours, theirs, on: true, form, since, mailboxes }
    }

    #[tokio::test]
    async fn a_letter_that_came_between_the_answer_and_the_opening_is_found_and_one_before_is_not() {
        let (node, mailbox) = (mediator().await, MailboxId([1; 20]));
        let waited = put(&node, mailbox, b"[1]").await;
        let bell = Arc::new(Notify::new());
        let nothing_new = node.open_session(change(waited, mailbox), &bell);
        assert_eq!(nothing_new.next_changed(), None);
        let between = put(&node, mailbox, b"[2]").await;
        let session = node.open_session(change(waited, mailbox), &bell);
        assert_eq!(session.next_changed(), Some(mailbox));
        let pushes = node.live_letters(&session, mailbox, 9).unwrap();
        assert_eq!((pushes.envelopes.len(), session.pushed(mailbox)), (1, between));
    }
}
