//! What strangers can make a host dial, look up and relay, and that it leaves room for everyone else.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/stranger.rs"]
mod stranger;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use common::{Keeper, PATIENCE, config, host, named};
use einmal_p2p::{
    Bounds, Host, HostConfig, Multiaddr, PeerEndpoint, RelayLimits, SendError, Status, is_relayed,
};
use libp2p::multiaddr::Protocol;
use stranger::{Opened, Silent, claim, open_circuits, reserve, tcp_of};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Well below the time after which an unresponsive address is given up.
const AT_ONCE: Duration = Duration::from_secs(6);

/// A peer with addresses that someone claims for it.
fn told(of: &Host, addresses: impl IntoIterator<Item = Multiaddr>) -> PeerEndpoint {
    let id = of.peer_id();
    let with_id = |address: Multiaddr| address.with_p2p(id).unwrap().to_string();
    let texts: Vec<String> = addresses.into_iter().map(with_id).collect();
    PeerEndpoint::parse(&of.endpoint().uri(), &texts).unwrap()
}

async fn sent_at_once(from: &Host, to: &PeerEndpoint) -> Result<(), SendError> {
    tokio::time::timeout(AT_ONCE, from.send(to, b"honest".to_vec())).await.expect("it waited for others")
}

#[tokio::test]
async fn an_address_behind_many_that_do_not_answer_is_tried() {
    let (silent, to) = (Silent::start().await, host(config(130)).await);
    let from = host(HostConfig { listen: Vec::new(), ..config(131) }).await;
    let endpoint = told(&to, silent.addresses(1, 15).into_iter().chain([tcp_of(&to)]));
    assert_eq!(sent_at_once(&from, &endpoint).await, Ok(()));
}

#[tokio::test]
async fn addresses_others_made_up_for_a_peer_do_not_keep_its_own_from_being_tried() {
    let (silent, to) = (Silent::start().await, host(config(132)).await);
    let from = host(HostConfig { listen: Vec::new(), ..config(133) }).await;
    for net in 1..=5 {
        let (from, endpoint) = (from.clone(), told(&to, silent.addresses(net, 16)));
        tokio::spawn(async move { from.send(&endpoint, b"made up".to_vec()).await });
    }
    let begun = Instant::now();
    while silent.reached() < 16 {
        assert!(begun.elapsed() < PATIENCE, "nothing is dialled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sent_at_once(&from, &told(&to, [tcp_of(&to)])).await, Ok(()));
}

#[tokio::test]
async fn relays_others_made_up_for_a_peer_do_not_keep_its_own_from_being_tried() {
    let relay = host(HostConfig { relay_server: Some(RelayLimits::default()), ..config(134) }).await;
    let (silent, keeper) = (Silent::start().await, Keeper::new(Status::Accepted));
    let to = HostConfig { listen: Vec::new(), relays: vec![tcp_of(&relay)], ..config(135) };
    let to = Host::start(to, Arc::clone(&keeper) as _).await.unwrap();
    let reserved = to.addresses_until(|addresses| addresses.iter().any(is_relayed));
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let from = host(HostConfig { listen: Vec::new(), ..config(136) }).await;
    let nowhere = host(config(137)).await.peer_id();
    for net in [1, 2] {
        let made_up = silent.addresses(net, 15).into_iter();
        let made_up = made_up.map(|address| address.with_p2p(nowhere).unwrap().with(Protocol::P2pCircuit));
        // Plus a direct one; the relayed ones wait while it is tried.
        let endpoint = told(&to, silent.addresses(net + 2, 1).into_iter().chain(made_up));
        let from = from.clone();
        tokio::spawn(async move { from.send(&endpoint, b"made up".to_vec()).await });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sent_at_once(&from, &named(&to)).await, Ok(()));
}

#[tokio::test]
async fn one_address_leaves_circuits_to_others() {
    let limits = RelayLimits { circuits: 16, ..RelayLimits::default() };
    let listen: Vec<Multiaddr> =
        ["tcp/0", "udp/0/quic-v1"].map(|way| format!("/ip4/127.0.0.1/{way}").parse().unwrap()).into();
    let relay = host(HostConfig { relay_server: Some(limits), listen, ..config(138) }).await;
    let at = tcp_of(&relay);
    let hidden = host(HostConfig { listen: Vec::new(), relays: vec![at.clone()], ..config(139) }).await;
    let reserved = hidden.addresses_until(|addresses| addresses.iter().any(is_relayed));
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let target = tokio::time::timeout(PATIENCE, reserve(&at)).await.unwrap();
    let opened = Arc::<Opened>::default();
    (0..4).for_each(|_| open_circuits(&at, target, &opened));
    let begun = Instant::now();
    // Each of the four is refused in the end, whether all or some circuits are open.
    while opened.refused.load(Ordering::SeqCst) < 4 {
        assert!(begun.elapsed() < PATIENCE, "{} circuits are open", opened.open.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let open = opened.open.load(Ordering::SeqCst);
    assert!((1..=2).contains(&open), "{open} of 16 circuits are one address's");
    // QUIC connects from the address it listens on: this one is different.
    let listen = vec!["/ip4/127.0.0.2/udp/0/quic-v1".parse().unwrap()];
    let other = host(HostConfig { listen, ..config(140) }).await;
    let quic = relay.listen_addresses().into_iter().find(|one| one.to_string().contains("quic")).unwrap();
    let through = quic.with(Protocol::P2pCircuit);
    assert_eq!(sent_at_once(&other, &told(&hidden, [through])).await, Ok(()));
}

#[tokio::test]
async fn one_peer_has_as_many_circuits_as_the_relay_was_told() {
    let limits = RelayLimits { circuits: 800, circuits_per_peer: 2, ..RelayLimits::default() };
    let relay = host(HostConfig { relay_server: Some(limits), ..config(142) }).await;
    let at = tcp_of(&relay);
    let target = tokio::time::timeout(PATIENCE, reserve(&at)).await.unwrap();
    let opened = Arc::<Opened>::default();
    open_circuits(&at, target, &opened);
    let begun = Instant::now();
    while opened.refused.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < PATIENCE, "{} circuits are open", opened.open.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(opened.open.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_relay_dials_few_addresses_at_once_for_one_who_asks_whether_it_is_reached_there() {
    let relay = host(HostConfig { relay_server: Some(RelayLimits::default()), ..config(141) }).await;
    let silent = Silent::start().await;
    claim(tcp_of(&relay), &silent.addresses(1, 10));
    let begun = Instant::now();
    while silent.reached() < 3 {
        assert!(begun.elapsed() < PATIENCE, "nobody is dialled back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(silent.reached() <= 4, "{} addresses are dialled for one", silent.reached());
}

/// Passes bytes on between whoever connects and `to`, until told to stop.
async fn between(to: u16, stop: Arc<Notify>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut inside = listener.accept().await.unwrap().0;
        let mut outside = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut inside, &mut outside) => {}
            () = stop.notified() => {}
        }
        // Neither passes anything on nor hangs up.
        tokio::time::sleep(PATIENCE).await;
        drop((inside, outside));
    });
    port
}

/// Anybody may name an address for a peer, and pass everything on to it, until it does not.
#[tokio::test]
async fn a_way_through_somebody_else_keeps_no_message_from_the_peers_own_addresses() {
    let bounds = Bounds { request: Duration::from_secs(2), ..Bounds::default() };
    let (keeper, stop) = (Keeper::new(Status::Accepted), Arc::new(Notify::new()));
    let receiver = Host::start(config(28), Arc::clone(&keeper) as _).await.unwrap();
    let sender = host(HostConfig { bounds, ..config(29) }).await;
    let own = tcp_of(&receiver);
    let port = |address: &Multiaddr| address.to_string().split('/').nth(4).unwrap().parse::<u16>().unwrap();
    let through = between(port(&own), Arc::clone(&stop)).await;
    let through: Multiaddr = format!("/ip4/127.0.0.1/tcp/{through}").parse().unwrap();
    sender.send(&told(&receiver, [through]), b"one".to_vec()).await.unwrap();
    stop.notify_one();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let in_vain = sender.send(&told(&receiver, [own.clone()]), b"two".to_vec()).await;
    assert!(matches!(in_vain, Err(SendError::Unreachable { .. })), "{in_vain:?}");
    sender.send(&told(&receiver, [own]), b"three".to_vec()).await.unwrap();
    assert_eq!(keeper.kept(), [b"one".to_vec(), b"three".to_vec()]);
}
