//! Logging to standard error; levels from `EINMAL_LOG` or `RUST_LOG`; one id for all lines of one event.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io::IsTerminal,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::Span;
use tracing_subscriber::{EnvFilter, fmt as format, prelude::*};

/// Bits of an id: enough to distinguish the events of a day, short enough to read out.
const ID_BITS: u32 = 48;

/// The name of one event in the log, such as one request: every line logged while it is handled bears it.
///
/// It reveals nothing about other events, not even how many there were: it is a count under a key of this process.
/// Making one takes neither memory nor the system's random source, so every message on the hot path can have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId(u64);

impl RequestId {
    pub(crate) fn fresh() -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self(KEY.hash_one(COUNT.fetch_add(1, Ordering::Relaxed)) >> (u64::BITS - ID_BITS))
    }

    /// The span of the event, which arrived by `by`. If `info` is off, it is disabled and nothing is recorded.
    pub(crate) fn span(self, by: &'static str) -> Span {
        tracing::info_span!("request", id = %self, by)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// The span of an event that nobody else names.
pub(crate) fn request(by: &'static str) -> Span {
    RequestId::fresh().span(by)
}

/// Starts logging for a node process. Lines carry no DIDs, no message content and no personal data at `info`.
pub(crate) fn start(json: bool) {
    let filter = EnvFilter::try_from_env("EINMAL_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("einmal=info,warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(format::layer().json().with_writer(std::io::stderr)).try_init()
    } else {
        registry
            .with(
                format::layer()
                    .with_target(false)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init()
    };
    // A second start in the same process keeps the first logger; only tests do that.
    drop(started);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_short_and_differ() {
        let ids: HashSet<String> = (0..10_000).map(|_| RequestId::fresh().to_string()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }

    #[test]
    fn where_info_is_off_there_is_no_span() {
        let quiet = tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::WARN);
        tracing::subscriber::with_default(quiet, || assert!(request("http").is_disabled()));
        let loud = tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::INFO);
        tracing::subscriber::with_default(loud, || assert!(!request("http").is_disabled()));
    }
}
