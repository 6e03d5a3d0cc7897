//! The citizen: takes invitations, holds cards, proves what it agrees to prove.

use std::ops::ControlFlow;

use einmal_did::Did;
use einmal_didcomm::{Body, ThreadId};
use einmal_flows::{
    ExchangeKey, Received,
    issue_credential::{self, OfferCredential, holder},
    message_pickup,
    out_of_band::{Invitation, consider},
    present_proof::{self, RequestPresentation, prover},
    report_problem,
    trust_ping::Ping,
};
use serde_json::{Value, json};

use crate::{
    command::{Accept, Card, CitizenCommand, Command, Decide, Invite, Nothing, PeerName, Thread},
    db::PEERS,
    handler::{
        BoundedList, Effects, Failure, Handled, Notice, PeerFault, RoleService, Shared, foreign_command,
        learn,
    },
    identity::{Peer, peer_of},
    service::{
        account, connecting,
        exchange::{self, Job, Relation, Work},
        holding::{self, HoldJob, Holding},
        invitations::{GOAL_CONNECT, GOAL_ISSUE, GOAL_MEDIATE, GOAL_PRESENT, check_reachable},
        messages,
        proving::{self, ProveJob, Proving},
        rotating,
        shown::{Decision, explained},
        status::KnownLists,
    },
};

/// Most exchanges waiting for a decision that are shown at once.
const MAX_WAITING: usize = 1_000;

/// The citizen's service.
#[derive(Debug, Default)]
pub(super) struct Citizen {
    lists: KnownLists,
}

impl Citizen {
    fn accept(&self, shared: &Shared, accept: &Accept, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        let invitation = Invitation::from_url(&accept.url)
            .map_err(|error| Failure::user(format!("this is no invitation that can be taken: {error}")))?;
        consider(&invitation, |_| false, shared.now()).map_err(|error| Failure::user(error.to_string()))?;
        check_reachable(shared, &invitation.from)?;
        if accept.mediator || invitation.goal_code.as_deref() == Some(GOAL_MEDIATE) {
            return account::adopt(shared, &invitation, fx);
        }
        if goes_on(shared, &invitation)? || connecting::goes_on(shared, &invitation)? {
            return Ok(json!({"thread": invitation.thread(), "state": "resumed"}));
        }
        if let Some(ours) = gave_it_up(shared, &invitation)? {
            return self.begin(shared, &invitation, ours, accept.yes, fx);
        }
        // A fresh DID for this relationship, already known to the mediator.
        let Some(ours) = account::take_spare(shared, fx)? else {
            return account::none_ready(shared);
        };
        learn(&invitation.from, fx)?;
        record_relationship(shared, &ours, &invitation, fx)?;
        self.begin(shared, &invitation, ours, accept.yes, fx)
    }

    /// Sends the first message towards the invitation's goal.
    fn begin(
        &self,
        shared: &Shared,
        invitation: &Invitation,
        ours: Did,
        auto: bool,
        fx: &mut Effects<'_>,
    ) -> Result<Value, Failure> {
        let theirs = invitation.from.clone();
        let (pthid, thid) = (invitation.thread(), shared.fresh_thread()?);
        let (own, peer) = (ours.canonical(), theirs.canonical());
        match invitation.goal_code.as_deref().unwrap_or(GOAL_CONNECT) {
            GOAL_ISSUE => {
                let (machine, actions) =
                    holder::Holder::propose(own, peer, thid.clone(), Some(pthid.clone()), fx.now());
                let job = HoldJob::new(auto);
                let mut exchange = Holding::new(ours, theirs, &thid, Job { machine, job });
                holding::carry_out(shared, &mut exchange, actions, fx)?;
                exchange.index_by_thread(pthid.as_str(), fx)?;
                exchange.save(fx)?;
            }
            GOAL_PRESENT => {
                let (machine, actions) =
                    prover::Prover::propose(own, peer, thid.clone(), Some(pthid.clone()), fx.now());
                let job = ProveJob::new(auto);
                let mut exchange = Proving::new(ours, theirs, &thid, Job { machine, job });
                proving::carry_out(shared, &self.lists, &mut exchange, actions, fx)?;
                exchange.index_by_thread(pthid.as_str(), fx)?;
                exchange.save(fx)?;
            }
            _ => {
                connecting::begin(shared, invitation, ours, fx)?;
                return Ok(json!({"thread": pthid, "state": "connecting", "peer": invitation.goal}));
            }
        }
        Ok(json!({"thread": pthid, "state": "proposed"}))
    }

    /// An unasked offer or request in an existing relationship.
    fn opened(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Result<bool, Failure> {
        // Unasked exchanges are named by their key: thread ids are the peer's choice, and no peer may put its own
        // request under a name the user knows from another.
        let agreed = self.follows_consent(shared, rx)?;
        let auto = agreed.is_some();
        if let Some(mut holding) = agreed {
            holding.work.job.proof_given = true;
            holding.save(fx)?;
        } else if opens(rx) {
            let waits = |key: &str| waits_for_decision(shared, key);
            exchange::note_unasked(rx, ExchangeKey::of(rx).as_str(), waits, fx)?;
        }
        if rx.message().kind.is(OfferCredential::TYPE) {
            let (machine, actions) = holder::Holder::from_offer(rx, fx.now())?;
            let job = HoldJob::new(false);
            let mut exchange = Holding::opened_by(rx, Job { machine, job });
            holding::carry_out(shared, &mut exchange, actions, fx)?;
            exchange.index_by_thread(&exchange.key.clone(), fx)?;
            exchange.save(fx)?;
        } else if rx.message().kind.is(RequestPresentation::TYPE) {
            let (machine, actions) = prover::Prover::from_request(rx, fx.now())?;
            let job = ProveJob::new(auto);
            let mut exchange = Proving::opened_by(rx, Job { machine, job });
            proving::carry_out(shared, &self.lists, &mut exchange, actions, fx)?;
            exchange.index_by_thread(&exchange.key.clone(), fx)?;
            if let Some(parent) = &rx.message().pthid {
                exchange.index_by_relation(asked_in(parent, rx.sender()), fx)?;
            }
            exchange.save(fx)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The exchange the user agreed to in advance that a request belongs to, if it is covered by that: its parent thread is one
    /// that was taken with `--yes`, from the same peer.
    fn follows_consent(&self, shared: &Shared, rx: &Received<'_>) -> Result<Option<Holding>, Failure> {
        if !rx.message().kind.is(RequestPresentation::TYPE) {
            return Ok(None);
        }
        let Some(parent) = &rx.message().pthid else { return Ok(None) };
        let Some(holding) = Holding::by_thread(shared, parent.as_str())? else { return Ok(None) };
        let same_parties = holding.theirs.same_as(rx.sender()) && holding.ours.same_as(rx.recipient());
        // Only the one request on the way to the offer is covered, not whatever that peer may ask later, by whatever DID.
        let (waiting, job) = (holding.work.machine.awaits_offer(), &holding.work.job);
        let covered = job.auto && !job.proof_given && same_parties && waiting;
        Ok(covered.then_some(holding))
    }

    /// The state of the exchange of a thread; `None` if there is none.
    fn progress(&self, shared: &Shared, thread: &str) -> Result<Option<Value>, Failure> {
        if let Some(holding) = Holding::by_thread(shared, thread)? {
            let mut own = holding::progress(&holding);
            let Some(asked) = asked_below(shared, &holding)? else { return Ok(Some(explained(own))) };
            let inner = proving::progress(shared, &self.lists, &asked)?;
            // A proof asked for on the way is decided about under the same thread.
            if is_pending(&own) && wants_decision(&inner) {
                return Ok(Some(inner));
            }
            // What came of it says more than that there is no card.
            if let (true, Some(members)) = (holding.work.machine.is_abandoned(), own.as_object_mut())
                && let Some(reason) = inner.get("reason").filter(|reason| !reason.is_null())
            {
                members.insert("reason".into(), reason.clone());
            }
            return Ok(Some(explained(own)));
        }
        match Proving::by_thread(shared, thread)? {
            Some(proving) => Ok(Some(explained(proving::progress(shared, &self.lists, &proving)?))),
            None => connecting::progress(shared, thread),
        }
    }

    fn decide(&self, shared: &Shared, decide: &Decide, fx: &mut Effects<'_>) -> Handled {
        let thread = decide.thread.as_str();
        let decision = match (decide.agree, &decide.shown) {
            (true, Some(shown)) => Decision::AgreeTo(shown),
            (true, None) => {
                return Err(Failure::user(
                    "`shown` is missing: agreed is to what was shown; see: einmal accept --help",
                ));
            }
            (false, _) => Decision::Decline,
        };
        if let Some(mut holding) = Holding::by_thread(shared, thread)? {
            if !wants_decision(&holding::progress(&holding))
                && let Some(mut asked) = asked_below(shared, &holding)?
            {
                proving::decide(shared, &self.lists, &mut asked, decision, fx)?;
                return asked.save(fx);
            }
            holding::decide(shared, &mut holding, decision, fx)?;
            return holding.save(fx);
        }
        let mut proving = Proving::by_thread(shared, thread)?.ok_or_else(|| unknown_thread(thread))?;
        proving::decide(shared, &self.lists, &mut proving, decision, fx)?;
        proving.save(fx)
    }

    fn pending(&self, shared: &Shared) -> Result<Value, Failure> {
        let mut waiting = BoundedList::of(MAX_WAITING);
        exchange::each_thread(shared, |thread| {
            // A name outlives what it names.
            if let Some(value) = self.progress(shared, thread)?.filter(wants_decision) {
                waiting.push(json!({"thread": thread, "decide": value.get("decide")}));
            }
            Ok(if waiting.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(waiting.into_value(|_| "more waits; decide these first".to_owned()))
    }
}

/// Whether a message opens an exchange the citizen may be asked about.
fn opens(rx: &Received<'_>) -> bool {
    rx.message().kind.is(OfferCredential::TYPE) || rx.message().kind.is(RequestPresentation::TYPE)
}

/// Whether the exchange with this key waits for the citizen's decision.
fn waits_for_decision(shared: &Shared, key: &str) -> Result<bool, Failure> {
    if let Some(holding) = Holding::load(shared, key)? {
        return Ok(wants_decision(&holding::progress(&holding)));
    }
    Ok(Proving::load(shared, key)?.is_some_and(|proving| proving::is_undecided(&proving)))
}

fn unknown_thread(thread: &str) -> Failure {
    Failure::user(format!("no exchange `{thread}`; see: einmal citizen pending"))
}

fn is_pending(progress: &Value) -> bool {
    progress.get("pending").and_then(Value::as_bool).unwrap_or(false)
}

fn wants_decision(progress: &Value) -> bool {
    progress.get("decide").is_some_and(|decide| !decide.is_null())
}

/// Whether an exchange that this invitation began is under way: taking the invitation again means going on with that
/// one. A second one would be refused if the invitation is good for one only.
fn goes_on(shared: &Shared, invitation: &Invitation) -> Result<bool, Failure> {
    let thread = invitation.thread();
    let holding = Holding::by_thread(shared, thread.as_str())?.filter(|one| !one.work.has_ended());
    let proving = Proving::by_thread(shared, thread.as_str())?.filter(|one| !one.work.has_ended());
    let Some(theirs) = holding.map(|one| one.theirs).or(proving.map(|one| one.theirs)) else {
        return Ok(false);
    };
    if theirs.same_as(&invitation.from) {
        return Ok(true);
    }
    // Ids are the inviter's choice; the user knows another peer's exchange under this one.
    Err(Failure::user(
        "an invitation of somebody else with the same id waits for a decision; decide it first: einmal citizen pending",
    ))
}

/// Our DID of an exchange that this invitation began and that was given up: the inviter knows by it who may begin anew, and
/// anybody else would come too late. `None` if there is none, or that DID has given way to another.
fn gave_it_up(shared: &Shared, invitation: &Invitation) -> Result<Option<Did>, Failure> {
    let thread = invitation.thread();
    let holding = Holding::by_thread(shared, thread.as_str())?.filter(|one| one.work.machine.is_abandoned());
    let proving = Proving::by_thread(shared, thread.as_str())?.filter(|one| one.work.machine.is_abandoned());
    let parties = holding.map(|one| (one.ours, one.theirs)).or(proving.map(|one| (one.ours, one.theirs)));
    let Some((ours, theirs)) = parties.filter(|(_, theirs)| theirs.same_as(&invitation.from)) else {
        return Ok(None);
    };
    let peer = peer_of(&shared.db, &ours, &theirs)?.map(|stored| stored.value);
    Ok(peer.filter(|peer| !peer.superseded).map(|peer| peer.ours))
}

/// How a peer's request is found by the thread it was asked for in.
fn asked_in<'a>(thread: &'a ThreadId, by: &'a Did) -> Relation<'a> {
    Relation::AskedIn { thread, by }
}

/// The proof request that an issuer made in the course of `holding`.
fn asked_below(shared: &Shared, holding: &Holding) -> Result<Option<Proving>, Failure> {
    match holding.work.machine.pthid() {
        Some(pthid) => Proving::by_relation(shared, asked_in(pthid, &holding.theirs)),
        None => Ok(None),
    }
}

fn record_relationship(
    shared: &Shared,
    ours: &Did,
    invitation: &Invitation,
    fx: &mut Effects<'_>,
) -> Handled {
    // Without a name: the goal is the inviter's own text, and used as a name it could impersonate anybody.
    let peer = Peer::new(ours.clone(), invitation.from.clone(), shared.now());
    Ok(fx.update(PEERS, crate::db::peer_id(ours, &invitation.from), &peer, None)?)
}

impl RoleService for Citizen {
    fn on_message(&self, shared: &Shared, rx: &Received<'_>, fx: &mut Effects<'_>) -> Result<bool, Failure> {
        let kind = &rx.message().kind;
        let ours = issue_credential::covers(kind) || present_proof::covers(kind);
        if !ours && !report_problem::is_report(kind) {
            return Ok(kind.is(Ping::TYPE));
        }
        if let Some(mut exchange) = Holding::of(shared, rx)? {
            holding::handle(shared, &mut exchange, holder::Event::Message(rx), fx)?;
            exchange.save(fx)?;
        } else if let Some(mut exchange) = Proving::of(shared, rx)? {
            proving::handle(shared, &self.lists, &mut exchange, prover::Event::Message(rx), fx)?;
            exchange.save(fx)?;
        } else if ours && !report_problem::is_report(kind) && !self.opened(shared, rx, fx)? {
            return Err(Failure::peer(PeerFault::Request, "no such exchange with you is known here"));
        } else {
            connecting::note_refusal(shared, rx, fx)?;
        }
        Ok(true)
    }

    /// A mediator's pushes besides letters only ring the bell: mail is fetched and confirmed as always.
    fn notice(&self, shared: &Shared, rx: &Received<'_>) -> Result<Option<Notice>, Failure> {
        let kind = &rx.message().kind;
        if !message_pickup::is_push(kind) || !account::is_mediator(shared, rx.recipient(), rx.sender())? {
            return Ok(None);
        }
        // Some write the flag as text.
        let flag = |flag: &Value| flag.as_bool().or_else(|| flag.as_str()?.parse().ok());
        let live = rx.message().body.get("live_delivery").and_then(flag);
        Ok(Some(live.map_or(Notice::Mail, Notice::Live)))
    }

    fn on_timer(&self, shared: &Shared, exchange: &str, fx: &mut Effects<'_>) -> Handled {
        // A phone that was off for days has its answers in the mailbox: they count before the time they are late by.
        if account::may_have_mail(shared, fx.deadline())? {
            return Err(Failure::later("the mailbox was not looked into yet"));
        }
        if let Some(mut holding) = Holding::load(shared, exchange)? {
            holding::handle(shared, &mut holding, holder::Event::Tick, fx)?;
            return holding.save(fx);
        }
        if let Some(mut proving) = Proving::load(shared, exchange)? {
            proving::handle(shared, &self.lists, &mut proving, prover::Event::Tick, fx)?;
            return proving.save(fx);
        }
        Ok(())
    }

    fn invite(&self, _shared: &Shared, _invite: &Invite, _fx: &mut Effects<'_>) -> Result<Value, Failure> {
        Err(Failure::user("a citizen shows no public DID and cannot invite; take an invitation instead"))
    }

    fn command(&self, shared: &Shared, command: &Command, fx: &mut Effects<'_>) -> Result<Value, Failure> {
        let Command::Citizen(command) = command else { return Err(foreign_command(shared, command)) };
        match command {
            CitizenCommand::Accept(accept) => self.accept(shared, accept, fx),
            CitizenCommand::Progress(Thread { thread }) => {
                self.progress(shared, thread)?.ok_or_else(|| unknown_thread(thread))
            }
            CitizenCommand::Decide(decide) => {
                self.decide(shared, decide, fx)?;
                Ok(json!({"decided": decide.agree}))
            }
            CitizenCommand::Pending(Nothing {}) => self.pending(shared),
            CitizenCommand::List(Nothing {}) => holding::list(shared, &self.lists, fx),
            CitizenCommand::Show(Card { card }) => {
                let card = holding::card(shared, card)?;
                Ok(json!({"card": card.id, "claims": card.credential.claims().as_map()}))
            }
            CitizenCommand::Export(Card { card }) => {
                let card = holding::card(shared, card)?;
                Ok(json!({"card": card.id, "text": card.credential.as_str()}))
            }
            CitizenCommand::Forget(Card { card }) => {
                holding::forget(shared, card, fx)?;
                Ok(json!({"forgotten": true}))
            }
            CitizenCommand::Mailbox(Nothing {}) => Ok(json!(account::standing(shared)?)),
            CitizenCommand::Rotate(PeerName { peer }) => rotating::rotate(shared, peer, fx),
            CitizenCommand::Peers(Nothing {}) => messages::peers(shared),
        }
    }

    fn status_list_fetched(&self, shared: &Shared, uri: &str, issuer: &str, token: Option<String>) {
        self.lists.fetched(shared, uri, issuer, token);
    }

    fn protocols(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("https://didcomm.org/issue-credential/3.0", "holder"),
            ("https://didcomm.org/present-proof/3.0", "prover"),
        ]
    }
}
