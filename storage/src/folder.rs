//! The folder of a node's store: header, records, lock.

use std::path::Path;

use crate::{
    FORMAT, Sealed, SledStore, Store, StoreError, Unlock,
    migrate::{MIGRATIONS, is_empty, migrate},
    seal::unseal_or_create,
    sled::{create_private_folder, sync},
};

/// Name of the sub-folder that holds the records.
pub const RECORDS_FOLDER: &str = "records";

/// Opens the store of a node in `folder`, or creates it: sled under sealed values, brought to the newest format.
///
/// `folder` then holds `seal.json` (the wrapped data key) and `records/` (sled). A backup needs both.
///
/// # Errors
///
/// - [`StoreError::InUse`] if another process has it open;
/// - [`StoreError::WrongPassphrase`], [`StoreError::WrongKeyFile`], [`StoreError::WrongUnlock`] or one of the
///   key file errors if `unlock` does not open it;
/// - [`StoreError::SealFile`] if the header is damaged, or missing beside existing records;
/// - [`StoreError::Unsealable`] if header and records are not of the same store;
/// - [`StoreError::FormatTooNew`] or [`StoreError::NoMigration`] if this is not the program to open it with;
/// - [`StoreError::Io`], [`StoreError::Full`], [`StoreError::Damaged`].
pub fn open(folder: &Path, unlock: &Unlock) -> Result<Sealed<SledStore>, StoreError> {
    create_private_folder(folder)?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync(parent)?;
    }
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

#[cfg(test)]
mod tests;
