//! The folder of a node's store: header, records, lock.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    thread,
};

use crate::{
    FORMAT, Sealed, SledStore, Store, StoreError, Unlock,
    disk::{create_private_folder, sync, sync_parent},
    migrate::{MIGRATIONS, is_empty, migrate},
    seal::unseal_or_create,
};

/// Name of the sub-folder that holds the records.
pub const RECORDS_FOLDER: &str = "records";
/// Name of the file in that sub-folder that is there as long as it holds records.
pub const RECORDS_FILE: &str = "db";
/// Name of the file in a folder that is locked by the process using it.
pub(crate) const LOCK_FILE: &str = "lock";

/// Opens or creates the store of a node in `folder`: sled under sealed values, migrated to the newest format.
///
/// `folder` then holds `seal.json` (the wrapped data key) and `records/` (sled). A backup needs both.
///
/// # Errors
///
/// - [`StoreError::InUse`] if another process has it open;
/// - [`StoreError::WrongPassphrase`], [`StoreError::WrongKeyFile`], [`StoreError::WrongUnlock`] or one of the
///   key file errors if `unlock` does not open it;
/// - [`StoreError::SealFile`] if the header is damaged, or missing although there are records;
/// - [`StoreError::Unsealable`] if header and records do not belong to the same store;
/// - [`StoreError::FormatTooNew`] or [`StoreError::NoMigration`] if this program cannot open the store;
/// - [`StoreError::Io`], [`StoreError::Full`], [`StoreError::Damaged`].
pub fn open(folder: &Path, unlock: &Unlock) -> Result<Sealed<SledStore>, StoreError> {
    create_private_folder(folder)?;
    sync_parent(folder)?;
    let records = SledStore::open(&folder.join(RECORDS_FOLDER))?;
    sync(folder)?;
    let data_key = unseal_or_create(folder, unlock, || is_empty(&records))?;
    let store = Sealed::new(records, data_key);
    match migrate(&store, MIGRATIONS, FORMAT) {
        Ok(()) => Ok(store),
        Err(error) => {
            store.close()?;
            Err(error)
        }
    }
}

/// Locks a folder for this process only, until the file is closed.
///
/// # Errors
///
/// [`StoreError::InUse`] if it is already locked, [`StoreError::Io`], [`StoreError::Full`].
pub(crate) fn lock(folder: &Path) -> Result<File, StoreError> {
    let failed = |e: &std::io::Error| StoreError::io("lock the folder", e);
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(folder.join(LOCK_FILE)).map_err(|e| failed(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(e)) => Err(failed(&e)),
    }
}

/// Runs a function if its scope is left by a panic.
pub(crate) struct OnPanic<F: Fn()>(pub(crate) F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests;
