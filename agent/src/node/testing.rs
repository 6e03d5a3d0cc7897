//! Nodes for unit tests: in memory, at a time that stands still, with nobody to talk to.

use std::sync::Arc;

use einmal_keys::SeededEntropy;
use einmal_storage::{MemoryStore, TenantId, mail::MemoryMail};

use crate::{
    clock::ManualClock,
    config::{Config, Role},
    db::Db,
    net::memory::MemoryNetwork,
    node::{Node, Parts},
};

/// The time of all of them, in milliseconds.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// A node and its clock.
pub(crate) async fn node(role: Role) -> (Arc<Node>, Arc<ManualClock>) {
    let (network, clock) = (MemoryNetwork::new(1), Arc::new(ManualClock::at(START_MS)));
    let parts = Parts {
        config: Config::new(role),
        db: Db::new(Arc::new(MemoryStore::new()) as _, TenantId::default()),
        mail: Arc::new(MemoryMail::new()),
        clock: Arc::clone(&clock) as _,
        entropy: Arc::new(SeededEntropy::new(1)),
        transport: Arc::clone(&network) as _,
        fetcher: network,
    };
    let url = if role == Role::Citizen { "" } else { "https://node.example" };
    (Node::start(parts, url).await.unwrap(), clock)
}
