//! The DIDs of a message's two sides: in the form each side uses, and remembered where they must be.

use einmal_did::Did;
use einmal_flows::Received;

use super::{Effects, Handled};
use crate::db::{KNOWN_DIDS, did_id};

/// Seconds the long form of a DID is kept that has an exchange with us, from its last message in it: far longer than an exchange
/// lasts.
pub(crate) const KEEP_FOR_EXCHANGE_SECS: u64 = 60 * 24 * 3600;
/// Seconds the long form of a DID is kept that has answered an invitation, from its last message.
pub(crate) const KEEP_FOR_ANSWER_SECS: u64 = 400 * 24 * 3600;

/// Keeps the long form of a did:peer:4 for good, without which its short form cannot be resolved after a restart. Only for peers
/// with a relationship: a DID that merely writes is remembered in memory, else strangers would fill the disk.
///
/// A short form stands for the long form seen since the start.
pub(crate) fn learn(did: &Did, fx: &mut Effects<'_>) -> Handled {
    let Some(long) = fx.shared().resolver.long_form_of(did) else { return Ok(()) };
    let id = did_id(&long);
    if fx.db().get::<Did>(KNOWN_DIDS, &id)?.is_none_or(|known| known.expires_at.is_some()) {
        fx.put(KNOWN_DIDS, id, &long)?;
    }
    Ok(())
}

/// As [`learn`], for `seconds` from now: everybody who has an invitation may answer it, with a new DID each time. What is kept for
/// longer stays so; what has lasted for half of its time is prolonged.
pub(crate) fn learn_for(seconds: u64, did: &Did, fx: &mut Effects<'_>) -> Handled {
    let Some(long) = fx.shared().resolver.long_form_of(did) else { return Ok(()) };
    let (id, now) = (did_id(&long), fx.shared().now());
    let (lasts, place) = (now.plus(seconds / 2).0, fx.db().key(KNOWN_DIDS, &id)?);
    let known = fx.db().get::<Did>(KNOWN_DIDS, &id)?;
    let ends = known.as_ref().is_none_or(|known| known.expires_at.is_some_and(|end| end < lasts));
    if ends && !fx.batch().keeps(&place, lasts) {
        // Unless it becomes a peer's at this moment.
        let read_at = known.map(|known| known.version);
        fx.update_expiring(KNOWN_DIDS, id, &long, now.plus(seconds), read_at)?;
    }
    Ok(())
}

/// Prolongs what is kept of a DID that writes to us, if anything is.
pub(crate) fn heard_again(did: &Did, fx: &mut Effects<'_>) -> Handled {
    let known = fx.db().get::<Did>(KNOWN_DIDS, did_id(did))?;
    if known.is_some_and(|known| known.expires_at.is_some()) {
        learn_for(KEEP_FOR_ANSWER_SECS, did, fx)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Role,
        handler::{Cause, Shared},
        node::testing,
    };

    const DAY: u64 = 24 * 3600;

    /// A fresh did:peer:4 in its long form.
    fn a_did(shared: &Shared) -> Did {
        shared.pairwise(&mut Effects::new(shared, Cause::Own), None).unwrap()
    }

    #[tokio::test]
    async fn whoever_only_answers_is_forgotten_unless_it_is_heard_again_or_becomes_a_peer() {
        let (node, clock) = testing::node(Role::Mediator).await;
        let shared = &node.shared;
        let did = a_did(shared);
        let ends = || {
            let known = shared.db.get::<Did>(KNOWN_DIDS, did_id(&did)).unwrap().unwrap();
            known.expires_at.map(|end| (end - shared.now().0) / DAY)
        };
        let change = |learn: &dyn Fn(&mut Effects<'_>)| {
            let mut fx = Effects::new(shared, Cause::Own);
            learn(&mut fx);
            shared.db.store().commit(fx.into_parts().0).wait().unwrap();
        };
        let exchange = |fx: &mut Effects<'_>| learn_for(KEEP_FOR_EXCHANGE_SECS, &did, fx).unwrap();
        let heard = |fx: &mut Effects<'_>| heard_again(&did, fx).unwrap();
        change(&heard);
        assert!(!shared.db.exists(KNOWN_DIDS, did_id(&did)).unwrap(), "a stranger's is not kept");
        change(&exchange);
        assert_eq!(ends(), Some(60));
        clock.advance(20 * DAY * 1000);
        change(&exchange);
        assert_eq!(ends(), Some(40), "not for each message");
        clock.advance(20 * DAY * 1000);
        change(&exchange);
        assert_eq!(ends(), Some(60));
        change(&heard);
        assert_eq!(ends(), Some(400));
        change(&exchange);
        assert_eq!(ends(), Some(400), "the longer time counts");
        change(&|fx| learn(&did, fx).unwrap());
        assert_eq!(ends(), None);
        change(&exchange);
        change(&heard);
        assert_eq!(ends(), None, "a peer stays");
    }

    #[tokio::test]
    async fn who_becomes_a_peer_in_the_event_of_an_exchange_stays() {
        let (node, _) = testing::node(Role::Mediator).await;
        let (shared, did) = (&node.shared, a_did(&node.shared));
        let mut fx = Effects::new(shared, Cause::Own);
        learn(&did, &mut fx).unwrap();
        learn_for(KEEP_FOR_EXCHANGE_SECS, &did, &mut fx).unwrap();
        shared.db.store().commit(fx.into_parts().0).wait().unwrap();
        let known = shared.db.get::<Did>(KNOWN_DIDS, did_id(&did)).unwrap().unwrap();
        assert_eq!(known.expires_at, None);
    }
}
