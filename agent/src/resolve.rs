//! DID resolution as the node does it: computed, remembered, or asked to be fetched.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use einmal_did::{Did, DidDocument, LocalResolver, ResolveError, Resolver};

use crate::{
    clock::Clock,
    db::{Db, KNOWN_DIDS, OWN_DIDS, did_id},
    identity::OwnDid,
};

/// Most fetched documents kept in memory.
pub const MAX_CACHED_DOCUMENTS: usize = 4096;

/// Milliseconds a fetched document counts as fresh.
pub const DOCUMENT_TTL_MS: u64 = 5 * 60 * 1000;

/// Milliseconds a failed fetch is not tried again.
pub const FAILURE_TTL_MS: u64 = 2000;

/// What is remembered about a DID that must be fetched.
#[derive(Clone)]
enum Fetched {
    Document(Arc<DidDocument>),
    Failed,
}

/// The node's resolver: did:key and did:peer by computation, did:web from a bounded, expiring cache, our own DIDs
/// from what we publish. Does no I/O: what must be fetched comes back as [`ResolveError::NotFetched`].
pub struct NodeResolver {
    local: LocalResolver,
    own: RwLock<HashMap<Did, Arc<DidDocument>>>,
    web: RwLock<HashMap<Did, (Range<u64>, Fetched)>>,
    db: Db,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for NodeResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeResolver(..)")
    }
}

impl NodeResolver {
    /// A resolver that looks up long forms in `db`.
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { local: LocalResolver::default(), own: RwLock::default(), web: RwLock::default(), db, clock }
    }

    /// Publishes one of our own documents.
    pub fn publish(&self, document: Arc<DidDocument>) {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        own.insert(document.id.canonical(), document);
    }

    /// The document we publish for one of our DIDs.
    pub fn own(&self, did: &Did) -> Option<Arc<DidDocument>> {
        self.own.read().unwrap_or_else(PoisonError::into_inner).get(&did.canonical()).cloned()
    }

    /// Remembers a fetched document.
    pub fn remember(&self, did: &Did, document: DidDocument) {
        self.keep(did, DOCUMENT_TTL_MS, Fetched::Document(Arc::new(document)));
    }

    /// Remembers that a fetch failed, so that an event waiting for it fails too instead of asking again.
    pub fn remember_failure(&self, did: &Did) {
        self.keep(did, FAILURE_TTL_MS, Fetched::Failed);
    }

    fn keep(&self, did: &Did, ttl_ms: u64, what: Fetched) {
        let now = self.clock.now_ms();
        let mut web = self.web.write().unwrap_or_else(PoisonError::into_inner);
        if web.len() >= MAX_CACHED_DOCUMENTS {
            web.retain(|_, (fresh, _)| fresh.contains(&now));
        }
        if web.len() >= MAX_CACHED_DOCUMENTS {
            // Still full of fresh ones: forget all rather than let a flood of DIDs grow or pin the cache.
            web.clear();
        }
        // Also not before it was fetched: else the clock, set back, would keep it fresh for as long.
        web.insert(did.canonical(), (now..now.saturating_add(ttl_ms), what));
    }

    fn fetched(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        let web = self.web.read().unwrap_or_else(PoisonError::into_inner);
        match web.get(&did.canonical()) {
            Some((fresh, found)) if fresh.contains(&self.clock.now_ms()) => match found {
                Fetched::Document(document) => Ok(Arc::clone(document)),
                Fetched::Failed => Err(ResolveError::NotFound { did: did.clone() }),
            },
            _ => Err(ResolveError::NotFetched { did: did.clone() }),
        }
    }

    /// The long form we have stored for a short did:peer:4.
    fn long_form(&self, did: &Did) -> Option<Did> {
        if let Some(known) = self.db.get::<Did>(KNOWN_DIDS, did_id(did)).ok()? {
            return Some(known.value);
        }
        let own = self.db.get::<OwnDid>(OWN_DIDS, did_id(did)).ok()??;
        Some(own.value.did)
    }
}

impl Resolver for NodeResolver {
    fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        if let Some(own) = self.own(did) {
            return Ok(own);
        }
        if did.method() == "web" {
            return self.fetched(did);
        }
        match self.local.resolve(did) {
            Err(ResolveError::NotFound { did }) => {
                let long = self.long_form(&did).ok_or(ResolveError::NotFound { did: did.clone() })?;
                self.local.resolve(&long)?;
                self.local.resolve(&did)
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use einmal_storage::{MemoryStore, TenantId};

    use super::*;
    use crate::clock::ManualClock;

    const START: u64 = 1_780_000_000_000;

    fn resolver(clock: &Arc<ManualClock>) -> NodeResolver {
        let db = Db::new(Arc::new(MemoryStore::new()), TenantId::default());
        NodeResolver::new(db, Arc::clone(clock) as Arc<dyn Clock>)
    }

    #[test]
    fn a_document_is_fresh_for_its_time_and_not_before_it_was_fetched() {
        let clock = Arc::new(ManualClock::at(START));
        let resolver = resolver(&clock);
        let did = Did::parse("did:web:city.example").unwrap();
        let not_fetched = Err(ResolveError::NotFetched { did: did.clone() });
        let found = |resolver: &NodeResolver| resolver.resolve(&did).map(|_| ());
        resolver.remember(&did, DidDocument::new(did.clone()));
        clock.advance(DOCUMENT_TTL_MS - 1);
        assert_eq!(found(&resolver), Ok(()));
        clock.advance(1);
        assert_eq!(found(&resolver), not_fetched);
        resolver.remember(&did, DidDocument::new(did.clone()));
        assert_eq!(found(&resolver), Ok(()));
        // The clock was ten years ahead and is set right.
        clock.set(START);
        assert_eq!(found(&resolver), not_fetched);
        resolver.remember_failure(&did);
        assert_eq!(found(&resolver), Err(ResolveError::NotFound { did: did.clone() }));
        clock.set(START - 3_600_000);
        assert_eq!(found(&resolver), not_fetched);
    }
}
