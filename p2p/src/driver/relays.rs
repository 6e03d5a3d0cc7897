//! Reservations at the relays this host wants to be reached through: one per relay, at whichever of its addresses
//! answers.

use std::time::Duration;

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, transport::ListenerId},
    multiaddr::Protocol,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use tokio::time::Instant;

use super::Driver;
use crate::{
    address::{is_relayed, relay_of},
    host::P2pError,
};

/// Pause before a relay is asked again, doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause before a relay is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A relay this host wants to be reached through.
///
/// It has one listener, however many of its addresses are known. A second reservation on the same connection would
/// replace the first, whose listener would close, be opened again, replace the second, and so on.
pub(super) struct Relay {
    peer_id: PeerId,
    /// As configured; names are resolved each time the relay is asked.
    addresses: Vec<Multiaddr>,
    listener: Option<ListenerId>,
    /// The address of this host that stands for the last requested reservation.
    asked: Option<Multiaddr>,
    /// The addresses being dialled for a reservation.
    wanted: Vec<Multiaddr>,
    due: Instant,
    pause: Duration,
}

impl Relay {
    /// The relays that `addresses` name.
    pub(super) fn all(addresses: &[Multiaddr]) -> Result<Vec<Self>, P2pError> {
        let mut relays: Vec<Self> = Vec::new();
        for address in addresses {
            let Some(Protocol::P2p(peer_id)) = address.iter().last().filter(|_| !is_relayed(address)) else {
                return Err(P2pError::Relay { address: address.clone() });
            };
            match relays.iter_mut().find(|relay| relay.peer_id == peer_id) {
                Some(relay) => relay.addresses.push(address.clone()),
                None => relays.push(Self {
                    peer_id,
                    addresses: vec![address.clone()],
                    listener: None,
                    asked: None,
                    wanted: Vec::new(),
                    due: Instant::now(),
                    pause: FIRST_PAUSE,
                }),
            }
        }
        Ok(relays)
    }
}

impl Driver {
    /// Asks those relays again that are due.
    pub(super) fn look_after_relays(&mut self, now: Instant) {
        let due = |(_, relay): &(usize, &mut Relay)| relay.listener.is_none() && relay.due <= now;
        for (index, relay) in self.relays.iter_mut().enumerate().filter(due) {
            relay.due = now + relay.pause;
            relay.pause = (relay.pause * 2).min(LONGEST_PAUSE);
            let (names, addresses) = (self.names.clone(), relay.addresses.clone());
            self.resolving.spawn(async move { (index, names.resolve_own(addresses).await) });
        }
    }

    /// Asks a relay for a reservation: over an existing connection, else over the first one made to `addresses`.
    pub(super) fn reserve(&mut self, index: usize, addresses: Vec<Multiaddr>) {
        let Some(relay) = self.relays.get_mut(index).filter(|relay| relay.listener.is_none()) else { return };
        relay.wanted = addresses.into_iter().filter(|address| self.permit.allows_address(address)).collect();
        let peer_id = relay.peer_id;
        let Some(first) = relay.wanted.first().cloned() else {
            tracing::warn!("a configured relay has no address that may be connected to");
            return;
        };
        if self.connections.values().any(|held| held.peer_id == peer_id && !held.relayed) {
            return self.listen_through(index, first);
        }
        let options = DialOpts::peer_id(peer_id).addresses(relay.wanted.clone());
        let options = options.condition(PeerCondition::NotDialing).build();
        // It may already be being dialled for another reason.
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(%error, "a relay is not dialled");
        }
    }

    /// Asks a relay once the awaited connection is there.
    pub(super) fn on_relay_connected(&mut self, peer_id: PeerId, endpoint: &ConnectedPoint) {
        let waited = |relay: &Relay| relay.peer_id == peer_id && !relay.wanted.is_empty();
        if endpoint.is_relayed() {
            return;
        }
        let Some((index, relay)) = self.relays.iter().enumerate().find(|(_, relay)| waited(relay)) else {
            return;
        };
        // The address that answered, unless the relay made the connection.
        let dialled = Some(endpoint.get_remote_address().clone()).filter(|_| endpoint.is_dialer());
        let Some(address) = dialled.or_else(|| relay.wanted.first().cloned()) else { return };
        self.listen_through(index, address);
    }

    fn listen_through(&mut self, index: usize, address: Multiaddr) {
        let Some(relay) = self.relays.get_mut(index).filter(|relay| relay.listener.is_none()) else { return };
        relay.wanted.clear();
        let address = match address.iter().last() {
            Some(Protocol::P2p(_)) => address,
            _ => address.with(Protocol::P2p(relay.peer_id)),
        };
        let address = address.with(Protocol::P2pCircuit);
        relay.asked = Some(address.clone().with(Protocol::P2p(*self.swarm.local_peer_id())));
        match self.swarm.listen_on(address) {
            Ok(listener) => relay.listener = Some(listener),
            Err(error) => tracing::warn!(%error, "a relay cannot be used"),
        }
    }

    /// Whether an address leads through one of this host's chosen relays.
    pub(super) fn is_at_relay(&self, address: &Multiaddr) -> bool {
        relay_of(address).is_some_and(|relay| self.relays.iter().any(|known| known.peer_id == relay))
    }

    /// Whether an address is exactly the one requested from a relay.
    pub(super) fn is_reserved(&self, address: &Multiaddr) -> bool {
        self.relays.iter().any(|relay| relay.asked.as_ref() == Some(address))
    }

    /// A relay has agreed: if it is lost, it is asked again after the shortest pause.
    pub(super) fn on_reservation(&mut self, relay: PeerId) {
        let agreed = self.relays.iter_mut().filter(|known| known.peer_id == relay);
        agreed.for_each(|known| known.pause = FIRST_PAUSE);
    }

    pub(super) fn on_listener_closed(&mut self, listener: ListenerId) {
        for relay in self.relays.iter_mut().filter(|relay| relay.listener == Some(listener)) {
            tracing::info!("a relay was lost; it is asked again");
            relay.listener = None;
            relay.due = Instant::now() + relay.pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_relay_are_one_relay() {
        let (one, other) = (PeerId::random(), PeerId::random());
        let address = |text: String| text.parse::<Multiaddr>().unwrap();
        let quic = address(format!("/ip4/192.0.2.1/udp/1/quic-v1/p2p/{one}"));
        let tcp = address(format!("/ip4/192.0.2.1/tcp/1/p2p/{one}"));
        let elsewhere = address(format!("/ip4/192.0.2.1/tcp/2/p2p/{other}"));
        let relays = Relay::all(&[quic.clone(), elsewhere.clone(), tcp.clone()]).unwrap();
        let found: Vec<_> = relays.iter().map(|relay| (relay.peer_id, relay.addresses.clone())).collect();
        assert_eq!(found, [(one, vec![quic, tcp]), (other, vec![elsewhere.clone()])]);
        for nameless in ["/ip4/192.0.2.1/tcp/1".to_owned(), format!("{elsewhere}/p2p-circuit/p2p/{one}")] {
            let refused = Relay::all(&[address(nameless)]);
            assert!(matches!(refused, Err(P2pError::Relay { .. })));
        }
    }
}
