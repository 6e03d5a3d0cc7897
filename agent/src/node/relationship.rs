//! What a message says about its sender beside its body: the long form of its DID, that our DID arrived, a rotation.

use einmal_didcomm::{Opened, UnixSeconds};
use einmal_flows::Received;
use einmal_storage::Version;

use super::Node;
use crate::{
    config::Role,
    db::PEERS,
    handler::{
        Effects, Failure, Handled, KEEP_FOR_ANSWER_SECS, PeerFault, heard_again, learn, learn_for, their_form,
    },
    identity::{self, DidUse},
    service::predecessors,
};

impl Node {
    /// Notes the sender's long form, and that the sender knows our DID.
    pub(super) fn remember(&self, opened: &Opened, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        let pairwise = self.shared.own_did(rx.recipient())?.is_some_and(|own| own.usage == DidUse::Pairwise);
        if !pairwise {
            // A mediator keeps the DIDs of its accounts for good, and no others.
            let forgets = self.shared.config.role != Role::Mediator;
            return if forgets { self.prolong(rx, fx) } else { Ok(()) };
        }
        let known = identity::peer_of(fx.db(), rx.recipient(), rx.sender())?.is_some();
        let rotated = match &opened.proof.rotation {
            Some(rotation) => identity::peer_of(fx.db(), rx.recipient(), &rotation.prior)?.is_some(),
            None => false,
        };
        if !known && !rotated {
            // A DID made for one peer was passed on: it serves nobody else, and strangers get no answer there.
            return Err(Failure::unproved("a stranger wrote to a DID of another relationship"));
        }
        learn(&their_form(rx), fx)?;
        if let Some(stored) = identity::peer_of(fx.db(), rx.recipient(), rx.sender())?
            && !stored.value.knows_us
        {
            let peer = identity::Peer { knows_us: true, ..stored.value };
            let id = crate::db::peer_id(rx.recipient(), rx.sender());
            fx.update(PEERS, id, &peer, Some(stored.version))?;
        }
        Ok(())
    }

    /// Prolongs what is kept for a time of somebody who writes again.
    fn prolong(&self, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        heard_again(rx.sender(), fx)?;
        let now = self.shared.now();
        let ends = |end: u64| end < now.plus(KEEP_FOR_ANSWER_SECS / 2).0;
        let known = identity::peer_of(fx.db(), rx.recipient(), rx.sender())?;
        if let Some(stored) = known.filter(|stored| stored.expires_at.is_some_and(ends)) {
            let (id, until) =
                (crate::db::peer_id(rx.recipient(), rx.sender()), now.plus(KEEP_FOR_ANSWER_SECS));
            keep(&id, &stored.value, Some(until), Some(stored.version), fx)?;
        }
        Ok(())
    }

    /// Moves a relationship to the DID its peer has proved to rotate to.
    pub(super) fn note_rotation(&self, opened: &Opened, rx: &Received<'_>, fx: &mut Effects<'_>) -> Handled {
        let Some(rotation) = &opened.proof.rotation else { return Ok(()) };
        let is_old = |last: UnixSeconds| rotation.issued_at < last;
        let known = identity::peer_of(fx.db(), rx.recipient(), &rotation.prior)?;
        if known.as_ref().and_then(|stored| stored.value.rotated_at).is_some_and(is_old) {
            return Err(Failure::peer(PeerFault::Replayed, "an older rotation than the one in force"));
        }
        if self.shared.config.role != Role::Mediator {
            predecessors::note_rotation(rx, fx)?;
        }
        let Some(stored) = known else {
            // Not a peer of ours: there is no relationship to move.
            return Ok(());
        };
        if !stored.value.theirs.same_as(&rotation.prior) {
            // It has been moved already, and this is said until we have used the new DID.
            return Ok(());
        }
        let old = crate::db::peer_id(rx.recipient(), &rotation.prior);
        let (theirs, rotated_at) = (their_form(rx), Some(rotation.issued_at));
        let peer = identity::Peer { theirs, rotated_at, ..stored.value };
        // Whoever anybody could be is kept for a time, whatever DIDs it takes.
        let until = stored.expires_at.map(|_| self.shared.now().plus(KEEP_FOR_ANSWER_SECS));
        match until {
            Some(_) => learn_for(KEEP_FOR_ANSWER_SECS, &their_form(rx), fx)?,
            None => learn(&their_form(rx), fx)?,
        }
        // Both as they were read: a phone may be taken off its person at this moment.
        if self.shared.config.role == Role::City {
            // Who was taken off a person is known by its former DID as well: an exchange may go on under that.
            let moved = identity::Peer { label: None, superseded: true, ..peer.clone() };
            keep(&old, &moved, until, Some(stored.version), fx)?;
        } else {
            fx.remove(PEERS, old, stored.version)?;
        }
        let there = identity::peer_of(fx.db(), rx.recipient(), rx.sender())?.map(|stored| stored.version);
        keep(&crate::db::peer_id(rx.recipient(), rx.sender()), &peer, until, there, fx)
    }
}

/// Writes a relationship that was read at this version, for good or until then.
fn keep(
    id: &str,
    peer: &identity::Peer,
    until: Option<UnixSeconds>,
    read_at: Option<Version>,
    fx: &mut Effects<'_>,
) -> Handled {
    match until {
        Some(until) => fx.update_expiring(PEERS, id, peer, until, read_at)?,
        None => fx.update(PEERS, id, peer, read_at)?,
    }
    Ok(())
}
