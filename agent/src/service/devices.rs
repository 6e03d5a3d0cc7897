//! The devices of a person: listed for the clerk, and taken off the person when one was lost.

use std::ops::ControlFlow;

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_flows::Received;
use einmal_register::PersonId;
use serde_json::{Value, json};

use crate::{
    db::{Db, PEERS, did_id, peer_id},
    handler::{BoundedList, Effects, Failure, Shared},
    identity::{Peer, peer_of},
};

/// Devices as the clerk sees them, the newest first; they go by digests, which change when a device takes another DID. A phone
/// that took several invitations stands there once for each: that they are one cannot be told.
pub(crate) fn list(shared: &Shared, person: &PersonId) -> Result<Value, Failure> {
    let mut shown = BoundedList::default();
    for peer in of_person(shared, person)? {
        shown.push(json!({"device": did_id(&peer.theirs), "since": peer.since}));
    }
    Ok(shown.into_value(|left| format!("{left} more of this person")))
}

/// Takes a device off its person, or all of them if none is named: nothing that is for the person goes there any more.
///
/// The relationship stays without a name: were it gone, the device could begin it anew by what it still holds.
///
/// # Errors
///
/// [`Failure::User`] if the person has no such device.
pub(crate) fn unbind(
    shared: &Shared,
    person: &PersonId,
    device: Option<&str>,
    fx: &mut Effects<'_>,
) -> Result<Value, Failure> {
    let (known, mut unbound) = (of_person(shared, person)?, 0);
    let all = known.len();
    for peer in known {
        if device.is_some_and(|device| !did_id(&peer.theirs).eq_ignore_ascii_case(device)) {
            continue;
        }
        // It may have rotated since it was listed.
        let Some(stored) = peer_of(&shared.db, &peer.ours, &peer.theirs)? else { continue };
        let unbound_at = Some(shared.now());
        let nobodys = Peer { label: None, superseded: true, unbound_at, ..stored.value };
        fx.update(PEERS, peer_id(&peer.ours, &peer.theirs), &nobodys, Some(stored.version))?;
        unbound += 1;
    }
    if unbound == 0 {
        return Err(Failure::user(format!(
            "no such device of {id}; see: einmal city devices {id}",
            id = person.as_str()
        )));
    }
    Ok(json!({"unbound": unbound, "left": all - unbound}))
}

/// Most DIDs in a row that one device is followed through.
const MAX_FOLLOWED: usize = 16;

/// The relationship with the sender as it is now, whatever DIDs it has taken since; also by the DID it had until this message.
pub(crate) fn present(rx: &Received<'_>, fx: &Effects<'_>) -> Result<Option<Peer>, Failure> {
    for did in [Some(rx.sender()), rx.prior()].into_iter().flatten() {
        if let Some(peer) = known_as(fx.db(), rx.recipient(), did)? {
            return Ok(Some(peer));
        }
    }
    Ok(None)
}

/// The relationship with the device that had this DID.
pub(crate) fn known_as(db: &Db, ours: &Did, theirs: &Did) -> Result<Option<Peer>, Failure> {
    let mut did = theirs.clone();
    for _ in 0..MAX_FOLLOWED {
        let Some(stored) = peer_of(db, ours, &did)? else { return Ok(None) };
        if stored.value.theirs.same_as(&did) {
            return Ok(Some(stored.value));
        }
        did = stored.value.theirs.canonical();
    }
    Ok(None)
}

/// Whether the sender was taken off its person after it was offered a card at `offered_at`; whatever was offered later, the clerk meant.
pub(crate) fn was_taken_off_since(
    rx: &Received<'_>,
    offered_at: Option<UnixSeconds>,
    fx: &Effects<'_>,
) -> Result<bool, Failure> {
    let Some(peer) = present(rx, fx)?.filter(|peer| peer.superseded) else { return Ok(false) };
    let before = |unbound_at: UnixSeconds| offered_at.is_none_or(|offered_at| offered_at <= unbound_at);
    // Records of earlier versions do not say when.
    Ok(peer.unbound_at.is_none_or(before))
}

fn of_person(shared: &Shared, person: &PersonId) -> Result<Vec<Peer>, Failure> {
    let mut found: Vec<Peer> = Vec::new();
    shared.db.each(PEERS, |_, peer: Peer| {
        if peer.label.as_deref() == Some(person.as_str()) && !peer.superseded {
            found.push(peer);
        }
        Ok::<_, Failure>(ControlFlow::Continue(()))
    })?;
    found.sort_by_key(|peer| std::cmp::Reverse(peer.since));
    Ok(found)
}
