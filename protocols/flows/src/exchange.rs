//! What every exchange has: two parties, a thread, and a record of what was already answered.

use std::fmt;

use einmal_did::Did;
use einmal_didcomm::{MessageId, ProblemCode, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Draft, FlowError, Received,
    limits::MAX_SEEN_MESSAGES,
    report_problem::{self, PROBLEM_REPORT, ProblemReport},
};

/// Names one exchange: our DID, the peer's DID and the thread. The thread id alone does not suffice: the peer chooses
/// it.
///
/// The text form, 64 hexadecimal digits, is stable across versions and spellings of the DIDs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExchangeKey(String);

impl ExchangeKey {
    /// The key of the exchange that `own` and `peer` hold in thread `thid`.
    pub fn new(own: &Did, peer: &Did, thid: &ThreadId) -> Self {
        Self(hex(&digest(&[
            "einmal exchange",
            own.canonical().as_str(),
            peer.canonical().as_str(),
            &thid.to_key(),
        ])))
    }

    /// The key of the exchange a received message belongs to by its `thid`.
    pub fn of(received: &Received<'_>) -> Self {
        Self::new(received.recipient(), received.sender(), &received.message().thread())
    }

    /// The text form, for storage keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExchangeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 over length-prefixed parts, so that no two lists of parts hash alike.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A message answered before, and the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Answered {
    to: MessageId,
    answer: Draft,
}

/// The part all machines share.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exchange {
    own: Did,
    peer: Did,
    thid: ThreadId,
    pthid: Option<ThreadId>,
    sent: u32,
    seen: Vec<MessageId>,
    answered: Option<Answered>,
}

impl Exchange {
    pub(crate) fn new(own: Did, peer: Did, thid: ThreadId, pthid: Option<ThreadId>) -> Self {
        Self { own, peer, thid, pthid, sent: 0, seen: Vec::new(), answered: None }
    }

    /// The exchange a received message opens.
    pub(crate) fn opened_by(received: &Received<'_>) -> Self {
        let message = received.message();
        let mut exchange = Self::new(
            received.recipient().clone(),
            received.sender().clone(),
            message.thread(),
            message.pthid.clone(),
        );
        exchange.seen.push(message.id.clone());
        exchange
    }

    pub(crate) fn key(&self) -> ExchangeKey {
        ExchangeKey::new(&self.own, &self.peer, &self.thid)
    }

    /// Continues with the DIDs that replaced those of both sides.
    pub(crate) fn follow(&mut self, own: &Did, peer: &Did) {
        self.own = own.canonical();
        self.peer = peer.canonical();
    }

    pub(crate) fn own(&self) -> &Did {
        &self.own
    }

    pub(crate) fn peer(&self) -> &Did {
        &self.peer
    }

    pub(crate) fn thread(&self) -> &ThreadId {
        &self.thid
    }

    pub(crate) fn pthid(&self) -> Option<&ThreadId> {
        self.pthid.as_ref()
    }

    /// Refuses a message that is not from the peer to us.
    pub(crate) fn check_parties(&self, received: &Received<'_>) -> Result<(), FlowError> {
        if !received.sender().same_as(&self.peer) {
            return Err(FlowError::WrongSender);
        }
        if !received.recipient().same_as(&self.own) {
            return Err(FlowError::WrongRecipient);
        }
        Ok(())
    }

    /// Refuses a message that does not belong to this exchange or came too late.
    pub(crate) fn check(&self, received: &Received<'_>, now: UnixSeconds) -> Result<(), FlowError> {
        self.check_parties(received)?;
        if received.message().thread() != self.thid {
            return Err(FlowError::WrongThread);
        }
        received.check_time(now)
    }

    /// Takes a problem report about this exchange, which is in `state`, and returns why the peer gave up. `None` if the
    /// report changes nothing because it only warns or was seen before.
    ///
    /// Refuses a report about an exchange that `has_ended`, or that no peer can know of yet.
    pub(crate) fn take_report(
        &mut self,
        received: &Received<'_>,
        has_ended: bool,
        state: &'static str,
    ) -> Result<Option<ProblemCode>, FlowError> {
        self.check_report(received)?;
        let code = report_problem::read(received)?.report.code;
        if code.is_warning() || self.seen.contains(&received.message().id) {
            return Ok(None);
        }
        if has_ended || !self.has_begun() {
            return Err(FlowError::Unexpected { message: PROBLEM_REPORT, state });
        }
        self.note(&received.message().id)?;
        Ok(Some(code))
    }

    /// Refuses a problem report about another thread. It names ours in `pthid`; older code puts it in `thid`.
    fn check_report(&self, received: &Received<'_>) -> Result<(), FlowError> {
        self.check_parties(received)?;
        let message = received.message();
        if message.pthid.as_ref() == Some(&self.thid) || message.thid.as_ref() == Some(&self.thid) {
            return Ok(());
        }
        Err(FlowError::WrongThread)
    }

    /// What to send again if this message was seen before; `None` if it is new.
    pub(crate) fn repetition(&self, id: &MessageId) -> Option<Vec<Draft>> {
        if !self.seen.contains(id) {
            return None;
        }
        let answered = self.answered.as_ref().filter(|answered| answered.to == *id);
        Some(answered.map(|answered| answered.answer.clone()).into_iter().collect())
    }

    /// Remembers a message.
    pub(crate) fn note(&mut self, id: &MessageId) -> Result<(), FlowError> {
        if self.seen.len() >= MAX_SEEN_MESSAGES {
            return Err(FlowError::TooMany { what: "messages in one exchange", most: MAX_SEEN_MESSAGES });
        }
        self.seen.push(id.clone());
        Ok(())
    }

    /// Whether anything was said in the thread.
    fn has_begun(&self) -> bool {
        self.sent > 0 || !self.seen.is_empty()
    }

    /// Puts a draft into the thread. The first message of a thread we open bears the thread's id and names the parent
    /// thread. Later ones get an id derived from the exchange, so that a repeated answer is the same message.
    pub(crate) fn send(&mut self, mut draft: Draft) -> Draft {
        let id = if self.has_begun() {
            self.next_id()
        } else {
            draft.pthid = self.pthid.clone();
            self.thid.to_message_id()
        };
        self.sent = self.sent.saturating_add(1);
        draft.with_id(id).in_thread(self.thid.clone())
    }

    /// Like [`Exchange::send`], but also remembers the draft as the answer to the last message received.
    pub(crate) fn answer(&mut self, draft: Draft) -> Draft {
        let draft = self.send(draft);
        if let Some(to) = self.seen.last().cloned() {
            self.answered = Some(Answered { to, answer: draft.clone() });
        }
        draft
    }

    /// A problem report about this exchange. It opens a thread of its own below the troubled one.
    pub(crate) fn report(&mut self, code: &ProblemCode) -> Draft {
        let id = self.next_id();
        self.sent = self.sent.saturating_add(1);
        let report = ProblemReport::new(code.clone());
        report.draft(self.thid.clone()).with_id(id)
    }

    /// Forgets the answer, and the data in it, once it must not or need not be repeated.
    pub(crate) fn forget_answer(&mut self) {
        self.answered = None;
    }

    /// A UUID (version 8) that no other message of ours, and no one else's, bears.
    fn next_id(&self) -> MessageId {
        let count = self.sent.to_string();
        let parts = ["einmal message", self.own.as_str(), self.peer.as_str(), &self.thid.to_key(), &count];
        let digits: String = hex(&digest(&parts)).chars().take(30).collect();
        let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
        let text =
            format!("{}-{}-8{}-8{}-{}", part(0..8), part(8..12), part(12..15), part(15..18), part(18..30));
        // Hexadecimal digits and hyphens always form a valid id; the thread's own id is a harmless fallback.
        MessageId::try_from(text).unwrap_or_else(|_| self.thid.to_message_id())
    }
}

/// Shows the thread only: who talks to whom is personal.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("thid", &self.thid.as_str()).finish_non_exhaustive()
    }
}

/// Gives a machine the accessors every exchange has.
macro_rules! exchange_accessors {
    ($machine:ident) => {
        impl $machine {
            /// Continues with the DIDs that replaced the earlier ones of both sides; the caller must have proof of
            /// that.
            ///
            /// [`Self::key`] changes; the caller keeps the name under which the machine is stored.
            pub fn follow(&mut self, own: &einmal_did::Did, peer: &einmal_did::Did) {
                self.exchange.follow(own, peer);
            }

            /// The name the exchange is stored under.
            pub fn key(&self) -> crate::ExchangeKey {
                self.exchange.key()
            }

            /// Our DID in the exchange.
            pub fn own(&self) -> &einmal_did::Did {
                self.exchange.own()
            }

            /// The other party.
            pub fn peer(&self) -> &einmal_did::Did {
                self.exchange.peer()
            }

            /// The thread.
            pub fn thread(&self) -> &einmal_didcomm::ThreadId {
                self.exchange.thread()
            }

            /// The parent thread, such as the invitation the exchange began with.
            pub fn pthid(&self) -> Option<&einmal_didcomm::ThreadId> {
                self.exchange.pthid()
            }

            /// Name of the present state, as the specification spells it; to be shown, not to be compared.
            pub fn state_name(&self) -> &'static str {
                self.state.name()
            }
        }
    };
}
pub(crate) use exchange_accessors;

/// Gives a machine that ends as `Done` or `Abandoned` what all such machines share, including the accessors.
///
/// `State`, `Action` and `Outcome` are those of the machine's module. The machine's `take` handles messages that are
/// new in its thread.
macro_rules! exchange_with_an_end {
    ($machine:ident) => {
        crate::exchange::exchange_accessors!($machine);

        impl $machine {
            /// Where the exchange stands.
            pub fn state(&self) -> &State {
                &self.state
            }

            /// Whether the exchange is over, for any reason: it never moves again.
            pub fn has_ended(&self) -> bool {
                matches!(self.state, State::Done | State::Abandoned)
            }

            /// Whether the exchange ended without reaching its purpose.
            pub fn is_abandoned(&self) -> bool {
                matches!(self.state, State::Abandoned)
            }

            /// A message or an event that does not fit the present state.
            fn unexpected(&self, message: &'static str) -> crate::FlowError {
                crate::FlowError::Unexpected { message, state: self.state_name() }
            }

            fn receive(
                &mut self,
                received: &crate::Received<'_>,
                now: einmal_didcomm::UnixSeconds,
            ) -> Result<Vec<Action>, crate::FlowError> {
                if crate::report_problem::is_report(&received.message().kind) {
                    let (ended, state) = (self.has_ended(), self.state_name());
                    let code = self.exchange.take_report(received, ended, state)?;
                    let end = |code| self.end(State::Abandoned, Outcome::PeerAbandoned { code });
                    return Ok(code.map(end).unwrap_or_default());
                }
                self.exchange.check(received, now)?;
                match self.exchange.repetition(&received.message().id) {
                    Some(again) => Ok(again.into_iter().map(Action::Send).collect()),
                    None => self.take(received, now),
                }
            }

            /// Ends the exchange and forgets the last message sent, which may hold a credential or a presentation.
            fn end(&mut self, state: State, outcome: Outcome) -> Vec<Action> {
                self.exchange.forget_answer();
                self.state = state;
                vec![Action::Ended(outcome)]
            }

            /// Ends the exchange and tells the peer why.
            fn abandon(&mut self, code: &einmal_didcomm::ProblemCode, outcome: Outcome) -> Vec<Action> {
                let mut actions = vec![Action::Send(self.exchange.report(code))];
                actions.extend(self.end(State::Abandoned, outcome));
                actions
            }
        }

        /// Shows the name only; offers, requests and presentations are personal.
        impl std::fmt::Debug for State {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(crate) use exchange_with_an_end;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        empty::Empty,
        testing::{did, thread},
    };

    fn exchange() -> Exchange {
        Exchange::new(did("did:example:a"), did("did:example:b"), thread("t-1"), None)
    }

    #[test]
    fn key_depends_on_each_part_and_on_their_bounds() {
        let key = |a: &str, b: &str, t: &str| ExchangeKey::new(&did(a), &did(b), &thread(t));
        let base = key("did:example:a", "did:example:b", "t");
        assert_eq!(base.as_str().len(), 64);
        assert_ne!(base, key("did:example:b", "did:example:a", "t"));
        assert_ne!(base, key("did:example:a", "did:example:bt", "t"));
        assert_ne!(base, key("did:example:a", "did:example:b", "u"));
        assert_eq!(base, key("did:example:a", "did:example:b", "T"));
        assert_eq!(
            key("did:web:City.example", "did:example:b", "t"),
            key("did:web:city.example", "did:example:b", "t")
        );
    }

    #[test]
    fn key_never_changes_between_versions() {
        let key = ExchangeKey::new(&did("did:example:a"), &did("did:example:b"), &thread("t"));
        assert_eq!(key.as_str(), "412939d24c0e8c51255a071fcfaba51b3040247b085cdb8e89296e92628cce87");
    }

    #[test]
    fn first_message_bears_the_id_of_its_thread_and_later_ones_do_not() {
        let mut exchange = exchange();
        let first = exchange.send(Draft::of(&Empty {}));
        let second = exchange.send(Draft::of(&Empty {}));
        let third = exchange.send(Draft::of(&Empty {}));
        assert_eq!(first.id, Some(thread("t-1").to_message_id()));
        assert_ne!(second.id, first.id);
        assert_ne!(third.id, second.id);
        assert_eq!(second.id.unwrap().as_str().len(), 36);
    }

    #[test]
    fn only_the_message_that_opens_a_thread_names_its_parent() {
        let (a, b) = (did("did:example:a"), did("did:example:b"));
        let mut exchange = Exchange::new(a, b, thread("t-1"), Some(thread("oob")));
        assert_eq!(exchange.send(Draft::of(&Empty {})).pthid, Some(thread("oob")));
        assert_eq!(exchange.send(Draft::of(&Empty {})).pthid, None);
    }

    #[test]
    fn number_of_remembered_messages_is_bounded() {
        let mut exchange = exchange();
        for n in 0..MAX_SEEN_MESSAGES {
            exchange.note(&MessageId::try_from(format!("m{n}")).unwrap()).unwrap();
        }
        let refused = exchange.note(&MessageId::try_from("one-more").unwrap()).unwrap_err();
        assert_eq!(refused, FlowError::TooMany { what: "messages in one exchange", most: MAX_SEEN_MESSAGES });
    }

    #[test]
    fn debug_names_nobody() {
        assert!(!format!("{:?}", exchange()).contains("did:"));
    }
}
