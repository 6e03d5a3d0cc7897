//! Relays and ways around them: reservations, circuits, holes, and whose word counts for own addresses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    cell::RefCell,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Keeper, LARGEST, PATIENCE, config, host, named};
use einmal_p2p::{
    Bounds, BoxFuture, Host, HostConfig, Inbound, Multiaddr, P2pError, PeerId, RelayLimits, Route, Source,
    Status, is_relayed,
};

/// Answers all messages except the first few.
struct Picky {
    unanswered: AtomicUsize,
    seen: AtomicUsize,
}

impl Inbound for Picky {
    fn receive(&self, _: PeerId, _: Source, _: Vec<u8>) -> BoxFuture<Status> {
        self.seen.fetch_add(1, Ordering::SeqCst);
        let left =
            self.unanswered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        Box::pin(async move {
            if left.is_ok() {
                std::future::pending::<()>().await;
            }
            Status::Accepted
        })
    }
}

fn relay_config(seed: u8, limits: RelayLimits) -> HostConfig {
    HostConfig { relay_server: Some(limits), ..config(seed) }
}

/// A host that listens only through `relay`.
async fn hidden(seed: u8, relay: &Host, keeper: &Arc<Keeper>) -> Host {
    let relays = vec![relay.listen_addresses()[0].clone()];
    let config = HostConfig { listen: Vec::new(), relays, ..config(seed) };
    Host::start(config, Arc::clone(keeper) as _).await.unwrap()
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps log lines per thread; each test and its hosts have a thread of their own.
struct Log;

impl Log {
    /// Set for all threads, permanently: a subscriber for one thread misses lines that others have logged before.
    fn keep() {
        let _ = tracing::subscriber::set_global_default(Self);
    }

    fn has(text: &str) -> bool {
        LINES.with_borrow(|lines| lines.iter().any(|line| line.contains(text)))
    }
}

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        LINES.with_borrow_mut(|lines| lines.push(format!("{value:?}")));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.is_event() && about.target().starts_with("einmal")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Self);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn what_others_say_of_a_hosts_addresses_is_told_to_nobody() {
    // It sees where the host comes from, says so, and confirms it when asked.
    let server = host(relay_config(96, RelayLimits::default())).await;
    let announce: Vec<Multiaddr> = vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()];
    Log::keep();
    let announcing = host(HostConfig { announce, ..config(97) }).await;
    let mut endpoint = named(&server);
    endpoint.addresses.retain(|address| address.to_string().contains("tcp"));
    let begun = Instant::now();
    while !Log::has("a peer says that it reaches an address of ours") {
        assert!(begun.elapsed() < PATIENCE);
        announcing.send(&endpoint, b"packed".to_vec()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let told = announcing.listen_addresses();
    assert_eq!(told, [format!("/ip4/192.0.2.1/tcp/4001/p2p/{}", announcing.peer_id()).parse().unwrap()]);
}

#[tokio::test]
async fn a_host_that_listens_nowhere_is_reached_through_its_relay() {
    let relay = host(relay_config(21, RelayLimits::default())).await;
    let keeper = Keeper::new(Status::Accepted);
    let receiver = hidden(22, &relay, &keeper).await;
    let reserved = receiver.addresses_until(|addresses| addresses.iter().any(is_relayed));
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let endpoint = named(&receiver);
    assert!(endpoint.addresses.iter().all(is_relayed));
    let sender = host(HostConfig { listen: Vec::new(), ..config(23) }).await;
    let largest = vec![9; LARGEST];
    sender.send(&endpoint, largest.clone()).await.unwrap();
    assert_eq!(keeper.kept(), [largest]);
    // Anyone who comes through a relay has the relay as source, as far as can be told.
    assert_eq!(*keeper.sources.lock().unwrap(), [Source::behind(relay.peer_id())]);
}

#[tokio::test]
async fn a_relay_known_by_two_addresses_gives_one_reservation_that_stays() {
    let relay = host(relay_config(72, RelayLimits::default())).await;
    let relays = relay.listen_addresses();
    assert_eq!(relays.len(), 2);
    Log::keep();
    let config = HostConfig { listen: Vec::new(), relays, ..config(73) };
    let receiver = Host::start(config, Keeper::new(Status::Accepted)).await.unwrap();
    let reserved = receiver.addresses_until(|addresses| addresses.iter().any(is_relayed));
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let lost = receiver.addresses_until(|addresses| !addresses.iter().any(is_relayed));
    assert!(tokio::time::timeout(Duration::from_secs(10), lost).await.is_err());
    assert!(Log::has("a peer is connected") && !Log::has("a relay was lost"));
}

#[tokio::test]
async fn a_relay_whose_first_address_is_dead_is_reached_at_the_second() {
    let relay = host(relay_config(74, RelayLimits::default())).await;
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let dead = format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{}", relay.peer_id()).parse().unwrap();
    let relays = vec![dead, relay.listen_addresses()[0].clone()];
    let config = HostConfig { listen: Vec::new(), relays, ..config(75) };
    let receiver = Host::start(config, Keeper::new(Status::Accepted)).await.unwrap();
    let reserved = receiver.addresses_until(|addresses| addresses.iter().any(is_relayed));
    let time = Duration::from_secs(4);
    tokio::time::timeout(time, reserved).await.expect("it waited for the address that does not answer");
}

#[tokio::test]
async fn a_direct_address_is_tried_before_the_relay() {
    let relay = host(relay_config(24, RelayLimits::default())).await;
    let keeper = Keeper::new(Status::Accepted);
    let relays = vec![relay.listen_addresses()[0].clone()];
    let receiver = Host::start(HostConfig { relays, ..config(25) }, Arc::clone(&keeper) as _).await.unwrap();
    let reserved = receiver.addresses_until(|addresses| addresses.iter().any(is_relayed));
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let mut endpoint = named(&receiver);
    endpoint.addresses.reverse();
    let sender = host(config(26)).await;
    sender.send(&endpoint, b"packed".to_vec()).await.unwrap();
    assert_eq!(sender.route_to(receiver.peer_id()).await, Some(Route::Direct));
    assert_eq!(sender.route_to(relay.peer_id()).await, None);
}

#[tokio::test]
async fn what_is_under_way_through_a_relay_goes_once_more_when_a_direct_connection_takes_its_place() {
    let relay = host(relay_config(90, RelayLimits::default())).await;
    let picky = Arc::new(Picky { unanswered: AtomicUsize::new(1), seen: AtomicUsize::new(0) });
    let patient = Bounds { request: Duration::from_secs(25), ..Bounds::default() };
    let relays = vec![relay.listen_addresses()[0].clone()];
    let config_of = |seed| HostConfig { bounds: patient.clone(), ..config(seed) };
    let receiver = HostConfig { relays, ..config_of(91) };
    let receiver = Host::start(receiver, Arc::clone(&picky) as _).await.unwrap();
    let reserved = receiver.addresses_until(|addresses| addresses.iter().any(is_relayed));
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let sender = host(config_of(92)).await;
    // Both learn from the relay where they are seen, which is what hole punching needs.
    sender.send(&named(&relay), b"hello".to_vec()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut endpoint = named(&receiver);
    endpoint.addresses.retain(is_relayed);
    sender.send(&endpoint, b"packed".to_vec()).await.unwrap();
    // The first message was answered after all: the other connection took over.
    assert_eq!(picky.seen.load(Ordering::SeqCst), 2);
    assert_eq!(sender.route_to(receiver.peer_id()).await, Some(Route::Direct));
}

#[tokio::test]
async fn a_host_that_is_no_relay_gives_no_reservation() {
    let plain = host(config(27)).await;
    let receiver = hidden(28, &plain, &Keeper::new(Status::Accepted)).await;
    let reserved = receiver.addresses_until(|addresses| !addresses.is_empty());
    assert!(tokio::time::timeout(Duration::from_secs(3), reserved).await.is_err());
}

#[tokio::test]
async fn a_relay_gives_no_more_reservations_than_it_was_told() {
    let relay = host(relay_config(29, RelayLimits { reservations: 1, ..RelayLimits::default() })).await;
    let first = hidden(30, &relay, &Keeper::new(Status::Accepted)).await;
    let reserved = first.addresses_until(|addresses| !addresses.is_empty());
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let second = hidden(31, &relay, &Keeper::new(Status::Accepted)).await;
    let reserved = second.addresses_until(|addresses| !addresses.is_empty());
    assert!(tokio::time::timeout(Duration::from_secs(3), reserved).await.is_err());
}

#[tokio::test]
async fn a_relay_gives_one_address_its_part_of_the_reservations_and_those_that_end_come_free() {
    let relay = host(relay_config(64, RelayLimits { reservations: 16, ..RelayLimits::default() })).await;
    let keeper = Keeper::new(Status::Accepted);
    let mut held = Vec::new();
    for seed in [65, 66] {
        let one = hidden(seed, &relay, &keeper).await;
        let reserved = one.addresses_until(|addresses| !addresses.is_empty());
        tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
        held.push(one);
    }
    let third = hidden(67, &relay, &keeper).await;
    let reserved = third.addresses_until(|addresses| !addresses.is_empty());
    assert!(
        tokio::time::timeout(Duration::from_secs(3), reserved).await.is_err(),
        "all come from one address"
    );
    drop(held);
    let reserved = third.addresses_until(|addresses| !addresses.is_empty());
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation after others ended");
}

#[tokio::test]
async fn a_relay_without_its_name_and_a_bad_listening_address_are_refused_at_the_start() {
    let relays: Vec<Multiaddr> = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    let refused = Host::start(HostConfig { relays, ..config(32) }, Keeper::new(Status::Accepted)).await;
    assert!(matches!(refused, Err(P2pError::Relay { .. })));
    let listen: Vec<Multiaddr> = vec!["/dns4/nowhere.invalid/tcp/1".parse().unwrap()];
    let refused = Host::start(HostConfig { listen, ..config(33) }, Keeper::new(Status::Accepted)).await;
    assert!(matches!(refused, Err(P2pError::Listen { .. })));
}

#[tokio::test]
async fn an_address_in_use_is_refused_with_the_words_of_the_system_and_what_helps() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let quic = format!("/ip4/127.0.0.1/udp/{}/quic-v1", datagrams.local_addr().unwrap().port());
    for address in [tcp, quic] {
        let listen: Vec<Multiaddr> = vec![address.parse().unwrap()];
        let refused = Host::start(HostConfig { listen, ..config(34) }, Keeper::new(Status::Accepted)).await;
        let said = refused.err().unwrap().to_string();
        assert!(said.contains(&address) && said.contains("in use") && said.contains("stop what"), "{said}");
    }
}

#[tokio::test]
async fn addresses_that_only_swallow_packets_do_not_hold_up_the_relay() {
    let relay = host(relay_config(40, RelayLimits::default())).await;
    let keeper = Keeper::new(Status::Accepted);
    let receiver = hidden(41, &relay, &keeper).await;
    let reserved = receiver.addresses_until(|addresses| !addresses.is_empty());
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut endpoint = named(&receiver);
    let port = mute.local_addr().unwrap().port();
    endpoint
        .addresses
        .push(format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{}", receiver.peer_id()).parse().unwrap());
    let begun = Instant::now();
    host(config(42)).await.send(&endpoint, b"packed".to_vec()).await.unwrap();
    assert_eq!(keeper.kept().len(), 1);
    // Less than the time allowed for establishing one connection.
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
}
