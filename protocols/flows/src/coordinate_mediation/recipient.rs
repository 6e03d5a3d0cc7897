//! The side that asks a mediator for an account and registers its DIDs there.

use std::fmt;

use einmal_did::Did;
use einmal_didcomm::{Attachment, Body, ReturnRoute, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{
    MediateDeny, MediateGrant, MediateRequest, RecipientList, RecipientUpdate, RecipientUpdateResponse,
    Update, UpdateAction, UpdateResult, comparing::Comparison,
};
use crate::{
    Draft, FlowError, Received,
    limits::{MAX_ATTEMPTS, MAX_RECIPIENTS_PER_ACCOUNT, MAX_ROUTING_DIDS, MEDIATION_TIMEOUT_SECS},
    report_problem,
};

/// Most DIDs one machine keeps registered.
pub const MAX_REGISTRATIONS: usize = MAX_RECIPIENTS_PER_ACCOUNT;

/// The account of one DID of ours at one mediator, and the DIDs registered for it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipient {
    own: Did,
    mediator: Did,
    state: State,
    pending: Option<Pending>,
    dids: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

/// Where the account stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum State {
    /// Nothing was asked.
    None,
    /// Waiting for the mediator.
    Requested,
    /// The mediator takes messages for registered DIDs.
    Granted {
        /// The DIDs to name as endpoint `uri`.
        routing_dids: Vec<Did>,
    },
    /// The mediator refuses us an account.
    Denied,
}

/// Where one DID stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DidState {
    /// The mediator takes no messages for it.
    Unregistered,
    /// Waiting for the mediator to register it.
    Registering,
    /// The mediator takes messages for it.
    Registered,
    /// Waiting for the mediator to forget it.
    Removing,
}

/// A request and how long to wait for its answer.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    thid: ThreadId,
    request: Draft,
    attempts: u32,
    deadline: UnixSeconds,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    did: Did,
    state: DidState,
    /// Kept after the answer, so that a repeated answer is recognised.
    pending: Pending,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Ask for an account, in the new thread `thid`.
    Ask {
        /// The thread.
        thid: ThreadId,
    },
    /// Register a DID, in the new thread `thid`.
    Register {
        /// The DID.
        did: Did,
        /// The thread.
        thid: ThreadId,
        /// The DID's signed [`ownership_statement`](super::ownership_statement), if the mediator may require it.
        proof: Option<Box<Attachment>>,
    },
    /// Remove a DID, in the new thread `thid`.
    Unregister {
        /// The DID.
        did: Did,
        /// The thread.
        thid: ThreadId,
    },
    /// Find out for which of these DIDs the mediator takes no messages, in the new thread `thid`.
    Compare {
        /// The DIDs; no more than [`MAX_REGISTRATIONS`].
        ours: Vec<Did>,
        /// The thread.
        thid: ThreadId,
    },
    /// The mediator said, in whatever protocol, that it knows no account of ours: it was restored from a backup, or the account
    /// was dropped. It is asked for anew in the new thread `thid`, and every registration is gone.
    Forgotten {
        /// The thread.
        thid: ThreadId,
    },
    /// A message of the mediator arrived.
    Message(&'a Received<'a>),
    /// A timer fired, or the node restarted.
    Tick,
}

/// Something to do now. Doing it twice does no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this to the mediator.
    Send(Draft),
    /// Give [`Event::Tick`] no earlier than this.
    WakeAt(UnixSeconds),
    /// The account is granted; name one of these DIDs as endpoint.
    Granted {
        /// The DIDs.
        routing_dids: Vec<Did>,
    },
    /// The mediator refused the account, or did not answer.
    Denied,
    /// The mediator takes messages for this DID.
    Registered {
        /// The DID.
        did: Did,
    },
    /// The mediator takes no more messages for this DID.
    Unregistered {
        /// The DID.
        did: Did,
    },
    /// A registration or removal failed; the DID's state is as before.
    Failed {
        /// The DID.
        did: Did,
        /// The mediator's result; `None` if it reported a problem or did not answer.
        result: Option<UpdateResult>,
    },
    /// The mediator takes no messages for these of the DIDs that were compared.
    Missing {
        /// The DIDs; perhaps none.
        dids: Vec<Did>,
    },
    /// The mediator does not list what it takes messages for, or did not answer.
    NotCompared,
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Requested => "requested",
            Self::Granted { .. } => "granted",
            Self::Denied => "denied",
        }
    }
}

impl Pending {
    fn new(thid: ThreadId, draft: Draft, now: UnixSeconds) -> Self {
        let request = draft.in_thread(thid.clone()).returning(ReturnRoute::All);
        Self { thid, request, attempts: 1, deadline: now.plus(MEDIATION_TIMEOUT_SECS) }
    }

    /// The first message bears the id of its thread; later ones get fresh ids, so that they do not look like replays.
    fn first(&self) -> Vec<Action> {
        let draft = self.request.clone().with_id(self.thid.to_message_id());
        vec![Action::Send(draft), Action::WakeAt(self.deadline)]
    }

    /// Asks for something else in the same thread.
    fn next(&mut self, draft: Draft, now: UnixSeconds) -> Action {
        let request = draft.in_thread(self.thid.clone()).returning(ReturnRoute::All);
        *self = Self {
            thid: self.thid.clone(),
            request: request.clone(),
            attempts: 1,
            deadline: now.plus(MEDIATION_TIMEOUT_SECS),
        };
        Action::Send(request)
    }

    /// Sends once more; `None` if that was done often enough.
    fn again(&mut self, now: UnixSeconds) -> Option<Action> {
        if self.attempts >= MAX_ATTEMPTS {
            return None;
        }
        self.attempts += 1;
        self.deadline = now.plus(MEDIATION_TIMEOUT_SECS);
        Some(Action::Send(self.request.clone()))
    }
}

impl Entry {
    fn is_waiting(&self) -> bool {
        matches!(self.state, DidState::Registering | DidState::Removing)
    }
}

impl Recipient {
    /// An account that has not been requested yet.
    pub fn new(own: Did, mediator: Did) -> Self {
        Self { own, mediator, state: State::None, pending: None, dids: Vec::new(), comparison: None }
    }

    /// An account that was granted before, with the DIDs the grant named.
    pub fn granted(own: Did, mediator: Did, routing_dids: Vec<Did>) -> Self {
        Self { state: State::Granted { routing_dids }, ..Self::new(own, mediator) }
    }

    /// Our DID that holds the account.
    pub fn own(&self) -> &Did {
        &self.own
    }

    /// The mediator.
    pub fn peer(&self) -> &Did {
        &self.mediator
    }

    /// Where the account stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Name of the account's state.
    pub fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// Where one DID stands.
    pub fn did_state(&self, did: &Did) -> DidState {
        self.entry(did).and_then(|at| self.dids.get(at)).map_or(DidState::Unregistered, |entry| entry.state)
    }

    /// The DIDs the mediator takes messages for.
    pub fn registered(&self) -> impl Iterator<Item = &Did> {
        let known = |entry: &&Entry| matches!(entry.state, DidState::Registered | DidState::Removing);
        self.dids.iter().filter(known).map(|entry| &entry.did)
    }

    fn entry(&self, did: &Did) -> Option<usize> {
        self.dids.iter().position(|entry| entry.did.same_as(did))
    }

    /// Advances by one event.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if a message belongs elsewhere or an event does not fit; `self` is then unchanged.
    ///
    /// # Specification
    ///
    /// didcomm.org, "Coordinate Mediation Protocol 3.0", role recipient.
    pub fn handle(&mut self, event: Event<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        match event {
            Event::Ask { thid } => self.ask(thid, now),
            Event::Register { did, thid, proof } => self.register(did, thid, proof, now),
            Event::Unregister { did, thid } => self.unregister(&did, thid, now),
            Event::Compare { ours, thid } => self.compare(ours, thid, now),
            Event::Forgotten { thid } => self.ask_anew(thid, now),
            Event::Message(received) => self.receive(received, now),
            Event::Tick => Ok(self.tick(now)),
        }
    }

    fn unexpected(&self, message: &'static str) -> FlowError {
        FlowError::Unexpected { message, state: self.state.name() }
    }

    fn ask(&mut self, thid: ThreadId, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::None | State::Denied) {
            return Err(self.unexpected("Ask"));
        }
        let pending = Pending::new(thid, Draft::of(&MediateRequest {}), now);
        let actions = pending.first();
        self.pending = Some(pending);
        self.state = State::Requested;
        Ok(actions)
    }

    fn ask_anew(&mut self, thid: ThreadId, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::Granted { .. }) {
            return Err(self.unexpected("Forgotten"));
        }
        self.state = State::None;
        self.dids.clear();
        self.comparison = None;
        self.ask(thid, now)
    }

    fn compare(
        &mut self,
        ours: Vec<Did>,
        thid: ThreadId,
        now: UnixSeconds,
    ) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::Granted { .. }) || self.comparison.is_some() {
            return Err(self.unexpected("Compare"));
        }
        if ours.len() > MAX_REGISTRATIONS {
            return Err(FlowError::TooMany { what: "DIDs to compare", most: MAX_REGISTRATIONS });
        }
        let pending = Pending::new(thid, Comparison::query(0), now);
        let actions = pending.first();
        self.comparison = Some(Comparison::new(ours, pending));
        Ok(actions)
    }

    fn update(did: &Did, action: UpdateAction) -> Draft {
        Draft::of(&RecipientUpdate {
            updates: vec![Update { recipient_did: did.as_str().to_owned(), action }],
        })
    }

    fn register(
        &mut self,
        did: Did,
        thid: ThreadId,
        proof: Option<Box<Attachment>>,
        now: UnixSeconds,
    ) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::Granted { .. }) {
            return Err(self.unexpected("Register"));
        }
        if self.dids.len() >= MAX_REGISTRATIONS {
            return Err(FlowError::TooMany { what: "registrations", most: MAX_REGISTRATIONS });
        }
        match self.did_state(&did) {
            DidState::Unregistered => {}
            DidState::Registered => return Ok(vec![Action::Registered { did }]),
            _ => return Err(FlowError::Unexpected { message: "Register", state: "registering or removing" }),
        }
        let mut draft = Self::update(&did, UpdateAction::Add);
        draft.attachments.extend(proof.map(|proof| *proof));
        let pending = Pending::new(thid, draft, now);
        let actions = pending.first();
        self.dids.push(Entry { did, state: DidState::Registering, pending });
        Ok(actions)
    }

    fn unregister(&mut self, did: &Did, thid: ThreadId, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        let Some(entry) = self.dids.iter_mut().find(|entry| entry.did.same_as(did)) else {
            return Ok(vec![Action::Unregistered { did: did.clone() }]);
        };
        if entry.state != DidState::Registered {
            return Err(FlowError::Unexpected { message: "Unregister", state: "registering or removing" });
        }
        entry.pending = Pending::new(thid, Self::update(&entry.did, UpdateAction::Remove), now);
        entry.state = DidState::Removing;
        Ok(entry.pending.first())
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
        if received.is(MediateGrant::TYPE) {
            self.take_grant(received)
        } else if received.is(MediateDeny::TYPE) {
            self.take_deny(received)
        } else if received.is(RecipientUpdateResponse::TYPE) {
            self.take_response(received)
        } else if received.is(RecipientList::TYPE) {
            self.take_list(received, now)
        } else {
            Err(FlowError::UnknownMessage)
        }
    }

    fn check_account_thread(&self, received: &Received<'_>) -> Result<(), FlowError> {
        let thread = received.message().thread();
        // Deployed mediators leave out `thid`: then the reply answers the waiting request.
        let loose = received.message().thid.is_none() && self.state == State::Requested;
        if loose || self.pending.as_ref().is_some_and(|pending| pending.thid == thread) {
            return Ok(());
        }
        Err(FlowError::WrongThread)
    }

    fn take_grant(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        self.check_account_thread(received)?;
        let MediateGrant { routing_did } = received.body(&[])?;
        if matches!(self.state, State::Granted { .. }) {
            return Ok(vec![]);
        }
        if self.state != State::Requested {
            return Err(self.unexpected(MediateGrant::TYPE));
        }
        if routing_did.len() > MAX_ROUTING_DIDS {
            return Err(FlowError::TooMany { what: "routing DIDs", most: MAX_ROUTING_DIDS });
        }
        let invalid = FlowError::InvalidContent { what: "routing_did" };
        let routing_dids: Vec<Did> = routing_did.iter().filter_map(|text| Did::parse(text).ok()).collect();
        if routing_dids.is_empty() {
            return Err(invalid);
        }
        self.state = State::Granted { routing_dids: routing_dids.clone() };
        Ok(vec![Action::Granted { routing_dids }])
    }

    fn take_deny(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        self.check_account_thread(received)?;
        received.body::<MediateDeny>(&[])?;
        match self.state {
            State::Denied => Ok(vec![]),
            State::Requested => {
                self.state = State::Denied;
                Ok(vec![Action::Denied])
            }
            _ => Err(self.unexpected(MediateDeny::TYPE)),
        }
    }

    fn take_response(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        let thread = received.message().thread();
        let mut waiting = self.dids.iter().enumerate().filter(|(_, entry)| entry.is_waiting());
        // As for an account; but if several requests wait, nobody knows which one is meant.
        let loose = match (received.message().thid.is_none(), waiting.next(), waiting.next()) {
            (true, Some((at, _)), None) => Some(at),
            _ => None,
        };
        let named = self.dids.iter().position(|entry| entry.pending.thid == thread);
        let at = named.or(loose).ok_or(FlowError::WrongThread)?;
        let RecipientUpdateResponse { updated } = received.body(&[])?;
        let Some(entry) = self.dids.get(at) else { return Err(FlowError::WrongThread) };
        let wanted = match entry.state {
            DidState::Registering => UpdateAction::Add,
            DidState::Removing => UpdateAction::Remove,
            // Already answered.
            DidState::Registered | DidState::Unregistered => return Ok(vec![]),
        };
        let names = |text: &str| Did::parse(text).is_ok_and(|did| did.same_as(&entry.did));
        let result = updated
            .iter()
            .find(|updated| updated.action == wanted && names(&updated.recipient_did))
            .map(|updated| updated.result)
            .ok_or(FlowError::InvalidContent { what: "updated" })?;
        Ok(vec![self.settle(at, Some(result))])
    }

    fn take_list(&mut self, received: &Received<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        let message = received.message();
        let comparison = self.comparison.as_mut().ok_or(FlowError::WrongThread)?;
        if message.thid.is_some() && message.thread() != comparison.pending.thid {
            return Err(FlowError::WrongThread);
        }
        let list: RecipientList = received.body(&[])?;
        if let Some(query) = comparison.take(&list) {
            // In the same thread, and with an id of its own.
            let next = comparison.pending.next(query, now);
            return Ok(vec![next, Action::WakeAt(comparison.pending.deadline)]);
        }
        let missing = self.comparison.take().map_or_else(Vec::new, |comparison| comparison.missing);
        Ok(vec![Action::Missing { dids: missing }])
    }

    /// Ends waiting for one DID; `None` means that there was no answer.
    fn settle(&mut self, at: usize, result: Option<UpdateResult>) -> Action {
        let done = matches!(result, Some(UpdateResult::Success | UpdateResult::NoChange));
        let Some(entry) = self.dids.get_mut(at) else { return Action::Denied };
        let did = entry.did.clone();
        let registering = entry.state == DidState::Registering;
        if registering == done {
            entry.state = DidState::Registered;
        } else {
            self.dids.remove(at);
        }
        match (done, registering) {
            (true, true) => Action::Registered { did },
            (true, false) => Action::Unregistered { did },
            (false, _) => Action::Failed { did, result },
        }
    }

    fn take_report(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        let problem = report_problem::read(received)?;
        if problem.report.code.is_warning() {
            return Ok(vec![]);
        }
        let about_account = self.pending.as_ref().is_some_and(|pending| pending.thid == problem.thread);
        if about_account && self.state == State::Requested {
            self.state = State::Denied;
            return Ok(vec![Action::Denied]);
        }
        if self.comparison.as_ref().is_some_and(|comparison| comparison.pending.thid == problem.thread) {
            self.comparison = None;
            return Ok(vec![Action::NotCompared]);
        }
        let at =
            self.dids.iter().position(|entry| entry.is_waiting() && entry.pending.thid == problem.thread);
        match at {
            Some(at) => Ok(vec![self.settle(at, None)]),
            None => Err(FlowError::WrongThread),
        }
    }

    fn tick(&mut self, now: UnixSeconds) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.state == State::Requested
            && let Some(pending) = self.pending.as_mut().filter(|pending| now >= pending.deadline)
        {
            match pending.again(now) {
                Some(again) => actions.push(again),
                None => {
                    self.state = State::None;
                    actions.push(Action::Denied);
                }
            }
        }
        if let Some(comparison) = self.comparison.as_mut().filter(|one| now >= one.pending.deadline) {
            match comparison.pending.again(now) {
                Some(again) => actions.push(again),
                None => {
                    self.comparison = None;
                    actions.push(Action::NotCompared);
                }
            }
        }
        let mut at = 0;
        while at < self.dids.len() {
            let due = |entry: &&mut Entry| entry.is_waiting() && now >= entry.pending.deadline;
            let again = self.dids.get_mut(at).filter(due).map(|entry| entry.pending.again(now));
            match again {
                Some(None) => {
                    let before = self.dids.len();
                    actions.push(self.settle(at, None));
                    // A failed registration was removed, and the next entry moved into its place.
                    at += usize::from(self.dids.len() == before);
                    continue;
                }
                Some(Some(again)) => actions.push(again),
                None => {}
            }
            at += 1;
        }
        actions.extend(self.next_deadline().map(Action::WakeAt));
        actions
    }

    fn next_deadline(&self) -> Option<UnixSeconds> {
        let account = self.pending.iter().filter(|_| self.state == State::Requested);
        let dids = self.dids.iter().filter(|entry| entry.is_waiting()).map(|entry| &entry.pending);
        let comparison = self.comparison.iter().map(|comparison| &comparison.pending);
        account.chain(dids).chain(comparison).map(|pending| pending.deadline).min()
    }
}

/// Shows no DIDs: pairwise DIDs exist to hide which of them belong together.
impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient")
            .field("state", &self.state.name())
            .field("dids", &self.dids.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
