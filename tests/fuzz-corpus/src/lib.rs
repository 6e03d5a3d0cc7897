//! One function for every decoder of outside bytes: the fuzzer calls it, and `tests/replay.rs` replays the corpora.
//!
//! Each function takes any bytes, must not panic on them, and returns whether the decoder accepted them. Accepted input
//! is checked against invariants (it reads back equal, limits hold, a proved sender is `from`, and so on), so that
//! wrong answers are found as well as crashes.
//!
//! Several functions read the first byte as a mode, so that the fuzzer gets past signatures and encryption: the rest is
//! then signed or encrypted with fixed keys before the decoder sees it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness: whatever fails here is to be reported as a crash of its target"
)]

mod bodies;
mod documents;
mod envelopes;
mod json;
mod keys;
mod node_config;
mod plaintext;
mod register;
mod sd_jwts;
mod sealing;
pub mod seeds;
mod status_lists;
mod urls;

pub use bodies::bodies;
pub use documents::{did, did_document};
pub use envelopes::{jwe, jws};
pub use node_config::node_config;
pub use plaintext::message;
pub use register::{configuration, csv};
pub use sd_jwts::sd_jwt;
pub use status_lists::status_list;
pub use urls::oob_url;

/// A target: its name, which is also that of its corpus folder, and its function.
pub struct Target {
    /// Name of the fuzz target and of its folder under `fuzz/corpus`.
    pub name: &'static str,
    /// Takes any bytes; returns whether the decoder accepted them.
    pub run: fn(&[u8]) -> bool,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every target.
pub const TARGETS: [Target; 12] = [
    Target { name: "message", run: message },
    Target { name: "jwe", run: jwe },
    Target { name: "jws", run: jws },
    Target { name: "did", run: did },
    Target { name: "did_document", run: did_document },
    Target { name: "sd_jwt", run: sd_jwt },
    Target { name: "status_list", run: status_list },
    Target { name: "oob_url", run: oob_url },
    Target { name: "csv", run: csv },
    Target { name: "configuration", run: configuration },
    Target { name: "bodies", run: bodies },
    Target { name: "node_config", run: node_config },
];

/// The present time of every target, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;
