//! How many fetches are under way because of whom: nobody may keep others' documents from being fetched.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use einmal_did::Did;

use super::Origin;

/// Most fetches under way at once because of one origin: an eighth of those of all (`net/client.rs`).
const MAX_FETCHES_OF_ONE: usize = 16;

/// The fetches under way, by origin, and of which documents.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    counts: Mutex<HashMap<Origin, usize>>,
    documents: Mutex<HashMap<Did, Arc<Gate>>>,
}

/// Where those wait who want the same document.
type Gate = tokio::sync::Mutex<()>;

/// Leave to fetch, until dropped.
#[must_use]
pub(super) struct Slot<'a> {
    fetching: &'a Fetching,
    from: Option<Origin>,
}

impl Fetching {
    fn counts(&self) -> MutexGuard<'_, HashMap<Origin, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else fetches the document of `did`; whoever waited finds it fetched, most likely.
    pub(super) async fn alone(&self, did: &Did) -> impl Drop {
        let gate = {
            let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
            // Those nobody waits for or has are not kept.
            documents.retain(|_, gate| Arc::strong_count(gate) > 1);
            Arc::clone(documents.entry(did.clone()).or_default())
        };
        gate.lock_owned().await
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
