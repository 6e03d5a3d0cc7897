//! The network: how envelopes leave and arrive, and what the node may connect to.

pub mod client;
pub mod guard;
pub mod memory;
pub mod p2p;
pub mod server;
mod transport;

pub use transport::{BoxFuture, FetchError, Fetcher, SendError, Transport};
