//! Hole punching with strangers: how many sockets they cause. These tests have their own process to count them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/stranger.rs"]
mod stranger;

use std::{
    net::TcpListener,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use common::{PATIENCE, config, host};
use einmal_p2p::{Host, HostConfig, Multiaddr, PeerEndpoint, RelayLimits, is_relayed};
use libp2p::multiaddr::Protocol;
use stranger::{Silent, punch, punch_back, tcp_of};
use tokio::sync::Mutex;

/// Files are counted for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A host behind a relay, and the way to it.
async fn behind_relay(seed: u8) -> (Host, Host, Multiaddr) {
    let relay = host(HostConfig { relay_server: Some(RelayLimits::default()), ..config(seed) }).await;
    let at = tcp_of(&relay);
    let hidden = host(HostConfig { listen: Vec::new(), relays: vec![at.clone()], ..config(seed + 1) }).await;
    let reserved = hidden.addresses_until(|addresses| addresses.iter().any(is_relayed));
    tokio::time::timeout(PATIENCE, reserved).await.expect("no reservation");
    let circuit = at.with(Protocol::P2pCircuit).with(Protocol::P2p(hidden.peer_id()));
    (relay, hidden, circuit)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn strangers_who_name_hundreds_of_addresses_have_few_of_them_dialled() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // The system accepts the connections; nobody answers.
    let silent = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let at = |number| format!("/ip4/127.9.{}.{}/tcp/{port}", number / 200, 1 + number % 200);
    let addresses: Vec<Multiaddr> = (0..400).map(|number| at(number).parse().unwrap()).collect();
    let (_relay, _hidden, circuit) = behind_relay(120).await;
    let before = files();
    let strangers = [punch(&circuit, &addresses), punch(&circuit, &addresses)];
    let are_asked = || strangers.iter().all(|asked| asked.load(Ordering::SeqCst) > 0);
    until("nobody was asked for addresses", are_asked).await;
    until("none is dialled", || files() >= before + 32).await;
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        most = most.max(files());
    }
    assert!(most < before + 150, "{} files for two strangers", most - before);
}

#[tokio::test]
async fn one_connection_that_asks_for_hole_after_hole_gets_few() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let relay = host(HostConfig { relay_server: Some(RelayLimits::default()), ..config(124) }).await;
    let (at, silent) = (tcp_of(&relay), Silent::start().await);
    let places = silent.addresses(7, 80).chunks(4).map(<[_]>::to_vec).collect();
    let (stranger, asked) = tokio::time::timeout(PATIENCE, punch_back(&at, places)).await.unwrap();
    let addresses = vec![at.with(Protocol::P2pCircuit).with(Protocol::P2p(stranger))];
    let host = host(HostConfig { listen: Vec::new(), ..config(125) }).await;
    tokio::spawn(async move {
        let _ = host.send(&PeerEndpoint { peer_id: stranger, addresses }, b"hello".to_vec()).await;
        // The host must live as long as the test.
        std::future::pending::<()>().await;
        drop(host);
    });
    until("it did not ask", || asked.load(Ordering::SeqCst) == 20).await;
    until("none is dialled", || silent.reached() >= 16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Four holes with four addresses each; on a slow machine some more, after those were given up.
    assert!(silent.reached() <= 32, "{} addresses are dialled for one", silent.reached());
}

#[tokio::test]
async fn as_many_addresses_as_a_host_may_have_are_all_dialled() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (_relay, _hidden, circuit) = behind_relay(122).await;
    let silent = Silent::start().await;
    punch(&circuit, &silent.addresses(8, 20));
    until("some address was not dialled", || silent.reached() == 20).await;
}
