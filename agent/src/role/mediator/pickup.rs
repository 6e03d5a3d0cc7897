//! Pickup: mail waiting for an account is counted, handed over, removed and pushed, in both versions of the protocol.

use einmal_did::Did;
use einmal_didcomm::{ProblemCode, UnixSeconds};
use einmal_flows::{
    Draft, Received,
    coordinate_mediation::Registrations,
    message_pickup::{self, AttachedAs, PickupRequest, PickupVersion, PushForm, QueueStatus},
};
use einmal_storage::mail::{LetterId, MailboxId};

use super::accounts::{ACCOUNTS, Account, Book, MAX_ROUTES, unreadable};
use crate::{
    db::{did_id, mailbox_id},
    delivery::LiveChange,
    handler::{Arrival, Effects, Failure, Handled, Shared, our_form, their_form},
    service::queue::{self, Ids},
};

/// One pickup request being answered.
struct Pickup<'a> {
    shared: &'a Shared,
    ids: &'a Ids,
    rx: &'a Received<'a>,
    version: PickupVersion,
    now: UnixSeconds,
    /// Whether mail is pushed on this connection; for libp2p, on any connection of the account.
    live: bool,
}

/// Answers one pickup message in its own version.
///
/// # Errors
///
/// [`Failure`] if it is malformed, asks for what is not the sender's, or the mail cannot be read.
pub(super) fn answer(
    shared: &Shared,
    ids: &Ids,
    rx: &Received<'_>,
    version: PickupVersion,
    fx: &mut Effects<'_>,
) -> Handled {
    let now = shared.now();
    let request = PickupRequest::read(rx, now)?;
    request.authorise(rx, &Book(&shared.db))?;
    // A second device, or a connection that broke, says nothing about this one.
    let live = match fx.arrival() {
        Some(Arrival::Socket { live, .. }) => live,
        Some(Arrival::Libp2p { .. }) => shared.live.is_live(rx.sender()),
        _ => false,
    };
    let pickup = Pickup { shared, ids, rx, version, now, live };
    let draft = match request {
        PickupRequest::Status { recipient } => {
            message_pickup::status_reply(rx, &pickup.status(&pickup.named(recipient)?, &[]), now)
        }
        PickupRequest::Delivery { recipient, limit } => {
            pickup.hand_over(&pickup.named(recipient)?, limit, fx)?
        }
        PickupRequest::Received { ids } => pickup.remove(&ids, fx)?,
        PickupRequest::LiveDelivery { on } => pickup.change_live(on, fx)?,
        _ => {
            return Err(Failure::peer(ProblemCode::UNSUPPORTED, "this pickup request is not spoken here"));
        }
    };
    Ok(fx.answer(draft, &our_form(rx), &their_form(rx))?)
}

impl Pickup<'_> {
    /// The recipient that was named, or all recipients of the account.
    fn named(&self, recipient: Option<Did>) -> Result<Vec<Did>, Failure> {
        let all = || Book(&self.shared.db).list(self.rx.sender(), 0, MAX_ROUTES).map_err(|_| unreadable());
        recipient.map_or_else(all, |one| Ok(vec![one]))
    }

    /// The status of `recipients` once the letters `gone` are removed.
    fn status(&self, recipients: &[Did], gone: &[(MailboxId, Vec<LetterId>)]) -> QueueStatus {
        QueueStatus { live: self.live, ..queue::status(self.shared, recipients, gone) }
    }

    fn hand_over(&self, recipients: &[Did], limit: usize, fx: &mut Effects<'_>) -> Result<Draft, Failure> {
        let waiting = queue::oldest(self.shared, self.ids, recipients, limit)?;
        let account = self.rx.sender();
        // In 4.0 the form is fixed, and if nothing waits no form is needed.
        let form = if self.version == PickupVersion::V3 && !waiting.is_empty() {
            let form = reading_form(self.shared, account)?;
            fx.hand_over(mailbox_id(account), form);
            form
        } else {
            AttachedAs::Base64
        };
        let status = self.status(recipients, &[]);
        Ok(message_pickup::delivery_reply(self.rx, &waiting, &status, form, self.now))
    }

    /// Removes the letters with these ids: the account has fetched them.
    fn remove(&self, ids: &[String], fx: &mut Effects<'_>) -> Result<Draft, Failure> {
        let recipients = self.named(None)?;
        let account = mailbox_id(self.rx.sender());
        if ids.is_empty() {
            fx.nothing_read(account);
        }
        let gone = queue::acknowledge(self.shared, self.ids, &recipients, ids, fx);
        if !gone.is_empty() {
            fx.some_read(account);
        }
        Ok(message_pickup::status_reply(self.rx, &self.status(&recipients, &gone), self.now))
    }

    fn change_live(&self, on: bool, fx: &mut Effects<'_>) -> Result<Draft, Failure> {
        let (shared, rx) = (self.shared, self.rx);
        let persistent =
            matches!(fx.arrival(), Some(Arrival::Socket { .. } | Arrival::Libp2p { answerable: true, .. }));
        // Before the status: letters it counts have waited, later ones are pushed, and none falls in between.
        let since = shared.mail.last();
        let recipients = self.named(None)?;
        let status = self.status(&recipients, &[]);
        let draft = message_pickup::live_reply(rx, on, persistent, &status, self.now)?;
        let account = shared.db.get::<Account>(ACCOUNTS, did_id(rx.sender()))?;
        let mediation = account.and_then(|account| account.value.mediation);
        fx.change_live(LiveChange {
            account: rx.sender().clone(),
            ours: our_form(rx),
            theirs: their_form(rx),
            on,
            form: PushForm::of(self.version, mediation),
            since,
            mailboxes: recipients.iter().map(mailbox_id).collect(),
        });
        Ok(draft)
    }
}

/// The form in which pickup 3.0 hands letters to an account: the one it was seen to read, else that of similar wallets.
fn reading_form(shared: &Shared, account: &Did) -> Result<AttachedAs, Failure> {
    if let Some(form) = shared.read_forms.of(mailbox_id(account)) {
        return Ok(form);
    }
    let account = shared.db.get::<Account>(ACCOUNTS, did_id(account))?;
    Ok(AttachedAs::first_for(account.and_then(|account| account.value.mediation)))
}
