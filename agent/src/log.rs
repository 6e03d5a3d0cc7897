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

use crate::error::SetupError;

/// Bits of an id: enough to tell the events of a day apart, short enough to read out.
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
///
/// # Errors
///
/// [`SetupError::Setting`] if the filter is none: what was to be looked into would not be in the log, and nobody would know why.
pub(crate) fn start(json: bool) -> Result<(), SetupError> {
    let filter = filter(|name| std::env::var(name).ok())?;
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
    Ok(())
}

/// What is logged unless the environment says otherwise. The libraries of libp2p warn of what any peer does, with its address, as
/// often as it does it.
const DEFAULT_FILTER: &str = "einmal=info,warn,libp2p=error,yamux=error,quinn=error";

/// The filter the environment names. Set and empty, as a compose file sets what nobody has given, is not set.
fn filter(variable: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, SetupError> {
    let set = |name| variable(name).filter(|text| !text.trim().is_empty()).map(|text| (name, text));
    let Some((name, text)) = set("EINMAL_LOG").or_else(|| set("RUST_LOG")) else {
        return Ok(EnvFilter::new(DEFAULT_FILTER));
    };
    EnvFilter::try_new(&text).map_err(|error| SetupError::Setting {
        problem: format!("environment variable {name} is no log filter: {error}"),
        remedy: format!("unset {name} or set it to something like einmal=debug,warn"),
    })
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
    fn a_filter_that_is_none_is_refused_and_an_empty_one_is_the_default() {
        let of = |own: Option<&str>, common: Option<&str>| {
            let set = |name: &str| if name == "EINMAL_LOG" { own } else { common }.map(str::to_owned);
            filter(set).map(|filter| filter.to_string())
        };
        let default = of(None, None).unwrap();
        assert_eq!(of(Some(""), None).unwrap(), default);
        assert_eq!(of(Some(" "), Some("")).unwrap(), default);
        assert_eq!(of(Some(""), Some("error")).unwrap(), "error");
        assert_eq!(of(Some("debug"), Some("error")).unwrap(), "debug");
        let refused = of(Some("einmal=loud"), None).unwrap_err().to_string();
        assert!(refused.contains("EINMAL_LOG") && refused.contains("einmal=debug"), "{refused}");
    }

    #[test]
    fn where_info_is_off_there_is_no_span() {
        let quiet = tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::WARN);
        tracing::subscriber::with_default(quiet, || assert!(request("http").is_disabled()));
        let loud = tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::INFO);
        tracing::subscriber::with_default(loud, || assert!(!request("http").is_disabled()));
    }
}
