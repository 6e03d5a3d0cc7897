//! Who is on this machine, as its DID says: a node that talks to nobody else may be opened for trials.

use std::{
    net::{IpAddr, UdpSocket},
    sync::Arc,
};

use einmal_did::{Did, DidDocument, Endpoint, LocalResolver, Resolver, web};
use einmal_p2p::{PeerEndpoint, direct_ip, is_served};

/// Whether a URL leads to the loopback interface.
pub(crate) fn is_on_loopback(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(v4)) => v4.is_loopback(),
        Some(url::Host::Ipv6(v6)) => v6.is_loopback(),
        None => false,
    })
}

/// Whether everything that `did` names as a way to its owner is on this machine. Nothing is fetched: a did:web is where its
/// document lies, and what cannot be resolved here is elsewhere.
pub(crate) fn is_on_this_machine(did: &Did) -> bool {
    if did.method() == "web" {
        return web::location(did).is_ok_and(|place| is_on_loopback(&format!("http://{}/", place.host)));
    }
    // A DID as endpoint names a mediator, whose own endpoint is no further DID.
    let is_near = |endpoint: &Endpoint| match Did::parse(&endpoint.uri) {
        Ok(mediator) => document(&mediator).is_some_and(|document| all_near(&document, leads_here)),
        Err(_) => leads_here(endpoint),
    };
    document(did).is_some_and(|document| all_near(&document, is_near))
}

fn document(did: &Did) -> Option<Arc<DidDocument>> {
    LocalResolver::new().resolve(did).ok()
}

/// Whether there are endpoints, and all of them are near.
fn all_near(document: &DidDocument, is_near: impl Fn(&Endpoint) -> bool) -> bool {
    let mut endpoints = document.didcomm_endpoints().peekable();
    endpoints.peek().is_some() && endpoints.all(is_near)
}

/// A libp2p host listens on all addresses of its machine and names them all, so those of this machine are as good as loopback.
fn leads_here(endpoint: &Endpoint) -> bool {
    if !is_served(&endpoint.uri) {
        return is_on_loopback(&endpoint.uri);
    }
    let peer = PeerEndpoint::parse(&endpoint.uri, &endpoint.multi_addrs);
    peer.is_ok_and(|peer| {
        let is_ours = |address| direct_ip(address).is_some_and(is_own_address);
        !peer.addresses.is_empty() && peer.addresses.iter().all(is_ours)
    })
}

/// Whether an address is one of this machine: the system binds sockets to no others.
fn is_own_address(ip: IpAddr) -> bool {
    ip.is_loopback() || (!ip.is_unspecified() && !ip.is_multicast() && UdpSocket::bind((ip, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use einmal_did::{Relationship, Service, peer};
    use einmal_keys::{KeyKind, SecretKey, SeededEntropy};

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn at(endpoints: Vec<Endpoint>) -> Did {
        let key = SecretKey::generate(KeyKind::X25519, &SeededEntropy::new(1)).unwrap().public_key();
        let services: Vec<_> =
            endpoints.into_iter().map(|endpoint| Service::didcomm("#service", vec![endpoint])).collect();
        peer::two::create(&[(Relationship::KeyAgreement, key)], &services).unwrap()
    }

    fn http(uri: &str) -> Endpoint {
        Endpoint::didcomm(uri)
    }

    fn libp2p(addresses: &[&str]) -> Endpoint {
        let multi_addrs = addresses.iter().map(|address| format!("{address}/p2p/{PEER}")).collect();
        Endpoint { multi_addrs, ..Endpoint::didcomm(format!("libp2p-peerId:{PEER}")) }
    }

    #[test]
    fn every_endpoint_has_to_be_on_this_machine() {
        let (near, far) = ("http://127.0.0.1:7000", "https://med.example");
        assert!(is_on_this_machine(&at(vec![http(near), http("ws://[::1]:7000")])));
        assert!(!is_on_this_machine(&at(vec![http(near), http(far)])));
        assert!(!is_on_this_machine(&at(vec![http(far)])));
        assert!(!is_on_this_machine(&at(vec![http("http://10.0.0.1:7000")])));
        assert!(!is_on_this_machine(&at(Vec::new())), "without an endpoint it may be anywhere");
    }

    #[test]
    fn a_mediator_that_is_named_as_endpoint_has_to_be_on_this_machine_too() {
        let behind = |mediator: Did| at(vec![http(mediator.as_str())]);
        assert!(is_on_this_machine(&behind(at(vec![http("http://localhost:7000")]))));
        assert!(!is_on_this_machine(&behind(at(vec![http("https://med.example")]))));
        assert!(!is_on_this_machine(&behind(at(Vec::new()))));
    }

    #[test]
    fn a_libp2p_host_is_here_if_all_its_addresses_are_this_machines() {
        let (near, far) = ("/ip4/127.0.0.1/tcp/4001", "/ip4/192.0.2.1/tcp/4001");
        assert!(is_on_this_machine(&at(vec![http("http://localhost:7000"), libp2p(&[near])])));
        assert!(!is_on_this_machine(&at(vec![http("http://localhost:7000"), libp2p(&[near, far])])));
        assert!(!is_on_this_machine(&at(vec![http("http://localhost:7000"), libp2p(&[])])));
        assert!(!is_on_this_machine(&at(vec![libp2p(&["/dns4/med.example/tcp/4001"])])));
    }

    #[test]
    fn a_did_web_is_where_its_document_lies() {
        let web = |host: &str| Did::parse(&format!("did:web:{host}")).unwrap();
        assert!(is_on_this_machine(&web("localhost%3A7000")));
        assert!(!is_on_this_machine(&web("host.example")));
        assert!(!is_on_this_machine(&web("10.0.0.1")));
    }
}
