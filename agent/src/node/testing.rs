//! Nodes for unit tests: in memory, with a clock that stands still and no peers.

use std::sync::Arc;

use einmal_keys::SeededEntropy;
use einmal_storage::{
    Batch, Commit, Key, MemoryStore, Record, Stats, Store, StoreError, Table, TenantId, Version,
    mail::MemoryMail,
};

use crate::{
    clock::ManualClock,
    config::{Config, Role},
    db::Db,
    net::memory::MemoryNetwork,
    node::{Node, Parts},
    transport::{Fetcher, Transport},
};

/// The time at which all of them start, in milliseconds.
pub(crate) const START_MS: u64 = 1_800_000_000_000;

/// A node and its clock.
pub(crate) async fn node(role: Role) -> (Arc<Node>, Arc<ManualClock>) {
    node_on(role, Arc::new(MemoryStore::new())).await
}

/// A node on a store, and its clock.
pub(crate) async fn node_on(role: Role, store: Arc<dyn Store>) -> (Arc<Node>, Arc<ManualClock>) {
    node_behind(role, store, MemoryNetwork::new(1)).await
}

/// A node with these settings.
pub(crate) async fn node_set_to(config: Config) -> Arc<Node> {
    let network = MemoryNetwork::new(1);
    node_of(config, Arc::new(MemoryStore::new()), Arc::clone(&network) as _, network).await.0
}

/// A node on a store whose messages leave by `transport`, and its clock.
pub(crate) async fn node_behind(
    role: Role,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
) -> (Arc<Node>, Arc<ManualClock>) {
    node_with(role, store, transport, MemoryNetwork::new(1)).await
}

/// A node that fetches by `fetcher` as well.
pub(crate) async fn node_with(
    role: Role,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    fetcher: Arc<dyn Fetcher>,
) -> (Arc<Node>, Arc<ManualClock>) {
    node_of(Config::new(role), store, transport, fetcher).await
}

async fn node_of(
    config: Config,
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    fetcher: Arc<dyn Fetcher>,
) -> (Arc<Node>, Arc<ManualClock>) {
    let role = config.role;
    let clock = Arc::new(ManualClock::at(START_MS));
    let parts = Parts {
        config,
        db: Db::new(store, TenantId::default()),
        mail: Arc::new(MemoryMail::new()),
        clock: Arc::clone(&clock) as _,
        entropy: Arc::new(SeededEntropy::new(1)),
        transport,
        fetcher,
    };
    let url = if role == Role::Citizen { "" } else { "https://node.example" };
    (Node::start(parts, url).await.unwrap(), clock)
}

/// What was just read of a [`Watched`] store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Records of a table.
    Scan(Table),
    /// A part of a dump that is not empty.
    Dump,
}

type Watcher = Box<dyn Fn(&MemoryStore, Read) + Send + Sync>;

/// A store that tells a watcher of each read before the reader has the result, so the watcher's writes come in between.
pub(crate) struct Watched {
    pub(crate) inner: MemoryStore,
    watcher: Watcher,
    /// Whether changes can be read at once.
    pub(crate) follows: bool,
    /// A record that does not unseal.
    pub(crate) unsealable: Option<Key>,
}

impl Watched {
    pub(crate) fn new(watcher: impl Fn(&MemoryStore, Read) + Send + Sync + 'static) -> Self {
        Self { inner: MemoryStore::new(), watcher: Box::new(watcher), follows: true, unsealable: None }
    }
}

impl Store for Watched {
    fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.read(key)
    }

    fn scan(
        &self,
        tenant: &TenantId,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let page = self.inner.scan(tenant, table, prefix, after, limit);
        (self.watcher)(&self.inner, Read::Scan(table));
        page
    }

    fn dump(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        // One table at a time, so that something comes in between.
        let mut page = self.inner.dump(after, limit)?;
        let first = page.first().map(|record| record.key.table());
        page.retain(|record| Some(record.key.table()) == first);
        if let Some(damaged) = page.iter().find(|record| Some(&record.key) == self.unsealable.as_ref()) {
            return Err(StoreError::Unsealable { key: damaged.key.clone() });
        }
        if first.is_some() {
            (self.watcher)(&self.inner, Read::Dump);
        }
        Ok(page)
    }

    fn dump_since(&self, since: Version, most: usize) -> Result<Option<Vec<Record>>, StoreError> {
        if self.follows { self.inner.dump_since(since, most) } else { Ok(None) }
    }

    fn count(&self, tenant: &TenantId, table: Table, prefix: &[u8]) -> Result<u64, StoreError> {
        self.inner.count(tenant, table, prefix)
    }

    fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, StoreError> {
        self.inner.tenants(after, limit)
    }

    fn commit(&self, batch: Batch) -> Commit {
        self.inner.commit(batch)
    }

    fn purge_expired(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        self.inner.purge_expired(now, limit)
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        self.inner.stats()
    }

    fn is_stalled(&self) -> bool {
        self.inner.is_stalled()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}
