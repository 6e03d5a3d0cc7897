//! The result of the last look into the citizen's mailbox, for status answers.

use std::sync::{Mutex, PoisonError};

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
}

/// The result of the last look into the mailbox.
#[derive(Debug, Default)]
pub(crate) struct LastVisit(Mutex<Visit>);

impl LastVisit {
    /// Notes the latest result.
    pub(crate) fn note(&self, visit: Visit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = visit;
    }

    /// The latest result.
    pub(crate) fn get(&self) -> Visit {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
