//! Which DIDs a peer and we had before, so that exchanges begun under them are found.

use einmal_did::Did;
use einmal_flows::{ExchangeKey, Received};
use einmal_storage::Table;

use super::exchange::KEEP_ENDED_SECS;
use crate::{
    db::{EXCHANGES, peer_id},
    handler::{Effects, Failure, Handled, Shared},
    identity::peer_of,
};

/// The DID that a peer had before, by our DID and its new one.
const ROTATED: Table = Table::new("rotated");
/// Longest DID of a stranger that is recorded, in bytes.
const MAX_STRANGERS_DID: usize = 1_024;
/// Most rotations of one side that are followed back to find an exchange.
const MAX_ROTATIONS: usize = 4;

/// Records the DID the sender had before, so that exchanges begun under it can be found, in whatever thread. A long DID
/// is recorded only in a relationship: otherwise strangers would fill the disk.
pub(crate) fn note_rotation(rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
    let (Some(prior), shared) = (rx.prior(), fx.shared()) else { return Ok(()) };
    let key = |did: &Did| ExchangeKey::new(rx.recipient(), did, &rx.message().thread()).as_str().to_owned();
    // A short one costs no more than the record that its message was seen.
    let known = prior.as_str().len() <= MAX_STRANGERS_DID
        || peer_of(&shared.db, rx.recipient(), prior)?.is_some()
        || shared.db.exists(EXCHANGES, key(prior))?
        || prior_did_of(shared, rx.recipient(), prior)?.is_some();
    if !known {
        return Ok(());
    }
    let until = shared.now().plus(2 * KEEP_ENDED_SECS);
    Ok(fx.put_expiring(ROTATED, peer_id(rx.recipient(), rx.sender()), prior, until)?)
}

/// The DID that a peer had before this one.
fn prior_did_of(shared: &Shared, ours: &Did, theirs: &Did) -> Result<Option<Did>, Failure> {
    Ok(shared.db.get::<Did>(ROTATED, peer_id(ours, theirs))?.map(|stored| stored.value))
}

/// The DIDs of the sender: the present one and its predecessors, as recorded under any of `own`.
pub(super) fn sender_chain(shared: &Shared, rx: &Received<'_>, own: &[Did]) -> Result<Vec<Did>, Failure> {
    let mut all = vec![rx.sender().clone()];
    all.extend(rx.prior().cloned());
    while all.len() <= MAX_ROTATIONS
        && let Some(last) = all.last().cloned()
    {
        let mut found = None;
        for ours in own {
            found = found.or(prior_did_of(shared, ours, &last)?);
        }
        match found {
            Some(did) if !all.contains(&did) => all.push(did),
            _ => break,
        }
    }
    Ok(all)
}

/// Our DIDs towards the sender: the one it wrote to and its predecessors.
pub(super) fn our_dids_towards(shared: &Shared, rx: &Received<'_>) -> Result<Vec<Did>, Failure> {
    let mut all = vec![rx.recipient().clone()];
    while all.len() <= MAX_ROTATIONS
        && let Some(last) = all.last()
    {
        // If it rotates with this very message, the relationship still has its earlier DID.
        let mut peer = peer_of(&shared.db, last, rx.sender())?;
        if let (None, Some(prior)) = (&peer, rx.prior()) {
            peer = peer_of(&shared.db, last, prior)?;
        }
        let Some(prior) = peer.and_then(|peer| peer.value.prior) else { break };
        all.push(prior.did.canonical());
    }
    Ok(all)
}
