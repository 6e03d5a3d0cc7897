//! The embedded backend: sled 0.34 with one writer thread that flushes once for all waiting callers.
//!
//! sled's own atomic batch and checksummed log keep a batch whole over a crash. What sled does not provide is done
//! here: grouping, expectations, an expiry index, versions, a flush that reaches the disk, values too large for a node,
//! and refusing a second process.

mod job;
mod layout;

mod writer;

use std::{
    fs::File,
    io,
    ops::{Bound, ControlFlow},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use ::sled::IVec;

use self::{
    job::{Encoded, Job},
    layout::{Head, RECORD, SEGMENT_LEN},
    writer::{Shared, Writer},
};
use crate::{
    Batch, Commit, Key, MAX_PURGE, MAX_SCAN, MAX_SCAN_BYTES, Record, Stats, Store, StoreError, Table,
    TenantId, Version,
    disk::{create_private_folder, reread, sync},
    folder::{RECORDS_FILE, lock},
};

/// Memory that sled may use to cache tree nodes.
pub const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// How often, and after which pause, to retry opening a log whose lock is still held by a thread of a store that was
/// closed earlier in this process.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Entries counted before the writer gets a turn.
const COUNT_STRIDE: usize = 4096;

/// A folder with records in sled. Values are stored as given; [`open`](crate::open) seals them.
///
/// One process at a time has the folder open; the lock ends with the process. Writes survive `SIGKILL` at any moment,
/// and a power loss as far as the disk keeps what it reported as written.
pub struct SledStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<File>>,
}

impl SledStore {
    /// Opens the store in `folder`, creating it if missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if the folder is open elsewhere, [`StoreError::Io`], [`StoreError::Full`] or
    /// [`StoreError::Damaged`] if it cannot be read, [`StoreError::FormatTooNew`] if sled wrote it in a format this
    /// version does not know.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        create_private_folder(folder)?;
        let lock = lock(folder)?;
        // This process, or the one before, may have gone on after a flush that failed.
        reread(folder)?;
        let db = open_db(folder)?;
        let log_path = folder.join(RECORDS_FILE);
        let log = File::open(&log_path).map_err(|e| StoreError::io("open", &e))?;
        // sled mends its log when it is opened, and what is read from now on counts as durable.
        for path in [log_path, folder.join("conf"), folder.to_path_buf()] {
            sync(&path)?;
        }
        let shared = Arc::new(Shared::new(db.clone()));
        let writer = Writer::new(Arc::clone(&shared), db, log)?;
        let thread = thread::Builder::new()
            .name("einmal-storage".into())
            .spawn(move || writer.run())
            .map_err(|e| StoreError::io("start the writer", &e))?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)), lock: Mutex::new(Some(lock)) })
    }

    /// Visits entries that begin with `prefix`, from `start` on, until `visit` breaks, as one consistent view. Returns
    /// when everything seen is durable.
    fn visit(
        &self,
        start: Bound<Vec<u8>>,
        prefix: &[u8],
        mut visit: impl FnMut(&::sled::Tree, &IVec, &IVec) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let state = self.shared.state();
        let db = state.db()?;
        let mut last = None;
        for entry in db.range((start.clone(), Bound::Unbounded)) {
            let (key, value) = entry.map_err(|e| error("read", &e))?;
            if !key.starts_with(prefix) {
                break;
            }
            let flow = visit(db, &key, &value)?;
            if flow.is_break() {
                last = Some(key);
                break;
            }
        }
        // Entries being flushed matter only between the start and the place where reading ended.
        let start = match &start {
            Bound::Included(key) | Bound::Excluded(key) => key.as_slice(),
            Bound::Unbounded => prefix,
        };
        let in_flight = state
            .in_flight
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .take_while(|key| key.starts_with(prefix) && last.as_ref().is_none_or(|last| *key <= last))
            .next()
            .map(|_| state.group);
        drop(state);
        in_flight.map_or(Ok(()), |group| self.shared.wait_until_durable(group))
    }
}

impl Store for SledStore {
    fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let physical = layout::record_key(key);
        let state = self.shared.state();
        let db = state.db()?;
        let entry = db.get(&physical).map_err(|e| error("read", &e))?;
        let record = entry.map(|entry| layout::load(db, key.clone(), &entry)).transpose();
        let in_flight = state.in_flight.contains(physical.as_slice()).then_some(state.group);
        drop(state);
        in_flight.map_or(Ok(()), |group| self.shared.wait_until_durable(group))?;
        record
    }

    fn scan(
        &self,
        tenant: &TenantId,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let table_start = layout::table_start(tenant, table);
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded([&table_start, after].concat()),
            _ => Bound::Included([&table_start, prefix].concat()),
        };
        let limit = limit.min(MAX_SCAN);
        let (mut records, mut bytes) = (Vec::new(), 0usize);
        if limit == 0 {
            return self.shared.state().db().map(|_| records);
        }
        self.visit(start, &[&table_start, prefix].concat(), |tree, key, entry| {
            let id = key.get(table_start.len()..).unwrap_or_default();
            let record = layout::load(tree, Key::unchecked(tenant, table, id), entry)?;
            bytes = bytes.saturating_add(record.value.len());
            records.push(record);
            let enough = records.len() >= limit || bytes >= MAX_SCAN_BYTES;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(records)
    }

    fn dump(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let start =
            after.map_or(Bound::Included(vec![RECORD]), |after| Bound::Excluded(layout::record_key(after)));
        let limit = limit.min(MAX_SCAN);
        let (mut records, mut bytes) = (Vec::new(), 0usize);
        if limit == 0 {
            return self.shared.state().db().map(|_| records);
        }
        self.visit(start, &[RECORD], |tree, key, entry| {
            let key = layout::key_of(key)?;
            if key.tenant().is_house() {
                return Ok(ControlFlow::Continue(()));
            }
            let record = layout::load(tree, key, entry)?;
            bytes = bytes.saturating_add(record.value.len());
            records.push(record);
            let enough = records.len() >= limit || bytes >= MAX_SCAN_BYTES;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(records)
    }

    fn dump_since(&self, since: Version, most: usize) -> Result<Option<Vec<Record>>, StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0usize);
        self.visit(Bound::Included(vec![RECORD]), &[RECORD], |tree, key, entry| {
            // Reading a damaged one names it.
            if Head::parse(entry).is_ok_and(|(head, _)| head.version <= since) {
                return Ok(ControlFlow::Continue(()));
            }
            let key = layout::key_of(key)?;
            if !key.tenant().is_house() {
                let record = layout::load(tree, key, entry)?;
                bytes = bytes.saturating_add(record.size());
                records.push(record);
            }
            Ok(if bytes > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok((bytes <= most).then_some(records))
    }

    fn count(&self, tenant: &TenantId, table: Table, prefix: &[u8]) -> Result<u64, StoreError> {
        let prefix = [&layout::table_start(tenant, table), prefix].concat();
        let mut start = Bound::Included(prefix.clone());
        let mut count = 0u64;
        loop {
            let (mut stride, mut last) = (0usize, None);
            self.visit(start, &prefix, |_, key, _| {
                stride = stride.saturating_add(1);
                count = count.saturating_add(1);
                let pause = stride == COUNT_STRIDE;
                last = pause.then(|| key.to_vec());
                Ok(if pause { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            let Some(key) = last else { return Ok(count) };
            start = Bound::Excluded(key);
        }
    }

    fn tenants(&self, after: Option<&TenantId>, limit: usize) -> Result<Vec<TenantId>, StoreError> {
        // No name holds a byte below `-`, so `name 01` comes after all records of the tenant `name`.
        let behind = |name: &str| Bound::Included([&[RECORD], name.as_bytes(), &[1]].concat());
        let mut start = after.map_or(Bound::Included(vec![RECORD]), |after| behind(after.as_str()));
        let mut found = Vec::new();
        while found.len() < limit.min(MAX_SCAN) {
            let mut name = None;
            self.visit(start, &[RECORD], |_, key, _| {
                let damaged = || StoreError::Damaged { what: "a key names no tenant".into() };
                name = Some(layout::tenant_of(key).ok_or_else(damaged)?.to_owned());
                Ok(ControlFlow::Break(()))
            })?;
            let Some(name) = name else { return Ok(found) };
            start = behind(&name);
            if name != TenantId::house().as_str() {
                found.push(TenantId::new(&name)?);
            }
        }
        self.shared.state().db().map(|_| found)
    }

    fn commit(&self, batch: Batch) -> Commit {
        let batch = match Encoded::new(batch) {
            Ok(batch) => batch,
            Err(error) => return Commit::answered(Err(error)),
        };
        let (acknowledgement, commit) = Commit::pending();
        match self.shared.queue.push(Job::Commit { batch, acknowledgement }) {
            Ok(()) => commit,
            Err(error) => Commit::answered(Err(error)),
        }
    }

    fn purge_expired(&self, now: u64, limit: usize) -> Result<usize, StoreError> {
        let due = {
            let state = self.shared.state();
            let first = state.db()?.range([layout::EXPIRY]..[layout::PART]).keys().next();
            first.transpose().map_err(|e| error("read", &e))?
        };
        let due = due.as_deref().and_then(layout::expiry_of).is_some_and(|(at, _)| at <= now);
        if !due || limit == 0 {
            return Ok(0);
        }
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.queue.push(Job::Purge { now, limit: limit.min(MAX_PURGE), reply })?;
        answer.recv().unwrap_or(Err(StoreError::Failed))
    }

    fn stats(&self) -> Result<Stats, StoreError> {
        let bytes_on_disk = self.shared.state().db()?.size_on_disk().map_err(|e| error("measure", &e))?;
        Ok(Stats {
            bytes_on_disk,
            commits: self.shared.commits.load(Ordering::Relaxed),
            flushes: self.shared.flushes.load(Ordering::Relaxed),
            waiting: u64::try_from(self.shared.queue.len()).unwrap_or(u64::MAX),
        })
    }

    fn is_stalled(&self) -> bool {
        self.shared.queue.is_stalled()
    }

    fn close(&self) -> Result<(), StoreError> {
        // Held throughout, so that a second caller returns only when the folder is free.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.queue.close(StoreError::Closed);
        let joined =
            writer.take().map_or(Ok(()), |thread| thread.join().map_err(|_| StoreError::TaskPanicked));
        let (db, outcome) = self.shared.shut();
        // sled panics if its last flush fails; here that is just one more error to report.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(db))).map_err(|_| StoreError::Failed);
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        joined.and(outcome).and(dropped)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // Call `close` to learn the outcome; every acknowledged batch is already durable.
        let _ = self.close();
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").finish_non_exhaustive()
    }
}

fn open_db(folder: &Path) -> Result<::sled::Db, StoreError> {
    // No flusher thread: only the writer flushes. `HighThroughput` rewrites segments less eagerly.
    let config = ::sled::Config::new()
        .path(folder)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_LEN)
        .flush_every_ms(None)
        .mode(::sled::Mode::HighThroughput);
    for _ in 1..LOCK_TRIES {
        match config.open() {
            Err(::sled::Error::Io(e)) if e.to_string().contains("could not acquire lock") => {
                thread::sleep(LOCK_PAUSE);
            }
            outcome => return outcome.map_err(|e| error("open", &e)),
        }
    }
    Err(StoreError::InUse { path: folder.to_path_buf() })
}

/// sled's error in our terms.
fn error(during: &'static str, error: &::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Io(e) => StoreError::io(during, e),
        ::sled::Error::Corruption { .. } => {
            StoreError::Damaged { what: "sled found its log corrupted".into() }
        }
        other => StoreError::Io { during, kind: io::ErrorKind::Other, detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
