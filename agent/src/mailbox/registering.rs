//! The account at the mediator and what is registered there: asked for, kept ready, compared, and made good.

use std::{collections::VecDeque, ops::ControlFlow, sync::Arc};

use einmal_did::{Did, Resolver};
use einmal_didcomm::ProblemCode;
use einmal_flows::{
    Received,
    coordinate_mediation::{
        self, Action as MediationAction, Event as Mediation, MAX_REGISTRATIONS, ownership_statement,
    },
};

use super::unproved;
use crate::{
    db::{META, OWN_DIDS, did_id},
    handler::{Failure, Shared, describe_for_log, learn},
    identity::{self, DidUse, OwnDid},
    node::Node,
    service::account::{ACCOUNT, Account, SPARES, UNREGISTERED},
};

/// DIDs kept ready, so that taking an invitation needs no round trip.
const KEEP_SPARES: usize = 4;
/// After so many DIDs that are refused no other one is tried: the mediator has no room.
const MAX_REFUSED: usize = 8;

/// Whether a peer that was asked says that it knows no account of ours.
pub(super) fn is_not_enrolled(failure: &Failure) -> bool {
    matches!(failure, Failure::Reported { code } if *code == ProblemCode::NOT_ENROLLED)
}

/// Asks for an account, for the first time.
pub(super) async fn ask_for_account(node: &Arc<Node>, account: Account) -> Result<Account, Failure> {
    let thid = node.shared().fresh_id()?.to_thread();
    let refusal = "the mediator grants no account; choose another one: set `mediator` in einmal.toml and restart, \
                   or einmal accept URL";
    let granted = ask(node, account, Mediation::Ask { thid }, refusal).await?;
    // Nothing is registered yet that could be missing.
    node.upkeep.compared(node.shared().now());
    Ok(granted)
}

/// Asks for the account anew that the mediator does not know any more; what was registered is to be registered again.
pub(super) async fn ask_anew(node: &Arc<Node>, account: Account) -> Result<Account, Failure> {
    let thid = node.shared().fresh_id()?.to_thread();
    let refusal =
        "the mediator does not know this wallet's account any more and grants none; ask whoever runs it";
    let granted = ask(node, account, Mediation::Forgotten { thid }, refusal).await?;
    tracing::warn!("the mediator did not know this wallet's account any more, and has granted it anew");
    node.upkeep.compare_soon();
    // The line is of the account that is gone.
    node.line.renew();
    Ok(granted)
}

async fn ask(
    node: &Arc<Node>,
    mut account: Account,
    event: Mediation<'_>,
    refusal: &str,
) -> Result<Account, Failure> {
    let mut machine = account.machine();
    let actions = machine.handle(event, node.shared().now())?;
    let outcomes = negotiate(node, &account, &mut machine, actions).await?;
    let granted = outcomes.into_iter().find_map(|outcome| match outcome {
        MediationAction::Granted { routing_dids } => routing_dids.into_iter().next(),
        _ => None,
    });
    account.routing = Some(granted.ok_or_else(|| Failure::declined(refusal))?);
    let granted = account.clone();
    node.change(|fx| {
        if let Some(routing) = &granted.routing {
            learn(routing, fx)?;
        }
        let stored = fx.db().get::<Account>(META, ACCOUNT)?;
        let Some(stored) = stored.filter(|stored| stored.value.ours.same_as(&granted.ours)) else {
            return Err(Failure::later("another mediator was chosen meanwhile"));
        };
        Ok(fx.update(META, ACCOUNT, &granted, Some(stored.version))?)
    })
    .await?;
    Ok(account)
}

/// Makes fresh DIDs and registers them, each with proof that we hold its keys; only then they are spare.
pub(super) async fn keep_spares(node: &Arc<Node>, account: &Account) -> Result<(), Failure> {
    let have = usize::try_from(node.shared().db.count(SPARES)?).unwrap_or(usize::MAX);
    let mut machine = account.machine();
    for _ in have..KEEP_SPARES {
        let Some(did) = fresh_did(node, account).await? else { break };
        let taken = register(node, account, &mut machine, &did).await?;
        node.shared().last_visit.note_full(!taken);
        if !taken {
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

/// Registers a DID with proof that we hold its keys; false if the mediator does not take it.
async fn register(
    node: &Arc<Node>,
    account: &Account,
    machine: &mut coordinate_mediation::Recipient,
    did: &Did,
) -> Result<bool, Failure> {
    let shared = node.shared();
    let mut proof = ownership_statement(did, &account.ours.canonical(), &account.mediator, shared.now());
    proof.sign(shared.custody(), &identity::authentication_key(did)).map_err(Failure::key)?;
    let thid = shared.fresh_id()?.to_thread();
    let register = Mediation::Register { did: did.clone(), thid, proof: Some(Box::new(proof)) };
    let actions = machine.handle(register, shared.now())?;
    let outcomes = negotiate(node, account, machine, actions).await?;
    Ok(outcomes.iter().any(|outcome| matches!(outcome, MediationAction::Registered { .. })))
}

/// Holds what the mediator has registered against what it should have, if that is due, and registers what is missing: a
/// mediator that was restored from a backup has forgotten what came after it, and nobody tells.
///
/// # Errors
///
/// [`Failure::Reported`] if the account is not known, [`Failure::Unreached`]; whatever else goes wrong is said in the log.
pub(super) async fn compare(node: &Arc<Node>, account: &Account) -> Result<(), Failure> {
    let now = node.shared().now();
    if !node.upkeep.compares(now) {
        return Ok(());
    }
    match register_missing(node, account).await {
        Ok(0) => node.upkeep.compared(now),
        Ok(count) => {
            tracing::warn!(
                count,
                "the mediator had forgotten DIDs of this wallet; they are registered again"
            );
            node.upkeep.compared(now);
            node.line.renew();
        }
        // That it is out of reach may only mean that it does not answer this question: mail is fetched all the same.
        Err(problem) if is_not_enrolled(&problem) => return Err(problem),
        Err(problem) => {
            node.upkeep.not_compared(now);
            tracing::info!(reason = %describe_for_log(&problem), "it is not known whether all DIDs are registered");
        }
    }
    Ok(())
}

/// Registers what the mediator does not list; returns how many that were.
async fn register_missing(node: &Arc<Node>, account: &Account) -> Result<usize, Failure> {
    let shared = node.shared();
    let ours = to_be_registered(shared)?;
    if ours.is_empty() {
        return Ok(0);
    }
    let mut machine = account.machine();
    let thid = shared.fresh_id()?.to_thread();
    let actions = machine.handle(Mediation::Compare { ours, thid }, shared.now())?;
    let outcomes = negotiate(node, account, &mut machine, actions).await?;
    let missing = outcomes.into_iter().find_map(|outcome| match outcome {
        MediationAction::Missing { dids } => Some(dids),
        _ => None,
    });
    let missing =
        missing.ok_or_else(|| Failure::declined("the mediator does not list what is registered"))?;
    let (mut registered, mut refused) = (0, 0);
    for did in missing {
        if register(node, account, &mut machine, &did).await? {
            registered += 1;
        } else {
            refused += 1;
        }
        if refused >= MAX_REFUSED {
            break;
        }
    }
    if refused > 0 {
        return Err(Failure::declined("the mediator does not take all DIDs again that it had"));
    }
    Ok(registered)
}

/// The DIDs of ours that were registered once, newest first: those with a mailbox, but for what the mediator never took.
fn to_be_registered(shared: &Shared) -> Result<Vec<Did>, Failure> {
    let mut ours: Vec<OwnDid> = Vec::new();
    shared.db.each(OWN_DIDS, |id, own: OwnDid| {
        if own.usage == DidUse::Pairwise
            && has_mailbox(shared, &own.did)
            && !shared.db.exists(UNREGISTERED, id)?
        {
            ours.push(own);
        }
        Ok::<_, Failure>(ControlFlow::Continue(()))
    })?;
    ours.sort_by_key(|own| std::cmp::Reverse(own.created));
    ours.truncate(MAX_REGISTRATIONS);
    Ok(ours.into_iter().map(|own| own.did).collect())
}

/// Whether mail for a DID of ours goes through a mediator.
fn has_mailbox(shared: &Shared, did: &Did) -> bool {
    let document = shared.resolver.resolve(did);
    document
        .is_ok_and(|document| document.didcomm_endpoints().any(|endpoint| endpoint.uri.starts_with("did:")))
}

/// A DID to be registered: one that was made before and is not yet, or a new one.
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

/// Carries out what the machine wants sent until it waits for nothing more; returns what came of it.
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
            outcome => outcomes.push(outcome),
        }
    }
    Ok(outcomes)
}
