//! The node's counters and current state, for `/metrics` and its own user: no personal data, no identifiers.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use einmal_storage::StoreError;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use serde_json::{Value, json};

use super::Shared;
use crate::{
    config::Role,
    db::{DEAD, OUTBOX},
};

/// Bounds of the latency histograms, in seconds.
const LATENCIES: [f64; 12] = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.0];

/// Why something was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Reason {
    /// More bytes than accepted.
    TooLarge,
    /// Does not open, or breaks a rule.
    Invalid,
    /// For an unregistered recipient, or from a sender without an account.
    NotEnrolled,
    /// The mailbox, or all mailboxes together, hold as much as they may.
    MailboxFull,
    /// More than its sender's rate.
    Rate,
    /// The node has too much to do.
    Busy,
    /// More connections, of all or from one address, than may be open.
    Connections,
    /// The store or a fetch failed.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: Reason,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $help:literal),* $(,)?) => {
        /// Counters since the start of the process.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
            refused: Family<Why, Counter>,
            gauges: Gauges,
            taken: Latency,
            registry: Mutex<Registry>,
        }

        impl Stats {
            /// All counters at zero, and registered.
            pub(crate) fn new() -> Self {
                let stats = Self::default();
                let mut registry = Registry::with_prefix("einmal");
                $(registry.register(stringify!($name), $help, stats.$name.clone());)*
                registry.register("refused", "Envelopes and connections not taken in", stats.refused.clone());
                registry.register_with_unit(
                    "taken",
                    "From the last byte of an envelope to its answer",
                    Unit::Seconds,
                    stats.taken.0.clone(),
                );
                stats.gauges.register(&mut registry);
                *stats.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
                stats
            }

            /// The counters as JSON, by name.
            pub fn to_json(&self) -> Value {
                json!({ $(stringify!($name): self.$name.get(),)* "refused": self.refusals() })
            }
        }
    };
}

counters! {
    /// Envelopes that arrived.
    received: "Envelopes that arrived",
    /// Messages handled and committed.
    accepted: "Messages handled and committed, forwards not counted",
    /// Messages seen before; they changed nothing.
    duplicates: "Messages seen before",
    /// Letters put into mailboxes.
    queued: "Letters put into mailboxes",
    /// Letters that their recipients have acknowledged.
    delivered: "Letters acknowledged by their recipients",
    /// Letters pushed to live connections.
    pushed: "Letters pushed to live connections",
    /// Messages handed over to an endpoint.
    sent: "Messages handed over to an endpoint",
    /// Attempts to hand over that failed.
    send_failures: "Attempts to hand over that failed",
    /// Messages given up.
    given_up: "Messages given up",
    /// Times the clock was found to have jumped.
    clock_jumps: "Times the clock was found to have jumped",
}

#[derive(Debug)]
struct Latency(Histogram);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new(LATENCIES))
    }
}

macro_rules! gauges {
    ($($name:ident: $help:literal),* $(,)?) => {
        /// The current state; brought up to date when it is asked for.
        #[derive(Debug, Default)]
        struct Gauges { $($name: Gauge,)* }

        impl Gauges {
            fn register(&self, registry: &mut Registry) {
                $(registry.register(stringify!($name), $help, self.$name.clone());)*
            }
        }
    };
}

gauges! {
    outbox: "Messages waiting to be handed over",
    parked: "Messages given up and kept for a look",
    mail_letters: "Letters waiting in mailboxes",
    mail_bytes: "Bytes of letters waiting in mailboxes",
    mail_mailboxes: "Mailboxes with letters in them",
    mail_oldest_age_seconds: "Age of the oldest letter",
    mail_disk_bytes: "Bytes the mail takes on the disk",
    mail_flushes: "Times the disk was made to write mail since the start",
    mail_damaged: "Letters found damaged on the disk since the start",
    live_sessions: "Accounts that have mail pushed",
    peer_lines: "libp2p peers that get something back on their own connections",
    connections: "Connections open now",
}

impl Stats {
    /// Counts a refusal.
    pub(crate) fn refuse(&self, reason: Reason) {
        self.refused.get_or_create(&Why { reason }).inc();
    }

    /// Notes how long an envelope took.
    pub(crate) fn took(&self, time: Duration) {
        self.taken.0.observe(time.as_secs_f64());
    }

    fn refusals(&self) -> u64 {
        use Reason::{Busy, Invalid, MailboxFull, NotEnrolled, Rate, TooLarge, Unavailable};
        let all = [TooLarge, Invalid, NotEnrolled, MailboxFull, Rate, Busy, Unavailable];
        all.map(|reason| self.refused.get_or_create(&Why { reason }).get()).iter().sum()
    }

    /// All numbers in the text format of Prometheus (OpenMetrics 1.0). `connections` are those open now.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the outbox cannot be counted.
    pub(crate) fn metrics(&self, shared: &Shared, connections: usize) -> Result<String, StoreError> {
        let gauges = &self.gauges;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        gauges.outbox.set(number(shared.db.count(OUTBOX)?));
        gauges.parked.set(number(shared.db.count(DEAD)?));
        gauges.connections.set(number(connections as u64));
        gauges.peer_lines.set(number(shared.lines().map_or(0, |lines| lines.count()) as u64));
        if shared.config.role == Role::Mediator {
            let mail = shared.mail.stats();
            let age = mail.oldest_ms.map_or(0, |at| shared.now_ms().saturating_sub(at) / 1000);
            gauges.mail_letters.set(number(mail.letters));
            gauges.mail_bytes.set(number(mail.bytes));
            gauges.mail_mailboxes.set(number(mail.mailboxes));
            gauges.mail_oldest_age_seconds.set(number(age));
            gauges.mail_disk_bytes.set(number(mail.bytes_on_disk));
            gauges.mail_flushes.set(number(mail.flushes));
            gauges.mail_damaged.set(number(mail.damaged));
            gauges.live_sessions.set(number(shared.live.count() as u64));
        }
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_the_format_scrapers_read() {
        let stats = Stats::new();
        stats.received.inc();
        stats.refuse(Reason::Rate);
        stats.took(Duration::from_micros(150));
        let mut text = String::new();
        encode(&mut text, &stats.registry.lock().unwrap()).unwrap();
        for line in [
            "einmal_received_total 1",
            "einmal_refused_total{reason=\"Rate\"} 1",
            "einmal_taken_seconds_bucket{le=\"0.0002\"} 1",
            "einmal_mail_letters 0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        assert_eq!(stats.to_json()["refused"], 1);
    }
}
