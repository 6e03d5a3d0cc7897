//! Which way a message takes if a peer can be reached in several ways, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use einmal::{
    config::{Config, Role},
    net::server,
    node::{Arrival, Node},
};
use einmal_did::Endpoint;
use einmal_didcomm::SenderProtection;
use einmal_keys::{base64url_decode, base64url_encode};
use einmal_p2p::{PeerEndpoint, SendError, Status};
use einmal_storage::MemoryStore;
use einmal_tests::{
    ByName, Keeper, Stranger, city_folder, described, node_on, peer_host, published, web_server,
};
use serde_json::{Value, json};

const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
/// By a stream whose connection carries nothing back.
const BY_STREAM: Arrival = Arrival::Libp2p { answerable: false, from: None };
const PONG: &str = "https://didcomm.org/trust-ping/2.0/ping-response";
/// How long a test waits for a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mediator on the loopback interface, with or without libp2p.
async fn node(with_p2p: bool) -> Arc<Node> {
    node_at("http://127.0.0.1:9", Config::new(Role::Mediator), with_p2p).await
}

async fn node_at(url: &str, config: Config, with_p2p: bool) -> Arc<Node> {
    node_on(Arc::new(MemoryStore::new()), url, config, with_p2p).await
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
    let kept = keeper.kept();
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
    let receipt = node.receive(&ping(&stranger, &node), BY_STREAM).await;
    assert_eq!((receipt.refused, receipt.replies.len()), (None, 0));
    node.outbox_pass().await.unwrap();
    let body = taken.recv_timeout(PATIENCE).unwrap();
    assert_eq!(stranger.open(&body).message.kind.to_string(), PONG);
}

#[tokio::test]
async fn a_message_stays_in_the_outbox_while_its_only_way_does_not_answer() {
    let node = node(true).await;
    let host = peer_host(3, &Arc::default()).await;
    // The second way can never work, but must not decide the fate of the first.
    let ways = vec![described(&host), Endpoint::didcomm("gopher://nowhere.example")];
    let stranger = Stranger::reached_by(3, ways);
    drop(host);
    node.receive(&ping(&stranger, &node), BY_STREAM).await;
    node.outbox_pass().await.unwrap();
    let status = node.by_name("status", &json!({})).await.unwrap();
    assert_eq!((&status["outbox"], &status["given_up"]), (&json!(1), &json!(0)), "{status}");
}

#[tokio::test]
async fn without_libp2p_its_endpoints_are_passed_over() {
    let node = node(false).await;
    let keeper = Arc::new(Keeper::default());
    let host = peer_host(4, &keeper).await;
    let (url, taken) = web_server();
    let stranger = Stranger::reached_by(4, vec![described(&host), Endpoint::didcomm(url)]);
    node.receive(&ping(&stranger, &node), Arrival::Http { from: None }).await;
    node.outbox_pass().await.unwrap();
    assert!(taken.recv_timeout(PATIENCE).is_ok());
    assert!(keeper.kept().is_empty());
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
    let invitation = mediator.by_name("invite", &json!({})).await.unwrap();
    let mut config = Config::new(Role::Citizen);
    config.citizen.as_mut().unwrap().mediator = Some(invitation["invitation"].as_str().unwrap().to_owned());
    let citizen = node_at("", config, true).await;
    citizen.visit_mailbox().await.unwrap();
    let mailbox = citizen.by_name("mailbox", &json!({})).await.unwrap();
    assert_eq!((&mailbox["granted"], &mailbox["spares"]), (&json!(true), &json!(4)), "{mailbox}");
    assert_eq!(mediator.stats().to_json()["duplicates"], 0);
}

#[tokio::test]
async fn a_wallet_that_is_away_finds_in_its_mailbox_what_libp2p_could_not_bring() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mediator = node_at(&url, Config::new(Role::Mediator), true).await;
    tokio::spawn(server::serve(Arc::clone(&mediator), listener, std::future::pending()));
    let invitation = mediator.by_name("invite", &json!({})).await.unwrap();
    let mut wallet = Config::new(Role::Citizen);
    wallet.citizen.as_mut().unwrap().mediator = Some(invitation["invitation"].as_str().unwrap().to_owned());
    let mut till = Config::new(Role::Merchant);
    till.merchant.as_mut().unwrap().requests = city_folder().join("requests");
    let merchant = node_at("", till, true).await;
    let disk = Arc::new(MemoryStore::new());
    let citizen = node_on(Arc::clone(&disk), "", wallet.clone(), true).await;
    citizen.visit_mailbox().await.unwrap();
    let invitation = merchant.by_name("invite", &json!({})).await.unwrap();
    citizen.by_name("accept", &json!({"url": invitation["invitation"]})).await.unwrap();
    citizen.outbox_pass().await.unwrap();
    // The ping was sent directly. Before it is answered, the wallet goes away.
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

/// A libp2p host made with another library, in a separate process.
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
                // Its library also prints lines of its own.
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
