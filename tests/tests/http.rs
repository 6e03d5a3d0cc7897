//! A node's incoming and outgoing HTTP, over real sockets: statuses, media types, bounds, and forbidden destinations.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use einmal::{
    clock::ManualClock,
    config::{Config, Network, Role},
    db::Db,
    net::{
        client::{HttpClient, MAX_DOCUMENT_BYTES},
        server,
    },
    node::{Arrival, Node, Parts, Refusal},
};
use einmal_did::{Did, DidDocument};
use einmal_didcomm::{ReturnRoute, SenderProtection, limits::MAX_ENVELOPE_BYTES};
use einmal_keys::SeededEntropy;
use einmal_p2p::Source;
use einmal_storage::{Batch, Key, MemoryStore, Store, Table, TenantId, mail::MemoryMail};
use einmal_tests::{ADULT, ByName, START_MS, Stranger, World, play};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::{client_async, tungstenite::Message as Frame};

const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
const ENCRYPTED: &str = "application/didcomm-encrypted+json";
/// How long a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP answer.
#[derive(Debug)]
struct Answer {
    /// Everything before the body, in lower case.
    head: String,
    status: u16,
    media_type: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let media_type = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type").then(|| value.trim().to_owned())
        });
        Self { head: text.to_ascii_lowercase(), status, media_type, body: bytes[head + 4..].to_vec() }
    }
}

impl Answer {
    /// Whether scripts on any web page may read it.
    fn is_for_pages(&self) -> bool {
        self.head.contains("access-control-allow-origin: *")
    }
}

/// Sends bytes unchanged and reads until the other side closes.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Answer::parse(&answer)
}

fn request_bytes(line: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends a request from a separate thread, so that the node has this one.
async fn http(address: SocketAddr, line: &str, media_type: &str, body: &[u8]) -> Answer {
    let bytes = request_bytes(line, media_type, body);
    tokio::task::spawn_blocking(move || exchange(address, &bytes)).await.unwrap()
}

/// Serves a node on a free port of the loopback interface.
async fn serve(node: &Arc<Node>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(Arc::clone(node), listener, std::future::pending()));
    address
}

async fn mediator() -> (Arc<Node>, SocketAddr, Stranger) {
    let mut world = World::new(1);
    world.add("mediator", Config::new(Role::Mediator)).await;
    let node = world.node("mediator");
    let stranger = Stranger::new(1);
    stranger.learn(&node);
    let address = serve(&node).await;
    (node, address, stranger)
}

fn ping(stranger: &Stranger, node: &Node, back: bool) -> Vec<u8> {
    let mut ping = stranger.message(PING, node.public_did().unwrap(), json!({"response_requested": true}));
    ping.return_route = back.then_some(ReturnRoute::All);
    stranger.pack(&ping, SenderProtection::Authcrypt)
}

#[test]
fn answer_comes_back_on_the_same_connection_if_that_was_asked_for() {
    play(async {
        let (node, address, stranger) = mediator().await;
        let answer = http(address, "POST /", ENCRYPTED, &ping(&stranger, &node, true)).await;
        assert_eq!((answer.status, answer.media_type.as_deref()), (200, Some(ENCRYPTED)));
        let opened = stranger.open(&answer.body);
        assert!(opened.message.kind.is("https://didcomm.org/trust-ping/2.0/ping-response"));
    });
}

#[test]
fn message_that_asks_for_nothing_back_is_answered_by_200_and_nothing() {
    play(async {
        let (node, address, stranger) = mediator().await;
        let answer = http(address, "POST /", ENCRYPTED, &ping(&stranger, &node, false)).await;
        assert_eq!((answer.status, answer.body), (200, Vec::new()));
    });
}

#[test]
fn forward_is_answered_by_200_and_nothing_once_it_is_queued() {
    play(async {
        let (node, address, stranger) = mediator().await;
        let to = node.public_did().unwrap().clone();
        stranger.enrol(&node).await;
        let mut forward = stranger.forward(&to, stranger.did(), json!({"ciphertext": "x"}));
        forward.from = None;
        let envelope = stranger.pack(&forward, SenderProtection::Anoncrypt);
        let answer = http(address, "POST /", ENCRYPTED, &envelope).await;
        assert_eq!((answer.status, answer.body), (200, Vec::new()));
        assert_eq!(node.by_name("queues", &json!({})).await.unwrap()["messages"], 1);
    });
}

#[test]
fn any_path_and_media_type_will_do() {
    play(async {
        let (node, address, stranger) = mediator().await;
        for (line, media_type) in [
            ("POST /", "application/octet-stream"),
            ("POST /didcomm", "application/json"),
            ("POST /a/b/c?d=e", "text/plain"),
            ("POST //", "application/didcomm-encrypted+json; charset=utf-8"),
        ] {
            let answer = http(address, line, media_type, &ping(&stranger, &node, true)).await;
            assert_eq!(answer.status, 200, "{line} {media_type}");
            assert!(!answer.body.is_empty(), "{line} {media_type}");
        }
    });
}

#[test]
fn garbage_is_answered_by_400_without_a_reason() {
    play(async {
        let (node, address, stranger) = mediator().await;
        let mut damaged: Value = serde_json::from_slice(&ping(&stranger, &node, true)).unwrap();
        damaged["tag"] = "AAAA".into();
        for body in [b"".to_vec(), b"hello".to_vec(), b"{}".to_vec(), damaged.to_string().into_bytes()] {
            let answer = http(address, "POST /", ENCRYPTED, &body).await;
            assert_eq!((answer.status, answer.body), (400, Vec::new()));
        }
    });
}

#[test]
fn oversized_envelope_is_answered_by_413() {
    play(async {
        let (_, address, _) = mediator().await;
        let body = vec![b'x'; MAX_ENVELOPE_BYTES + 1];
        assert_eq!(http(address, "POST /", ENCRYPTED, &body).await.status, 413);
        // More than what fits into the buffers of both sides, from somebody who looks for an answer at the end only.
        let large = vec![b'x'; 4 * MAX_ENVELOPE_BYTES];
        assert_eq!(http(address, "POST /", ENCRYPTED, &large).await.status, 413);
        // One byte less is only garbage.
        assert_eq!(http(address, "POST /", ENCRYPTED, &body[1..]).await.status, 400);
    });
}

#[test]
fn looking_at_the_endpoint_says_what_it_is_for() {
    play(async {
        let (_, address, _) = mediator().await;
        for line in ["GET /", "GET /nothing/here", "DELETE /"] {
            let answer = http(address, line, "text/plain", b"").await;
            assert_eq!(answer.status, 404, "{line}");
            assert!(answer.media_type.unwrap().starts_with("text/plain"), "{line}");
            assert!(String::from_utf8(answer.body).unwrap().contains("DIDComm"), "{line}");
        }
        assert_eq!(http(address, "GET /healthz", "text/plain", b"").await.status, 200);
    });
}

/// A mediator that permits one request per second, two at once, and believes these proxies.
async fn behind(proxies: &[&str]) -> SocketAddr {
    let mut world = World::new(1);
    let mut config = Config::new(Role::Mediator);
    config.limits.max_requests_per_second = Some(1);
    config.limits.proxies = proxies.iter().map(|range| range.parse().unwrap()).collect();
    world.add("mediator", config).await;
    serve(&world.node("mediator")).await
}

/// The status for a request by `client`, as a proxy passes it on.
async fn passed_on(address: SocketAddr, path: &'static str, client: &'static str) -> u16 {
    let look =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {client}\r\n\r\n");
    tokio::task::spawn_blocking(move || exchange(address, look.as_bytes()).status).await.unwrap()
}

/// How many of twenty requests by `client` are too many.
async fn refusals(address: SocketAddr, client: &'static str) -> usize {
    refusals_at(address, "/", client).await
}

async fn refusals_at(address: SocketAddr, path: &'static str, client: &'static str) -> usize {
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(passed_on(address, path, client).await == 429);
    }
    refused
}

#[test]
fn clients_behind_a_believed_proxy_have_a_rate_each() {
    play(async {
        let address = behind(&["127.0.0.1"]).await;
        assert!(refusals(address, "192.0.2.1").await > 10);
        assert_eq!(passed_on(address, "/", "192.0.2.2").await, 404, "others are not held up");
        assert!(refusals(address, "192.0.2.7, 192.0.2.1").await > 10, "its own words help nobody");
    });
}

#[test]
fn documents_and_status_lists_are_asked_for_at_a_rate_and_whether_it_lives_at_any() {
    play(async {
        let address = behind(&["127.0.0.1"]).await;
        for (number, path) in ["/.well-known/did.json", "/status/1", "/readyz"].into_iter().enumerate() {
            let client: &'static str = ["192.0.2.1", "192.0.2.2", "192.0.2.3"][number];
            assert!(refusals_at(address, path, client).await > 10, "{path}");
        }
        assert_eq!(
            passed_on(address, "/.well-known/did.json", "192.0.2.4").await,
            404,
            "others are not held up"
        );
        assert_eq!(refusals_at(address, "/healthz", "192.0.2.1").await, 0);
    });
}

#[test]
fn forwarding_header_of_others_is_not_believed() {
    play(async {
        let address = behind(&["10.0.0.0/8"]).await;
        assert_eq!(refusals(address, "192.0.2.1").await, 0, "they come from this machine");
        assert_eq!(passed_on(address, "/metrics", "192.0.2.1").await, 200);
    });
}

#[test]
fn metrics_are_for_this_machine_also_behind_a_proxy() {
    play(async {
        let address = behind(&["127.0.0.1"]).await;
        assert_eq!(passed_on(address, "/metrics", "192.0.2.1").await, 404);
        assert_eq!(passed_on(address, "/metrics", "127.0.0.1").await, 200);
    });
}

#[test]
fn document_and_status_list_are_served_with_their_media_types() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let node = world.node("city");
        let address = serve(&node).await;
        let answer = http(address, "GET /.well-known/did.json", "text/plain", b"").await;
        assert_eq!((answer.status, answer.media_type.as_deref()), (200, Some("application/did+json")));
        assert!(answer.is_for_pages());
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(document["id"], "did:web:city.example");
        assert_eq!(http(address, "GET /status/1", "text/plain", b"").await.status, 404);
        let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        world.ask("anna", "accept", json!({"url": offer["invitation"], "yes": true})).await;
        world.pump().await;
        let answer = http(address, "GET /status/1", "text/plain", b"").await;
        assert_eq!((answer.status, answer.media_type.as_deref()), (200, Some("application/statuslist+jwt")));
        assert!(answer.is_for_pages());
        assert_eq!(answer.body.iter().filter(|byte| **byte == b'.').count(), 2, "a compact JWT");
        assert_eq!(http(address, "GET /status/2", "text/plain", b"").await.status, 404);
        assert_eq!(http(address, "GET /status/x", "text/plain", b"").await.status, 404);
    });
}

#[test]
fn status_list_that_cannot_be_read_is_not_one_that_is_not_there() {
    play(async {
        let world = World::with_everybody(1).await;
        let address = serve(&world.node("city")).await;
        let key = Key::new(&TenantId::default(), Table::new("status-list"), 1u32.to_be_bytes()).unwrap();
        let mut batch = Batch::new();
        batch.put(key, "no list");
        world.store("city").commit(batch).wait().unwrap();
        let answer = http(address, "GET /status/1", "text/plain", b"").await;
        assert_eq!((answer.status, answer.is_for_pages()), (503, true));
        assert!(answer.head.contains("retry-after"), "{answer:?}");
        assert_eq!(http(address, "GET /status/2", "text/plain", b"").await.status, 404);
    });
}

#[test]
fn scripts_of_web_pages_may_ask_and_read() {
    play(async {
        let (node, address, stranger) = mediator().await;
        let preflight = http(address, "OPTIONS /", "text/plain", b"").await;
        assert_eq!((preflight.status, preflight.is_for_pages()), (204, true));
        assert!(
            preflight.head.contains("access-control-allow-headers: accept, content-type"),
            "{preflight:?}"
        );
        let posted = http(address, "POST /", ENCRYPTED, &ping(&stranger, &node, true)).await;
        assert_eq!((posted.status, posted.is_for_pages()), (200, true));
        let refused = http(address, "POST /", ENCRYPTED, b"{}").await;
        assert_eq!((refused.status, refused.is_for_pages()), (400, true));
        let exposed = "access-control-expose-headers: retry-after, x-request-id";
        assert!(refused.head.contains(exposed), "{refused:?}");
        // The numbers are for this machine, not for a web page open on it.
        let numbers = http(address, "GET /metrics", "text/plain", b"").await;
        assert_eq!((numbers.status, numbers.is_for_pages()), (200, false));
    });
}

#[test]
fn mediator_serves_no_document_and_no_status_list() {
    play(async {
        let (_, address, _) = mediator().await;
        assert_eq!(http(address, "GET /.well-known/did.json", "text/plain", b"").await.status, 404);
        assert_eq!(http(address, "GET /status/1", "text/plain", b"").await.status, 404);
    });
}

/// Takes as long as the node waits: the only test here that does.
#[test]
fn body_that_does_not_come_is_given_up() {
    play(async {
        let (_, address, _) = mediator().await;
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 100\r\n\r\n{";
        let begun = Instant::now();
        let answer = tokio::task::spawn_blocking(move || exchange(address, head.as_bytes())).await.unwrap();
        assert_eq!(answer.status, 408);
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    });
}

// ---- the way out

/// A web server for one answer; counts the connections made to it.
struct Trap {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// For each connection, whether the client read the whole answer.
    taken: mpsc::Receiver<bool>,
}

impl Trap {
    /// Answers everyone with these bytes.
    fn answering(make: impl FnOnce(SocketAddr) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = make(address);
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let (tell, taken) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                let mut buffer = [0u8; 4096];
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(length) if length > 0 => head.extend_from_slice(&buffer[..length]),
                        _ => break,
                    }
                }
                // A client that has read enough hangs up.
                let _ = tell.send(stream.write_all(&answer).is_ok());
            }
        });
        Self { address, connections, taken }
    }

    fn silent() -> Self {
        Self::answering(|_| Vec::new())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn web_did(address: SocketAddr) -> Did {
    Did::parse(&format!("did:web:localhost%3A{}", address.port())).unwrap()
}

fn ok(media_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

const OPEN: Network = Network { allow_private: true, allow_http: true };

/// A mediator on the real network.
async fn node_in(network: &Network) -> Arc<Node> {
    let mut config = Config::new(Role::Mediator);
    config.network = network.clone();
    node_with(config).await
}

async fn node_with(config: Config) -> Arc<Node> {
    let client = Arc::new(HttpClient::new(&config.network).unwrap());
    let parts = Parts {
        config,
        db: Db::new(Arc::new(MemoryStore::new()), TenantId::default()),
        mail: Arc::new(MemoryMail::new()),
        clock: Arc::new(ManualClock::at(START_MS)),
        entropy: Arc::new(SeededEntropy::new(1)),
        transport: Arc::clone(&client) as _,
        fetcher: client,
    };
    Node::start(parts, "https://mediator.example").await.unwrap()
}

/// The node's receipt in `network` for a message whose sender's document is where `stranger` says.
async fn receipt_for(network: &Network, stranger: &Stranger) -> Option<Refusal> {
    let node = node_in(network).await;
    let ping = stranger.message(PING, node.public_did().unwrap(), json!({"response_requested": false}));
    node.receive(&stranger.pack(&ping, SenderProtection::Authcrypt), Arrival::Http { from: None })
        .await
        .refused
}

/// A sender whose document is served by a trap; `serve` may alter it.
fn published(seed: u64, serve: impl FnOnce(&DidDocument) -> Vec<u8>) -> (Trap, Stranger) {
    let mut stranger = None;
    let trap = Trap::answering(|address| {
        let (made, document) = Stranger::of_the_web(seed, &web_did(address));
        stranger = Some(made);
        serve(&document)
    });
    (trap, stranger.unwrap())
}

fn as_it_should(document: &DidDocument) -> Vec<u8> {
    ok("application/did+json", document.to_json().to_string().as_bytes())
}

#[test]
fn document_of_a_sender_is_fetched_where_the_configuration_permits_it() {
    let (trap, stranger) = published(1, as_it_should);
    assert_eq!(play(receipt_for(&OPEN, &stranger)), None);
    assert_eq!(trap.connections(), 1);
}

#[test]
fn sender_on_a_private_address_is_refused_without_a_connection() {
    let (trap, stranger) = published(1, as_it_should);
    for network in [Network::default(), Network { allow_http: true, ..Network::default() }] {
        assert_eq!(play(receipt_for(&network, &stranger)), Some(Refusal::Unavailable), "{network:?}");
    }
    assert_eq!(trap.connections(), 0);
}

#[test]
fn plain_http_is_not_spoken_unless_permitted() {
    let (_trap, stranger) = published(1, as_it_should);
    let network = Network { allow_private: true, allow_http: false };
    assert_eq!(play(receipt_for(&network, &stranger)), Some(Refusal::Unavailable));
}

#[test]
fn redirect_is_not_followed() {
    let secret = Trap::answering(|_| ok("application/did+json", b"{}"));
    let location = format!("http://{}/.well-known/did.json", secret.address);
    let (trap, stranger) = published(1, |_| {
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .into_bytes()
    });
    assert_eq!(play(receipt_for(&OPEN, &stranger)), Some(Refusal::Unavailable));
    assert_eq!((trap.connections(), secret.connections()), (1, 0));
}

/// A document padded to `length` bytes.
fn padded(document: &DidDocument, length: usize) -> Vec<u8> {
    let mut body = document.to_json().to_string().into_bytes();
    body.resize(length, b' ');
    body
}

#[test]
fn oversized_document_is_refused_whether_or_not_its_length_is_told() {
    let (_trap, stranger) =
        published(1, |document| ok("application/did+json", &padded(document, MAX_DOCUMENT_BYTES + 1)));
    assert_eq!(play(receipt_for(&OPEN, &stranger)), Some(Refusal::Unavailable));
    let (_trap, stranger) = published(1, |document| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/did+json\r\nConnection: close\r\n\r\n";
        [head.as_slice(), &padded(document, MAX_DOCUMENT_BYTES + 1)].concat()
    });
    assert_eq!(play(receipt_for(&OPEN, &stranger)), Some(Refusal::Unavailable));
}

#[test]
fn document_without_end_is_not_read_to_its_end() {
    let (trap, stranger) = published(1, |document| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/did+json\r\nConnection: close\r\n\r\n";
        [head.as_slice(), &padded(document, 256 * MAX_DOCUMENT_BYTES)].concat()
    });
    assert_eq!(play(receipt_for(&OPEN, &stranger)), Some(Refusal::Unavailable));
    assert_eq!(trap.taken.recv_timeout(PATIENCE), Ok(false), "64 MiB were read");
}

#[test]
fn document_of_another_did_is_refused() {
    let (trap, stranger) = published(1, |document| {
        let mut json = document.to_json();
        json["id"] = "did:web:city.example".into();
        ok("application/did+json", json.to_string().as_bytes())
    });
    assert_eq!(play(receipt_for(&OPEN, &stranger)), Some(Refusal::Unavailable));
    assert_eq!(trap.connections(), 1);
}

#[test]
fn document_with_other_keys_proves_no_sender() {
    let (trap, stranger) = published(1, |document| {
        let (_, other) = Stranger::of_the_web(2, &document.id);
        as_it_should(&other)
    });
    assert_eq!(play(receipt_for(&OPEN, &stranger)), Some(Refusal::Invalid));
    assert_eq!(trap.connections(), 1);
}

#[test]
fn document_that_is_none_and_server_errors_are_refused() {
    for answer in [
        ok("application/did+json", b"{\"id\": 7}"),
        ok("text/html", b"<html></html>"),
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        Vec::new(),
    ] {
        let (_trap, stranger) = published(1, |_| answer);
        assert_eq!(play(receipt_for(&OPEN, &stranger)), Some(Refusal::Unavailable));
    }
}

#[test]
fn answer_to_an_endpoint_on_a_private_address_is_given_up_without_a_connection() {
    play(async {
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
            let trap = Trap::silent();
            let node = node_in(&Network::default()).await;
            for scheme in ["http", "https"] {
                let endpoint = format!("{scheme}://{host}:{}/", trap.address.port());
                let stranger = Stranger::reached_at(1, &endpoint);
                let kind = "https://didcomm.org/trust-ping/2.0/ping";
                let ping =
                    stranger.message(kind, node.public_did().unwrap(), json!({"response_requested": true}));
                assert_eq!(stranger.say(&node, &ping).await.refused, None, "{endpoint}");
                node.outbox_pass().await.unwrap();
            }
            assert_eq!(node.stats().to_json()["sent"], 0, "{host}");
            assert_eq!(trap.connections(), 0, "{host}");
        }
    });
}

#[test]
fn answer_to_a_private_address_that_is_written_out_is_given_up_for_good() {
    play(async {
        let node = node_in(&Network::default()).await;
        let stranger = Stranger::reached_at(1, "https://10.1.2.3/");
        let ping = stranger.message(PING, node.public_did().unwrap(), json!({"response_requested": true}));
        stranger.say(&node, &ping).await;
        node.outbox_pass().await.unwrap();
        let status = node.by_name("status", &json!({})).await.unwrap();
        // Nothing is kept of an answer that was useful only at that moment.
        assert_eq!((&status["outbox"], &status["given_up"]), (&json!(0), &json!(0)));
        assert_eq!(node.stats().to_json()["given_up"], 1);
    });
}

#[test]
fn answer_reaches_an_endpoint_that_is_permitted() {
    play(async {
        let trap = Trap::answering(|_| ok("text/plain", b""));
        let node = node_in(&OPEN).await;
        let stranger = Stranger::reached_at(1, &format!("http://{}/", trap.address));
        let ping = stranger.message(PING, node.public_did().unwrap(), json!({"response_requested": true}));
        stranger.say(&node, &ping).await;
        node.outbox_pass().await.unwrap();
        assert_eq!((node.stats().to_json()["sent"].clone(), trap.connections()), (json!(1), 1));
    });
}

#[test]
fn an_endpoint_that_never_answers_holds_up_nobody_else() {
    play(async {
        let (tar_pit, trap) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), Trap::answering(|_| ok("text/plain", b"")));
        let node = node_in(&OPEN).await;
        let outbox = tokio::spawn(Arc::clone(&node).run_outbox());
        let slow = Stranger::reached_at(1, &format!("http://{}/", tar_pit.local_addr().unwrap()));
        let quick = Stranger::reached_at(2, &format!("http://{}/", trap.address));
        let ping = |from: &Stranger| {
            from.message(PING, node.public_did().unwrap(), json!({"response_requested": true}))
        };
        slow.say(&node, &ping(&slow)).await;
        let held = tokio::task::spawn_blocking(move || tar_pit.accept().unwrap()).await.unwrap();
        quick.say(&node, &ping(&quick)).await;
        let begun = Instant::now();
        // Half of the time the node waits for an answer.
        while trap.connections() == 0 && begun.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(trap.connections(), 1);
        outbox.abort();
        drop(held);
    });
}

#[test]
fn answers_are_counted_for_the_address_a_request_or_a_socket_comes_from() {
    play(async {
        let mut config = Config::new(Role::Mediator);
        config.network = OPEN;
        config.limits.loopback = true;
        let node = node_with(config).await;
        let (address, stranger) = (serve(&node).await, Stranger::reached_at(1, "http://192.0.2.9/"));
        stranger.learn(&node);
        let mut request =
            stranger.message(PING, node.public_did().unwrap(), json!({"response_requested": true}));
        let loopback = Source::of([127, 0, 0, 1].into());
        for number in 0..1000 {
            request.id = format!("{number}").try_into().unwrap();
            stranger.say_from(loopback, &node, &request).await;
        }
        let not_queued = || node.stats().to_json()["given_up"].as_u64().unwrap();
        assert_eq!(not_queued(), 0);
        let answer = http(address, "POST /", ENCRYPTED, &ping(&stranger, &node, false)).await;
        assert_eq!((answer.status, not_queued()), (200, 1));
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut socket, _) = client_async(format!("ws://{address}/ws"), stream).await.unwrap();
        request.return_route = Some(ReturnRoute::None);
        request.id = "by-a-socket".to_owned().try_into().unwrap();
        let envelope = stranger.pack(&request, SenderProtection::Authcrypt);
        socket.send(Frame::Binary(envelope.into())).await.unwrap();
        assert!(soon(|| not_queued() == 2).await);
    });
}

#[test]
fn answers_to_this_machines_own_address_are_counted_for_nobody() {
    play(async {
        // Otherwise everyone behind a proxy on this machine would count as one.
        let node = node_in(&OPEN).await;
        let (address, stranger) = (serve(&node).await, Stranger::reached_at(1, "http://192.0.2.9/"));
        stranger.learn(&node);
        let mut request =
            stranger.message(PING, node.public_did().unwrap(), json!({"response_requested": true}));
        for number in 0..1000 {
            request.id = format!("{number}").try_into().unwrap();
            stranger.say_from(Source::of([127, 0, 0, 1].into()), &node, &request).await;
        }
        let answer = http(address, "POST /", ENCRYPTED, &ping(&stranger, &node, false)).await;
        assert_eq!((answer.status, &node.stats().to_json()["given_up"]), (200, &json!(0)));
    });
}

#[test]
fn what_an_answer_to_our_answer_causes_is_counted_for_whom_we_answered() {
    play(async {
        let node = node_in(&OPEN).await;
        let slow = Stranger::reached_at(2, "http://192.0.2.9/");
        slow.learn(&node);
        let ask = |from: &Stranger| {
            from.message(PING, node.public_did().unwrap(), json!({"response_requested": true}))
        };
        let back = slow.pack(&ask(&slow), SenderProtection::Authcrypt);
        let trap = Trap::answering(move |_| ok(ENCRYPTED, &back));
        let attacker = Stranger::reached_at(1, &format!("http://{}/", trap.address));
        attacker.learn(&node);
        attacker.say_from("place", &node, &ask(&attacker)).await;
        node.outbox_pass().await.unwrap();
        assert_eq!(trap.connections(), 1);
        let mut request = ask(&slow);
        let not_queued = || node.stats().to_json()["given_up"].as_u64().unwrap();
        for number in 0..1000 {
            assert_eq!(not_queued(), 0, "{number}");
            request.id = format!("{number}").try_into().unwrap();
            slow.say_from("place", &node, &request).await;
        }
        assert_eq!(not_queued(), 1, "one waits already");
    });
}

/// Accepts connections, says nothing, and counts them.
fn tar_pit() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, counter) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&counter);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            held.push(stream);
            count.store(held.len(), Ordering::SeqCst);
        }
    });
    (address, counter)
}

#[test]
fn documents_that_never_come_hold_up_nobody_elses() {
    play(async {
        let (silent, held) = tar_pit();
        let node = node_in(&OPEN).await;
        let flood: Vec<_> = (0..200)
            .map(|number| {
                let did = format!("did:web:127.0.0.1%3A{}:{number}", silent.port());
                let (stranger, _) = Stranger::of_the_web(number, &Did::parse(&did).unwrap());
                let ping = stranger.message(PING, node.public_did().unwrap(), json!({}));
                let envelope = stranger.pack(&ping, SenderProtection::Authcrypt);
                let (node, from) = (Arc::clone(&node), Some(node.origin("flood")));
                tokio::spawn(async move { node.receive(&envelope, Arrival::Http { from }).await.refused })
            })
            .collect();
        assert!(soon(|| flood.iter().filter(|task| task.is_finished()).count() == 184).await);
        assert!(soon(|| held.load(Ordering::SeqCst) == 16).await);
        let (trap, stranger) = published(1, as_it_should);
        let ping = stranger.message(PING, node.public_did().unwrap(), json!({}));
        let envelope = stranger.pack(&ping, SenderProtection::Authcrypt);
        let from = Some(node.origin("other"));
        assert_eq!(node.receive(&envelope, Arrival::Http { from }).await.refused, None);
        assert_eq!(trap.connections(), 1);
        for task in flood {
            assert_eq!(task.await.unwrap(), Some(Refusal::Unavailable));
        }
    });
}

/// Whether it becomes true sooner than the node gives up a connection.
async fn soon(is_so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() && begun.elapsed() < Duration::from_secs(4) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    is_so()
}

#[test]
fn flood_of_endpoints_that_never_answer_holds_up_nobody_who_answered_before() {
    play(async {
        let ((silent, held), trap) = (tar_pit(), Trap::answering(|_| ok("text/plain", b"")));
        let node = node_in(&OPEN).await;
        let outbox = tokio::spawn(Arc::clone(&node).run_outbox());
        let ping = |from: &Stranger| {
            from.message(PING, node.public_did().unwrap(), json!({"response_requested": true}))
        };
        let sent = || node.stats().to_json()["sent"].as_u64().unwrap();
        let friend = Stranger::reached_at(0, &format!("http://{}/", trap.address));
        friend.say(&node, &ping(&friend)).await;
        assert!(soon(|| sent() == 1).await);
        // More than there are places.
        for number in 1..=300 {
            let stranger = Stranger::reached_at(number, &format!("http://{silent}/"));
            stranger.say(&node, &ping(&stranger)).await;
        }
        assert!(soon(|| held.load(Ordering::SeqCst) > 100).await, "strangers are served as well");
        friend.say(&node, &ping(&friend)).await;
        assert!(soon(|| sent() == 2).await);
        outbox.abort();
    });
}

#[test]
fn flood_from_one_address_holds_up_no_newcomer_from_another() {
    play(async {
        let ((silent, held), trap) = (tar_pit(), Trap::answering(|_| ok("text/plain", b"")));
        let node = node_in(&OPEN).await;
        let outbox = tokio::spawn(Arc::clone(&node).run_outbox());
        let ping = |from: &Stranger| {
            from.message(PING, node.public_did().unwrap(), json!({"response_requested": true}))
        };
        let sent = || node.stats().to_json()["sent"].as_u64().unwrap();
        for number in 1..=300 {
            let stranger = Stranger::reached_at(number, &format!("http://{silent}/"));
            stranger.say_from("192.0.2.1", &node, &ping(&stranger)).await;
        }
        assert!(soon(|| held.load(Ordering::SeqCst) > 10).await, "they are served as well");
        let newcomer = Stranger::reached_at(0, &format!("http://{}/", trap.address));
        newcomer.say_from("192.0.2.2", &node, &ping(&newcomer)).await;
        assert!(soon(|| sent() == 1).await);
        outbox.abort();
    });
}

#[test]
fn address_because_of_which_a_thousand_answers_wait_causes_no_more_and_others_do() {
    play(async {
        let (node, trap) = (node_in(&OPEN).await, Trap::answering(|_| ok("text/plain", b"")));
        let stranger = Stranger::reached_at(1, &format!("http://{}/", trap.address));
        let ping = || stranger.message(PING, node.public_did().unwrap(), json!({"response_requested": true}));
        let counts = || {
            let stats = node.stats().to_json();
            (stats["sent"].as_u64().unwrap(), stats["given_up"].as_u64().unwrap())
        };
        for _ in 0..1002 {
            assert_eq!(stranger.say_from("192.0.2.1", &node, &ping()).await.refused, None);
        }
        assert_eq!(counts(), (0, 2));
        stranger.say_from("192.0.2.2", &node, &ping()).await;
        node.outbox_pass().await.unwrap();
        assert_eq!(counts(), (1001, 2));
        stranger.say_from("192.0.2.1", &node, &ping()).await;
        node.outbox_pass().await.unwrap();
        assert_eq!(counts(), (1002, 2), "nothing waits any more");
    });
}
