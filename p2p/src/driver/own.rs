//! Where this host and its neighbours are: discovery, own addresses.

use std::{collections::HashSet, net::IpAddr};

use libp2p::{Multiaddr, PeerId, mdns, multiaddr::Protocol};

use super::{Driver, MAX_NEARBY};
use crate::address::{MAX_ADDRESSES, direct_ip, is_relayed, reached_ip};

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
        let ips = self.nearby.values().flatten().filter_map(direct_ip).collect::<HashSet<_>>();
        self.permit.set_nearby(ips);
    }

    /// Remembers a neighbour. Beyond what may be dialled anyway, its word counts for local addresses only.
    fn note_nearby(&mut self, peer_id: PeerId, address: Multiaddr) {
        let full = self.nearby.len() >= MAX_NEARBY && !self.nearby.contains_key(&peer_id);
        let bearable = direct_ip(&address).is_some_and(|ip| is_local_network(ip) || self.permit.allows(ip));
        if full || !bearable {
            return;
        }
        let known = self.nearby.entry(peer_id).or_default();
        if known.len() < MAX_ADDRESSES && !known.contains(&address) {
            known.push(address);
        }
    }

    pub(super) fn may_be_told(&self, address: &Multiaddr) -> bool {
        reached_ip(address).is_some_and(|ip| !ip.is_unspecified() && self.permit.allows(ip))
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
}

/// Whether an address is one a local network gives.
fn is_local_network(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
