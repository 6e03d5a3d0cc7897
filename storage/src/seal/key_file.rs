//! A key file: 32 random bytes that only the node's user can read.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::Path,
};

use zeroize::Zeroizing;

use super::cipher::KEY_LEN;
use crate::{StoreError, disk::sync_parent};

/// Length of a key file in bytes.
pub const KEY_FILE_LEN: usize = KEY_LEN;

/// Creates the key file `path` with fresh random bytes, readable by its owner only. An existing file is never
/// touched.
///
/// # Errors
///
/// [`StoreError::Io`] if the file exists or cannot be written, [`StoreError::Entropy`].
pub fn create_key_file(path: &Path) -> Result<(), StoreError> {
    let mut key = Zeroizing::new([0; KEY_FILE_LEN]);
    getrandom::fill(&mut *key).map_err(|_| StoreError::Entropy)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = |options: &OpenOptions| {
        let mut file = options.open(path)?;
        file.write_all(&*key)?;
        file.sync_all()
    };
    write(&options).map_err(|e| StoreError::io("create the key file", &e))?;
    sync_parent(path)
}

/// Reads a key file after making sure that nobody else can read it.
pub(super) fn read_key_file(path: &Path) -> Result<Zeroizing<[u8; KEY_FILE_LEN]>, StoreError> {
    let problem = |problem: String| StoreError::KeyFile { path: path.to_path_buf(), problem };
    let mut file = File::open(path).map_err(|e| problem(e.to_string()))?;
    // Taken from the open file, so that the file cannot be swapped in between.
    let metadata = file.metadata().map_err(|e| problem(e.to_string()))?;
    if !metadata.is_file() {
        return Err(problem("not a regular file".into()));
    }
    #[cfg(unix)]
    check_owner(path, &metadata)?;
    let mut key = Zeroizing::new([0; KEY_FILE_LEN]);
    let wrong_length = || problem(format!("it must have exactly {KEY_FILE_LEN} bytes"));
    file.read_exact(&mut *key).map_err(|_| wrong_length())?;
    match file.read(&mut [0]) {
        Ok(0) => Ok(key),
        _ => Err(wrong_length()),
    }
}

#[cfg(unix)]
fn check_owner(path: &Path, metadata: &std::fs::Metadata) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt;

    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 {
        return Err(StoreError::KeyFilePermissions { path: path.to_path_buf(), mode });
    }
    if owner != rustix::process::geteuid().as_raw() {
        return Err(StoreError::KeyFileOwner { path: path.to_path_buf(), owner });
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_created_key_file_reads_back_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        create_key_file(&one).unwrap();
        create_key_file(&two).unwrap();
        assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(*read_key_file(&one).unwrap(), *read_key_file(&two).unwrap());
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_key_file(&path).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(
            create_key_file(&path),
            Err(StoreError::Io { kind: std::io::ErrorKind::AlreadyExists, .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_key_file_that_others_can_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create_key_file(&path).unwrap();
        for mode in [0o644, 0o640, 0o602, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_key_file(&path).unwrap_err();
            assert_eq!(error, StoreError::KeyFilePermissions { path: path.clone(), mode });
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read_key_file(&path).is_ok());
    }

    #[test]
    fn a_key_file_of_another_length_or_none_at_all_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(read_key_file(&path), Err(StoreError::KeyFile { .. })));
        for len in [0, KEY_FILE_LEN - 1, KEY_FILE_LEN + 1] {
            fs::write(&path, vec![7; len]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(read_key_file(&path), Err(StoreError::KeyFile { .. })), "{len}");
        }
        assert!(matches!(read_key_file(folder.path()), Err(StoreError::KeyFile { .. })));
    }
}
