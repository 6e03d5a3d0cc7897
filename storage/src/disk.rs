//! What makes files and folders durable, and what makes a read show the disk and not the memory.

use std::{fs::File, path::Path};

use crate::StoreError;

/// Creates `folder`, for its owner only, if it is missing.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|e| StoreError::io("create the folder", &e))
}

/// Makes a file, or the names in a folder, durable.
pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    #[cfg(test)]
    tests::note(path);
    // Only Unix allows opening and syncing a folder; elsewhere the file system's journal has to suffice.
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| StoreError::io("flush", &e))
}

/// Makes the name of a file or folder durable in the folder it lies in, so that a power loss does not take it with all
/// it holds.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        None => Ok(()),
        Some(parent) if parent.as_os_str().is_empty() => sync(Path::new(".")),
        Some(parent) => sync(parent),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        cell::RefCell,
        path::{Path, PathBuf},
    };

    thread_local! {
        static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    /// Notes what this thread syncs: whether that reached the disk shows only when the power is lost.
    pub(super) fn note(path: &Path) {
        SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    }

    /// What this thread synced since it was last asked.
    pub(crate) fn synced() -> Vec<PathBuf> {
        SYNCED.take()
    }
}
