//! A libp2p host that carries packed DIDComm messages: QUIC, TCP, relays, hole punching, local discovery.
//!
//! It knows nothing of what it carries. A stream of `/didcomm/v2` brings one packed message, length-prefixed, and takes
//! one status back. A peer id creates no trust: the envelope proves whom a message is from.
//!
//! All outside input is bounded ([`Bounds`]), and no protocol can make it dial an address that the owner's [`Permit`]
//! refuses.

mod address;
mod asked;
mod behaviour;
mod circuits;
mod codec;
mod driver;
mod guard;
mod hint;
mod hold;
mod host;
mod limits;
mod lookups;
mod names;
mod places;
mod reserved;
mod source;

pub use libp2p::{Multiaddr, PeerId};

pub use self::{
    address::{EndpointError, MAX_ADDRESSES, PeerEndpoint, SCHEME, direct_ip, is_relayed, is_served},
    codec::{PROTOCOL, Status},
    guard::Permit,
    hold::{Held, HoldError},
    host::{Bounds, BoxFuture, Host, HostConfig, Inbound, P2pError, RelayLimits, Route, SendError},
    lookups::{Lookup, LookupBounds, Lookups},
    source::Source,
};
