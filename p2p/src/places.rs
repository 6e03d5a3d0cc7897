//! Places for messages held in memory: a limited number in total, and a part of them for one source.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::source::Source;

/// One source gets one part in this many of the places, but at least one: a source that drips in its messages blocks
/// nobody else.
const SHARE_OF_ONE: usize = 8;

/// Places of one kind.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    of_one: usize,
    taken: Mutex<HashMap<Source, usize>>,
}

/// A place, held until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    source: Source,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let of_one = most.div_ceil(SHARE_OF_ONE);
        Arc::new(Self { all: Arc::new(Semaphore::new(most)), of_one, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a message from `source`, if one is left for it.
    pub(crate) fn take(self: &Arc<Self>, source: Source) -> Option<Place> {
        let mut taken = self.taken();
        let of_it = taken.get(&source).copied().unwrap_or_default();
        if of_it >= self.of_one {
            return None;
        }
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        taken.insert(source, of_it + 1);
        drop(taken);
        Some(Place { places: Arc::clone(self), source, _of_all: permit })
    }
}

impl Place {
    /// The source that holds it.
    pub(crate) fn source(&self) -> Source {
        self.source
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(of_it) = taken.get_mut(&self.source) {
            *of_it -= 1;
            if *of_it == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn one_source_has_an_eighth_of_the_places_and_gets_them_back() {
        let places = Places::new(16);
        let mut held: Vec<_> = (0..2).map(|_| places.take(source(1)).unwrap()).collect();
        assert!(places.take(source(1)).is_none());
        assert!(places.take(source(2)).is_some(), "another notices nothing");
        held.pop();
        assert!(places.take(source(1)).is_some());
        drop(held);
        assert!(places.taken().is_empty());
        assert_eq!(places.all.available_permits(), 16);
    }

    #[test]
    fn all_sources_together_have_no_more_places_than_there_are() {
        let places = Places::new(4);
        let held: Vec<_> = (0..9).filter_map(|last| places.take(source(last))).collect();
        assert_eq!(held.len(), 4);
        assert_eq!(places.taken().len(), 4, "who got none is not counted");
        drop(held);
        assert_eq!(Places::new(1).of_one, 1);
    }
}
