//! Making a node from a backup: in a folder that is empty or does not exist yet, completely or not at all.

use std::{
    ffi::OsString,
    fs::{DirEntry, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use age::{DecryptError, Decryptor, scrypt, secrecy::SecretString};
use einmal_keys::SystemEntropy;
use einmal_storage::{
    Batch, FORMAT,
    mail::{Mail, NewLetter},
};

use super::{
    item::{Item, Reader},
    parent, sync,
};
use crate::{
    config::{CONFIG_FILE, Config, Role},
    db::Db,
    error::SetupError,
    home,
    service::status::close_lists,
};

/// Records and letters written at a time.
const GROUP: usize = 256;
/// Bytes after which a group is written.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Most work that the head of a file may demand of scrypt, as the power of two of its cost: 20 takes 1 GiB of memory.
const MAX_WORK_FACTOR: u8 = 20;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The node's role.
    pub role: Role,
    /// Records of the store.
    pub records: u64,
    /// Letters of a mediator's mail.
    pub letters: u64,
    /// What the configuration names and is not there: such files are in no backup, and the node does not start without them.
    pub missing: Vec<PathBuf>,
}

/// Makes the node of a backup in `dir`, with a new key file. Ids of letters may differ from before. An existing empty
/// folder, such as a mount point, is filled and keeps its mode.
///
/// # Errors
///
/// [`SetupError`] with the remedy; nothing is left behind then.
pub fn restore(backup: &Path, dir: &Path, passphrase: SecretString) -> Result<Restored, SetupError> {
    let there = dir.is_dir();
    if dir.is_file() || (there && !is_empty(dir)?) {
        return Err(SetupError::Usage {
            problem: format!("{} is not empty", dir.display()),
            remedy: "restore into a folder that is empty or not there yet".into(),
        });
    }
    // On the same file system, so that the complete result can be moved in one step.
    let draft = if there { dir.join("restore.part") } else { beside(dir) };
    if draft.exists() {
        return Err(SetupError::Usage {
            problem: format!("{} is left from a restore that was broken off", draft.display()),
            remedy: "remove it and try again".into(),
        });
    }
    let restored = fill(backup, &draft, passphrase).and_then(|(config, mut restored)| {
        sync(&draft.join(CONFIG_FILE))?;
        sync(&draft)?;
        if there {
            move_in(&draft, dir)?;
            sync(dir)?;
        } else {
            std::fs::rename(&draft, dir).map_err(|e| SetupError::input(dir, e))?;
            sync(parent(dir))?;
        }
        restored.missing = home::named_files(&config, dir);
        restored.missing.retain(|path| !path.exists());
        Ok(restored)
    });
    if restored.is_err() {
        let _ = std::fs::remove_dir_all(&draft);
    }
    restored
}

/// Whether a folder holds nothing but what a new file system has.
fn is_empty(dir: &Path) -> Result<bool, SetupError> {
    Ok(names(dir, std::fs::read_dir(dir))?.iter().all(|name| name == "lost+found"))
}

/// All names in a folder, or an error: an unread name would not be moved, and its folder might look empty.
fn names(
    dir: &Path,
    files: io::Result<impl Iterator<Item = io::Result<DirEntry>>>,
) -> Result<Vec<OsString>, SetupError> {
    let failed = |e| SetupError::input(dir, e);
    files.map_err(failed)?.map(|file| Ok(file.map_err(failed)?.file_name())).collect()
}

fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    dir.with_file_name(name)
}

/// Moves everything from `draft` into `dir`, the configuration last: without it the folder holds no node.
fn move_in(draft: &Path, dir: &Path) -> Result<(), SetupError> {
    let mut names = names(draft, std::fs::read_dir(draft))?;
    names.sort_by_key(|name| name == CONFIG_FILE);
    let mut moved = Vec::new();
    for name in names {
        let place = dir.join(&name);
        if let Err(error) = std::fs::rename(draft.join(&name), &place) {
            for name in moved {
                let _ = std::fs::rename(dir.join(&name), draft.join(&name));
            }
            return Err(SetupError::input(&place, error));
        }
        moved.push(name);
    }
    std::fs::remove_dir(draft).map_err(|e| SetupError::input(draft, e))
}

/// The error for a backup that does not open, with the remedy.
fn unusable(backup: &Path, error: &dyn std::fmt::Display) -> SetupError {
    SetupError::input(backup, format!("{error}; take an undamaged copy of the backup"))
}

/// The items of a backup, if the passphrase opens it.
fn opened(backup: &Path, passphrase: SecretString) -> Result<Reader<impl Read>, SetupError> {
    let file = File::open(backup).map_err(|e| SetupError::input(backup, e))?;
    let decryptor = Decryptor::new(BufReader::new(file)).map_err(|error| unusable(backup, &error))?;
    let mut identity = scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let open =
        decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|error| match error {
            DecryptError::DecryptionFailed | DecryptError::NoMatchingKeys => SetupError::Usage {
                problem: "the passphrase does not open this backup".into(),
                remedy: "give the one it was made with".into(),
            },
            error => unusable(backup, &error),
        })?;
    Reader::begin(open).map_err(|error| unusable(backup, &error))
}

/// The configuration, which comes after the format and before all records.
fn configuration<R: Read>(backup: &Path, items: &mut Reader<R>) -> Result<String, SetupError> {
    let failed = |error: io::Error| unusable(backup, &error);
    let mut first = items.read().map_err(failed)?;
    if let Item::Format(format) = first {
        check_format(backup, format)?;
        first = items.read().map_err(failed)?;
    }
    match first {
        Item::Config(text) => Ok(text),
        _ => Err(unusable(backup, &"it does not begin with a configuration")),
    }
}

fn fill(backup: &Path, draft: &Path, passphrase: SecretString) -> Result<(Config, Restored), SetupError> {
    let failed = |error: io::Error| unusable(backup, &error);
    let mut items = opened(backup, passphrase)?;
    let text = configuration(backup, &mut items)?;
    let config = Config::read(&text).map_err(|problem| unusable(backup, &problem))?;
    home::init(draft, &config)?;
    std::fs::write(draft.join(CONFIG_FILE), &text).map_err(|e| SetupError::input(draft, e))?;
    let db = home::open_store(draft, &config)?;
    let mut sink =
        Sink { db: &db, mail: None, batch: Batch::new(), letters: Vec::new(), waiting: 0, bytes: 0 };
    let (mut records, mut letters) = (0, 0);
    loop {
        match items.read().map_err(failed)? {
            Item::Record(record) => {
                records += 1;
                if home::is_mail_key(&record.key) {
                    continue;
                }
                sink.bytes += record.value.len();
                sink.batch.put_expiring(record.key, record.value, record.expires_at.unwrap_or(u64::MAX));
            }
            Item::Letter(letter) => {
                letters += 1;
                // All records come first.
                sink.flush()?;
                sink.open_mail(draft)?;
                sink.bytes += letter.payload.len();
                sink.letters.push(letter);
            }
            Item::End { records: said, letters: and } if (said, and) == (records, letters) => break,
            Item::End { .. } => return Err(unusable(backup, &"it holds less than it says")),
            Item::Config(_) | Item::Format(_) => {
                return Err(unusable(backup, &"it holds a second configuration"));
            }
        }
        sink.waiting += 1;
        if sink.waiting >= GROUP || sink.bytes >= GROUP_BYTES {
            sink.flush_all()?;
        }
    }
    if !items.is_over().map_err(failed)? {
        return Err(unusable(backup, &"something follows its end"));
    }
    sink.flush_all()?;
    if let Some(mail) = sink.mail {
        mail.close()?;
    }
    close_lists(&db, &SystemEntropy)?;
    db.store().close()?;
    let restored = Restored { role: config.role, records, letters, missing: Vec::new() };
    Ok((config, restored))
}

/// Records go only into a store of their own format. Backups made before the format was included have the first.
fn check_format(backup: &Path, found: u32) -> Result<(), SetupError> {
    if found == FORMAT {
        return Ok(());
    }
    let remedy = if found > FORMAT {
        "install a newer version of this program"
    } else {
        "restore it with the version it was made with, and upgrade then"
    };
    Err(SetupError::Usage {
        problem: format!(
            "the records in {} have store format {found}, this program restores format {FORMAT}",
            backup.display()
        ),
        remedy: remedy.into(),
    })
}

/// Writes items in groups.
struct Sink<'a> {
    db: &'a Db,
    mail: Option<Box<dyn Mail>>,
    batch: Batch,
    letters: Vec<NewLetter>,
    waiting: usize,
    bytes: usize,
}

impl Sink<'_> {
    fn open_mail(&mut self, draft: &Path) -> Result<(), SetupError> {
        if self.mail.is_none() {
            self.mail = Some(Box::new(home::open_mail(draft, self.db, &SystemEntropy)?));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SetupError> {
        if !self.batch.is_empty() {
            self.db.store().commit(std::mem::take(&mut self.batch)).wait()?;
        }
        Ok(())
    }

    fn flush_all(&mut self) -> Result<(), SetupError> {
        self.flush()?;
        if let Some(mail) = self.mail.as_ref().filter(|_| !self.letters.is_empty()) {
            mail.put(std::mem::take(&mut self.letters)).wait()?;
        }
        (self.waiting, self.bytes) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_cannot_be_read_is_an_error_and_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::write(dir.join("lost+found"), "").unwrap();
        assert!(is_empty(dir).unwrap());
        let unreadable = || std::iter::once(Err(io::Error::other("a bad sector")));
        let read = std::fs::read_dir(dir).map(|files| files.chain(unreadable()));
        assert!(names(dir, read).unwrap_err().to_string().contains("a bad sector"));
        std::fs::write(dir.join("other"), "").unwrap();
        assert!(!is_empty(dir).unwrap());
        assert!(is_empty(&dir.join("absent")).is_err());
    }
}
