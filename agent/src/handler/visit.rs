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
    visit: Mutex<Visit>,
    full: AtomicBool,
}

impl LastVisit {
    /// Notes the latest result.
    pub(crate) fn note(&self, visit: Visit) {
        *self.visit.lock().unwrap_or_else(PoisonError::into_inner) = visit;
    }

    /// The latest result.
    pub(crate) fn get(&self) -> Visit {
        *self.visit.lock().unwrap_or_else(PoisonError::into_inner)
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
