//! Who gets an account that has none: accounts are had for the asking, and stay.

use std::sync::{Mutex, PoisonError};

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
/// After so many requests accounts are counted again: some may be gone.
const COUNTED_EVERY: u64 = 1_000;

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
        let accounts = match counted.accounts.filter(|_| counted.asked < COUNTED_EVERY) {
            Some(known) => known,
            None => {
                counted.asked = 0;
                shared.db.count(ACCOUNTS)?
            }
        };
        let has_room = accounts < self.most;
        counted.accounts = Some(accounts + u64::from(has_room));
        Ok(has_room)
    }
}
