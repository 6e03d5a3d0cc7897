//! Issuing: from an order to a signed card with its place in the status list.

use std::{collections::BTreeMap, fmt};

use einmal_credentials::{
    proof,
    sd_jwt::{Claims, PathElement},
    vc::{self, CredentialRequest, StatusReference},
};
use einmal_did::Did;
use einmal_didcomm::{ProblemCode, ThreadId, UnixSeconds};
use einmal_flows::{
    formats::{CryptographicBinding, SdJwtOffer},
    issue_credential::issuer::{Action, Event, Issuer},
};
use einmal_keys::{PublicKey, base64url_encode};
use einmal_register::{Date, Filled, Inputs, PersonId, Template, fill};
use einmal_storage::Table;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    exchange::{Exchange, Job},
    invitations::IssueOrder,
    status::PublishedLists,
    templates::CityFiles,
};
use crate::{
    db::{META, digest_id},
    identity::{self, ASSERTION},
    node::{Effects, Failure, Handled, Shared},
};

/// Issued cards, by their id.
const ISSUED: Table = Table::new("issued");
/// Ids of issued cards, by place in the status list.
const ISSUED_AT: Table = Table::new("issued-at");
/// Ids of issued cards, by person.
const ISSUED_TO: Table = Table::new("issued-to");
/// Most cards listed at once.
const MAX_LISTED: usize = 100_000;
/// Seconds in a day.
const DAY: u64 = 24 * 3600;

/// What an issuing exchange is about.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IssueJob {
    pub(crate) order: IssueOrder,
    /// Claims verified in a presentation that had to come first.
    #[serde(default)]
    pub(crate) presented: Option<Map<String, Value>>,
    /// The nonce the holder must sign.
    #[serde(default)]
    nonce: Option<String>,
    /// A card was signed; whatever the holder says of it afterwards, the order is carried out.
    #[serde(default)]
    pub(crate) issued: bool,
}

impl IssueJob {
    pub(crate) fn new(order: IssueOrder) -> Self {
        Self { order, presented: None, nonce: None, issued: false }
    }
}

/// An issuing exchange.
pub(crate) type Issuing = Exchange<Job<Issuer, IssueJob>>;

/// An issued card as the issuer remembers it. No claims: they are in the register.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IssuedCard {
    template: String,
    #[serde(default)]
    person: Option<String>,
    status: Option<StatusReference>,
    issued_at: UnixSeconds,
    expires_at: u64,
    thread: ThreadId,
    #[serde(default)]
    revoked: Option<Revoked>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Revoked {
    reason: String,
    at: UnixSeconds,
}

/// Issues cards by the city's templates.
pub(crate) struct IssuingService {
    pub(crate) files: CityFiles,
    pub(crate) lists: PublishedLists,
}

impl fmt::Debug for IssuingService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuingService").field("files", &self.files).finish_non_exhaustive()
    }
}

impl IssuingService {
    pub(crate) fn template(&self, id: &str) -> Result<&Template, Failure> {
        self.files.templates.get(id).ok_or_else(|| {
            let known: Vec<&str> = self.files.templates.keys().map(String::as_str).collect();
            Failure::user(format!("no credential template `{id}`; there are: {}", known.join(", ")))
        })
    }

    /// Checks an order before it is taken: template, person, eligibility.
    pub(crate) fn check(&self, shared: &Shared, order: &IssueOrder) -> Result<(), Failure> {
        self.template(&order.template)?;
        if let Some(person) = &order.person {
            let job = IssueJob::new(order.clone());
            self.filled(shared, &job).map_err(|error| match error {
                Failure::Peer { comment, .. } => Failure::user(format!("{person}: {comment}")),
                other => other,
            })?;
        }
        if let Some(after) = &order.after
            && !self.files.requests.contains_key(after)
        {
            let known: Vec<&str> = self.files.requests.keys().map(String::as_str).collect();
            return Err(Failure::user(format!(
                "no request template `{after}`; there are: {}",
                known.join(", ")
            )));
        }
        Ok(())
    }

    /// Makes the offer of an exchange whose conditions are met.
    pub(crate) fn offer(&self, shared: &Shared, exchange: &mut Issuing, fx: &mut Effects<'_>) -> Handled {
        let template = self.template(&exchange.work.job.order.template)?;
        let filled = self.filled(shared, &exchange.work.job)?;
        let language = self.files.config.language().to_owned();
        let preview = filled
            .display
            .iter()
            .map(|shown| (shown.label.text(&language).to_owned(), shown.text(&language)))
            .collect();
        let nonce = fresh_nonce(shared)?;
        exchange.work.job.nonce = Some(nonce.clone());
        let issuer = issuer(shared)?;
        let offer = SdJwtOffer {
            vct: template.vct().to_owned(),
            cryptographic_binding: CryptographicBinding::Jwk,
            alg: vec!["ES256".into(), "EdDSA".into()],
            nonce,
            aud: issuer.as_str().to_owned(),
        };
        let comment = Some(template.label().text(&language).to_owned());
        let event = Event::Offer { offer, preview, comment, expires: None };
        let actions = exchange.work.machine.handle(event, fx.now())?;
        self.carry_out(shared, exchange, actions, fx)
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
                // The claims of a condition are needed no longer than the exchange.
                Action::Ended(_) => exchange.work.job.presented = None,
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
        let nonce = job.nonce.as_deref().unwrap_or_default();
        let holder = match proof::verify(proof_jwt, issuer.as_str(), nonce, shared.now().0) {
            Ok(key) => key,
            Err(error) => {
                tracing::info!(%error, "a proof of possession was refused");
                return Ok(Event::Refused { code: ProblemCode::CRYPTO });
            }
        };
        if !self.still_holds(shared, job)? {
            tracing::info!("the card that was proved first has ended or was revoked meanwhile");
            return Ok(Event::Refused { code: ProblemCode::REQUEST });
        }
        let filled = match self.filled(shared, job) {
            Ok(filled) => filled,
            Err(Failure::Peer { code, .. }) => return Ok(Event::Refused { code }),
            Err(other) => return Err(other),
        };
        let card = self.sign(shared, job, filled, holder, &issuer, exchange, fx)?;
        Ok(Event::Issued { credentials: vec![card] })
    }

    #[allow(clippy::too_many_arguments, reason = "one step of issue(), split off for its length only")]
    fn sign(
        &self,
        shared: &Shared,
        job: &IssueJob,
        filled: Filled,
        holder: PublicKey,
        issuer: &Did,
        exchange: &Issuing,
        fx: &mut Effects<'_>,
    ) -> Result<String, Failure> {
        let template = self.template(&job.order.template)?;
        let now = shared.now();
        let end = u64::try_from(filled.expires.unix_seconds()).unwrap_or(0).saturating_add(DAY);
        // What rests on another card ends with it at the latest.
        let end = job.presented.as_ref().and_then(ends_at).map_or(end, |other| other.min(end));
        let expires_at = job.order.valid_for.map_or(end, |seconds| now.plus(seconds).0.min(end));
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
        let kid = identity::key_id(issuer, ASSERTION);
        let card = vc::issue(shared.custody(), &kid, &request, shared.entropy())
            .map_err(|error| Failure::user(format!("the card cannot be signed: {error}")))?;
        let record = IssuedCard {
            template: template.id().to_owned(),
            person: job.order.person.clone().or_else(|| self.person_of(shared, job)),
            status,
            issued_at: now,
            expires_at,
            thread: exchange.work.machine.thread().clone(),
            revoked: None,
        };
        remember(shared, record, fx)?;
        Ok(card)
    }

    fn filled(&self, shared: &Shared, job: &IssueJob) -> Result<Filled, Failure> {
        let template = self.template(&job.order.template)?;
        let person = match &job.order.person {
            Some(id) => Some(self.person(id)?),
            None => None,
        };
        let generated = BTreeMap::from([("patron_nym".to_owned(), self.patron_nym(shared, job)?)]);
        let inputs = Inputs { person, presented: job.presented.as_ref(), generated: &generated };
        fill(template, &inputs, today(shared)?)
            .map_err(|error| Failure::peer(ProblemCode::REQUEST, error.to_string()))
    }

    fn person(&self, id: &str) -> Result<&einmal_register::Person, Failure> {
        let id = PersonId::parse(id).map_err(|error| Failure::user(error.to_string()))?;
        self.files.register.people.get(&id).ok_or_else(|| {
            Failure::user("no such person in the register; see the skipped rows with: einmal city register")
        })
    }

    /// Checks that a person is in the register.
    pub(crate) fn known_person(&self, id: &str) -> Result<(), Failure> {
        self.person(id).map(|_| ())
    }

    /// How the register was read: counts, and each skipped row with line, column and reason.
    pub(crate) fn register_report(&self) -> Value {
        let report = &self.files.register.report;
        let skipped: Vec<Value> = report
            .bad_rows
            .iter()
            .map(|row| {
                json!({
                    "line": row.line,
                    "column": row.column.as_ref().map(|column| column.name.clone()),
                    "reason": row.reason.to_string(),
                })
            })
            .collect();
        json!({
            "rows": report.rows,
            "people": self.files.register.people.len(),
            "skipped_rows": report.bad_row_count,
            "skipped": skipped,
            "ignored_columns": report.ignored_columns,
        })
    }

    /// Whether the card that was proved before the offer still counts. An offer may be taken days after the proof, and the proof
    /// itself rests on a list that is an hour old: the records know better.
    fn still_holds(&self, shared: &Shared, job: &IssueJob) -> Result<bool, Failure> {
        let Some(presented) = &job.presented else { return Ok(true) };
        if ends_at(presented).is_some_and(|end| end <= shared.now().0) {
            return Ok(false);
        }
        if !presented.contains_key("status") {
            // Nothing can revoke it.
            return Ok(true);
        }
        Ok(self.card_behind(shared, presented)?.is_some_and(|card| card.revoked.is_none()))
    }

    /// The record of a presented card, found by its place in the status list.
    fn card_behind(
        &self,
        shared: &Shared,
        presented: &Map<String, Value>,
    ) -> Result<Option<IssuedCard>, Failure> {
        let place = || {
            let list = presented.get("status")?.get("status_list")?;
            Some(place_id(list.get("uri")?.as_str()?, list.get("idx")?.as_u64()?))
        };
        let Some(place) = place() else { return Ok(None) };
        let Some(id) = shared.db.get::<String>(ISSUED_AT, place)? else { return Ok(None) };
        Ok(shared.db.get::<IssuedCard>(ISSUED, id.value)?.map(|stored| stored.value))
    }

    /// The person a presented card was issued to.
    fn person_of(&self, shared: &Shared, job: &IssueJob) -> Option<String> {
        self.card_behind(shared, job.presented.as_ref()?).ok()??.person
    }

    /// The pseudonym by which a library knows a person: the same for every card of the same person, and without the
    /// secret nobody can tell whose it is.
    fn patron_nym(&self, shared: &Shared, job: &IssueJob) -> Result<String, Failure> {
        let person = job.order.person.clone().or_else(|| self.person_of(shared, job));
        let subject = match person {
            Some(person) => person,
            None => fresh_nonce(shared)?,
        };
        let secret = nym_secret(shared)?;
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&secret).map_err(Failure::key)?;
        mac.update(b"patron_nym");
        mac.update(subject.as_bytes());
        let tag = mac.finalize().into_bytes();
        // 50 bits in digits and letters without look-alikes: unique in a city, short enough to read out.
        const ALPHABET: [char; 32] = [
            'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'U',
            'V', 'W', 'X', 'Y', 'Z', '2', '3', '4', '5', '6', '7', '8', '9',
        ];
        Ok(tag.iter().take(10).filter_map(|byte| ALPHABET.get(usize::from(byte % 32))).collect())
    }

    /// Revokes a card for good.
    pub(crate) fn revoke(&self, shared: &Shared, id: &str, reason: &str, fx: &mut Effects<'_>) -> Handled {
        let stored = shared
            .db
            .get::<IssuedCard>(ISSUED, id)?
            .ok_or_else(|| Failure::user(format!("no issued card `{id}`; see: einmal city issued")))?;
        let mut card = stored.value;
        let template = self.template(&card.template)?;
        let reasons: Vec<&str> =
            template.revocation_reasons().iter().map(|reason| reason.code.as_str()).collect();
        if !reasons.contains(&reason) {
            return Err(Failure::user(format!(
                "`{reason}` is no reason here; use one of: {}",
                reasons.join(", ")
            )));
        }
        if card.revoked.is_some() {
            return Err(Failure::user("this card is revoked already; nothing was changed"));
        }
        let status = card
            .status
            .clone()
            .ok_or_else(|| Failure::user("cards of this template have no status; they end by expiring"))?;
        self.lists.revoke(shared, &status, fx)?;
        card.revoked = Some(Revoked { reason: reason.to_owned(), at: shared.now() });
        fx.update(ISSUED, id, &card, Some(stored.version))?;
        Ok(())
    }

    /// Lists issued cards, of one person or all.
    pub(crate) fn issued(&self, shared: &Shared, person: Option<&str>) -> Result<Value, Failure> {
        let all = match person {
            Some(person) => {
                let prefix = digest_id(&[person]);
                let ids = shared.db.scan::<String>(ISSUED_TO, prefix.as_bytes(), None, 1000)?;
                let mut cards = Vec::new();
                for (_, id) in ids {
                    if let Some(card) = shared.db.get::<IssuedCard>(ISSUED, &id)? {
                        cards.push((id, card.value));
                    }
                }
                cards
            }
            None => shared
                .db
                .all::<IssuedCard>(ISSUED, MAX_LISTED)?
                .into_iter()
                .map(|(id, card)| (String::from_utf8_lossy(&id).into_owned(), card))
                .collect(),
        };
        Ok(all
            .into_iter()
            .map(|(id, card)| {
                json!({
                    "credential": id,
                    "template": card.template,
                    "person": card.person,
                    "issued_at": card.issued_at,
                    "expires_at": card.expires_at,
                    "thread": card.thread,
                    "revoked": card.revoked.map(|revoked| revoked.reason),
                })
            })
            .collect())
    }
}

fn path(elements: Vec<einmal_register::PathElement>) -> Vec<PathElement> {
    elements
        .into_iter()
        .map(|element| match element {
            einmal_register::PathElement::Name(name) => PathElement::Name(name),
            einmal_register::PathElement::Index(index) => PathElement::Index(index),
        })
        .collect()
}

/// When a presented card ends, in Unix seconds.
fn ends_at(presented: &Map<String, Value>) -> Option<u64> {
    presented.get("exp")?.as_u64()
}

fn place_id(uri: &str, idx: u64) -> String {
    digest_id(&[uri, &idx.to_string()])
}

/// Writes down an issued card, findable by id, by person and by its place in the status list.
fn remember(shared: &Shared, card: IssuedCard, fx: &mut Effects<'_>) -> Handled {
    let id = shared.fresh_id()?.to_key();
    if let Some(status) = &card.status {
        fx.put(ISSUED_AT, place_id(&status.uri, status.idx), &id)?;
    }
    if let Some(person) = &card.person {
        fx.put(ISSUED_TO, format!("{}{id}", digest_id(&[person])), &id)?;
    }
    Ok(fx.put(ISSUED, &id, &card)?)
}

fn issuer(shared: &Shared) -> Result<Did, Failure> {
    shared.public_did().cloned().ok_or_else(|| Failure::user("the issuer has no DID yet"))
}

/// The present day, as the register counts days.
pub(crate) fn today(shared: &Shared) -> Result<Date, Failure> {
    Date::from_unix_seconds(shared.now().0)
        .ok_or_else(|| Failure::user("the clock is out of range; set it right"))
}

/// 128 random bits as text.
pub(crate) fn fresh_nonce(shared: &Shared) -> Result<String, Failure> {
    let mut bytes = [0u8; 16];
    shared.entropy().fill(&mut bytes).map_err(Failure::entropy)?;
    Ok(base64url_encode(bytes))
}

/// The secret behind pseudonyms, made at first use and written down before it is used.
fn nym_secret(shared: &Shared) -> Result<Zeroizing<Vec<u8>>, Failure> {
    const NAME: &str = "nym-secret";
    if let Some(stored) = shared.db.get::<Zeroizing<String>>(META, NAME)? {
        return Ok(Zeroizing::new(stored.value.as_bytes().to_vec()));
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    shared.entropy().fill(&mut *bytes).map_err(Failure::entropy)?;
    let text = Zeroizing::new(base64url_encode(*bytes));
    let mut fx = Effects::new(shared);
    fx.update(META, NAME, &text, None)?;
    let (batch, _) = fx.into_parts();
    match shared.db.store().commit(batch).wait() {
        Ok(_) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
        // Somebody else made it meanwhile: that one counts.
        Err(einmal_storage::StoreError::Conflict { .. }) => nym_secret(shared),
        Err(error) => Err(error.into()),
    }
}
