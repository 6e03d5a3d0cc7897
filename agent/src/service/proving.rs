//! Proving: a request matched against the cards, shown to the holder, and answered with as little as it asks.

use std::collections::BTreeMap;

use einmal_credentials::{
    dcql::{DcqlQuery, Selection},
    sd_jwt::PathElement,
    vc::KeyBindingRequest,
};
use einmal_didcomm::ProblemCode;
use einmal_flows::{
    formats::DcqlPresentation,
    present_proof::prover::{Action, Event, Prover, RequestView},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    exchange::{Exchange, Job, Work},
    holding::{self, Card},
};
use crate::node::{Effects, Failure, Handled, Shared};

/// What a proving exchange is about.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct ProveJob {
    /// Answer without asking.
    #[serde(default)]
    pub(crate) auto: bool,
    /// The request as it came.
    #[serde(default)]
    request: Option<ShownRequest>,
    /// Set once the holder has decided.
    #[serde(default)]
    decided: bool,
}

/// A request as stored.
#[derive(Clone, Serialize, Deserialize)]
struct ShownRequest {
    dcql: Value,
    nonce: String,
    client_id: String,
    comment: Option<String>,
}

impl ProveJob {
    pub(crate) fn new(auto: bool) -> Self {
        Self { auto, ..Self::default() }
    }
}

/// A proving exchange.
pub(crate) type Proving = Exchange<Job<Prover, ProveJob>>;

/// Feeds an event into the machine and carries out what follows.
pub(crate) fn handle(
    shared: &Shared,
    exchange: &mut Proving,
    event: Event<'_>,
    fx: &mut Effects<'_>,
) -> Handled {
    let actions = exchange.work.machine.handle(event, fx.now())?;
    carry_out(shared, exchange, actions, fx)
}

/// Carries out actions of the machine.
pub(crate) fn carry_out(
    shared: &Shared,
    exchange: &mut Proving,
    actions: Vec<Action>,
    fx: &mut Effects<'_>,
) -> Handled {
    for action in actions {
        match action {
            Action::Send(draft) => exchange.send(draft, fx)?,
            Action::WakeAt(at) => exchange.wake(at, fx)?,
            Action::ShowRequest(view) => {
                exchange.work.job.request = Some(shown(view));
                if exchange.work.job.auto {
                    decide(shared, exchange, true, fx)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn shown(view: RequestView) -> ShownRequest {
    ShownRequest { dcql: view.dcql, nonce: view.nonce, client_id: view.client_id, comment: view.comment }
}

/// Answers or declines the request that was shown.
pub(crate) fn decide(shared: &Shared, exchange: &mut Proving, agree: bool, fx: &mut Effects<'_>) -> Handled {
    let Some(request) = exchange.work.job.request.clone() else {
        return Err(Failure::user("there is no request to decide about yet"));
    };
    exchange.work.job.decided = true;
    let event = if agree {
        match present(shared, &request)? {
            Some(vp) => Event::Present { vp },
            // The verifier learns that there is no answer, not what is missing.
            None => Event::Declined { code: ProblemCode::DECLINED },
        }
    } else {
        Event::Declined { code: ProblemCode::DECLINED }
    };
    handle(shared, exchange, event, fx)
}

fn select(shared: &Shared, request: &ShownRequest) -> Result<Option<(Vec<Card>, Selection)>, Failure> {
    let Ok(query) = DcqlQuery::from_value(request.dcql.clone()) else { return Ok(None) };
    let now = shared.now().0;
    let cards: Vec<Card> = holding::cards(shared)?
        .into_iter()
        .filter(|card| card.credential.expires_at.is_none_or(|end| now < end))
        .rev()
        .collect();
    let candidates: Vec<_> = cards.iter().map(|card| card.credential.candidate(card.id.clone())).collect();
    let Ok(selection) = query.select(&candidates) else { return Ok(None) };
    drop(candidates);
    Ok(Some((cards, selection)))
}

fn present(shared: &Shared, request: &ShownRequest) -> Result<Option<DcqlPresentation>, Failure> {
    let Some((cards, selection)) = select(shared, request)? else { return Ok(None) };
    let mut presentation = DcqlPresentation(BTreeMap::new());
    for (id, chosen) in &selection.credentials {
        let Some(card) = cards.iter().find(|card| card.id == chosen.candidate) else { return Ok(None) };
        let binding = KeyBindingRequest {
            custody: shared.custody(),
            kid: &card.holder_key,
            audience: &request.client_id,
            nonce: &request.nonce,
            issued_at: shared.now().0,
        };
        let text = card
            .credential
            .present(&chosen.paths, Some(&binding))
            .map_err(|error| Failure::user(format!("the card cannot be presented: {error}")))?;
        presentation.0.insert(id.clone(), vec![text]);
    }
    Ok(Some(presentation))
}

/// Where a proving exchange stands, for its user.
pub(crate) fn progress(shared: &Shared, exchange: &Proving) -> Result<Value, Failure> {
    let machine = &exchange.work.machine;
    let job = &exchange.work.job;
    let decide = match job.request.as_ref().filter(|_| !job.decided && !exchange.work.has_ended()) {
        Some(request) => Some(json!({
            "kind": "request",
            "from": exchange.theirs,
            "comment": request.comment,
            "would_disclose": would_disclose(shared, request)?,
        })),
        None => None,
    };
    let pending = !exchange.work.has_ended() && decide.is_none();
    Ok(json!({
        "thread": machine.pthid().unwrap_or(machine.thread()),
        "state": machine.state_name(),
        "pending": pending,
        "decide": decide,
    }))
}

/// What an answer would show, in the words of the query; `null` if no card answers it.
fn would_disclose(shared: &Shared, request: &ShownRequest) -> Result<Value, Failure> {
    let Some((cards, selection)) = select(shared, request)? else { return Ok(Value::Null) };
    let mut lines = Vec::new();
    for chosen in selection.credentials.values() {
        let vct =
            cards.iter().find(|card| card.id == chosen.candidate).map_or("?", |card| &card.credential.vct);
        if chosen.paths.is_empty() {
            lines.push(format!("{vct}: only what every card shows"));
        }
        lines.extend(chosen.paths.iter().map(|path| format!("{vct}: {}", path_text(path))));
    }
    Ok(json!(lines))
}

fn path_text(path: &[PathElement]) -> String {
    let element = |element: &PathElement| match element {
        PathElement::Name(name) => name.clone(),
        PathElement::Index(index) => index.to_string(),
    };
    path.iter().map(element).collect::<Vec<_>>().join(".")
}
