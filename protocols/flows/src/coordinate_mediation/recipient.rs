//! The side that asks a mediator for an account and registers its DIDs there.

mod dids;

use std::fmt;

use einmal_did::Did;
use einmal_didcomm::{Attachment, Body, ReturnRoute, ThreadId, UnixSeconds};

use super::{
    MediateDeny, MediateGrant, MediateRequest, RecipientList, RecipientUpdateResponse, UpdateResult,
    comparing::Comparison,
};
use crate::{
    Draft, FlowError, Received,
    limits::{MAX_RECIPIENTS_PER_ACCOUNT, MAX_ROUTING_DIDS},
    report_problem,
};

pub use self::dids::DidState;
use self::dids::Dids;

/// Most DIDs one machine keeps registered.
pub const MAX_REGISTRATIONS: usize = MAX_RECIPIENTS_PER_ACCOUNT;

/// The account of one DID of ours at one mediator, and the DIDs registered for it.
///
/// It waits without end and is not stored: whoever sends for it ends a request that is not answered by dropping it, and
/// begins anew with [`Recipient::new`] or [`Recipient::granted`].
#[derive(Clone, PartialEq)]
pub struct Recipient {
    own: Did,
    mediator: Did,
    state: State,
    /// Thread of the request for the account.
    thid: Option<ThreadId>,
    dids: Dids,
    comparison: Option<Comparison>,
}

/// Where the account stands.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// Something to do now. Doing it twice does no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this to the mediator.
    Send(Draft),
    /// The account is granted; name one of these DIDs as endpoint.
    Granted {
        /// The DIDs.
        routing_dids: Vec<Did>,
    },
    /// The mediator refused the account.
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
        /// The mediator's result; `None` if it reported a problem.
        result: Option<UpdateResult>,
    },
    /// The mediator takes no messages for these of the DIDs that were compared.
    Missing {
        /// The DIDs; perhaps none.
        dids: Vec<Did>,
    },
    /// The mediator does not list what it takes messages for.
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

/// A request in thread `thid`, with an id of its own.
fn request(thid: ThreadId, draft: Draft) -> Draft {
    draft.in_thread(thid).returning(ReturnRoute::All)
}

/// Sends the request that opens thread `thid`, and so bears its id.
fn open(thid: ThreadId, draft: Draft) -> Action {
    Action::Send(request(thid.clone(), draft).with_id(thid.to_message_id()))
}

impl Recipient {
    /// An account that has not been requested yet.
    pub fn new(own: Did, mediator: Did) -> Self {
        Self { own, mediator, state: State::None, thid: None, dids: Dids::default(), comparison: None }
    }

    /// An account that was granted before, with the DIDs the grant named.
    pub fn granted(own: Did, mediator: Did, routing_dids: Vec<Did>) -> Self {
        Self { state: State::Granted { routing_dids }, ..Self::new(own, mediator) }
    }

    /// Where the account stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where one DID stands.
    pub fn did_state(&self, did: &Did) -> DidState {
        self.dids.state(did)
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
            Event::Ask { thid } => self.ask(thid),
            Event::Register { did, thid, proof } if self.is_granted() => self.dids.register(did, thid, proof),
            Event::Register { .. } => Err(self.unexpected("Register")),
            Event::Unregister { did, thid } => self.dids.unregister(did, thid),
            Event::Compare { ours, thid } => self.compare(ours, thid),
            Event::Forgotten { thid } => self.ask_anew(thid),
            Event::Message(received) => self.receive(received, now),
        }
    }

    fn is_granted(&self) -> bool {
        matches!(self.state, State::Granted { .. })
    }

    fn unexpected(&self, message: &'static str) -> FlowError {
        FlowError::Unexpected { message, state: self.state.name() }
    }

    fn ask(&mut self, thid: ThreadId) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::None | State::Denied) {
            return Err(self.unexpected("Ask"));
        }
        self.thid = Some(thid.clone());
        self.state = State::Requested;
        Ok(vec![open(thid, Draft::of(&MediateRequest {}))])
    }

    fn ask_anew(&mut self, thid: ThreadId) -> Result<Vec<Action>, FlowError> {
        if !self.is_granted() {
            return Err(self.unexpected("Forgotten"));
        }
        self.state = State::None;
        self.dids.clear();
        self.comparison = None;
        self.ask(thid)
    }

    fn compare(&mut self, ours: Vec<Did>, thid: ThreadId) -> Result<Vec<Action>, FlowError> {
        if !self.is_granted() || self.comparison.is_some() {
            return Err(self.unexpected("Compare"));
        }
        if ours.len() > MAX_REGISTRATIONS {
            return Err(FlowError::TooMany { what: "DIDs to compare", most: MAX_REGISTRATIONS });
        }
        self.comparison = Some(Comparison::new(ours, thid.clone()));
        Ok(vec![open(thid, Comparison::query(0))])
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
            self.dids.take_response(received)
        } else if received.is(RecipientList::TYPE) {
            self.take_list(received)
        } else {
            Err(FlowError::UnknownMessage)
        }
    }

    fn check_account_thread(&self, received: &Received<'_>) -> Result<(), FlowError> {
        let thread = received.message().thread();
        // Deployed mediators leave out `thid`: then the reply answers the waiting request.
        let loose = received.message().thid.is_none() && self.state == State::Requested;
        if loose || self.thid.as_ref() == Some(&thread) {
            return Ok(());
        }
        Err(FlowError::WrongThread)
    }

    fn take_grant(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        self.check_account_thread(received)?;
        let MediateGrant { routing_did } = received.body(&[])?;
        if self.is_granted() {
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

    fn take_list(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        let message = received.message();
        let comparison = self.comparison.as_mut().ok_or(FlowError::WrongThread)?;
        if message.thid.is_some() && message.thread() != comparison.thid {
            return Err(FlowError::WrongThread);
        }
        let list: RecipientList = received.body(&[])?;
        if let Some(query) = comparison.take(&list) {
            // In the same thread, and with an id of its own.
            return Ok(vec![Action::Send(request(comparison.thid.clone(), query))]);
        }
        let missing = self.comparison.take().map_or_else(Vec::new, |comparison| comparison.missing);
        Ok(vec![Action::Missing { dids: missing }])
    }

    fn take_report(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        let problem = report_problem::read(received)?;
        if problem.report.code.is_warning() {
            return Ok(vec![]);
        }
        let about_account = self.thid.as_ref() == Some(&problem.thread);
        if about_account && self.state == State::Requested {
            self.state = State::Denied;
            return Ok(vec![Action::Denied]);
        }
        if self.comparison.as_ref().is_some_and(|comparison| comparison.thid == problem.thread) {
            self.comparison = None;
            return Ok(vec![Action::NotCompared]);
        }
        self.dids.fail(&problem.thread)
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
