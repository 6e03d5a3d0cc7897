//! Hosts that talk over real sockets of the loopback interface: delivery, refusals, bounds, relays, discovery, holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use einmal_p2p::{
    Bounds, BoxFuture, Held, HoldError, Host, HostConfig, Inbound, Multiaddr, P2pError, PeerEndpoint, PeerId,
    Permit, RelayLimits, Route, SendError, Source, Status, is_relayed,
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};
use zeroize::Zeroizing;

/// Largest message in these tests, in bytes.
const LARGEST: usize = 64 * 1024;
/// Longest a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps what arrives and answers with one status.
struct Keeper {
    kept: Mutex<Vec<Vec<u8>>>,
    from: Mutex<Vec<PeerId>>,
    sources: Mutex<Vec<Source>>,
    answer: Status,
}

impl Keeper {
    fn new(answer: Status) -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), from: Mutex::default(), sources: Mutex::default(), answer })
    }

    fn kept(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap().clone()
    }
}

impl Inbound for Keeper {
    fn receive(&self, from: PeerId, source: Source, envelope: Vec<u8>) -> BoxFuture<Status> {
        self.from.lock().unwrap().push(from);
        self.sources.lock().unwrap().push(source);
        self.kept.lock().unwrap().push(envelope);
        let answer = self.answer;
        Box::pin(async move { answer })
    }
}

/// Answers when it is told to.
#[derive(Default)]
struct Slow {
    begun: Notify,
    go: Arc<Notify>,
}

impl Inbound for Slow {
    fn receive(&self, _: PeerId, _: Source, _: Vec<u8>) -> BoxFuture<Status> {
        self.begun.notify_one();
        let go = Arc::clone(&self.go);
        Box::pin(async move {
            go.notified().await;
            Status::Accepted
        })
    }
}

/// Answers all but the first so many messages.
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

/// Fails beyond repair.
struct Broken;

impl Inbound for Broken {
    fn receive(&self, _: PeerId, _: Source, _: Vec<u8>) -> BoxFuture<Status> {
        panic!("as a protocol of the library might");
    }
}

fn config(seed: u8) -> HostConfig {
    HostConfig {
        keypair_secret: Zeroizing::new([seed; 32]),
        listen: vec![
            "/ip4/127.0.0.1/tcp/0".parse().unwrap(),
            "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap(),
        ],
        announce: Vec::new(),
        mdns: false,
        relay_server: None,
        relays: Vec::new(),
        permit: Permit::new(|_| true),
        largest_envelope: LARGEST,
        bounds: Bounds { request: Duration::from_secs(5), ..Bounds::default() },
    }
}

async fn host(config: HostConfig) -> Host {
    Host::start(config, Keeper::new(Status::Accepted)).await.unwrap()
}

/// The endpoint as a DID document would carry it: through text.
fn named(host: &Host) -> PeerEndpoint {
    let endpoint = host.endpoint();
    let texts: Vec<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
    PeerEndpoint::parse(&endpoint.uri(), &texts).unwrap()
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
    // A sender that does not care.
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
    // Nor is it told to others.
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
async fn what_others_say_of_a_hosts_addresses_is_told_to_nobody() {
    // It sees where the host comes from, says so, and confirms it when it is asked.
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
async fn nobody_sends_to_itself() {
    let alone = host(config(15)).await;
    assert_eq!(alone.send(&named(&alone), b"packed".to_vec()).await, Err(SendError::Forbidden));
}

#[tokio::test]
async fn more_messages_than_are_taken_in_at_once_are_told_to_come_again() {
    let slow = Arc::new(Slow::default());
    let bounds = Bounds { handling: 1, ..config(16).bounds };
    let receiver = Host::start(HostConfig { bounds, ..config(16) }, Arc::clone(&slow) as _).await.unwrap();
    let sender = host(config(17)).await;
    let endpoint = named(&receiver);
    let first = tokio::spawn({
        let (sender, endpoint) = (sender.clone(), endpoint.clone());
        async move { sender.send(&endpoint, b"one".to_vec()).await }
    });
    tokio::time::timeout(PATIENCE, slow.begun.notified()).await.unwrap();
    let second = sender.send(&endpoint, b"two".to_vec()).await;
    assert_eq!(second, Err(SendError::Refused { status: Status::Busy }));
    slow.go.notify_one();
    assert_eq!(first.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn many_messages_to_one_peer_go_some_at_a_time_and_all_arrive() {
    for (seed, transport) in [(80, "tcp"), (82, "udp")] {
        let slow = Arc::new(Slow::default());
        let receiver = Host::start(config(seed), Arc::clone(&slow) as _).await.unwrap();
        let sender = host(config(seed + 1)).await;
        let mut endpoint = named(&receiver);
        endpoint.addresses.retain(|address| address.to_string().contains(transport));
        let mut sent = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (sender, endpoint) = (sender.clone(), endpoint.clone());
            sent.spawn(async move { sender.send(&endpoint, b"packed".to_vec()).await });
        }
        // The receiver has places for as many from one source: none is told to come again.
        while sent.len() > 0 {
            tokio::select! {
                Some(done) = sent.join_next() => assert_eq!(done.unwrap(), Ok(())),
                () = tokio::time::sleep(Duration::from_millis(20)) => slow.go.notify_waiters(),
            }
        }
    }
}

#[tokio::test]
async fn who_gets_no_turn_is_told_so_soon() {
    let bounds = Bounds { sending: 1, ..config(84).bounds };
    let slow = Arc::new(Slow::default());
    let receiver = Host::start(config(85), Arc::clone(&slow) as _).await.unwrap();
    let sender = host(HostConfig { bounds, ..config(84) }).await;
    let endpoint = named(&receiver);
    let first = tokio::spawn({
        let (sender, endpoint) = (sender.clone(), endpoint.clone());
        async move { sender.send(&endpoint, b"one".to_vec()).await }
    });
    tokio::time::timeout(PATIENCE, slow.begun.notified()).await.unwrap();
    let begun = Instant::now();
    let second = sender.send(&endpoint, b"two".to_vec()).await;
    assert_eq!(second, Err(SendError::Unreachable { reason: "too much is being sent" }));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    slow.go.notify_one();
    assert_eq!(first.await.unwrap(), Ok(()));
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

#[tokio::test]
async fn a_receiver_that_does_not_answer_is_given_up_in_time() {
    let bounds = Bounds { request: Duration::from_secs(1), ..Bounds::default() };
    let receiver = Host::start(config(18), Arc::new(Slow::default())).await.unwrap();
    let sender = host(HostConfig { bounds, ..config(19) }).await;
    let begun = Instant::now();
    let told = sender.send(&named(&receiver), b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn more_connections_than_allowed_are_turned_away() {
    let bounds = Bounds { connections: 4, ..config(20).bounds };
    let receiver = host(HostConfig { bounds, ..config(20) }).await;
    let endpoint = named(&receiver);
    let mut senders = Vec::new();
    for seed in 0..3 {
        let sender = host(config(200 + seed)).await;
        sender.send(&endpoint, b"packed".to_vec()).await.unwrap();
        senders.push(sender);
    }
    let told = host(config(210)).await.send(&endpoint, b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    drop(senders);
}

#[tokio::test]
async fn more_connections_from_one_address_than_allowed_are_turned_away_whatever_their_peer_ids() {
    let bounds = Bounds { connections_per_source: 2, ..config(23).bounds };
    let receiver = host(HostConfig { bounds, ..config(23) }).await;
    let endpoint = named(&receiver);
    let (first, second) = (host(config(211)).await, host(config(212)).await);
    first.send(&endpoint, b"packed".to_vec()).await.unwrap();
    second.send(&endpoint, b"packed".to_vec()).await.unwrap();
    let third = host(config(213)).await;
    let told = third.send(&endpoint, b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    drop(first);
    // The receiver learns of the end a moment later.
    let begun = Instant::now();
    while third.send(&endpoint, b"packed".to_vec()).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "a connection that ended gives its place back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(second);
}

#[tokio::test]
async fn sockets_that_say_nothing_keep_their_own_source_out_and_for_a_while_only() {
    let bounds = Bounds { pending_per_source: 4, connect: Duration::from_secs(2), ..config(77).bounds };
    let receiver = host(HostConfig { bounds, ..config(77) }).await;
    let mut endpoint = named(&receiver);
    endpoint.addresses.retain(|address| address.to_string().contains("tcp"));
    let port = endpoint.addresses[0].to_string().split('/').nth(4).unwrap().parse::<u16>().unwrap();
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sender = host(config(78)).await;
    let told = sender.send(&endpoint, b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    // The same machine by another address is another source, and is answered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    if socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).is_ok() {
        let mut other = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        other.write_all(b"\x13/multistream/1.0.0\n").await.unwrap();
        let mut hello = [0; 20];
        tokio::time::timeout(PATIENCE, other.read_exact(&mut hello)).await.unwrap().unwrap();
        assert_eq!(&hello, b"\x13/multistream/1.0.0\n");
    }
    let begun = Instant::now();
    while sender.send(&endpoint, b"packed".to_vec()).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "who does not shake hands in time loses its place");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn relay_config(seed: u8, limits: RelayLimits) -> HostConfig {
    HostConfig { relay_server: Some(limits), ..config(seed) }
}

/// A host that listens nowhere but through `relay`.
async fn hidden(seed: u8, relay: &Host, keeper: &Arc<Keeper>) -> Host {
    let relays = vec![relay.listen_addresses()[0].clone()];
    let config = HostConfig { listen: Vec::new(), relays, ..config(seed) };
    Host::start(config, Arc::clone(keeper) as _).await.unwrap()
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
    // Whoever comes through a relay comes from there, as far as anybody can tell.
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

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what is logged: each test and its hosts have a thread of their own.
struct Log;

impl Log {
    /// For all threads and for good: a subscriber of one thread misses lines that others have logged before.
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
    // Both hear from the relay where they are seen, which is what a hole is punched with.
    sender.send(&named(&relay), b"hello".to_vec()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut endpoint = named(&receiver);
    endpoint.addresses.retain(is_relayed);
    sender.send(&endpoint, b"packed".to_vec()).await.unwrap();
    // The first was answered after all: the other connection took its place.
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
async fn a_relay_without_its_name_and_a_bad_listening_address_are_refused_at_the_start() {
    let relays: Vec<Multiaddr> = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    let refused = Host::start(HostConfig { relays, ..config(32) }, Keeper::new(Status::Accepted)).await;
    assert!(matches!(refused, Err(P2pError::Relay { .. })));
    let listen: Vec<Multiaddr> = vec!["/dns4/nowhere.invalid/tcp/1".parse().unwrap()];
    let refused = Host::start(HostConfig { listen, ..config(33) }, Keeper::new(Status::Accepted)).await;
    assert!(matches!(refused, Err(P2pError::Listen { .. })));
}

/// The address this machine has towards others, if it has one.
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

/// How many multicast questions of this kind of host are heard within `time`; listens beside whoever else does.
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

/// A host on the local network that knows nobody. Addresses of private ranges it dials only if discovery found them.
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
    // Who names only addresses that must not be dialled may yet be found, but not where nobody looks.
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
    // Less than the time one connection may take to be established.
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
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

/// Time after which a connection nobody uses is closed in the tests below.
const IDLE: Duration = Duration::from_secs(1);

/// Two hosts with a connection that the second has made; nobody uses it any more.
async fn connected(seed: u8, keeper: &Arc<Keeper>) -> (Host, Host) {
    let bounds = Bounds { idle: IDLE, holds: 2, ..config(seed).bounds };
    let listener = host(HostConfig { bounds: bounds.clone(), ..config(seed) }).await;
    let dialer = HostConfig { bounds, listen: Vec::new(), ..config(seed + 1) };
    let dialer = Host::start(dialer, Arc::clone(keeper) as _).await.unwrap();
    dialer.send(&named(&listener), b"hello".to_vec()).await.unwrap();
    (listener, dialer)
}

async fn ends(held: &mut Held) {
    tokio::time::timeout(PATIENCE, held.ended()).await.expect("the connection did not end");
}

#[tokio::test]
async fn a_held_connection_outlives_the_idle_time_and_a_released_one_is_closed() {
    let (listener, dialer) = connected(50, &Keeper::new(Status::Accepted)).await;
    let here = listener.hold(dialer.peer_id()).unwrap();
    let mut there = dialer.hold(listener.peer_id()).unwrap();
    assert!(tokio::time::timeout(4 * IDLE, there.ended()).await.is_err(), "closed although it was held");
    let released = Instant::now();
    drop(here);
    ends(&mut there).await;
    // Not only when a ping passes by.
    assert!(released.elapsed() < 5 * IDLE, "{:?}", released.elapsed());
    assert_eq!(dialer.route_to(listener.peer_id()).await, None);
}

#[tokio::test]
async fn a_connection_that_only_one_side_holds_is_closed_by_the_other() {
    let (listener, dialer) = connected(52, &Keeper::new(Status::Accepted)).await;
    ends(&mut listener.hold(dialer.peer_id()).unwrap()).await;
}

#[tokio::test]
async fn what_is_pushed_goes_back_on_the_connection_and_says_from_whom() {
    let keeper = Keeper::new(Status::Accepted);
    let (listener, dialer) = connected(54, &keeper).await;
    listener.push(dialer.peer_id(), b"back".to_vec()).await.unwrap();
    assert_eq!(keeper.kept(), [b"back".to_vec()]);
    assert_eq!(*keeper.from.lock().unwrap(), [listener.peer_id()]);
    assert_eq!(listener.push(dialer.peer_id(), vec![0; LARGEST + 1]).await, Err(SendError::TooLarge));
    let unwilling = Keeper::new(Status::Refused);
    let (listener, dialer) = connected(56, &unwilling).await;
    let told = listener.push(dialer.peer_id(), b"back".to_vec()).await;
    assert_eq!(told, Err(SendError::Refused { status: Status::Refused }));
}

#[tokio::test]
async fn nobody_is_dialled_for_what_is_pushed() {
    let keeper = Keeper::new(Status::Accepted);
    let receiver = Host::start(config(58), Arc::clone(&keeper) as _).await.unwrap();
    let sender = host(config(59)).await;
    // It knows where the receiver is, but the connection is gone.
    sender.send(&named(&receiver), b"hello".to_vec()).await.unwrap();
    let mut held = receiver.hold(sender.peer_id()).unwrap();
    sender.hold(receiver.peer_id()).unwrap().hang_up();
    ends(&mut held).await;
    let refused = Err(SendError::Unreachable { reason: "it is not connected" });
    assert_eq!(sender.push(receiver.peer_id(), b"packed".to_vec()).await, refused);
    assert_eq!(sender.push(PeerId::random(), b"packed".to_vec()).await, refused);
    assert_eq!(sender.route_to(receiver.peer_id()).await, None);
    assert_eq!(keeper.kept(), [b"hello".to_vec()]);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_what_is_pushed_is_given_up_in_time() {
    let bounds = Bounds { request: Duration::from_secs(1), ..Bounds::default() };
    let listener = host(HostConfig { bounds, ..config(60) }).await;
    let dialer = Host::start(config(61), Arc::new(Slow::default())).await.unwrap();
    dialer.send(&named(&listener), b"hello".to_vec()).await.unwrap();
    let begun = Instant::now();
    let told = listener.push(dialer.peer_id(), b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_hold_ends_with_either_host_and_when_one_hangs_up() {
    let (listener, dialer) = connected(62, &Keeper::new(Status::Accepted)).await;
    let (mut here, mut there) =
        (listener.hold(dialer.peer_id()).unwrap(), dialer.hold(listener.peer_id()).unwrap());
    assert!(!here.is_over() && !there.is_over());
    drop(dialer);
    ends(&mut here).await;
    ends(&mut there).await;
    assert!(here.is_over() && there.is_over());
    let (listener, dialer) = connected(64, &Keeper::new(Status::Accepted)).await;
    let mut there = dialer.hold(listener.peer_id()).unwrap();
    listener.hold(dialer.peer_id()).unwrap().hang_up();
    ends(&mut there).await;
}

#[tokio::test]
async fn hanging_up_after_the_end_leaves_a_new_connection_alone() {
    let (listener, dialer) = connected(68, &Keeper::new(Status::Accepted)).await;
    let mut old = listener.hold(dialer.peer_id()).unwrap();
    dialer.hold(listener.peer_id()).unwrap().hang_up();
    ends(&mut old).await;
    dialer.send(&named(&listener), b"again".to_vec()).await.unwrap();
    let mut new = listener.hold(dialer.peer_id()).unwrap();
    let _there = dialer.hold(listener.peer_id()).unwrap();
    old.hang_up();
    assert!(tokio::time::timeout(IDLE, new.ended()).await.is_err());
}

#[tokio::test]
async fn a_hold_goes_on_with_a_new_connection_also_where_all_holds_are_taken() {
    let (listener, dialer) = connected(76, &Keeper::new(Status::Accepted)).await;
    let mut held = listener.hold(dialer.peer_id()).unwrap();
    let other = listener.hold(dialer.peer_id()).unwrap();
    dialer.hold(listener.peer_id()).unwrap().hang_up();
    ends(&mut held).await;
    assert_eq!(held.renew(), Err(HoldError::NotConnected));
    dialer.send(&named(&listener), b"again".to_vec()).await.unwrap();
    assert_eq!(listener.hold(dialer.peer_id()).unwrap_err(), HoldError::TooMany);
    held.renew().unwrap();
    let _there = dialer.hold(listener.peer_id()).unwrap();
    assert!(tokio::time::timeout(2 * IDLE, held.ended()).await.is_err());
    drop(other);
}

#[tokio::test]
async fn only_connected_peers_are_held_and_no_more_than_allowed() {
    let (listener, dialer) = connected(66, &Keeper::new(Status::Accepted)).await;
    assert_eq!(listener.hold(PeerId::random()).unwrap_err(), HoldError::NotConnected);
    let first = listener.hold(dialer.peer_id()).unwrap();
    let _second = listener.hold(dialer.peer_id()).unwrap();
    assert_eq!(listener.hold(dialer.peer_id()).unwrap_err(), HoldError::TooMany);
    drop(first);
    assert!(listener.hold(dialer.peer_id()).is_ok());
}
