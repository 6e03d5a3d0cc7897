//! The owners of recently used mailboxes: a mediator's forwards ask the store for little else.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use einmal_did::Did;
use einmal_storage::mail::MailboxId;

/// Most owners remembered; beyond that all are forgotten.
const MAX_REMEMBERED: usize = 200_000;
/// Most bytes of their DIDs: anybody may choose long ones.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Owners by mailbox. Only the store's answers are remembered, and a change ends them.
#[derive(Default)]
pub(crate) struct Routes(Mutex<Known>);

#[derive(Default)]
struct Known {
    owners: HashMap<MailboxId, Did>,
    /// Bytes of the DIDs.
    bytes: usize,
    /// Counts changes, so that an answer read before one is not remembered after it.
    changes: u64,
}

impl Routes {
    /// The account that owns a mailbox: remembered, or as `ask` finds it in the store.
    pub(crate) fn owner<E>(
        &self,
        mailbox: MailboxId,
        ask: impl FnOnce() -> Result<Option<Did>, E>,
    ) -> Result<Option<Did>, E> {
        let changes = {
            let known = self.lock();
            if let Some(owner) = known.owners.get(&mailbox) {
                return Ok(Some(owner.clone()));
            }
            known.changes
        };
        let owner = ask()?;
        let mut known = self.lock();
        if let Some(owner) = owner.as_ref().filter(|_| known.changes == changes) {
            let bytes = owner.as_str().len();
            if known.owners.len() >= MAX_REMEMBERED || known.bytes + bytes > MAX_BYTES {
                known.owners.clear();
                known.bytes = 0;
            }
            if known.owners.insert(mailbox, owner.clone()).is_none() {
                known.bytes += bytes;
            }
        }
        Ok(owner)
    }

    /// The owner of this mailbox has changed in the store.
    pub(crate) fn changed(&self, mailbox: MailboxId) {
        let mut known = self.lock();
        known.changes += 1;
        if let Some(owner) = known.owners.remove(&mailbox) {
            known.bytes = known.bytes.saturating_sub(owner.as_str().len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAILBOX: MailboxId = MailboxId([1; 20]);

    fn did(text: &str) -> Did {
        Did::parse(text).unwrap()
    }

    fn ask(routes: &Routes, answer: Option<&str>) -> Option<Did> {
        routes.owner::<()>(MAILBOX, || Ok(answer.map(did))).unwrap()
    }

    #[test]
    fn an_owner_is_asked_for_once_until_it_changes() {
        let routes = Routes::default();
        assert_eq!(ask(&routes, None), None, "nobody's is asked for again each time");
        assert_eq!(ask(&routes, Some("did:example:a")), Some(did("did:example:a")));
        assert_eq!(ask(&routes, Some("did:example:b")), Some(did("did:example:a")), "remembered");
        routes.changed(MAILBOX);
        assert_eq!(ask(&routes, Some("did:example:b")), Some(did("did:example:b")));
    }

    #[test]
    fn long_dids_of_owners_are_bounded_in_bytes() {
        let routes = Routes::default();
        let long = did(&format!("did:example:{}", "a".repeat(16_000)));
        for number in 0..2 * MAX_BYTES / 16_000 {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            routes.owner::<()>(MailboxId(id), || Ok(Some(long.clone()))).unwrap();
        }
        let known = routes.lock();
        let weight: usize = known.owners.values().map(|did| did.as_str().len()).sum();
        assert!(weight <= MAX_BYTES && weight == known.bytes && weight > 0, "{weight}");
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_remembered() {
        let routes = Routes::default();
        let old = routes.owner::<()>(MAILBOX, || {
            routes.changed(MAILBOX);
            Ok(Some(did("did:example:old")))
        });
        assert_eq!(old, Ok(Some(did("did:example:old"))));
        assert_eq!(ask(&routes, Some("did:example:new")), Some(did("did:example:new")));
    }
}
