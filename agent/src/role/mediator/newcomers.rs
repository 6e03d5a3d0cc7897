//! Who gets an account that has none: accounts are had for the asking, and stay.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::accounts::ACCOUNTS;
use crate::{
    config::MediatorSettings,
    handler::{Arrival, Effects, Failure, Origin, Shared},
    rates::Rates,
};

/// Most accounts unless configured otherwise.
const DEFAULT_MOST: u64 = 1_000_000;
/// New accounts from one address within an hour unless configured otherwise.
const DEFAULT_PER_HOUR: u32 = 1_000;
/// After so many requests accounts are counted again: some may be gone, or were counted twice.
const COUNTED_EVERY: u64 = 1_000;
/// How often they are counted at most because there is no room by the last count.
const COUNTED_WHEN_FULL: Duration = Duration::from_secs(5);

/// The bounds of new accounts.
pub(super) struct Newcomers {
    closed: bool,
    most: u64,
    rates: Rates<Origin>,
    counted: Mutex<Counted>,
}

/// How many accounts there are, as far as is known.
#[derive(Default)]
struct Counted {
    accounts: Option<u64>,
    /// Requests since they were counted.
    asked: u64,
    counted_at: Option<Instant>,
}

impl Counted {
    /// Whether the number is worth nothing any more.
    fn is_old(&self, most: u64) -> bool {
        let Some(accounts) = self.accounts else { return true };
        let is_recent = self.counted_at.is_some_and(|at| at.elapsed() < COUNTED_WHEN_FULL);
        self.asked >= COUNTED_EVERY || (accounts >= most && !is_recent)
    }
}

impl Newcomers {
    pub(super) fn new(settings: &MediatorSettings) -> Self {
        Self {
            closed: settings.closed,
            most: settings.max_accounts.unwrap_or(DEFAULT_MOST),
            rates: Rates::hourly(settings.max_new_accounts_per_hour.unwrap_or(DEFAULT_PER_HOUR)),
            counted: Mutex::default(),
        }
    }

    /// Whether the sender of a message gets the account it asks for and does not have; if so, the account counts.
    ///
    /// # Errors
    ///
    /// [`Failure::TooOften`] beyond the rate of its address, [`Failure`] if the store cannot be read.
    pub(super) fn admit(&self, shared: &Shared, fx: &Effects<'_>) -> Result<bool, Failure> {
        if self.closed {
            return Ok(false);
        }
        let from = fx.arrival().and_then(Arrival::origin);
        if from.is_some_and(|from| !self.rates.admit(&from)) {
            return Err(Failure::TooOften);
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.asked += 1;
        if counted.is_old(self.most) {
            let accounts = Some(shared.db.count(ACCOUNTS)?);
            *counted = Counted { accounts, asked: 0, counted_at: Some(Instant::now()) };
        }
        let accounts = counted.accounts.unwrap_or(0);
        let has_room = accounts < self.most;
        counted.accounts = Some(accounts + u64::from(has_room));
        Ok(has_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_counted_again_now_and_then_and_soon_where_there_was_no_room() {
        let counted = |accounts, asked, ago: Duration| Counted {
            accounts: Some(accounts),
            asked,
            counted_at: Instant::now().checked_sub(ago),
        };
        assert!(Counted::default().is_old(10));
        assert!(!counted(9, 1, Duration::from_secs(3_600)).is_old(10));
        assert!(counted(9, COUNTED_EVERY, Duration::ZERO).is_old(10));
        assert!(!counted(10, 1, Duration::ZERO).is_old(10));
        assert!(counted(10, 1, COUNTED_WHEN_FULL).is_old(10), "some may have been dropped");
    }
}
