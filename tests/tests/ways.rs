//! Which way a message takes when a peer can be reached by several, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use einmal::{
    clock::ManualClock,
    config::{Config, Network, P2pSettings, Role},
    db::Db,
    net::{
        Transport,
        client::HttpClient,
        p2p::{self, Entrance},
        server,
    },
    node::{Arrival, Node, Parts},
};
use einmal_did::Endpoint;
use einmal_didcomm::SenderProtection;
use einmal_keys::{SeededEntropy, base64url_decode, base64url_encode};
use einmal_p2p::{
    Bounds, BoxFuture, Host, HostConfig, Inbound, PeerEndpoint, PeerId, Permit, SendError, Status, is_served,
};
use einmal_storage::{MemoryStore, TenantId};
use einmal_tests::{START_MS, Stranger, city_folder};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
const PONG: &str = "https://didcomm.org/trust-ping/2.0/ping-response";
/// How long a test waits for a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mediator on the loopback interface, with libp2p or without.
async fn node(with_p2p: bool) -> Arc<Node> {
    node_at("http://127.0.0.1:9", Config::new(Role::Mediator), with_p2p).await
}

async fn node_at(url: &str, config: Config, with_p2p: bool) -> Arc<Node> {
    node_on(Arc::new(MemoryStore::new()), url, config, with_p2p).await
}

/// A node on a disk that may have been another one's before.
async fn node_on(disk: Arc<MemoryStore>, url: &str, mut config: Config, with_p2p: bool) -> Arc<Node> {
    static SEED: AtomicU64 = AtomicU64::new(7);
    config.network = Network { allow_private: true, allow_http: true };
    config.p2p = with_p2p.then(|| P2pSettings {
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        mdns: false,
        ..P2pSettings::default()
    });
    let db = Db::new(disk as _, TenantId::default());
    let http = Arc::new(HttpClient::new(&config.network).unwrap());
    let entrance = Arc::new(Entrance::default());
    let peers = p2p::start(&config, &db, &entrance, Arc::clone(&http)).await.unwrap();
    assert_eq!(peers.is_some(), with_p2p);
    let transport = peers.map_or_else(|| Arc::clone(&http) as Arc<dyn Transport>, |peers| peers as _);
    let parts = Parts {
        config,
        db,
        mail: Arc::new(einmal_storage::mail::MemoryMail::new()),
        clock: Arc::new(ManualClock::at(START_MS)),
        entropy: Arc::new(SeededEntropy::new(SEED.fetch_add(1, Ordering::Relaxed))),
        transport,
        fetcher: http,
    };
    let node = Node::start(parts, url).await.unwrap();
    entrance.open(&node);
    node
}

/// Keeps what arrives by libp2p.
#[derive(Default)]
struct Keeper(Mutex<Vec<Vec<u8>>>);

impl Inbound for Keeper {
    fn receive(&self, _: PeerId, envelope: Vec<u8>) -> BoxFuture<Status> {
        self.0.lock().unwrap().push(envelope);
        Box::pin(async { Status::Accepted })
    }
}

async fn peer_host(seed: u8, keeper: &Arc<Keeper>) -> Host {
    let config = HostConfig {
        keypair_secret: Zeroizing::new([seed; 32]),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        announce: Vec::new(),
        mdns: false,
        relay_server: None,
        relays: Vec::new(),
        permit: Permit::new(|_| true),
        largest_envelope: 1024 * 1024,
        bounds: Bounds::default(),
    };
    Host::start(config, Arc::clone(keeper) as _).await.unwrap()
}

/// The endpoint of a host as it stands in a DID document.
fn described(host: &Host) -> Endpoint {
    let own = host.endpoint();
    let multi_addrs = own.addresses.iter().map(ToString::to_string).collect();
    Endpoint { multi_addrs, ..Endpoint::didcomm(own.uri()) }
}

/// The endpoint of a node as its own DID document says it.
fn published(node: &Node) -> PeerEndpoint {
    let resolver = einmal_did::LocalResolver::new();
    let document = einmal_did::Resolver::resolve(&resolver, node.public_did().unwrap()).unwrap();
    let endpoints: Vec<&Endpoint> = document.didcomm_endpoints().collect();
    assert!(endpoints[0].uri.starts_with("http"), "{endpoints:?}");
    let ours = endpoints.iter().find(|endpoint| is_served(&endpoint.uri)).unwrap();
    PeerEndpoint::parse(&ours.uri, &ours.multi_addrs).unwrap()
}

/// A web server that takes everything; what it took comes out of the channel.
fn web_server() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, taken) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = Vec::new();
            let mut buffer = [0; 16 * 1024];
            let whole = |bytes: &[u8]| {
                let head = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
                let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
                let length: usize = text.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
                (bytes.len() >= head + 4 + length).then(|| bytes[head + 4..].to_vec())
            };
            let body = loop {
                if let Some(body) = whole(&bytes) {
                    break body;
                }
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break Vec::new(),
                    Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                }
            };
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = sender.send(body);
        }
    });
    (url, taken)
}

fn ping(stranger: &Stranger, node: &Node) -> Vec<u8> {
    stranger.learn(node);
    let message = stranger.message(PING, node.public_did().unwrap(), json!({"response_requested": true}));
    stranger.pack(&message, SenderProtection::Authcrypt)
}

#[tokio::test]
async fn a_message_comes_and_its_answer_goes_by_libp2p_although_http_is_named_first() {
    let node = node(true).await;
    let keeper = Arc::new(Keeper::default());
    let host = peer_host(1, &keeper).await;
    let (url, taken) = web_server();
    let stranger = Stranger::reached_by(1, vec![Endpoint::didcomm(url), described(&host)]);
    host.send(&published(&node), ping(&stranger, &node)).await.unwrap();
    node.outbox_pass().await.unwrap();
    let kept = keeper.0.lock().unwrap().clone();
    assert_eq!(kept.len(), 1);
    assert_eq!(stranger.open(&kept[0]).message.kind.to_string(), PONG);
    assert!(taken.try_recv().is_err());
}

#[tokio::test]
async fn a_peer_that_left_libp2p_is_reached_by_http() {
    let node = node(true).await;
    let host = peer_host(2, &Arc::default()).await;
    let (url, taken) = web_server();
    let stranger = Stranger::reached_by(2, vec![described(&host), Endpoint::didcomm(url)]);
    drop(host);
    let receipt = node.receive(&ping(&stranger, &node), Arrival::Libp2p).await;
    assert_eq!((receipt.refused, receipt.replies.len()), (None, 0));
    node.outbox_pass().await.unwrap();
    let body = taken.recv_timeout(PATIENCE).unwrap();
    assert_eq!(stranger.open(&body).message.kind.to_string(), PONG);
}

#[tokio::test]
async fn a_message_stays_in_the_outbox_while_its_only_way_does_not_answer() {
    let node = node(true).await;
    let host = peer_host(3, &Arc::default()).await;
    // The second way can never work: it must not decide for the first.
    let ways = vec![described(&host), Endpoint::didcomm("gopher://nowhere.example")];
    let stranger = Stranger::reached_by(3, ways);
    drop(host);
    node.receive(&ping(&stranger, &node), Arrival::Libp2p).await;
    node.outbox_pass().await.unwrap();
    let status = node.command("status", &json!({})).await.unwrap();
    assert_eq!((&status["outbox"], &status["given_up"]), (&json!(1), &json!(0)), "{status}");
}

#[tokio::test]
async fn without_libp2p_its_endpoints_are_passed_over() {
    let node = node(false).await;
    let keeper = Arc::new(Keeper::default());
    let host = peer_host(4, &keeper).await;
    let (url, taken) = web_server();
    let stranger = Stranger::reached_by(4, vec![described(&host), Endpoint::didcomm(url)]);
    node.receive(&ping(&stranger, &node), Arrival::Http).await;
    node.outbox_pass().await.unwrap();
    assert!(taken.recv_timeout(PATIENCE).is_ok());
    assert!(keeper.0.lock().unwrap().is_empty());
    assert_eq!(node.stats().to_json()["send_failures"], 0);
}

#[tokio::test]
async fn what_does_not_open_is_refused_on_the_stream() {
    let node = node(true).await;
    let host = peer_host(5, &Arc::default()).await;
    let told = host.send(&published(&node), b"{}".to_vec()).await;
    assert_eq!(told, Err(SendError::Refused { status: Status::Refused }));
}

#[tokio::test]
async fn a_question_whose_answer_is_needed_at_once_does_not_go_by_libp2p() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mediator = node_at(&url, Config::new(Role::Mediator), true).await;
    tokio::spawn(server::serve(Arc::clone(&mediator), listener, std::future::pending()));
    let invitation = mediator.command("invite", &json!({})).await.unwrap();
    let mut config = Config::new(Role::Citizen);
    config.citizen.as_mut().unwrap().mediator = Some(invitation["invitation"].as_str().unwrap().to_owned());
    let citizen = node_at("", config, true).await;
    citizen.visit_mailbox().await.unwrap();
    let mailbox = citizen.command("mailbox", &json!({})).await.unwrap();
    assert_eq!((&mailbox["granted"], &mailbox["spares"]), (&json!(true), &json!(4)), "{mailbox}");
    assert_eq!(mediator.stats().to_json()["duplicates"], 0);
}

#[tokio::test]
async fn a_wallet_that_is_away_finds_in_its_mailbox_what_libp2p_could_not_bring() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mediator = node_at(&url, Config::new(Role::Mediator), true).await;
    tokio::spawn(server::serve(Arc::clone(&mediator), listener, std::future::pending()));
    let invitation = mediator.command("invite", &json!({})).await.unwrap();
    let mut wallet = Config::new(Role::Citizen);
    wallet.citizen.as_mut().unwrap().mediator = Some(invitation["invitation"].as_str().unwrap().to_owned());
    let mut till = Config::new(Role::Merchant);
    till.merchant.as_mut().unwrap().requests = city_folder().join("requests");
    let merchant = node_at("", till, true).await;
    let disk = Arc::new(MemoryStore::new());
    let citizen = node_on(Arc::clone(&disk), "", wallet.clone(), true).await;
    citizen.visit_mailbox().await.unwrap();
    let invitation = merchant.command("invite", &json!({})).await.unwrap();
    citizen.command("accept", &json!({"url": invitation["invitation"]})).await.unwrap();
    citizen.outbox_pass().await.unwrap();
    // The ping came directly. Before it is answered, the wallet goes away.
    assert_eq!(
        (&citizen.stats().to_json()["sent"], mediator.stats().to_json()["queued"].as_u64()),
        (&json!(1), Some(0))
    );
    drop(citizen);
    tokio::time::sleep(Duration::from_millis(200)).await;
    merchant.outbox_pass().await.unwrap();
    assert_eq!(mediator.stats().to_json()["queued"], 1);
    let citizen = node_on(disk, "", wallet, false).await;
    citizen.visit_mailbox().await.unwrap();
    assert_eq!(citizen.stats().to_json()["accepted"], 1);
    assert_eq!(mediator.stats().to_json()["delivered"], 1);
}

/// A libp2p host made with another library, in a process of its own.
struct Foreign {
    child: Child,
    orders: ChildStdin,
    said: mpsc::Receiver<Value>,
}

impl Foreign {
    /// Starts the script with the interpreter that `tests/interop/run.sh` prepares.
    fn start() -> Option<Self> {
        let Some(python) = std::env::var_os("EINMAL_INTEROP_LIBP2P_PYTHON") else {
            eprintln!("skipped: EINMAL_INTEROP_LIBP2P_PYTHON is not set; use tests/interop/run.sh");
            return None;
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/python/libp2p_0_8_1.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (orders, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Its library prints of its own accord as well.
                if let Ok(thing) = serde_json::from_str(&line) {
                    let _ = sender.send(thing);
                }
            }
        });
        Some(Self { child, orders, said })
    }

    fn hear(&self) -> Value {
        self.said.recv_timeout(PATIENCE).unwrap()
    }

    fn send(&mut self, to: &PeerEndpoint, message: &[u8]) -> Value {
        writeln!(self.orders, "{} {}", to.addresses[0], base64url_encode(message)).unwrap();
        self.hear()["status"].clone()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_another_make_is_heard_and_answered() {
    let Some(mut foreign) = Foreign::start() else { return };
    let node = node(true).await;
    let own = foreign.hear();
    let multi_addrs: Vec<String> =
        own["addresses"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect();
    let uri = format!("libp2p-peerId:{}", own["peer_id"].as_str().unwrap());
    let stranger = Stranger::reached_by(6, vec![Endpoint { multi_addrs, ..Endpoint::didcomm(uri) }]);
    let to = published(&node);
    assert_eq!(foreign.send(&to, &ping(&stranger, &node)), Status::Accepted.code());
    node.outbox_pass().await.unwrap();
    let received = base64url_decode(foreign.hear()["received"].as_str().unwrap()).unwrap();
    assert_eq!(stranger.open(&received).message.kind.to_string(), PONG);
    assert_eq!(foreign.send(&to, b"{}"), Status::Refused.code());
    assert_eq!(foreign.send(&to, &vec![b' '; 1024 * 1024 + 1]), Status::TooLarge.code());
}
