//! Giving a relationship a new DID of ours: `from_prior` tells the peer, and the mediator knows the new DID already.

use einmal_did::Did;
use einmal_didcomm::from_prior_jwt;
use einmal_flows::{Draft, empty::Empty};
use serde_json::{Value, json};

use super::messages::find_peers;
use crate::{
    db::{PEERS, peer_id},
    handler::{Effects, Failure, Handled, Shared},
    identity::{Peer, Prior, peer_of},
    service::account,
};

/// Rotates our DIDs towards a peer, named by its DID: in each relationship with it, as far as DIDs are ready, first where one has been
/// in use for longest.
///
/// The new DIDs are such as the mediator takes mail for already. The old ones go on hearing what is under way.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "DID Rotation".
pub(crate) fn rotate(shared: &Shared, name: &str, fx: &mut Effects<'_>) -> Result<Value, Failure> {
    let mut peers = find_peers(shared, name)?;
    peers.reverse();
    let theirs = peers.first().map(|peer| peer.theirs.canonical()).ok_or_else(|| {
        Failure::user(format!(
            "no relationship with `{name}`; see with whom there is one: einmal citizen peers"
        ))
    })?;
    let fresh = account::take_spares(shared, peers.len(), fx)?;
    if fresh.is_empty() {
        return Err(Failure::later(
            "no DID is ready that the mediator takes mail for; say it again in some seconds, and if that does not help, see whether \
             the mediator is reached: einmal doctor",
        ));
    }
    let left = peers.len().saturating_sub(fresh.len());
    for (old, fresh) in peers.iter().zip(&fresh) {
        turn(old, fresh, fx)?;
    }
    let dids: Vec<Did> = fresh.iter().map(Did::canonical).collect();
    let mut done =
        json!({"rotated": true, "peer": theirs, "relationships": dids.len(), "left": left, "dids": dids});
    if let (1.., Some(done)) = (left, done.as_object_mut()) {
        done.insert("note".into(), "no more DIDs are ready; say it again for those that are left".into());
    }
    Ok(done)
}

/// Gives one relationship a fresh DID of ours, and tells the peer.
fn turn(old: &Peer, fresh: &Did, fx: &mut Effects<'_>) -> Handled {
    // It may have changed since it was listed: the peer may have rotated, too.
    let Some(stored) = peer_of(fx.db(), &old.ours, &old.theirs)? else {
        return Err(Failure::later("the relationship changed just now; say it again"));
    };
    let (old, now) = (&stored.value, fx.now());
    let prior = Prior { did: old.ours.clone(), decided_at: now };
    let new = Peer { ours: fresh.clone(), knows_us: false, since: now, prior: Some(prior), ..old.clone() };
    let replaced = Peer { superseded: true, ..old.clone() };
    fx.update(PEERS, peer_id(&old.ours, &old.theirs), &replaced, Some(stored.version))?;
    fx.update(PEERS, peer_id(fresh, &old.theirs), &new, None)?;
    Ok(fx.send(Draft::of(&Empty {}), fresh, &old.theirs)?)
}

/// The announcement of the DID that ours replaced, for each message until the peer has used the new one.
pub(crate) fn announcement(shared: &Shared, peer: &Peer) -> Result<Option<String>, Failure> {
    let Some(prior) = peer.prior.as_ref().filter(|_| !peer.knows_us) else { return Ok(None) };
    let (old, new) = (&prior.did, Some(&peer.ours));
    let jwt = from_prior_jwt(old, new, prior.decided_at, shared.custody(), &shared.resolver)?;
    Ok(Some(jwt))
}
