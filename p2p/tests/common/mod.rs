//! Hosts on the loopback interface, and receivers for their messages.
#![allow(dead_code, reason = "not every file of tests uses everything")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use einmal_p2p::{
    Bounds, BoxFuture, Host, HostConfig, Inbound, PeerEndpoint, PeerId, Permit, Source, Status,
};
use tokio::sync::Notify;
use zeroize::Zeroizing;

/// Largest message in these tests, in bytes.
pub(crate) const LARGEST: usize = 64 * 1024;
/// Longest a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps what arrives and always answers with the same status.
pub(crate) struct Keeper {
    pub(crate) kept: Mutex<Vec<Vec<u8>>>,
    pub(crate) from: Mutex<Vec<PeerId>>,
    pub(crate) sources: Mutex<Vec<Source>>,
    pub(crate) answer: Status,
}

impl Keeper {
    pub(crate) fn new(answer: Status) -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), from: Mutex::default(), sources: Mutex::default(), answer })
    }

    pub(crate) fn kept(&self) -> Vec<Vec<u8>> {
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

/// Answers when told to.
#[derive(Default)]
pub(crate) struct Slow {
    pub(crate) begun: Notify,
    pub(crate) go: Arc<Notify>,
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

pub(crate) fn config(seed: u8) -> HostConfig {
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

pub(crate) async fn host(config: HostConfig) -> Host {
    Host::start(config, Keeper::new(Status::Accepted)).await.unwrap()
}

/// The endpoint as in a DID document: converted to text and back.
pub(crate) fn named(host: &Host) -> PeerEndpoint {
    let endpoint = host.endpoint();
    let texts: Vec<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
    PeerEndpoint::parse(&endpoint.uri(), &texts).unwrap()
}
