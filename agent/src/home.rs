//! A node's folder: made by `init`, opened by `run`, locked by its store.

use std::{
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use einmal_keys::{Entropy, base64url_decode, base64url_encode};
use einmal_storage::{
    Batch, Passphrase, RECORDS_FILE, RECORDS_FOLDER, SEAL_FILE, Store, TenantId, Unlock, create_key_file,
    mail::{LogMail, MailKey},
};
use zeroize::Zeroizing;

use crate::{
    config::{CONFIG_FILE, Config},
    db::{Db, META, encode},
    error::SetupError,
    passphrase,
};

/// Name of the key file in a node's folder.
pub const KEY_FILE: &str = "store.key";
/// Name of the store's folder in a node's folder.
pub const STORE_FOLDER: &str = "store";
/// Name of the folder for a mediator's mail in its folder.
pub const MAIL_FOLDER: &str = "mail";
/// Name of the record with the key that seals the mail.
const MAIL_KEY: &str = "mail-key";
/// Environment variable that holds the passphrase of a store sealed by one.
pub const PASSPHRASE_VARIABLE: &str = "EINMAL_PASSPHRASE";

/// Makes a folder for a new node: configuration, key file or passphrase, empty sealed store.
///
/// # Errors
///
/// [`SetupError::AlreadyInitialised`], or why something could not be written.
pub fn init(dir: &Path, config: &Config) -> Result<(), SetupError> {
    if dir.join(CONFIG_FILE).exists() {
        return Err(SetupError::AlreadyInitialised { dir: dir.to_owned() });
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| SetupError::input(dir, error))?;
    if !config.passphrase {
        // An interrupted init leaves a key that seals nothing yet, perhaps not even a complete one.
        let key = dir.join(KEY_FILE);
        if key.exists() && !dir.join(STORE_FOLDER).exists() {
            std::fs::remove_file(&key).map_err(|error| SetupError::input(&key, error))?;
        }
        if !key.exists() {
            create_key_file(&key)?;
        }
    }
    // Opening once writes the sealed header, so that a wrong passphrase shows now and not at the first start.
    open_with(dir, &unlock(dir, config, new_passphrase)?)?.store().close()?;
    config.save(dir)?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(dir.join(CONFIG_FILE), mode).map_err(|error| SetupError::input(dir, error))
}

/// Opens the store of the node in `dir`; one process at a time. None is made here: a new store would be another node, with
/// other keys, that goes by the old one's settings.
///
/// # Errors
///
/// [`SetupError::Missing`] or [`SetupError::Store`] with the remedy.
pub fn open_store(dir: &Path, config: &Config) -> Result<Db, SetupError> {
    let folder = dir.join(STORE_FOLDER);
    // A header without records would be taken for a new store; records without their header are for the store to judge.
    let records = folder.join(RECORDS_FOLDER);
    if !holds_records(&records)? {
        let is_sealed = is_there(&folder.join(SEAL_FILE))?;
        let (path, what) = if is_sealed { (records, "records of the store") } else { (folder, "store") };
        return Err(SetupError::Missing { path, what });
    }
    open_with(dir, &unlock(dir, config, known_passphrase)?)
}

/// The passphrase that seals a store, from the environment or typed.
fn known_passphrase(what: &str) -> Result<Zeroizing<String>, SetupError> {
    std::env::var(PASSPHRASE_VARIABLE).map(Zeroizing::new).or_else(|_| passphrase::ask(what))
}

/// Whether a folder holds the records of a store, and not only what a new file system has.
pub(crate) fn holds_records(folder: &Path) -> Result<bool, SetupError> {
    is_there(&folder.join(RECORDS_FILE))
}

/// A passphrase to seal a store with, from the environment or typed twice.
fn new_passphrase(what: &str) -> Result<Zeroizing<String>, SetupError> {
    let passphrase = match std::env::var(PASSPHRASE_VARIABLE) {
        Ok(text) => Zeroizing::new(text),
        Err(_) => passphrase::ask_new(what)?,
    };
    passphrase::check_length(&passphrase)?;
    Ok(passphrase)
}

fn is_there(path: &Path) -> Result<bool, SetupError> {
    path.try_exists().map_err(|error| SetupError::input(path, error))
}

fn open_with(dir: &Path, unlock: &Unlock) -> Result<Db, SetupError> {
    let store = einmal_storage::open(&dir.join(STORE_FOLDER), unlock)?;
    Ok(Db::new(Arc::new(store) as Arc<dyn Store>, TenantId::default()))
}

/// Whether a record is the key of the mail. It is not restored: ids given to recipients are made with it, and the
/// restored mail numbers its letters anew, so an old id would name another letter.
pub(crate) fn is_mail_key(key: &einmal_storage::Key) -> bool {
    key.table() == META && key.id() == MAIL_KEY.as_bytes()
}

/// The key that seals the node's mail: made at the first start, kept among the sealed records.
///
/// # Errors
///
/// [`SetupError::Store`], or [`SetupError::Internal`] if the random source fails.
pub fn mail_key(db: &Db, entropy: &dyn Entropy) -> Result<Zeroizing<[u8; 32]>, SetupError> {
    if let Some(key) = read_mail_key(db)? {
        return Ok(key);
    }
    let key = fresh_mail_key(entropy)?;
    keep_mail_key(db, &key)?;
    Ok(key)
}

fn fresh_mail_key(entropy: &dyn Entropy) -> Result<Zeroizing<[u8; 32]>, SetupError> {
    let mut key = Zeroizing::new([0; 32]);
    entropy.fill(key.as_mut_slice()).map_err(SetupError::internal)?;
    Ok(key)
}

fn keep_mail_key(db: &Db, key: &Zeroizing<[u8; 32]>) -> Result<(), SetupError> {
    let mut batch = Batch::new();
    let place = db.key(META, MAIL_KEY)?;
    batch.expect_absent(place.clone()).put(place, encode(&Zeroizing::new(base64url_encode(key.as_slice())))?);
    db.store().commit(batch).wait()?;
    Ok(())
}

/// The key that seals the node's mail, if it was made already.
///
/// # Errors
///
/// [`SetupError::Store`].
pub(crate) fn stored_mail_key(db: &Db) -> Result<Option<MailKey>, SetupError> {
    Ok(read_mail_key(db)?.map(MailKey::new))
}

fn read_mail_key(db: &Db) -> Result<Option<Zeroizing<[u8; 32]>>, SetupError> {
    let Some(stored) = db.get::<Zeroizing<String>>(META, MAIL_KEY)? else { return Ok(None) };
    let bytes = base64url_decode(&stored.value).map(Zeroizing::new);
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    let key = key.ok_or_else(|| SetupError::internal("the stored mail key does not parse"))?;
    Ok(Some(Zeroizing::new(key)))
}

/// Opens the mail of the mediator in `dir`; made at the first start, when there is no key to it yet.
///
/// # Errors
///
/// [`SetupError::Missing`] if there was mail before, [`SetupError::Store`] with the remedy.
pub fn open_mail(dir: &Path, db: &Db, entropy: &dyn Entropy) -> Result<LogMail, SetupError> {
    let folder = dir.join(MAIL_FOLDER);
    if let Some(key) = read_mail_key(db)? {
        // An empty folder is where a volume was mounted: whoever opens mail leaves files there.
        if holds_nothing(&folder)? {
            return Err(SetupError::Missing { path: folder, what: "mail" });
        }
        return Ok(LogMail::open(&folder, &MailKey::new(key))?);
    }
    let key = fresh_mail_key(entropy)?;
    let mail = LogMail::open(&folder, &MailKey::new(key.clone()))?;
    // Only now: a start that is broken off in between finds no key, and no mail that was sealed with one.
    keep_mail_key(db, &key)?;
    Ok(mail)
}

/// Whether a folder is missing, or has nothing but what a new file system has.
pub(crate) fn holds_nothing(folder: &Path) -> Result<bool, SetupError> {
    let failed = |error| SetupError::input(folder, error);
    if !is_there(folder)? {
        return Ok(true);
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        if entry.map_err(failed)?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the secret that opens the store is at hand, or there is a person to ask.
pub(crate) fn can_unlock(config: &Config) -> bool {
    opens_unattended(config) || passphrase::is_somebody_there()
}

/// Whether the store opens without asking anybody.
pub(crate) fn opens_unattended(config: &Config) -> bool {
    !config.passphrase || std::env::var_os(PASSPHRASE_VARIABLE).is_some()
}

/// The secret that opens the store. A person at the terminal is asked with `ask`.
fn unlock(
    dir: &Path,
    config: &Config,
    ask: fn(&str) -> Result<Zeroizing<String>, SetupError>,
) -> Result<Unlock, SetupError> {
    if !config.passphrase {
        return Ok(Unlock::KeyFile(dir.join(KEY_FILE)));
    }
    if std::env::var_os(PASSPHRASE_VARIABLE).is_none() && !passphrase::is_somebody_there() {
        return Err(SetupError::Usage {
            problem: "the store of this node is sealed by a passphrase".into(),
            remedy: format!("set {PASSPHRASE_VARIABLE}, or start the command from a terminal"),
        });
    }
    Ok(Unlock::Passphrase(Passphrase::new(ask("Passphrase")?.as_str())?))
}

/// A path of the configuration: absolute, or relative to the node's folder.
pub fn resolve_path(dir: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() { path.to_owned() } else { dir.join(path) }
}

/// The files and folders the configuration names, as they are found from anywhere.
pub(crate) fn named_files(config: &Config, dir: &Path) -> Vec<PathBuf> {
    let tls = config.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]);
    let description = config.city.iter().map(|city| &city.description);
    let requests = config.merchant.iter().map(|merchant| &merchant.requests);
    let named = tls.chain(description).chain(requests).filter(|path| !path.as_os_str().is_empty());
    named.map(|path| resolve_path(dir, path)).collect()
}

/// Makes relative paths of the configuration relative to the node's folder.
pub(crate) fn resolve_paths(config: &mut Config, dir: &Path) {
    for path in [
        config.city.as_mut().map(|city| &mut city.description),
        config.merchant.as_mut().map(|merchant| &mut merchant.requests),
        config.tls.as_mut().map(|tls| &mut tls.key),
    ]
    .into_iter()
    .flatten()
    {
        if !path.as_os_str().is_empty() {
            *path = resolve_path(dir, path);
        }
    }
    if let Some(tls) = &mut config.tls {
        tls.certificate = resolve_path(dir, &tls.certificate);
    }
}

#[cfg(test)]
mod tests {
    use einmal_storage::mail::Mail;

    use super::*;
    use crate::config::Role;

    #[test]
    fn a_store_whose_passphrase_somebody_typed_does_not_open_unattended() {
        let sealed = Config { passphrase: true, ..Config::new(Role::Mediator) };
        assert_eq!(opens_unattended(&sealed), std::env::var_os(PASSPHRASE_VARIABLE).is_some());
        assert!(opens_unattended(&Config::new(Role::Mediator)), "a key file asks nobody");
    }

    #[test]
    fn new_folder_is_private_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node");
        let config = Config::new(Role::Mediator);
        init(&folder, &config).unwrap();
        for (name, mode) in [(".", 0o700), (KEY_FILE, 0o600), (CONFIG_FILE, 0o600)] {
            let found = std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{name}");
        }
        open_store(&folder, &Config::load(&folder).unwrap()).unwrap();
    }

    #[test]
    fn an_init_that_was_interrupted_can_be_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(Role::Mediator);
        std::fs::write(dir.path().join(KEY_FILE), b"short").unwrap();
        init(dir.path(), &config).unwrap();
        // An init interrupted later has sealed the store, and only the configuration is missing: the key stays.
        let key = std::fs::read(dir.path().join(KEY_FILE)).unwrap();
        std::fs::remove_file(dir.path().join(CONFIG_FILE)).unwrap();
        init(dir.path(), &config).unwrap();
        assert_eq!(std::fs::read(dir.path().join(KEY_FILE)).unwrap(), key);
        open_store(dir.path(), &config).unwrap();
    }

    #[test]
    fn second_init_is_refused_and_keeps_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node");
        init(&folder, &Config::new(Role::City)).unwrap();
        let key = std::fs::read(folder.join(KEY_FILE)).unwrap();
        let refused = init(&folder, &Config::new(Role::Citizen)).unwrap_err();
        assert!(matches!(refused, SetupError::AlreadyInitialised { .. }));
        assert_eq!(std::fs::read(folder.join(KEY_FILE)).unwrap(), key);
        assert_eq!(Config::load(&folder).unwrap().role, Role::City);
    }

    #[test]
    fn a_node_whose_store_is_missing_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node");
        let config = Config::new(Role::Mediator);
        init(&folder, &config).unwrap();
        std::fs::remove_dir_all(folder.join(STORE_FOLDER)).unwrap();
        let refused = |why: &str| {
            let error = open_store(&folder, &config).unwrap_err();
            assert!(matches!(error, SetupError::Missing { what: "store", .. }), "{why}: {error}");
            let said = error.to_string();
            assert!(said.contains("mount") && said.contains("einmal restore"), "{said}");
        };
        refused("not there");
        assert!(!folder.join(STORE_FOLDER).exists(), "nothing is left behind");
        std::fs::create_dir(folder.join(STORE_FOLDER)).unwrap();
        refused("where a volume was mounted");
    }

    #[test]
    fn mail_that_is_missing_is_not_begun_anew_once_there_was_some() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node");
        let config = Config::new(Role::Mediator);
        init(&folder, &config).unwrap();
        let db = open_store(&folder, &config).unwrap();
        let open = || open_mail(&folder, &db, &einmal_keys::SystemEntropy);
        open().unwrap().close().unwrap();
        open().unwrap().close().unwrap();
        std::fs::remove_dir_all(folder.join(MAIL_FOLDER)).unwrap();
        assert!(matches!(open().unwrap_err(), SetupError::Missing { what: "mail", .. }));
        std::fs::create_dir_all(folder.join(MAIL_FOLDER).join("lost+found")).unwrap();
        assert!(matches!(open().unwrap_err(), SetupError::Missing { what: "mail", .. }));
    }

    #[test]
    fn store_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("node");
        let config = Config::new(Role::Mediator);
        init(&folder, &config).unwrap();
        let _held = open_store(&folder, &config).unwrap();
        let refused = open_store(&folder, &config).unwrap_err().to_string();
        assert!(refused.contains("another process"), "{refused}");
    }
}
