//! Takes other hosts' claims about our reachability as a hint: AutoNAT asks and answers, but decides nothing.
//!
//! Any connected peer may claim to see us at an address and then confirm it. Such an address is not added to the
//! swarm's own ones, so that nobody can write into our documents, and only a limited number are tried at all.

use std::{
    collections::HashSet,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    autonat::v2::client::{self, Event},
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

/// Most claimed addresses that are tried, because the client forgets none.
const MAX_CANDIDATES: usize = 64;

/// AutoNAT's client; its results only go into the log.
#[derive(Default)]
pub(crate) struct Hint {
    client: client::Behaviour,
    tried: HashSet<Multiaddr>,
}

impl Hint {
    /// Whether an address is passed on to the client.
    fn is_tried(&mut self, address: &Multiaddr) -> bool {
        if self.tried.len() < MAX_CANDIDATES {
            self.tried.insert(address.clone());
        }
        self.tried.contains(address)
    }
}

impl NetworkBehaviour for Hint {
    type ConnectionHandler = <client::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::NewExternalAddrCandidate(candidate) = &event
            && !self.is_tried(candidate.addr)
        {
            return;
        }
        self.client.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.client.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.client.poll(context) {
                Poll::Ready(ToSwarm::ExternalAddrConfirmed(_)) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::NewExternalAddrCandidate;

    use super::*;

    #[test]
    fn only_so_many_addresses_are_tried_on_the_word_of_others() {
        let mut hint = Hint::default();
        let address = |port: u16| format!("/ip4/192.0.2.1/tcp/{port}").parse::<Multiaddr>().unwrap();
        for port in 0..1000 {
            let addr = &address(port);
            hint.on_swarm_event(FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }));
        }
        assert_eq!(hint.tried.len(), MAX_CANDIDATES);
        assert!(hint.is_tried(&address(0)), "one that is known may come again");
        assert!(!hint.is_tried(&address(1000)));
    }
}
