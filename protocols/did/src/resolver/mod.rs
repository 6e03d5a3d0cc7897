//! Resolves DIDs without the network: by computation, and from bounded memory.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

mod memory;
#[cfg(test)]
mod tests;

use self::memory::Memory;
use crate::{
    DerivedAgreement, Did, DidDocument, DidError, key,
    limits::{MAX_COMPUTED_DOCUMENTS, MAX_LEARNT_FORMS, MAX_MEMORY_BYTES, MAX_REMEMBERED_DOCUMENTS},
    peer::{PeerForm, four, three, two, zero},
};

/// Resolves DIDs immediately, by computation or from memory, without I/O.
pub trait Resolver: Send + Sync {
    /// The document of `did`.
    ///
    /// # Errors
    ///
    /// [`ResolveError`]; after [`ResolveError::NotFetched`] the node fetches the document, hands it in, and asks again.
    fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError>;
}

impl<R: Resolver + ?Sized> Resolver for Arc<R> {
    fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        (**self).resolve(did)
    }
}

impl<R: Resolver + ?Sized> Resolver for &R {
    fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        (**self).resolve(did)
    }
}

/// There is no document for a DID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The DID, or the document in it, breaks the rules of its method.
    #[error(transparent)]
    Invalid(#[from] DidError),
    /// einmal does not support the method.
    #[error("DIDs of method `{method}` are not supported")]
    UnsupportedMethod {
        /// Name of the method.
        method: String,
    },
    /// A short form whose long form was never seen, or was forgotten. The node may still know it and can have the
    /// resolver learn it.
    #[error("the long form of {did:?} is not known; ask the peer to send it")]
    NotFound {
        /// The requested DID.
        did: Did,
    },
    /// It cannot be determined at present whether the DID is known, through no fault of its owner; it may work later.
    #[error("what is known of {did:?} cannot be read at present")]
    Unavailable {
        /// The requested DID.
        did: Did,
    },
    /// The document must be fetched first.
    #[error("the document of {did:?} is not at hand and must be fetched")]
    NotFetched {
        /// The requested DID.
        did: Did,
    },
}

/// Computes did:key and did:peer 0, 2, 3 and 4, and remembers documents of other methods that are handed in.
///
/// All its memories are bounded by number and by size; the least recently used entries go first. It learns each long
/// form when it resolves one. Since many new ones can push out old ones, the node stores those it needs and has them
/// learnt again after [`ResolveError::NotFound`].
pub struct LocalResolver {
    derived: DerivedAgreement,
    computed: RwLock<Memory<Arc<DidDocument>>>,
    remembered: RwLock<Memory<Arc<DidDocument>>>,
    /// Long forms by short form.
    learnt: RwLock<Memory<Did>>,
}

impl LocalResolver {
    /// An empty resolver that derives an agreement key if a DID is a single Ed25519 key.
    pub fn new() -> Self {
        Self::with_derived_agreement(DerivedAgreement::Included)
    }

    /// The same, with a choice about that key.
    pub fn with_derived_agreement(derived: DerivedAgreement) -> Self {
        Self {
            derived,
            computed: RwLock::new(Memory::new(MAX_COMPUTED_DOCUMENTS, MAX_MEMORY_BYTES)),
            remembered: RwLock::new(Memory::new(MAX_REMEMBERED_DOCUMENTS, MAX_MEMORY_BYTES)),
            learnt: RwLock::new(Memory::new(MAX_LEARNT_FORMS, MAX_MEMORY_BYTES)),
        }
    }

    /// Remembers a document that was fetched and checked; it replaces an earlier one of the same DID.
    ///
    /// A document of did:key or did:peer is ignored: it follows from the DID and is never taken from elsewhere.
    pub fn remember(&self, document: DidDocument) {
        if matches!(document.id.method(), "key" | "peer") {
            return;
        }
        let weight = document.weight();
        write(&self.remembered).insert(document.id.canonical(), Arc::new(document), weight);
    }

    /// Forgets a document that was handed in, so that it must be fetched again.
    pub fn forget(&self, did: &Did) {
        write(&self.remembered).remove(&did.canonical());
    }

    /// Learns the long form of a did:peer:3 (which is a did:peer:2) or of a did:peer:4, and returns the short form.
    ///
    /// # Errors
    ///
    /// [`DidError`] if `long` is not such a form or breaks its rules; nothing is learnt then.
    pub fn learn(&self, long: &Did) -> Result<Did, DidError> {
        let short = match PeerForm::of(long)? {
            PeerForm::Two => {
                two::document(long)?;
                three::short_form(long)?
            }
            PeerForm::FourLong => {
                four::document(long)?;
                four::short_form(long)?
            }
            _ => return Err(DidError::WrongMethod { expected: "did:peer:2 or did:peer:4 in its long form" }),
        };
        self.keep_long(&short, long);
        Ok(short)
    }

    /// The long form learnt for a short form.
    pub fn long_form(&self, short: &Did) -> Option<Did> {
        read(&self.learnt).find(short).cloned()
    }

    fn keep_long(&self, short: &Did, long: &Did) {
        let weight = short.as_str().len() + long.as_str().len();
        write(&self.learnt).insert(short.clone(), long.clone(), weight);
    }

    fn compute_peer(&self, did: &Did) -> Result<DidDocument, ResolveError> {
        let long = || self.long_form(did).ok_or_else(|| ResolveError::NotFound { did: did.clone() });
        Ok(match PeerForm::of(did)? {
            PeerForm::Zero => zero::document(did, self.derived)?,
            PeerForm::Two => {
                let document = two::document(did)?;
                self.keep_long(&three::short_form(did)?, did);
                document
            }
            PeerForm::Three => {
                three::check(did)?;
                three::document(&long()?)?
            }
            PeerForm::FourLong => {
                let document = four::document(did)?;
                self.keep_long(&four::short_form(did)?, did);
                document
            }
            PeerForm::FourShort => {
                four::short_form(did)?;
                four::short_document(&long()?)?
            }
        })
    }

    /// Looks up documents of methods that cannot be computed.
    fn recall(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        {
            // First as requested: nearly always that is the canonical spelling, and it costs only one look-up.
            let remembered = read(&self.remembered);
            if let Some(document) = remembered.find(did).or_else(|| remembered.find(&did.canonical())) {
                return Ok(Arc::clone(document));
            }
        }
        if did.method() != "web" {
            return Err(ResolveError::UnsupportedMethod { method: did.method().to_owned() });
        }
        crate::web::location(did)?;
        Err(ResolveError::NotFetched { did: did.clone() })
    }
}

impl Resolver for LocalResolver {
    fn resolve(&self, did: &Did) -> Result<Arc<DidDocument>, ResolveError> {
        if !matches!(did.method(), "key" | "peer") {
            return self.recall(did);
        }
        if let Some(document) = read(&self.computed).find(did) {
            return Ok(Arc::clone(document));
        }
        let document = match did.method() {
            "key" => key::document(did, self.derived)?,
            _ => self.compute_peer(did)?,
        };
        let (weight, document) = (document.weight(), Arc::new(document));
        write(&self.computed).insert(did.clone(), Arc::clone(&document), weight);
        Ok(document)
    }
}

/// A panic elsewhere cannot leave these memories half changed: each change is one call.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Default for LocalResolver {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows how much is kept, but no DIDs.
impl std::fmt::Debug for LocalResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalResolver")
            .field("computed", &read(&self.computed).len())
            .field("remembered", &read(&self.remembered).len())
            .field("learnt", &read(&self.learnt).len())
            .finish_non_exhaustive()
    }
}
