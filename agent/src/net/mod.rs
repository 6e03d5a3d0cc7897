//! The network: how envelopes leave and arrive, and what the node may connect to.

mod admission;
pub mod client;
mod listen;
pub mod memory;
pub(crate) mod names;
mod outlast;
pub mod p2p;
mod paced;
mod peer_line;
mod proxy;
mod pushing;
pub mod server;
mod socket;
pub mod tls;
pub(crate) mod ws;

pub use crate::transport::{BoxFuture, FetchError, Fetcher, PeerLines, SendError, Transport};
