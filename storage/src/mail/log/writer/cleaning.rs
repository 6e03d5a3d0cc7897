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
/// What must be dead of the log before a disk that is full is helped by cleaning: less would hardly let anything in.
const DEAD_AT_LEAST: u64 = 1024 * 1024;
/// And the part of the log, so that not all of a large one is written again for a few letters.
const DEAD_SHARE: u64 = 64;
/// Mailboxes looked at in one go for letters of a segment without contents, so that nobody waits long for it.
const LOOKED_AT_ONCE: usize = 4096;

/// The oldest segment, being removed: its letters that have not been processed yet.
pub(super) struct Cleaning {
    number: u32,
    left: VecDeque<Moving>,
    /// Most letters moved in one round. A number and not bytes: that always comes down to one, however unequal they are.
    most: usize,
}

/// A letter that may have to move.
#[derive(Clone, Copy)]
struct Moving {
    mailbox: MailboxId,
    id: u64,
    offset: u32,
}

/// Letters on their way to the present segment.
#[derive(Default)]
struct Moved {
    entries: Vec<(Header, Vec<u8>)>,
    from: Vec<Moving>,
    bytes: usize,
}

impl Writer {
    pub(super) fn must_clean(&self) -> bool {
        if self.hold || self.cleaning.is_some() {
            return !self.hold;
        }
        if self.shared.held_up.load(Ordering::Relaxed) && self.is_worth_its_room() {
            return true;
        }
        let Some((oldest, _)) = self.finished.first_key_value() else { return false };
        let index = self.shared.index();
        let total = self.finished.values().sum::<u64>();
        // What the disk could not read of a flawed one the next start may read.
        let is_done_with = index.live(*oldest).letters == 0 && !self.flawed.contains(oldest);
        is_done_with || total > index.bytes_on_disk() / 2 * HALVES_KEPT + 2 * SEGMENT_LEN
    }

    /// Whether so much of the log is dead that cleaning helps a full disk, or so little room for removals is left that it
    /// must, while the reserve is there for it.
    pub(super) fn is_worth_its_room(&self) -> bool {
        let (total, dead) = self.total_and_dead();
        dead >= DEAD_AT_LEAST.max(total / DEAD_SHARE) || self.active.room() < segment::LEFT_BY_CLEANING
    }

    /// Bytes of the disk that the log has and does not need.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.total_and_dead().1 + self.active.room()
    }

    /// Bytes of the log, and those that it could do without.
    fn total_and_dead(&self) -> (u64, u64) {
        let total = self.finished.values().sum::<u64>() + self.active.end;
        (total, total.saturating_sub(self.shared.index().bytes_on_disk()))
    }

    /// One round of cleaning. Only the oldest segment is removed: its removals then concern only letters that are gone
    /// from the disk, or are in it.
    pub(super) fn clean(&mut self) -> Result<(), StoreError> {
        let Some(mut cleaning) = self.cleaning.take().or_else(|| self.begin_cleaning()) else {
            self.hold = true;
            return Ok(());
        };
        let moved = self.gather_moved(&mut cleaning);
        self.store_moved(&mut cleaning, moved)?;
        if cleaning.left.is_empty() && !self.hold {
            self.drop_segment(cleaning.number);
        } else {
            self.cleaning = Some(cleaning);
        }
        Ok(())
    }

    fn begin_cleaning(&mut self) -> Option<Cleaning> {
        // On a small disk all may be in the present segment.
        if self.finished.is_empty() && self.begin_next().is_err() {
            let is_lent = self.reserve.lend();
            (is_lent && self.begin_next().is_ok()).then_some(())?;
        }
        let number = *self.finished.first_key_value()?.0;
        let cleaning = |left| Cleaning { number, left, most: usize::MAX };
        if self.shared.index().live(number).letters == 0 {
            return Some(cleaning(VecDeque::new()));
        }
        let left = segment::finished(&self.shared.folder, number).map(|listed| {
            let letters = listed.into_iter().filter(|entry| entry.header.kind == Kind::Letter);
            let moving =
                |Listed { header: Header { mailbox, id, .. }, offset, .. }| Moving { mailbox, id, offset };
            letters.map(moving).collect()
        });
        Some(cleaning(left.unwrap_or_else(|| self.letters_known_in(number))))
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
    fn gather_moved(&mut self, cleaning: &mut Cleaning) -> Moved {
        let mut moved = Moved::default();
        while moved.bytes < MOVED_AT_ONCE && moved.entries.len() < cleaning.most {
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
                    moved.bytes += body.len();
                    moved.entries.push((header, body.to_vec()));
                    moved.from.push(moving);
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
                self.flawed.insert(entry.place.segment);
                Vec::new()
            }
            read => read.unwrap_or_default(),
        };
        self.in_vain = 0;
        Some(read)
    }

    /// Appends letters again. If the disk refuses them they stay where they are: they are tried again fewer at once, or after
    /// the next group.
    fn store_moved(&mut self, cleaning: &mut Cleaning, moved: Moved) -> Result<(), StoreError> {
        let Moved { entries, from, .. } = moved;
        if entries.is_empty() {
            return Ok(());
        }
        let mut stored = self.append_moved(&entries);
        // At once: the next group would set the room aside again, and so would each after it.
        if matches!(stored, Err(Outcome::Refused(StoreError::Full))) && self.reserve.lend() {
            stored = self.append_moved(&entries);
        }
        match stored {
            Ok(()) => {
                cleaning.most = cleaning.most.saturating_mul(2);
                return Ok(());
            }
            Err(Outcome::Fatal(error)) => return Err(error),
            Err(Outcome::Refused(_)) => {}
        }
        let count = from.len();
        from.into_iter().rev().for_each(|moving| cleaning.left.push_front(moving));
        if count > 1 {
            cleaning.most = count / 2;
        } else {
            cleaning.most = usize::MAX;
            self.hold = true;
        }
        Ok(())
    }

    fn append_moved(&mut self, entries: &[(Header, Vec<u8>)]) -> Result<(), Outcome> {
        // With the reserve there is enough for more removals before the next file must be cleaned.
        let lent = self.reserve.is_lent();
        let spare = if lent { segment::LEFT_TO_REMOVALS } else { segment::LEFT_BY_CLEANING };
        // Says nothing about new letters, which leave more room.
        self.make_room().map_err(Outcome::Refused)?;
        self.append(entries, spare)
    }

    /// Deletes a segment in which nothing is left, or sets it apart if the disk could not read all of it.
    fn drop_segment(&mut self, number: u32) {
        // Letters missing from its contents must not be deleted with it. And it counts as present until it is gone: if
        // newer segments were deleted first, their removals of its letters would be lost.
        let has_letters = self.shared.index().live(number).letters > 0;
        if has_letters || self.put_away(number).is_err() {
            self.hold = true;
            return;
        }
        self.finished.remove(&number);
        self.flawed.remove(&number);
        self.shared.close_file(number);
        if !self.reserve.restore() && !self.is_worth_its_room() {
            self.reserve.write_off(self.spare_bytes());
        }
        self.measure();
    }

    fn put_away(&self, number: u32) -> Result<(), StoreError> {
        if !self.flawed.contains(&number) {
            return segment::delete(&self.shared.folder, number);
        }
        let kept = segment::set_apart(&self.shared.folder, number)?;
        let file = kept.display();
        tracing::warn!(%file, "the disk cannot read a part of this file of the mail, in which more may be: it is kept");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
