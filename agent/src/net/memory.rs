//! A network inside one process, for simulations: it loses, doubles and reorders messages by a seed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use einmal_did::{Did, DidDocument};
use einmal_keys::{Entropy, SeededEntropy};

use crate::{
    handler::Arrival,
    node::Node,
    transport::{BoxFuture, FetchError, Fetcher, SendError, Transport},
};

/// How unkind the network is, each in percent of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Lost before it arrives.
    pub lost: u8,
    /// Arrives, but the sender is told of a failure.
    pub answer_lost: u8,
    /// Arrives twice.
    pub doubled: u8,
    /// Kept back and delivered with a later message.
    pub delayed: u8,
}

/// Connects nodes of one process; faults follow from the seed alone.
#[derive(Debug)]
pub struct MemoryNetwork {
    nodes: Mutex<HashMap<String, Weak<Node>>>,
    delayed: Mutex<Vec<(String, Vec<u8>)>>,
    faults: Mutex<Faults>,
    dice: SeededEntropy,
}

impl MemoryNetwork {
    /// An empty network.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            nodes: Mutex::default(),
            delayed: Mutex::default(),
            faults: Mutex::default(),
            dice: SeededEntropy::new(seed),
        })
    }

    /// Makes `node` reachable at `uri`; a node that was there before is gone.
    pub fn attach(&self, uri: &str, node: &Arc<Node>) {
        lock(&self.nodes).insert(uri.to_owned(), Arc::downgrade(node));
    }

    /// Makes `uri` unreachable.
    pub fn detach(&self, uri: &str) {
        lock(&self.nodes).remove(uri);
    }

    /// Sets the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.faults) = faults;
    }

    fn node(&self, uri: &str) -> Option<Arc<Node>> {
        lock(&self.nodes).get(uri).and_then(Weak::upgrade)
    }

    /// True in `percent` of all calls.
    fn happens(&self, percent: u8) -> bool {
        let mut byte = [0u8; 2];
        let drawn = self.dice.fill(&mut byte).is_ok();
        drawn && u16::from_be_bytes(byte) % 100 < u16::from(percent)
    }

    /// Number of messages kept back.
    pub fn waiting(&self) -> usize {
        lock(&self.delayed).len()
    }

    /// Delivers everything that was kept back.
    pub async fn deliver_delayed(&self) {
        let waiting = std::mem::take(&mut *lock(&self.delayed));
        for (uri, envelope) in waiting {
            if let Some(node) = self.node(&uri) {
                node.receive(&envelope, Arrival::Http { from: None }).await;
            }
        }
    }

    async fn carry(&self, uri: &str, envelope: Vec<u8>) -> Result<Option<Vec<u8>>, SendError> {
        let lost = || SendError::Unreachable { reason: "simulated loss".into() };
        let faults = *lock(&self.faults);
        if self.happens(faults.lost) {
            return Err(lost());
        }
        if self.happens(faults.delayed) {
            lock(&self.delayed).push((uri.to_owned(), envelope));
            return Err(lost());
        }
        let node = self.node(uri).ok_or(SendError::Unreachable { reason: "nobody is there".into() })?;
        let receipt = node.receive(&envelope, Arrival::Http { from: None }).await;
        if self.happens(faults.doubled) {
            node.receive(&envelope, Arrival::Http { from: None }).await;
        }
        if self.happens(faults.answer_lost) {
            return Err(lost());
        }
        match receipt.refused {
            Some(refusal) => Err(SendError::Refused { status: refusal.status() }),
            None => Ok(receipt.replies.into_iter().next()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport for MemoryNetwork {
    fn send<'a>(
        &'a self,
        uri: &'a str,
        envelope: Vec<u8>,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SendError>> {
        Box::pin(self.carry(uri, envelope))
    }
}

impl Fetcher for MemoryNetwork {
    fn document<'a>(&'a self, did: &'a Did) -> BoxFuture<'a, Result<DidDocument, FetchError>> {
        Box::pin(async move {
            let nodes: Vec<Weak<Node>> = lock(&self.nodes).values().cloned().collect();
            nodes
                .iter()
                .filter_map(Weak::upgrade)
                .find_map(|node| node.published_document(did))
                .map(|document| (*document).clone())
                .ok_or(FetchError::Unreachable { reason: "nobody publishes this DID".into() })
        })
    }

    fn status_list<'a>(&'a self, uri: &'a str) -> BoxFuture<'a, Result<String, FetchError>> {
        Box::pin(async move {
            let nodes: Vec<Weak<Node>> = lock(&self.nodes).values().cloned().collect();
            let published = nodes
                .iter()
                .filter_map(Weak::upgrade)
                .find_map(|node| node.published_status_list(uri).transpose());
            let unreachable = |reason: String| FetchError::Unreachable { reason };
            published
                .ok_or_else(|| unreachable("nobody publishes this list".into()))?
                .map_err(|failure| unreachable(failure.to_string()))
        })
    }
}
