//! How many connections there may be: in total, per direction, per source and per peer.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::Hash,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        derive_prelude::{ConnectionClosed, ConnectionEstablished},
        dummy,
    },
};

use crate::{codec::Entering, guard::Attempts, host::Bounds, source::Source};

/// The limit on connections is reached.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("there are too many connections, in all or with this address or peer")]
pub(crate) struct TooMany;

/// Counts per key; keys that reach zero are removed.
#[derive(Debug)]
pub(crate) struct Tally<K>(HashMap<K, usize>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Tally<K> {
    pub(crate) fn of(&self, key: K) -> usize {
        self.0.get(&key).copied().unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn change(&mut self, key: K, up: bool) {
        let count = self.0.entry(key).or_default();
        *count = if up { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.0.remove(&key);
        }
    }
}

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Incoming, handshake not complete.
    Arriving,
    /// The same by UDP, where the address it comes from may be forged.
    Knocking,
    /// Outgoing, being made.
    Leaving,
    /// Incoming, established.
    In,
    /// Outgoing, established.
    Out,
}

/// A connection that is counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    stage: Stage,
    /// Not known while an outgoing one is being made.
    source: Option<Source>,
    /// Known from the handshake on.
    peer: Option<PeerId>,
}

/// Limits connections. Peer ids cost nothing, so a limit per peer id alone would limit nothing.
///
/// It replaces the library's limits, which keep an entry for every peer id they have ever seen.
pub(crate) struct Limits {
    bounds: Bounds,
    /// Tells others the source of a connection.
    entering: Entering,
    /// Tells the guard which connection it dials for.
    attempts: Attempts,
    totals: Tally<Stage>,
    /// Connections by source and stage. Includes outgoing ones, because peers say where to, and may all name one place.
    sources: Tally<(Stage, Source)>,
    peers: Tally<PeerId>,
    /// The counted connections, because others may still deny a connection afterwards.
    counted: HashMap<ConnectionId, Counted>,
}

impl Limits {
    pub(crate) fn new(bounds: &Bounds, entering: Entering, attempts: Attempts) -> Self {
        Self {
            bounds: bounds.clone(),
            entering,
            attempts,
            totals: Tally::default(),
            sources: Tally::default(),
            peers: Tally::default(),
            counted: HashMap::new(),
        }
    }

    /// Whether one more connection from `source` may begin its handshake. Those whose addresses may be forged leave a quarter of
    /// the places to others: somebody without any address could take all.
    fn may_arrive(&self, stage: Stage, source: Source) -> bool {
        let all = self.bounds.pending_connections;
        let arriving =
            self.sources.of((Stage::Arriving, source)) + self.sources.of((Stage::Knocking, source));
        self.totals.of(Stage::Arriving) + self.totals.of(Stage::Knocking) < all
            && (stage != Stage::Knocking || self.totals.of(stage) < all - all / 4)
            && arriving < self.bounds.pending_per_source
            && arriving + self.sources.of((Stage::In, source)) < self.bounds.connections_per_source
    }

    fn may_leave(&self) -> bool {
        self.totals.of(Stage::Leaving) < self.bounds.pending_outgoing
    }

    /// Whether one more connection with `peer` may be established. A part stays free for each direction, however many
    /// there are in the other. Incoming connections from `source` were already counted when they arrived.
    fn may_be(&self, stage: Stage, source: Source, peer: PeerId) -> bool {
        let all = self.bounds.connections;
        let of_source = self.sources.of((stage, source));
        self.totals.of(Stage::In) + self.totals.of(Stage::Out) < all
            && self.totals.of(stage) < all - all / 4
            && of_source < self.bounds.connections_per_source
            && self.peers.of(peer) < self.bounds.connections_per_peer
    }

    fn note(&mut self, connection: ConnectionId, counted: Counted) {
        self.forget(connection);
        self.change(counted, true);
        self.counted.insert(connection, counted);
    }

    fn forget(&mut self, connection: ConnectionId) {
        if let Some(counted) = self.counted.remove(&connection) {
            self.change(counted, false);
        }
    }

    fn change(&mut self, Counted { stage, source, peer }: Counted, up: bool) {
        self.totals.change(stage, up);
        if let Some(source) = source {
            self.sources.change((stage, source), up);
        }
        if let Some(peer) = peer {
            self.peers.change(peer, up);
        }
    }
}

fn permitted<T>(is_room: bool, handler: T) -> Result<T, ConnectionDenied> {
    if is_room { Ok(handler) } else { Err(ConnectionDenied::new(TooMany)) }
}

impl NetworkBehaviour for Limits {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    /// Before the handshake: it counts from here on, so that peers that never complete it use up only their own places.
    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let source = Source::of_ends(Some(local), remote);
        let is_udp = local.iter().any(|part| matches!(part, Protocol::Udp(_)));
        let stage =
            if is_udp && !crate::address::is_relayed(local) { Stage::Knocking } else { Stage::Arriving };
        permitted(self.may_arrive(stage, source), ())?;
        self.note(connection, Counted { stage, source: Some(source), peer: None });
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let source = Source::of_ends(Some(local), remote);
        self.entering.set(source);
        permitted(self.may_be(Stage::In, source, peer), dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        permitted(self.may_leave(), ())?;
        self.attempts.begin();
        self.note(connection, Counted { stage: Stage::Leaving, source: None, peer: None });
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let source = Source::of_ends(None, address);
        self.entering.set(source);
        permitted(self.may_be(Stage::Out, source, peer), dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let stage = if endpoint.is_listener() { Stage::In } else { Stage::Out };
                let source = Some(Source::of_connection(endpoint));
                self.note(connection_id, Counted { stage, source, peer: Some(peer_id) });
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. })
            | FromSwarm::DialFailure(DialFailure { connection_id, .. }) => self.forget(connection_id),
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
    use std::net::IpAddr;

    use super::*;

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    fn limits(bounds: &Bounds) -> Limits {
        Limits::new(bounds, Entering::default(), Attempts::default())
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn bounds() -> Bounds {
        Bounds {
            connections_per_source: 3,
            pending_per_source: 2,
            connections_per_peer: 2,
            ..Bounds::default()
        }
    }

    fn counted(stage: Stage, source: Source) -> Counted {
        let peer =
            (!matches!(stage, Stage::Arriving | Stage::Knocking | Stage::Leaving)).then(PeerId::random);
        Counted { stage, source: Some(source), peer }
    }

    fn forget_all(limits: &mut Limits) {
        (0..100).for_each(|number| limits.forget(id(number)));
        assert!(limits.counted.is_empty() && limits.totals.0.is_empty());
        assert!(limits.sources.0.is_empty() && limits.peers.0.is_empty(), "nobody is remembered");
    }

    #[test]
    fn one_source_has_its_places_and_gets_them_back() {
        let mut limits = limits(&bounds());
        for number in 0..3 {
            assert!(
                limits.may_arrive(Stage::Arriving, source(1))
                    && limits.may_be(Stage::In, source(1), PeerId::random())
            );
            limits.note(id(number), counted(Stage::In, source(1)));
        }
        assert!(
            !limits.may_arrive(Stage::Arriving, source(1)) && limits.may_arrive(Stage::Arriving, source(2))
        );
        // Outgoing connections are counted separately, and all may lead to one place.
        for number in 3..6 {
            assert!(limits.may_be(Stage::Out, source(1), PeerId::random()));
            limits.note(id(number), counted(Stage::Out, source(1)));
        }
        assert!(!limits.may_be(Stage::Out, source(1), PeerId::random()));
        assert!(limits.may_be(Stage::Out, source(2), PeerId::random()));
        limits.forget(id(0));
        limits.forget(id(0));
        assert!(limits.may_arrive(Stage::Arriving, source(1)));
        limits.note(id(6), counted(Stage::Arriving, source(1)));
        assert!(
            !limits.may_arrive(Stage::Arriving, source(1)),
            "one that shakes hands has its place already"
        );
        forget_all(&mut limits);
    }

    #[test]
    fn connections_that_never_shake_hands_take_the_places_of_their_own_source_only() {
        let mut limits = limits(&bounds());
        limits.note(id(1), counted(Stage::Arriving, source(1)));
        limits.note(id(2), counted(Stage::Arriving, source(1)));
        assert!(
            !limits.may_arrive(Stage::Arriving, source(1)) && limits.may_arrive(Stage::Arriving, source(2))
        );
        // One that completed the handshake no longer counts; one that failed is gone.
        limits.note(id(1), counted(Stage::In, source(1)));
        assert!(limits.may_arrive(Stage::Arriving, source(1)));
        limits.forget(id(2));
        limits.note(id(3), counted(Stage::Arriving, source(1)));
        assert!(limits.may_arrive(Stage::Arriving, source(1)));
        forget_all(&mut limits);
    }

    #[test]
    fn forged_addresses_that_knock_leave_places_to_those_that_are_not() {
        let mut limits = limits(&Bounds { pending_connections: 8, ..bounds() });
        for number in 0..6 {
            assert!(limits.may_arrive(Stage::Knocking, source(100 + number)));
            limits.note(id(number.into()), counted(Stage::Knocking, source(100 + number)));
        }
        assert!(!limits.may_arrive(Stage::Knocking, source(200)));
        assert!(limits.may_arrive(Stage::Arriving, source(200)));
        for number in 6..8 {
            limits.note(id(number.into()), counted(Stage::Arriving, source(100 + number)));
        }
        assert!(!limits.may_arrive(Stage::Arriving, source(200)), "eight in all");
        forget_all(&mut limits);
    }

    #[test]
    fn connections_with_one_peer_are_bounded() {
        let mut limits = limits(&bounds());
        let peer = PeerId::random();
        for (number, stage) in [(1, Stage::In), (2, Stage::Out)] {
            assert!(limits.may_be(Stage::In, source(3), peer));
            let source = Some(source(u8::try_from(number).unwrap()));
            limits.note(id(number), Counted { stage, source, peer: Some(peer) });
        }
        assert!(!limits.may_be(Stage::In, source(3), peer));
        assert!(limits.may_be(Stage::In, source(3), PeerId::random()));
        forget_all(&mut limits);
    }

    #[test]
    fn each_direction_leaves_room_for_the_other() {
        for (full, other) in [(Stage::In, Stage::Out), (Stage::Out, Stage::In)] {
            let mut limits = limits(&Bounds { connections: 8, ..Bounds::default() });
            for number in 0..6 {
                assert!(limits.may_be(full, source(1), PeerId::random()));
                limits.note(id(number), counted(full, source(1)));
            }
            assert!(!limits.may_be(full, source(1), PeerId::random()));
            for number in 6..8 {
                assert!(limits.may_be(other, source(1), PeerId::random()));
                limits.note(id(number), counted(other, source(1)));
            }
            assert!(!limits.may_be(other, source(1), PeerId::random()));
            forget_all(&mut limits);
        }
    }

    #[test]
    fn all_that_are_being_made_are_bounded_each_way() {
        let bounds = Bounds { pending_connections: 2, pending_outgoing: 1, ..Bounds::default() };
        let mut limits = limits(&bounds);
        limits.note(id(1), counted(Stage::Arriving, source(1)));
        limits.note(id(2), counted(Stage::Arriving, source(2)));
        assert!(!limits.may_arrive(Stage::Arriving, source(3)) && limits.may_leave());
        limits.note(id(3), Counted { stage: Stage::Leaving, source: None, peer: None });
        assert!(!limits.may_leave());
        forget_all(&mut limits);
    }
}
