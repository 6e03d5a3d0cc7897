//! Time as an input: the system's clock in production, one that is set by hand in simulation.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use einmal_didcomm::UnixSeconds;
use rustix::time::{ClockId, clock_gettime};

/// A source of the present time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// Whole seconds since the Unix epoch.
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.now_ms() / 1000)
    }

    /// Milliseconds since some moment in the past, whatever the clock is set to meanwhile.
    fn passed_ms(&self) -> u64;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn passed_ms(&self) -> u64 {
        // If available, the clock that continues while the machine sleeps: waking up is not a jump of the clock.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let which = ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let which = ClockId::Monotonic;
        let passed = clock_gettime(which);
        let seconds = u64::try_from(passed.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1000).saturating_add(u64::try_from(passed.tv_nsec).unwrap_or(0) / 1_000_000)
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    shows: AtomicU64,
    passed: AtomicU64,
}

impl ManualClock {
    /// A clock standing at `ms` milliseconds since the Unix epoch.
    pub fn at(ms: u64) -> Self {
        Self { shows: AtomicU64::new(ms), passed: AtomicU64::new(0) }
    }

    /// Lets time pass.
    pub fn advance(&self, ms: u64) {
        self.shows.fetch_add(ms, Ordering::SeqCst);
        self.passed.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the clock without any time passing: it jumps.
    pub fn set(&self, ms: u64) {
        self.shows.store(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.shows.load(Ordering::SeqCst)
    }

    fn passed_ms(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}
