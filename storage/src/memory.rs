//! The reference backend: every rule of the trait, on a map in memory, for tests and simulations.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    Batch, Commit, Committed, Key, MAX_PURGE, MAX_SCAN, MAX_SCAN_BYTES, Record, Stats, Store, StoreError,
    Table, TenantId, Version, batch::Change,
};

/// Records in memory, gone with the last handle. Commits resolve at once, in call order, so a simulation with one
/// thread is deterministic.
///
/// [`MemoryStore::reopen`] simulates a restart: the new handle finds what the old one committed, as a process finds its
/// disk. [`MemoryStore::fail_next_commits`] injects lost writes, and [`MemoryStore::lose_next_answers`] writes that the
/// node never learns of, as in a crash between commit and send.
#[derive(Debug, Default)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Disk {
    records: BTreeMap<Key, Record>,
    expiries: BTreeSet<(u64, Key)>,
    last_version: u64,
    commits: u64,
    failing_commits: usize,
    lost_answers: usize,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another handle to the same records, as a restarted process would have. The old handle should be closed or
    /// forgotten.
    #[must_use]
    pub fn reopen(&self) -> Self {
        Self { disk: Arc::clone(&self.disk), closed: AtomicBool::new(false) }
    }

    /// Makes the next `count` commits fail with [`StoreError::Io`] and write nothing.
    pub fn fail_next_commits(&self, count: usize) {
        self.lock().failing_commits = count;
    }

    /// Makes the next `count` successful commits answer [`StoreError::Failed`].
    pub fn lose_next_answers(&self, count: usize) {
        self.lock().lost_answers = count;
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Disk>, StoreError> {
        if self.closed.load(Ordering::SeqCst) { Err(StoreError::Closed) } else { Ok(self.lock()) }
    }

    #[cfg(test)]
    pub(crate) fn tamper(&self, key: &Key, change: impl FnOnce(&mut Record)) {
        change(self.lock().records.get_mut(key).unwrap());
    }
}

impl Disk {
    fn apply(&mut self, batch: Batch) -> Result<Committed, StoreError> {
        batch.check()?;
        if self.failing_commits > 0 {
            self.failing_commits = self.failing_commits.saturating_sub(1);
            let kind = io::ErrorKind::Other;
            return Err(StoreError::Io { during: "commit", kind, detail: "a fault was injected".into() });
        }
        for (key, expectation) in &batch.expectations {
            if !expectation.holds(self.records.get(key).map(|record| record.version)) {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        self.last_version = self.last_version.saturating_add(1);
        self.commits = self.commits.saturating_add(1);
        let version = Version(self.last_version);
        for (key, change) in batch.changes {
            self.remove(&key);
            let Change::Put { value, expires_at } = change else { continue };
            if let Some(at) = expires_at {
                self.expiries.insert((at, key.clone()));
            }
            self.records.insert(key.clone(), Record { key, value, version, expires_at });
        }
        if self.lost_answers > 0 {
            self.lost_answers = self.lost_answers.saturating_sub(1);
            return Err(StoreError::Failed);
        }
        Ok(Committed { version })
    }

    fn remove(&mut self, key: &Key) {
        if let Some(Record { key, expires_at: Some(at), .. }) = self.records.remove(key) {
            self.expiries.remove(&(at, key));
        }
    }

    fn range(&self, from: Key, prefix: &[u8]) -> impl Iterator<Item = &Record> {
        let (tenant, table) = (from.tenant().clone(), from.table());
        self.records.range(from..).map(|(_, record)| record).take_while(move |Record { key, .. }| {
            key.tenant() == &tenant && key.table() == table && key.id().starts_with(prefix)
        })
    }
}

impl Store for MemoryStore {
    fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        Ok(self.open()?.records.get(key).cloned())
    }

    fn scan(
        &self,
        tenant: &TenantId,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let disk = self.open()?;
        let from = Key::unchecked(tenant, table, after.map_or(prefix, |after| after.max(prefix)));
        let mut bytes = 0usize;
        Ok(disk
            .range(from, prefix)
            .filter(|record| after.is_none_or(|after| record.key.id() > after))
            .take(limit.min(MAX_SCAN))
            .take_while(|record| {
                let within = bytes < MAX_SCAN_BYTES;
                bytes = bytes.saturating_add(record.value.len());
                within
            })
            .cloned()
            .collect())
    }

    fn dump(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let disk = self.open()?;
        let mut bytes = 0usize;
        Ok(disk
            .records
            .values()
            .filter(|record| !record.key.tenant().is_house() && after.is_none_or(|after| record.key > *after))
            .take(limit.min(MAX_SCAN))
            .take_while(|record| {
                let within = bytes < MAX_SCAN_BYTES;
                bytes = bytes.saturating_add(record.value.len());
                within
            })
            .cloned()
            .collect())
    }

    fn dump_since(&self, since: Version, most: usize) -> Result<Option<Vec<Record>>, StoreError> {
        let disk = self.open()?;
        let changed = disk.records.values().filter(|record| record.version > since);
        let changed: Vec<_> = changed.filter(|record| !record.key.tenant().is_house()).cloned().collect();
        Ok((changed.iter().map(Record::size).sum::<usize>() <= most).then_some(changed))
    }

    fn count(&self, tenant: &TenantId, table: Table, prefix: &[u8]) -> Result<u64, StoreError> {
        let count = self.open()?.range(Key::unchecked(tenant, table, prefix), prefix).count();
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, StoreError> {
        let disk = self.open()?;
        let mut found: Vec<TenantId> = Vec::new();
        for key in disk.records.keys() {
            if found.len() >= limit.min(MAX_SCAN) {
                break;
            }
            let tenant = key.tenant();
            let new = after.is_none_or(|after| tenant > after) && found.last() != Some(tenant);
            if new && *tenant != TenantId::house() {
                found.push(tenant.clone());
            }
        }
        Ok(found)
    }

    fn commit(&self, batch: Batch) -> Commit {
        Commit::answered(self.open().and_then(|mut disk| disk.apply(batch)))
    }

    fn purge_expired(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        let mut disk = self.open()?;
        let due: Vec<Key> = disk
            .expiries
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(limit.min(MAX_PURGE))
            .map(|(_, key)| key.clone())
            .collect();
        for key in &due {
            disk.remove(key);
        }
        Ok(due.len())
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        let disk = self.open()?;
        let bytes: usize = disk.records.values().map(|record| record.key.size() + record.value.len()).sum();
        let bytes_on_disk = u64::try_from(bytes).unwrap_or(u64::MAX);
        Ok(Stats { bytes_on_disk, commits: disk.commits, flushes: disk.commits, waiting: 0 })
    }

    fn is_stalled(&self) -> bool {
        false
    }

    fn close(&self) -> Result<(), StoreError> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_rules::Fixture;

    #[derive(Default)]
    struct Memory(MemoryStore);

    impl Fixture for Memory {
        fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
            Ok(Arc::new(self.0.reopen()))
        }
    }

    crate::store_rules!(Memory::default());

    fn batch(key: &Key) -> Batch {
        let mut batch = Batch::new();
        batch.put(key.clone(), "value");
        batch
    }

    fn key() -> Key {
        Key::new(&TenantId::default(), Table::new("t"), "a").unwrap()
    }

    #[test]
    fn a_failing_commit_writes_nothing_and_only_as_often_as_asked() {
        let store = MemoryStore::new();
        store.fail_next_commits(1);
        assert!(matches!(store.commit(batch(&key())).wait(), Err(StoreError::Io { during: "commit", .. })));
        assert_eq!(store.read(&key()).unwrap(), None);
        store.commit(batch(&key())).wait().unwrap();
        assert!(store.read(&key()).unwrap().is_some());
    }

    #[test]
    fn a_lost_answer_hides_a_write_that_happened() {
        let store = MemoryStore::new();
        store.lose_next_answers(1);
        assert_eq!(store.commit(batch(&key())).wait(), Err(StoreError::Failed));
        assert!(store.reopen().read(&key()).unwrap().is_some());
    }
}
