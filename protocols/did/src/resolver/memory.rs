//! A bounded memory keyed by DID that many can read at once and that drops entries not used recently.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::{AtomicBool, Ordering},
};

use crate::Did;

/// Entries by DID, bounded by number and by weight.
///
/// "Second chance": reading only sets a flag, so a shared lock is enough; an entry whose flag is set moves to the end
/// of the queue once before it is dropped.
pub(super) struct Memory<T> {
    entries: HashMap<Did, Entry<T>>,
    queue: VecDeque<Did>,
    weight: usize,
    max_entries: usize,
    max_weight: usize,
}

struct Entry<T> {
    value: T,
    weight: usize,
    used: AtomicBool,
}

impl<T> Memory<T> {
    pub(super) fn new(max_entries: usize, max_weight: usize) -> Self {
        Self { entries: HashMap::new(), queue: VecDeque::new(), weight: 0, max_entries, max_weight }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn find(&self, did: &Did) -> Option<&T> {
        let entry = self.entries.get(did)?;
        // Written only when it changes: otherwise the flag's cache line would move between the readers' cores.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(&entry.value)
    }

    /// Adds or replaces an entry; then drops others until the bounds hold.
    pub(super) fn insert(&mut self, did: Did, value: T, weight: usize) {
        if weight > self.max_weight {
            self.remove(&did);
            return;
        }
        let entry = Entry { value, weight, used: AtomicBool::new(false) };
        match self.entries.insert(did.clone(), entry) {
            Some(old) => self.weight -= old.weight,
            None => self.queue.push_back(did),
        }
        self.weight += weight;
        while self.entries.len() > self.max_entries || self.weight > self.max_weight {
            let Some(oldest) = self.queue.pop_front() else { return };
            let spared =
                self.entries.get(&oldest).is_some_and(|entry| entry.used.swap(false, Ordering::Relaxed));
            if spared {
                self.queue.push_back(oldest);
            } else if let Some(entry) = self.entries.remove(&oldest) {
                self.weight -= entry.weight;
            }
        }
    }

    pub(super) fn remove(&mut self, did: &Did) {
        if let Some(entry) = self.entries.remove(did) {
            self.weight -= entry.weight;
            self.queue.retain(|queued| queued != did);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn did(n: usize) -> Did {
        Did::parse(&format!("did:example:{n}")).unwrap()
    }

    #[test]
    fn number_is_bounded_and_the_oldest_goes_first() {
        let mut memory = Memory::new(3, 100);
        for n in 0..5 {
            memory.insert(did(n), n, 1);
        }
        assert_eq!(memory.len(), 3);
        assert_eq!((memory.find(&did(1)), memory.find(&did(2))), (None, Some(&2)));
    }

    #[test]
    fn what_was_used_stays_longer_than_what_was_not() {
        let mut memory = Memory::new(3, 100);
        for n in 0..3 {
            memory.insert(did(n), n, 1);
        }
        memory.find(&did(0));
        memory.insert(did(3), 3, 1);
        assert_eq!((memory.find(&did(0)), memory.find(&did(1))), (Some(&0), None));
    }

    #[test]
    fn weight_is_bounded_and_kept_right_by_replacing_and_removing() {
        let mut memory = Memory::new(100, 10);
        memory.insert(did(0), 0, 6);
        memory.insert(did(1), 1, 6);
        assert_eq!((memory.find(&did(0)), memory.weight), (None, 6));
        memory.insert(did(1), 2, 3);
        assert_eq!((memory.find(&did(1)), memory.weight, memory.queue.len()), (Some(&2), 3, 1));
        memory.insert(did(2), 3, 11);
        assert_eq!((memory.find(&did(2)), memory.len()), (None, 1));
        memory.remove(&did(1));
        assert_eq!((memory.len(), memory.weight, memory.queue.len()), (0, 0, 0));
    }

    #[test]
    fn memory_with_every_entry_in_use_still_makes_room() {
        let mut memory = Memory::new(2, 100);
        for n in 0..10 {
            memory.insert(did(n), n, 1);
            memory.find(&did(n));
        }
        assert_eq!(memory.len(), 2);
    }
}
