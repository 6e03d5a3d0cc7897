//! The verifier's machine: from a request, unasked or proposed, to a verdict about the presentation.

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
    limits::{MAX_COMMENT_CHARS, MAX_GOAL_CODE_LEN, PROPOSAL_TIMEOUT_SECS, REQUEST_TIMEOUT_SECS},
};

/// One exchange as the verifier sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verifier {
    exchange: Exchange,
    will_confirm: bool,
    state: State,
}

/// Where an exchange stands. The names are those of the specification's verifier column.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Nothing was said yet: the request is being prepared.
    Null,
    /// Waiting for our own side to ask.
    ProposalReceived {
        /// First second at which the proposal is given up.
        deadline: UnixSeconds,
    },
    /// Waiting for the presentation.
    RequestSent {
        /// The nonce of the request.
        nonce: String,
        /// First second at which the request is void.
        deadline: UnixSeconds,
    },
    /// Waiting for the verdict of our own side.
    PresentationReceived {
        /// The nonce of the request.
        nonce: String,
        /// What was presented, unchecked.
        vp: DcqlPresentation,
    },
    /// The presentation was accepted.
    Done,
    /// The exchange ended otherwise.
    Abandoned,
}

/// Something that happened.
#[derive(Clone)]
pub enum Event<'a> {
    /// Our side asks.
    Request {
        /// The DCQL query.
        dcql: Value,
        /// Our [`client_id`](super::client_id).
        client_id: String,
        /// Fresh for each request.
        nonce: String,
        /// Text for the person.
        comment: Option<String>,
        /// The purpose, for programs.
        goal_code: Option<String>,
        /// Whether we will tell the verdict.
        will_confirm: bool,
        /// When the request becomes void.
        expires: Option<UnixSeconds>,
    },
    /// A message arrived.
    Message(&'a Received<'a>),
    /// The presentation is accepted.
    Accepted,
    /// Our side refuses the presentation, or refuses to go on.
    Refused {
        /// Why.
        code: ProblemCode,
    },
    /// A timer fired, or the node restarted.
    Tick,
}

/// Something to do now. Doing it twice does no harm.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Send this to the prover.
    Send(Draft),
    /// Check the presentation, then send [`Event::Accepted`] or [`Event::Refused`].
    CheckPresentation {
        /// What was presented, unchecked.
        vp: DcqlPresentation,
        /// The nonce it must be bound to.
        nonce: String,
    },
    /// Give [`Event::Tick`] no earlier than this.
    WakeAt(UnixSeconds),
    /// The exchange is over.
    Ended(Outcome),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::ProposalReceived { .. } => "proposal-received",
            Self::RequestSent { .. } => "request-sent",
            Self::PresentationReceived { .. } => "presentation-received",
            Self::Done => "done",
            Self::Abandoned => "abandoned",
        }
    }
}

exchange_with_an_end!(Verifier);

impl Verifier {
    /// Takes a proposal that opens a thread; [`Event::Request`] or [`Event::Refused`] answers it.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if the message is not a proposal, or is void.
    pub fn from_proposal(
        received: &Received<'_>,
        now: UnixSeconds,
    ) -> Result<(Self, Vec<Action>), FlowError> {
        received.check_time(now)?;
        received.body::<ProposePresentation>(&[ProposePresentation::ALIAS])?;
        let deadline = now.plus(PROPOSAL_TIMEOUT_SECS);
        let state = State::ProposalReceived { deadline };
        let verifier = Self { exchange: Exchange::opened_by(received), will_confirm: false, state };
        Ok((verifier, vec![Action::WakeAt(deadline)]))
    }

    /// Prepares an unasked request to `prover` in the new thread `thid`; [`Event::Request`] sends it.
    pub fn start(own: Did, prover: Did, thid: ThreadId, pthid: Option<ThreadId>) -> Self {
        Self { exchange: Exchange::new(own, prover, thid, pthid), will_confirm: false, state: State::Null }
    }

    /// Whether the prover has proposed and waits for our request.
    pub fn awaits_our_request(&self) -> bool {
        matches!(self.state, State::ProposalReceived { .. })
    }

    /// Advances the exchange by one event and says what to do next.
    ///
    /// Commit `self` and the outgoing messages in one batch, then act.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if a message belongs elsewhere, is malformed, or does not fit the state;
    /// [`FlowError::Misuse`] if the request names a verifier other than us. `self` is then unchanged.
    ///
    /// # Specification
    ///
    /// Present Proof 3.0, "States for Verifier".
    pub fn handle(&mut self, event: Event<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        match event {
            Event::Request { dcql, client_id, nonce, comment, goal_code, will_confirm, expires } => {
                let content = DcqlRequest { dcql_query: dcql, nonce, client_id };
                let comment = comment.map(|text| text.chars().take(MAX_COMMENT_CHARS).collect());
                let body = RequestPresentation { goal_code, comment, will_confirm };
                self.request(content, &body, expires, now)
            }
            Event::Message(received) => self.receive(received, now),
            Event::Accepted => self.accept(),
            Event::Refused { code } => match self.state {
                State::Done | State::Abandoned => Err(self.unexpected("Refused")),
                // The prover knows nothing of a request that was never sent.
                State::Null => Ok(self.end(State::Abandoned, Outcome::Refused { code })),
                _ => Ok(self.abandon(&code.clone(), Outcome::Refused { code })),
            },
            Event::Tick => Ok(self.tick(now)),
        }
    }

    fn request(
        &mut self,
        content: DcqlRequest,
        body: &RequestPresentation,
        expires: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::Null | State::ProposalReceived { .. }) {
            return Err(self.unexpected("Request"));
        }
        if !names(&content.client_id, self.exchange.own()) {
            return Err(FlowError::Misuse {
                reason: "client_id must name the DID this exchange is held with",
            });
        }
        if expires.is_some_and(|end| end <= now) {
            return Err(FlowError::Misuse { reason: "the request would be void at once; let it end later" });
        }
        if body.goal_code.as_ref().is_some_and(|code| code.len() > MAX_GOAL_CODE_LEN) {
            return Err(FlowError::Misuse { reason: "the goal code is too long" });
        }
        let mut draft = Draft::of(body).attach(content.to_attachment("request")?);
        draft.expires_time = expires;
        let draft = self.exchange.answer(draft);
        let deadline = expires.unwrap_or_else(|| now.plus(REQUEST_TIMEOUT_SECS));
        self.will_confirm = body.will_confirm;
        self.state = State::RequestSent { nonce: content.nonce, deadline };
        Ok(vec![Action::Send(draft), Action::WakeAt(deadline)])
    }

    /// A message that is new in the thread.
    fn take(&mut self, received: &Received<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        if received.is(ProposePresentation::TYPE) || received.is(ProposePresentation::ALIAS) {
            self.take_counter_proposal(received, now)
        } else if received.is(Presentation::TYPE) || received.is(Presentation::ALIAS) {
            self.take_presentation(received, now)
        } else {
            Err(FlowError::UnknownMessage)
        }
    }

    fn take_counter_proposal(
        &mut self,
        received: &Received<'_>,
        now: UnixSeconds,
    ) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::RequestSent { .. }) {
            return Err(self.unexpected(ProposePresentation::TYPE));
        }
        received.body::<ProposePresentation>(&[ProposePresentation::ALIAS])?;
        self.exchange.note(&received.message().id)?;
        let deadline = now.plus(PROPOSAL_TIMEOUT_SECS);
        self.state = State::ProposalReceived { deadline };
        Ok(vec![Action::WakeAt(deadline)])
    }

    fn take_presentation(
        &mut self,
        received: &Received<'_>,
        now: UnixSeconds,
    ) -> Result<Vec<Action>, FlowError> {
        let State::RequestSent { nonce, deadline } = &self.state else {
            return Err(self.unexpected(Presentation::TYPE));
        };
        if now >= *deadline {
            return Err(FlowError::Expired);
        }
        received.body::<Presentation>(&[Presentation::ALIAS])?;
        let vp = DcqlPresentation::find_in(received.message())?;
        let nonce = nonce.clone();
        self.exchange.note(&received.message().id)?;
        self.state = State::PresentationReceived { nonce: nonce.clone(), vp: vp.clone() };
        Ok(vec![Action::CheckPresentation { vp, nonce }])
    }

    fn accept(&mut self) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::PresentationReceived { .. }) {
            return Err(self.unexpected("Accepted"));
        }
        let mut actions = Vec::new();
        if self.will_confirm {
            let draft = Draft::of(&Ack { status: AckStatus::Ok });
            actions.push(Action::Send(self.exchange.answer(draft)));
        } else {
            self.exchange.forget_answer();
        }
        self.state = State::Done;
        actions.push(Action::Ended(Outcome::Done));
        Ok(actions)
    }

    fn tick(&mut self, now: UnixSeconds) -> Vec<Action> {
        match &self.state {
            State::ProposalReceived { deadline } | State::RequestSent { deadline, .. } if now < *deadline => {
                vec![Action::WakeAt(*deadline)]
            }
            State::ProposalReceived { .. } | State::RequestSent { .. } => {
                self.abandon(&ProblemCode::TIME, Outcome::TimedOut)
            }
            State::PresentationReceived { nonce, vp } => {
                vec![Action::CheckPresentation { vp: vp.clone(), nonce: nonce.clone() }]
            }
            State::Null | State::Done | State::Abandoned => vec![],
        }
    }
}

/// Names the event.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { .. } => f.write_str("Request"),
            Self::Message(received) => f.debug_tuple("Message").field(received).finish(),
            Self::Accepted => f.write_str("Accepted"),
            Self::Refused { code } => f.debug_tuple("Refused").field(code).finish(),
            Self::Tick => f.write_str("Tick"),
        }
    }
}

/// Names the action; presentations are personal.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(draft) => f.debug_tuple("Send").field(draft).finish(),
            Self::CheckPresentation { .. } => f.write_str("CheckPresentation"),
            Self::WakeAt(at) => f.debug_tuple("WakeAt").field(at).finish(),
            Self::Ended(outcome) => f.debug_tuple("Ended").field(outcome).finish(),
        }
    }
}
