//! Hosts that talk over real sockets: delivery, refusals, which addresses are dialled, and discovery.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Keeper, LARGEST, PATIENCE, config, host, named};
use einmal_p2p::{
    BoxFuture, Host, HostConfig, Inbound, Multiaddr, PeerEndpoint, PeerId, Permit, Route, SendError, Source,
    Status,
};
use socket2::{Domain, Socket, Type};

/// Fails permanently.
struct Broken;

impl Inbound for Broken {
    fn receive(&self, _: PeerId, _: Source, _: Vec<u8>) -> BoxFuture<Status> {
        panic!("as a protocol of the library might");
    }
}

#[tokio::test]
async fn a_message_arrives_over_tcp_and_over_quic() {
    for (seed, transport) in [(1, "tcp"), (2, "udp")] {
        let keeper = Keeper::new(Status::Accepted);
        let receiver = Host::start(config(seed), Arc::clone(&keeper) as _).await.unwrap();
        let sender = host(config(100 + seed)).await;
        let mut endpoint = named(&receiver);
        endpoint.addresses.retain(|address| address.to_string().contains(transport));
        assert_eq!(endpoint.addresses.len(), 1, "{transport}");
        sender.send(&endpoint, b"packed".to_vec()).await.unwrap();
        let largest = vec![7; LARGEST];
        sender.send(&endpoint, largest.clone()).await.unwrap();
        assert_eq!(keeper.kept(), [b"packed".to_vec(), largest]);
        assert_eq!(sender.route_to(receiver.peer_id()).await, Some(Route::Direct));
        let here = Source::of(Ipv4Addr::LOCALHOST.into());
        assert_eq!(*keeper.sources.lock().unwrap(), [here, here]);
    }
}

#[tokio::test]
async fn the_receivers_no_reaches_the_sender() {
    for (seed, status) in [(3, Status::Refused), (4, Status::Busy), (5, Status::TooLarge)] {
        let receiver = Host::start(config(seed), Keeper::new(status)).await.unwrap();
        let sender = host(config(100 + seed)).await;
        let told = sender.send(&named(&receiver), b"packed".to_vec()).await;
        assert_eq!(told, Err(SendError::Refused { status }));
    }
}

#[tokio::test]
async fn a_frame_too_large_is_refused_by_both_sides() {
    let keeper = Keeper::new(Status::Accepted);
    let receiver = Host::start(config(6), Arc::clone(&keeper) as _).await.unwrap();
    let honest = host(config(7)).await;
    let told = honest.send(&named(&receiver), vec![0; LARGEST + 1]).await;
    assert_eq!(told, Err(SendError::TooLarge));
    // A sender that ignores the limit.
    let rude = host(HostConfig { largest_envelope: 10 * LARGEST, ..config(8) }).await;
    for length in [LARGEST + 1, 10 * LARGEST] {
        let told = rude.send(&named(&receiver), vec![0; length]).await;
        assert_eq!(told, Err(SendError::Refused { status: Status::TooLarge }), "{length}");
    }
    assert!(keeper.kept().is_empty());
    rude.send(&named(&receiver), vec![0; LARGEST]).await.unwrap();
}

#[tokio::test]
async fn another_peer_at_the_address_gets_nothing() {
    let keeper = Keeper::new(Status::Accepted);
    let there = Host::start(config(9), Arc::clone(&keeper) as _).await.unwrap();
    let sender = host(config(10)).await;
    let wanted = host(config(11)).await;
    let plain: Vec<String> = there
        .listen_addresses()
        .iter()
        .map(|a| a.to_string().replace(&there.peer_id().to_string(), ""))
        .collect();
    let addresses = plain.iter().map(|text| format!("{text}{}", wanted.peer_id()).parse().unwrap()).collect();
    let told = sender.send(&PeerEndpoint { peer_id: wanted.peer_id(), addresses }, b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    assert!(keeper.kept().is_empty());
}

#[tokio::test]
async fn a_private_address_is_not_dialled_unless_permitted() {
    let receiver = host(config(12)).await;
    let endpoint = named(&receiver);
    let careful = host(HostConfig { permit: Permit::new(|ip| !ip.is_loopback()), ..config(13) }).await;
    assert_eq!(careful.send(&endpoint, b"packed".to_vec()).await, Err(SendError::Forbidden));
    let lenient = host(HostConfig { permit: Permit::new(|ip| ip.is_loopback()), ..config(14) }).await;
    lenient.send(&endpoint, b"packed".to_vec()).await.unwrap();
    // Nor is it announced to others.
    assert!(careful.listen_addresses().is_empty());
    assert_eq!(lenient.listen_addresses().len(), 2);
}

#[tokio::test]
async fn an_address_that_hides_another_one_is_not_dialled() {
    let keeper = Keeper::new(Status::Accepted);
    let receiver = Host::start(config(70), Arc::clone(&keeper) as _).await.unwrap();
    let careful = host(HostConfig { permit: Permit::new(|ip| !ip.is_loopback()), ..config(71) }).await;
    let mut endpoint = named(&receiver);
    endpoint.addresses.retain(|address| address.to_string().contains("tcp"));
    for front in ["/ip4/8.8.8.8", "/ip4/8.8.8.8/tcp/1"] {
        let text = format!("{front}{}", endpoint.addresses[0]);
        let hidden = PeerEndpoint::parse(&endpoint.uri(), &[text]).unwrap();
        assert_eq!(careful.send(&hidden, b"packed".to_vec()).await, Err(SendError::Forbidden), "{front}");
    }
    assert!(keeper.kept().is_empty());
}

#[tokio::test]
async fn nobody_sends_to_itself() {
    let alone = host(config(15)).await;
    assert_eq!(alone.send(&named(&alone), b"packed".to_vec()).await, Err(SendError::Forbidden));
}

#[tokio::test]
async fn an_address_by_name_is_used_and_one_that_names_nobody_holds_up_no_other() {
    let receiver = host(config(86)).await;
    let named_as = |name: &str| {
        let own = named(&receiver);
        let text = own.addresses[0].to_string().replace("/ip4/127.0.0.1", &format!("/dns4/{name}"));
        PeerEndpoint::parse(&own.uri(), &[text]).unwrap()
    };
    let sender = host(config(87)).await;
    let told = sender.send(&named_as("nowhere.invalid"), b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    let careful = host(HostConfig { permit: Permit::new(|ip| !ip.is_loopback()), ..config(88) }).await;
    assert_eq!(careful.send(&named_as("localhost"), b"packed".to_vec()).await, Err(SendError::Forbidden));
    sender.send(&named_as("localhost"), b"packed".to_vec()).await.unwrap();
    let mut both = named(&receiver);
    both.addresses.extend(named_as("nowhere.invalid").addresses);
    host(config(89)).await.send(&both, b"packed".to_vec()).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_host_by_itself_is_noticed() {
    let broken = Host::start(config(94), Arc::new(Broken)).await.unwrap();
    let ended = broken.ended();
    assert!(tokio::time::timeout(Duration::from_secs(1), broken.ended()).await.is_err());
    let told = host(config(95)).await.send(&named(&broken), b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    let told = broken.push(PeerId::random(), b"packed".to_vec()).await;
    assert_eq!(told, Err(SendError::Unreachable { reason: "this host is ending" }));
}

/// The address of this machine towards others, if it has one.
fn local_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("224.0.0.251:5353").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback()).then_some(ip)
}

fn is_private(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_private() || v4.is_link_local())
}

/// Whether a multicast message of this machine reaches a listener on it.
fn multicast_comes_back(ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip else { return false };
    let group = "224.0.0.250".parse().unwrap();
    let listener = UdpSocket::bind("0.0.0.0:0").unwrap();
    if listener.join_multicast_v4(&group, &ip).is_err() {
        return false;
    }
    listener.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let sender = UdpSocket::bind((ip, 0)).unwrap();
    let sent = sender.send_to(b"?", (group, listener.local_addr().unwrap().port()));
    sent.is_ok() && listener.recv_from(&mut [0; 8]).is_ok()
}

/// The number of multicast questions from this kind of host within `time`; other listeners may be there too.
async fn questions_heard(ip: Ipv4Addr, time: Duration) -> std::io::Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], 5353)).into())?;
    socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &ip)?;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UdpSocket::from_std(socket.into())?;
    let mut heard = 0;
    let mut buffer = [0; 2048];
    let end = tokio::time::Instant::now() + time;
    while let Ok(Ok((length, _))) = tokio::time::timeout_at(end, socket.recv_from(&mut buffer)).await {
        if buffer[..length].windows(4).any(|part| part == b"_p2p") {
            heard += 1;
        }
    }
    Ok(heard)
}

/// A host on the local network that knows nobody. It dials private addresses only if discovery found them.
async fn neighbour(seed: u8, ip: IpAddr, mdns: bool) -> Host {
    let listen: Vec<Multiaddr> = vec![format!("/ip4/{ip}/tcp/0").parse().unwrap()];
    host(HostConfig {
        listen,
        mdns,
        permit: Permit::new(move |other| other == ip && !is_private(ip)),
        ..config(seed)
    })
    .await
}

#[tokio::test]
async fn neighbours_find_each_other_unless_discovery_is_switched_off() {
    let Some(ip) = local_ip().filter(|ip| multicast_comes_back(*ip)) else {
        eprintln!("skipped: this machine has no address that multicast comes back to");
        return;
    };
    let IpAddr::V4(v4) = ip else { return };
    let quiet = neighbour(34, ip, false).await;
    assert_eq!(questions_heard(v4, Duration::from_secs(2)).await.unwrap(), 0);
    let (one, two) = (neighbour(35, ip, true).await, neighbour(36, ip, true).await);
    assert_ne!(questions_heard(v4, Duration::from_secs(2)).await.unwrap(), 0);
    // A peer that names only forbidden addresses may still be found, but not by a host without discovery.
    let absent = PeerId::random();
    let addresses = vec![format!("/ip4/127.0.0.1/tcp/1/p2p/{absent}").parse().unwrap()];
    let absent = PeerEndpoint { peer_id: absent, addresses };
    let told = one.send(&absent, b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    assert_eq!(quiet.send(&absent, b"packed".to_vec()).await, Err(SendError::Forbidden));
    let only_named = |host: &Host| PeerEndpoint { peer_id: host.peer_id(), addresses: Vec::new() };
    let deadline = Instant::now() + PATIENCE;
    while one.send(&only_named(&two), b"packed".to_vec()).await.is_err() {
        assert!(Instant::now() < deadline, "the neighbour was not found");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = quiet.send(&only_named(&two), b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    let told = one.send(&only_named(&quiet), b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
}

#[tokio::test]
async fn wrong_addresses_from_one_document_do_not_hold_up_the_right_ones_of_another() {
    let keeper = Keeper::new(Status::Accepted);
    let receiver = Host::start(config(43), Arc::clone(&keeper) as _).await.unwrap();
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let bait = format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{}", receiver.peer_id());
    let wrong = PeerEndpoint { peer_id: receiver.peer_id(), addresses: vec![bait.parse().unwrap()] };
    let sender = host(config(44)).await;
    let misled = tokio::spawn({
        let sender = sender.clone();
        async move { sender.send(&wrong, b"misled".to_vec()).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    sender.send(&named(&receiver), b"right".to_vec()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    misled.await.unwrap().unwrap();
    assert_eq!(keeper.kept().len(), 2);
}
