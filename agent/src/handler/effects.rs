//! What handling one event changes: records and messages, committed together or not at all.

use einmal_did::Did;
use einmal_didcomm::{Message, UnixSeconds};
use einmal_flows::{Draft, FlowError, message_pickup::AttachedAs};
use einmal_storage::{
    Batch, Commit, StoreError, Table, Version,
    mail::{LetterId, MailboxId},
};
use serde::{Deserialize, Serialize};

use super::{Arrival, Failure, Shared, failure::Need};
use crate::{
    db::{Db, TIMERS, encode},
    delivery::LiveChange,
};

/// A message on its way out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    pub(crate) to: Did,
    /// A direct answer that is worthless later: it goes back on the connection if it can, and is never queued
    /// for a peer that has no endpoint.
    pub(crate) transient: bool,
}

/// Wakes an exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Timer {
    /// Record id of the exchange.
    pub(crate) exchange: String,
    /// When, in seconds since the Unix epoch, as the exchange knows it. The record's id may differ, if the clock was
    /// set since.
    pub(crate) at: UnixSeconds,
    /// When it was set; records of earlier versions do not say.
    #[serde(default)]
    pub(crate) set_at: Option<UnixSeconds>,
}

impl Timer {
    /// Its record id, due at `at`.
    pub(crate) fn id(&self, at: UnixSeconds) -> Vec<u8> {
        let mut id = at.0.to_be_bytes().to_vec();
        id.extend_from_slice(self.exchange.as_bytes());
        id
    }
}

/// Why an event is handled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// A message arrived this way.
    Arrival(Arrival),
    /// An exchange is woken for this deadline.
    Deadline(UnixSeconds),
    /// The node's own user, or the node itself, asks for it.
    Own,
}

impl Cause {
    /// How the message arrived, if one is the cause.
    pub(crate) fn arrival(self) -> Option<Arrival> {
        match self {
            Self::Arrival(arrival) => Some(arrival),
            _ => None,
        }
    }
}

/// A change of mail kept for others, made once the event is committed. Repeating it does no harm, and a crash in
/// between leaves too much mail rather than too little.
#[derive(Clone, Debug)]
pub(crate) enum MailChange {
    /// These letters are gone.
    Remove(MailboxId, Vec<LetterId>),
    /// All letters up to this one are gone.
    Clear(MailboxId, LetterId),
}

impl MailChange {
    pub(crate) fn begin(self, shared: &Shared) -> Commit {
        match self {
            Self::Remove(mailbox, letters) => {
                shared.stats.delivered.inc_by(letters.len() as u64);
                shared.mail.remove(mailbox, letters)
            }
            Self::Clear(mailbox, last) => shared.mail.clear(mailbox, last),
        }
    }
}

/// A change of state that a mediator keeps only in memory, made once the event is committed.
#[derive(Clone, Debug)]
pub(crate) enum MemoryChange {
    /// A mailbox has another owner, or none.
    Rerouted(MailboxId),
    /// An account receives letters in this form.
    HandedOver { account: MailboxId, form: AttachedAs },
    /// An account has confirmed letters.
    Read(MailboxId),
    /// An account has received nothing that it was handed.
    NothingRead(MailboxId),
    /// An account with these mailboxes has taken another DID, in the form its owner uses.
    Followed { prior: Did, new: Did, mailboxes: Vec<MailboxId> },
}

impl MemoryChange {
    pub(crate) fn apply(self, shared: &Shared) {
        match self {
            Self::Rerouted(mailbox) => shared.routes.changed(mailbox),
            Self::HandedOver { account, form } => shared.read_forms.handed_over(account, form),
            Self::Read(account) => shared.read_forms.read(account),
            Self::NothingRead(account) => shared.read_forms.nothing_read(account),
            Self::Followed { prior, new, mailboxes } => shared.live.follow(&prior, &new, &mailboxes),
        }
    }
}

/// Collects the changes of one event.
pub(crate) struct Effects<'a> {
    shared: &'a Shared,
    cause: Cause,
    batch: Batch,
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) mail: Vec<MailChange>,
    pub(crate) memory: Vec<MemoryChange>,
    pub(crate) live: Option<LiveChange>,
    /// How often the handler may still ask for something to be fetched.
    pub(crate) fetches_left: usize,
    /// What was fetched for this event, or could not be.
    pub(crate) tried: Vec<Need>,
}

impl<'a> Effects<'a> {
    pub(crate) fn new(shared: &'a Shared, cause: Cause) -> Self {
        Self {
            shared,
            cause,
            batch: Batch::new(),
            outgoing: Vec::new(),
            mail: Vec::new(),
            memory: Vec::new(),
            live: None,
            fetches_left: 0,
            tried: Vec::new(),
        }
    }

    /// What of `needs` was not tried for this event, as many as may still be fetched but at least one. Nothing twice: what does not
    /// answer is not waited for again and again, however long the others take.
    pub(crate) fn to_fetch(&self, needs: impl IntoIterator<Item = Need>) -> Option<Need> {
        let mut wanted = Vec::new();
        for need in needs {
            if !self.tried.contains(&need) && !wanted.contains(&need) {
                wanted.push(need);
            }
        }
        wanted.truncate(self.fetches_left.max(1));
        if wanted.len() > 1 { Some(Need::All { needs: wanted }) } else { wanted.pop() }
    }

    /// The deadline that an exchange is woken for; the present if that is not why.
    pub(crate) fn deadline(&self) -> UnixSeconds {
        match self.cause {
            Cause::Deadline(deadline) => deadline,
            _ => self.now(),
        }
    }

    /// How the message came that is handled, if one is.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        self.cause.arrival()
    }

    pub(crate) fn into_parts(self) -> (Batch, Vec<Outgoing>) {
        (self.batch, self.outgoing)
    }

    /// Whether nothing of this event lasts: no record, no mail, no message that must arrive, no change of a connection.
    pub(crate) fn leaves_no_trace(&self) -> bool {
        let changes =
            !(self.batch.is_empty() && self.mail.is_empty() && self.memory.is_empty()) || self.live.is_some();
        !changes && self.outgoing.iter().all(|out| out.transient)
    }

    pub(crate) fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// The present as an exchange should see it: what the clock would show had it not jumped. It is never before the
    /// deadline the exchange is woken for, even if the clock was set back after the deadline was set.
    pub(crate) fn now(&self) -> UnixSeconds {
        let now = UnixSeconds(self.shared.present().steady_ms / 1000);
        match self.cause {
            Cause::Deadline(deadline) => now.max(deadline),
            _ => now,
        }
    }

    /// What will be written so far.
    pub(crate) fn batch(&self) -> &Batch {
        &self.batch
    }

    pub(crate) fn db(&self) -> &'a Db {
        &self.shared.db
    }

    /// Writes a record, whatever was there.
    pub(crate) fn put<T: Serialize>(
        &mut self,
        table: Table,
        id: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<(), StoreError> {
        let key = self.db().key(table, id)?;
        self.batch.put(key, encode(value)?);
        Ok(())
    }

    /// Writes a record that expires by itself. `expires_at` counts from [`Shared::now`]; while the clock is in doubt it
    /// counts from the latest possible present.
    pub(crate) fn put_expiring<T: Serialize>(
        &mut self,
        table: Table,
        id: impl AsRef<[u8]>,
        value: &T,
        expires_at: UnixSeconds,
    ) -> Result<(), StoreError> {
        let key = self.db().key(table, id)?;
        let present = self.shared.present();
        let doubt = present.latest().saturating_sub(present.shown_ms / 1000);
        self.batch.put_expiring(key, encode(value)?, expires_at.plus(doubt).0);
        Ok(())
    }

    /// Writes a record that must not exist yet, or must still have the version it was read at.
    pub(crate) fn update<T: Serialize>(
        &mut self,
        table: Table,
        id: impl AsRef<[u8]>,
        value: &T,
        read_at: Option<Version>,
    ) -> Result<(), StoreError> {
        self.expect(table, &id, read_at)?;
        self.put(table, id, value)
    }

    /// As [`Effects::update`], for a record that expires by itself, as with [`Effects::put_expiring`].
    pub(crate) fn update_expiring<T: Serialize>(
        &mut self,
        table: Table,
        id: impl AsRef<[u8]>,
        value: &T,
        expires_at: UnixSeconds,
        read_at: Option<Version>,
    ) -> Result<(), StoreError> {
        self.expect(table, &id, read_at)?;
        self.put_expiring(table, id, value, expires_at)
    }

    /// Removes a record that must still have the version it was read at.
    pub(crate) fn remove(
        &mut self,
        table: Table,
        id: impl AsRef<[u8]>,
        read_at: Version,
    ) -> Result<(), StoreError> {
        self.expect(table, &id, Some(read_at))?;
        self.delete(table, id)
    }

    /// What was decided holds only if a record still has the version it was read at, or is still missing.
    pub(crate) fn expect(
        &mut self,
        table: Table,
        id: impl AsRef<[u8]>,
        read_at: Option<Version>,
    ) -> Result<(), StoreError> {
        let key = self.db().key(table, id)?;
        match read_at {
            Some(version) => self.batch.expect_version(key, version),
            None => self.batch.expect_absent(key),
        };
        Ok(())
    }

    /// Removes a record, whatever it has become.
    pub(crate) fn delete(&mut self, table: Table, id: impl AsRef<[u8]>) -> Result<(), StoreError> {
        let key = self.db().key(table, id)?;
        self.batch.delete(key);
        Ok(())
    }

    /// Removes letters from a mailbox.
    pub(crate) fn remove_letters(&mut self, mailbox: MailboxId, letters: Vec<LetterId>) {
        self.mail.push(MailChange::Remove(mailbox, letters));
    }

    /// Removes all letters that are in a mailbox now, or on their way into it. What comes while the event is committed may be of
    /// a new owner and stays.
    pub(crate) fn clear_mailbox(&mut self, mailbox: MailboxId) {
        self.mail.push(MailChange::Clear(mailbox, self.shared.mail.newest()));
    }

    /// Notes that a mailbox has another owner, or none.
    pub(crate) fn reroute(&mut self, mailbox: MailboxId) {
        self.memory.push(MemoryChange::Rerouted(mailbox));
    }

    /// Notes the form in which an account receives letters.
    pub(crate) fn hand_over(&mut self, account: MailboxId, form: AttachedAs) {
        self.memory.push(MemoryChange::HandedOver { account, form });
    }

    /// Notes that an account has confirmed letters.
    pub(crate) fn some_read(&mut self, account: MailboxId) {
        self.memory.push(MemoryChange::Read(account));
    }

    /// Notes that an account has received nothing that it was handed.
    pub(crate) fn nothing_read(&mut self, account: MailboxId) {
        self.memory.push(MemoryChange::NothingRead(account));
    }

    /// Notes that an account has taken another DID: live delivery follows it.
    pub(crate) fn follow(&mut self, prior: &Did, new: &Did, mailboxes: Vec<MailboxId>) {
        self.memory.push(MemoryChange::Followed { prior: prior.clone(), new: new.clone(), mailboxes });
    }

    /// Turns live delivery on or off on the connection the event came by.
    pub(crate) fn change_live(&mut self, change: LiveChange) {
        self.live = Some(change);
    }

    /// Asks to wake an exchange at an instant.
    pub(crate) fn wake(&mut self, exchange: &str, at: UnixSeconds) -> Result<(), StoreError> {
        let timer = Timer { exchange: exchange.to_owned(), at, set_at: Some(self.now()) };
        self.put(TIMERS, timer.id(at), &timer)
    }

    /// Sends a draft from one of our DIDs; it is kept until it is delivered.
    pub(crate) fn send(&mut self, draft: Draft, from: &Did, to: &Did) -> Result<(), FlowError> {
        let message = draft.into_message(from, to, self.shared.now(), self.shared.entropy())?;
        self.outgoing.push(Outgoing { message, to: to.clone(), transient: false });
        Ok(())
    }

    /// Answers with a draft that is of use only now.
    pub(crate) fn answer(&mut self, draft: Draft, from: &Did, to: &Did) -> Result<(), FlowError> {
        let message = draft.into_message(from, to, self.shared.now(), self.shared.entropy())?;
        self.outgoing.push(Outgoing { message, to: to.clone(), transient: true });
        Ok(())
    }
}

/// Result of a handler.
pub(crate) type Handled = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, config::Role, node::testing};

    const NOTES: Table = Table::new("note");

    type Change<'a> = &'a dyn Fn(&mut Effects<'_>) -> Result<(), StoreError>;

    #[tokio::test]
    async fn what_changed_since_it_was_read_is_neither_replaced_nor_removed_nor_taken_as_it_was() {
        let (node, clock) = testing::node(Role::Mediator).await;
        let shared = &node.shared;
        let commit = |change: Change<'_>| {
            let mut fx = Effects::new(shared, Cause::Own);
            change(&mut fx).unwrap();
            shared.db.store().commit(fx.into_parts().0).wait().map(|done| done.version)
        };
        let later = UnixSeconds(clock.now().0 + 60);
        let read = commit(&|fx| fx.update(NOTES, "a", &1, None)).unwrap();
        let since = commit(&|fx| fx.update(NOTES, "a", &2, Some(read))).unwrap();
        for stale in [Some(read), None] {
            let changes: [Change<'_>; 4] = [
                &|fx| fx.update(NOTES, "a", &3, stale),
                &|fx| fx.update_expiring(NOTES, "a", &3, later, stale),
                &|fx| fx.expect(NOTES, "a", stale),
                &|fx| match stale {
                    Some(stale) => fx.remove(NOTES, "a", stale),
                    None => fx.expect(NOTES, "a", None),
                },
            ];
            for change in changes {
                assert!(matches!(commit(change), Err(StoreError::Conflict { .. })));
            }
        }
        assert_eq!(shared.db.get::<u8>(NOTES, "a").unwrap().unwrap().value, 2);
        commit(&|fx| fx.remove(NOTES, "a", since)).unwrap();
        assert!(!shared.db.exists(NOTES, "a").unwrap());
    }
}
