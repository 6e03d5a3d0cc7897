//! Records what goes over the network of a world: two runs with one seed must have the same trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use einmal::net::{BoxFuture, FetchError, Fetcher, SendError, Transport, memory::MemoryNetwork};
use einmal_did::{Did, DidDocument};
use sha2::{Digest, Sha256};

/// How a party that is no node treats an envelope; it may answer.
type Answer = Arc<dyn Fn(Vec<u8>) -> Option<Vec<u8>> + Send + Sync>;

/// The network as one node sees it; everything the node sends or fetches is recorded in a book shared by all nodes.
#[derive(Clone)]
pub struct Wire {
    name: String,
    network: Arc<MemoryNetwork>,
    book: Arc<Mutex<Vec<String>>>,
    strangers: Arc<Mutex<BTreeMap<String, Answer>>>,
    gone: Arc<Mutex<BTreeSet<String>>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Wire {
    /// The network of a world, as `name` sees it.
    pub fn new(name: &str, network: Arc<MemoryNetwork>) -> Self {
        Self {
            name: name.to_owned(),
            network,
            book: Arc::default(),
            strangers: Arc::default(),
            gone: Arc::default(),
        }
    }

    /// The same network and book, as seen by another node.
    #[must_use]
    pub fn of(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    /// Lets a party that is no node answer at `uri`.
    pub fn answer(&self, uri: &str, answer: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static) {
        self.strangers().insert(uri.to_owned(), Arc::new(answer));
    }

    /// Keeps every envelope sent to `uri`, and returns where they are kept.
    pub fn catch(&self, uri: &str) -> Arc<Mutex<Vec<Vec<u8>>>> {
        let caught = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = Arc::clone(&caught);
        self.answer(uri, move |envelope| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(envelope);
            None
        });
        caught
    }

    /// Makes the status list at `uri` unavailable.
    pub fn lose_status_list(&self, uri: &str) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(uri.to_owned());
    }

    /// Makes it available again.
    pub fn find_status_list(&self, uri: &str) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(uri);
    }

    /// Records an event in the book.
    pub fn note(&self, event: &str) {
        let line = format!("{} {event}", self.name);
        self.book().push(line);
    }

    /// The events so far.
    pub fn events(&self) -> Vec<String> {
        self.book().clone()
    }

    /// A digest of the events so far, in hexadecimal.
    pub fn digest(&self) -> String {
        let all = self.book().join("\n");
        Sha256::digest(all.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn strangers(&self) -> MutexGuard<'_, BTreeMap<String, Answer>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Vec<String>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Wire {
    fn send<'a>(
        &'a self,
        uri: &'a str,
        envelope: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>> {
        Box::pin(async move {
            let length = envelope.len();
            let stranger = self.strangers().get(uri).cloned();
            let result = match stranger {
                Some(answer) => Ok(answer(envelope)),
                None => self.network.send(uri, envelope).await,
            };
            // Lengths, not contents: an accelerated library's signatures use randomness of their own.
            let outcome = match &result {
                Ok(Some(reply)) => format!("answered by {} bytes", reply.len()),
                Ok(None) => "taken".to_owned(),
                Err(error) => error.to_string(),
            };
            self.note(&format!("sends {length} bytes to {uri}: {outcome}"));
            result
        })
    }
}

impl Fetcher for Wire {
    fn document<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, FetchError>> {
        Box::pin(async move {
            let result = self.network.document(did).await;
            self.note(&format!("fetches {did}: {}", result.is_ok()));
            result
        })
    }

    fn status_list<'a>(&'a self, uri: &'a str) -> BoxFuture<'a, Result<String, FetchError>> {
        Box::pin(async move {
            let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(uri);
            let result = if gone {
                Err(FetchError::Unreachable { reason: "it is gone".into() })
            } else {
                self.network.status_list(uri).await
            };
            self.note(&format!("fetches {uri}: {}", result.is_ok()));
            result
        })
    }
}
