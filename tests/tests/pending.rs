//! Connections that say nothing, or never finish: bounded per address and in total, and closed in time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    sync::Arc,
    time::{Duration, Instant},
};

use einmal::{
    config::{Config, Limits, Role, TlsSettings},
    net::{server, tls::Tls},
};
use einmal_tests::{World, play};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Longest time for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the node here waits for a first request.
const PENDING: Duration = Duration::from_secs(4);
/// All of them are closed within this time; it is less than a TLS handshake may take alone.
const SOON: Duration = Duration::from_secs(9);

/// Two per address and four in total, also for this machine's own addresses.
fn limits() -> Limits {
    Limits {
        max_pending: Some(4),
        max_pending_per_address: Some(2),
        pending_seconds: Some(PENDING.as_secs()),
        loopback: true,
        ..Limits::default()
    }
}

/// A mediator with these limits, by TLS if `tls`.
async fn mediator(tls: bool) -> SocketAddr {
    let mut world = World::new(1);
    world.add("mediator", Config { limits: limits(), ..Config::new(Role::Mediator) }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = tls.then(|| Arc::new(certificate()));
    tokio::spawn(server::serve_with(world.node("mediator"), listener, tls, std::future::pending()));
    address
}

fn certificate() -> Tls {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let settings =
        TlsSettings { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&settings.certificate, made.cert.pem()).unwrap();
    std::fs::write(&settings.key, made.key_pair.serialize_pem()).unwrap();
    std::fs::set_permissions(&settings.key, PermissionsExt::from_mode(0o600)).unwrap();
    Tls::load(&settings).unwrap()
}

/// Connects from this machine's address number `host` and sends `words`.
async fn call(address: SocketAddr, host: u8, words: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    // A refused client may be unable to send it.
    let _ = stream.write_all(words).await;
    stream
}

/// Waits until the node closes the connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is never closed");
    assert!(rest.is_empty() || rest.starts_with(b"\x15"), "it was answered: {rest:?}");
}

/// Whether the connection is open, as far as can be seen at once.
fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0; 16]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn get(stream: &mut TcpStream) -> String {
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 256];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Fills the places with connections that send only `words`; none may be answered.
async fn withhold(tls: bool, words: &[u8]) {
    let address = mediator(tls).await;
    let begun = Instant::now();
    let mut held = vec![call(address, 1, words).await, call(address, 1, words).await];
    closed(&mut call(address, 1, words).await).await;
    held.push(call(address, 2, words).await);
    held.push(call(address, 2, words).await);
    closed(&mut call(address, 3, words).await).await;
    // Refused at once, unlike the earlier ones, for which the node is still waiting.
    assert!(begun.elapsed() < PENDING, "refused after {:?}", begun.elapsed());
    assert!(held.iter().all(is_open), "those within the limits are waited for");
    for stream in &mut held {
        closed(stream).await;
    }
    let took = begun.elapsed();
    assert!(PENDING <= took && took < SOON, "closed after {took:?}");
    // Their places are free again: as many may come as before.
    let again = [call(address, 1, words).await, call(address, 1, words).await];
    closed(&mut call(address, 1, words).await).await;
    drop(again);
}

#[test]
fn connections_that_say_nothing_are_bounded_and_closed_in_time() {
    play(withhold(false, b""));
}

#[test]
fn tls_handshakes_that_are_not_begun_are_bounded_and_closed_in_time() {
    play(withhold(true, b""));
}

#[test]
fn tls_handshakes_that_are_not_finished_are_bounded_and_closed_in_time() {
    // The beginning of a record with a ClientHello of 512 bytes.
    play(withhold(true, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"));
}

#[test]
fn heads_that_are_not_finished_are_bounded_and_closed_in_time() {
    play(withhold(false, b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "));
}

#[test]
fn upgrades_that_are_not_finished_are_bounded_and_closed_in_time() {
    play(withhold(
        false,
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    ));
}

#[test]
fn a_head_that_drips_in_gains_no_time() {
    play(async {
        let address = mediator(false).await;
        let begun = Instant::now();
        let mut stream = call(address, 1, b"GET / HTTP/1.1\r\nX-Slow: ").await;
        while stream.write_all(b"x").await.is_ok() {
            assert!(begun.elapsed() < PATIENCE, "it is waited for as long as it drips");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(begun.elapsed() >= PENDING);
    });
}

#[test]
fn who_has_sent_a_request_takes_no_place_of_those_who_have_not_and_is_not_closed() {
    play(async {
        let address = mediator(false).await;
        let mut speaking = Vec::new();
        for _ in 0..6 {
            let mut stream = call(address, 1, b"").await;
            assert!(get(&mut stream).await.starts_with("HTTP/1.1 200"));
            speaking.push(stream);
        }
        let mut silent = call(address, 1, b"").await;
        closed(&mut silent).await;
        for stream in &mut speaking {
            assert!(get(stream).await.starts_with("HTTP/1.1 200"), "it was closed although it had spoken");
        }
    });
}
