//! Counters of what the node did; no personal data, no identifiers.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters since the start of the process.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl Stats {
            /// The counters as JSON, by name.
            pub fn to_json(&self) -> Value {
                json!({ $(stringify!($name): self.$name.load(Ordering::Relaxed),)* })
            }
        }
    };
}

counters! {
    /// Envelopes that arrived.
    received,
    /// Messages handled and committed.
    accepted,
    /// Messages seen before; they changed nothing.
    duplicates,
    /// Envelopes that did not open or broke a rule.
    refused,
    /// Forwards put into a queue.
    queued,
    /// Messages handed over to an endpoint.
    sent,
    /// Attempts to hand over that failed.
    send_failures,
    /// Messages given up.
    given_up,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
