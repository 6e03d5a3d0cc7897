//! DID resolution as the node does it: computed, remembered, or reported as to be fetched.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use einmal_did::{Did, DidDocument, LocalResolver, ResolveError, Resolver, web};
use einmal_storage::StoreError;

use crate::{
    clock::Clock,
    db::{Db, KNOWN_DIDS, OWN_DIDS, did_id},
    identity::OwnDid,
};

/// Most fetched documents kept in memory.
pub const MAX_CACHED_DOCUMENTS: usize = 4096;

/// Most memory they take together, in bytes, estimated.
pub const MAX_CACHED_BYTES: usize = 64 * 1024 * 1024;

/// Milliseconds a fetched document counts as fresh.
pub const DOCUMENT_TTL_MS: u64 = 5 * 60 * 1000;

/// Milliseconds before a failed fetch is tried again.
///
/// Longer than several fetches that time out in sequence: a message with more than one way gets to the last of them.
pub const FAILURE_TTL_MS: u64 = 15_000;

/// Fetched documents, each with the period in which it is fresh.
#[derive(Default)]
struct Cache {
    entries: HashMap<Did, (Range<u64>, Arc<DidDocument>)>,
    weight: usize,
    /// DIDs whose fetch failed, and how long that counts. Kept apart, because naming them costs nothing.
    failures: HashMap<Did, Range<u64>>,
}

impl Cache {
    fn keep(&mut self, did: Did, now: u64, document: Arc<DidDocument>) {
        let weight = document.weight();
        if self.is_full_with(weight) {
            self.entries.retain(|_, (fresh, _)| fresh.contains(&now));
            self.weight = self.entries.values().map(|(_, document)| document.weight()).sum();
        }
        if self.is_full_with(weight) {
            // Still full of fresh ones: forget all rather than let a flood of DIDs grow or pin the cache.
            self.entries.clear();
            self.weight = 0;
        }
        self.weight += weight;
        self.failures.remove(&did);
        // Not before it was fetched either: otherwise a clock that is set back would keep it fresh all that time.
        let fresh = now..now.saturating_add(DOCUMENT_TTL_MS);
        if let Some((_, old)) = self.entries.insert(did, (fresh, document)) {
            self.weight = self.weight.saturating_sub(old.weight());
        }
    }

    fn keep_failure(&mut self, did: Did, now: u64) {
        if self.failures.len() >= MAX_CACHED_DOCUMENTS {
            self.failures.clear();
        }
        // If a document was fetched meanwhile, this is not a failure.
        if self.entries.get(&did).is_none_or(|(fresh, _)| !fresh.contains(&now)) {
            self.failures.insert(did, now..now.saturating_add(FAILURE_TTL_MS));
        }
    }

    fn is_full_with(&self, more: usize) -> bool {
        self.entries.len() >= MAX_CACHED_DOCUMENTS || self.weight.saturating_add(more) > MAX_CACHED_BYTES
    }
}

/// The node's resolver: did:key and did:peer by computation, did:web from a bounded, expiring cache, our own DIDs from
/// what we publish. Does no I/O: a document to be fetched is reported as [`ResolveError::NotFetched`].
pub struct NodeResolver {
    local: LocalResolver,
    own: RwLock<HashMap<Did, Arc<DidDocument>>>,
    web: RwLock<Cache>,
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
    pub fn remember(&self, did: &Did, mut document: DidDocument) {
        document.forget_opaque_services();
        let mut web = self.web.write().unwrap_or_else(PoisonError::into_inner);
        web.keep(did.canonical(), self.clock.now_ms(), Arc::new(document));
    }

    /// Remembers that a fetch failed, so that an event waiting for it fails too instead of asking again.
    pub fn remember_failure(&self, did: &Did) {
        let mut web = self.web.write().unwrap_or_else(PoisonError::into_inner);
        web.keep_failure(did.canonical(), self.clock.now_ms());
    }

    fn fetched(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        let (web, key, now) =
            (self.web.read().unwrap_or_else(PoisonError::into_inner), did.canonical(), self.clock.now_ms());
        if let Some((_, document)) = web.entries.get(&key).filter(|(fresh, _)| fresh.contains(&now)) {
            return Ok(Arc::clone(document));
        }
        if web.failures.get(&key).is_some_and(|fresh| fresh.contains(&now)) {
            return Err(ResolveError::NotFound { did: did.clone() });
        }
        Err(ResolveError::NotFetched { did: did.clone() })
    }

    /// The long form of a did:peer:4: given as such, or seen since the start; `None` for all other DIDs.
    pub(crate) fn long_form_of(&self, did: &Did) -> Option<Did> {
        let short = did.canonical();
        let is_long = did.method() == "peer" && short.as_str() != did.as_str();
        if is_long { Some(did.clone()) } else { self.local.long_form(&short) }
    }

    /// The long form we have stored for a short did:peer:4.
    fn long_form(&self, did: &Did) -> Result<Option<Did>, StoreError> {
        if let Some(known) = self.db.get::<Did>(KNOWN_DIDS, did_id(did))? {
            return Ok(Some(known.value));
        }
        let own = self.db.get::<OwnDid>(OWN_DIDS, did_id(did))?;
        Ok(own.map(|own| own.value.did))
    }
}

impl Resolver for NodeResolver {
    fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        if let Some(own) = self.own(did) {
            return Ok(own);
        }
        if did.method() == "web" {
            // What is no name of a place will not become one.
            web::location(did).map_err(ResolveError::from)?;
            return self.fetched(did);
        }
        match self.local.resolve(did) {
            Err(ResolveError::NotFound { did }) => {
                // A store that cannot be read does not mean that a DID is unknown: what needs it must wait, not be
                // given up.
                let stored = self.long_form(&did).map_err(|error| {
                    tracing::error!(%error, "a stored DID cannot be read");
                    ResolveError::Unavailable { did: did.clone() }
                })?;
                let long = stored.ok_or(ResolveError::NotFound { did: did.clone() })?;
                self.local.resolve(&long)?;
                self.local.resolve(&did)
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use einmal_did::Relationship;
    use einmal_keys::{KeyKind, SecretKey, SeededEntropy};
    use einmal_storage::{MemoryStore, TenantId};

    use super::*;
    use crate::{
        clock::ManualClock,
        handler::{Failure, Refusal},
    };

    const START: u64 = 1_780_000_000_000;

    fn resolver(clock: &Arc<ManualClock>) -> NodeResolver {
        let db = Db::new(Arc::new(MemoryStore::new()), TenantId::default());
        NodeResolver::new(db, Arc::clone(clock) as Arc<dyn Clock>)
    }

    #[test]
    fn the_cache_is_bounded_by_what_its_documents_weigh() {
        let mut cache = Cache::default();
        let did = |number: usize| Did::parse(&format!("did:web:{number}.example")).unwrap();
        let heavy = |number: usize| {
            let mut document = DidDocument::new(did(number));
            for key in 0..60 {
                let fragment = format!("{key}-{}", "x".repeat(8_000));
                let key = SecretKey::generate(KeyKind::Ed25519, &SeededEntropy::new(1)).unwrap().public_key();
                document.add_method(&fragment, key, &[Relationship::Authentication]).unwrap();
            }
            Arc::new(document)
        };
        let mut most = 0;
        for number in 0..300 {
            cache.keep(did(number), START, heavy(number));
            cache.keep(did(number), START, heavy(number));
            let weight: usize = cache.entries.values().map(|(_, document)| document.weight()).sum();
            assert_eq!(cache.weight, weight);
            most = most.max(weight);
        }
        assert!(most <= MAX_CACHED_BYTES && most > MAX_CACHED_BYTES / 2, "{most}");
        assert!(cache.entries.contains_key(&did(299)));
        let documents = cache.entries.len();
        for number in 1_000..1_000 + 2 * MAX_CACHED_DOCUMENTS {
            cache.keep_failure(did(number), START);
        }
        assert_eq!(cache.entries.len(), documents, "what cannot be fetched takes nobody's room");
        assert!(cache.failures.len() <= MAX_CACHED_DOCUMENTS);
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
        // The clock was ten years ahead and is corrected.
        clock.set(START);
        assert_eq!(found(&resolver), not_fetched);
        resolver.remember_failure(&did);
        assert_eq!(found(&resolver), Err(ResolveError::NotFound { did: did.clone() }));
        clock.set(START - 3_600_000);
        assert_eq!(found(&resolver), not_fetched);
    }

    /// It would be fetched in vain for days.
    #[test]
    fn did_of_the_web_that_names_no_safe_place_is_refused_for_good() {
        let resolver = resolver(&Arc::new(ManualClock::at(0)));
        for text in ["did:web:a.example:..", "did:web:a.example:a%2Fb", "did:web:1.1.1.1"] {
            let refused = resolver.resolve(&Did::parse(text).unwrap()).unwrap_err();
            assert!(matches!(refused, ResolveError::Invalid(_)), "{refused}");
        }
    }

    #[test]
    fn a_stored_did_that_cannot_be_read_is_not_an_unknown_one() {
        let resolver = resolver(&Arc::new(ManualClock::at(START)));
        let key = SecretKey::generate(KeyKind::X25519, &SeededEntropy::new(1)).unwrap().public_key();
        let input = einmal_did::peer::four::InputDocument::new();
        let made = input.add_method("key-1", key, &[Relationship::KeyAgreement]).create().unwrap();
        let short = made.short;
        let unknown = ResolveError::NotFound { did: short.clone() };
        assert_eq!(resolver.resolve(&short).map(|_| ()), Err(unknown));
        let place = resolver.db.key(KNOWN_DIDS, did_id(&short)).unwrap();
        let mut batch = einmal_storage::Batch::new();
        batch.put(place, b"no JSON".to_vec());
        resolver.db.store().commit(batch).wait().unwrap();
        let unread = ResolveError::Unavailable { did: short.clone() };
        assert_eq!(resolver.resolve(&short).map(|_| ()), Err(unread.clone()));
        let error = einmal_didcomm::OpenError::Resolve { did: short, source: unread };
        assert_eq!(Refusal::from(&Failure::Open(error)), Refusal::Unavailable);
    }
}
