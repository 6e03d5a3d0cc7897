//! Issuing: from an order to a signed card with its place in the status list.

mod files;
mod filling;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::{Arc, RwLock},
};

use einmal_credentials::{
    proof::{self, ProofCheck},
    sd_jwt::{Claims, IssueError},
    vc::{self, CredentialRequest},
};
use einmal_did::Did;
use einmal_didcomm::{ProblemCode, UnixSeconds};
use einmal_flows::{
    formats::{CryptographicBinding, SdJwtOffer},
    issue_credential::issuer::{Action, Event, Issuer},
};
use einmal_keys::PublicKey;
use einmal_register::Filled;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::{
    files::in_register,
    filling::{end_of, path},
};
use super::{
    exchange::{Exchange, Job},
    ids::RequestId,
    invitations::{self, IssueOrder, Subject},
    issued::{self, Basis, IssuedCard, Left, Turn},
    no_card::NotMade,
    nonce::fresh_nonce,
    overtaken::facts,
    status::PublishedLists,
    templates::{CityFiles, may_be_anybody, not_asked_for},
};
use crate::{
    handler::{Effects, Failure, Handled, Shared},
    identity::{self, ASSERTION},
};

/// What an issuing exchange is about.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IssueJob {
    pub(crate) order: IssueOrder,
    /// Claims verified in a presentation that had to come first.
    #[serde(default)]
    pub(crate) presented: Option<Map<String, Value>>,
    /// The cards those claims come from.
    #[serde(default)]
    pub(crate) basis: Vec<Basis>,
    /// The subject of a pseudonym if no person of the register is known; the same for the offer and the card.
    #[serde(default)]
    subject: Option<String>,
    /// The nonce the holder must sign.
    #[serde(default)]
    nonce: Option<String>,
    /// When that nonce was given out; earlier versions did not write it down.
    #[serde(default)]
    pub(crate) offered_at: Option<UnixSeconds>,
    /// A card was signed; the order is then carried out, whatever the holder says later.
    #[serde(default)]
    pub(crate) issued: bool,
}

impl IssueJob {
    pub(crate) fn new(order: IssueOrder) -> Self {
        Self {
            order,
            presented: None,
            basis: Vec::new(),
            subject: None,
            nonce: None,
            offered_at: None,
            issued: false,
        }
    }
}

/// An issuing exchange.
pub(crate) type Issuing = Exchange<Job<Issuer, IssueJob>>;

/// Issues cards by the city's templates.
pub(crate) struct IssuingService {
    files: RwLock<Arc<CityFiles>>,
    pub(crate) lists: PublishedLists,
}

impl fmt::Debug for IssuingService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuingService").field("files", &self.files()).finish_non_exhaustive()
    }
}

impl IssuingService {
    pub(crate) fn new(files: CityFiles) -> Self {
        Self { files: RwLock::new(Arc::new(files)), lists: PublishedLists::default() }
    }

    /// Checks an order before it is accepted: template, person, eligibility.
    pub(crate) fn check(&self, shared: &Shared, order: &IssueOrder) -> Result<(), Failure> {
        let template = self.template(&order.template)?;
        match &order.subject {
            Subject::Person(person) => {
                self.known_person(person)?;
                let job = IssueJob::new(order.clone());
                self.filled(shared, &job).map_err(|not_made| not_made.of_order(person))?;
            }
            Subject::Prover { request, .. } => {
                let files = self.files();
                let asked = files.requests.get(request).ok_or_else(|| {
                    let known: Vec<&str> = files.requests.keys().map(RequestId::as_str).collect();
                    let known = known.join(", ");
                    Failure::user(format!("no request template `{request}`; there are: {known}"))
                })?;
                if may_be_anybody(&files, &template, asked) {
                    return Err(Failure::user(format!(
                        "`{request}` admits a card without status list, whose holder cannot be told from others: who is barred, or has \
                         a card already, would get another. Give that card a status list, or ask for one that has it"
                    )));
                }
                if let Some(claim) = not_asked_for(&template, asked) {
                    return Err(Failure::user(format!(
                        "this card shows `{claim}` as it was presented, and `{request}` does not ask for it: add it there, or name another request template"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Makes the offer of an exchange whose conditions are met.
    pub(crate) fn offer(&self, shared: &Shared, exchange: &mut Issuing, fx: &mut Effects<'_>) -> Handled {
        Ok(self.try_offer(shared, exchange, fx)?)
    }

    fn try_offer(
        &self,
        shared: &Shared,
        exchange: &mut Issuing,
        fx: &mut Effects<'_>,
    ) -> Result<(), NotMade> {
        let template = self.present_template(&exchange.work.job)?;
        if !self.may_go_on(shared, exchange)? {
            return Ok(self.handle(shared, exchange, Event::Refused { code: ProblemCode::REQUEST }, fx)?);
        }
        if exchange.work.job.subject.is_none() {
            exchange.work.job.subject = Some(fresh_nonce(shared)?);
        }
        let filled = self.filled(shared, &exchange.work.job)?;
        let language = self.files().config.language().to_owned();
        let preview = filled
            .display
            .iter()
            .map(|shown| (shown.label.text(&language).to_owned(), shown.text(&language)))
            .collect();
        let nonce = fresh_nonce(shared)?;
        exchange.work.job.nonce = Some(nonce.clone());
        exchange.work.job.offered_at = Some(shared.now());
        let issuer = issuer(shared)?;
        let offer = SdJwtOffer {
            vct: template.vct().to_owned(),
            cryptographic_binding: CryptographicBinding::Jwk,
            alg: vec!["ES256".into(), "EdDSA".into()],
            nonce,
            aud: issuer.as_str().to_owned(),
        };
        let comment = Some(template.label().text(&language).to_owned());
        Ok(self.handle(shared, exchange, Event::Offer { offer, preview, comment, expires: None }, fx)?)
    }

    /// As [`Self::offer`]; who is to have no card is told so in the thread of the card, and the exchange ends: were it left as it
    /// was, nobody could begin anew while it waits.
    pub(crate) fn offer_or_refuse(
        &self,
        shared: &Shared,
        exchange: &mut Issuing,
        fx: &mut Effects<'_>,
    ) -> Handled {
        match self.try_offer(shared, exchange, fx) {
            Err(NotMade::NoCard(why)) => {
                tracing::info!(reason = %why, "no card was offered");
                self.handle(shared, exchange, Event::Refused { code: ProblemCode::REQUEST }, fx)
            }
            done => Ok(done?),
        }
    }

    /// Feeds an event into the machine and carries out what follows.
    pub(crate) fn handle(
        &self,
        shared: &Shared,
        exchange: &mut Issuing,
        event: Event<'_>,
        fx: &mut Effects<'_>,
    ) -> Handled {
        let actions = exchange.work.machine.handle(event, fx.now())?;
        self.carry_out(shared, exchange, actions, fx)
    }

    pub(crate) fn carry_out(
        &self,
        shared: &Shared,
        exchange: &mut Issuing,
        actions: Vec<Action>,
        fx: &mut Effects<'_>,
    ) -> Handled {
        for action in actions {
            match action {
                Action::Send(draft) => exchange.send(draft, fx)?,
                Action::WakeAt(at) => exchange.wake(at, fx)?,
                Action::CheckRequest { proof_jwt } => {
                    let event = self.issue(shared, exchange, &proof_jwt, fx)?;
                    exchange.work.job.issued |= matches!(event, Event::Issued { .. });
                    let next = exchange.work.machine.handle(event, fx.now())?;
                    self.carry_out(shared, exchange, next, fx)?;
                }
                // The claims of a condition are not needed beyond the exchange.
                Action::Ended(_) => {
                    exchange.work.job.presented = None;
                    exchange.work.job.basis.clear();
                }
            }
        }
        Ok(())
    }

    /// Checks the holder's proof and signs the card.
    fn issue(
        &self,
        shared: &Shared,
        exchange: &Issuing,
        proof_jwt: &str,
        fx: &mut Effects<'_>,
    ) -> Result<Event<'static>, Failure> {
        let issuer = issuer(shared)?;
        let job = &exchange.work.job;
        let nonce =
            job.nonce.as_deref().ok_or_else(|| Failure::damaged("an offer that was made has no nonce"))?;
        let asked_at = job.offered_at.map(|at| at.0);
        let check = ProofCheck { audience: issuer.as_str(), nonce, asked_at, now: shared.now().0 };
        let holder = match proof::verify(proof_jwt, &check) {
            Ok(key) => key,
            Err(error) => {
                tracing::info!(%error, "a proof of possession was refused");
                return Ok(Event::Refused { code: ProblemCode::CRYPTO });
            }
        };
        if !self.may_go_on(shared, exchange)? {
            return Ok(Event::Refused { code: ProblemCode::REQUEST });
        }
        let (turn, filled) = match self.turn_and_filled(shared, job) {
            Ok(both) => both,
            Err(NotMade::NoCard(why)) => {
                tracing::info!(reason = %why, "no card was issued");
                return Ok(Event::Refused { code: ProblemCode::REQUEST });
            }
            Err(NotMade::Failed(failure)) => return Err(failure),
        };
        let Some(expires_at) = end_of(shared, job, &filled, &self.files().calendar) else {
            tracing::warn!(
                "a card was ordered that would be valid for no second: einmal city offer --valid-for"
            );
            return Ok(Event::Refused { code: ProblemCode::REQUEST });
        };
        let card = self.sign(shared, exchange, (filled, expires_at), holder, turn, fx)?;
        Ok(Event::Issued { credentials: vec![card] })
    }

    fn sign(
        &self,
        shared: &Shared,
        exchange: &Issuing,
        (filled, expires_at): (Filled, u64),
        holder: PublicKey,
        turn: Option<Turn>,
        fx: &mut Effects<'_>,
    ) -> Result<String, Failure> {
        let (issuer, job) = (issuer(shared)?, &exchange.work.job);
        let template = self.present_template(job).map_err(Failure::from)?;
        let now = shared.now();
        // A place in the list is gone once it was given away: after all that may end otherwise.
        let status = if template.has_status_list() { Some(self.lists.allocate(shared)?) } else { None };
        let request = CredentialRequest {
            issuer: issuer.as_str().to_owned(),
            vct: template.vct().to_owned(),
            holder,
            claims: Claims::new(filled.claims),
            disclosable: filled.disclosable.into_iter().map(path).collect(),
            issued_at: now.0,
            not_before: None,
            expires_at,
            status: status.clone(),
        };
        let kid = identity::key_id(&issuer, ASSERTION);
        let card = vc::issue(shared.custody(), &kid, &request, shared.entropy())
            .map_err(|error| not_issued(template.id(), error))?;
        let files = self.files();
        let person = turn.as_ref().map(|turn| in_register(&files, &turn.person)).transpose()?;
        let record = IssuedCard {
            template: job.order.template.clone(),
            person: turn.as_ref().map(|turn| turn.person.clone()),
            status,
            issued_at: now,
            expires_at,
            thread: exchange.work.machine.thread().clone(),
            revoked: None,
            facts: person.map_or(Ok(BTreeMap::new()), |person| facts(shared, &template, person))?,
        };
        issued::remember(shared, &record, turn, &basis_of(job), fx)?;
        Ok(card)
    }

    /// Whether the basis of an exchange still stands: the invitation, and the cards that were proved.
    fn may_go_on(&self, shared: &Shared, exchange: &Issuing) -> Result<bool, Failure> {
        if invitations::is_withdrawn(shared, exchange.work.machine.pthid())? {
            tracing::info!("the offer was withdrawn meanwhile");
            return Ok(false);
        }
        if !self.still_holds(shared, &exchange.work.job)? {
            tracing::info!("the card that was proved first has ended or was revoked meanwhile");
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether the cards proved before the offer are still valid. An offer may be taken days after the proof, and the
    /// proof itself relies on a list up to an hour old: the records know better.
    fn still_holds(&self, shared: &Shared, job: &IssueJob) -> Result<bool, Failure> {
        for basis in basis_of(job).iter() {
            if basis.ends_at.is_some_and(|end| end <= shared.now().0) {
                return Ok(false);
            }
            // A card without status cannot be revoked.
            if let Some(place) = &basis.status
                && issued::at(shared, place)?.is_none_or(|card| card.revoked.is_some())
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Revokes a card for good. Returns the ids of cards that may have to be revoked with it.
    pub(crate) fn revoke(
        &self,
        shared: &Shared,
        id: &str,
        reason: &str,
        fx: &mut Effects<'_>,
    ) -> Result<Left, Failure> {
        let files = self.files();
        issued::revoke(shared, &self.lists, (id, reason), |template| files.templates.get(template), fx)
    }
}

/// The cards that the claims of a job come from; earlier versions recorded only the claims.
pub(super) fn basis_of(job: &IssueJob) -> Cow<'_, [Basis]> {
    match &job.presented {
        Some(claims) if job.basis.is_empty() => vec![Basis::of(claims)].into(),
        _ => Cow::Borrowed(&job.basis),
    }
}

/// Why no card was made from a template, by who is to blame.
fn not_issued(template: &str, error: IssueError) -> Failure {
    match error {
        IssueError::Custody(_) | IssueError::CannotSign => Failure::key(error),
        IssueError::Entropy => Failure::entropy(error),
        error => Failure::misconfigured(format!("credential template {template} makes no card: {error}")),
    }
}

fn issuer(shared: &Shared) -> Result<Did, Failure> {
    shared.public_did().cloned().ok_or_else(Failure::no_did_yet)
}
