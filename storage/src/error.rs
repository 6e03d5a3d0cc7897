//! What can go wrong in a store, sorted by who can fix it.

use std::{io, path::PathBuf};

use crate::{Key, MAX_BATCH_BYTES, MAX_BATCH_OPS, MAX_KEY_LEN, MAX_VALUE_LEN, Table};

/// Why the store refused or failed. After a commit returns an error, no part of the batch is visible.
///
/// The one exception: after [`StoreError::Failed`], [`StoreError::Full`] and [`StoreError::Io`] a batch may prove to be
/// written when the store is opened again, as after a power loss before the answer arrived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    // Another writer was faster: handle the event again.
    /// The record is not as the batch expected. Load the state again and repeat the event.
    #[error("another writer changed a record of table {} in the meantime; handle the event again", .key.table())]
    Conflict {
        /// The first record that differs; its `Debug` does not show the id.
        key: Key,
    },
    /// Cleaning moved a letter on the disk during each attempt to read it. The letter exists: read it again.
    #[error("a letter was moved on the disk while it was being read; read it again")]
    LetterMoved,

    // The owner of a mailbox.
    /// The mailbox, or all mailboxes together, hold as much as allowed.
    #[error("the mailbox is full; try again when its owner has fetched some of it")]
    MailboxFull,

    // The calling program.
    /// A name with characters or a length that is not allowed.
    #[error(
        "not a valid {what} name: use 1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit"
    )]
    InvalidName {
        /// What the name is for.
        what: &'static str,
    },
    /// The id of a record is longer than [`MAX_KEY_LEN`].
    #[error("an id of table {table} has {len} bytes, {MAX_KEY_LEN} are allowed; hash long ids")]
    KeyTooLong {
        /// The table it was meant for.
        table: Table,
        /// Its length in bytes.
        len: usize,
    },
    /// A value is longer than [`MAX_VALUE_LEN`].
    #[error("a value has {len} bytes, {MAX_VALUE_LEN} are allowed")]
    ValueTooLarge {
        /// Its length in bytes.
        len: usize,
    },
    /// A batch has more than [`MAX_BATCH_OPS`] operations or [`MAX_BATCH_BYTES`] bytes.
    #[error(
        "a batch has {ops} operations and {bytes} bytes, {MAX_BATCH_OPS} and {MAX_BATCH_BYTES} are allowed"
    )]
    BatchTooLarge {
        /// Changes and expectations in the batch.
        ops: usize,
        /// Bytes of its keys and values.
        bytes: usize,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,

    // The operator of the node.
    /// Another process, or another part of this one, has the folder open.
    #[error("{} is in use by another process; stop the node that runs on this folder", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The passphrase is not the one the store was sealed with, or the wrapped key was altered.
    #[error(
        "wrong passphrase (or the wrapped key in seal.json was changed: restore seal.json from a backup)"
    )]
    WrongPassphrase,
    /// The key file is not the one the store was sealed with, or the wrapped key was altered.
    #[error("wrong key file (or the wrapped key in seal.json was changed: restore seal.json from a backup)")]
    WrongKeyFile,
    /// The store is sealed in the other way: with a passphrase although a key file was given, or the reverse.
    #[error("the store is opened by {expected}, which was not given")]
    WrongUnlock {
        /// What the store needs: `a passphrase` or `a key file`.
        expected: &'static str,
    },
    /// An empty or overlong passphrase.
    #[error("a passphrase must have 1 to 1024 bytes")]
    PassphraseLength,
    /// Other users can read or write the key file.
    #[error("key file {} can be used by others (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    KeyFilePermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file belongs to another user.
    #[error("key file {} belongs to user {owner}; run the node as its owner, or chown the file", .path.display())]
    KeyFileOwner {
        /// The file.
        path: PathBuf,
        /// The user id it belongs to.
        owner: u32,
    },
    /// The key file is missing, unreadable, no regular file, or not of 32 bytes.
    #[error(
        "key file {}: {problem}, and without it the store cannot be opened; put a copy of it back, or restore the whole node from a backup, which has no key file: einmal restore FILE --dir DIR", .path.display()
    )]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The header that holds the wrapped data key is not in order.
    #[error(
        "{}: {problem}, and without it the store cannot be opened; put a copy of it back, or restore the whole node from a backup, which has no such file: einmal restore FILE --dir DIR", .path.display()
    )]
    SealFile {
        /// The header file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A newer version of the program wrote the store.
    #[error(
        "the store has format {found}, this program knows formats up to {supported}; install a newer version"
    )]
    FormatTooNew {
        /// The format found.
        found: u32,
        /// The newest format this program knows.
        supported: u32,
    },
    /// There is no migration from the store's format to the program's.
    #[error(
        "the store has format {found}, and this program has no step from there; upgrade by way of an older version"
    )]
    NoMigration {
        /// The format found.
        found: u32,
    },
    /// The disk or a quota is full. The store has stopped; unacknowledged batches do not count.
    #[error("the disk is full; make room, and start the node again unless it does by itself")]
    Full,

    // The data on the disk.
    /// A record is cut short or lacks a part, or its sealed value does not open: it was altered, moved from another record,
    /// or sealed with another key. Other records can be read without it.
    #[error(
        "a record of table {} cannot be unsealed: it was tampered with or damaged; restore a backup", .key.table()
    )]
    Unsealable {
        /// The record; its `Debug` does not show the id.
        key: Key,
    },
    /// What is stored does not have the layout this program writes, and no single record can be named for it.
    #[error("the store is damaged ({what}); restore a backup")]
    Damaged {
        /// What is damaged.
        what: String,
    },

    // The system below.
    /// Reading or writing failed.
    #[error("the store failed to {during}: {detail}")]
    Io {
        /// What was being done.
        during: &'static str,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The system's own words.
        detail: String,
    },
    /// The disk has been busy with one write for longer than [`STALLED_AFTER`](crate::STALLED_AFTER). Nothing was written of what
    /// was refused with this; it may be tried again.
    #[error("the disk hangs: a write has not ended for a long time; try again later, and look into the disk")]
    Stalled,
    /// An earlier write failed. Memory and disk may now differ, so nothing more is read or written.
    #[error(
        "the store stopped after a failed write; look into the log for the cause and mend it, and start the node again unless it does by itself"
    )]
    Failed,
    /// A thread or task that used the store panicked: a bug in the program, not a disk fault.
    #[error(
        "a task of the store ended by a panic; report it with what the log says, and start the node again unless it does by itself"
    )]
    TaskPanicked,
    /// The system's random source failed; nothing was sealed.
    #[error("the system's random source failed")]
    Entropy,
}

/// Who has to act before what failed may succeed, and so whether it is worth trying again.
///
/// Sorted here and nowhere else: whoever adds an error to [`StoreError`] has to say which of these it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody: read again, or handle the event again.
    Again,
    /// Whoever can make room, on the disk or in a mailbox: until then it fails, and then it succeeds.
    Room,
    /// The calling program, which handed in what no store takes. It fails each time.
    Program,
    /// The operator, who opens the store the wrong way or with a program that does not know its format. It fails each time.
    Operator,
    /// The operator as well, by a backup: what is on the disk was damaged or altered. It fails each time.
    Data,
    /// The system below, or the store as it stopped because of it: it may succeed when the store is opened anew.
    System,
}

impl StoreError {
    /// Who has to act before the same may succeed.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Conflict { .. } | Self::LetterMoved => Fault::Again,
            Self::MailboxFull | Self::Full => Fault::Room,
            Self::InvalidName { .. }
            | Self::KeyTooLong { .. }
            | Self::ValueTooLarge { .. }
            | Self::BatchTooLarge { .. } => Fault::Program,
            Self::InUse { .. }
            | Self::WrongPassphrase
            | Self::WrongKeyFile
            | Self::WrongUnlock { .. }
            | Self::PassphraseLength
            | Self::KeyFilePermissions { .. }
            | Self::KeyFileOwner { .. }
            | Self::KeyFile { .. }
            | Self::SealFile { .. }
            | Self::FormatTooNew { .. }
            | Self::NoMigration { .. } => Fault::Operator,
            Self::Unsealable { .. } | Self::Damaged { .. } => Fault::Data,
            Self::Closed
            | Self::Io { .. }
            | Self::Stalled
            | Self::Failed
            | Self::TaskPanicked
            | Self::Entropy => Fault::System,
        }
    }

    pub(crate) fn io(during: &'static str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full
            }
            kind => Self::Io { during, kind, detail: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TenantId;

    #[test]
    fn what_lasts_is_told_from_what_passes() {
        let key = Key::new(&TenantId::default(), Table::new("people"), "a").unwrap();
        for (error, fault) in [
            (StoreError::Conflict { key: key.clone() }, Fault::Again),
            (StoreError::Full, Fault::Room),
            (StoreError::io("write", &io::ErrorKind::StorageFull.into()), Fault::Room),
            (StoreError::ValueTooLarge { len: 1 }, Fault::Program),
            (StoreError::FormatTooNew { found: 2, supported: 1 }, Fault::Operator),
            (StoreError::Unsealable { key }, Fault::Data),
            (StoreError::Damaged { what: "a record".into() }, Fault::Data),
            (StoreError::io("write", &io::ErrorKind::Other.into()), Fault::System),
            (StoreError::Stalled, Fault::System),
            (StoreError::Closed, Fault::System),
        ] {
            assert_eq!(error.fault(), fault, "{error}");
        }
    }
}
