//! Which mailboxes an account has, as far as it was asked for lately: every pickup asks, and the store would have to read each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use einmal_did::Did;
use einmal_flows::coordinate_mediation::Registrations;
use einmal_storage::{Version, mail::MailboxId};

use super::accounts::{ACCOUNTS, Account, Book, MAX_ROUTES, unreadable};
use crate::{
    db::{did_id, mailbox_id},
    handler::{Failure, Shared},
};

/// Most mailboxes remembered of all accounts together, of 20 bytes each; then all are forgotten.
const MAX_REMEMBERED: usize = 1_000_000;

/// The mailboxes of accounts. A list holds as long as the account's record is the one it was read with: every change of an
/// account's recipients writes that record.
#[derive(Default)]
pub(super) struct Mailboxes(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// In order, so that one is found quickly.
    lists: HashMap<MailboxId, (Version, Arc<[MailboxId]>)>,
    count: usize,
}

impl Mailboxes {
    /// The mailboxes of `account`, in order; none if there is no such account.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub(super) fn of(&self, shared: &Shared, account: &Did) -> Result<Arc<[MailboxId]>, Failure> {
        let Some(stored) = shared.db.get::<Account>(ACCOUNTS, did_id(account))? else { return Ok([].into()) };
        let id = mailbox_id(account);
        if let Some((version, list)) = self.lock().lists.get(&id)
            && *version == stored.version
        {
            return Ok(Arc::clone(list));
        }
        let recipients = Book(&shared.db).list(account, 0, MAX_ROUTES).map_err(|_| unreadable())?;
        let mut list: Vec<MailboxId> = recipients.iter().map(mailbox_id).collect();
        list.sort_unstable();
        let list: Arc<[MailboxId]> = list.into();
        self.lock().remember(id, stored.version, &list);
        Ok(list)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn remember(&mut self, account: MailboxId, version: Version, list: &Arc<[MailboxId]>) {
        // An account counts too, though it has no mailbox.
        let weight = |list: &Arc<[MailboxId]>| list.len() + 1;
        if self.count + weight(list) > MAX_REMEMBERED {
            self.lists.clear();
            self.count = 0;
        }
        if let Some((_, old)) = self.lists.insert(account, (version, Arc::clone(list))) {
            self.count -= weight(&old);
        }
        self.count += weight(list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_a_newer_list_takes_the_place_of_the_older() {
        let mut known = Known::default();
        let account = |number: u32| {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&number.to_be_bytes());
            MailboxId(id)
        };
        let list: Arc<[MailboxId]> = vec![account(0); 999].into();
        for number in 0..2_500 {
            known.remember(account(number), Version(1), &list);
            known.remember(account(number), Version(2), &list);
            let weight: usize = known.lists.values().map(|(_, list)| list.len() + 1).sum();
            assert!(known.count == weight && weight <= MAX_REMEMBERED, "{weight}");
        }
        assert!(known.lists.values().all(|(version, _)| *version == Version(2)));
    }
}
