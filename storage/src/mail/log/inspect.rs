//! Inspects mail that nobody has open: how much there is, and how much of it is damaged. Writes nothing.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use super::{
    bytes_of,
    frame::Sealer,
    open_letter,
    sectors::is_bad_sector,
    segment::{self, Loaded},
    writer::{replay, sweeps},
};
use crate::{
    StoreError,
    folder::LOCK_FILE,
    mail::{
        LetterId, MAX_LISTED, MailKey,
        index::{Entry, Index},
    },
};

/// What the mail in a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Number of letters.
    pub letters: u64,
    /// Letters that were unsealed.
    pub looked_at: u64,
    /// Letters that are cut off or do not unseal.
    pub damaged: u64,
    /// When the newest arrived, in milliseconds since 1970.
    pub newest_ms: Option<u64>,
}

/// Inspects the mail in `folder`, which was sealed with `key`, and unseals up to `most` of its letters.
///
/// # Errors
///
/// [`StoreError::InUse`] if a process has it open, [`StoreError::Io`], [`StoreError::Damaged`] if a file of the log
/// cannot be read at all.
pub fn inspect(folder: &Path, key: &MailKey, most: u64) -> Result<Inspection, StoreError> {
    // Held until the inspection is over, so that no node writes meanwhile. The first process that writes creates the
    // file.
    let lock = File::open(folder.join(LOCK_FILE)).ok();
    match lock.as_ref().map(File::try_lock) {
        Some(Err(TryLockError::WouldBlock)) => return Err(StoreError::InUse { path: folder.to_owned() }),
        Some(Err(TryLockError::Error(e))) => return Err(StoreError::io("lock the mail", &e)),
        _ => {}
    }
    let (index, damaged) = index_of(folder)?;
    let mut found = Inspection { letters: index.stats().letters, damaged, ..Inspection::default() };
    let sealer = Sealer::new(key);
    let mut last = None;
    loop {
        let mailboxes = index.mailboxes(last);
        let Some(mailbox) = mailboxes.last() else { return Ok(found) };
        last = Some(*mailbox);
        for mailbox in mailboxes {
            found.newest_ms = found.newest_ms.max(index.state(mailbox, &[], 0).newest_ms);
            let mut after: Option<LetterId> = None;
            while found.looked_at < most {
                let left = usize::try_from(most - found.looked_at).unwrap_or(MAX_LISTED);
                let listed = index.list(mailbox, after, left.min(MAX_LISTED), 0);
                let Some(letter) = listed.last() else { break };
                after = Some(letter.id);
                for entry in listed.iter().filter_map(|letter| index.entry(mailbox, letter.id.0)) {
                    found.looked_at += 1;
                    found.damaged += u64::from(!opens(folder, &sealer, &entry)?);
                }
            }
        }
    }
}

/// The index of the kept letters, and how many letters are cut off or lie where nothing can be read.
fn index_of(folder: &Path) -> Result<(Index, u64), StoreError> {
    let (mut index, mut cut_off, mut swept) = (Index::default(), 0, Vec::new());
    for number in segment::numbers(folder)? {
        let Loaded { listed, damaged, .. } = segment::look(folder, number)?;
        cut_off += damaged;
        cut_off += replay(&mut index, folder, number, &listed)?.1;
        swept.extend(sweeps(number, &listed));
    }
    index.drop_swept(&swept);
    Ok((index, cut_off))
}

/// Whether a letter unseals.
fn opens(folder: &Path, sealer: &Sealer, entry: &Entry) -> Result<bool, StoreError> {
    let file = File::open(segment::path_of(folder, entry.place.segment, "mail"));
    match file.and_then(|file| bytes_of(&file, entry)) {
        Ok(bytes) => Ok(open_letter(sealer, entry, &bytes).is_some()),
        Err(e) if is_bad_sector(&e) => Ok(false),
        Err(e) => Err(StoreError::io("look at mail", &e)),
    }
}
