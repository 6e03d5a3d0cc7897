//! The citizen's mailbox: an account at a mediator, DIDs registered ahead, mail fetched and confirmed.

mod line;
mod parked;
mod registering;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use einmal_did::Did;
use einmal_didcomm::{Opened, ProblemCode};
use einmal_flows::{
    Draft, Received,
    message_pickup::{Action, Event, Recipient},
};
use serde_json::Value;
use tracing::Instrument;

use self::registering::is_not_enrolled;
use crate::{
    command::{Accept, CitizenCommand},
    handler::{Arrival, Failure, Refusal, Visit, describe_for_log},
    log,
    node::Node,
    service::account::{Account, account, setting_differs, setting_to_follow},
};

/// Milliseconds between two looks into the mailbox unless configured otherwise.
const DEFAULT_POLL_MS: u64 = 2000;
/// Milliseconds between two looks into the mailbox while the mediator would ring.
const POLL_BESIDE_LINE_MS: u64 = 60_000;
/// Longest pause after failures, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 60_000;

/// One visit: asks for an account or spare DIDs that are missing, then fetches mail.
pub(crate) async fn visit(node: &Arc<Node>) -> Result<(), Failure> {
    let visited = look(node).await;
    let visit = match &visited {
        Ok(_) => Visit::Done,
        Err(problem) if is_not_enrolled(problem) => Visit::NotEnrolled,
        Err(_) => Visit::Failed,
    };
    if matches!(visited, Err(Failure::Unreached { .. })) {
        // Whoever was away may come back as it was at the time of a backup.
        node.upkeep.compare_soon();
    }
    let shared = node.shared();
    let is_empty = matches!(visited, Ok(Fetched::All));
    shared.last_visit.note(visit, is_empty.then_some(shared.present().steady_ms));
    visited.map(|_| ())
}

/// How much of the mail was fetched.
enum Fetched {
    All,
    /// As many as are fetched in one look; the next one goes on.
    Some,
}

async fn look(node: &Arc<Node>) -> Result<Fetched, Failure> {
    let shared = node.shared();
    if let Some(url) = setting_to_follow(shared)? {
        // Whatever goal it names, or none: the setting says what it is for.
        let accept =
            CitizenCommand::Accept(Accept { url: url.to_owned(), mediator: true, ..Accept::default() });
        node.command(&accept.into()).await?;
    }
    let Some(mut account) = account(shared)? else { return Ok(Fetched::All) };
    if account.routing.is_none() {
        account = registering::ask_for_account(node, account).await?;
    }
    let tended = tend(node, &account).await;
    let forgotten = tended.as_ref().is_err_and(is_not_enrolled);
    if !forgotten || !node.upkeep.asks_anew(shared.now()) {
        return tended;
    }
    account = registering::ask_anew(node, account).await?;
    tend(node, &account).await
}

/// Sees to it that the mediator takes mail for all our DIDs, and fetches what it has.
async fn tend(node: &Arc<Node>, account: &Account) -> Result<Fetched, Failure> {
    registering::compare(node, account).await?;
    // One that fails must not keep the others from being done.
    let spares = registering::keep_spares(node, account).await;
    if spares.as_ref().is_err_and(is_not_enrolled) {
        return spares.map(|()| Fetched::Some);
    }
    let fetched = fetch(node, account).await;
    let tried = parked::try_again(node).await;
    if let Err(problem) = &spares {
        tracing::warn!(reason = %describe_for_log(problem), "no fresh DID was registered; mail is fetched all the same");
    }
    fetched.and_then(|fetched| tried.map(|()| fetched))
}

fn unproved() -> Failure {
    Failure::unproved("the mediator's answer proves no sender")
}

/// Fetches waiting mail; a letter is confirmed only when it is durable here.
async fn fetch(node: &Arc<Node>, account: &Account) -> Result<Fetched, Failure> {
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
                    todo.extend(machine.handle(Event::RestWaits, shared.now())?);
                }
            }
            Action::Drained => return Ok(Fetched::All),
            Action::Failed => return Ok(Fetched::Some),
            // The line has its own connection, and hears there what is pushed.
            Action::Live(_) => {}
        }
    }
    Ok(Fetched::Some)
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
        if setting_differs(self.shared()).unwrap_or(false) {
            tracing::warn!(
                "`mediator` in einmal.toml names another mediator than the one this wallet has its account with: it stays \
                 with that, for moving is not possible yet; take the setting back, or make a new wallet"
            );
        }
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
    /// [`Failure::Unreached`] if the mediator cannot be reached, [`Failure::Declined`] or [`Failure::Reported`] if it refuses.
    pub async fn visit_mailbox(self: &Arc<Self>) -> Result<(), Failure> {
        visit(self).await
    }

    /// Asks a peer and takes the answer off the same connection, for requests whose answer is of use only now.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreached`] if the peer cannot be reached or does not answer, [`Failure::Unproved`] if somebody else does,
    /// [`Failure::Reported`] if it reports a problem.
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
            return Err(Failure::Reported { code: ProblemCode::received(code) });
        }
        Ok(opened)
    }
}
