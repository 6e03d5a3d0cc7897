//! The issuer's machine: from an offer, unasked or proposed, to an acknowledged credential.

use std::fmt;

use einmal_did::Did;
use einmal_didcomm::{Body, ProblemCode, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{
    Ack, AckStatus, CredentialPreview, IssueCredential, OfferCredential, Outcome, ProposeCredential,
    RequestCredential,
};
use crate::{
    Draft, FlowError, Received,
    exchange::{Exchange, exchange_with_an_end},
    formats::{Content, SdJwtIssue, SdJwtOffer, SdJwtRequest},
    limits::{ISSUE_ACK_TIMEOUT_SECS, MAX_COMMENT_CHARS, OFFER_TIMEOUT_SECS, PROPOSAL_TIMEOUT_SECS},
};

/// One exchange as the issuer sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issuer {
    exchange: Exchange,
    state: State,
}

/// Where an exchange stands. The names are those of the specification's issuer column.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Nothing was said yet: the offer is being prepared.
    Null,
    /// Waiting for our own side to make an offer.
    ProposalReceived {
        /// First second at which the proposal is given up.
        deadline: UnixSeconds,
    },
    /// Waiting for the request.
    OfferSent {
        /// First second at which the offer is void.
        deadline: UnixSeconds,
    },
    /// Waiting for our own side to check the request and issue.
    RequestReceived {
        /// The holder's proof of possession, unchecked.
        proof_jwt: String,
    },
    /// Waiting for the acknowledgement.
    CredentialIssued {
        /// First second at which waiting is over.
        deadline: UnixSeconds,
    },
    /// The credential was issued.
    Done,
    /// The exchange ended without a credential, or the holder refused it.
    Abandoned,
}

/// Something that happened.
#[derive(Clone)]
pub enum Event<'a> {
    /// Our side offers a credential.
    Offer {
        /// What is offered; its nonce is fresh.
        offer: SdJwtOffer,
        /// Claims for display, by name.
        preview: Vec<(String, String)>,
        /// Text for the person.
        comment: Option<String>,
        /// When the offer becomes void.
        expires: Option<UnixSeconds>,
    },
    /// A message arrived.
    Message(&'a Received<'a>),
    /// The request is good, and these credentials were issued.
    Issued {
        /// In compact form.
        credentials: Vec<String>,
    },
    /// Our side refuses to go on.
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
    /// Send this to the holder.
    Send(Draft),
    /// Check the proof of possession against the offer, then send [`Event::Issued`] or [`Event::Refused`].
    CheckRequest {
        /// The proof, unchecked.
        proof_jwt: String,
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
            Self::OfferSent { .. } => "offer-sent",
            Self::RequestReceived { .. } => "request-received",
            Self::CredentialIssued { .. } => "credential-issued",
            Self::Done => "done",
            Self::Abandoned => "abandoned",
        }
    }
}

exchange_with_an_end!(Issuer);

impl Issuer {
    /// Takes a proposal that opens a thread; [`Event::Offer`] or [`Event::Refused`] answers it.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if the message is not a proposal, or is void.
    pub fn from_proposal(
        received: &Received<'_>,
        now: UnixSeconds,
    ) -> Result<(Self, Vec<Action>), FlowError> {
        received.check_time(now)?;
        received.body::<ProposeCredential>(&[])?;
        let deadline = now.plus(PROPOSAL_TIMEOUT_SECS);
        let exchange = Exchange::opened_by(received);
        Ok((Self { exchange, state: State::ProposalReceived { deadline } }, vec![Action::WakeAt(deadline)]))
    }

    /// Prepares an unasked offer to `holder` in the new thread `thid`; [`Event::Offer`] sends it.
    pub fn offer(own: Did, holder: Did, thid: ThreadId, pthid: Option<ThreadId>) -> Self {
        Self { exchange: Exchange::new(own, holder, thid, pthid), state: State::Null }
    }

    /// Whether the holder has proposed and waits for our offer.
    pub fn awaits_our_offer(&self) -> bool {
        matches!(self.state, State::ProposalReceived { .. })
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
    /// Issue Credential 3.0, "Issuer States".
    pub fn handle(&mut self, event: Event<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        match event {
            Event::Offer { offer, preview, comment, expires } => {
                self.send_offer(&offer, preview, comment, expires, now)
            }
            Event::Message(received) => self.receive(received, now),
            Event::Issued { credentials } => self.issue(credentials, now),
            Event::Refused { code } => match self.state {
                State::CredentialIssued { .. } | State::Done | State::Abandoned => {
                    Err(self.unexpected("Refused"))
                }
                // The holder knows nothing of an offer that was never sent.
                State::Null => Ok(self.end(State::Abandoned, Outcome::Refused { code })),
                _ => Ok(self.abandon(&code.clone(), Outcome::Refused { code })),
            },
            Event::Tick => Ok(self.tick(now)),
        }
    }

    fn send_offer(
        &mut self,
        offer: &SdJwtOffer,
        preview: Vec<(String, String)>,
        comment: Option<String>,
        expires: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::Null | State::ProposalReceived { .. }) {
            return Err(self.unexpected("Offer"));
        }
        if expires.is_some_and(|end| end <= now) {
            return Err(FlowError::Misuse { reason: "the offer would be void at once; let it end later" });
        }
        let attachment = offer.to_attachment("offer")?;
        let body = OfferCredential {
            comment: comment.map(|text| text.chars().take(MAX_COMMENT_CHARS).collect()),
            credential_preview: Some(CredentialPreview::of(preview)?),
            ..OfferCredential::default()
        };
        let mut draft = Draft::of(&body).attach(attachment);
        draft.expires_time = expires;
        let draft = self.exchange.answer(draft);
        let deadline = expires.unwrap_or_else(|| now.plus(OFFER_TIMEOUT_SECS));
        self.state = State::OfferSent { deadline };
        Ok(vec![Action::Send(draft), Action::WakeAt(deadline)])
    }

    /// A message that is new in the thread.
    fn take(&mut self, received: &Received<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        if received.is(ProposeCredential::TYPE) {
            self.take_counter_proposal(received, now)
        } else if received.is(RequestCredential::TYPE) {
            self.take_request(received, now)
        } else if received.is(Ack::TYPE) {
            self.take_ack(received)
        } else {
            Err(FlowError::UnknownMessage)
        }
    }

    fn take_counter_proposal(
        &mut self,
        received: &Received<'_>,
        now: UnixSeconds,
    ) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::OfferSent { .. }) {
            return Err(self.unexpected(ProposeCredential::TYPE));
        }
        received.body::<ProposeCredential>(&[])?;
        self.exchange.note(&received.message().id)?;
        let deadline = now.plus(PROPOSAL_TIMEOUT_SECS);
        self.state = State::ProposalReceived { deadline };
        Ok(vec![Action::WakeAt(deadline)])
    }

    fn take_request(&mut self, received: &Received<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        let State::OfferSent { deadline } = self.state else {
            return Err(self.unexpected(RequestCredential::TYPE));
        };
        if now >= deadline {
            return Err(FlowError::Expired);
        }
        received.body::<RequestCredential>(&[])?;
        let SdJwtRequest { proof_jwt } = SdJwtRequest::find_in(received.message())?;
        self.exchange.note(&received.message().id)?;
        self.state = State::RequestReceived { proof_jwt: proof_jwt.clone() };
        Ok(vec![Action::CheckRequest { proof_jwt }])
    }

    fn take_ack(&mut self, received: &Received<'_>) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::CredentialIssued { .. }) {
            return Err(self.unexpected(Ack::TYPE));
        }
        let Ack { status } = received.body(&[])?;
        self.exchange.note(&received.message().id)?;
        let code = ProblemCode::ISSUANCE_ABANDONED;
        match status {
            AckStatus::Ok => Ok(self.end(State::Done, Outcome::Done)),
            AckStatus::Pending => Ok(vec![]),
            AckStatus::Fail => Ok(self.end(State::Abandoned, Outcome::PeerAbandoned { code })),
        }
    }

    fn issue(&mut self, credentials: Vec<String>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::RequestReceived { .. }) {
            return Err(self.unexpected("Issued"));
        }
        let attachment = SdJwtIssue { credentials }.to_attachment("credential")?;
        let draft = Draft::of(&IssueCredential::default()).attach(attachment);
        let draft = self.exchange.answer(draft);
        let deadline = now.plus(ISSUE_ACK_TIMEOUT_SECS);
        self.state = State::CredentialIssued { deadline };
        Ok(vec![Action::Send(draft), Action::WakeAt(deadline)])
    }

    fn tick(&mut self, now: UnixSeconds) -> Vec<Action> {
        match &self.state {
            State::ProposalReceived { deadline }
            | State::OfferSent { deadline }
            | State::CredentialIssued { deadline }
                if now < *deadline =>
            {
                vec![Action::WakeAt(*deadline)]
            }
            State::ProposalReceived { .. } | State::OfferSent { .. } => {
                self.abandon(&ProblemCode::TIME, Outcome::TimedOut)
            }
            State::CredentialIssued { .. } => self.end(State::Done, Outcome::Unacknowledged),
            State::RequestReceived { proof_jwt } => {
                vec![Action::CheckRequest { proof_jwt: proof_jwt.clone() }]
            }
            State::Null | State::Done | State::Abandoned => vec![],
        }
    }
}

/// Names the event; claims and credentials are personal.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer { .. } => f.write_str("Offer"),
            Self::Message(received) => f.debug_tuple("Message").field(received).finish(),
            Self::Issued { .. } => f.write_str("Issued"),
            Self::Refused { code } => f.debug_tuple("Refused").field(code).finish(),
            Self::Tick => f.write_str("Tick"),
        }
    }
}

/// Names the action; proofs are personal.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(draft) => f.debug_tuple("Send").field(draft).finish(),
            Self::CheckRequest { .. } => f.write_str("CheckRequest"),
            Self::WakeAt(at) => f.debug_tuple("WakeAt").field(at).finish(),
            Self::Ended(outcome) => f.debug_tuple("Ended").field(outcome).finish(),
        }
    }
}
