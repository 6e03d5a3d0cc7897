//! The header file of a sealed store: the data key, wrapped by a passphrase or a key file.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use argon2::{Algorithm, Argon2, Params};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce, aead::AeadInOut};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    cipher::{DataKey, KEY_LEN, NONCE_LEN},
    key_file::read_key_file,
};
use crate::{StoreError, disk::sync};

/// Name of the header file in the folder of a store.
pub const SEAL_FILE: &str = "seal.json";
/// Longest passphrase in bytes.
pub const MAX_PASSPHRASE_LEN: usize = 1024;

/// The newest header this program knows.
const HEADER_FORMAT: u32 = 1;
/// Longest header file, in bytes; a real header has a few hundred.
const MAX_HEADER_LEN: u64 = 4096;
/// Argon2id as in OWASP's password storage guidance: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// The most a header may demand, so that a forged one cannot exhaust the machine.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;
const SALT_LEN: usize = 16;
const SEALED_KEY_LEN: usize = KEY_LEN + 16;

/// A passphrase. Cannot be printed; wiped when dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Wraps a passphrase of 1 to [`MAX_PASSPHRASE_LEN`] bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::PassphraseLength`].
    pub fn new(text: impl Into<String>) -> Result<Self, StoreError> {
        let text = Zeroizing::new(text.into());
        if text.is_empty() || text.len() > MAX_PASSPHRASE_LEN {
            return Err(StoreError::PassphraseLength);
        }
        Ok(Self(text))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// What opens a sealed store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Unlock {
    /// Known by a person; stretched with Argon2id.
    Passphrase(Passphrase),
    /// A file made by [`create_key_file`](crate::create_key_file), for nodes that must start unattended.
    KeyFile(PathBuf),
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    wrapped_by: WrappedBy,
    nonce: String,
    sealed_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum WrappedBy {
    Passphrase { kdf: Kdf, memory_kib: u32, passes: u32, lanes: u32, salt: String },
    KeyFile,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kdf {
    Argon2id,
}

/// Opens the data key of the store in `folder`. Without a header, `is_new` says whether to create one: for a store with
/// records, a new data key would hide that the old one is lost.
pub(crate) fn unseal_or_create(
    folder: &Path,
    unlock: &Unlock,
    is_new: impl FnOnce() -> Result<bool, StoreError>,
) -> Result<DataKey, StoreError> {
    if let Some(header) = read(folder)? {
        return Ok(DataKey::new(&header.unwrap_key(folder, unlock)?));
    }
    if !is_new()? {
        return Err(problem(folder, "it is missing, but there are records"));
    }
    let mut data_key = Zeroizing::new([0; KEY_LEN]);
    getrandom::fill(&mut *data_key).map_err(|_| StoreError::Entropy)?;
    write(folder, &Header::wrap_key(&data_key, unlock)?)?;
    Ok(DataKey::new(&data_key))
}

/// Changes what opens the store in `folder`, from `old` to `new`. The records stay unchanged, and a node running on the
/// store does not notice. A crash leaves either the old header or the new one.
///
/// Anyone with a copy of the old header and the old passphrase can still open the store.
///
/// # Errors
///
/// Those of opening with `old`, or [`StoreError::Io`] if the header cannot be written.
pub fn rewrap(folder: &Path, old: &Unlock, new: &Unlock) -> Result<(), StoreError> {
    let header = read(folder)?.ok_or_else(|| problem(folder, "it is missing"))?;
    let data_key = header.unwrap_key(folder, old)?;
    write(folder, &Header::wrap_key(&data_key, new)?)
}

impl Header {
    fn wrap_key(data_key: &Zeroizing<[u8; KEY_LEN]>, unlock: &Unlock) -> Result<Self, StoreError> {
        let mut salt = [0; SALT_LEN];
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut salt).map_err(|_| StoreError::Entropy)?;
        getrandom::fill(&mut nonce).map_err(|_| StoreError::Entropy)?;
        let (wrapping_key, wrapped_by) = match unlock {
            Unlock::KeyFile(path) => (read_key_file(path)?, WrappedBy::KeyFile),
            Unlock::Passphrase(passphrase) => {
                let params =
                    Params::new(MEMORY_KIB, PASSES, LANES, Some(KEY_LEN)).map_err(stretching_failed)?;
                let wrapped_by = WrappedBy::Passphrase {
                    kdf: Kdf::Argon2id,
                    memory_kib: MEMORY_KIB,
                    passes: PASSES,
                    lanes: LANES,
                    salt: BASE64.encode(salt),
                };
                (stretch(passphrase, params, &salt)?, wrapped_by)
            }
        };
        let mut sealed_key = data_key.to_vec();
        let tag = XChaCha20Poly1305::new((&*wrapping_key).into())
            .encrypt_inout_detached(
                &XNonce::from(nonce),
                &wrapped_by.associated_data(),
                sealed_key.as_mut_slice().into(),
            )
            .map_err(|_| StoreError::Entropy)?;
        sealed_key.extend_from_slice(&tag);
        let (nonce, sealed_key) = (BASE64.encode(nonce), BASE64.encode(sealed_key));
        Ok(Self { format: HEADER_FORMAT, wrapped_by, nonce, sealed_key })
    }

    fn unwrap_key(&self, folder: &Path, unlock: &Unlock) -> Result<Zeroizing<[u8; KEY_LEN]>, StoreError> {
        let nonce: [u8; NONCE_LEN] = decode(folder, "nonce", &self.nonce)?;
        let sealed: [u8; SEALED_KEY_LEN] = decode(folder, "sealed_key", &self.sealed_key)?;
        let (wrapping_key, wrong) = match (&self.wrapped_by, unlock) {
            (WrappedBy::KeyFile, Unlock::KeyFile(path)) => (read_key_file(path)?, StoreError::WrongKeyFile),
            (
                WrappedBy::Passphrase { memory_kib, passes, lanes, salt, .. },
                Unlock::Passphrase(passphrase),
            ) => {
                let salt: [u8; SALT_LEN] = decode(folder, "salt", salt)?;
                let within = (MEMORY_KIB..=MAX_MEMORY_KIB).contains(memory_kib)
                    && (PASSES..=MAX_PASSES).contains(passes)
                    && (LANES..=MAX_LANES).contains(lanes);
                let params = Params::new(*memory_kib, *passes, *lanes, Some(KEY_LEN)).ok().filter(|_| within);
                let params = params.ok_or_else(|| problem(folder, "its parameters are out of bounds"))?;
                (stretch(passphrase, params, &salt)?, StoreError::WrongPassphrase)
            }
            (WrappedBy::KeyFile, _) => return Err(StoreError::WrongUnlock { expected: "a key file" }),
            (WrappedBy::Passphrase { .. }, _) => {
                return Err(StoreError::WrongUnlock { expected: "a passphrase" });
            }
        };
        let (Some(key), Some(tag)) = (sealed.first_chunk::<KEY_LEN>(), sealed.last_chunk::<16>()) else {
            return Err(problem(folder, "sealed_key has the wrong length"));
        };
        let mut key = Zeroizing::new(*key);
        XChaCha20Poly1305::new((&*wrapping_key).into())
            .decrypt_inout_detached(
                &XNonce::from(nonce),
                &self.wrapped_by.associated_data(),
                key.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| wrong)?;
        Ok(key)
    }
}

impl WrappedBy {
    /// Binds the wrapped key to the way it is wrapped.
    fn associated_data(&self) -> Vec<u8> {
        let mut data = b"einmal data key 1\0".to_vec();
        match self {
            Self::KeyFile => data.push(1),
            Self::Passphrase { kdf: Kdf::Argon2id, memory_kib, passes, lanes, salt } => {
                data.push(2);
                for number in [memory_kib, passes, lanes] {
                    data.extend_from_slice(&number.to_be_bytes());
                }
                data.extend_from_slice(salt.as_bytes());
            }
        }
        data
    }
}

fn stretch(
    passphrase: &Passphrase,
    params: Params,
    salt: &[u8; SALT_LEN],
) -> Result<Zeroizing<[u8; KEY_LEN]>, StoreError> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(passphrase.0.as_bytes(), salt, &mut *key)
        .map_err(stretching_failed)?;
    Ok(key)
}

fn stretching_failed(error: argon2::Error) -> StoreError {
    let kind = io::ErrorKind::OutOfMemory;
    StoreError::Io { during: "stretch the passphrase", kind, detail: error.to_string() }
}

fn problem(folder: &Path, problem: impl Into<String>) -> StoreError {
    StoreError::SealFile { path: folder.join(SEAL_FILE), problem: problem.into() }
}

fn decode<const LEN: usize>(folder: &Path, field: &str, text: &str) -> Result<[u8; LEN], StoreError> {
    let bytes = BASE64.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| problem(folder, format!("{field} is not {LEN} bytes of base64")))
}

fn read(folder: &Path) -> Result<Option<Header>, StoreError> {
    let path = folder.join(SEAL_FILE);
    let len = match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(problem(folder, e.to_string())),
        Ok(metadata) => metadata.len(),
    };
    if len > MAX_HEADER_LEN {
        return Err(problem(folder, "it is too large"));
    }
    let bytes = fs::read(&path).map_err(|e| problem(folder, e.to_string()))?;
    let json: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|_| problem(folder, "it is not JSON"))?;
    // Checked first, because a newer header may have other fields.
    let found = json.get("format").and_then(serde_json::Value::as_u64).and_then(|n| u32::try_from(n).ok());
    match found {
        Some(HEADER_FORMAT) => {}
        Some(found) if found > HEADER_FORMAT => {
            return Err(StoreError::FormatTooNew { found, supported: HEADER_FORMAT });
        }
        _ => return Err(problem(folder, "it names no format")),
    }
    let header = serde_json::from_value(json).map_err(|e| problem(folder, e.to_string()))?;
    Ok(Some(header))
}

/// Writes the header whole or not at all.
fn write(folder: &Path, header: &Header) -> Result<(), StoreError> {
    let failed = |e: io::Error| StoreError::io("write seal.json", &e);
    let json = serde_json::to_vec_pretty(header).map_err(|e| failed(e.into()))?;
    let (new, path) = (folder.join("seal.json.new"), folder.join(SEAL_FILE));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new).map_err(failed)?;
    file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, &path).map_err(failed)?;
    sync(folder)
}
