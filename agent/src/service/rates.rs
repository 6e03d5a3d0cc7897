//! How often one account may ask: a mediator's requests are bounded for each, so that no account is slow for another's
//! sake.

use std::num::NonZeroU32;

use einmal_did::Did;
use einmal_storage::mail::MailboxId;
use governor::{Quota, RateLimiter, clock::DefaultClock, state::keyed::HashMapStateStore};

use crate::db::mailbox_id;

/// Accounts whose rate is remembered before those that are quiet are forgotten.
const MAX_REMEMBERED: usize = 100_000;
/// Requests per second of one account unless configured otherwise.
pub(crate) const DEFAULT_PER_SECOND: u32 = 1_000;

/// Rates of accounts; twice the rate may come at once.
#[derive(Debug)]
pub(crate) struct Rates(Option<RateLimiter<MailboxId, HashMapStateStore<MailboxId>, DefaultClock>>);

impl Rates {
    /// At most `per_second` requests of each account; 0 is without limit.
    pub(crate) fn new(per_second: u32) -> Self {
        Self(NonZeroU32::new(per_second).map(|rate| {
            RateLimiter::hashmap(Quota::per_second(rate).allow_burst(rate.saturating_add(rate.get())))
        }))
    }

    /// Whether a request of `account` comes within its rate.
    pub(crate) fn admit(&self, account: &Did) -> bool {
        let Some(rates) = &self.0 else { return true };
        if rates.len() > MAX_REMEMBERED {
            rates.retain_recent();
        }
        rates.check_key(&mailbox_id(account)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_beyond_its_rate_does_not_hold_up_another() {
        let rates = Rates::new(2);
        let did = |text| Did::parse(text).unwrap();
        let passed = (0..20).filter(|_| rates.admit(&did("did:example:a"))).count();
        assert!((4..8).contains(&passed), "{passed}");
        assert!(rates.admit(&did("did:example:b")));
        let unbounded = Rates::new(0);
        assert!((0..20).all(|_| unbounded.admit(&did("did:example:a"))));
    }
}
