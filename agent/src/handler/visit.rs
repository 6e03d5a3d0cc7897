//! The result of the last look into the citizen's mailbox, for status answers.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};

/// The result of a look into the mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Visit {
    /// There was none since the start.
    #[default]
    None,
    /// The mediator was reached.
    Done,
    /// It was not reached.
    Failed,
    /// It was, and knows no account of ours.
    NotEnrolled,
}

/// The result of the last look into the mailbox.
#[derive(Debug, Default)]
pub(crate) struct LastVisit {
    /// The result, and when the mailbox was empty, in milliseconds of a clock that counts the time asleep.
    visit: Mutex<(Visit, Option<u64>)>,
    full: AtomicBool,
}

impl LastVisit {
    /// Notes the latest result, of a look that ended at `now_ms` with an empty mailbox, or at `None` with something left in it.
    pub(crate) fn note(&self, visit: Visit, now_ms: Option<u64>) {
        *self.visit.lock().unwrap_or_else(PoisonError::into_inner) = (visit, now_ms);
    }

    /// The latest result.
    pub(crate) fn get(&self) -> Visit {
        self.visit.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether all mail was fetched less than `within_ms` before `now_ms`.
    pub(crate) fn was_lately(&self, now_ms: u64, within_ms: u64) -> bool {
        let (visit, at_ms) = *self.visit.lock().unwrap_or_else(PoisonError::into_inner);
        visit == Visit::Done && at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < within_ms)
    }

    /// Notes whether the mediator has refused to take one more DID for the account.
    pub(crate) fn note_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Whether it has refused that the last time.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}
