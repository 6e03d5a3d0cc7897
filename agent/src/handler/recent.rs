//! A bounded memory of messages that leave no trace in the store: strangers send as many as they like.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// At least this many ids are remembered; at most twice as many.
const REMEMBERED: usize = 50_000;

/// A bounded memory by id, in two generations.
#[derive(Debug)]
pub(crate) struct Recent<V>(Mutex<Generations<V>>);

#[derive(Debug)]
struct Generations<V> {
    young: HashMap<String, V>,
    old: HashMap<String, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self(Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() }))
    }
}

impl<V: Copy> Recent<V> {
    /// What is remembered about an id.
    pub(crate) fn get(&self, id: &str) -> Option<V> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.young.get(id).or_else(|| memory.old.get(id)).copied()
    }

    /// Remembers something about an id; the oldest ids are forgotten to make room.
    pub(crate) fn put(&self, id: &str, value: V) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.young.len() >= REMEMBERED {
            memory.old = std::mem::take(&mut memory.young);
        }
        memory.young.insert(id.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_no_more_than_twice_the_bound() {
        let recent = Recent::default();
        for number in 0..=3 * REMEMBERED {
            recent.put(&number.to_string(), number);
        }
        let last = 3 * REMEMBERED;
        assert_eq!(recent.get(&last.to_string()), Some(last));
        assert_eq!(recent.get(&(last - REMEMBERED + 1).to_string()), Some(last - REMEMBERED + 1));
        assert_eq!(recent.get("0"), None);
        let memory = recent.0.lock().unwrap();
        assert!(memory.young.len() + memory.old.len() <= 2 * REMEMBERED);
        drop(memory);
        recent.put("x", 1);
        recent.put("x", 2);
        assert_eq!(recent.get("x"), Some(2));
    }
}
