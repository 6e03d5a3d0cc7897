//! What of ours a mediator takes no messages for: its list is read page by page and held against ours.

use std::collections::HashSet;

use einmal_did::Did;
use einmal_didcomm::ThreadId;

use super::{Paginate, RecipientList, RecipientQuery};
use crate::{Draft, limits::MAX_RECIPIENT_PAGE};

/// Most pages read of one list: foreign mediators may make them smaller than they are asked to.
pub(super) const MAX_PAGES: usize = 64;

/// A comparison under way.
#[derive(Clone, PartialEq)]
pub(super) struct Comparison {
    pub(super) thid: ThreadId,
    /// Those of ours that were on no page so far.
    pub(super) missing: Vec<Did>,
    seen: u64,
    pages: usize,
}

impl Comparison {
    pub(super) fn new(ours: Vec<Did>, thid: ThreadId) -> Self {
        Self { thid, missing: ours, seen: 0, pages: 0 }
    }

    /// Asks for the page behind the first `offset` entries.
    pub(super) fn query(offset: u64) -> Draft {
        Draft::of(&RecipientQuery { paginate: Some(Paginate { limit: MAX_RECIPIENT_PAGE as u64, offset }) })
    }

    /// Takes a page; returns the query for the next one, or `None` after the last.
    ///
    /// A mediator that names no page has given everything; one that goes on without end is not followed.
    pub(super) fn take(&mut self, list: &RecipientList) -> Option<Draft> {
        let listed = list.dids.iter().filter_map(|entry| Did::parse(&entry.recipient_did).ok());
        let listed: HashSet<Did> = listed.map(|did| did.canonical()).collect();
        self.missing.retain(|did| !listed.contains(&did.canonical()));
        self.seen = self.seen.saturating_add(list.dids.len() as u64);
        self.pages += 1;
        let is_last = list.pagination.is_none_or(|page| page.remaining == 0);
        let ends = is_last || list.dids.is_empty() || self.missing.is_empty() || self.pages >= MAX_PAGES;
        (!ends).then(|| Self::query(self.seen))
    }
}
