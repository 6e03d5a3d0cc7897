//! Asking for presentations: by template, signed, with a fresh nonce; the result is recorded.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use einmal_credentials::{dcql::DcqlQuery, vc::VerifiedCredential};
use einmal_didcomm::{ProblemCode, ThreadId, UnixSeconds};
use einmal_flows::{
    formats::DcqlPresentation,
    present_proof::{
        self, Outcome,
        verifier::{Action, Event, Verifier},
    },
};
use einmal_register::RequestTemplate;
use einmal_storage::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    exchange::{Exchange, Job, Relation, Work},
    ids::RequestId,
    issued::Basis,
    nonce::fresh_nonce,
    status::KnownLists,
    verifying::{self, Question, Verdict, VerdictReason},
};
use crate::{
    config::TrustedIssuer,
    db::INVITATIONS,
    handler::{Effects, Failure, Handled, PeerFault, Shared},
};

/// The results of requests, by the thread the user knows. Personal data with an expiry of its own.
pub(crate) const RESULTS: Table = Table::new("result");
/// Seconds a result is kept at least, so that a till can read it: "nothing is kept" means no longer than this.
const KEEP_RESULT_SECS: u64 = 600;
/// Seconds in a day.
const DAY: u64 = 24 * 3600;

/// What a verifying exchange is about.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AskJob {
    /// Request template.
    #[serde(rename = "template")]
    pub(crate) request: RequestId,
    /// The thread users know the request by: the invitation's id.
    pub(crate) thread: ThreadId,
    /// Record id of the issuing exchange that waits for the proof.
    #[serde(default)]
    pub(crate) then: Option<String>,
    /// The query that was asked; the template may have changed by the time it is answered.
    #[serde(default)]
    dcql: Option<Value>,
    /// When it was asked, last; earlier versions did not write it down.
    #[serde(default)]
    asked_at: Option<UnixSeconds>,
}

impl AskJob {
    pub(crate) fn new(request: RequestId, thread: ThreadId) -> Self {
        Self { request, thread, then: None, dcql: None, asked_at: None }
    }
}

/// A verifying exchange.
pub(crate) type Asking = Exchange<Job<Verifier, AskJob>>;

/// What an accepted presentation proved. Holds personal data.
pub(crate) struct Proved {
    /// The claims of all cards that were asked for.
    pub(crate) claims: Map<String, Value>,
    /// The cards they come from.
    pub(crate) basis: Vec<Basis>,
}

impl Proved {
    fn of(query: &DcqlQuery, verified: &BTreeMap<String, Vec<VerifiedCredential>>) -> Self {
        let mut proved = Self { claims: Map::new(), basis: Vec::new() };
        for (id, credentials) in verified {
            for credential in credentials {
                proved.basis.push(Basis::of(credential.claims.as_map()));
                proved.claims.extend(verifying::asked_of(query, id, credential));
            }
        }
        proved
    }
}

/// The result of a request, as stored. Holds personal data; deleted after the template's retention.
#[derive(Serialize, Deserialize)]
struct StoredResult {
    accepted: bool,
    reason: Option<VerdictReason>,
    detail: Option<String>,
    disclosed: Value,
    at: UnixSeconds,
}

/// The request templates, as last read.
pub(crate) struct Requests(RwLock<Arc<BTreeMap<RequestId, RequestTemplate>>>);

impl Requests {
    pub(crate) fn new(templates: BTreeMap<RequestId, RequestTemplate>) -> Self {
        Self(RwLock::new(Arc::new(templates)))
    }

    fn get(&self) -> Arc<BTreeMap<RequestId, RequestTemplate>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks for presentations and judges them.
pub(crate) struct AskingService {
    pub(crate) requests: Requests,
    pub(crate) clock_skew: u64,
    pub(crate) language: String,
    pub(crate) lists: KnownLists,
}

impl fmt::Debug for AskingService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskingService").field("requests", &self.requests.get().len()).finish_non_exhaustive()
    }
}

impl AskingService {
    /// Continues with these request templates.
    pub(crate) fn replace_requests(&self, templates: BTreeMap<RequestId, RequestTemplate>) {
        *self.requests.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(templates);
    }

    pub(crate) fn template(&self, id: &RequestId) -> Result<RequestTemplate, Failure> {
        let requests = self.requests.get();
        requests.get(id).cloned().ok_or_else(|| {
            let known: Vec<&str> = requests.keys().map(RequestId::as_str).collect();
            Failure::user(format!("no request template `{id}`; there are: {}", known.join(", ")))
        })
    }

    /// The template of an exchange, which may be older than the present files.
    fn present_template(&self, job: &AskJob) -> Result<RequestTemplate, Failure> {
        let gone = |_| Failure::peer(PeerFault::Request, "this is no longer asked for");
        self.template(&job.request).map_err(gone)
    }

    /// Sends the request of an exchange.
    pub(crate) fn request(&self, shared: &Shared, exchange: &mut Asking, fx: &mut Effects<'_>) -> Handled {
        let template = self.present_template(&exchange.work.job)?;
        exchange.work.job.dcql = Some(template.dcql_query().clone());
        exchange.work.job.asked_at = Some(shared.now());
        let event = Event::Request {
            dcql: template.dcql_query().clone(),
            client_id: client_id(shared)?,
            nonce: fresh_nonce(shared)?,
            comment: Some(template.purpose().text(&self.language).to_owned()),
            goal_code: Some(format!("einmal.request.{}", template.id())),
            will_confirm: template.will_confirm(),
            expires: None,
        };
        let actions = exchange.work.machine.handle(event, fx.now())?;
        self.carry_out(shared, exchange, actions, &[], fx).map(|_| ())
    }

    /// Repeats the request if the peer answers it with a proposal of its own.
    pub(crate) fn ask_again(&self, shared: &Shared, exchange: &mut Asking, fx: &mut Effects<'_>) -> Handled {
        if !exchange.work.machine.awaits_our_request() {
            return Ok(());
        }
        self.request(shared, exchange, fx)
    }

    /// Feeds an event into the machine and carries out what follows; returns what an accepted presentation proved.
    pub(crate) fn handle(
        &self,
        shared: &Shared,
        exchange: &mut Asking,
        event: Event<'_>,
        trusted: &[TrustedIssuer],
        fx: &mut Effects<'_>,
    ) -> Result<Option<Proved>, Failure> {
        let actions = exchange.work.machine.handle(event, fx.now())?;
        self.carry_out(shared, exchange, actions, trusted, fx)
    }

    pub(crate) fn carry_out(
        &self,
        shared: &Shared,
        exchange: &mut Asking,
        actions: Vec<Action>,
        trusted: &[TrustedIssuer],
        fx: &mut Effects<'_>,
    ) -> Result<Option<Proved>, Failure> {
        let mut proved = None;
        for action in actions {
            match action {
                Action::Send(draft) => exchange.send(draft, fx)?,
                Action::WakeAt(at) => exchange.wake(at, fx)?,
                Action::CheckPresentation { vp, nonce } => {
                    let (event, claims) = self.judge(shared, exchange, (&vp, &nonce), trusted, fx)?;
                    proved = claims;
                    let next = exchange.work.machine.handle(event, fx.now())?;
                    self.carry_out(shared, exchange, next, trusted, fx)?;
                }
                Action::Ended(Outcome::TimedOut) => {
                    self.note_end(shared, exchange, VerdictReason::NoAnswer, fx)?
                }
                Action::Ended(Outcome::PeerAbandoned { .. }) => {
                    self.note_end(shared, exchange, VerdictReason::Declined, fx)?;
                }
                // What was presented is judged already, and whoever declined or refused knows.
                Action::Ended(
                    Outcome::Done | Outcome::Unconfirmed | Outcome::Declined { .. } | Outcome::Refused { .. },
                ) => {}
            }
        }
        Ok(proved)
    }

    /// Whether a presentation proves what was asked for; it must be bound to `nonce`, the request's nonce.
    fn judge(
        &self,
        shared: &Shared,
        exchange: &Asking,
        (vp, nonce): (&DcqlPresentation, &str),
        trusted: &[TrustedIssuer],
        fx: &mut Effects<'_>,
    ) -> Result<(Event<'static>, Option<Proved>), Failure> {
        let job = &exchange.work.job;
        let asked = match &job.dcql {
            Some(asked) => asked.clone(),
            None => self.present_template(job)?.dcql_query().clone(),
        };
        let query = DcqlQuery::from_value(asked)
            .map_err(|error| Failure::misconfigured(format!("request template {}: {error}", job.request)))?;
        let trust = |iss: &str, vct: &str| trusted.iter().any(|trusted| trusted.covers(iss, vct));
        let question = Question {
            query: &query,
            nonce,
            asked_at: job.asked_at,
            audience: &client_id(shared)?,
            trust: &trust,
            clock_skew: self.clock_skew,
        };
        match verifying::verify(shared, &self.lists, vp, &question, fx)? {
            Verdict::Accepted(verified) => {
                let proved = Proved::of(&query, &verified);
                let disclosed = verifying::disclosed(&query, &verified);
                self.write(
                    shared,
                    job,
                    StoredResult { accepted: true, reason: None, detail: None, disclosed, at: shared.now() },
                    fx,
                )?;
                Ok((Event::Accepted, Some(proved)))
            }
            Verdict::Refused(reason, detail) => {
                tracing::info!(%reason, "a presentation was refused");
                self.refuse(shared, job, reason, Some(detail), fx)?;
                Ok((Event::Refused { code: ProblemCode::TRUST }, None))
            }
        }
    }

    /// Records that the exchange ended without a verdict of ours.
    fn note_end(
        &self,
        shared: &Shared,
        exchange: &Asking,
        reason: VerdictReason,
        fx: &mut Effects<'_>,
    ) -> Handled {
        let job = &exchange.work.job;
        if shared.db.exists(RESULTS, job.thread.to_key())? {
            return Ok(());
        }
        self.refuse(shared, job, reason, None, fx)
    }

    fn refuse(
        &self,
        shared: &Shared,
        job: &AskJob,
        reason: VerdictReason,
        detail: Option<String>,
        fx: &mut Effects<'_>,
    ) -> Handled {
        let result = StoredResult {
            accepted: false,
            reason: Some(reason),
            detail,
            disclosed: json!({}),
            at: shared.now(),
        };
        self.write(shared, job, result, fx)
    }

    fn write(&self, shared: &Shared, job: &AskJob, result: StoredResult, fx: &mut Effects<'_>) -> Handled {
        // What it proves goes into the issuance that waits for it; nobody is told a thread to ask for it under.
        if job.then.is_some() {
            return Ok(());
        }
        // What nobody says any more how long to keep is kept as short as can be.
        let days = self.template(&job.request).map_or(0, |template| u64::from(template.retention().days));
        let until = shared.now().plus(days.saturating_mul(DAY).max(KEEP_RESULT_SECS));
        Ok(fx.put_expiring(RESULTS, job.thread.to_key(), &result, until)?)
    }

    /// The result of the request in `thread`; `pending` until there is one.
    pub(crate) fn result(&self, shared: &Shared, thread: &str) -> Result<Value, Failure> {
        let id = thread.to_ascii_lowercase();
        let Some(stored) = shared.db.get::<StoredResult>(RESULTS, &id)? else {
            return self.without_result(shared, thread, &id);
        };
        let over = stored.expires_at.is_some_and(|end| shared.present().earliest() >= end);
        let result = stored.value;
        Ok(json!({
            "accepted": result.accepted,
            "reason": result.reason,
            "detail": result.detail,
            // Disclosed claims are withheld once their time is over, even if the record still exists.
            "disclosed": if over { json!({}) } else { result.disclosed },
        }))
    }

    /// The answer for a request without a result, or whose result is no longer kept.
    fn without_result(&self, shared: &Shared, thread: &str, id: &str) -> Result<Value, Failure> {
        let invitation = ThreadId::try_from(id).ok();
        let answer = invitation.as_ref().map(Relation::AnswerTo);
        let answered = answer.map(|answer| Asking::by_relation(shared, answer)).transpose()?.flatten();
        if answered.is_some_and(|exchange| exchange.work.has_ended()) {
            return Ok(json!({"accepted": false, "reason": VerdictReason::NoLongerKept, "disclosed": {}}));
        }
        if !shared.db.exists(INVITATIONS, id)? {
            return Err(Failure::user(format!(
                "no request `{thread}`; make one with: einmal merchant request"
            )));
        }
        Ok(json!({"pending": true, "accepted": false, "reason": "pending", "disclosed": {}}))
    }
}

/// The verifier's name as presentations must state it.
fn client_id(shared: &Shared) -> Result<String, Failure> {
    let did = shared.public_did().ok_or_else(Failure::no_did_yet)?;
    Ok(present_proof::client_id(did))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Role, handler::Cause, node::testing};

    /// They stored the nonce beside the machine, which has it too.
    #[test]
    fn jobs_of_earlier_versions_are_read() {
        let stored = json!({"template": "library-card", "thread": "a1b2", "then": null, "nonce": "n", "dcql": {"credentials": []}});
        let job: AskJob = serde_json::from_value(stored).unwrap();
        assert_eq!((job.request.as_str(), job.thread.as_str()), ("library-card", "a1b2"));
        assert!(job.dcql.is_some());
        assert!(serde_json::to_value(&job).unwrap().get("nonce").is_none());
    }
    #[tokio::test]
    async fn what_was_shown_for_an_issuance_is_no_result_that_is_kept() {
        let (node, _) = testing::node(Role::Mediator).await;
        let service = AskingService {
            requests: Requests::new(BTreeMap::new()),
            clock_skew: 0,
            language: "de".into(),
            lists: KnownLists::default(),
        };
        let keeps = |then: Option<&str>| {
            let job = AskJob { then: then.map(str::to_owned), ..AskJob::new("signup".into(), thread()) };
            let mut fx = Effects::new(node.shared(), Cause::Own);
            let disclosed = json!({"resident": [{"claims": {"resident_region": "Hessen"}}]});
            let at = node.shared().now();
            let result = StoredResult { accepted: true, reason: None, detail: None, disclosed, at };
            service.write(node.shared(), &job, result, &mut fx).unwrap();
            service.refuse(node.shared(), &job, VerdictReason::Declined, None, &mut fx).unwrap();
            fx.batch().len()
        };
        assert_eq!(keeps(Some("the issuance")), 0);
        assert_eq!(keeps(None), 1, "a till asks for it");
    }

    fn thread() -> ThreadId {
        ThreadId::try_from("a1b2").unwrap()
    }
}
