//! Messages seen lately that left no trace in the store: questions whose repetition does no harm but is refused.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

/// Ids remembered at least; twice as many at most.
const REMEMBERED: usize = 50_000;

/// A bounded memory of message ids, in two generations.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<String>,
    old: HashSet<String>,
}

impl Recent {
    /// Whether an id is remembered.
    pub(super) fn knows(&self, id: &str) -> bool {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.young.contains(id) || memory.old.contains(id)
    }

    /// Remembers an id; the oldest are forgotten for it.
    pub(super) fn remember(&self, id: &str) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.young.len() >= REMEMBERED {
            memory.old = std::mem::take(&mut memory.young);
        }
        memory.young.insert(id.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fifty_thousand_are_remembered_and_memory_stays_bounded() {
        let recent = Recent::default();
        for id in 0..3 * REMEMBERED {
            recent.remember(&id.to_string());
        }
        assert!(recent.knows(&(3 * REMEMBERED - 1).to_string()));
        assert!(recent.knows(&(2 * REMEMBERED + 1).to_string()));
        assert!(!recent.knows("0") && !recent.knows("never seen"));
        let memory = recent.0.lock().unwrap();
        assert!(memory.young.len() + memory.old.len() <= 2 * REMEMBERED);
    }
}
