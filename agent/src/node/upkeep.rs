//! When a wallet compares what its mediator has registered with what should be, and when it asks for its account anew.

use std::sync::{Mutex, MutexGuard, PoisonError};

use einmal_didcomm::UnixSeconds;

/// Seconds between two comparisons while nothing happens.
const COMPARE_EVERY_SECS: u64 = 24 * 3600;
/// Seconds until a comparison that led to nothing is tried again.
const COMPARE_AGAIN_SECS: u64 = 3600;
/// Seconds until an account that is still not known is asked for once more; doubled each time.
const ASK_PAUSE_SECS: u64 = 60;
/// The most seconds of that.
const LONGEST_ASK_PAUSE_SECS: u64 = 6 * 3600;

/// What falls due when; of this process, for a start is a reason to look.
#[derive(Debug, Default)]
pub(crate) struct Upkeep(Mutex<Due>);

#[derive(Debug, Default)]
struct Due {
    compare_at: UnixSeconds,
    ask_at: UnixSeconds,
    asked: u32,
}

impl Upkeep {
    fn due(&self) -> MutexGuard<'_, Due> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to compare. Also if a clock that was ahead has put that off for years.
    pub(crate) fn compares(&self, now: UnixSeconds) -> bool {
        let at = self.due().compare_at;
        at <= now || at > now.plus(COMPARE_EVERY_SECS)
    }

    /// The mediator may not be the one it was: it was out of reach, or a line to it broke.
    pub(crate) fn compare_soon(&self) {
        self.due().compare_at = UnixSeconds(0);
    }

    /// All that should be registered is.
    pub(crate) fn compared(&self, now: UnixSeconds) {
        self.due().compare_at = now.plus(COMPARE_EVERY_SECS);
    }

    /// That could not be found out or not be brought about.
    pub(crate) fn not_compared(&self, now: UnixSeconds) {
        self.due().compare_at = now.plus(COMPARE_AGAIN_SECS);
    }

    /// Whether the account may be asked for anew, which is then noted: a mediator that knows it never must not be asked all
    /// the time.
    pub(crate) fn asks_anew(&self, now: UnixSeconds) -> bool {
        let mut due = self.due();
        if due.ask_at > now && due.ask_at <= now.plus(LONGEST_ASK_PAUSE_SECS) {
            return false;
        }
        if due.ask_at.plus(LONGEST_ASK_PAUSE_SECS) < now {
            due.asked = 0;
        }
        let pause = ASK_PAUSE_SECS.saturating_mul(1 << due.asked.min(16)).min(LONGEST_ASK_PAUSE_SECS);
        due.asked = due.asked.saturating_add(1);
        due.ask_at = now.plus(pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    #[test]
    fn it_is_compared_at_the_start_every_day_and_after_the_mediator_was_away() {
        let upkeep = Upkeep::default();
        assert!(upkeep.compares(NOW));
        upkeep.compared(NOW);
        assert!(
            !upkeep.compares(NOW.plus(COMPARE_EVERY_SECS - 1))
                && upkeep.compares(NOW.plus(COMPARE_EVERY_SECS))
        );
        upkeep.compare_soon();
        assert!(upkeep.compares(NOW));
        upkeep.not_compared(NOW);
        assert!(!upkeep.compares(NOW) && upkeep.compares(NOW.plus(COMPARE_AGAIN_SECS)));
        upkeep.compared(NOW.plus(10 * COMPARE_EVERY_SECS));
        assert!(upkeep.compares(NOW), "the clock was ahead");
    }

    #[test]
    fn a_mediator_that_never_knows_the_account_is_asked_ever_more_seldom() {
        let (upkeep, mut now, mut asked) = (Upkeep::default(), NOW, 0);
        for _ in 0..24 * 60 {
            asked += u32::from(upkeep.asks_anew(now));
            assert!(!upkeep.asks_anew(now));
            now = now.plus(60);
        }
        assert!((10..=16).contains(&asked), "{asked} times in a day");
        let later = now.plus(3 * LONGEST_ASK_PAUSE_SECS);
        assert!(
            upkeep.asks_anew(later) && upkeep.asks_anew(later.plus(ASK_PAUSE_SECS)),
            "from the beginning"
        );
        assert!(upkeep.asks_anew(NOW), "the clock was ahead");
    }
}
