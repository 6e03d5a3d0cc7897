//! Who holds a relay's reservations: one source has a part of them, whatever its peer ids and connections.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    relay,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, derive_prelude::ConnectionClosed,
    },
};

use crate::source::Source;

/// Reservations that were granted and are neither over nor gone with their connection.
#[derive(Debug, Default)]
struct Held {
    /// The connection whose event is being handled: the library does not say whose reservation it asks about.
    asking: Option<ConnectionId>,
    granted: HashMap<ConnectionId, (Source, Instant)>,
}

/// Grants reservations; clones share what is granted.
#[derive(Clone, Debug)]
pub(crate) struct Reservations {
    /// Most of one source.
    of_one: usize,
    /// Most of all together.
    of_all: usize,
    /// How long one lasts unless it is renewed.
    lasts: Duration,
    held: Arc<Mutex<Held>>,
}

impl Reservations {
    pub(crate) fn new(of_one: usize, of_all: usize, lasts: Duration) -> Self {
        Self { of_one, of_all, lasts, held: Arc::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the library asks; it must do so last, for it takes a yes for granted.
    pub(crate) fn limiter(&self) -> Box<dyn relay::RateLimiter> {
        let own = self.clone();
        Box::new(move |_: PeerId, address: &Multiaddr, now| own.grant(Source::of_ends(None, address), now))
    }

    /// Whether the connection that asks gets a reservation, or its own renewed.
    fn grant(&self, source: Source, now: Instant) -> bool {
        let mut held = self.held();
        let Some(asking) = held.asking else { return false };
        held.granted.retain(|_, (_, at)| now.saturating_duration_since(*at) < self.lasts);
        let others = held.granted.iter().filter(|(id, (whose, _))| **id != asking && *whose == source);
        let is_new = !held.granted.contains_key(&asking);
        let is_room = others.count() < self.of_one && !(is_new && held.granted.len() >= self.of_all);
        if is_room {
            held.granted.insert(asking, (source, now));
        }
        is_room
    }

    fn ended(&self, connection: ConnectionId) {
        self.held().granted.remove(&connection);
    }
}

/// A relay that says which connection asks for a reservation.
pub(crate) struct Reserving {
    inner: relay::Behaviour,
    reservations: Reservations,
}

impl Reserving {
    /// `inner` asks the limiter of `reservations`.
    pub(crate) fn new(inner: relay::Behaviour, reservations: Reservations) -> Self {
        Self { inner, reservations }
    }
}

impl NetworkBehaviour for Reserving {
    type ConnectionHandler = <relay::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = relay::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) = &event {
            self.reservations.ended(*connection_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.reservations.held().asking = Some(connection);
        self.inner.on_connection_handler_event(peer, connection, event);
        self.reservations.held().asking = None;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Whether a connection from `address` gets a reservation, as the library asks.
    fn ask(reservations: &Reservations, connection: usize, address: &str, now: Instant) -> bool {
        reservations.held().asking = Some(ConnectionId::new_unchecked(connection));
        reservations.limiter().try_next(PeerId::random(), &address.parse().unwrap(), now)
    }

    #[test]
    fn one_source_holds_its_part_of_the_reservations_whatever_its_peer_ids() {
        let (reservations, now) = (Reservations::new(4, 100, HOUR), Instant::now());
        let granted = |from: &str, first: usize| {
            (first..first + 20).filter(|number| ask(&reservations, *number, from, now)).count()
        };
        assert_eq!(granted("/ip4/192.0.2.1/tcp/1", 0), 4);
        assert_eq!(granted("/ip4/192.0.2.1/udp/9/quic-v1", 20), 0);
        assert_eq!(granted("/ip4/192.0.2.2/tcp/1", 40), 4, "others are not held up");
        assert_eq!(granted("/ip6/2001:db8::1/tcp/1", 60), 4);
        assert_eq!(granted("/ip6/2001:db8::ffff:2/tcp/1", 80), 0);
    }

    #[test]
    fn at_a_relay_that_is_full_those_who_were_there_first_stay_and_nobody_else_comes() {
        let (reservations, begun) = (Reservations::new(2, 3, HOUR), Instant::now());
        let from = |number: usize| format!("/ip4/192.0.2.{number}/tcp/1");
        let asks = |number: usize, now| ask(&reservations, number, &from(number), now);
        assert!((1..=3).all(|number| asks(number, begun)));
        assert!(!asks(4, begun));
        let later = begun + HOUR * 3 / 4;
        assert!((1..=3).all(|number| asks(number, later)), "all are renewed");
        assert!(!asks(4, begun + HOUR));
        reservations.ended(ConnectionId::new_unchecked(2));
        assert!(asks(4, begun + HOUR));
    }

    #[test]
    fn reservations_are_renewed_and_come_free_with_time_and_connection() {
        let (reservations, begun) = (Reservations::new(2, 100, HOUR), Instant::now());
        let from = "/ip4/192.0.2.1/tcp/1";
        assert!(ask(&reservations, 1, from, begun) && ask(&reservations, 2, from, begun));
        let later = begun + HOUR * 3 / 4;
        assert!(ask(&reservations, 1, from, later), "it is renewed");
        assert!(!ask(&reservations, 3, from, later));
        let over = begun + HOUR;
        assert!(ask(&reservations, 3, from, over), "the second was not renewed");
        assert!(!ask(&reservations, 4, from, over));
        reservations.ended(ConnectionId::new_unchecked(1));
        assert!(ask(&reservations, 4, from, over));
        assert_eq!(reservations.held().granted.len(), 2);
    }
}
