//! Where this host and its neighbours are: discovery, own addresses, reservations at relays.

use std::{collections::HashSet, net::IpAddr};

use libp2p::{
    Multiaddr, PeerId, core::transport::ListenerId, mdns, multiaddr::Protocol, swarm::ConnectionId,
};
use tokio::time::Instant;

use super::{Driver, LONGEST_RELAY_PAUSE, MAX_NEARBY};
use crate::address::{MAX_ADDRESSES, first_ip, is_relayed, resolved};

impl Driver {
    pub(super) fn on_discovery(&mut self, event: mdns::Event) {
        match event {
            mdns::Event::Discovered(found) => {
                for (peer_id, address) in found {
                    self.note_nearby(peer_id, address);
                }
            }
            mdns::Event::Expired(gone) => {
                for (peer_id, address) in gone {
                    if let Some(known) = self.nearby.get_mut(&peer_id) {
                        known.retain(|one| *one != address);
                    }
                }
                self.nearby.retain(|_, known| !known.is_empty());
            }
        }
        let ips = self.nearby.values().flatten().filter_map(first_ip).collect::<HashSet<_>>();
        self.permit.set_nearby(ips);
    }

    /// Remembers a neighbour. Beyond what may be dialled anyway, its word counts for local addresses only.
    fn note_nearby(&mut self, peer_id: PeerId, address: Multiaddr) {
        let full = self.nearby.len() >= MAX_NEARBY && !self.nearby.contains_key(&peer_id);
        let bearable = first_ip(&address).is_some_and(|ip| is_local_network(ip) || self.permit.allows(ip));
        if full || is_relayed(&address) || !bearable {
            return;
        }
        let known = self.nearby.entry(peer_id).or_default();
        if known.len() < MAX_ADDRESSES && !known.contains(&address) {
            known.push(address);
        }
    }

    pub(super) fn may_be_told(&self, address: &Multiaddr) -> bool {
        first_ip(address).is_some_and(|ip| !ip.is_unspecified() && self.permit.allows(ip))
    }

    /// Works out where others reach this host.
    pub(super) fn tell_addresses(&mut self) {
        let own = *self.swarm.local_peer_id();
        let listened =
            self.swarm.listeners().filter(|address| is_relayed(address) || self.announce.is_empty());
        let all: HashSet<Multiaddr> = listened
            .chain(self.swarm.external_addresses())
            .filter(|address| self.announce.contains(address) || self.may_be_told(address))
            .map(|address| match address.iter().last() {
                Some(Protocol::P2p(last)) if last == own => address.clone(),
                _ => address.clone().with(Protocol::P2p(own)),
            })
            .collect();
        let mut all: Vec<Multiaddr> = all.into_iter().collect();
        all.sort_by_key(|address| (is_relayed(address), address.to_string()));
        all.truncate(MAX_ADDRESSES);
        self.told.send_if_modified(|told| {
            let changed = *told != all;
            *told = all;
            changed
        });
    }

    pub(super) fn on_tick(&mut self) {
        let now = Instant::now();
        self.look_after_dialing(now);
        // One connection serves all reservations at one relay: the second address waits until the first has one.
        let mut asked: HashSet<PeerId> = self
            .relays
            .iter()
            .filter(|relay| relay.listener.is_some() && !self.swarm.is_connected(&relay.peer_id))
            .map(|relay| relay.peer_id)
            .collect();
        for (index, relay) in self.relays.iter_mut().enumerate() {
            if relay.listener.is_none()
                && relay.due <= now
                && (self.swarm.is_connected(&relay.peer_id) || asked.insert(relay.peer_id))
            {
                relay.due = now + relay.pause;
                relay.pause = (relay.pause * 2).min(LONGEST_RELAY_PAUSE);
                let address = relay.address.clone();
                self.resolving.spawn(async move { (index, resolved(&address).await.into_iter().next()) });
            }
        }
        let due: Vec<ConnectionId> =
            self.closing.extract_if(.., |(end, _)| *end <= now).map(|(_, connection)| connection).collect();
        for connection in due {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn reserve(&mut self, index: usize, address: Option<Multiaddr>) {
        let Some(relay) = self.relays.get_mut(index).filter(|relay| relay.listener.is_none()) else { return };
        let Some(address) = address.filter(|address| self.permit.allows_address(address)) else {
            tracing::warn!("a configured relay has no address that may be connected to");
            return;
        };
        match self.swarm.listen_on(address.with(Protocol::P2pCircuit)) {
            Ok(listener) => relay.listener = Some(listener),
            Err(error) => tracing::warn!(%error, "a relay cannot be used"),
        }
    }

    pub(super) fn on_listener_closed(&mut self, listener: ListenerId) {
        for relay in &mut self.relays {
            if relay.listener == Some(listener) {
                tracing::info!("a relay was lost; it is asked again");
                relay.listener = None;
                relay.due = Instant::now() + relay.pause;
            }
        }
    }
}

/// Whether an address is one a local network gives.
fn is_local_network(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
