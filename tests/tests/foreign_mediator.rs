//! A wallet with a foreign mediator: whatever that mediator delivers must never keep the rest from the wallet's owner.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{sync::Arc, time::Duration};

use einmal::{
    config::{Config, Role},
    node::Node,
};
use einmal_did::Did;
use einmal_didcomm::SenderProtection;
use einmal_flows::out_of_band::Invitation;
use einmal_storage::MemoryStore;
use einmal_tests::{ByName, Fault, MediatorSimulator, Stranger, node_on, web_server};
use serde_json::{Value, json};

const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
/// How long a test waits for a message.
const PATIENCE: Duration = Duration::from_secs(30);

fn invitation(from: &Did, goal_code: &str) -> String {
    let invitation = json!({
        "id": "1", "type": "https://didcomm.org/out-of-band/2.0/invitation", "from": from,
        "body": {"goal_code": goal_code},
    });
    Invitation::from_json(invitation.to_string().as_bytes()).unwrap().to_url("https://anywhere.example/")
}

/// A wallet with an account at `mediator`.
async fn wallet_at(mediator: &MediatorSimulator) -> Arc<Node> {
    let mut config = Config::new(Role::Citizen);
    config.citizen.as_mut().unwrap().mediator = Some(invitation(&mediator.did, "request-mediate"));
    let wallet = node_on(Arc::new(MemoryStore::new()), "", config, false).await;
    wallet.visit_mailbox().await.unwrap();
    assert_eq!(mediator.registered().len(), 4);
    wallet
}

/// A peer with which the wallet has a relationship, and the wallet's DID for it.
async fn peer_of(wallet: &Arc<Node>) -> (Stranger, Did) {
    let (url, taken) = web_server();
    let peer = Stranger::reached_at(1, &url);
    let url = invitation(peer.did(), "einmal.connect");
    wallet.by_name("accept", &json!({ "url": url })).await.unwrap();
    wallet.outbox_pass().await.unwrap();
    let ping = peer.open(&taken.recv_timeout(PATIENCE).unwrap());
    let theirs = ping.message.from.clone().unwrap();
    (peer, theirs)
}

/// A ping from the peer as a letter, made longer by `padding` bytes.
fn letter(peer: &Stranger, theirs: &Did, padding: usize) -> Vec<u8> {
    let body = json!({"response_requested": false, "padding": "x".repeat(padding)});
    let ping = peer.message(PING, theirs, body);
    peer.pack(&ping, SenderProtection::Authcrypt)
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!({ "ciphertext": inner }))
}

#[tokio::test]
async fn letters_no_strict_reader_takes_do_not_keep_the_others_from_their_owner() {
    let mediator = MediatorSimulator::start(Fault::DeliversJson).await;
    let wallet = wallet_at(&mediator).await;
    let (peer, theirs) = peer_of(&wallet).await;
    let many: Value = (0..5_000).map(|_| json!({})).collect();
    for payload in [nested(60), json!({ "ciphertext": many }), json!([]), json!("text")] {
        mediator.queue(&theirs, payload.to_string().as_bytes());
    }
    mediator.queue(&theirs, &letter(&peer, &theirs, 0));
    wallet.visit_mailbox().await.unwrap();
    let stats = wallet.stats().to_json();
    assert_eq!(
        (&stats["received"], &stats["accepted"], &stats["refused"]),
        (&json!(5), &json!(1), &json!(4))
    );
    assert_eq!(mediator.waiting(), 0, "what nobody can read is confirmed, or it would come for ever");
}

#[tokio::test]
async fn letters_of_a_sender_that_cannot_be_resolved_stand_before_nobody() {
    let mediator = MediatorSimulator::start(Fault::None).await;
    let wallet = wallet_at(&mediator).await;
    let (peer, theirs) = peer_of(&wallet).await;
    // Nobody serves this document, but it may be there later.
    let (gone, _) = Stranger::of_the_web(3, &Did::parse("did:web:127.0.0.1%3A1").unwrap());
    for _ in 0..60 {
        mediator.queue(&theirs, &letter(&gone, &theirs, 0));
    }
    mediator.queue(&theirs, &letter(&peer, &theirs, 0));
    wallet.visit_mailbox().await.unwrap();
    assert_eq!((&wallet.stats().to_json()["accepted"], mediator.waiting()), (&json!(1), 0));
}

#[tokio::test]
async fn deliveries_too_large_for_an_envelope_are_asked_for_in_smaller_parts() {
    let mediator = MediatorSimulator::start(Fault::None).await;
    let wallet = wallet_at(&mediator).await;
    let (peer, theirs) = peer_of(&wallet).await;
    for _ in 0..4 {
        mediator.queue(&theirs, &letter(&peer, &theirs, 300 * 1024));
    }
    wallet.visit_mailbox().await.unwrap();
    assert_eq!((&wallet.stats().to_json()["accepted"], mediator.waiting()), (&json!(4), 0));
}
