//! Pickup: mail waiting for an account is counted, handed over, removed and pushed, in both versions of the protocol.

use std::sync::Arc;

use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_flows::{
    Draft, Received,
    message_pickup::{self, AttachedAs, PickupRequest, PickupVersion, PushForm, QueueStatus},
};
use einmal_storage::mail::{LetterId, MailboxId};

use super::{
    Mediator,
    accounts::{ACCOUNTS, Account, Book},
};
use crate::{
    db::{did_id, mailbox_id},
    delivery::LiveChange,
    handler::{Arrival, Effects, Failure, Handled, Shared, our_form, their_form},
    service::queue,
};

/// One pickup request being answered.
struct Pickup<'a> {
    mediator: &'a Mediator,
    shared: &'a Shared,
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
    mediator: &Mediator,
    shared: &Shared,
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
        Some(Arrival::Http { .. } | Arrival::Mailbox { .. }) | None => false,
    };
    let pickup = Pickup { mediator, shared, rx, version, now, live };
    let draft = match request {
        PickupRequest::Status { recipient } => {
            message_pickup::status_reply(rx, &pickup.status(&pickup.named(recipient)?, &[]), now)
        }
        PickupRequest::Delivery { recipient, limit } => {
            pickup.hand_over(&pickup.named(recipient)?, limit, fx)?
        }
        PickupRequest::Received { ids } => {
            let status = pickup.remove(&ids, fx)?;
            if version == PickupVersion::V4 && rx.message().return_route.is_none() {
                // 4.0 has no answer to it unless its sender asks for one: some wallets take any status for a reason to fetch, beside
                // the request they make themselves, and get everything twice.
                return Ok(());
            }
            status
        }
        PickupRequest::LiveDelivery { on } => pickup.change_live(on, fx)?,
    };
    Ok(fx.answer(draft, &our_form(rx), &their_form(rx))?)
}

impl Pickup<'_> {
    /// The mailbox of the recipient that was named, or all of the account.
    fn named(&self, recipient: Option<Did>) -> Result<Arc<[MailboxId]>, Failure> {
        match recipient {
            Some(one) => Ok([mailbox_id(&one)].into()),
            None => self.mediator.mailboxes.of(self.shared, self.rx.sender()),
        }
    }

    /// What waits in `mailboxes` once the letters `gone` are removed.
    fn status(&self, mailboxes: &[MailboxId], gone: &[(MailboxId, Vec<LetterId>)]) -> QueueStatus {
        QueueStatus { live: self.live, ..queue::status(self.shared, mailboxes, gone) }
    }

    fn hand_over(
        &self,
        mailboxes: &[MailboxId],
        limit: usize,
        fx: &mut Effects<'_>,
    ) -> Result<Draft, Failure> {
        let waiting = queue::oldest(self.shared, &self.mediator.ids, mailboxes, limit)?;
        let account = self.rx.sender();
        // In 4.0 the form is fixed, and if nothing waits no form is needed.
        let form = if self.version == PickupVersion::V3 && !waiting.is_empty() {
            let form = reading_form(self.shared, account)?;
            fx.hand_over(mailbox_id(account), form);
            form
        } else {
            AttachedAs::Base64
        };
        let status = self.status(mailboxes, &[]);
        Ok(message_pickup::delivery_reply(self.rx, &waiting, &status, form, self.now))
    }

    /// Removes the letters with these ids: the account has fetched them.
    fn remove(&self, ids: &[String], fx: &mut Effects<'_>) -> Result<Draft, Failure> {
        let mailboxes = self.named(None)?;
        let account = mailbox_id(self.rx.sender());
        if ids.is_empty() {
            fx.nothing_read(account);
        }
        let gone = queue::acknowledge(self.shared, &self.mediator.ids, &mailboxes, ids, fx);
        if !gone.is_empty() {
            fx.some_read(account);
        }
        Ok(message_pickup::status_reply(self.rx, &self.status(&mailboxes, &gone), self.now))
    }

    fn change_live(&self, on: bool, fx: &mut Effects<'_>) -> Result<Draft, Failure> {
        let (shared, rx) = (self.shared, self.rx);
        let persistent =
            matches!(fx.arrival(), Some(Arrival::Socket { .. } | Arrival::Libp2p { answerable: true, .. }));
        // Before the status: letters it counts have waited, later ones are pushed, and none falls in between.
        let since = shared.mail.last();
        let mailboxes = self.named(None)?;
        let status = self.status(&mailboxes, &[]);
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
            mailboxes: mailboxes.to_vec(),
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
