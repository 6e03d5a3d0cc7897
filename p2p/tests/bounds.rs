//! Limits of a host: messages, turns, connections and time, and for each, who is turned away and who is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{PATIENCE, Slow, config, host, named};
use einmal_p2p::{Bounds, Host, HostConfig, SendError, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        // The receiver has places for as many from one source: none is told to try again.
        while !sent.is_empty() {
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
    // The receiver notices the end a moment later.
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
    // The same machine with another address is another source, and gets an answer.
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
