//! Who caused the messages that wait in the outbox: nobody may fill it for others.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::handler::Origin;

/// Most messages that wait because of one origin, of those since this node was started.
pub(super) const MAX_WAITING_OF_ONE: usize = 1000;

/// How many messages wait because of whom.
#[derive(Debug, Default)]
pub(super) struct Origins {
    key: RandomState,
    waiting: Mutex<HashMap<Origin, usize>>,
}

impl Origins {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Origin, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The origin that stands for `place`.
    pub(super) fn of(&self, place: impl Hash) -> Origin {
        Origin::from_digest(self.key.hash_one(place))
    }

    /// Counts messages that are about to be queued because of `from`; `None` if that would be too many.
    pub(super) fn queue(&self, from: Option<Origin>, count: usize) -> Option<Queued<'_>> {
        let queued = Queued { origins: self, from: from.filter(|_| count > 0), count };
        let Some(from) = queued.from else { return Some(queued) };
        let mut waiting = self.waiting();
        let already = waiting.entry(from).or_default();
        *already += count;
        let fits = *already <= MAX_WAITING_OF_ONE;
        drop(waiting);
        // What does not fit takes its count back.
        fits.then_some(queued)
    }

    /// Messages wait no longer. Those of before the last start were never counted.
    pub(super) fn gone(&self, from: Option<Origin>, count: usize) {
        let Some(from) = from else { return };
        let mut waiting = self.waiting();
        if let Some(left) = waiting.get_mut(&from) {
            *left = left.saturating_sub(count);
            if *left == 0 {
                waiting.remove(&from);
            }
        }
    }
}

/// Messages counted as waiting; unless it is kept, the count is taken back when this is dropped.
#[must_use]
pub(in crate::node) struct Queued<'a> {
    origins: &'a Origins,
    from: Option<Origin>,
    count: usize,
}

impl Queued<'_> {
    /// They were committed.
    pub(in crate::node) fn keep(mut self) {
        self.from = None;
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.origins.gone(self.from, self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_may_have_so_many_messages_wait_and_others_do_not_notice() {
        let origins = Origins::default();
        let (flood, other) = (origins.of("flood"), origins.of("other"));
        assert_ne!(flood, other);
        origins.queue(Some(flood), MAX_WAITING_OF_ONE).unwrap().keep();
        assert!(origins.queue(Some(flood), 1).is_none());
        assert!(origins.queue(Some(flood), 0).is_some(), "what causes no message is taken");
        assert!(origins.queue(Some(other), 1).is_some());
        assert!(origins.queue(None, 2 * MAX_WAITING_OF_ONE).is_some(), "what the node says of itself");
        origins.gone(Some(flood), 1);
        assert!(origins.queue(Some(flood), 1).is_some());
    }

    #[test]
    fn what_was_refused_or_not_committed_does_not_count() {
        let origins = Origins::default();
        let one = Some(origins.of(1));
        assert!(origins.queue(one, MAX_WAITING_OF_ONE + 1).is_none());
        drop(origins.queue(one, MAX_WAITING_OF_ONE).unwrap());
        assert!(origins.waiting().is_empty());
        origins.queue(one, 1).unwrap().keep();
        origins.gone(one, 1);
        origins.gone(one, 1);
        assert!(origins.waiting().is_empty());
    }
}
