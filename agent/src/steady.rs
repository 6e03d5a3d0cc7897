//! How far the clock can be trusted: a jump, measured against elapsed time, puts it in doubt for a while.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::Clock;

/// Steps of the clock up to this size are corrections that every machine makes; they are followed at once.
pub const LARGEST_STEP: Duration = Duration::from_secs(5 * 60);
/// How long the clock must be free of jumps, since the start or the last jump, before expired records and mail are
/// removed; disclosed results wait only after a jump.
pub const SETTLES_AFTER: Duration = Duration::from_secs(60 * 60);
/// No correct clock shows less, in seconds since 1970: 1 January 2026, before which this program did not exist.
pub const BEGINNING: u64 = 1_767_225_600;

/// What is known about the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    /// What the clock shows, in milliseconds since 1970.
    pub(crate) shown_ms: u64,
    /// What it would show had it not jumped; the same as `shown_ms` while it is trusted.
    pub(crate) steady_ms: u64,
    /// Whether it jumped and has not stood long enough since.
    pub(crate) doubted: bool,
    /// Whether it has stood long enough since the start, or since its last jump.
    pub(crate) stands: bool,
}

impl Present {
    /// The earliest possible present, in seconds since 1970: only what is over by then is treated as over.
    pub(crate) fn earliest(self) -> u64 {
        self.shown_ms.min(self.steady_ms) / 1000
    }

    /// The latest possible present, in seconds since 1970: periods for which something is kept begin then.
    pub(crate) fn latest(self) -> u64 {
        self.shown_ms.max(self.steady_ms) / 1000
    }
}

/// Compares the clock with the time that has passed.
#[derive(Debug, Default)]
pub(crate) struct Steady(Mutex<Option<State>>);

/// Differences are between the clock and the time that has passed, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The difference that was trusted last.
    believed: i128,
    /// The present difference.
    present: i128,
    /// Since when it has been so, in milliseconds of time passed.
    since: u64,
}

impl Steady {
    /// Reads the clock. Also returns by how many seconds it has jumped since it was last read, if it has.
    pub(crate) fn look(&self, clock: &dyn Clock) -> (Present, Option<i64>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that no two readings are processed in a different order.
        let (shown_ms, passed) = (clock.now_ms(), clock.passed_ms());
        let difference = i128::from(shown_ms) - i128::from(passed);
        let state = state.get_or_insert(State { believed: difference, present: difference, since: passed });
        let step = difference - state.present;
        let jump = is_jump(step).then(|| i64::try_from(step / 1000).unwrap_or(i64::MAX));
        if jump.is_some() {
            state.since = passed;
        }
        state.present = difference;
        if state.believed + i128::from(passed) < i128::from(BEGINNING) * 1000 {
            // What it showed was certainly wrong, so this can only be nearer to the truth.
            state.believed = difference;
        }
        let stands = u128::from(passed.saturating_sub(state.since)) >= SETTLES_AFTER.as_millis();
        let doubted = is_jump(difference - state.believed) && !stands;
        if !doubted {
            state.believed = difference;
        }
        let steady_ms = u64::try_from((state.believed + i128::from(passed)).max(0)).unwrap_or(u64::MAX);
        (Present { shown_ms, steady_ms, doubted, stands }, jump)
    }
}

fn is_jump(step_ms: i128) -> bool {
    step_ms.unsigned_abs() > LARGEST_STEP.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const START: u64 = 1_780_000_000_000;
    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    fn look(steady: &Steady, clock: &ManualClock) -> Present {
        steady.look(clock).0
    }

    #[test]
    fn a_jump_is_told_once_and_doubted_until_it_has_stood() {
        for to in [START + 10 * 365 * DAY, START + DAY, START - HOUR, 0, u64::MAX] {
            let (steady, clock) = (Steady::default(), ManualClock::at(START));
            assert_eq!(steady.look(&clock).1, None);
            clock.set(to);
            let (present, jump) = steady.look(&clock);
            let seconds = (i128::from(to) - i128::from(START)) / 1000;
            assert_eq!(jump.map(i128::from), Some(seconds));
            assert!(present.doubted && !present.stands);
            assert_eq!((present.shown_ms, present.steady_ms), (to, START));
            assert_eq!((present.earliest(), present.latest()), (to.min(START) / 1000, to.max(START) / 1000));
            assert_eq!(steady.look(&clock).1, None, "told once");
        }
    }

    #[test]
    fn a_jump_that_has_stood_is_believed_and_not_a_moment_earlier() {
        let (steady, clock) = (Steady::default(), ManualClock::at(START));
        look(&steady, &clock);
        clock.set(START + DAY);
        look(&steady, &clock);
        clock.advance(HOUR - 1);
        assert!(look(&steady, &clock).doubted);
        assert_eq!(look(&steady, &clock).steady_ms, START + HOUR - 1);
        clock.advance(1);
        let present = look(&steady, &clock);
        assert!(!present.doubted && present.stands);
        assert_eq!(present.steady_ms, START + DAY + HOUR);
    }

    #[test]
    fn a_jump_taken_back_is_believed_at_once_but_has_to_stand_anew() {
        let (steady, clock) = (Steady::default(), ManualClock::at(START));
        clock.advance(2 * HOUR);
        look(&steady, &clock);
        clock.advance(2 * HOUR);
        assert!(look(&steady, &clock).stands);
        clock.set(START + DAY);
        assert!(look(&steady, &clock).doubted);
        clock.advance(HOUR / 2);
        clock.set(START + 4 * HOUR + HOUR / 2);
        let present = look(&steady, &clock);
        assert!(!present.doubted && !present.stands);
        assert_eq!(present.steady_ms, present.shown_ms);
    }

    #[test]
    fn small_corrections_are_followed_and_a_long_sleep_is_none() {
        let (steady, clock) = (Steady::default(), ManualClock::at(START));
        look(&steady, &clock);
        for _ in 0..100 {
            clock.advance(1000);
            clock.set(clock.now_ms() - LARGEST_STEP.as_secs() * 1000);
            let (present, jump) = steady.look(&clock);
            assert!(!present.doubted && jump.is_none());
        }
        clock.advance(30 * DAY);
        let (present, jump) = steady.look(&clock);
        assert!(!present.doubted && jump.is_none() && present.stands);
    }

    #[test]
    fn a_clock_that_was_certainly_wrong_is_not_held_against_the_right_one() {
        let (steady, clock) = (Steady::default(), ManualClock::at(1_000_000));
        look(&steady, &clock);
        clock.set(START);
        let (present, jump) = steady.look(&clock);
        assert!(!present.doubted && !present.stands && jump.is_some());
        assert_eq!(present.steady_ms, START);
    }

    #[test]
    fn at_the_start_the_clock_is_believed_but_does_not_stand_yet() {
        let (steady, clock) = (Steady::default(), ManualClock::at(START));
        let present = look(&steady, &clock);
        assert!(!present.doubted && !present.stands);
        clock.advance(HOUR);
        assert!(look(&steady, &clock).stands);
    }
}
