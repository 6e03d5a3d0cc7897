//! How many fetches each origin has under way: nobody may keep others' documents from being fetched.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use einmal_did::Did;

use crate::handler::Origin;

/// Most fetches under way at once because of one origin: an eighth of the total (`net/client.rs`).
const MAX_FETCHES_OF_ONE: usize = 16;

/// Most that wait or fetch because of one origin: each of them holds one of the 256 turns meanwhile.
const MAX_WAITING_OF_ONE: usize = 48;

/// The fetches under way, by origin and by document.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    counts: Counts,
    /// Includes those that wait for another's fetch.
    waiting: Counts,
    documents: Mutex<HashMap<Did, Arc<Gate>>>,
}

type Counts = Mutex<HashMap<Origin, usize>>;

/// The queue of those that want the same document.
type Gate = tokio::sync::Mutex<()>;

/// Permission to wait or to fetch, held until dropped.
#[must_use]
pub(super) struct Slot<'a> {
    counts: &'a Counts,
    from: Option<Origin>,
}

fn locked(counts: &Counts) -> MutexGuard<'_, HashMap<Origin, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter(counts: &Counts, from: Option<Origin>, most: usize) -> Option<Slot<'_>> {
    if let Some(from) = from {
        let mut counts = locked(counts);
        let count = counts.entry(from).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
    }
    Some(Slot { counts, from })
}

impl Fetching {
    /// Permission to wait because of `from`; `None` if that origin is at its limit. The node itself has no limit.
    pub(super) fn wait(&self, from: Option<Origin>) -> Option<Slot<'_>> {
        enter(&self.waiting, from, MAX_WAITING_OF_ONE)
    }

    /// Waits until nobody else fetches the document of `did`; after waiting, it has most likely been fetched.
    pub(super) async fn alone(&self, did: &Did) -> impl Drop {
        let gate = {
            let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
            // Gates that nobody holds or waits for are dropped.
            documents.retain(|_, gate| Arc::strong_count(gate) > 1);
            Arc::clone(documents.entry(did.clone()).or_default())
        };
        gate.lock_owned().await
    }

    /// Permission to fetch because of `from`; `None` if it already causes as many fetches as it may.
    pub(super) fn begin(&self, from: Option<Origin>) -> Option<Slot<'_>> {
        enter(&self.counts, from, MAX_FETCHES_OF_ONE)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut counts = locked(self.counts);
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
        assert!(locked(&fetching.counts).is_empty());
        let waiting: Vec<_> = (0..MAX_WAITING_OF_ONE).map(|_| fetching.wait(one).unwrap()).collect();
        assert!(fetching.wait(one).is_none() && fetching.wait(other).is_some());
        drop(waiting);
        assert!(locked(&fetching.waiting).is_empty());
    }
}
