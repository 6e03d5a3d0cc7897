//! The side that fetches: a loop of deliveries that confirms only what is durable.
//!
//! ```text
//! idle ─Fetch─▶ status-asked ─count > 0─▶ delivery-asked ─▶ storing ─Durable─▶ confirming ─▶ delivery-asked …
//!   ▲               └─ count 0                └─ status with 0                     └─ count 0
//!   └───────────────────┴────────────────────────┴──────────────────────────────────────┘
//! ```

use std::fmt;

use einmal_did::Did;
use einmal_didcomm::{Attachment, Body, ReturnRoute, ThreadId, UnixSeconds};

use super::{
    Delivery, Delivery4, DeliveryRequest, LiveDeliveryChange, MessagesReceived, Status, Status4,
    StatusRequest,
};
use crate::{
    Draft, FlowError, Received,
    limits::{MAX_CONFIRMED_IDS, MAX_PICKUP_BATCH, MAX_PICKUP_ROUNDS, MAX_QUEUE_ID_LEN},
    report_problem,
};

/// The queue of one account at one mediator, as its owner sees it.
///
/// It waits without end and is not stored: whoever sends for it ends a fetch that is not answered by dropping it, and
/// begins anew. What was not confirmed is delivered again.
#[derive(Clone, PartialEq)]
pub struct Recipient {
    own: Did,
    mediator: Did,
    state: State,
    /// Thread of the present fetch and all its messages.
    thid: Option<ThreadId>,
    /// Ids of the present delivery: those not durable yet, then those durable but not confirmed.
    awaited: Vec<String>,
    durable: Vec<String>,
    rounds: u32,
    /// Messages asked for at once: halved whenever an answer was unusable, because one letter in it may be the reason.
    batch: usize,
    live: bool,
}

/// Where the fetch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is going on.
    Idle,
    /// Waiting for `status`.
    StatusAsked,
    /// Waiting for `delivery`.
    DeliveryAsked,
    /// Waiting for the node to make the delivered messages durable.
    Storing,
    /// Waiting for the `status` that answers `messages-received`.
    Confirming,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Empty the queue, in the new thread `thid`. Does nothing if a fetch is already running.
    Fetch {
        /// The thread.
        thid: ThreadId,
    },
    /// Turn pushing on this connection on or off.
    SetLive {
        /// Whether to push.
        on: bool,
        /// The thread.
        thid: ThreadId,
    },
    /// The connection closed: the mediator no longer pushes.
    Disconnected,
    /// These messages are durable or useless; either way they may be deleted.
    Durable {
        /// The ids [`Action::HandOver`] gave.
        ids: Vec<String>,
    },
    /// The other messages that were handed over cannot be made durable for now: they are delivered again later.
    RestWaits,
    /// The reply to an [`Action::Send`] was unreadable or too large: fewer messages may fit.
    Unreadable,
    /// A message of the mediator arrived.
    Message(&'a Received<'a>),
}

/// Something to do now. Doing it twice does no harm.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Send this to the mediator.
    Send(Draft),
    /// Handle these envelopes, then send [`Event::Durable`] and, if not all of them can be, [`Event::RestWaits`]. They
    /// may have been seen before.
    HandOver {
        /// Ids and envelopes.
        messages: Vec<(String, Vec<u8>)>,
    },
    /// The queue is empty.
    Drained,
    /// Whether the mediator pushes on this connection.
    Live(bool),
    /// The mediator's answers are of no use, or it reported a problem; unconfirmed messages stay queued.
    Failed,
}

impl Recipient {
    /// The queue of `own` at `mediator`.
    pub fn new(own: Did, mediator: Did) -> Self {
        Self {
            own,
            mediator,
            state: State::Idle,
            thid: None,
            awaited: Vec::new(),
            durable: Vec::new(),
            rounds: 0,
            batch: MAX_PICKUP_BATCH,
            live: false,
        }
    }

    /// The thread of the present fetch.
    pub fn thread(&self) -> Option<&ThreadId> {
        self.thid.as_ref()
    }

    /// Where the fetch stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the mediator pushes on the present connection.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Advances by one event.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if a message belongs elsewhere or does not fit; `self` is then unchanged.
    ///
    /// # Specification
    ///
    /// didcomm.org, "Message Pickup Protocol 3.0", role recipient.
    pub fn handle(&mut self, event: Event<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        match event {
            Event::Fetch { thid } => Ok(self.fetch(thid)),
            Event::SetLive { on, thid } => {
                let draft = Draft::of(&LiveDeliveryChange { live_delivery: on });
                let draft = draft.with_id(thid.to_message_id()).in_thread(thid).returning(ReturnRoute::All);
                Ok(vec![Action::Send(draft)])
            }
            Event::Disconnected => Ok(self.set_live(Some(false))),
            Event::Durable { ids } => Ok(self.durable(&ids)),
            Event::RestWaits if self.state == State::Storing => Ok(self.confirm_what_is_durable()),
            Event::RestWaits => Ok(Vec::new()),
            Event::Unreadable => Ok(self.ask_for_less()),
            Event::Message(received) => self.receive(received, now),
        }
    }

    fn set_live(&mut self, live: Option<bool>) -> Vec<Action> {
        match live {
            Some(live) if live != self.live => {
                self.live = live;
                vec![Action::Live(live)]
            }
            _ => vec![],
        }
    }

    fn fetch(&mut self, thid: ThreadId) -> Vec<Action> {
        if self.state != State::Idle {
            return vec![];
        }
        self.rounds = 0;
        self.batch = MAX_PICKUP_BATCH;
        self.thid = Some(thid.clone());
        self.ask(State::StatusAsked, Draft::of(&StatusRequest::default()).with_id(thid.to_message_id()))
    }

    /// Sends a request of the present fetch and waits for its answer.
    fn ask(&mut self, state: State, draft: Draft) -> Vec<Action> {
        let mut draft = draft.returning(ReturnRoute::All);
        draft.thid.clone_from(&self.thid);
        self.state = state;
        vec![Action::Send(draft)]
    }

    fn ask_delivery(&mut self) -> Vec<Action> {
        if self.rounds >= MAX_PICKUP_ROUNDS {
            return self.end(Action::Failed);
        }
        self.rounds += 1;
        let limit = self.batch as u64;
        self.ask(State::DeliveryAsked, Draft::of(&DeliveryRequest { limit, recipient_did: None }))
    }

    /// Asks for half as many messages, and gives up if even a single one cannot be read.
    fn ask_for_less(&mut self) -> Vec<Action> {
        if self.state != State::DeliveryAsked || self.batch == 1 {
            return self.end(Action::Failed);
        }
        self.batch /= 2;
        self.ask_delivery()
    }

    fn end(&mut self, outcome: Action) -> Vec<Action> {
        self.state = State::Idle;
        self.thid = None;
        self.awaited.clear();
        self.durable.clear();
        vec![outcome]
    }

    fn receive(&mut self, received: &Received<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        if !received.sender().same_as(&self.mediator) {
            return Err(FlowError::WrongSender);
        }
        if !received.recipient().same_as(&self.own) {
            return Err(FlowError::WrongRecipient);
        }
        if report_problem::is_report(&received.message().kind) {
            return self.take_report(received);
        }
        received.check_time(now)?;
        if received.is(Status::TYPE) || received.is(Status4::TYPE) {
            let status: Status = received.body(&[Status4::TYPE])?;
            Ok(self.take_status(received, &status))
        } else if received.is(Delivery::TYPE) || received.is(Delivery4::TYPE) {
            received.body::<Delivery>(&[Delivery4::TYPE])?;
            self.take_delivery(received)
        } else {
            Err(FlowError::UnknownMessage)
        }
    }

    /// Whether a reply belongs to the present fetch. Some mediators send `status` without a thread, or answer a later
    /// request with the id of that message, which is not known here.
    fn is_reply(&self, received: &Received<'_>) -> bool {
        match &received.message().thid {
            None => true,
            Some(thid) => self.rounds > 0 || self.thid.as_ref() == Some(thid),
        }
    }

    fn take_status(&mut self, received: &Received<'_>, status: &Status) -> Vec<Action> {
        let mut actions = self.set_live(status.live_delivery);
        let waits = matches!(self.state, State::StatusAsked | State::DeliveryAsked | State::Confirming);
        if !waits || !self.is_reply(received) {
            return actions;
        }
        // A `status` instead of a delivery means there was nothing to hand over, whatever number it gives.
        let next = if status.message_count == 0 || self.state == State::DeliveryAsked {
            self.end(Action::Drained)
        } else {
            self.ask_delivery()
        };
        actions.extend(next);
        actions
    }

    /// Takes a delivery, even an unsolicited one: some mediators wrap what they push.
    fn take_delivery(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        let attachments = &received.message().attachments;
        if attachments.len() > 2 * MAX_PICKUP_BATCH {
            return Err(FlowError::TooMany { what: "delivered messages", most: 2 * MAX_PICKUP_BATCH });
        }
        let messages: Vec<_> = attachments.iter().filter_map(entry).collect();
        if messages.is_empty() && !attachments.is_empty() {
            return Err(FlowError::InvalidContent { what: "attachments.id" });
        }
        if self.awaited.len() + self.durable.len() + messages.len() > MAX_CONFIRMED_IDS {
            return Err(FlowError::TooMany { what: "unconfirmed messages", most: MAX_CONFIRMED_IDS });
        }
        if messages.is_empty() {
            // 4.0 answers an empty queue this way.
            let waits = self.state == State::DeliveryAsked && self.is_reply(received);
            return Ok(if waits { self.end(Action::Drained) } else { vec![] });
        }
        if self.thid.is_none() {
            self.thid = Some(received.message().thread());
            self.rounds = 0;
        }
        for (id, _) in &messages {
            if !self.awaited.contains(id) && !self.durable.contains(id) {
                self.awaited.push(id.clone());
            }
        }
        // While waiting for something else, the new messages are confirmed with the next round.
        if matches!(self.state, State::Idle | State::DeliveryAsked | State::Storing) {
            self.state = State::Storing;
        }
        Ok(vec![Action::HandOver { messages }])
    }

    fn durable(&mut self, ids: &[String]) -> Vec<Action> {
        for id in ids {
            // Only what was delivered can be confirmed.
            if let Some(at) = self.awaited.iter().position(|awaited| awaited == id) {
                self.durable.push(self.awaited.remove(at));
            }
        }
        if self.state == State::Storing && self.awaited.is_empty() { self.confirm() } else { vec![] }
    }

    /// Waits no longer for the rest of a delivery, which will come again.
    fn confirm_what_is_durable(&mut self) -> Vec<Action> {
        self.awaited.clear();
        if self.durable.is_empty() { self.end(Action::Failed) } else { self.confirm() }
    }

    fn confirm(&mut self) -> Vec<Action> {
        let message_id_list = std::mem::take(&mut self.durable);
        self.ask(State::Confirming, Draft::of(&MessagesReceived { message_id_list }))
    }

    fn take_report(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        let problem = report_problem::read(received)?;
        if problem.report.code.is_case_of("e.m.live-mode-not-supported") {
            self.live = false;
            return Ok(vec![Action::Live(false)]);
        }
        if problem.report.code.is_warning() {
            return Ok(vec![]);
        }
        if self.thid.as_ref() != Some(&problem.thread) {
            return Err(FlowError::WrongThread);
        }
        Ok(self.end(Action::Failed))
    }
}

/// Id and content of one delivered message. A message without content is useless, but is confirmed like any other
/// useless one. `None` without an id: such a message cannot be named to the mediator.
fn entry(attachment: &Attachment) -> Option<(String, Vec<u8>)> {
    let id = attachment.id.clone().filter(|id| !id.is_empty() && id.len() <= MAX_QUEUE_ID_LEN)?;
    Some((id, attachment.bytes().unwrap_or_default()))
}

/// Shows the state, but no DIDs.
impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient")
            .field("state", &self.state)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

/// Shows how many messages are handed over, not their content.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(draft) => f.debug_tuple("Send").field(draft).finish(),
            Self::HandOver { messages } => {
                f.debug_struct("HandOver").field("count", &messages.len()).finish()
            }
            Self::Drained => f.write_str("Drained"),
            Self::Live(live) => f.debug_tuple("Live").field(live).finish(),
            Self::Failed => f.write_str("Failed"),
        }
    }
}

#[cfg(test)]
mod tests;
