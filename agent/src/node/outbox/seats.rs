//! Whom the outbox serves, and how many of each standing: recipients that do not answer leave room for those that do.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::origin::{Origins, Queued, Waiting};
use crate::handler::Origin;

/// Most recipients served at once.
pub(super) const MAX_SERVED: usize = 256;
/// Most of them whose last attempt failed.
const MAX_FAILED: usize = 64;
/// Most of them to whom nothing was handed over yet: anybody can name endpoints that take a message and never answer.
const MAX_UNKNOWN: usize = 128;
/// Of the recipients served at once for each standing, one origin may have one in this many.
const SHARE_OF_ONE: usize = 8;
/// Most recipients remembered as those that answer; the oldest is forgotten first.
const MAX_REMEMBERED: usize = 4096;

/// What is known of a recipient since this node was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// The last message was handed over.
    Answers,
    /// Nothing was tried.
    Unknown,
    /// The last attempt failed.
    Failed,
}

impl Standing {
    /// Most recipients of this standing that are served at once.
    pub(super) fn most(self) -> usize {
        match self {
            Self::Answers => MAX_SERVED,
            Self::Unknown => MAX_UNKNOWN,
            Self::Failed => MAX_FAILED,
        }
    }

    /// Most of them that are served at once because of one origin: a flood leaves room for others. This also bounds
    /// recipients that answered, since they may have done so only to earn that standing.
    pub(super) fn most_of_one(self) -> usize {
        self.most() / SHARE_OF_ONE
    }
}

/// Recipients that messages are on their way to, and those known to answer.
#[derive(Debug, Default)]
pub(in crate::node) struct Served {
    seats: Mutex<Seats>,
    origins: Origins,
}

/// A series of looks, each going on where the last one ended, until all that is due has been seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    /// The message after which the next look begins; `None` for the first.
    pub(super) turn: Option<Vec<u8>>,
    /// Recipients met by the looks so far. Further messages for them wait for the next round, because an earlier one
    /// may have been left.
    met: HashSet<u64>,
    key: RandomState,
}

impl Round {
    /// Notes that a look met `recipient`.
    pub(super) fn meet(&mut self, recipient: &str) {
        self.met.insert(self.key.hash_one(recipient));
    }

    /// Whether an earlier look met `recipient`.
    pub(super) fn has_met(&self, recipient: &str) -> bool {
        !self.met.is_empty() && self.met.contains(&self.key.hash_one(recipient))
    }
}

#[derive(Debug, Default)]
struct Seats {
    taken: HashMap<String, (Standing, Option<Origin>)>,
    /// Until when messages for a recipient are put off, in Unix milliseconds; removed when they are tried again.
    put_off: HashMap<String, u64>,
    recalled: bool,
    round: Round,
    answering: HashSet<String>,
    /// The same recipients, in the order in which they were remembered.
    remembered: VecDeque<String>,
}

impl Served {
    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Origins::of`].
    pub(in crate::node) fn origin(&self, place: impl Hash) -> Origin {
        self.origins.of(place)
    }

    /// See [`Origins::queue`].
    pub(super) fn queue(&self, from: Option<Origin>, more: Waiting) -> Option<Queued<'_>> {
        self.origins.queue(from, more)
    }

    /// See [`Origins::gone`].
    pub(super) fn gone(&self, from: Option<Origin>, less: Waiting) {
        self.origins.gone(from, less);
    }

    /// Messages for a recipient were put off until `due`, in Unix milliseconds: none may pass them meanwhile.
    pub(super) fn put_off(&self, recipient: &str, due: u64) {
        self.lock().put_off.insert(recipient.to_owned(), due);
    }

    /// As [`Served::put_off`], unless something was put off already.
    pub(super) fn put_off_until_first(&self, recipient: &str, due: u64) {
        self.lock().put_off.entry(recipient.to_owned()).or_insert(due);
    }

    /// Whether the messages put off before the start are known.
    pub(super) fn has_recalled(&self) -> bool {
        self.lock().recalled
    }

    /// The messages put off before the start are known now.
    pub(super) fn recalled(&self) {
        self.lock().recalled = true;
    }

    /// Until when messages for a recipient are put off, if that is after `now` and within `most` of it: an instant from
    /// a clock that was ahead does not count.
    pub(super) fn is_put_off(&self, recipient: &str, now: u64, most: u64) -> Option<u64> {
        let due = *self.lock().put_off.get(recipient)?;
        (due > now && due <= now.saturating_add(most)).then_some(due)
    }

    /// The round of the next look, to be returned by [`Served::go_on`]; if it is not, a new round begins.
    pub(super) fn round(&self) -> Round {
        std::mem::take(&mut self.lock().round)
    }

    /// The next look goes on with `round`.
    pub(super) fn go_on(&self, round: Round) {
        self.lock().round = round;
    }

    /// The recipients that have a seat.
    pub(super) fn recipients(&self) -> HashSet<String> {
        self.lock().taken.keys().cloned().collect()
    }

    /// The standing of a recipient whose waiting message was tried `attempts` times.
    pub(super) fn standing(&self, recipient: &str, attempts: u32) -> Standing {
        match attempts {
            0 if self.lock().answering.contains(recipient) => Standing::Answers,
            0 => Standing::Unknown,
            _ => Standing::Failed,
        }
    }

    /// Takes a seat, if the recipient has none and one is left for its standing and for the origin of the message.
    pub(super) fn take(&self, recipient: &str, standing: Standing, from: Option<Origin>) -> bool {
        let mut seats = self.lock();
        let alike = seats.taken.values().filter(|(other, _)| *other == standing);
        let of_one = alike.clone().filter(|(_, other)| from.is_some() && *other == from).count();
        let is_room = seats.taken.len() < MAX_SERVED
            && alike.count() < standing.most()
            && of_one < standing.most_of_one();
        if !is_room || seats.taken.contains_key(recipient) {
            return false;
        }
        seats.taken.insert(recipient.to_owned(), (standing, from));
        seats.put_off.remove(recipient);
        true
    }

    /// Gives the recipient's seat back.
    pub(super) fn leave(&self, recipient: &str) {
        self.lock().taken.remove(recipient);
    }

    /// Notes whether a message was handed over.
    pub(super) fn note(&self, recipient: &str, handed_over: bool) {
        let mut seats = self.lock();
        if !handed_over {
            if seats.answering.remove(recipient) {
                seats.remembered.retain(|known| known != recipient);
            }
            return;
        }
        if seats.answering.insert(recipient.to_owned()) {
            seats.remembered.push_back(recipient.to_owned());
        }
        while seats.remembered.len() > MAX_REMEMBERED {
            if let Some(oldest) = seats.remembered.pop_front() {
                seats.answering.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(served: &Served, name: &str, standing: Standing) -> usize {
        (0..2 * MAX_SERVED).filter(|n| served.take(&format!("{name} {n}"), standing, None)).count()
    }

    #[test]
    fn a_recipient_has_one_seat_until_it_is_given_back() {
        let served = Served::default();
        assert!(served.take("one", Standing::Failed, None));
        assert!(!served.take("one", Standing::Failed, None) && !served.take("one", Standing::Answers, None));
        assert_eq!(served.recipients(), HashSet::from(["one".to_owned()]));
        served.leave("one");
        assert!(served.take("one", Standing::Unknown, None));
    }

    #[test]
    fn recipients_that_fail_and_unknown_ones_leave_room_for_those_who_answer() {
        let served = Served::default();
        assert_eq!(taken(&served, "dead", Standing::Failed), MAX_FAILED);
        assert_eq!(taken(&served, "new", Standing::Unknown), MAX_UNKNOWN);
        assert_eq!(taken(&served, "friend", Standing::Answers), MAX_SERVED - MAX_FAILED - MAX_UNKNOWN);
    }

    #[test]
    fn recipients_because_of_one_origin_leave_room_for_other_newcomers() {
        let served = Served::default();
        let of = |place: &str, standing: Standing| {
            let (names, from) = (0..2 * MAX_SERVED, Some(served.origin(place)));
            names.filter(|n| served.take(&format!("{place} {standing:?} {n}"), standing, from)).count()
        };
        assert_eq!(of("flood", Standing::Unknown), MAX_UNKNOWN / SHARE_OF_ONE);
        assert_eq!(of("flood", Standing::Failed), MAX_FAILED / SHARE_OF_ONE);
        assert_eq!(of("other", Standing::Unknown), MAX_UNKNOWN / SHARE_OF_ONE);
        assert_eq!(of("flood", Standing::Answers), MAX_SERVED / SHARE_OF_ONE);
        assert_eq!(of("other", Standing::Answers), MAX_SERVED / SHARE_OF_ONE);
    }

    #[test]
    fn only_whoever_took_the_last_message_is_known_to_answer() {
        let served = Served::default();
        assert_eq!(served.standing("bob", 0), Standing::Unknown);
        served.note("bob", true);
        served.note("bob", true);
        assert_eq!(served.standing("bob", 0), Standing::Answers);
        assert_eq!(served.standing("bob", 1), Standing::Failed, "this very message could not be handed over");
        served.note("bob", false);
        assert_eq!(served.standing("bob", 0), Standing::Unknown);
        assert!(served.lock().remembered.is_empty());
    }

    #[test]
    fn memory_of_those_who_answer_is_bounded_and_keeps_the_latest() {
        let served = Served::default();
        (0..MAX_REMEMBERED + 10).for_each(|n| served.note(&n.to_string(), true));
        assert_eq!(served.lock().answering.len(), MAX_REMEMBERED);
        assert_eq!(served.standing("9", 0), Standing::Unknown);
        assert_eq!(served.standing("10", 0), Standing::Answers);
    }
}
