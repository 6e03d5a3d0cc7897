//! Making a backup: of the folder of a stopped node, or of a node that keeps running.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use age::{Encryptor, scrypt, secrecy::SecretString};
use einmal_keys::SystemEntropy;
use einmal_storage::{
    Batch, FORMAT, Key, Record, Store, StoreError,
    mail::{MAX_LISTED, Mail, NewLetter, Quota},
};

use super::{
    item::{Item, Writer},
    parent, sync,
};
use crate::{
    config::{CONFIG_FILE, Config, Role},
    error::SetupError,
    home,
};

/// scrypt with N = 2^18 takes 256 MiB on every machine. By default age chooses what takes a second: 1 GiB and more on a
/// fast machine, enough to get a node in a container killed.
const WORK_FACTOR: u8 = 18;

/// Most passes over the records of a node that keeps writing.
const MAX_PASSES: usize = 8;
/// Records read at a time.
const PAGE: usize = 256;
/// Most bytes of records that changed during the last pass: they are read at once.
const MAX_CHANGED: usize = 64 * 1024 * 1024;

/// The content of a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records of the store.
    pub records: u64,
    /// Letters of a mediator's mail.
    pub letters: u64,
    /// Records that do not unseal, and are left out: without this one damaged record would prevent every backup.
    pub damaged: u64,
}

/// Backs up the folder of a stopped node.
///
/// # Errors
///
/// [`SetupError`] with the remedy; the file is then not there.
pub fn backup_folder(dir: &Path, out: &Path, passphrase: SecretString) -> Result<Written, SetupError> {
    let config = Config::load(dir)?;
    let db = home::open_store(dir, &config)?;
    let mail = match config.role {
        Role::Mediator => Some(home::open_mail(dir, &db, &SystemEntropy)?),
        _ => None,
    };
    let written = backup_running(
        dir,
        db.store().as_ref(),
        mail.as_ref().map(|mail| mail as &dyn Mail),
        out,
        passphrase,
    );
    if let Some(mail) = mail {
        mail.close()?;
    }
    db.store().close()?;
    written
}

/// A backup replaces no file.
pub(crate) fn refuse_existing(out: &Path) -> Result<(), SetupError> {
    if !out.exists() {
        return Ok(());
    }
    Err(SetupError::Usage {
        problem: format!("{} is there already", out.display()),
        remedy: "name a file that is not; a backup replaces none".into(),
    })
}

/// Backs up what a node has open. Records and letters are read a page at a time while it works on.
pub(crate) fn backup_running(
    dir: &Path,
    store: &dyn Store,
    mail: Option<&dyn Mail>,
    out: &Path,
    passphrase: SecretString,
) -> Result<Written, SetupError> {
    refuse_existing(out)?;
    let config = std::fs::read_to_string(dir.join(CONFIG_FILE)).map_err(|e| SetupError::input(dir, e))?;
    let draft = draft_of(out);
    if draft.exists() {
        return Err(SetupError::Usage {
            problem: format!(
                "{} is there: another backup is being written, or one was broken off",
                draft.display()
            ),
            remedy: "wait for it, or remove that file and try again".into(),
        });
    }
    let written = write(&draft, &config, store, mail, passphrase).and_then(|written| {
        // Only a complete file gets its name, and is reported once the name survives a power failure.
        std::fs::rename(&draft, out).map_err(|e| SetupError::input(out, e))?;
        sync(parent(out))?;
        Ok(written)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written
}

fn draft_of(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    out.with_file_name(name)
}

fn write(
    draft: &Path,
    config: &str,
    store: &dyn Store,
    mail: Option<&dyn Mail>,
    passphrase: SecretString,
) -> Result<Written, SetupError> {
    let failed = |e: io::Error| SetupError::input(draft, e);
    // Of the folder, which somebody has named: the draft's name nobody has.
    let unmade = |e| SetupError::input(parent(draft), format!("no file can be made here: {e}"));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft).map_err(unmade)?;
    let mut recipient = scrypt::Recipient::new(passphrase);
    recipient.set_work_factor(WORK_FACTOR);
    let sealed = Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
        .map_err(SetupError::internal)?
        .wrap_output(BufWriter::new(file))
        .map_err(failed)?;
    let mut items = Writer::begin(sealed).map_err(failed)?;
    items.write(&Item::Format(FORMAT)).map_err(failed)?;
    items.write(&Item::Config(config.to_owned())).map_err(failed)?;
    let mut written = records(store, &mut items, draft)?;
    if let Some(mail) = mail {
        written.letters = letters(mail, &mut items, draft)?;
    }
    let Written { records, letters, .. } = written;
    items.write(&Item::End { records, letters }).map_err(failed)?;
    let buffered = items.into_inner().finish().map_err(failed)?;
    let file: File = buffered.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(written)
}

/// Writes every record, and again what changed meanwhile, until a pass finds no changes: so no part of related records
/// is missing because it was written behind the reader. Records removed meanwhile may be included.
fn records<W: Write>(store: &dyn Store, items: &mut Writer<W>, draft: &Path) -> Result<Written, SetupError> {
    let (mut written, mut since) = (Written::default(), None);
    for _ in 0..MAX_PASSES {
        let (begun, mut found, mut last) = (store.commit(Batch::new()).wait()?.version, 0, None);
        loop {
            let page = Page::read(store, last.as_ref())?;
            let Some(end) = page.end else { break };
            last = Some(end);
            if page.is_cut && since.is_none() {
                written.damaged += 1;
                tracing::warn!("a record that does not unseal is left out of the backup");
            }
            for record in
                page.records.into_iter().filter(|record| since.is_none_or(|since| record.version > since))
            {
                items.write(&Item::Record(record)).map_err(|e| SetupError::input(draft, e))?;
                found += 1;
            }
        }
        written.records += found;
        if since.is_some() && found == 0 {
            return Ok(written);
        }
        since = Some(begun);
    }
    // The node does not rest: what changed during the last pass is read at once, while nobody writes.
    let changed = match since {
        Some(since) => store.dump_since(since, MAX_CHANGED)?,
        None => None,
    };
    let changed = changed.ok_or_else(|| SetupError::Usage {
        problem: "the node writes more than a backup can follow".into(),
        remedy: "back it up at a quieter time, or stop it meanwhile".into(),
    })?;
    written.records += changed.len() as u64;
    for record in changed {
        items.write(&Item::Record(record)).map_err(|e| SetupError::input(draft, e))?;
    }
    Ok(written)
}

/// Records in their order, up to one that does not unseal.
struct Page {
    records: Vec<Record>,
    /// The key it ends with; `None` if there is nothing more.
    end: Option<Key>,
    /// Whether that is the key of a record that does not unseal.
    is_cut: bool,
}

impl Page {
    /// The page behind `after`.
    fn read(store: &dyn Store, after: Option<&Key>) -> Result<Self, StoreError> {
        match store.dump(after, PAGE) {
            Ok(records) => {
                let end = records.last().map(|record| record.key.clone());
                Ok(Self { records, end, is_cut: false })
            }
            Err(StoreError::Unsealable { .. }) => Self::up_to_damage(store, after.cloned()),
            Err(error) => Err(error),
        }
    }

    /// Reads one by one: of a page nothing can be had if one of its records does not unseal.
    fn up_to_damage(store: &dyn Store, mut after: Option<Key>) -> Result<Self, StoreError> {
        let mut records = Vec::new();
        loop {
            match store.dump(after.as_ref(), 1) {
                Ok(one) => {
                    let Some(record) = one.into_iter().next().filter(|_| records.len() < PAGE) else {
                        return Ok(Self { records, end: after, is_cut: false });
                    };
                    after = Some(record.key.clone());
                    records.push(record);
                }
                Err(StoreError::Unsealable { key }) => {
                    return Ok(Self { records, end: Some(key), is_cut: true });
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Every letter of every mailbox; letters removed meanwhile are skipped.
fn letters<W: Write>(mail: &dyn Mail, items: &mut Writer<W>, draft: &Path) -> Result<u64, SetupError> {
    let (mut count, mut last) = (0, None);
    loop {
        let mailboxes = mail.mailboxes(last);
        let Some(mailbox) = mailboxes.last() else { return Ok(count) };
        last = Some(*mailbox);
        for mailbox in mailboxes {
            let mut after = None;
            loop {
                let listed = mail.list(mailbox, after, MAX_LISTED, 0);
                let Some(letter) = listed.last() else { break };
                after = Some(letter.id);
                for letter in listed {
                    let payload = match mail.read(mailbox, letter.id) {
                        Ok(Some(payload)) => payload,
                        Ok(None) => continue,
                        Err(StoreError::Damaged { .. }) => {
                            // The other letters are worth a backup all the same.
                            tracing::error!(letter = letter.id.0, "a damaged letter is not in the backup");
                            continue;
                        }
                        Err(error) => return Err(error.into()),
                    };
                    let letter = NewLetter {
                        mailbox,
                        payload,
                        arrived_ms: letter.arrived_ms,
                        expires_at: letter.expires_at,
                        quota: Quota::NONE,
                        early: None,
                    };
                    items.write(&Item::Letter(letter)).map_err(|e| SetupError::input(draft, e))?;
                    count += 1;
                }
            }
        }
    }
}
