//! The writer thread: checks expectations, applies all waiting batches, flushes once, answers everyone.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use sled::{IVec, Tree};

use super::{
    error,
    job::{Encoded, EncodedPut, Job, Outcome},
    layout::{EXPIRY, Head, VERSION_CEILING, expiries_until, expiry_key, expiry_of, part_key},
};
use crate::{Committed, STALLED_AFTER, StoreError, Version, folder::OnPanic, queue::Queue};

/// Versions reserved by one write of the ceiling, so that the counter usually costs a batch nothing. After a crash the
/// unused ones are skipped.
const VERSIONS_RESERVED: u64 = 1 << 20;

/// Shared by callers and the writer.
pub(super) struct Shared {
    pub(super) queue: Queue<Job>,
    /// Locked for reading during reads, and for writing while batches are applied (but not flushed), so that a scan
    /// sees each batch whole or not at all.
    gate: RwLock<State>,
    durable: Mutex<Durable>,
    flush_ended: Condvar,
    pub(super) commits: AtomicU64,
    pub(super) flushes: AtomicU64,
}

pub(super) struct State {
    db: Option<sled::Db>,
    stopped: Option<StoreError>,
    /// Number of the group being written.
    pub(super) group: u64,
    /// Physical keys of records that this group changed and that are not yet durable.
    pub(super) in_flight: BTreeSet<IVec>,
}

#[derive(Default)]
struct Durable {
    /// Number of the last group that is durable.
    group: u64,
    stopped: bool,
}

impl State {
    /// The database, while it is usable.
    pub(super) fn db(&self) -> Result<&sled::Db, StoreError> {
        match (&self.stopped, &self.db) {
            (None, Some(db)) => Ok(db),
            (Some(reason), _) => Err(reason.clone()),
            (None, None) => Err(StoreError::Closed),
        }
    }
}

impl Shared {
    pub(super) fn new(db: sled::Db) -> Self {
        let state = State { db: Some(db), stopped: None, group: 0, in_flight: BTreeSet::new() };
        Self {
            queue: Queue::new(),
            gate: RwLock::new(state),
            durable: Mutex::default(),
            flush_ended: Condvar::new(),
            commits: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
        }
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until `group` is durable, but not for ever if the disk hangs.
    pub(super) fn wait_until_durable(&self, group: u64) -> Result<(), StoreError> {
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let (durable, waited) = self
            .flush_ended
            .wait_timeout_while(durable, STALLED_AFTER, |durable| durable.group < group && !durable.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        match durable.group < group {
            false => Ok(()),
            true if waited.timed_out() => Err(StoreError::Stalled),
            true => Err(StoreError::Failed),
        }
    }

    /// Takes the database out for good; later calls find the store closed.
    pub(super) fn shut(&self) -> (Option<sled::Db>, Result<(), StoreError>) {
        let mut state = self.state_mut();
        let outcome = match state.stopped.replace(StoreError::Closed) {
            Some(StoreError::Failed) => Err(StoreError::Failed),
            _ => Ok(()),
        };
        (state.db.take(), outcome)
    }

    /// Stops everything after a failed write: memory and disk may now differ.
    fn fail(&self) {
        self.state_mut().stopped = Some(StoreError::Failed);
        self.queue.close(StoreError::Failed);
        self.queue.clear();
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.flush_ended.notify_all();
    }

    fn group_is_durable(&self, group: u64) {
        self.state_mut().in_flight.clear();
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).group = group;
        self.flush_ended.notify_all();
    }
}

/// The one thread that changes the database.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) db: sled::Db,
    /// A second handle to sled's log, to flush it including the disk's cache and the file's length: on Linux sled
    /// itself only calls `sync_file_range`, which does neither.
    pub(super) log: File,
    next_version: u64,
    version_ceiling: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, db: sled::Db, log: File) -> Result<Self, StoreError> {
        let stored = db.get(VERSION_CEILING).map_err(|e| error("read", &e))?;
        let next_version = match stored.as_deref().map(<[u8; 8]>::try_from) {
            None => 1,
            Some(Ok(bytes)) => u64::from_be_bytes(bytes),
            Some(Err(_)) => return Err(StoreError::Damaged { what: "the version counter".into() }),
        };
        Ok(Self { shared, db, log, next_version, version_ceiling: next_version })
    }

    /// Works until the queue is closed and empty, or a write fails.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _guard = OnPanic(|| shared.fail());
        let mut group = 0u64;
        while let Some(mut jobs) = shared.queue.take_group() {
            group = group.saturating_add(1);
            match self.write_group(group, &mut jobs) {
                Ok(outcomes) => jobs.into_iter().zip(outcomes).for_each(|(job, outcome)| job.answer(outcome)),
                Err(error) => {
                    shared.fail();
                    jobs.into_iter().for_each(|job| job.refuse(&error));
                    return;
                }
            }
        }
    }

    fn write_group(&mut self, number: u64, jobs: &mut [Job]) -> Result<Vec<Outcome>, StoreError> {
        let db = self.db.clone();
        let mut group =
            Group { number, tree: &db, shared: &self.shared, heads: HashMap::new(), pending: None };
        let mut outcomes = Vec::with_capacity(jobs.len());
        let mut written = 0u64;
        for job in jobs {
            outcomes.push(match job {
                Job::Commit { batch, .. } => {
                    let batch = std::mem::take(batch);
                    let versions = (&mut self.next_version, &mut self.version_ceiling);
                    let answer = group.commit(batch, versions)?;
                    written = written.saturating_add(answer.is_ok().into());
                    Outcome::Commit(answer)
                }
                Job::Purge { now, limit, .. } => Outcome::Purged(group.purge(*now, *limit)?),
                #[cfg(test)]
                Job::Panic(_) => panic!("asked for by a test"),
            });
        }
        if group.apply()? {
            self.flush()?;
            self.shared.group_is_durable(number);
        }
        self.shared.commits.fetch_add(written, Ordering::Relaxed);
        Ok(outcomes)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|e| error("flush", &e))?;
        self.log.sync_data().map_err(|e| StoreError::io("flush", &e))?;
        self.shared.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Everything that shares one flush. It becomes one sled batch (two if it purges), so after a crash each caller's batch
/// in it is whole or absent.
struct Group<'a> {
    number: u64,
    tree: &'a Tree,
    shared: &'a Shared,
    /// Heads of records as they will be once the pending changes are applied.
    heads: HashMap<IVec, Option<Head>>,
    pending: Option<Pending>,
}

#[derive(Default)]
struct Pending {
    batch: sled::Batch,
    touched: Vec<IVec>,
}

impl Group<'_> {
    /// Adds one batch. The outer error stops the store, the inner one concerns only this batch.
    fn commit(
        &mut self,
        batch: Encoded,
        (next_version, ceiling): (&mut u64, &mut u64),
    ) -> Result<Result<Committed, StoreError>, StoreError> {
        let mut old_heads = Vec::with_capacity(batch.changes.len());
        match self.check(&batch, &mut old_heads) {
            Err(error) if stops_the_store(&error) => return Err(error),
            Err(error) => return Ok(Err(error)),
            Ok(()) => {}
        }
        if batch.changes.is_empty() {
            return Ok(Ok(Committed { version: Version(next_version.saturating_sub(1)) }));
        }
        let version = *next_version;
        *next_version = version.saturating_add(1);
        if version >= *ceiling {
            *ceiling = version.saturating_add(VERSIONS_RESERVED);
            self.pending().batch.insert(&VERSION_CEILING, &ceiling.to_be_bytes());
        }
        let version = Version(version);
        for ((key, put), old) in batch.changes.into_iter().zip(old_heads) {
            match put {
                Some(put) => self.put(key, put, old, version),
                None => self.delete(key, old),
            }
        }
        Ok(Ok(Committed { version }))
    }

    /// Checks the expectations and collects the heads of the records that the batch changes.
    fn check(&mut self, batch: &Encoded, old_heads: &mut Vec<Option<Head>>) -> Result<(), StoreError> {
        for (physical, key, expectation) in &batch.expectations {
            let head = self.head(physical).map_err(|error| match error {
                StoreError::Damaged { .. } => StoreError::Unsealable { key: key.clone() },
                error => error,
            })?;
            if !expectation.holds(head.map(|head| head.version)) {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        for (key, _) in &batch.changes {
            old_heads.push(self.readable_head(key)?);
        }
        Ok(())
    }

    fn head(&self, key: &IVec) -> Result<Option<Head>, StoreError> {
        if let Some(head) = self.heads.get(key) {
            return Ok(*head);
        }
        let entry = self.tree.get(key).map_err(|e| error("read", &e))?;
        entry.map(|entry| Ok(Head::parse(&entry)?.0)).transpose()
    }

    /// As [`Group::head`], `None` of a damaged record too: it can be replaced and deleted.
    fn readable_head(&self, key: &IVec) -> Result<Option<Head>, StoreError> {
        match self.head(key) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            head => head,
        }
    }

    fn put(&mut self, key: IVec, put: EncodedPut, old: Option<Head>, version: Version) {
        let head = Head { version, ..put.head };
        self.forget(&key, old, head.expires_at, head.further_parts);
        let pending = self.pending();
        if let Some(at) = head.expires_at {
            pending.batch.insert(expiry_key(at, &key), &[]);
        }
        for (part_key, part) in put.further_parts {
            pending.batch.insert(part_key, part);
        }
        pending.batch.insert(key.clone(), head.entry(&put.first_part));
        pending.touched.push(key.clone());
        self.heads.insert(key, Some(head));
    }

    fn delete(&mut self, key: IVec, old: Option<Head>) {
        self.forget(&key, old, None, 0);
        let pending = self.pending();
        pending.batch.remove(key.clone());
        pending.touched.push(key.clone());
        self.heads.insert(key, None);
    }

    /// Removes what belongs to a record besides its main entry: its place in the expiry index, and parts from
    /// `parts_kept` on.
    fn forget(&mut self, key: &IVec, old: Option<Head>, expiry_kept: Option<u64>, parts_kept: u32) {
        let Some(old) = old else { return };
        let batch = &mut self.pending().batch;
        if let Some(at) = old.expires_at.filter(|_| old.expires_at != expiry_kept) {
            batch.remove(expiry_key(at, key));
        }
        for number in parts_kept.saturating_add(1)..=old.further_parts {
            batch.remove(part_key(key, number));
        }
    }

    /// Removes at most `limit` expired records. This needs a complete index in the tree, so pending changes are applied
    /// first.
    fn purge(&mut self, now: u64, limit: usize) -> Result<Result<usize, StoreError>, StoreError> {
        self.apply_pending()?;
        match self.delete_due(now, limit) {
            Err(error) if stops_the_store(&error) => Err(error),
            outcome => Ok(outcome),
        }
    }

    fn delete_due(&mut self, now: u64, limit: usize) -> Result<usize, StoreError> {
        let end = now.checked_add(1).map_or_else(|| vec![EXPIRY.saturating_add(1)], expiries_until);
        let mut count = 0usize;
        for entry in self.tree.range(vec![EXPIRY]..end).keys().take(limit) {
            let entry = entry.map_err(|e| error("read", &e))?;
            let Some((at, key)) = expiry_of(&entry) else {
                return Err(StoreError::Damaged { what: "the expiry index".into() });
            };
            let key = IVec::from(key);
            match self.readable_head(&key)? {
                Some(head) if head.expires_at == Some(at) => {
                    self.delete(key, Some(head));
                    count = count.saturating_add(1);
                }
                _ => self.pending().batch.remove(entry),
            }
        }
        Ok(count)
    }

    fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    /// Applies the pending changes; returns whether this group has applied anything.
    fn apply(&mut self) -> Result<bool, StoreError> {
        self.apply_pending()?;
        Ok(self.shared.state().group == self.number)
    }

    fn apply_pending(&mut self) -> Result<(), StoreError> {
        let Some(Pending { batch, touched }) = self.pending.take() else { return Ok(()) };
        let mut state = self.shared.state_mut();
        state.group = self.number;
        state.in_flight.extend(touched);
        self.tree.apply_batch(batch).map_err(|e| error("write", &e))
    }
}

/// Whether a read error means that the disk can no longer be trusted. Other errors concern a single record.
fn stops_the_store(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { .. } | StoreError::Full)
}
