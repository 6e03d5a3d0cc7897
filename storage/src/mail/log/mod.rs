//! Mail in a log on the disk.

mod admission;
mod frame;
mod inspect;
mod job;
mod leaving;
mod sectors;
mod segment;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use sha2::{Digest, Sha256};

use self::{
    admission::Admission,
    frame::{HEADER_LEN, SEAL_LEN, Sealer},
    job::{Job, Sealed, Work},
    sectors::is_bad_sector,
    segment::path_of,
    writer::Writer,
};
pub use self::{
    inspect::{Inspection, inspect},
    segment::SEGMENT_LEN,
};
use super::{
    Letter, LetterId, Mail, MailKey, MailStats, MailboxId, MailboxState, NewLetter,
    index::{Entry, Index},
};
use crate::{
    Acknowledgement, Commit, StoreError,
    disk::{create_private_folder, sync_parent},
    folder::lock,
    queue::Queue,
};

/// Longest payload of a letter in bytes.
pub const MAX_LETTER_LEN: usize = 1024 * 1024;
/// Most files of the log kept open for reading.
const MAX_OPEN_FILES: usize = 64;
/// Most times a letter is looked up again because it was moved during the read.
const MAX_MOVES: usize = 8;
/// Bytes a letter takes in the log beyond its payload.
pub(super) const ENTRY_OVERHEAD: u64 = (HEADER_LEN + SEAL_LEN) as u64;
/// A mailbox that nobody has, since no digest is all zeros. Entries about it change nothing.
const NOBODY: MailboxId = MailboxId([0; 20]);

/// Mail in a folder. Only one process at a time has it open; the lock ends with the process.
pub struct LogMail {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<File>>,
}

/// Shared by callers and the writer.
struct Shared {
    folder: PathBuf,
    queue: Queue<Job>,
    index: RwLock<Index>,
    /// Locked before the index, never after it.
    admission: Mutex<Admission>,
    sealer: Sealer,
    digest_key: [u8; 32],
    /// Files open for reading, by number.
    files: Mutex<HashMap<u32, Arc<File>>>,
    bytes_on_disk: AtomicU64,
    flushes: AtomicU64,
    damaged: AtomicU64,
    /// Whether the disk refused the last write.
    held_up: AtomicBool,
}

impl std::fmt::Debug for LogMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogMail").field("folder", &self.shared.folder).finish_non_exhaustive()
    }
}

/// A digest that tells, to anyone with the key, whether two letters are the same.
pub(super) fn digest(key: &[u8; 32], mailbox: MailboxId, payload: &[u8]) -> u64 {
    let hash = Sha256::new().chain_update(key).chain_update(mailbox.0).chain_update(payload).finalize();
    hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

pub(super) fn check_len(payload: &[u8]) -> Result<(), StoreError> {
    if payload.len() > MAX_LETTER_LEN {
        return Err(StoreError::ValueTooLarge { len: payload.len() });
    }
    Ok(())
}

impl LogMail {
    /// Opens the mail in `folder`, creating it if missing. `key` is the one its letters are sealed with.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] if another process has it open, [`StoreError::Io`], [`StoreError::Full`],
    /// [`StoreError::Damaged`].
    pub fn open(folder: &Path, key: &MailKey) -> Result<Self, StoreError> {
        create_private_folder(folder)?;
        sync_parent(folder)?;
        let lock = lock(folder)?;
        let shared = Arc::new(Shared::new(folder, key));
        let writer = Writer::open(Arc::clone(&shared))?;
        let thread = thread::Builder::new()
            .name("einmal-mail".into())
            .spawn(move || writer.run())
            .map_err(|e| StoreError::io("start the writer", &e))?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)), lock: Mutex::new(Some(lock)) })
    }

    fn commit(&self, work: Work) -> Commit {
        let (acknowledgement, commit) = Commit::pending();
        match self.shared.queue.push(Job { work, acknowledgement }) {
            Ok(()) => commit,
            Err(error) => Commit::answered(Err(error)),
        }
    }
}

impl Shared {
    fn new(folder: &Path, key: &MailKey) -> Self {
        let digest_key = Sha256::new().chain_update(b"einmal mail digest\0").chain_update(*key.0).finalize();
        Self {
            folder: folder.to_owned(),
            queue: Queue::new(),
            index: RwLock::default(),
            admission: Mutex::new(Admission::new(1)),
            sealer: Sealer::new(key),
            digest_key: digest_key.into(),
            files: Mutex::default(),
            bytes_on_disk: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            held_up: AtomicBool::new(false),
        }
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits letters, tells of the new ones, and passes them to the writer, all in the order of ids.
    fn put(&self, letters: Vec<Sealed>, acknowledgement: Acknowledgement) -> Result<(), StoreError> {
        // Before taking the lock, which the writer needs to make room.
        self.queue.wait_for_room()?;
        let mut admission = self.admission();
        let mut letters = admission.admit(letters, &self.index())?;
        let told: Vec<_> = letters.iter_mut().map(Sealed::take_early).collect();
        self.queue.push_now(Job { work: Work::Put(letters), acknowledgement })?;
        for (early, mailbox, letter, payload) in told.into_iter().flatten() {
            // While the disk refuses writes, nobody is given a letter that may be lost.
            (early.tell)(mailbox, letter, payload.filter(|_| !self.held_up.load(Ordering::Relaxed)));
        }
        Ok(())
    }

    /// Passes work that removes letters to the writer; `work` is told the newest letter's id.
    fn take_away(
        &self,
        acknowledgement: Acknowledgement,
        work: impl FnOnce(u64) -> Work,
    ) -> Result<(), StoreError> {
        // Under the lock, so that every letter that was let in before is before it in the queue too, and no letter that comes
        // after is taken for one that leaves.
        let mut admission = self.admission();
        let work = work(admission.next_id().saturating_sub(1));
        admission.leaving.enter(&work);
        self.queue.push_now(Job { work, acknowledgement })
    }

    fn seal(&self, letters: Vec<NewLetter>) -> Result<Vec<Sealed>, StoreError> {
        letters
            .into_iter()
            .map(|letter| {
                check_len(&letter.payload)?;
                Sealed::new(letter, &self.sealer, &self.digest_key)
            })
            .collect()
    }

    /// Stops all writing.
    fn fail(&self) {
        self.queue.close(StoreError::Failed);
        self.queue.clear();
    }

    fn file(&self, number: u32) -> std::io::Result<Arc<File>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&number) {
            return Ok(Arc::clone(file));
        }
        if files.len() >= MAX_OPEN_FILES {
            files.clear();
        }
        let file = Arc::new(File::open(path_of(&self.folder, number, "mail"))?);
        files.insert(number, Arc::clone(&file));
        Ok(file)
    }

    fn bytes_of(&self, entry: &Entry) -> std::io::Result<Vec<u8>> {
        bytes_of(&*self.file(entry.place.segment)?, entry)
    }

    fn close_file(&self, number: u32) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

/// The bytes of an entry, as on the disk.
fn bytes_of(file: &File, entry: &Entry) -> std::io::Result<Vec<u8>> {
    let len = usize::try_from(entry.len).unwrap_or(usize::MAX).saturating_add(HEADER_LEN + SEAL_LEN);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, entry.place.offset.into())?;
    Ok(bytes)
}

/// The payload of a letter, if these are its bytes and they unseal.
fn open_letter(sealer: &Sealer, entry: &Entry, bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = frame::read(entry.place.segment, bytes)?;
    (header.id == entry.id).then(|| sealer.open(&header, body)).flatten()
}

impl Mail for LogMail {
    fn put(&self, letters: Vec<NewLetter>) -> Commit {
        let (acknowledgement, commit) = Commit::pending();
        let put = self.shared.seal(letters).and_then(|letters| self.shared.put(letters, acknowledgement));
        put.map_or_else(|error| Commit::answered(Err(error)), |()| commit)
    }

    fn remove(&self, mailbox: MailboxId, letters: Vec<LetterId>) -> Commit {
        let (acknowledgement, commit) = Commit::pending();
        let room = self.shared.queue.wait_for_room();
        let entered =
            room.and_then(|()| self.shared.take_away(acknowledgement, |_| Work::Remove(mailbox, letters)));
        entered.map_or_else(|error| Commit::answered(Err(error)), |()| commit)
    }

    fn clear(&self, mailbox: MailboxId, last: LetterId) -> Commit {
        let (acknowledgement, commit) = Commit::pending();
        // However busy the writer is: what it follows from has happened, and nobody asks for it again.
        let work = |newest| Work::Clear(mailbox, last.0.min(newest));
        let entered = self.shared.take_away(acknowledgement, work);
        entered.map_or_else(|error| Commit::answered(Err(error)), |()| commit)
    }

    fn list(&self, mailbox: MailboxId, after: Option<LetterId>, limit: usize, now: u64) -> Vec<Letter> {
        self.shared.index().list(mailbox, after, limit, now)
    }

    fn oldest(
        &self,
        mailboxes: &[MailboxId],
        after: Option<LetterId>,
        limit: usize,
        now: u64,
    ) -> Vec<(MailboxId, Letter)> {
        self.shared.index().oldest(mailboxes, after, limit, now)
    }

    fn last(&self) -> LetterId {
        self.shared.index().last()
    }

    fn newest(&self) -> LetterId {
        LetterId(self.shared.admission().next_id().saturating_sub(1))
    }

    fn held(&self, mailboxes: &[MailboxId], letters: &[LetterId]) -> Vec<(MailboxId, Vec<LetterId>)> {
        let admission = self.shared.admission();
        let mut held = self.shared.index().held(mailboxes, letters);
        let awaited: Vec<_> = admission.awaited(letters).collect();
        drop(admission);
        let asked: HashSet<&MailboxId> = mailboxes.iter().collect();
        for (mailbox, letter) in awaited.into_iter().filter(|(mailbox, _)| asked.contains(mailbox)) {
            match held.iter_mut().find(|(known, _)| *known == mailbox) {
                Some((_, letters)) => letters.push(letter),
                None => held.push((mailbox, vec![letter])),
            }
        }
        held
    }

    fn read(&self, mailbox: MailboxId, letter: LetterId) -> Result<Option<Vec<u8>>, StoreError> {
        for _ in 0..MAX_MOVES {
            let Some(entry) = self.shared.index().entry(mailbox, letter.0) else { return Ok(None) };
            let read = self.shared.bytes_of(&entry);
            if self.shared.index().entry(mailbox, letter.0) != Some(entry) {
                // The letter was moved or removed during the read.
                continue;
            }
            let bytes = match read {
                // The file is shorter than before, or the disk cannot read that part: only this letter is lost.
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof || is_bad_sector(&e) => Vec::new(),
                read => read.map_err(|e| StoreError::io("read mail", &e))?,
            };
            return match open_letter(&self.shared.sealer, &entry, &bytes) {
                Some(payload) => Ok(Some(payload)),
                None => {
                    self.shared.damaged.fetch_add(1, Ordering::Relaxed);
                    Err(StoreError::Damaged { what: "a letter does not unseal".into() })
                }
            };
        }
        Err(StoreError::LetterMoved)
    }

    fn state_without(&self, mailbox: MailboxId, gone: &[LetterId], now: u64) -> MailboxState {
        self.shared.index().state(mailbox, gone, now)
    }

    fn expire(&self, now: u64, limit: usize) -> u64 {
        let mut index = self.shared.index_mut();
        let gone = index.expired(now, limit);
        for (mailbox, id) in &gone {
            index.remove(*mailbox, *id);
        }
        let mailboxes: HashSet<MailboxId> = gone.iter().map(|(mailbox, _)| *mailbox).collect();
        index.note_ends(mailboxes);
        drop(index);
        if !gone.is_empty() {
            // Else the next start would find them again, and they would take the room of others until the clock is trusted. Nobody
            // waits for it: if it is lost, that is all that happens.
            drop(self.commit(Work::Clear(NOBODY, now)));
        }
        gone.len() as u64
    }

    fn mailboxes(&self, after: Option<MailboxId>) -> Vec<MailboxId> {
        self.shared.index().mailboxes(after)
    }

    fn stats(&self) -> MailStats {
        MailStats {
            bytes_on_disk: self.shared.bytes_on_disk.load(Ordering::Relaxed),
            flushes: self.shared.flushes.load(Ordering::Relaxed),
            damaged: self.shared.damaged.load(Ordering::Relaxed),
            ..self.shared.index().stats()
        }
    }

    fn is_open(&self) -> bool {
        self.shared.queue.is_open()
    }

    fn is_held_up(&self) -> bool {
        self.shared.held_up.load(Ordering::Relaxed)
    }

    fn is_stalled(&self) -> bool {
        self.shared.queue.is_stalled()
    }

    fn try_again(&self) {
        if self.is_held_up() && self.is_open() {
            // Nobody waits for the answer: the writer records the result.
            drop(self.commit(Work::Clear(NOBODY, 0)));
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.shared.queue.close(StoreError::Closed);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = writer.map_or(Ok(()), |writer| writer.join().map_err(|_| StoreError::TaskPanicked));
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        ended
    }
}

impl Drop for LogMail {
    fn drop(&mut self) {
        // Call `close` to learn whether it worked.
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests;
