//! Which letters exist and where: kept in memory, some 130 bytes for each, 400 for one alone in its mailbox.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    ops::Bound,
};

use super::{LetterId, MAX_LISTED, MailStats, MailboxId, Quota, log::ENTRY_OVERHEAD};
use crate::StoreError;

/// One mailbox may have at most one part in this many of the room left for all mailboxes, beyond the reserve.
const SHARE_OF_ROOM: u64 = 64;
/// One part in this many of all room is a reserve: no share is taken of it, only what a mailbox may always have. So a thousand
/// mailboxes of one account leave room for a little mail in all others.
const RESERVE: u64 = 8;
/// Bytes that a mailbox may always have, even if that share of the room is less.
const ALWAYS_GRANTED: u64 = 64 * 1024;
/// Letters that a mailbox may always have, even if that share of the room is less.
const LETTERS_ALWAYS_GRANTED: u64 = 100;

/// A letter as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its id.
    pub id: LetterId,
    /// Length of its payload in bytes.
    pub len: u64,
    /// When it arrived, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// When it expires, in seconds since 1970; `u64::MAX` for never.
    pub expires_at: u64,
}

impl From<&Entry> for Letter {
    fn from(entry: &Entry) -> Self {
        Self {
            id: LetterId(entry.id),
            len: entry.len.into(),
            arrived_ms: entry.arrived_ms,
            expires_at: entry.expires_at,
        }
    }
}

/// How a mailbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailboxState {
    /// Number of letters.
    pub letters: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// When the oldest arrived, in milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// When the newest arrived.
    pub newest_ms: Option<u64>,
}

/// Where a letter is: the number of the segment, and the offset of its frame in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// What the index knows of a letter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) place: Place,
    pub(super) len: u32,
    pub(super) digest: u64,
    pub(super) arrived_ms: u64,
    pub(super) expires_at: u64,
}

#[derive(Default)]
struct Mailbox {
    /// Ordered by id.
    letters: VecDeque<Entry>,
    bytes: u64,
    /// No letter expires before, in seconds since 1970: until then all count, without a look at each.
    first_end: u64,
}

impl Mailbox {
    /// The position of a letter, or the position where it would be.
    fn find(&self, id: u64) -> Result<usize, usize> {
        self.letters.binary_search_by_key(&id, |entry| entry.id)
    }

    /// Those of `letters`, given in order, that are here. The fewer are looked for among the more: somebody may name a thousand
    /// letters of a thousand mailboxes.
    fn among(&self, letters: &[LetterId]) -> Vec<LetterId> {
        let (Some(first), Some(last)) = (self.letters.front(), self.letters.back()) else {
            return Vec::new();
        };
        let from = letters.partition_point(|letter| letter.0 < first.id);
        let to = letters.partition_point(|letter| letter.0 <= last.id);
        let letters = letters.get(from..to).unwrap_or_default();
        if letters.len() <= self.letters.len() {
            return letters.iter().copied().filter(|letter| self.find(letter.0).is_ok()).collect();
        }
        let named = |entry: &Entry| {
            let letter = LetterId(entry.id);
            letters.binary_search(&letter).is_ok().then_some(letter)
        };
        self.letters.iter().filter_map(named).collect()
    }

    /// When the first letter arrived.
    fn first_ms(&self) -> Option<u64> {
        self.letters.front().map(|entry| entry.arrived_ms)
    }

    /// The letters after `after` that have not expired at `now`.
    fn listed(&self, after: Option<LetterId>, now: u64) -> impl Iterator<Item = Letter> {
        let start = after.map_or(0, |after| self.letters.partition_point(|entry| entry.id <= after.0));
        self.letters.range(start..).filter(move |entry| entry.expires_at > now).map(Letter::from)
    }
}

/// Bytes and letters of one segment that still count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    pub(super) letters: u64,
    pub(super) bytes: u64,
}

/// Letters that are on their way into a mailbox, and into all mailboxes, but not in the index yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    pub(super) letters: u64,
    pub(super) bytes: u64,
    pub(super) letters_in_all: u64,
    pub(super) bytes_in_all: u64,
}

/// Hashes a digest to itself, because it already is a keyed hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
}

/// Whether a letter kept until `held_until` may stand in for the same letter that arrived at `arrived_ms` and would be
/// kept until `expires_at`: only if it lasts for at least half of that time.
pub(super) fn lasts_for(held_until: u64, arrived_ms: u64, expires_at: u64) -> bool {
    let left = |end: u64| end.saturating_sub(arrived_ms / 1000);
    left(held_until) > 0 && left(held_until) >= left(expires_at) / 2
}

/// No letter's id.
const UNKNOWN: u64 = 0;

/// The index.
#[derive(Default)]
pub(super) struct Index {
    mailboxes: BTreeMap<MailboxId, Mailbox>,
    /// Digests of letter and mailbox together, under a secret key, so that nobody can make two that collide; each with the newest
    /// letter that has it, or [`UNKNOWN`] once that one is gone.
    digests: HashMap<u64, u64, BuildHasherDefault<AsItIs>>,
    /// The few digests that occur more than once, with the number of further occurrences.
    twins: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    live: BTreeMap<u32, Live>,
    /// When the first letters of the mailboxes arrived, and how many mailboxes there are for each time: whoever asks for the oldest
    /// letter of all does not hold up everybody by a walk over all mailboxes.
    firsts: BTreeMap<u64, u32>,
    letters: u64,
    bytes: u64,
    last: u64,
    /// The mailbox at which the last [`Index::expired`] stopped.
    turn: Option<MailboxId>,
}

impl Index {
    /// Whether the same letter is already waiting and lasts long enough ([`lasts_for`]) that another one, which arrived
    /// at `arrived_ms` and would be kept until `expires_at`, may be dropped. A letter that `leaves` stands for none.
    pub(super) fn stands_in(
        &self,
        mailbox: MailboxId,
        digest: u64,
        (arrived_ms, expires_at): (u64, u64),
        leaves: impl Fn(LetterId) -> bool,
    ) -> bool {
        let (Some(newest), Some(held)) = (self.digests.get(&digest), self.mailboxes.get(&mailbox)) else {
            return false;
        };
        let lasts =
            |twin: &Entry| lasts_for(twin.expires_at, arrived_ms, expires_at) && !leaves(LetterId(twin.id));
        // Somebody may send the oldest letter of a full mailbox again and again: it is not to be searched for each time.
        let newest = held.find(*newest).ok().and_then(|at| held.letters.get(at));
        if newest.is_some_and(|twin| twin.digest == digest && lasts(twin)) {
            return true;
        }
        let has_others = newest.is_none() || self.twins.contains_key(&digest);
        has_others && held.letters.iter().rev().any(|twin| twin.digest == digest && lasts(twin))
    }

    /// Adds a letter; if the id exists, the letter only moves to its new place.
    pub(super) fn insert(&mut self, mailbox: MailboxId, entry: Entry) {
        self.last = self.last.max(entry.id);
        let held = self.mailboxes.entry(mailbox).or_default();
        let live = self.live.entry(entry.place.segment).or_default();
        live.letters += 1;
        live.bytes += u64::from(entry.len);
        // Nearly all letters come in order of their ids, so a million of them at a start need no search.
        let is_newest = held.letters.back().is_none_or(|last| last.id < entry.id);
        match if is_newest { Err(held.letters.len()) } else { held.find(entry.id) } {
            Ok(at) => {
                if let Some(old) = held.letters.get_mut(at) {
                    let from = std::mem::replace(&mut old.place, entry.place);
                    self.unlive(from.segment, entry.len);
                }
            }
            Err(at) => {
                held.bytes += u64::from(entry.len);
                held.first_end = if held.letters.is_empty() {
                    entry.expires_at
                } else {
                    held.first_end.min(entry.expires_at)
                };
                let first_before = held.first_ms();
                held.letters.insert(at, entry);
                let first = held.first_ms();
                self.first_changed(first_before, first);
                if self.digests.insert(entry.digest, entry.id).is_some() {
                    *self.twins.entry(entry.digest).or_default() += 1;
                }
                self.letters += 1;
                self.bytes += u64::from(entry.len);
            }
        }
    }

    /// Which of these letters, given in order, there are in these mailboxes; those without any are left out.
    pub(super) fn held(
        &self,
        mailboxes: &[MailboxId],
        letters: &[LetterId],
    ) -> Vec<(MailboxId, Vec<LetterId>)> {
        let in_one = |mailbox: &MailboxId| {
            let found = self.mailboxes.get(mailbox)?.among(letters);
            (!found.is_empty()).then_some((*mailbox, found))
        };
        mailboxes.iter().filter_map(in_one).collect()
    }

    /// Removes a letter.
    pub(super) fn remove(&mut self, mailbox: MailboxId, id: u64) -> Option<Entry> {
        let held = self.mailboxes.get_mut(&mailbox)?;
        let at = held.find(id).ok()?;
        let first_before = held.first_ms();
        let entry = held.letters.remove(at)?;
        let first = held.first_ms();
        held.bytes -= u64::from(entry.len);
        if held.letters.is_empty() {
            self.mailboxes.remove(&mailbox);
        } else if held.letters.capacity() > 64 && held.letters.capacity() / 4 > held.letters.len() {
            held.letters.shrink_to_fit();
        }
        self.first_changed(first_before, first);
        self.forget(&entry);
        Some(entry)
    }

    /// Notes when the first letter of a mailbox arrived, before and after a change of the mailbox.
    fn first_changed(&mut self, before: Option<u64>, after: Option<u64>) {
        if before == after {
            return;
        }
        if let Some(ms) = after {
            *self.firsts.entry(ms).or_default() += 1;
        }
        let Some(before) = before else { return };
        match self.firsts.get_mut(&before) {
            Some(mailboxes) if *mailboxes > 1 => *mailboxes -= 1,
            _ => drop(self.firsts.remove(&before)),
        }
    }

    fn forget(&mut self, entry: &Entry) {
        match self.twins.get_mut(&entry.digest) {
            None => {
                self.digests.remove(&entry.digest);
            }
            Some(1) => {
                self.twins.remove(&entry.digest);
            }
            Some(more) => *more -= 1,
        }
        if let Some(newest) = self.digests.get_mut(&entry.digest).filter(|newest| **newest == entry.id) {
            *newest = UNKNOWN;
        }
        self.letters -= 1;
        self.bytes -= u64::from(entry.len);
        self.unlive(entry.place.segment, entry.len);
    }

    /// Removes all letters of a mailbox up to and including `last`.
    pub(super) fn clear(&mut self, mailbox: MailboxId, last: u64) -> Vec<Entry> {
        let Some(mut held) = self.mailboxes.remove(&mailbox) else { return Vec::new() };
        let first_before = held.first_ms();
        let kept = held.letters.split_off(held.letters.partition_point(|entry| entry.id <= last));
        self.first_changed(first_before, kept.front().map(|entry| entry.arrived_ms));
        for entry in &held.letters {
            self.forget(entry);
        }
        if !kept.is_empty() {
            let bytes = kept.iter().map(|entry| u64::from(entry.len)).sum();
            self.mailboxes.insert(mailbox, Mailbox { letters: kept, bytes, first_end: held.first_end });
        }
        held.letters.into()
    }

    fn unlive(&mut self, segment: u32, len: u32) {
        if let Some(live) = self.live.get_mut(&segment) {
            live.letters -= 1;
            live.bytes -= u64::from(len);
            if live.letters == 0 {
                self.live.remove(&segment);
            }
        }
    }

    pub(super) fn entry(&self, mailbox: MailboxId, id: u64) -> Option<Entry> {
        let held = self.mailboxes.get(&mailbox)?;
        held.letters.get(held.find(id).ok()?).copied()
    }

    pub(super) fn list(
        &self,
        mailbox: MailboxId,
        after: Option<LetterId>,
        limit: usize,
        now: u64,
    ) -> Vec<Letter> {
        let held = self.mailboxes.get(&mailbox);
        held.into_iter().flat_map(|held| held.listed(after, now)).take(limit.min(MAX_LISTED)).collect()
    }

    /// The oldest letters of several mailboxes together.
    pub(super) fn oldest(
        &self,
        mailboxes: &[MailboxId],
        after: Option<LetterId>,
        limit: usize,
        now: u64,
    ) -> Vec<(MailboxId, Letter)> {
        let limit = limit.min(MAX_LISTED);
        let mut oldest: BTreeMap<LetterId, (MailboxId, Letter)> = BTreeMap::new();
        for mailbox in mailboxes {
            let Some(held) = self.mailboxes.get(mailbox) else { continue };
            for letter in held.listed(after, now) {
                let is_full = oldest.len() >= limit;
                if is_full && oldest.last_key_value().is_none_or(|(newest, _)| *newest < letter.id) {
                    break;
                }
                oldest.insert(letter.id, (*mailbox, letter));
                if oldest.len() > limit {
                    oldest.pop_last();
                }
            }
        }
        oldest.into_values().collect()
    }

    /// How a mailbox stands, or will stand once the letters `gone` are removed. What has expired at `now` does not count.
    pub(super) fn state(&self, mailbox: MailboxId, gone: &[LetterId], now: u64) -> MailboxState {
        let Some(held) = self.mailboxes.get(&mailbox) else { return MailboxState::default() };
        let mut gone: Vec<usize> = gone.iter().filter_map(|letter| held.find(letter.0).ok()).collect();
        if held.first_end <= now {
            let expired = held.letters.iter().enumerate().filter(|(_, entry)| entry.expires_at <= now);
            gone.extend(expired.map(|(at, _)| at));
        }
        gone.sort_unstable();
        gone.dedup();
        let lost: u64 =
            gone.iter().filter_map(|at| held.letters.get(*at)).map(|entry| u64::from(entry.len)).sum();
        // Only few letters go, so a remaining one is found after few steps.
        let stays = |at: &usize| gone.binary_search(at).is_err();
        let arrived = |at: usize| held.letters.get(at).map(|entry| entry.arrived_ms);
        MailboxState {
            letters: (held.letters.len() - gone.len()) as u64,
            bytes: held.bytes - lost,
            oldest_ms: (0..held.letters.len()).find(stays).and_then(arrived),
            newest_ms: (0..held.letters.len()).rev().find(stays).and_then(arrived),
        }
    }

    /// Expired letters, found by looking at `limit` or more letters if there are that many; the next call continues
    /// with the following mailboxes.
    pub(super) fn expired(&mut self, now: u64, limit: usize) -> Vec<(MailboxId, u64)> {
        let (mut found, mut looked_at, mut last) = (Vec::new(), 0, None);
        for (mailbox, held) in self.after(self.turn) {
            let gone = held.letters.iter().filter(|entry| entry.expires_at <= now);
            found.extend(gone.map(|entry| (*mailbox, entry.id)));
            looked_at += held.letters.len();
            if looked_at >= limit {
                last = Some(*mailbox);
                break;
            }
        }
        self.turn = last;
        found
    }

    /// Removes the letters whose expiry the log tells of: `ends` has for each place in the log, in order, until when what comes
    /// before it was swept. Returns how many.
    pub(super) fn drop_swept(&mut self, ends: &[(Place, u64)]) -> u64 {
        // What is swept later may have been swept before an earlier entry's time: the latest time behind a letter counts.
        let mut latest = ends.to_vec();
        for at in (1..latest.len()).rev() {
            let behind = latest.get(at).map_or(0, |end| end.1);
            if let Some(end) = latest.get_mut(at - 1) {
                end.1 = end.1.max(behind);
            }
        }
        let swept_at = |place: Place| latest.get(latest.partition_point(|(end, _)| *end <= place));
        let mut gone = Vec::new();
        for (mailbox, held) in &self.mailboxes {
            let is_swept =
                |entry: &&Entry| swept_at(entry.place).is_some_and(|end| entry.expires_at <= end.1);
            gone.extend(held.letters.iter().filter(is_swept).map(|entry| (*mailbox, entry.id)));
        }
        for (mailbox, id) in &gone {
            self.remove(*mailbox, *id);
        }
        self.note_ends(gone.iter().map(|(mailbox, _)| *mailbox).collect::<HashSet<_>>());
        gone.len() as u64
    }

    /// Notes when the first of the letters in these mailboxes expires, once others are gone.
    pub(super) fn note_ends(&mut self, mailboxes: impl IntoIterator<Item = MailboxId>) {
        for mailbox in mailboxes {
            if let Some(held) = self.mailboxes.get_mut(&mailbox) {
                held.first_end = held.letters.iter().map(|entry| entry.expires_at).min().unwrap_or(u64::MAX);
            }
        }
    }

    fn after(&self, after: Option<MailboxId>) -> impl Iterator<Item = (&MailboxId, &Mailbox)> {
        self.mailboxes.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    pub(super) fn mailboxes(&self, after: Option<MailboxId>) -> Vec<MailboxId> {
        self.after(after).take(MAX_LISTED).map(|(mailbox, _)| *mailbox).collect()
    }

    /// Whether a letter of `len` bytes may still go into a mailbox, after those on their way.
    pub(super) fn admit(
        &self,
        mailbox: MailboxId,
        len: u64,
        quota: Quota,
        ahead: Ahead,
    ) -> Result<(), StoreError> {
        // What has expired takes its place until it is swept.
        let held = self.state(mailbox, &[], 0);
        let room = quota.total_bytes.saturating_sub(self.bytes.saturating_add(ahead.bytes_in_all));
        let places = quota.total_letters.saturating_sub(self.letters.saturating_add(ahead.letters_in_all));
        // The less room there is for all, the smaller the share of one mailbox.
        let share = |room: u64, all: u64| room.saturating_sub(all / RESERVE) / SHARE_OF_ROOM;
        let most = quota.bytes.min(share(room, quota.total_bytes).max(ALWAYS_GRANTED));
        let most_letters = quota.letters.min(share(places, quota.total_letters).max(LETTERS_ALWAYS_GRANTED));
        let fits = held.letters.saturating_add(ahead.letters) < most_letters
            && held.bytes.saturating_add(ahead.bytes).saturating_add(len) <= most
            && places > 0
            && len <= room;
        if fits { Ok(()) } else { Err(StoreError::MailboxFull) }
    }

    /// The letters of one segment in the mailboxes after the given one, looking at `limit` mailboxes, and the mailbox from where
    /// to go on.
    pub(super) fn letters_in(
        &self,
        segment: u32,
        after: Option<MailboxId>,
        limit: usize,
    ) -> (Vec<(MailboxId, Entry)>, Option<MailboxId>) {
        let (mut found, mut last) = (Vec::new(), None);
        for (mailbox, held) in self.after(after).take(limit) {
            last = Some(*mailbox);
            let there = held.letters.iter().filter(|entry| entry.place.segment == segment);
            found.extend(there.map(|entry| (*mailbox, *entry)));
        }
        (found, last)
    }

    pub(super) fn live(&self, segment: u32) -> Live {
        self.live.get(&segment).copied().unwrap_or_default()
    }

    pub(super) fn last(&self) -> LetterId {
        LetterId(self.last)
    }

    /// The bytes that the letters need in the log.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.bytes + self.letters * ENTRY_OVERHEAD
    }

    pub(super) fn stats(&self) -> MailStats {
        MailStats {
            letters: self.letters,
            bytes: self.bytes,
            mailboxes: self.mailboxes.len() as u64,
            oldest_ms: self.firsts.first_key_value().map(|(ms, _)| *ms),
            ..MailStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What somebody does with one of a few mailboxes.
    #[derive(Clone, Debug)]
    enum Step {
        Put { mailbox: u8, id: u64, arrived_ms: u64 },
        Remove { mailbox: u8, id: u64 },
        Clear { mailbox: u8, last: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (mailbox, id) = (0u8..3, 1u64..9);
        let step = prop_oneof![
            3 => (mailbox.clone(), id.clone(), 0u64..4)
                .prop_map(|(mailbox, id, arrived_ms)| Step::Put { mailbox, id, arrived_ms }),
            2 => (mailbox.clone(), id.clone()).prop_map(|(mailbox, id)| Step::Remove { mailbox, id }),
            1 => (mailbox, id).prop_map(|(mailbox, last)| Step::Clear { mailbox, last }),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        #[test]
        fn time_of_the_oldest_letter_is_what_a_look_at_every_mailbox_finds(steps in steps()) {
            let mut index = Index::default();
            for step in steps {
                match step {
                    Step::Put { mailbox, id, arrived_ms } => {
                        let (place, len, digest, expires_at) = (Place::default(), 1, id, u64::MAX);
                        let entry = Entry { id, place, len, digest, arrived_ms, expires_at };
                        index.insert(MailboxId([mailbox; 20]), entry);
                    }
                    Step::Remove { mailbox, id } => drop(index.remove(MailboxId([mailbox; 20]), id)),
                    Step::Clear { mailbox, last } => drop(index.clear(MailboxId([mailbox; 20]), last)),
                }
                let firsts = index.mailboxes.values().filter_map(Mailbox::first_ms);
                prop_assert_eq!(index.stats().oldest_ms, firsts.min());
                prop_assert!(index.firsts.len() <= index.mailboxes.len());
            }
        }
    }

    /// The mailboxes an account may have by default.
    const OF_ONE_ACCOUNT: u8 = 250;

    /// Somebody fills as many mailboxes as accounts may have, twice over, each until it is refused.
    #[test]
    fn the_mailboxes_of_some_accounts_leave_room_for_a_little_in_every_other() {
        let index = Index::default();
        let quota = Quota { letters: 10_000, total_letters: 200_000, ..Quota::NONE };
        let mut ahead = Ahead::default();
        let mut admit = |mailbox: u8| {
            let admitted = index.admit(MailboxId([mailbox; 20]), 1, quota, ahead).is_ok();
            ahead.letters += u64::from(admitted);
            ahead.letters_in_all += u64::from(admitted);
            if !admitted {
                ahead.letters = 0;
            }
            admitted
        };
        let filled: Vec<usize> =
            (0..OF_ONE_ACCOUNT).map(|mailbox| (0..).take_while(|_| admit(mailbox)).count()).collect();
        assert_eq!(filled.first(), Some(&2_692), "a 64th of what is left beyond the reserve");
        assert_eq!(filled.last(), Some(&100));
        assert!((0..50).all(|_| admit(OF_ONE_ACCOUNT)), "an empty mailbox still gets its letters");
    }
}
