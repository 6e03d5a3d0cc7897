//! The addresses of this host and its neighbours: discovery and own addresses.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use libp2p::{Multiaddr, PeerId, mdns, multiaddr::Protocol};

use super::{Driver, MAX_NEARBY};
use crate::{
    address::{MAX_ADDRESSES, direct_ip, is_relayed, reached_ip},
    guard::Permit,
};

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

    /// Begins discovery anew if more was found than a local network holds.
    pub(super) fn look_after_discovery(&mut self) {
        let id = *self.swarm.local_peer_id();
        let listened: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        if self.swarm.behaviour_mut().discovers_anew(id, &listened) {
            tracing::warn!("the local network is flooded with peers: neighbours are looked for anew");
            self.nearby.clear();
            self.permit.set_nearby(HashSet::new());
        }
    }

    /// Remembers a neighbour. Apart from addresses that may be dialled anyway, only local ones are believed.
    fn note_nearby(&mut self, peer_id: PeerId, address: Multiaddr) {
        let bearable = direct_ip(&address).is_some_and(|ip| is_local_network(ip) || self.permit.allows(ip));
        if !bearable || !self.has_room_nearby(peer_id) {
            return;
        }
        let known = self.nearby.entry(peer_id).or_default();
        if known.len() < MAX_ADDRESSES && !known.contains(&address) {
            known.push(address);
        }
    }

    /// Whether there is room for one more neighbour; another may be forgotten for it.
    fn has_room_nearby(&mut self, peer_id: PeerId) -> bool {
        if self.nearby.len() < MAX_NEARBY || self.nearby.contains_key(&peer_id) {
            return true;
        }
        let victim = most_crowded(&self.nearby, |peer| self.swarm.is_connected(peer));
        victim.is_some_and(|victim| self.nearby.remove(&victim).is_some())
    }

    pub(super) fn may_be_told(&self, address: &Multiaddr) -> bool {
        may_be_told(address, &self.permit)
    }

    /// Determines where others reach this host: what the owner announces or else what it listens on, plus its
    /// reservations at its chosen relays. Other hosts' claims are left out, because documents are made from this.
    pub(super) fn tell_addresses(&mut self) {
        let own = *self.swarm.local_peer_id();
        let is_ours = |address: &Multiaddr| match is_relayed(address) {
            true => self.is_at_relay(address),
            false => self.announce.is_empty(),
        };
        let listened = self.swarm.listeners().filter(|address| is_ours(address));
        let reserved = self.swarm.external_addresses().filter(|address| self.is_reserved(address));
        let all: HashSet<Multiaddr> = listened
            .chain(reserved)
            .filter(|address| self.may_be_told(address))
            .chain(&self.announce)
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

/// Whether an address may stand in documents: the owner's rule says so, and no neighbour's word. A host on the local network that
/// names our private address as its own would have it told to everybody.
fn may_be_told(address: &Multiaddr, permit: &Permit) -> bool {
    reached_ip(address).is_some_and(|ip| !ip.is_unspecified() && permit.rules(ip))
}

/// So many neighbours may be at one address without being made up.
const CROWD: usize = 4;

/// Picks a neighbour at the address with the most neighbours, among those that need not be kept: whoever makes up
/// neighbours displaces their own first.
fn most_crowded(
    nearby: &HashMap<PeerId, Vec<Multiaddr>>,
    is_kept: impl Fn(&PeerId) -> bool,
) -> Option<PeerId> {
    let place = |known: &[Multiaddr]| known.first().and_then(direct_ip);
    let mut crowds: HashMap<Option<IpAddr>, usize> = HashMap::new();
    nearby.values().for_each(|known| *crowds.entry(place(known)).or_default() += 1);
    let crowd = |known: &[Multiaddr]| crowds.get(&place(known)).copied();
    let others = nearby.iter().filter(|(peer, _)| !is_kept(peer));
    // A lone neighbour is no crowd: discovery names each one only once, so forgetting it would be permanent.
    let crowded = others.filter(|(_, known)| crowd(known).is_some_and(|crowd| crowd > CROWD));
    crowded.max_by_key(|(_, known)| crowd(known)).map(|(peer, _)| *peer)
}

/// Whether an address is typical of a local network.
fn is_local_network(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_that_names_our_private_address_brings_it_into_no_document() {
        let permit = Permit::new(|ip| ip == IpAddr::from([192, 0, 2, 1]));
        let ours: Multiaddr = "/ip4/10.0.0.7/tcp/4001".parse().unwrap();
        permit.set_nearby(HashSet::from([[10, 0, 0, 7].into()]));
        assert!(permit.allows_address(&ours), "it may be dialled");
        assert!(!may_be_told(&ours, &permit));
        assert!(may_be_told(&"/ip4/192.0.2.1/tcp/4001".parse().unwrap(), &permit));
    }

    #[test]
    fn neighbours_made_up_at_one_address_displace_each_other() {
        let at = |text: &str| vec![text.parse::<Multiaddr>().unwrap()];
        let honest = PeerId::random();
        let mut nearby = HashMap::from([(honest, at("/ip4/10.0.0.2/tcp/1"))]);
        let made_up = (0..CROWD + 2).map(|port| (PeerId::random(), at(&format!("/ip4/10.0.0.9/tcp/{port}"))));
        nearby.extend(made_up);
        let kept = PeerId::random();
        nearby.insert(kept, at("/ip4/10.0.0.9/tcp/9999"));
        for _ in 0..3 {
            let victim = most_crowded(&nearby, |peer| *peer == kept).unwrap();
            assert!(victim != honest && victim != kept);
            nearby.remove(&victim);
        }
        assert_eq!(most_crowded(&nearby, |peer| *peer == kept), None, "what is left is no crowd");
        assert_eq!(most_crowded(&nearby, |_| true), None);
    }
}
