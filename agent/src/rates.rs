//! How often each address or account may ask, so that none is slowed down by another.

use std::{hash::Hash, num::NonZeroU32};

use governor::{Quota, RateLimiter, clock::DefaultClock, state::keyed::HashMapStateStore};

/// Most rates remembered before those of quiet askers are forgotten.
const MAX_REMEMBERED: usize = 100_000;
/// Requests per second of one account unless configured otherwise.
pub(crate) const DEFAULT_PER_ACCOUNT: u32 = 1_000;

/// Rates by `K`; a burst may have twice the rate.
#[derive(Debug)]
pub(crate) struct Rates<K: Hash + Eq + Clone>(Option<RateLimiter<K, HashMapStateStore<K>, DefaultClock>>);

impl<K: Hash + Eq + Clone> Rates<K> {
    /// At most `per_second` requests of each; 0 means no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        Self(NonZeroU32::new(per_second).map(|rate| {
            RateLimiter::hashmap(Quota::per_second(rate).allow_burst(rate.saturating_add(rate.get())))
        }))
    }

    /// At most `per_hour` requests of each, as many at once; 0 means no limit.
    pub(crate) fn hourly(per_hour: u32) -> Self {
        Self(NonZeroU32::new(per_hour).map(|rate| RateLimiter::hashmap(Quota::per_hour(rate))))
    }

    /// Whether a request of `one` is within its rate.
    pub(crate) fn admit(&self, one: &K) -> bool {
        let Some(rates) = &self.0 else { return true };
        if rates.len() > MAX_REMEMBERED {
            rates.retain_recent();
        }
        rates.check_key(one).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_beyond_its_rate_does_not_hold_up_another() {
        let rates = Rates::new(2);
        let passed = (0..20).filter(|_| rates.admit(&"a")).count();
        assert!((4..8).contains(&passed), "{passed}");
        assert!(rates.admit(&"b"));
        let hourly = Rates::hourly(5);
        assert_eq!((0..20).filter(|_| hourly.admit(&"a")).count(), 5);
        let unbounded = Rates::new(0);
        assert!((0..20).all(|_| unbounded.admit(&"a")));
    }
}
