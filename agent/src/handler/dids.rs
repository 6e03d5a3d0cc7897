//! The DIDs of a message's two sides: in the form each side uses, and remembered where they must be.

use einmal_did::Did;
use einmal_flows::Received;

use super::{Effects, Handled};
use crate::db::{KNOWN_DIDS, did_id};

/// Keeps the long form of a did:peer:4, without which its short form cannot be resolved after a restart. Only for peers
/// with a relationship: a DID that merely writes is remembered in memory, else strangers would fill the disk.
///
/// A short form stands for the long form seen since the start.
pub(crate) fn learn(did: &Did, fx: &mut Effects<'_>) -> Handled {
    let Some(long) = fx.shared().resolver.long_form_of(did) else { return Ok(()) };
    let id = did_id(&long);
    if !fx.db().exists(KNOWN_DIDS, &id)? {
        fx.put(KNOWN_DIDS, id, &long)?;
    }
    Ok(())
}

/// The form of our DID that the peer used, else the canonical one.
pub(crate) fn our_form(rx: &Received<'_>) -> Did {
    rx.message().to.iter().find(|did| did.same_as(rx.recipient())).unwrap_or(rx.recipient()).clone()
}

/// The form of its DID that the peer itself used, else the canonical one.
pub(crate) fn their_form(rx: &Received<'_>) -> Did {
    rx.message().from.as_ref().unwrap_or(rx.sender()).clone()
}
