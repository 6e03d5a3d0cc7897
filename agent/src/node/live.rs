//! Live delivery: what is pushed to a session, and in which form its version wants it.

use std::sync::Arc;

use einmal_did::Did;
use einmal_flows::message_pickup;
use einmal_storage::mail::{Letter, LetterId, MailboxId};
use tokio::sync::Notify;

use super::Node;
use crate::{
    delivery::{LargeInHand, Live, LiveChange, Session},
    handler::Failure,
    service::queue,
};

/// Most letters wrapped in one envelope.
const WRAPPED_AT_ONCE: usize = 8;
/// Most bytes of letters held for one connection until its reader has taken them, unless one letter alone is larger.
const MAX_IN_HAND: usize = 64 * 1024;

/// What is to be pushed.
#[derive(Default)]
pub(crate) struct Pushes {
    pub(crate) envelopes: Vec<Vec<u8>>,
    /// Letters in the envelopes: wrapped, one holds several.
    pub(crate) letters: usize,
    /// Whether nothing was taken because too many large letters are held for slow readers. What was offered waits then, in its order;
    /// of what is in the mail only that mailbox does.
    pub(crate) is_put_off: bool,
    /// Kept until the envelopes are sent.
    pub(crate) hand: Hand,
}

/// What one connection holds in memory while its reader takes it.
#[derive(Default)]
pub(crate) struct Hand {
    bytes: usize,
    /// Leave to hold a large letter.
    large: Option<LargeInHand>,
}

/// Whether a letter is taken in hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    /// There is as much in the hand as it may hold.
    Full,
    /// The hand is empty, but no other large letter may be held.
    NotNow,
}

impl Hand {
    /// Whether it holds a large letter.
    pub(crate) fn is_large(&self) -> bool {
        self.large.is_some()
    }

    fn take(&mut self, len: usize, account: &Did, live: &Live) -> Taken {
        if self.large.is_none() && self.bytes + len <= MAX_IN_HAND {
            self.bytes += len;
            return Taken::Yes;
        }
        if self.bytes > 0 {
            return Taken::Full;
        }
        self.large = live.large(account);
        self.bytes = len;
        if self.large.is_some() { Taken::Yes } else { Taken::NotNow }
    }
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

    /// What a connection is told whose session has ended though it did not ask for that; `None` if it cannot be packed.
    pub(crate) fn live_no_more(&self, session: &Session) -> Option<Vec<u8>> {
        let (change, theirs, now) = (&session.change, session.owner(), self.shared.now());
        // Those it has now: a mailbox may be another's since.
        let mailboxes = self.role.mailboxes_of(&self.shared, &theirs).ok()?;
        let draft = message_pickup::ended(change.form, &queue::status(&self.shared, &mailboxes, &[]), now);
        let message = draft.into_message(&change.ours, &theirs, now, self.shared.entropy()).ok()?;
        self.pack(&message, &theirs).ok()
    }

    /// What is to be pushed to a session next, at most `limit` letters; `None` if there is nothing.
    ///
    /// First what it was offered before it was durable: a mailbox is read from the disk behind that. What is returned counts
    /// as pushed, not as delivered: it stays in the mailbox until it is acknowledged.
    pub(crate) fn next_pushes(&self, session: &Session, limit: usize) -> Result<Option<Pushes>, Failure> {
        if session.offered_len().is_some() {
            return self.offered_letters(session, limit).map(Some);
        }
        session.next_changed().map(|mailbox| self.letters_of(session, mailbox, limit)).transpose()
    }

    /// Up to `limit` letters a session was offered.
    fn offered_letters(&self, session: &Session, limit: usize) -> Result<Pushes, Failure> {
        let (mut letters, mut hand, mut is_put_off) = (Vec::new(), Hand::default(), false);
        while letters.len() < limit
            && let Some(len) = session.offered_len()
        {
            let taken = hand.take(len, &session.owner(), &self.shared.live);
            is_put_off = taken == Taken::NotNow;
            if taken != Taken::Yes {
                break;
            }
            if let Some((id, payload)) = session.next_offered() {
                letters.push((self.role.letter_id(id), payload));
            }
        }
        self.pushes(session, letters, Pushes { is_put_off, hand, ..Pushes::default() })
    }

    /// Up to `limit` letters for a session from one of its mailboxes. If there are more, the session looks again.
    fn letters_of(&self, session: &Session, mailbox: MailboxId, limit: usize) -> Result<Pushes, Failure> {
        let after: LetterId = session.pushed(mailbox);
        let listed = self.shared.mail.list(mailbox, Some(after), limit, self.shared.now().0);
        // Asked after the letters are known: those of a new owner came after the mailbox was taken from this one.
        if !self.role.is_mailbox_of(&self.shared, &session.owner(), mailbox)? {
            return Ok(Pushes::default());
        }
        self.take_letters(session, mailbox, &listed, limit)
    }

    /// Reads letters of a session's mailbox that were `listed` as the next ones, as many as were asked for up to `limit`.
    fn take_letters(
        &self,
        session: &Session,
        mailbox: MailboxId,
        listed: &[Letter],
        limit: usize,
    ) -> Result<Pushes, Failure> {
        let (mut letters, mut hand) = (Vec::new(), Hand::default());
        let (mut more, mut is_put_off) = (listed.len() == limit, false);
        for letter in listed {
            let taken = hand.take(
                usize::try_from(letter.len).unwrap_or(usize::MAX),
                &session.owner(),
                &self.shared.live,
            );
            if taken != Taken::Yes {
                (more, is_put_off) = (true, taken == Taken::NotNow);
                break;
            }
            if !session.claim(mailbox, letter.id) {
                continue;
            }
            if let Some(payload) = queue::read(&self.shared, mailbox, letter.id)? {
                letters.push((self.role.letter_id(letter.id), payload));
            }
        }
        if is_put_off {
            session.put_off(mailbox);
        } else if more {
            session.look_again(mailbox);
        }
        self.pushes(session, letters, Pushes { is_put_off, hand, ..Pushes::default() })
    }

    fn pushes(
        &self,
        session: &Session,
        letters: Vec<(String, Vec<u8>)>,
        pushes: Pushes,
    ) -> Result<Pushes, Failure> {
        let count = letters.len();
        let envelopes = self.in_form_of(session, letters)?;
        self.shared.stats.pushed.inc_by(count as u64);
        Ok(Pushes { envelopes, letters: count, ..pushes })
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
        let listed = node.shared.mail.list(mailbox, Some(session.pushed(mailbox)), 9, 0);
        let pushes = node.take_letters(&session, mailbox, &listed, 9).unwrap();
        assert_eq!((pushes.envelopes.len(), session.pushed(mailbox)), (1, between));
    }

    /// Slow readers hold as many large letters as may be: what is small comes all the same.
    #[tokio::test]
    async fn a_large_letter_that_must_wait_holds_up_no_other_mailbox() {
        let (node, large, small) = (mediator().await, MailboxId([1; 20]), MailboxId([2; 20]));
        let change = LiveChange { mailboxes: vec![large, small], ..change(LetterId(0), large) };
        let account = change.account.clone();
        let session = node.open_session(change, &Arc::new(Notify::new()));
        let held = node.shared.live.large(&account).unwrap();
        for (mailbox, len) in [(large, MAX_IN_HAND + 1), (small, 1)] {
            let listed = [put(&node, mailbox, &vec![b'x'; len]).await];
            assert_eq!(listed.len(), 1);
            session.look_again(mailbox);
        }
        let next = |wait: bool| {
            let mailbox = session.next_changed()?;
            let after = session.pushed(mailbox);
            let listed = node.shared.mail.list(mailbox, Some(after), 9, 0);
            let pushes = node.take_letters(&session, mailbox, &listed, 9).unwrap();
            assert_eq!(pushes.is_put_off, wait);
            Some((mailbox, pushes.letters))
        };
        assert_eq!(next(true), Some((large, 0)));
        assert_eq!(next(false), Some((small, 1)), "it passes");
        assert_eq!(next(false), None, "and the large one is not tried in a circle");
        session.try_again();
        assert_eq!(next(true), Some((large, 0)));
        drop(held);
        session.try_again();
        assert_eq!(next(false), Some((large, 1)));
    }
}
