//! The one thread that writes the log: it groups waiting jobs, flushes once, answers, and cleans from the oldest end.

mod cleaning;
mod reserve;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use self::{cleaning::Cleaning, reserve::Reserve};
use super::{
    Shared,
    admission::Admission,
    frame::{self, Header, Kind},
    job::{Job, Sealed, Work},
    leaving::Leaving,
    segment::{self, Listed, Loaded, SEGMENT_LEN, Segment},
};
use crate::{
    Acknowledgement, Committed, StoreError, Version,
    folder::OnPanic,
    mail::{
        LetterId, MailboxId,
        index::{Entry, Index, Place, lasts_for},
    },
};

/// Removals written at once on a full disk, because the last of its room may fit only some of them.
const REMOVED_AT_ONCE: usize = 64;
/// Ids skipped at every start, and once more for a segment of which the disk cannot read a part. They include ids of letters that were announced but that a crash kept from the disk:
/// such an id must never name another letter. The queue holds far fewer letters, and beyond it nobody is given any
/// while the disk refuses writes.
pub(super) const IDS_LEFT_OUT: u64 = 1 << 20;

pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Segment,
    /// Finished segments and their lengths, oldest first.
    finished: BTreeMap<u32, u64>,
    /// Those of them of which the disk could not read a part.
    flawed: HashSet<u32>,
    cleaning: Option<Cleaning>,
    reserve: Reserve,
    /// Cleaning failed and is tried again only after the next group.
    hold: bool,
    /// How often the disk failed to read the letter that cleaning has reached.
    in_vain: u32,
}

/// The segments found at the start.
struct Existing {
    next_id: u64,
    /// The greatest number.
    last: u32,
    finished: BTreeMap<u32, u64>,
    flawed: HashSet<u32>,
    empty: Vec<u32>,
    /// Contents that are not on the disk yet.
    unlisted: Vec<(u32, Vec<u8>)>,
}

/// One group on its way to the disk.
#[derive(Default)]
struct Group {
    entries: Vec<(Header, Vec<u8>)>,
    /// Its letters, and for each digest which of them have it and how long they are kept.
    fresh: HashSet<(MailboxId, LetterId)>,
    digests: HashMap<u64, Vec<(LetterId, u64)>>,
    /// What it takes away, and the work that says so.
    leaving: Leaving,
    taking: Vec<Work>,
    /// The acknowledgements for puts, and those for removals.
    puts: Vec<Acknowledgement>,
    removals: Vec<Acknowledgement>,
}

impl Existing {
    /// Reads the segments and applies them to the index.
    fn read(
        shared: &Shared,
        load: impl Fn(&Path, u32) -> Result<Loaded, StoreError>,
    ) -> Result<Self, StoreError> {
        let (finished, flawed) = (BTreeMap::new(), HashSet::new());
        let mut found =
            Self { next_id: 1, last: 0, finished, flawed, empty: Vec::new(), unlisted: Vec::new() };
        let mut swept = Vec::new();
        let mut index = shared.index_mut();
        for number in segment::numbers(&shared.folder)? {
            found.last = number;
            let loaded = load(&shared.folder, number)?;
            found.next_id = loaded.next_id_after(found.next_id);
            let Loaded { listed, damaged, is_flawed, contents, .. } = loaded;
            shared.damaged.fetch_add(damaged, Ordering::Relaxed);
            if listed.is_empty() && !is_flawed {
                found.empty.push(number);
                continue;
            }
            let (length, cut_off) = replay(&mut index, &shared.folder, number, &listed)?;
            shared.damaged.fetch_add(cut_off, Ordering::Relaxed);
            found.finished.insert(number, length);
            found.flawed.extend(is_flawed.then_some(number));
            found.unlisted.extend(contents.map(|contents| (number, contents)));
            swept.extend(sweeps(number, &listed));
        }
        index.drop_swept(&swept);
        Ok(found)
    }
}

impl Writer {
    /// Reads the existing segments and begins a new one after them.
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        Self::open_by(shared, segment::load)
    }

    /// As [`Writer::open`], reading segments by `load`.
    fn open_by(
        shared: Arc<Shared>,
        load: impl Fn(&Path, u32) -> Result<Loaded, StoreError>,
    ) -> Result<Self, StoreError> {
        let folder = shared.folder.clone();
        let Existing { next_id, last, finished, flawed, empty, unlisted } = Existing::read(&shared, load)?;
        let number = last.checked_add(1).ok_or(StoreError::Full)?;
        let next_id = next_id.checked_add(IDS_LEFT_OUT).ok_or(StoreError::Full)?;
        let active = Segment::begin_anyway(&folder, number, next_id)?;
        *shared.admission() = Admission::new(next_id);
        // After reserving the room for removals: on a full disk that is the room the killed process had.
        for (number, contents) in unlisted {
            without_contents(number, segment::write_contents(&folder, number, &contents));
        }
        // Only now: the new segment records the free ids that these recorded.
        for number in empty {
            segment::delete(&folder, number)?;
        }
        let reserve = Reserve::open(&folder);
        let mut writer =
            Self { shared, active, finished, flawed, cleaning: None, reserve, hold: false, in_vain: 0 };
        writer.measure();
        if writer.is_worth_its_room() && writer.reserve.take_for_lent(writer.spare_bytes()) {
            writer.shared.held_up.store(true, Ordering::Relaxed);
        }
        Ok(writer)
    }

    /// Works until the queue is closed and empty, or a flush fails.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // Nobody may wait for a writer that is gone.
        let _guard = OnPanic(|| shared.fail());
        loop {
            let busy = self.must_clean();
            let jobs = if busy { shared.queue.try_take_group() } else { shared.queue.take_group() };
            let Some(jobs) = jobs else { break };
            let outcome = if jobs.is_empty() { Ok(()) } else { self.write(jobs) };
            if outcome.is_err() || (busy && self.clean().is_err()) {
                return shared.fail();
            }
        }
        // Even an empty one: it records which ids are free.
        let number = self.active.number;
        without_contents(number, self.active.finish(&shared.folder));
    }

    /// Writes what one group asks for. After an error, nothing more may be written.
    fn write(&mut self, jobs: Vec<Job>) -> Result<(), StoreError> {
        let mut group = Group::default();
        self.hold = false;
        {
            let index = self.shared.index();
            for Job { work, acknowledgement } in jobs {
                let answers = if let Work::Put(_) = &work { &mut group.puts } else { &mut group.removals };
                answers.push(acknowledgement);
                group.take(work, &index);
            }
        }
        let stored = self.store(&group.entries);
        let removed = if let Err(Outcome::Refused(_)) = &stored { self.remove_only(&group) } else { None };
        let mut admission = self.shared.admission();
        if stored.is_err() {
            group.entries.iter().for_each(|(header, _)| admission.retire(header));
        }
        group.taking.iter().for_each(|work| admission.leaving.retire(work));
        let last = Committed { version: Version(admission.next_id().saturating_sub(1)) };
        drop(admission);
        let removed = removed.unwrap_or_else(|| stored.clone());
        let fatal = [&stored, &removed].into_iter().any(|one| matches!(one, Err(Outcome::Fatal(_))));
        let answer = |outcome: Result<(), Outcome>| match outcome {
            Ok(()) => Ok(last),
            Err(Outcome::Refused(error) | Outcome::Fatal(error)) => Err(error),
        };
        let (put, removed) = (answer(stored), answer(removed));
        group.puts.into_iter().for_each(|acknowledgement| acknowledgement.answer(put.clone()));
        group.removals.into_iter().for_each(|acknowledgement| acknowledgement.answer(removed.clone()));
        if fatal { Err(StoreError::Failed) } else { Ok(()) }
    }

    /// The fallback when the disk has no room for a group: writes only its removals, which have room reserved. So a
    /// mailbox can be emptied even if nothing more goes into it.
    fn remove_only(&mut self, group: &Group) -> Option<Result<(), Outcome>> {
        // The probes of whether the disk accepts writes again must not use up the rest.
        let counts = |header: &Header| header.kind != Kind::Letter && header.mailbox != super::NOBODY;
        let removals: Vec<_> = group.entries.iter().filter(|(header, _)| counts(header)).cloned().collect();
        let mut parts = removals.chunks(REMOVED_AT_ONCE).peekable();
        parts.peek()?;
        Some(parts.try_for_each(|part| match self.append(part, 0) {
            // Else nobody could empty a mailbox any more, and nothing would ever become worth cleaning.
            Err(Outcome::Refused(StoreError::Full)) if self.reserve.lend() => self.append(part, 0),
            appended => appended,
        }))
    }

    /// Makes entries durable and then known, and records whether the disk accepted them.
    fn store(&mut self, entries: &[(Header, Vec<u8>)]) -> Result<(), Outcome> {
        if entries.is_empty() {
            return Ok(());
        }
        let stored = self.put_down(entries);
        self.shared.held_up.store(stored.is_err(), Ordering::Relaxed);
        stored
    }

    fn put_down(&mut self, entries: &[(Header, Vec<u8>)]) -> Result<(), Outcome> {
        if self.shared.held_up.load(Ordering::Relaxed) {
            // Before letters take the room that others gave back.
            self.reserve.look();
        }
        if self.reserve.is_lent() && !self.reserve.restore() {
            // Letters would take the room that cleaning needs to make more of it.
            return Err(Outcome::Refused(StoreError::Full));
        }
        self.make_room().map_err(Outcome::Refused)?;
        self.append(entries, segment::LEFT_TO_REMOVALS)
    }

    /// Appends to the present segment, leaving `spare` bytes of room.
    fn append(&mut self, entries: &[(Header, Vec<u8>)], spare: u64) -> Result<(), Outcome> {
        let mut bytes = Vec::new();
        for (header, body) in entries {
            frame::append(&mut bytes, self.active.number, header, body);
        }
        self.active.write(&bytes, spare).map_err(Outcome::Refused)?;
        self.active.flush().map_err(Outcome::Fatal)?;
        self.shared.flushes.fetch_add(1, Ordering::Relaxed);
        // Lock both, so that no letter counts twice against a quota, or not at all.
        let mut admission = self.shared.admission();
        let mut index = self.shared.index_mut();
        for (header, body) in entries {
            admission.retire(header);
            let place = Place { segment: self.active.number, offset: self.active.advance(header, body) };
            let removed = if header.kind == Kind::Removed { ids(body) } else { Vec::new() };
            apply(&mut index, header, &removed, place);
        }
        drop((index, admission));
        self.measure();
        Ok(())
    }

    /// Begins a new segment if the present one is full, unless the disk has no room for its removals: the present one
    /// has.
    fn make_room(&mut self) -> Result<(), StoreError> {
        if self.active.end < SEGMENT_LEN { Ok(()) } else { self.begin_next() }
    }

    /// Finishes the present segment and begins the next.
    fn begin_next(&mut self) -> Result<(), StoreError> {
        let number = self.active.number.checked_add(1).ok_or(StoreError::Full)?;
        // In a statement of its own: callers wait for this lock, and must not wait for the disk. Ids given meanwhile are those
        // of letters behind this segment's beginning.
        let next_id = self.shared.admission().next_id();
        let next = Segment::begin(&self.shared.folder, number, next_id)?;
        let full = std::mem::replace(&mut self.active, next);
        self.finished.insert(full.number, full.end);
        let number = full.number;
        without_contents(number, full.finish(&self.shared.folder));
        self.reserve.look();
        Ok(())
    }

    fn measure(&self) {
        let total = self.finished.values().sum::<u64>() + self.active.end;
        self.shared.bytes_on_disk.store(total, Ordering::Relaxed);
    }
}

/// The result of a failed write.
#[derive(Clone)]
enum Outcome {
    /// Nothing was written; the next one may succeed.
    Refused(StoreError),
    /// What is on the disk is unknown.
    Fatal(StoreError),
}

impl Group {
    /// Adds one piece of work.
    fn take(&mut self, work: Work, index: &Index) {
        match work {
            Work::Put(letters) => {
                letters.into_iter().for_each(|letter| self.take_letter(letter, index));
            }
            Work::Remove(mailbox, letters) => {
                // Includes letters of this very group: someone was told of them and was quick.
                let is_there = |id: &&LetterId| {
                    index.entry(mailbox, id.0).is_some() || self.fresh.contains(&(mailbox, **id))
                };
                let held = letters.iter().filter(is_there);
                let body: Vec<u8> = held.flat_map(|id| id.0.to_le_bytes()).collect();
                if !body.is_empty() {
                    let body_len = u32::try_from(body.len()).unwrap_or(u32::MAX);
                    let header = Header { body_len, ..Header::about(Kind::Removed, mailbox, 0) };
                    self.entries.push((header, body));
                }
                self.take_away(Work::Remove(mailbox, letters));
            }
            Work::Clear(mailbox, last) => {
                self.entries.push((Header::about(Kind::Cleared, mailbox, last), Vec::new()));
                self.take_away(Work::Clear(mailbox, last));
            }
        }
    }

    /// Adds a letter, unless the same one is there, or comes before it, and stays.
    fn take_letter(&mut self, letter: Sealed, index: &Index) {
        let Sealed { header, body, again, .. } = letter;
        let Header { mailbox, digest, arrived_ms, expires_at, .. } = header;
        let leaves = |twin| self.leaving.takes(mailbox, twin);
        let stands = || index.stands_in(mailbox, digest, (arrived_ms, expires_at), leaves);
        let lasts =
            |(twin, until): &(LetterId, u64)| lasts_for(*until, arrived_ms, expires_at) && !leaves(*twin);
        let comes = || self.digests.get(&digest).is_some_and(|twins| twins.iter().any(lasts));
        if again && (stands() || comes()) {
            return;
        }
        let id = LetterId(header.id);
        self.fresh.insert((mailbox, id));
        self.digests.entry(digest).or_default().push((id, expires_at));
        self.entries.push((header, body));
    }

    fn take_away(&mut self, work: Work) {
        self.leaving.enter(&work);
        self.taking.push(work);
    }
}

/// Logs that a segment has no contents file: the next start reads the whole segment, which is slower but loses nothing.
fn without_contents(number: u32, finished: Result<(), StoreError>) {
    if let Err(error) = finished {
        tracing::warn!(number, %error, "a file of the mail stays without its contents, the next start is slower");
    }
}

fn ids(body: &[u8]) -> Vec<u64> {
    body.chunks_exact(8).filter_map(|id| Some(u64::from_le_bytes(id.try_into().ok()?))).collect()
}

/// Applies a finished segment to the index. Returns its length in bytes and how many of its letters are cut off.
pub(super) fn replay(
    index: &mut Index,
    folder: &Path,
    number: u32,
    listed: &[Listed],
) -> Result<(u64, u64), StoreError> {
    let length = std::fs::metadata(segment::path_of(folder, number, "mail"));
    let length = length.map_err(|e| StoreError::io("look at mail", &e))?.len();
    let mut cut_off = 0;
    for entry in listed {
        if entry.header.kind == Kind::Letter && entry.end() > length {
            cut_off += 1;
            continue;
        }
        apply(index, &entry.header, &entry.removed, Place { segment: number, offset: entry.offset });
    }
    Ok((length, cut_off))
}

/// What a segment tells of sweeps: the place of each, and the time until which everything before it was swept, in seconds since 1970.
///
/// A sweep is written as the clearing of nobody's mailbox up to that time, which means nothing to earlier versions.
pub(super) fn sweeps(number: u32, listed: &[Listed]) -> impl Iterator<Item = (Place, u64)> {
    let is_sweep = |header: &Header| header.kind == Kind::Cleared && header.mailbox == super::NOBODY;
    let swept = listed.iter().filter(move |entry| is_sweep(&entry.header));
    swept.map(move |entry| (Place { segment: number, offset: entry.offset }, entry.header.id))
}

/// Applies one entry of the log to the index.
pub(super) fn apply(index: &mut Index, header: &Header, removed: &[u64], place: Place) {
    match header.kind {
        Kind::Letter => index.insert(
            header.mailbox,
            Entry {
                id: header.id,
                place,
                len: header.payload_len(),
                digest: header.digest,
                arrived_ms: header.arrived_ms,
                expires_at: header.expires_at,
            },
        ),
        Kind::Removed => {
            for id in removed {
                index.remove(header.mailbox, *id);
            }
        }
        Kind::Cleared => {
            index.clear(header.mailbox, header.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{NewLetter, Quota};

    fn letter() -> Sealed {
        kept_until(9)
    }

    fn kept_until(expires_at: u64) -> Sealed {
        let (mailbox, payload, quota) = (MailboxId([1; 20]), b"the same".to_vec(), Quota::NONE);
        let letter = NewLetter { mailbox, payload, arrived_ms: 1, expires_at, quota, early: None };
        let sealer = frame::Sealer::new(&crate::mail::MailKey::new(zeroize::Zeroizing::new([1; 32])));
        Sealed::new(letter, &sealer, &[0; 32]).unwrap()
    }

    #[test]
    fn repetition_of_a_letter_on_its_way_is_written_unless_the_first_is_there() {
        let (mut admission, mut index) = (Admission::new(1), Index::default());
        let mut admit = |index: &Index| Work::Put(admission.admit(vec![letter()], index).unwrap());
        let (first, second, third) = (admit(&index), admit(&index), admit(&index));
        let mut group = Group::default();
        group.take(first, &index);
        group.take(second, &index);
        assert_eq!(group.entries.len(), 1, "both in one group");
        // As if the disk had refused that group.
        let mut later = Group::default();
        later.take(third, &index);
        assert_eq!(later.entries.len(), 1, "nobody may be told that it is there");
        let fourth = admit(&index);
        let [(header, _)] = later.entries.as_slice() else { panic!("one letter") };
        apply(&mut index, header, &[], Place::default());
        let mut last = Group::default();
        last.take(fourth, &index);
        assert!(last.entries.is_empty(), "the third is there");
        assert!(matches!(admit(&index), Work::Put(letters) if letters.is_empty()));
    }

    #[test]
    fn repetition_of_a_letter_is_not_written_behind_its_acknowledgement_for_it_was_read() {
        let (mut admission, mut index) = (Admission::new(1), Index::default());
        let mut group = Group::default();
        group.take(Work::Put(admission.admit(vec![letter()], &index).unwrap()), &index);
        let header = group.entries[0].0;
        apply(&mut index, &header, &[], Place::default());
        admission.retire(&header);
        admission.leaving.enter(&Work::Remove(header.mailbox, vec![LetterId(1)]));
        assert!(admission.admit(vec![letter()], &index).unwrap().is_empty());
    }

    /// The letter, what takes it away, and the letter again: at each point where the disk may be in between.
    #[test]
    fn repetition_of_a_letter_is_written_if_a_clearing_that_takes_the_first_away_is_before_it() {
        let mailbox = MailboxId([1; 20]);
        let taking = |mailbox| Work::Clear(mailbox, 1);
        for (first_group, second_group) in [(0, 0), (0, 1), (1, 1)] {
            let (mut admission, mut index) = (Admission::new(1), Index::default());
            let first = Work::Put(admission.admit(vec![letter()], &index).unwrap());
            let mut groups = [Group::default(), Group::default()];
            groups[0].take(first, &index);
            if second_group > 0 {
                let header = groups[0].entries[0].0;
                apply(&mut index, &header, &[], Place::default());
                admission.retire(&header);
            }
            admission.leaving.enter(&taking(mailbox));
            let again = admission.admit(vec![letter()], &index).unwrap();
            assert_eq!(again.len(), 1, "it would be promised, and go with the first");
            groups[first_group].take(taking(mailbox), &index);
            if first_group < second_group {
                index.remove(mailbox, 1);
            }
            let before = groups[second_group].entries.len();
            groups[second_group].take(Work::Put(again), &index);
            assert_eq!(groups[second_group].entries.len(), before + 1, "{first_group} {second_group}");
            admission.leaving.retire(&taking(mailbox));
        }
    }

    #[test]
    fn repetition_in_the_same_group_is_dropped_only_for_a_letter_that_lasts_for_half_of_its_time() {
        let (mut admission, index) = (Admission::new(1), Index::default());
        let mut group = Group::default();
        // Until which second each is kept, and whether it is written.
        for (until, written) in [(60, true), (120, false), (122, true), (60, false), (200, false)] {
            let before = group.entries.len();
            let letters = admission.admit(vec![kept_until(until)], &index).unwrap();
            group.take(Work::Put(letters), &index);
            assert_eq!(group.entries.len() > before, written, "until {until}");
        }
    }
}
