//! Logging to standard error; levels from `EINMAL_LOG` or `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Starts logging for a node process. Lines carry no DIDs, no message content and no personal data at `info`.
pub(crate) fn start(json: bool) {
    let filter = EnvFilter::try_from_env("EINMAL_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("einmal=info,warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init()
    } else {
        registry
            .with(
                fmt::layer()
                    .with_target(false)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init()
    };
    // A second start in the same process keeps the first; only tests do that.
    drop(started);
}
