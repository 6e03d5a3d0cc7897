//! Giving a relationship a new DID of ours: `from_prior` tells the peer, and the mediator knows the new DID already.

use einmal_didcomm::from_prior_jwt;
use einmal_flows::{Draft, empty::Empty};
use serde_json::{Value, json};

use super::messages::find_peers;
use crate::{
    db::{PEERS, did_id, peer_id},
    handler::{Effects, Failure, Shared, text},
    identity::{Peer, Prior},
    service::account,
};

/// Rotates our DID towards a peer, named by its DID or the label of the relationship; of several relationships, the
/// newest.
///
/// The mediator already takes mail for the new DID. The old one still receives what is under way.
///
/// # Specification
///
/// DIDComm Messaging v2.1, "DID Rotation".
pub(crate) fn rotate(shared: &Shared, input: &Value, fx: &mut Effects<'_>) -> Result<Value, Failure> {
    let name = text(input, "peer")?;
    let peers = find_peers(shared, name)?;
    let old = peers.first().ok_or_else(|| {
        Failure::user(format!("no relationship with `{name}`; see them with: einmal citizen list"))
    })?;
    let fresh = account::take_spare(shared, fx)?.ok_or_else(|| {
        Failure::later("no DID is ready that the mediator takes mail for; try again when it was reached")
    })?;
    let prior = Prior { did: old.ours.clone(), decided_at: shared.now() };
    let new =
        Peer { ours: fresh.clone(), knows_us: false, since: shared.now(), prior: Some(prior), ..old.clone() };
    fx.put(PEERS, peer_id(&old.ours, &old.theirs), &Peer { superseded: true, ..old.clone() })?;
    fx.put(PEERS, peer_id(&fresh, &old.theirs), &new)?;
    fx.send(Draft::of(&Empty {}), &fresh, &old.theirs)?;
    Ok(json!({"rotated": true, "did": did_id(&fresh)}))
}

/// The announcement of the DID that ours replaced, for each message until the peer has used the new one.
pub(crate) fn announcement(shared: &Shared, peer: &Peer) -> Result<Option<String>, Failure> {
    let Some(prior) = peer.prior.as_ref().filter(|_| !peer.knows_us) else { return Ok(None) };
    let (old, new) = (&prior.did, Some(&peer.ours));
    let jwt = from_prior_jwt(old, new, prior.decided_at, shared.custody(), &shared.resolver)?;
    Ok(Some(jwt))
}
