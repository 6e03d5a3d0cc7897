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

/// Makes every file in a folder durable, and the next reads of them show what the disk has.
///
/// After a failed flush the system holds what it could not write for written. Read again from memory it would be taken for
/// durable, and be lost with the power.
pub(crate) fn reread(folder: &Path) -> Result<(), StoreError> {
    let failed = |e: &std::io::Error| StoreError::io("look at the folder", e);
    for entry in std::fs::read_dir(folder).map_err(|e| failed(&e))? {
        let path = entry.map_err(|e| failed(&e))?.path();
        if path.is_file() {
            sync(&path)?;
            drop_cached(&File::open(&path).map_err(|e| failed(&e))?);
        }
    }
    Ok(())
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

/// Makes the system forget what it holds of a file in memory and need not write any more, so that the next read shows what
/// the disk has: after a failed flush it holds for written what is not.
pub(crate) fn drop_cached(file: &File) {
    #[cfg(target_os = "linux")]
    // It is an advice: a file system that does not know it has nothing to forget, or shows what it would write.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        cell::RefCell,
        path::{Path, PathBuf},
    };

    use super::*;

    thread_local! {
        static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
        static ON_SYNC: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
    }

    /// Notes what this thread syncs: whether that reached the disk shows only when the power is lost.
    pub(super) fn note(path: &Path) {
        SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
        ON_SYNC.with_borrow_mut(|then| then.iter_mut().for_each(|then| then()));
    }

    /// From now on calls this whenever this thread waits for the disk.
    pub(crate) fn on_sync(then: impl FnMut() + 'static) {
        ON_SYNC.set(Some(Box::new(then)));
    }

    /// What this thread synced since it was last asked.
    pub(crate) fn synced() -> Vec<PathBuf> {
        SYNCED.take()
    }

    /// Whether the system has the beginning of a file in memory; `None` where it does not tell.
    #[cfg(target_os = "linux")]
    fn is_cached(path: &Path) -> Option<bool> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        let mut byte = [0];
        let read = preadv2(
            File::open(path).unwrap(),
            &mut [std::io::IoSliceMut::new(&mut byte)],
            0,
            ReadWriteFlags::NOWAIT,
        );
        match read {
            Ok(_) => Some(true),
            Err(Errno::AGAIN) => Some(false),
            Err(_) => None,
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_read_anew_comes_from_the_disk_and_not_from_memory() {
        // A folder in memory has no disk below it, so not the one for temporary files.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 100_000]).unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        if is_cached(&path) != Some(true) {
            eprintln!("skipped: this file system does not tell what is in memory");
            return;
        }
        reread(folder.path()).unwrap();
        assert_eq!(is_cached(&path), Some(false));
        assert_eq!(std::fs::read(&path).unwrap(), [7; 100_000]);
    }
}
