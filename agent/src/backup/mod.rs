//! Backups: everything a node is in one encrypted file, and a node made again from such a file.
//!
//! The file is in the format of `age` (passphrase, scrypt, ChaCha20-Poly1305 in numbered chunks), so a change, a cut or
//! a chunk out of place is refused, and the usual tool opens it too. Inside are items: the store's format,
//! configuration, records, letters, and at the end their counts.

mod item;
mod restore;
mod write;

use std::{fs::File, path::Path};

use age::secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

pub(crate) use self::write::{backup_running, refuse_existing};
pub use self::{
    item::{MAX_CONFIG_LEN, MAX_ITEM_LEN},
    restore::{Restored, restore},
    write::{Written, backup_folder},
};
use crate::{error::SetupError, passphrase};

/// Environment variable that holds the passphrase of a backup.
pub const PASSPHRASE_VARIABLE: &str = "EINMAL_BACKUP_PASSPHRASE";
/// Minimum length of a passphrase, in characters.
pub const MIN_PASSPHRASE_CHARS: usize = 12;

/// The passphrase of a new backup: from the environment, or asked for twice.
///
/// # Errors
///
/// [`SetupError::Usage`] if there is none, or it is too short to protect anything.
pub fn new_passphrase() -> Result<SecretString, SetupError> {
    passphrase_by(passphrase::ask_new)
}

/// The passphrase of an existing backup: from the environment, or asked for.
///
/// # Errors
///
/// [`SetupError::Usage`] if there is none, or it is too short to be one.
pub fn passphrase() -> Result<SecretString, SetupError> {
    passphrase_by(passphrase::ask)
}

fn passphrase_by(ask: fn(&str) -> Result<Zeroizing<String>, SetupError>) -> Result<SecretString, SetupError> {
    let text = match std::env::var(PASSPHRASE_VARIABLE) {
        Ok(text) => text,
        Err(_) if passphrase::is_somebody_there() => ask("Passphrase of the backup")?.to_string(),
        Err(_) => {
            return Err(SetupError::Usage {
                problem: "a backup is sealed by a passphrase".into(),
                remedy: format!("set {PASSPHRASE_VARIABLE}, or start the command from a terminal"),
            });
        }
    };
    check_passphrase(text.into())
}

/// The folder that contains `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file, or the names in a folder, durable.
fn sync(path: &Path) -> Result<(), SetupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| SetupError::input(path, e))
}

/// Accepts a passphrase if it is long enough.
///
/// # Errors
///
/// [`SetupError::Usage`].
pub fn check_passphrase(passphrase: SecretString) -> Result<SecretString, SetupError> {
    passphrase::check_length(passphrase.expose_secret())?;
    Ok(passphrase)
}

#[cfg(test)]
mod tests;
