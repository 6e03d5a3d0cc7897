//! Where somebody comes from, and how many connections may come from one such place.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, derive_prelude::ConnectionClosed, dummy,
    },
};

use crate::address::reached_ip;

/// Where somebody comes from: an IPv4 address, or the 64 bits of an IPv6 address that one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source that `address` belongs to.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                if v6.is_loopback() {
                    return Self(address);
                }
                let [a, b, c, d, ..] = v6.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            v4 => Self(v4),
        }
    }

    /// Whether it is the machine the node runs on.
    pub fn is_this_machine(self) -> bool {
        self.0.is_loopback()
    }
}

/// A source has as many connections as it may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many connections come from this address already")]
struct TooMany;

/// Bounds the connections that come in from one source. Peer ids cost nothing, so a bound for each of them is none.
///
/// What comes through a relay names no address of the peer's and is not counted here: the relay bounds its circuits.
pub(crate) struct PerSource {
    most: usize,
    open: HashMap<Source, usize>,
    /// Those counted, for a connection may be denied by others afterwards.
    counted: HashMap<ConnectionId, Source>,
}

impl PerSource {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, open: HashMap::new(), counted: HashMap::new() }
    }

    fn has_room(&self, remote: &Multiaddr) -> bool {
        let source = reached_ip(remote).map(Source::of);
        source.is_none_or(|source| self.open.get(&source).is_none_or(|open| *open < self.most))
    }

    fn count(&mut self, connection: ConnectionId, source: Source) {
        if self.counted.insert(connection, source).is_none() {
            *self.open.entry(source).or_default() += 1;
        }
    }

    fn forget(&mut self, connection: ConnectionId) {
        if let Some(source) = self.counted.remove(&connection)
            && let Some(open) = self.open.get_mut(&source)
        {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&source);
            }
        }
    }
}

impl NetworkBehaviour for PerSource {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    /// Before the handshake, so that it costs nothing.
    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.has_room(remote) { Ok(()) } else { Err(ConnectionDenied::new(TooMany)) }
    }

    /// And after it: several may have been shaking hands at once.
    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.has_room(remote) { Ok(dummy::ConnectionHandler) } else { Err(ConnectionDenied::new(TooMany)) }
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) if established.endpoint.is_listener() => {
                let source = reached_ip(established.endpoint.get_remote_address()).map(Source::of);
                if let Some(source) = source {
                    self.count(established.connection_id, source);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => self.forget(connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
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
        assert_ne!(Source::of(at("2001:db8::1")), Source::of(at("2001:db8:0:1::1")));
        assert_eq!(Source::of(at("::ffff:192.0.2.1")), Source::of(at("192.0.2.1")));
        assert!(Source::of(at("::1")).is_this_machine());
        assert!(!Source::of(at("::2")).is_this_machine());
    }

    #[test]
    fn one_source_has_its_places_whatever_port_or_transport_it_uses_and_gets_them_back() {
        let mut sources = PerSource::new(2);
        let tcp = from("/ip4/192.0.2.1/tcp/1");
        let ids = [ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2)];
        for id in ids {
            assert!(sources.has_room(&tcp));
            sources.count(id, Source::of(at("192.0.2.1")));
        }
        assert!(!sources.has_room(&tcp));
        assert!(!sources.has_room(&from("/ip4/192.0.2.1/udp/9/quic-v1")));
        assert!(sources.has_room(&from("/ip4/192.0.2.2/tcp/1")));
        sources.forget(ids[0]);
        sources.forget(ids[0]);
        assert!(sources.has_room(&tcp));
        sources.forget(ids[1]);
        assert!(sources.open.is_empty() && sources.counted.is_empty());
    }
}
