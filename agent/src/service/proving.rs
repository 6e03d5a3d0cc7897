//! Proving: a request is matched against the cards, shown to the holder, and answered with as little as it asks.

use std::collections::BTreeMap;

use einmal_credentials::{
    dcql::{Candidate, DcqlQuery, Selection},
    sd_jwt::{PathElement, PresentError},
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
    shown::{Decision, check_shown, shown_code, with_shown_name},
    status::KnownLists,
    verifying::VerdictReason,
};
use crate::handler::{Effects, Failure, Handled, Shared};

/// What a proving exchange is about.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct ProveJob {
    /// Answer without asking.
    #[serde(default)]
    pub(crate) auto: bool,
    /// The request as it arrived.
    #[serde(default)]
    request: Option<ShownRequest>,
    /// Set once the holder has decided.
    #[serde(default)]
    decided: bool,
    /// Why it ended without a proof: [`VerdictReason::NoCardAnswers`], or a code of ours or of the verifier's.
    #[serde(default)]
    reason: Option<String>,
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
    lists: &KnownLists,
    exchange: &mut Proving,
    event: Event<'_>,
    fx: &mut Effects<'_>,
) -> Handled {
    let actions = exchange.work.machine.handle(event, fx.now())?;
    carry_out(shared, lists, exchange, actions, fx)
}

/// Carries out actions of the machine.
pub(crate) fn carry_out(
    shared: &Shared,
    lists: &KnownLists,
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
                    decide(shared, lists, exchange, Decision::AgreedBefore, fx)?;
                }
            }
            Action::Ended(outcome) => {
                let job = &mut exchange.work.job;
                job.reason = job.reason.take().or_else(|| outcome.failure().as_ref().map(shown_code));
            }
        }
    }
    Ok(())
}

fn shown(view: RequestView) -> ShownRequest {
    ShownRequest { dcql: view.dcql, nonce: view.nonce, client_id: view.client_id, comment: view.comment }
}

/// Answers or declines the request that was shown.
pub(crate) fn decide(
    shared: &Shared,
    lists: &KnownLists,
    exchange: &mut Proving,
    decision: Decision<'_>,
    fx: &mut Effects<'_>,
) -> Handled {
    let Some(request) = exchange.work.job.request.clone() else {
        return Err(Failure::user("there is no request to decide about yet"));
    };
    let declined = Event::Declined { code: ProblemCode::DECLINED };
    let event = if let Decision::Decline = decision {
        declined
    } else {
        // Selected once: what is answered is what is compared with what was shown.
        let selected = select(shared, lists, &request)?;
        if let Decision::AgreeTo(shown) = decision {
            check_shown(shown, &view(exchange, &request, selected.as_ref()))?;
        }
        match selected.map(|selected| present(shared, &request, &selected)).transpose()?.flatten() {
            Some(vp) => Event::Present { vp },
            // The verifier learns that there is no answer, not what is missing.
            None => {
                exchange.work.job.reason = Some(VerdictReason::NoCardAnswers.to_string());
                declined
            }
        }
    };
    exchange.work.job.decided = true;
    handle(shared, lists, exchange, event, fx)
}

/// The cards that can answer a request, and what is selected of them.
type Selected = (Vec<Card>, Selection);

/// What answers a request, the newest card first; one that is known to be revoked or suspended only if no other does.
fn select(shared: &Shared, lists: &KnownLists, request: &ShownRequest) -> Result<Option<Selected>, Failure> {
    let Ok(query) = DcqlQuery::from_value(request.dcql.clone()) else { return Ok(None) };
    let now = shared.now().0;
    let cards: Vec<Card> = holding::cards(shared)?
        .into_iter()
        .filter(|card| card.credential.expires_at.is_none_or(|end| now < end))
        .filter(|card| card.credential.not_before.is_none_or(|begin| begin <= now))
        .rev()
        .collect();
    let candidates: Vec<_> = cards.iter().map(|card| candidate(lists, card)).collect();
    let Ok(selection) = query.select(&candidates) else { return Ok(None) };
    drop(candidates);
    Ok(Some((cards, selection)))
}

fn candidate<'a>(lists: &KnownLists, card: &'a Card) -> Candidate<'a> {
    let credential = &card.credential;
    let is_refused = |reference| lists.is_refused(reference, &credential.issuer);
    let last_resort = credential.status.as_ref().is_some_and(is_refused);
    Candidate { last_resort, ..credential.candidate(card.id.clone()) }
}

fn present(
    shared: &Shared,
    request: &ShownRequest,
    (cards, selection): &Selected,
) -> Result<Option<DcqlPresentation>, Failure> {
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
        let text = card.credential.present(&chosen.paths, Some(&binding)).map_err(not_presented)?;
        presentation.0.insert(id.clone(), vec![text]);
    }
    Ok(Some(presentation))
}

/// Why a selected card cannot be presented, by who is to blame.
fn not_presented(error: PresentError) -> Failure {
    match error {
        PresentError::Custody(_) | PresentError::CannotSign => Failure::key(error),
        error => Failure::internal(format!("the card cannot be presented: {error}")),
    }
}

/// Whether there is a request that its user has not decided on.
pub(crate) fn is_undecided(exchange: &Proving) -> bool {
    let job = &exchange.work.job;
    job.request.is_some() && !job.decided && !exchange.work.has_ended()
}

/// Where a proving exchange stands, for its user.
pub(crate) fn progress(shared: &Shared, lists: &KnownLists, exchange: &Proving) -> Result<Value, Failure> {
    let machine = &exchange.work.machine;
    let job = &exchange.work.job;
    let decide = match job.request.as_ref().filter(|_| is_undecided(exchange)) {
        Some(request) => Some(view(exchange, request, select(shared, lists, request)?.as_ref())),
        None => None,
    };
    let pending = !exchange.work.has_ended() && decide.is_none();
    Ok(json!({
        "thread": machine.pthid().unwrap_or(machine.thread()),
        "state": machine.state_name(),
        "pending": pending,
        "decide": decide,
        "reason": job.reason,
    }))
}

/// A request as its user sees it: who asks, what for, which cards would answer it and what they would show; the last
/// two are `null` if no card answers it.
fn view(exchange: &Proving, request: &ShownRequest, selected: Option<&Selected>) -> Value {
    let cards: Option<Vec<&str>> = selected.map(|(_, selection)| {
        selection.credentials.values().map(|chosen| chosen.candidate.as_str()).collect()
    });
    // Their issuers: a card of another issuer under the same type is not what the verifier is after.
    let issuer_of = |(held, _): &Selected, id: &str| {
        held.iter().find(|card| card.id == id).map(|card| card.credential.issuer.clone())
    };
    let issuers: Option<Vec<Option<String>>> = selected
        .zip(cards.as_ref())
        .map(|(selected, ids)| ids.iter().map(|id| issuer_of(selected, id)).collect());
    let view = json!({
        "kind": "request",
        "from": exchange.theirs,
        "comment": request.comment,
        "cards": cards,
        "issuers": issuers,
        "would_disclose": selected.map(would_disclose),
    });
    with_shown_name(view, &exchange.key, &request.nonce)
}

/// What an answer would show: the claims selected because they were asked for, and those that the cards always show.
fn would_disclose((cards, selection): &Selected) -> Vec<String> {
    let mut lines = Vec::new();
    for chosen in selection.credentials.values() {
        let Some(card) = cards.iter().find(|card| card.id == chosen.candidate) else { continue };
        let vct = &card.credential.vct;
        lines.extend(chosen.paths.iter().map(|path| format!("{vct}: {}", path_text(path))));
        let open = card.credential.always_shown();
        let everybody =
            |path: &Vec<_>| format!("{vct}: {} (this card shows it to everybody)", path_text(path));
        lines.extend(open.iter().map(everybody));
        if chosen.paths.is_empty() && open.is_empty() {
            lines.push(format!("{vct}: nothing but that there is this card"));
        }
    }
    lines
}

fn path_text(path: &[PathElement]) -> String {
    let element = |element: &PathElement| match element {
        PathElement::Name(name) => name.clone(),
        PathElement::Index(index) => index.to_string(),
    };
    path.iter().map(element).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{keys::DidIssuerKeys, testing::Issuer},
        *,
    };
    use crate::{config::Role, node::testing};

    #[tokio::test]
    async fn a_card_known_to_be_revoked_is_shown_only_if_no_other_answers() {
        use einmal_credentials::status_list::StatusSource;
        const URI: &str = "https://city.example/status/1";
        let (node, clock) = testing::node(Role::Citizen).await;
        let (shared, city, lists) = (node.shared(), Issuer::new(1), KnownLists::default());
        let credentials = json!([{"id": "q", "format": "dc+sd-jwt", "meta": {"vct_values": ["old", "new"]}}]);
        let dcql = json!({ "credentials": credentials });
        let request = ShownRequest { dcql, nonce: "n".into(), client_id: "shop".into(), comment: None };
        let chosen = || {
            let (_, selection) = select(shared, &lists, &request).unwrap().unwrap();
            selection.credentials["q"].candidate.clone()
        };
        let know = |revoked: &[u64]| {
            lists.fetched(shared, URI, &city.did, Some(city.list(URI, revoked)));
            let keys = DidIssuerKeys::new(&shared.resolver);
            lists.source(shared, &keys).status(URI, 0, &city.did).unwrap();
        };
        holding::keep_for_test(&node, &city, "old", (URI, 1)).await;
        clock.advance(1_000);
        holding::keep_for_test(&node, &city, "new", (URI, 2)).await;
        assert_eq!(chosen(), "new");
        know(&[2]);
        assert_eq!(chosen(), "old");
        // The list is too old to prove anything, but not to doubt a card.
        clock.advance(10_000_000);
        assert_eq!(chosen(), "old");
        clock.set(testing::START_MS + 1_000);
        know(&[1, 2]);
        assert_eq!(chosen(), "new", "it is for the verifier to say why it will not do");
    }
}
