//! Forwards: which letters are kept for whom, and the forward inside one to the mediator itself.

use einmal_did::Did;
use einmal_didcomm::{Forward, LayerPolicy, OpenContext, Opened, UnixSeconds, open};
use einmal_flows::{
    coordinate_mediation::{Registrations, Unavailable},
    routing::{self, Decision, NextHop, SelfForwards},
};
use einmal_storage::mail::MailboxId;

use super::accounts::{Book, unreadable};
use crate::{
    config::MediatorSettings,
    db::mailbox_id,
    handler::{Failure, Forwarded, PeerFault, Shared},
    service::queue,
};

/// The letters of a forward, from any sender.
pub(super) fn letters(
    shared: &Shared,
    settings: &MediatorSettings,
    opened: &Opened,
) -> Result<Forwarded, Failure> {
    if opened.proof.recipient.is_none() {
        return Err(Failure::unproved("a forward must be encrypted to the mediator"));
    }
    let mut forward = Forward::from_message(&opened.message)?;
    let mut unwrapped = SelfForwards::default();
    // An expired message is skipped silently, so its expiry must be certain.
    let now = UnixSeconds(shared.present().earliest());
    loop {
        let mailbox = mailbox_id(&forward.next);
        let next = next_hop(shared, &forward.next, mailbox)?;
        match routing::decide(&forward, next, unwrapped, now) {
            Decision::Deliver { account, expires } => {
                let letters = queue::letters(shared, settings, forward, mailbox, expires);
                return Ok(Forwarded { account, mailbox, letters });
            }
            Decision::Expired => {
                let account = forward.next.canonical();
                return Ok(Forwarded { account, mailbox, letters: Vec::new() });
            }
            Decision::OpenAgain { opened } => {
                unwrapped = opened;
                forward = forward_within(shared, &forward)?;
            }
            Decision::Refuse { why } => return Err(Failure::peer(why.into(), "the forward is not taken")),
        }
    }
}

/// The forward inside one addressed to the mediator itself: a sender wraps twice if the recipient's document names the
/// mediator both as endpoint and as routing key.
fn forward_within(shared: &Shared, outer: &Forward) -> Result<Forward, Failure> {
    let malformed =
        || Failure::peer(PeerFault::Malformed, "a forward to the mediator itself holds one more forward");
    let [payload] = outer.payloads.as_slice() else { return Err(malformed()) };
    let context = OpenContext {
        custody: &shared.keyring,
        resolver: &shared.resolver,
        now: shared.now(),
        accept_plaintext: false,
        layers: LayerPolicy::Tolerant,
    };
    let opened = open(payload, &context).map_err(|_| malformed())?;
    if opened.proof.recipient.is_none() {
        return Err(malformed());
    }
    let mut forward = Forward::from_message(&opened.message).map_err(|_| malformed())?;
    forward.expires_time = forward.expires_time.into_iter().chain(outer.expires_time).min();
    Ok(forward)
}

/// The account a forward goes to next.
fn next_hop(shared: &Shared, next: &Did, mailbox: MailboxId) -> Result<NextHop, Failure> {
    if shared.public_did().is_some_and(|own| own.same_as(next)) {
        return Ok(NextHop::Own);
    }
    let ask = || Ok(Book(&shared.db).owner(next)?.map(|registration| registration.account));
    let owner = shared.routes.owner(mailbox, ask).map_err(|_: Unavailable| unreadable())?;
    Ok(owner.map_or(NextHop::Unknown, |account| NextHop::Registered { account }))
}
