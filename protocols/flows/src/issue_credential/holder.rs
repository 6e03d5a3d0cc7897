//! The holder's machine: from an offer, or from our own proposal, to a verified credential.

use std::fmt;

use einmal_did::Did;
use einmal_didcomm::{Body, ProblemCode, ThreadId, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{
    Ack, AckStatus, IssueCredential, OfferCredential, Outcome, ProposeCredential, RequestCredential,
};
use crate::{
    Draft, FlowError, Received,
    exchange::{Exchange, exchange_with_an_end},
    formats::{Content, SdJwtIssue, SdJwtOffer, SdJwtRequest},
    limits::{ISSUE_TIMEOUT_SECS, MAX_COMMENT_CHARS, OFFER_TIMEOUT_SECS, PROPOSAL_TIMEOUT_SECS},
    text::for_display,
};

/// One exchange as the holder sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holder {
    exchange: Exchange,
    state: State,
}

/// Where an exchange stands. The names are those of the specification's holder column.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Waiting for an offer.
    ProposalSent {
        /// First second at which waiting is over.
        deadline: UnixSeconds,
    },
    /// Waiting for the person to accept or decline.
    OfferReceived {
        /// What is offered.
        offer: Box<OfferView>,
        /// First second at which the offer is void.
        deadline: UnixSeconds,
    },
    /// Waiting for the credential.
    RequestSent {
        /// First second at which waiting is over.
        deadline: UnixSeconds,
    },
    /// Waiting for the verdict on the credentials that arrived.
    CredentialReceived {
        /// The credentials, unverified.
        credentials: Vec<String>,
    },
    /// The credential was verified and kept.
    Done,
    /// The exchange ended without a credential.
    Abandoned,
}

/// An offer as a person decides about it. All of it is the issuer's claim.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OfferView {
    /// Type of the credential.
    pub vct: String,
    /// Algorithms accepted for the holder's key.
    pub alg: Vec<String>,
    /// To be signed in the proof of possession.
    pub nonce: String,
    /// Audience of the proof of possession.
    pub aud: String,
    /// Claims on offer, for display.
    pub preview: Vec<(String, String)>,
    /// The issuer's comment, for display.
    pub comment: Option<String>,
    /// When the offer becomes void, if the issuer says so.
    pub expires: Option<UnixSeconds>,
}

/// Something that happened.
#[derive(Clone)]
pub enum Event<'a> {
    /// A message arrived.
    Message(&'a Received<'a>),
    /// The person accepted the offer.
    Accepted {
        /// Proof of possession over the offer's nonce and audience.
        proof_jwt: String,
    },
    /// The person declined, or gave up waiting.
    Declined,
    /// The credentials of [`Action::Verify`] are genuine and stored.
    Verified,
    /// The credentials of [`Action::Verify`] are refused.
    Rejected {
        /// Why.
        code: ProblemCode,
    },
    /// A timer fired, or the node restarted.
    Tick,
}

/// Something to do now. Doing it twice does no harm.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Send this to the issuer.
    Send(Draft),
    /// Show the offer, then send [`Event::Accepted`] or [`Event::Declined`].
    ShowOffer(OfferView),
    /// Verify the credentials, then send [`Event::Verified`] or [`Event::Rejected`].
    Verify {
        /// The credentials, unverified.
        credentials: Vec<String>,
    },
    /// Give [`Event::Tick`] no earlier than this.
    WakeAt(UnixSeconds),
    /// The exchange is over.
    Ended(Outcome),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::ProposalSent { .. } => "proposal-sent",
            Self::OfferReceived { .. } => "offer-received",
            Self::RequestSent { .. } => "request-sent",
            Self::CredentialReceived { .. } => "credential-received",
            Self::Done => "done",
            Self::Abandoned => "abandoned",
        }
    }
}

impl OfferView {
    fn read(received: &Received<'_>) -> Result<Self, FlowError> {
        let body: OfferCredential = received.body(&[])?;
        let offer = SdJwtOffer::find_in(received.message())?;
        let preview = body.credential_preview.map(|preview| preview.claims()).transpose()?;
        Ok(Self {
            vct: offer.vct,
            alg: offer.alg,
            nonce: offer.nonce,
            aud: offer.aud,
            preview: preview.unwrap_or_default(),
            comment: body.comment.map(|text| for_display(&text, MAX_COMMENT_CHARS)),
            expires: received.message().expires_time,
        })
    }
}

exchange_with_an_end!(Holder);

impl Holder {
    /// Asks `issuer` for an offer, in the new thread `thid`; `pthid` is the invitation this answers, if any.
    pub fn propose(
        own: Did,
        issuer: Did,
        thid: ThreadId,
        pthid: Option<ThreadId>,
        now: UnixSeconds,
    ) -> (Self, Vec<Action>) {
        let deadline = now.plus(PROPOSAL_TIMEOUT_SECS);
        let mut exchange = Exchange::new(own, issuer, thid, pthid);
        let draft = exchange.send(Draft::of(&ProposeCredential::default()));
        let holder = Self { exchange, state: State::ProposalSent { deadline } };
        (holder, vec![Action::Send(draft), Action::WakeAt(deadline)])
    }

    /// Takes an offer that opens a thread.
    ///
    /// # Errors
    ///
    /// [`FlowError`] if the message is not a readable offer, or is void.
    pub fn from_offer(received: &Received<'_>, now: UnixSeconds) -> Result<(Self, Vec<Action>), FlowError> {
        received.check_time(now)?;
        let (state, actions) = Self::show(received, now)?;
        Ok((Self { exchange: Exchange::opened_by(received), state }, actions))
    }

    /// Whether the issuer has not answered our proposal yet.
    pub fn awaits_offer(&self) -> bool {
        matches!(self.state, State::ProposalSent { .. })
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
    /// Issue Credential 3.0, "Holder States".
    pub fn handle(&mut self, event: Event<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        match event {
            Event::Message(received) => self.receive(received, now),
            Event::Accepted { proof_jwt } => self.accept(proof_jwt, now),
            Event::Declined => match self.state {
                State::ProposalSent { .. } | State::OfferReceived { .. } | State::RequestSent { .. } => {
                    Ok(self.abandon(&ProblemCode::ISSUANCE_ABANDONED, Outcome::Declined))
                }
                _ => Err(self.unexpected("Declined")),
            },
            Event::Verified => self.keep(),
            Event::Rejected { code } => match self.state {
                State::CredentialReceived { .. } => {
                    Ok(self.abandon(&code.clone(), Outcome::Refused { code }))
                }
                _ => Err(self.unexpected("Rejected")),
            },
            Event::Tick => Ok(self.tick(now)),
        }
    }

    fn show(received: &Received<'_>, now: UnixSeconds) -> Result<(State, Vec<Action>), FlowError> {
        let view = OfferView::read(received)?;
        // The issuer may set an earlier end, but cannot keep the exchange open for as long as it likes.
        let usual = now.plus(OFFER_TIMEOUT_SECS);
        let deadline = view.expires.map_or(usual, |end| end.min(usual));
        let actions = vec![Action::ShowOffer(view.clone()), Action::WakeAt(deadline)];
        Ok((State::OfferReceived { offer: Box::new(view), deadline }, actions))
    }

    /// A message that is new in the thread.
    fn take(&mut self, received: &Received<'_>, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        if received.is(OfferCredential::TYPE) {
            if !matches!(self.state, State::ProposalSent { .. }) {
                return Err(self.unexpected(OfferCredential::TYPE));
            }
            let (state, actions) = Self::show(received, now)?;
            self.exchange.note(&received.message().id)?;
            self.state = state;
            Ok(actions)
        } else if received.is(IssueCredential::TYPE) {
            if !matches!(self.state, State::RequestSent { .. }) {
                return Err(self.unexpected(IssueCredential::TYPE));
            }
            received.body::<IssueCredential>(&[])?;
            let SdJwtIssue { credentials } = SdJwtIssue::find_in(received.message())?;
            self.exchange.note(&received.message().id)?;
            self.state = State::CredentialReceived { credentials: credentials.clone() };
            Ok(vec![Action::Verify { credentials }])
        } else {
            Err(FlowError::UnknownMessage)
        }
    }

    fn accept(&mut self, proof_jwt: String, now: UnixSeconds) -> Result<Vec<Action>, FlowError> {
        let State::OfferReceived { deadline, .. } = &self.state else {
            return Err(self.unexpected("Accepted"));
        };
        if now >= *deadline {
            return Err(FlowError::Expired);
        }
        let attachment = SdJwtRequest { proof_jwt }.to_attachment("request")?;
        let draft = self.exchange.answer(Draft::of(&RequestCredential::default()).attach(attachment));
        let deadline = now.plus(ISSUE_TIMEOUT_SECS);
        self.state = State::RequestSent { deadline };
        Ok(vec![Action::Send(draft), Action::WakeAt(deadline)])
    }

    /// Acknowledges, whether asked to or not: `ack` means "verified and stored" and ends the issuer's wait.
    fn keep(&mut self) -> Result<Vec<Action>, FlowError> {
        if !matches!(self.state, State::CredentialReceived { .. }) {
            return Err(self.unexpected("Verified"));
        }
        let mut draft = Draft::of(&Ack { status: AckStatus::Ok });
        // WACI's text requires `pthid`; its vectors carry both.
        draft.pthid = self.exchange.pthid().cloned();
        let draft = self.exchange.answer(draft);
        self.state = State::Done;
        Ok(vec![Action::Send(draft), Action::Ended(Outcome::Done)])
    }

    fn tick(&mut self, now: UnixSeconds) -> Vec<Action> {
        match &self.state {
            State::ProposalSent { deadline } | State::RequestSent { deadline } if now < *deadline => {
                vec![Action::WakeAt(*deadline)]
            }
            State::OfferReceived { offer, deadline } if now < *deadline => {
                vec![Action::ShowOffer((**offer).clone()), Action::WakeAt(*deadline)]
            }
            State::ProposalSent { .. } | State::RequestSent { .. } | State::OfferReceived { .. } => {
                self.abandon(&ProblemCode::TIME, Outcome::TimedOut)
            }
            State::CredentialReceived { credentials } => {
                vec![Action::Verify { credentials: credentials.clone() }]
            }
            State::Done | State::Abandoned => vec![],
        }
    }
}

/// Shows the type; the claims are personal.
impl fmt::Debug for OfferView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfferView").field("vct", &self.vct).finish_non_exhaustive()
    }
}

/// Names the event; proofs are personal.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(received) => f.debug_tuple("Message").field(received).finish(),
            Self::Accepted { .. } => f.write_str("Accepted"),
            Self::Declined => f.write_str("Declined"),
            Self::Verified => f.write_str("Verified"),
            Self::Rejected { code } => f.debug_tuple("Rejected").field(code).finish(),
            Self::Tick => f.write_str("Tick"),
        }
    }
}

/// Names the action; credentials are personal.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(draft) => f.debug_tuple("Send").field(draft).finish(),
            Self::ShowOffer(view) => f.debug_tuple("ShowOffer").field(view).finish(),
            Self::Verify { credentials } => {
                f.debug_struct("Verify").field("count", &credentials.len()).finish()
            }
            Self::WakeAt(at) => f.debug_tuple("WakeAt").field(at).finish(),
            Self::Ended(outcome) => f.debug_tuple("Ended").field(outcome).finish(),
        }
    }
}
