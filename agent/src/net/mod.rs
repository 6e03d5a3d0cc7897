//! The network: how envelopes leave and arrive, and what the node may connect to.

mod admission;
pub mod client;
pub mod guard;
mod listen;
pub mod memory;
mod outlast;
pub mod p2p;
mod paced;
mod peer_lines;
mod proxy;
mod pushing;
pub mod server;
mod socket;
pub mod tls;
mod transport;
pub(crate) mod ws;

pub use peer_lines::PeerLines;
pub use transport::{BoxFuture, FetchError, Fetcher, SendError, Transport};
