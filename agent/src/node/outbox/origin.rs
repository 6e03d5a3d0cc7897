//! Which origins caused the messages that wait in the outbox: nobody may fill it for others.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::handler::Origin;

/// Most messages waiting because of one origin, counted since this node was started.
pub(super) const MAX_WAITING_OF_ONE: usize = 1000;

/// Most bytes waiting because of one origin: a request of some bytes may have an answer of megabytes.
pub(super) const MAX_BYTES_OF_ONE: usize = 16 * 1024 * 1024;

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct Waiting {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Waiting {
    /// The sum of both.
    pub(super) fn and(self, more: Self) -> Self {
        let (messages, bytes) = (self.messages + more.messages, self.bytes.saturating_add(more.bytes));
        Self { messages, bytes }
    }

    fn without(self, less: Self) -> Self {
        let messages = self.messages.saturating_sub(less.messages);
        Self { messages, bytes: self.bytes.saturating_sub(less.bytes) }
    }

    /// A single message may have any length: what one event causes is bounded elsewhere.
    fn fits(self) -> bool {
        self.messages <= MAX_WAITING_OF_ONE && (self.messages <= 1 || self.bytes <= MAX_BYTES_OF_ONE)
    }
}

/// How much waits because of each origin.
#[derive(Debug, Default)]
pub(super) struct Origins {
    key: RandomState,
    waiting: Mutex<HashMap<Origin, Waiting>>,
}

impl Origins {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Origin, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The origin that stands for `place`.
    pub(super) fn of(&self, place: impl Hash) -> Origin {
        Origin::from_digest(self.key.hash_one(place))
    }

    /// Counts messages that are about to be queued because of `from`; `None` if that would be too many.
    pub(super) fn queue(&self, from: Option<Origin>, more: Waiting) -> Option<Queued<'_>> {
        let queued = Queued { origins: self, from: from.filter(|_| more.messages > 0), waiting: more };
        let Some(from) = queued.from else { return Some(queued) };
        let mut waiting = self.waiting();
        let already = waiting.entry(from).or_default();
        *already = already.and(more);
        let fits = already.fits();
        drop(waiting);
        // Dropping what does not fit takes its count back.
        fits.then_some(queued)
    }

    /// Messages wait no longer. Those from before the last start were never counted.
    pub(super) fn gone(&self, from: Option<Origin>, less: Waiting) {
        let Some(from) = from else { return };
        let mut waiting = self.waiting();
        if let Some(left) = waiting.get_mut(&from) {
            *left = left.without(less);
            if left.messages == 0 {
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
    waiting: Waiting,
}

impl Queued<'_> {
    /// The messages were committed.
    pub(in crate::node) fn keep(mut self) {
        self.from = None;
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.origins.gone(self.from, self.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(messages: usize) -> Waiting {
        Waiting { messages, bytes: messages }
    }

    #[test]
    fn few_long_messages_are_as_much_as_many_short_ones() {
        let origins = Origins::default();
        let one = Some(origins.of(1));
        let long = Waiting { messages: 1, bytes: MAX_BYTES_OF_ONE / 2 };
        origins.queue(one, long).unwrap().keep();
        origins.queue(one, long).unwrap().keep();
        assert!(origins.queue(one, small(1)).is_none());
        origins.gone(one, long);
        assert!(origins.queue(one, small(1)).is_some());
        let lone = Waiting { messages: 1, bytes: 2 * MAX_BYTES_OF_ONE };
        assert!(
            origins.queue(Some(origins.of(2)), lone).is_some(),
            "a single one is taken whatever it takes"
        );
    }

    #[test]
    fn one_origin_may_have_so_many_messages_wait_and_others_do_not_notice() {
        let origins = Origins::default();
        let (flood, other) = (origins.of("flood"), origins.of("other"));
        assert_ne!(flood, other);
        origins.queue(Some(flood), small(MAX_WAITING_OF_ONE)).unwrap().keep();
        assert!(origins.queue(Some(flood), small(1)).is_none());
        assert!(origins.queue(Some(flood), small(0)).is_some(), "what causes no message is taken");
        assert!(origins.queue(Some(other), small(1)).is_some());
        assert!(origins.queue(None, small(2 * MAX_WAITING_OF_ONE)).is_some(), "what the node says of itself");
        origins.gone(Some(flood), small(1));
        assert!(origins.queue(Some(flood), small(1)).is_some());
    }

    #[test]
    fn what_was_refused_or_not_committed_does_not_count() {
        let origins = Origins::default();
        let one = Some(origins.of(1));
        assert!(origins.queue(one, small(MAX_WAITING_OF_ONE + 1)).is_none());
        drop(origins.queue(one, small(MAX_WAITING_OF_ONE)).unwrap());
        assert!(origins.waiting().is_empty());
        origins.queue(one, small(1)).unwrap().keep();
        origins.gone(one, small(1));
        origins.gone(one, small(1));
        assert!(origins.waiting().is_empty());
    }
}
