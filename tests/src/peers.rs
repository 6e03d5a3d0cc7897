//! Nodes and hosts that reach each other by libp2p on the loopback interface, and a web server that only listens.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use einmal::{
    clock::ManualClock,
    config::{Config, Network, P2pSettings},
    db::Db,
    net::{
        Transport,
        client::HttpClient,
        p2p::{self, Entrance},
    },
    node::{Node, Parts},
};
use einmal_did::Endpoint;
use einmal_keys::SeededEntropy;
use einmal_p2p::{
    Bounds, BoxFuture, Host, HostConfig, Inbound, PeerEndpoint, PeerId, Permit, Source, Status, is_served,
};
use einmal_storage::{MemoryStore, TenantId, mail::Mail};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::START_MS;

/// Longest a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node on a disk that may have belonged to an earlier node.
pub async fn node_on(disk: Arc<MemoryStore>, url: &str, config: Config, with_p2p: bool) -> Arc<Node> {
    let mail = Arc::new(einmal_storage::mail::MemoryMail::new());
    node_with(disk, mail, url, config, with_p2p).await
}

/// A node on a disk that may have belonged to an earlier node, with this mail.
pub async fn node_with(
    disk: Arc<MemoryStore>,
    mail: Arc<dyn Mail>,
    url: &str,
    mut config: Config,
    with_p2p: bool,
) -> Arc<Node> {
    static SEED: AtomicU64 = AtomicU64::new(7);
    config.network = Network { allow_private: true, allow_http: true };
    config.p2p = with_p2p.then(|| P2pSettings {
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        mdns: Some(false),
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
        mail,
        clock: Arc::new(ManualClock::at(START_MS)),
        entropy: Arc::new(SeededEntropy::new(SEED.fetch_add(1, Ordering::Relaxed))),
        transport,
        fetcher: http,
    };
    let node = Node::start(parts, url).await.unwrap();
    entrance.open(&node);
    node
}

/// Keeps what arrives by libp2p, and answers as told.
#[derive(Debug)]
pub struct Keeper {
    kept: Mutex<VecDeque<(PeerId, Vec<u8>)>>,
    came: Notify,
    /// Its answer; `None` for no answer at all.
    answer: Mutex<Option<Status>>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self { kept: Mutex::default(), came: Notify::new(), answer: Mutex::new(Some(Status::Accepted)) }
    }
}

impl Keeper {
    /// Sets the answer from now on; `None` for no answer at all.
    pub fn answer(&self, answer: Option<Status>) {
        *self.answer.lock().unwrap() = answer;
    }

    /// What has arrived and was not taken yet.
    pub fn kept(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap().iter().map(|(_, envelope)| envelope.clone()).collect()
    }

    fn take(&self) -> Option<(PeerId, Vec<u8>)> {
        self.kept.lock().unwrap().pop_front()
    }

    /// Waits for the first arrival and takes it, with its sender.
    pub async fn next(&self) -> (PeerId, Vec<u8>) {
        let first = async {
            loop {
                if let Some(first) = self.take() {
                    return first;
                }
                self.came.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, first).await.unwrap()
    }
}

impl Inbound for Keeper {
    fn receive(&self, from: PeerId, _: Source, envelope: Vec<u8>) -> BoxFuture<Status> {
        self.kept.lock().unwrap().push_back((from, envelope));
        self.came.notify_one();
        let answer = *self.answer.lock().unwrap();
        Box::pin(async move {
            match answer {
                Some(status) => status,
                None => std::future::pending().await,
            }
        })
    }
}

/// A host without a node.
pub async fn peer_host(seed: u8, keeper: &Arc<Keeper>) -> Host {
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

/// The endpoint of a host, as in a DID document.
pub fn described(host: &Host) -> Endpoint {
    let own = host.endpoint();
    let multi_addrs = own.addresses.iter().map(ToString::to_string).collect();
    Endpoint { multi_addrs, ..Endpoint::didcomm(own.uri()) }
}

/// The endpoint of a node, from its own DID document.
pub fn published(node: &Node) -> PeerEndpoint {
    let resolver = einmal_did::LocalResolver::new();
    let document = einmal_did::Resolver::resolve(&resolver, node.public_did().unwrap()).unwrap();
    let endpoints: Vec<&Endpoint> = document.didcomm_endpoints().collect();
    assert!(endpoints[0].uri.starts_with("http"), "{endpoints:?}");
    let ours = endpoints.iter().find(|endpoint| is_served(&endpoint.uri)).unwrap();
    PeerEndpoint::parse(&ours.uri, &ours.multi_addrs).unwrap()
}

/// A web server that accepts everything and passes it to the channel.
pub fn web_server() -> (String, mpsc::Receiver<Vec<u8>>) {
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
