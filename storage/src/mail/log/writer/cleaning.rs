//! Cleaning: appends the live letters of the oldest segment again, then deletes it.

use std::{collections::VecDeque, sync::atomic::Ordering};

use super::{Outcome, Writer};
use crate::{
    StoreError,
    mail::{
        MailboxId,
        index::{Entry, Place},
        log::{
            frame::{self, Header, Kind},
            is_bad_sector,
            segment::{self, Listed, SEGMENT_LEN},
        },
    },
};

/// The log may take this many halves of what its letters need before its oldest file is cleaned.
const HALVES_KEPT: u64 = 3;
/// Failed rounds of cleaning after which a letter that the disk cannot read counts as damaged.
const READ_IN_VAIN: u32 = 3;
/// Bytes moved in one round of cleaning, so that no writer waits long for it.
const MOVED_AT_ONCE: usize = 512 * 1024;
/// Mailboxes looked at in one go for letters of a segment without contents, so that nobody waits long for it.
const LOOKED_AT_ONCE: usize = 4096;

/// The oldest segment, being removed: its letters that have not been processed yet.
pub(super) struct Cleaning {
    number: u32,
    left: VecDeque<Moving>,
}

/// A letter that may have to move.
#[derive(Clone, Copy)]
struct Moving {
    mailbox: MailboxId,
    id: u64,
    offset: u32,
}

impl Writer {
    pub(super) fn must_clean(&self) -> bool {
        if self.hold || self.cleaning.is_some() {
            return !self.hold;
        }
        let Some((oldest, _)) = self.finished.first_key_value() else { return false };
        let index = self.shared.index();
        let total = self.finished.values().sum::<u64>();
        index.live(*oldest).letters == 0 || total > index.bytes_on_disk() / 2 * HALVES_KEPT + 2 * SEGMENT_LEN
    }

    /// One round of cleaning. Only the oldest segment is removed: its removals then concern only letters that are gone
    /// from the disk, or are in it.
    pub(super) fn clean(&mut self) -> Result<(), StoreError> {
        let Some(mut cleaning) = self.cleaning.take().or_else(|| self.begin_cleaning()) else {
            self.hold = true;
            return Ok(());
        };
        let moved = self.gather_moved(&mut cleaning);
        if !self.store_moved(&moved)? {
            // The segment stays as it is; cleaning starts over with it.
            return Ok(());
        }
        if cleaning.left.is_empty() && !self.hold {
            self.drop_segment(cleaning.number);
        } else {
            self.cleaning = Some(cleaning);
        }
        Ok(())
    }

    fn begin_cleaning(&mut self) -> Option<Cleaning> {
        let number = *self.finished.first_key_value()?.0;
        if self.shared.index().live(number).letters == 0 {
            return Some(Cleaning { number, left: VecDeque::new() });
        }
        let left = segment::finished(&self.shared.folder, number).map(|listed| {
            let letters = listed.into_iter().filter(|entry| entry.header.kind == Kind::Letter);
            let moving =
                |Listed { header: Header { mailbox, id, .. }, offset, .. }| Moving { mailbox, id, offset };
            letters.map(moving).collect()
        });
        Some(Cleaning { number, left: left.unwrap_or_else(|| self.letters_known_in(number)) })
    }

    /// The letters of a segment that has no contents, as the index knows them: the disk may not be able to read all of it. Only
    /// this thread moves letters, so none is missed though others come and go between the looks.
    fn letters_known_in(&self, number: u32) -> VecDeque<Moving> {
        let (mut left, mut after) = (Vec::new(), None);
        loop {
            let (found, last) = self.shared.index().letters_in(number, after, LOOKED_AT_ONCE);
            left.extend(found.into_iter().map(|(mailbox, entry)| Moving {
                mailbox,
                id: entry.id,
                offset: entry.place.offset,
            }));
            if last.is_none() {
                break;
            }
            after = last;
        }
        left.sort_unstable_by_key(|moving| moving.offset);
        left.into()
    }

    /// The next letters that are still in a segment, as many as one round moves. Drops damaged ones.
    fn gather_moved(&mut self, cleaning: &mut Cleaning) -> Vec<(Header, Vec<u8>)> {
        let mut moved: Vec<(Header, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        while bytes < MOVED_AT_ONCE {
            let Some(moving) = cleaning.left.pop_front() else { break };
            let Moving { mailbox, id, offset } = moving;
            let place = Place { segment: cleaning.number, offset };
            let entry = self.shared.index().entry(mailbox, id).filter(|entry| entry.place == place);
            let Some(entry) = entry else { continue };
            let Some(read) = self.read_moved(&entry) else {
                cleaning.left.push_front(moving);
                self.hold = true;
                break;
            };
            match frame::read(cleaning.number, &read) {
                Some((header, body)) => {
                    bytes += body.len();
                    moved.push((header, body.to_vec()));
                }
                None => {
                    self.shared.damaged.fetch_add(1, Ordering::Relaxed);
                    self.shared.index_mut().remove(mailbox, id);
                }
            }
        }
        moved
    }

    /// The bytes of a letter, empty if they are lost. `None` to try again later: a file that cannot be opened says
    /// nothing about the letter, and neither does a single disk failure.
    fn read_moved(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        let read = match self.shared.bytes_of(entry) {
            Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
                self.in_vain += u32::from(is_bad_sector(&e));
                if self.in_vain < READ_IN_VAIN {
                    return None;
                }
                Vec::new()
            }
            read => read.unwrap_or_default(),
        };
        self.in_vain = 0;
        Some(read)
    }

    /// Appends letters again. `false` if there is no room for them: it is tried again after the next group.
    fn store_moved(&mut self, moved: &[(Header, Vec<u8>)]) -> Result<bool, StoreError> {
        match self.store(moved) {
            Err(Outcome::Fatal(error)) => Err(error),
            Err(Outcome::Refused(_)) => {
                self.hold = true;
                Ok(false)
            }
            Ok(()) => Ok(true),
        }
    }

    /// Deletes a segment in which nothing is left.
    fn drop_segment(&mut self, number: u32) {
        // Letters missing from its contents must not be deleted with it. And it counts as present until it is gone: if
        // newer segments were deleted first, their removals of its letters would be lost.
        if self.shared.index().live(number).letters > 0
            || segment::delete(&self.shared.folder, number).is_err()
        {
            self.hold = true;
            return;
        }
        self.finished.remove(&number);
        self.shared.close_file(number);
        self.measure();
    }
}
