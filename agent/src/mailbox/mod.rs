//! The citizen's mailbox: an account at a mediator, DIDs registered ahead, mail fetched and confirmed.

mod line;
mod parked;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use einmal_did::Did;
use einmal_didcomm::Opened;
use einmal_flows::{
    Draft, Received,
    coordinate_mediation::{self, Action as MediationAction, Event as Mediation, ownership_statement},
    limits::DURABLE_TIMEOUT_SECS,
    message_pickup::{Action, Event, Recipient},
};
use serde_json::{Value, json};
use tracing::Instrument;

use crate::{
    db::{META, did_id},
    handler::{Arrival, Failure, Refusal, Visit, describe_for_log, learn},
    identity, log,
    node::Node,
    service::account::{ACCOUNT, Account, SPARES, UNREGISTERED, account},
};

/// DIDs kept ready, so that taking an invitation needs no round trip.
const KEEP_SPARES: usize = 4;
/// Milliseconds between two looks into the mailbox unless configured otherwise.
const DEFAULT_POLL_MS: u64 = 2000;
/// Milliseconds between two looks into the mailbox while the mediator would ring.
const POLL_BESIDE_LINE_MS: u64 = 60_000;
/// Longest pause after failures, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// One visit: asks for an account or spare DIDs that are missing, then fetches mail.
pub(crate) async fn visit(node: &Arc<Node>) -> Result<(), Failure> {
    let visited = look(node).await;
    let visit = if visited.is_ok() { Visit::Done } else { Visit::Failed };
    node.shared().last_visit.note(visit);
    visited
}

async fn look(node: &Arc<Node>) -> Result<(), Failure> {
    let shared = node.shared();
    if account(shared)?.is_none() {
        let Some(url) = shared.config.citizen.as_ref().and_then(|citizen| citizen.mediator.clone()) else {
            return Ok(());
        };
        // Whatever goal the invitation names: the setting says what it is for.
        node.command("accept", &json!({"url": url, "mediator": true})).await?;
    }
    let Some(mut account) = account(shared)? else { return Ok(()) };
    if account.routing.is_none() {
        account = ask_for_account(node, account).await?;
    }
    // Failure of one must not keep the others from being done.
    let spares = keep_spares(node, &account).await;
    let fetched = fetch(node, &account).await;
    let tried = parked::try_again(node).await;
    if let Err(problem) = &spares {
        tracing::warn!(reason = %describe_for_log(problem), "no fresh DID was registered; mail is fetched all the same");
    }
    fetched.and(tried)
}

async fn ask_for_account(node: &Arc<Node>, mut account: Account) -> Result<Account, Failure> {
    let mut machine = account.machine();
    let thid = node.shared().fresh_id()?.to_thread();
    let actions = machine.handle(Mediation::Ask { thid }, node.shared().now())?;
    let outcomes = negotiate(node, &account, &mut machine, actions).await?;
    let granted = outcomes.into_iter().find_map(|outcome| match outcome {
        MediationAction::Granted { routing_dids } => routing_dids.into_iter().next(),
        _ => None,
    });
    account.routing = Some(granted.ok_or_else(|| {
        Failure::declined("the mediator grants no account; choose another one: einmal init --mediator")
    })?);
    let granted = account.clone();
    node.change(|fx| {
        if let Some(routing) = &granted.routing {
            learn(routing, fx)?;
        }
        Ok(fx.put(META, ACCOUNT, &granted)?)
    })
    .await?;
    Ok(account)
}

/// Makes fresh DIDs and registers them, each with proof that we hold its keys; only then are they spare.
async fn keep_spares(node: &Arc<Node>, account: &Account) -> Result<(), Failure> {
    let shared = node.shared();
    let have = usize::try_from(shared.db.count(SPARES)?).unwrap_or(usize::MAX);
    let mut machine = account.machine();
    for _ in have..KEEP_SPARES {
        let Some(did) = fresh_did(node, account).await? else { break };
        let mut proof = ownership_statement(&did, &account.ours.canonical(), &account.mediator, shared.now());
        proof.sign(shared.custody(), &identity::authentication_key(&did)).map_err(Failure::key)?;
        let thid = shared.fresh_id()?.to_thread();
        let register = Mediation::Register { did: did.clone(), thid, proof: Some(Box::new(proof)) };
        let actions = machine.handle(register, shared.now())?;
        let outcomes = negotiate(node, account, &mut machine, actions).await?;
        if !outcomes.iter().any(|outcome| matches!(outcome, MediationAction::Registered { .. })) {
            return Err(Failure::declined("the mediator takes no more DIDs for this account"));
        }
        node.change(|fx| {
            fx.delete(UNREGISTERED, did_id(&did))?;
            Ok(fx.put(SPARES, did_id(&did), &did)?)
        })
        .await?;
    }
    Ok(())
}

/// A DID to register: one made before but not registered yet, or a new one.
async fn fresh_did(node: &Arc<Node>, account: &Account) -> Result<Option<Did>, Failure> {
    let mut fresh = None;
    node.change(|fx| {
        if let Some((_, did)) = fx.db().scan::<Did>(UNREGISTERED, b"", None, 1)?.into_iter().next() {
            fresh = Some(did);
            return Ok(());
        }
        let did = node.shared().pairwise(fx, account.routing.as_ref())?;
        fx.put(UNREGISTERED, did_id(&did), &did)?;
        fresh = Some(did);
        Ok(())
    })
    .await?;
    Ok(fresh)
}

/// Sends what the machine wants until it waits for nothing more; returns the outcomes.
async fn negotiate(
    node: &Arc<Node>,
    account: &Account,
    machine: &mut coordinate_mediation::Recipient,
    actions: Vec<MediationAction>,
) -> Result<Vec<MediationAction>, Failure> {
    let (mut todo, mut outcomes) = (VecDeque::from(actions), Vec::new());
    while let Some(action) = todo.pop_front() {
        match action {
            MediationAction::Send(draft) => {
                let answer = node.ask(draft, &account.ours, &account.mediator).await?;
                let rx = Received::of(&answer).ok_or_else(unproved)?;
                todo.extend(machine.handle(Mediation::Message(&rx), node.shared().now())?);
            }
            // The mediator answers on the same connection, or not at all.
            MediationAction::WakeAt(_) => {}
            outcome => outcomes.push(outcome),
        }
    }
    Ok(outcomes)
}

fn unproved() -> Failure {
    Failure::unproved("the mediator's answer proves no sender")
}

/// Fetches waiting mail; a letter is confirmed only when it is durable here.
async fn fetch(node: &Arc<Node>, account: &Account) -> Result<(), Failure> {
    let shared = node.shared();
    let mut machine = Recipient::new(account.ours.canonical(), account.mediator.canonical());
    let thid = shared.fresh_id()?.to_thread();
    let mut todo = VecDeque::from(machine.handle(Event::Fetch { thid }, shared.now())?);
    while let Some(action) = todo.pop_front() {
        match action {
            Action::Send(draft) => {
                let answer = match node.ask(draft, &account.ours, &account.mediator).await {
                    Ok(answer) => answer,
                    Err(problem @ (Failure::Open(_) | Failure::AnswerTooLarge { .. })) => {
                        let actions = machine.handle(Event::Unreadable, shared.now())?;
                        if actions.contains(&Action::Failed) {
                            return Err(problem);
                        }
                        todo.extend(actions);
                        continue;
                    }
                    Err(problem) => return Err(problem),
                };
                let rx = Received::of(&answer).ok_or_else(unproved)?;
                todo.extend(machine.handle(Event::Message(&rx), shared.now())?);
            }
            Action::HandOver { messages } => {
                let ids = take_in(node, messages).await;
                todo.extend(machine.handle(Event::Durable { ids }, shared.now())?);
                if todo.is_empty() {
                    // Some could not be taken in yet: the others are confirmed all the same.
                    let over = shared.now().plus(DURABLE_TIMEOUT_SECS);
                    todo.extend(machine.handle(Event::Tick, over)?);
                }
            }
            Action::Drained | Action::Failed => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// Handles each message; returns the ids of those the mediator may forget.
///
/// A message that can never be understood is among them: keeping it would only bring it back for ever.
async fn take_in(node: &Arc<Node>, messages: Vec<(String, Vec<u8>)>) -> Vec<String> {
    let mut done = Vec::new();
    for (id, envelope) in messages {
        let received =
            node.receive(&envelope, Arrival::Mailbox { from: None }).instrument(log::request("mailbox"));
        let receipt = received.await;
        // A letter that waits for another party's server must not hold up those behind it: it is parked here.
        if receipt.refused != Some(Refusal::Unavailable) || parked::park(node, &envelope).await.is_ok() {
            done.push(id);
        }
    }
    done
}

impl Node {
    /// Keeps a citizen's mailbox: account, spare DIDs, mail; until told to stop.
    pub async fn run_mailbox(self: Arc<Self>) {
        let poll = self
            .shared()
            .config
            .citizen
            .as_ref()
            .and_then(|citizen| citizen.poll_ms)
            .unwrap_or(DEFAULT_POLL_MS);
        let mut pause = poll;
        loop {
            match visit(&self).await {
                Ok(()) => pause = poll,
                Err(problem) => {
                    tracing::info!(reason = %describe_for_log(&problem), "the mailbox was not reached");
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE_MS);
                }
            }
            // If the mediator rings, polling only covers the case that a push got lost.
            let rest = if self.line.is_up() { pause.max(POLL_BESIDE_LINE_MS) } else { pause };
            tokio::select! {
                () = self.changed(Duration::from_millis(rest)) => {}
                () = self.line.rung() => {}
            }
            // A burst of changes must not become a burst of visits.
            tokio::time::sleep(Duration::from_millis(poll.min(50))).await;
        }
    }

    /// Looks into a citizen's mailbox once: asks for an account or spare DIDs that are missing, then fetches mail.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreached`] if the mediator cannot be reached, [`Failure::Declined`] if it refuses.
    pub async fn visit_mailbox(self: &Arc<Self>) -> Result<(), Failure> {
        visit(self).await
    }

    /// Asks a peer and takes the answer off the same connection, for requests whose answer is of use only now.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreached`] if the peer cannot be reached or does not answer, [`Failure::Unproved`] if somebody else
    /// does, [`Failure::Declined`] if it reports a problem.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        draft: Draft,
        ours: &Did,
        theirs: &Did,
    ) -> Result<Opened, Failure> {
        let draft = draft.returning(einmal_didcomm::ReturnRoute::All);
        let message = draft.into_message(ours, theirs, self.shared().now(), self.shared().entropy())?;
        let answer = self.exchange(&message, theirs).await?;
        let opened = self.open_answer(&answer).await?;
        let in_thread = opened.message.thid.as_ref().or(opened.message.pthid.as_ref()).is_none_or(|thread| {
            *thread == message.thread() || opened.message.pthid.as_ref() == Some(&message.thread())
        });
        let from_them = opened.is_authenticated() && opened.sender() == Some(&theirs.canonical());
        if !from_them || !in_thread || opened.recipient() != Some(&ours.canonical()) {
            return Err(Failure::unproved("the answer does not come from the peer that was asked"));
        }
        if einmal_flows::report_problem::is_report(&opened.message.kind) {
            let code = opened.message.body.get("code").and_then(Value::as_str).unwrap_or("?");
            return Err(Failure::declined(format!("the peer reports the problem {code}")));
        }
        Ok(opened)
    }
}
