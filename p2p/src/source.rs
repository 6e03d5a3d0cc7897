//! The origin of a connection, as far as it can be distinguished from others.

use std::net::{IpAddr, Ipv6Addr};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, multiaddr::Protocol};

use crate::address::{is_relayed, reached_ip, relay_of};

/// An origin: an IPv4 address, the 56-bit prefix that one IPv6 customer commonly has, of which each network of 64 bits is only a
/// part, or, for everyone who comes in through a relay, that relay, because only the relay knows their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(Place);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Address(IpAddr),
    Relay(PeerId),
    /// Unknown; all of these share the part of one source.
    Elsewhere,
}

impl Source {
    /// The source that `address` belongs to.
    pub fn of(address: IpAddr) -> Self {
        let one = match address.to_canonical() {
            IpAddr::V6(v6) if v6.is_loopback() => address,
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d & 0xff00, 0, 0, 0, 0).into()
            }
            v4 => v4,
        };
        Self(Place::Address(one))
    }

    /// The source of everyone who comes in through `relay`.
    pub fn behind(relay: PeerId) -> Self {
        Self(Place::Relay(relay))
    }

    /// The address that represents it, if it has one.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self.0 {
            Place::Address(address) => Some(address),
            Place::Relay(_) | Place::Elsewhere => None,
        }
    }

    /// Whether it is the machine that the node runs on.
    pub fn is_this_machine(self) -> bool {
        matches!(self.0, Place::Address(address) if address.is_loopback())
    }

    /// The source at the other end of a connection with `remote`; `local` is the address it came in at, if incoming.
    ///
    /// Only our chosen relays let others in. Relays on our way out are chosen by others, whose claim about a relay's
    /// name is worthless, so the relay's address counts there.
    pub(crate) fn of_ends(local: Option<&Multiaddr>, remote: &Multiaddr) -> Self {
        let Some(relayed) = local.filter(|local| is_relayed(local)) else {
            return reached_ip(remote).map_or(Self(Place::Elsewhere), Self::of);
        };
        // A relay that connected to us is known by its address.
        let address = || match relayed.iter().next() {
            Some(Protocol::Ip4(v4)) => Self::of(v4.into()),
            Some(Protocol::Ip6(v6)) => Self::of(v6.into()),
            _ => Self(Place::Elsewhere),
        };
        relay_of(relayed).map_or_else(address, Self::behind)
    }

    /// The source at the other end of a connection.
    pub(crate) fn of_connection(endpoint: &ConnectedPoint) -> Self {
        match endpoint {
            ConnectedPoint::Dialer { address, .. } => Self::of_ends(None, address),
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                Self::of_ends(Some(local_addr), send_back_addr)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn from(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_customer_of_ipv6_is_one_source() {
        assert_eq!(Source::of(at("2001:db8::1")), Source::of(at("2001:db8::ffff:1")));
        assert_eq!(Source::of(at("2001:db8::1")), Source::of(at("2001:db8:0:ff::1")));
        assert_ne!(Source::of(at("2001:db8::1")), Source::of(at("2001:db8:0:100::1")));
        assert_eq!(Source::of(at("::ffff:192.0.2.1")), Source::of(at("192.0.2.1")));
        assert!(Source::of(at("::1")).is_this_machine());
        assert!(!Source::of(at("::2")).is_this_machine());
        assert!(!Source::behind(PeerId::random()).is_this_machine());
    }

    #[test]
    fn who_comes_through_a_relay_comes_from_that_relay() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let local = from(&format!("/ip4/192.0.2.9/tcp/1/p2p/{relay}/p2p-circuit"));
        let remote = from(&format!("/p2p/{peer}"));
        assert_eq!(Source::of_ends(Some(&local), &remote), Source::behind(relay));
        let dialled = from(&format!("/ip4/192.0.2.9/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"));
        assert_eq!(Source::of_ends(None, &dialled), Source::of(at("192.0.2.9")), "where we were sent");
        let listening = from("/ip4/192.0.2.9/tcp/1");
        let direct = Source::of_ends(Some(&listening), &from("/ip4/192.0.2.1/tcp/5"));
        assert_eq!(direct, Source::of(at("192.0.2.1")));
        // A relay that connected to us, and an address without a name.
        let nameless = from("/ip4/192.0.2.9/tcp/1/p2p-circuit");
        assert_eq!(Source::of_ends(Some(&nameless), &remote), Source::of(at("192.0.2.9")));
        assert_eq!(Source::of_ends(None, &remote), Source(Place::Elsewhere));
    }
}
