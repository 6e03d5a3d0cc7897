//! How many fetches are under way because of whom: nobody may keep others' documents from being fetched.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Origin;

/// Most fetches under way at once because of one origin: an eighth of those of all (`net/client.rs`).
const MAX_FETCHES_OF_ONE: usize = 16;

/// The fetches under way, by origin.
#[derive(Debug, Default)]
pub(super) struct Fetching(Mutex<HashMap<Origin, usize>>);

/// Leave to fetch, until dropped.
#[must_use]
pub(super) struct Slot<'a> {
    fetching: &'a Fetching,
    from: Option<Origin>,
}

impl Fetching {
    fn counts(&self) -> MutexGuard<'_, HashMap<Origin, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to fetch something because of `from`; `None` if it causes as many fetches as it may. What the node fetches of
    /// itself is not counted.
    pub(super) fn begin(&self, from: Option<Origin>) -> Option<Slot<'_>> {
        if let Some(from) = from {
            let mut counts = self.counts();
            let count = counts.entry(from).or_default();
            if *count >= MAX_FETCHES_OF_ONE {
                return None;
            }
            *count += 1;
        }
        Some(Slot { fetching: self, from })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut counts = self.fetching.counts();
        if let Some(count) = counts.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::outbox::Served, *};

    #[test]
    fn one_origin_has_so_many_fetches_under_way_and_others_do_not_notice() {
        let (fetching, served) = (Fetching::default(), Served::default());
        let (one, other) = (Some(served.origin("one")), Some(served.origin("other")));
        let mut slots: Vec<_> = (0..MAX_FETCHES_OF_ONE).map(|_| fetching.begin(one).unwrap()).collect();
        assert!(fetching.begin(one).is_none());
        assert!(fetching.begin(other).is_some() && fetching.begin(None).is_some());
        slots.pop();
        assert!(fetching.begin(one).is_some());
        slots.clear();
        assert!(fetching.counts().is_empty());
    }
}
