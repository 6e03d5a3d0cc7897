//! Dials that strangers ask for: hole punching and AutoNAT connect to wherever a peer says. They have bounds of their
//! own.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, DialFailure, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        derive_prelude::{ConnectionClosed, ConnectionEstablished},
    },
};

use crate::{
    limits::{Tally, TooMany},
    source::Source,
};

/// How much strangers may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Most connections being made at once on request.
    pub(crate) dials: usize,
    /// Most of them on request of one source.
    pub(crate) dials_of_one: usize,
    /// Most requests of one connection that are heeded in its lifetime.
    pub(crate) heeded: usize,
}

/// A connection that may make requests.
struct Asking {
    source: Source,
    heeded: usize,
}

/// A connection that was requested.
struct Asked {
    source: Source,
    /// Whether it is being made, and counted.
    is_made: bool,
}

type Wish<B> = ToSwarm<<B as NetworkBehaviour>::ToSwarm, THandlerInEvent<B>>;

/// A protocol that dials at the request of others.
///
/// Requests are counted by where the requesting connection leads, because peer ids and the named addresses cost
/// nothing.
pub(crate) struct Bounded<B: NetworkBehaviour> {
    inner: B,
    allowance: Allowance,
    asking: HashMap<ConnectionId, Asking>,
    asked: HashMap<ConnectionId, Asked>,
    all: usize,
    sources: Tally<Source>,
    /// The protocol's actions that the swarm has not been told yet.
    wishes: VecDeque<Wish<B>>,
}

impl<B: NetworkBehaviour> Bounded<B> {
    pub(crate) fn new(inner: B, allowance: Allowance) -> Self {
        Self {
            inner,
            allowance,
            asking: HashMap::new(),
            asked: HashMap::new(),
            all: 0,
            sources: Tally::default(),
            wishes: VecDeque::new(),
        }
    }

    /// The source that makes a request, if its requests are still heeded.
    fn heed(&mut self, connection: ConnectionId) -> Option<Source> {
        let asking = self.asking.get_mut(&connection)?;
        asking.heeded = asking.heeded.saturating_add(1);
        (asking.heeded <= self.allowance.heeded).then_some(asking.source)
    }

    /// Collects the protocol's new actions, which it wants because of `source`.
    fn take_over(&mut self, source: Source) {
        // The swarm polls before it sleeps, so nobody needs to be woken.
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(wish) = self.inner.poll(&mut context) {
            if let ToSwarm::Dial { opts } = &wish {
                self.asked.insert(opts.connection_id(), Asked { source, is_made: false });
            }
            self.wishes.push_back(wish);
        }
    }

    /// Whether a connection may be made now; connections that nobody requested are not limited here.
    fn may_make(&mut self, connection: ConnectionId) -> bool {
        let Some(asked) = self.asked.get_mut(&connection) else { return true };
        let is_room =
            self.all < self.allowance.dials && self.sources.of(asked.source) < self.allowance.dials_of_one;
        if is_room {
            asked.is_made = true;
            self.all += 1;
            self.sources.change(asked.source, true);
        }
        is_room
    }

    /// A connection was made, or failed.
    fn forget(&mut self, connection: ConnectionId) {
        if let Some(Asked { source, is_made: true }) = self.asked.remove(&connection) {
            self.all = self.all.saturating_sub(1);
            self.sources.change(source, false);
        }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Bounded<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if !self.may_make(connection) {
            return Err(ConnectionDenied::new(TooMany));
        }
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
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
        match &event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { connection_id, endpoint, .. }) => {
                self.forget(*connection_id);
                let source = Source::of_connection(endpoint);
                self.asking.insert(*connection_id, Asking { source, heeded: 0 });
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.asking.remove(connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => self.forget(*connection_id),
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if let Some(source) = self.heed(connection) {
            self.inner.on_connection_handler_event(peer, connection, event);
            self.take_over(source);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.wishes.pop_front() {
            Some(wish) => Poll::Ready(wish),
            None => self.inner.poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, net::IpAddr};

    use libp2p::{
        core::ConnectedPoint,
        swarm::{
            DialError,
            dial_opts::{DialOpts, PeerCondition},
            dummy,
        },
    };

    use super::*;

    /// Dials whatever it is given.
    #[derive(Default)]
    struct Eager(VecDeque<DialOpts>);

    impl NetworkBehaviour for Eager {
        type ConnectionHandler = dummy::ConnectionHandler;
        type ToSwarm = Infallible;

        fn handle_established_inbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            Ok(dummy::ConnectionHandler)
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

        fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

        fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
            match event {}
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
            self.0.pop_front().map_or(Poll::Pending, |opts| Poll::Ready(ToSwarm::Dial { opts }))
        }
    }

    fn eager() -> Bounded<Eager> {
        Bounded::new(Eager::default(), Allowance { dials: 3, dials_of_one: 2, heeded: 5 })
    }

    fn source(last: u8) -> Source {
        Source::of(IpAddr::from([192, 0, 2, last]))
    }

    /// Someone at `source` requests a connection with itself; returns the connection if it is made.
    fn ask(bounded: &mut Bounded<Eager>, source: Source) -> Option<ConnectionId> {
        let opts = DialOpts::peer_id(PeerId::random()).condition(PeerCondition::Always).build();
        bounded.inner.0.push_back(opts);
        bounded.take_over(source);
        let polled = bounded.poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(ToSwarm::Dial { opts }) = polled else { panic!("nothing is dialled") };
        dial(bounded, opts.connection_id()).then(|| opts.connection_id())
    }

    fn dial(bounded: &mut Bounded<Eager>, connection: ConnectionId) -> bool {
        let peer = Some(PeerId::random());
        let told = bounded.handle_pending_outbound_connection(connection, peer, &[], Endpoint::Dialer);
        if told.is_err() {
            fail(bounded, connection);
        }
        told.is_ok()
    }

    fn fail(bounded: &mut Bounded<Eager>, connection_id: ConnectionId) {
        let error = &DialError::NoAddresses;
        let failure = DialFailure { peer_id: None, error, connection_id };
        bounded.on_swarm_event(FromSwarm::DialFailure(failure));
    }

    #[test]
    fn what_one_source_asks_for_leaves_room_for_others_and_for_our_own() {
        let mut bounded = eager();
        let first = ask(&mut bounded, source(1)).unwrap();
        assert!(ask(&mut bounded, source(1)).is_some());
        assert_eq!(ask(&mut bounded, source(1)), None);
        let other = ask(&mut bounded, source(2)).unwrap();
        assert_eq!(ask(&mut bounded, source(3)), None, "all together have no more than there are");
        assert!(dial(&mut bounded, ConnectionId::new_unchecked(usize::MAX)), "nobody asked for this one");
        fail(&mut bounded, first);
        fail(&mut bounded, first);
        assert!(ask(&mut bounded, source(1)).is_some(), "one that failed gives its place back");
        assert_eq!(ask(&mut bounded, source(1)), None);
        fail(&mut bounded, other);
        assert!(ask(&mut bounded, source(3)).is_some());
    }

    #[test]
    fn one_connection_is_heeded_so_many_times_and_forgotten_with_its_end() {
        let mut bounded = eager();
        let (connection_id, peer_id) = (ConnectionId::new_unchecked(1), PeerId::random());
        let endpoint = ConnectedPoint::Listener {
            local_addr: "/ip4/192.0.2.9/tcp/1".parse().unwrap(),
            send_back_addr: "/ip4/192.0.2.1/tcp/5".parse().unwrap(),
        };
        bounded.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id,
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
        let heeded = (0..9).filter_map(|_| bounded.heed(connection_id)).collect::<Vec<_>>();
        assert_eq!(heeded, [source(1); 5]);
        bounded.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id,
            connection_id,
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        }));
        assert!(bounded.asking.is_empty() && bounded.asked.is_empty());
    }
}
