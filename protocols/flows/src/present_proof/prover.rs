//! The prover's machine: from a request, or from our own proposal, to a presentation and its verdict.

use std::fmt;

use einmal_did::Did;
use einmal_didcomm::{Body, ProblemCode, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Ack, Outcome, Presentation, ProposePresentation, RequestPresentation, names};
use crate::{
    Draft, FlowError, Received,
    exchange::{Exchange, exchange_with_an_end},
    formats::{Content, DcqlPresentation, DcqlRequest},
    issue_credential::AckStatus,
    limits::{
        MAX_COMMENT_CHARS, MAX_GOAL_CODE_LEN, PROPOSAL_TIMEOUT_SECS, REQUEST_TIMEOUT_SECS,
        VERDICT_TIMEOUT_SECS,
    },
    text::for_display,
};

/// One exchange as the prover sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prover {
    exchange: Exchange,
    state: State,
}

/// Where an exchange stands. The names are those of the specification's prover column.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Waiting for a request.
    ProposalSent {
        /// First second at which waiting is over.
        deadline: UnixSeconds,
    },
    /// Waiting for the person to present or decline.
    RequestReceived {
        /// What is asked for.
        request: Box<RequestView>,
        /// First second at which the request is void.
        deadline: UnixSeconds,
    },
    /// Waiting for the verdict.
    PresentationSent {
        /// First second at which waiting is over.
        deadline: UnixSeconds,
    },
    /// Presented, and accepted if a confirmation was promised.
    Done,
    /// The exchange ended otherwise.
    Abandoned,
}

/// A request as a person decides about it. The verifier is proved; the rest is its claim.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RequestView {
    /// The DCQL query, unchecked but bounded.
    pub dcql: Value,
    /// To be signed in the key binding.
    pub nonce: String,
    /// Audience of the key binding: names the proved sender.
    pub client_id: String,
    /// The verifier's comment, for display.
    pub comment: Option<String>,
    /// The purpose, for programs.
    pub goal_code: Option<String>,
    /// Whether the verifier will tell its verdict.
    pub will_confirm: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A message arrived.
    Message(&'a Received<'a>),
    /// The person agreed.
    Present {
        /// The presentations, bound to the request's nonce and client id.
        vp: DcqlPresentation,
    },
    /// The person, or a policy, declined.
    Declined {
        /// What to tell the verifier.
        code: ProblemCode,
    },
    /// A timer fired, or the node restarted.
    Tick,
}

/// Something to do now. Doing it twice does no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this to the verifier.
    Send(Draft),
    /// Show the request, then send [`Event::Present`] or [`Event::Declined`].
    ShowRequest(RequestView),
    /// Give [`Event::Tick`] no earlier than this.
    WakeAt(UnixSeconds),
    /// The exchange is over.
    Ended(Outcome),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::ProposalSent { .. } => "proposal-sent",
            Self::RequestReceived { .. } => "request-received",
            Self::PresentationSent { .. } => "presentation-sent",
            Self::Done => "done",
            Self::Abandoned => "abandoned",
        }
    }
}

impl RequestView {
    fn read(received: &Received<'_>) -> Result<Self, FlowError> {
        let body: RequestPresentation = received.body(&[RequestPresentation::ALIAS])?;
        let request = DcqlRequest::find_in(received.message())?;
        if !names(&request.client_id, received.sender()) {
            return Err(FlowError::Untrusted { what: "client_id" });
        }
        if body.goal_code.as_ref().is_some_and(|code| code.len() > MAX_GOAL_CODE_LEN) {
            return Err(FlowError::InvalidContent { what: "goal_code" });
        }
        Ok(Self {
            dcql: request.dcql_query,
            nonce: request.nonce,
            client_id: request.client_id,
            comment: body.comment.map(|text| for_display(&text, MAX_COMMENT_CHARS)),
            goal_code: body.goal_code,
            will_confirm: body.will_confirm,
        })
    }
}

exchange_with_an_end!(Prover);

impl Prover {
    /// Asks `verifier` for a request, in the new thread `thid`; `pthid` is the invitation this answers, if any.
    pub fn propose(
        own: Did,
        verifier: Did,
        thid: ThreadId,
        pthid: Option<ThreadId>,
        now: UnixSeconds,
    ) -> (Self, Vec<Action>) {
        let deadline = now.plus(PROPOSAL_TIMEOUT_SECS);
        let mut exchange = Exchange::new(own, verifier, thid, pthid);
        let draft = exchange.send(Draft::of(&ProposePresentation::default()));
        let prover = Self { exchange, state: State::ProposalSent { deadline } };
        (prover, vec![Action::Send(draft), Action::WakeAt(deadline)])
    }

    /// Takes a request that opens a thread.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if the message is not a readable request or is void; [`FlowError::Untrusted`] if it names a
    /// verifier other than its proved sender.
    pub fn from_request(received: &Received<'_>, now: UnixSeconds) -> Result<(Self, Vec<Action>), FlowError> {
        received.check_time(now)?;
        let (state, actions) = Self::show(received, now)?;
        Ok((Self { exchange: Exchange::opened_by(received), state }, actions))
    }

    /// Advances the exchange by one event and says what to do next.
    ///
    /// Commit `self` and the outgoing messages in one batch, then act.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if a message belongs elsewhere, is malformed, or does not fit the state. `self` is then
    /// unchanged.
    ///
    /// # Specification
    ///
    /// Present Proof 3.0, "States for Prover".
    pub fn handle(&mut self, event: Event<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        match event {
            Event::Message(received) => self.receive(received, now),
            Event::Present { vp } => self.present(&vp, now),
            Event::Declined { code } => match self.state {
                State::ProposalSent { .. } | State::RequestReceived { .. } => {
                    Ok(self.abandon(&code.clone(), Outcome::Declined { code }))
                }
                _ => Err(self.unexpected("Declined")),
            },
            Event::Tick => Ok(self.tick(now)),
        }
    }

    fn show(received: &Received<'_>, now: UnixSeconds) -> Result<(State, Vec<Action>), FlowError> {
        let view = RequestView::read(received)?;
        // The verifier may set an earlier end, but cannot keep the exchange open for as long as it likes.
        let usual = now.plus(REQUEST_TIMEOUT_SECS);
        let deadline = received.message().expires_time.map_or(usual, |end| end.min(usual));
        let actions = vec![Action::ShowRequest(view.clone()), Action::WakeAt(deadline)];
        Ok((State::RequestReceived { request: Box::new(view), deadline }, actions))
    }

    /// A message that is new in the thread.
    fn take(&mut self, received: &Received<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        if received.is(RequestPresentation::TYPE) || received.is(RequestPresentation::ALIAS) {
            if !matches!(self.state, State::ProposalSent { .. }) {
                return Err(self.unexpected(RequestPresentation::TYPE));
            }
            let (state, actions) = Self::show(received, now)?;
            self.exchange.note(&received.message().id)?;
            self.state = state;
            Ok(actions)
        } else if received.is(Ack::TYPE) || received.is(Ack::ALIAS) {
            self.take_ack(received)
        } else {
            Err(FlowError::UnknownMessage)
        }
    }

    fn take_ack(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::PresentationSent { .. }) {
            return Err(self.unexpected(Ack::TYPE));
        }
        let Ack { status } = received.body(&[Ack::ALIAS])?;
        self.exchange.note(&received.message().id)?;
        match status {
            AckStatus::Ok => Ok(self.end(State::Done, Outcome::Done)),
            AckStatus::Pending => Ok(vec![]),
            AckStatus::Fail => {
                Ok(self.end(State::Abandoned, Outcome::PeerAbandoned { code: ProblemCode::REQUEST }))
            }
        }
    }

    fn present(&mut self, vp: &DcqlPresentation, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        let State::RequestReceived { request, deadline } = &self.state else {
            return Err(self.unexpected("Present"));
        };
        if now >= *deadline {
            return Err(FlowError::Expired);
        }
        let will_confirm = request.will_confirm;
        let attachment = vp.to_attachment("presentation")?;
        let draft = self.exchange.answer(Draft::of(&Presentation::default()).attach(attachment));
        if !will_confirm {
            // A repeated request gets no second presentation: what was shown is not stored.
            let mut actions = vec![Action::Send(draft)];
            actions.extend(self.end(State::Done, Outcome::Done));
            return Ok(actions);
        }
        let deadline = now.plus(VERDICT_TIMEOUT_SECS);
        self.state = State::PresentationSent { deadline };
        Ok(vec![Action::Send(draft), Action::WakeAt(deadline)])
    }

    fn tick(&mut self, now: UnixSeconds) -> Vec<Action> {
        match &self.state {
            State::ProposalSent { deadline } | State::PresentationSent { deadline } if now < *deadline => {
                vec![Action::WakeAt(*deadline)]
            }
            State::RequestReceived { request, deadline } if now < *deadline => {
                vec![Action::ShowRequest((**request).clone()), Action::WakeAt(*deadline)]
            }
            State::ProposalSent { .. } | State::RequestReceived { .. } => {
                self.abandon(&ProblemCode::TIME, Outcome::TimedOut)
            }
            State::PresentationSent { .. } => self.end(State::Done, Outcome::Unconfirmed),
            State::Done | State::Abandoned => vec![],
        }
    }
}

/// Shows the goal code only.
impl fmt::Debug for RequestView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestView").field("goal_code", &self.goal_code).finish_non_exhaustive()
    }
}
