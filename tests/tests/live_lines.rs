//! Mail over libp2p: answers use the connection that asked, go only to the owner, and wait until acknowledged; such a
//! line also wakes a citizen.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use einmal::{
    config::{CitizenSettings, Config, Role},
    net::server,
    node::{Arrival, Node, Refusal},
};
use einmal_did::Did;
use einmal_didcomm::{Message, MessageId, ReturnRoute, SenderProtection};
use einmal_flows::out_of_band::Invitation;
use einmal_p2p::{Held, Host, PeerEndpoint, Status};
use einmal_storage::MemoryStore;
use einmal_tests::{ByName, Keeper, Stranger, described, node_on, peer_host, published, web_server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a test waits for something that must not come.
const QUIET: Duration = Duration::from_millis(300);
/// Less than the minute between two mailbox checks.
const SOON: Duration = Duration::from_secs(10);

const MEDIATION: &str = "https://didcomm.org/coordinate-mediation/3.0";
const PICKUP_3: &str = "https://didcomm.org/messagepickup/3.0";
const PICKUP_4: &str = "https://didcomm.org/message-pickup/4.0";
const PING: &str = "https://didcomm.org/trust-ping/2.0/ping";
const TEXT: &str = "https://didcomm.org/basicmessage/2.0/message";

/// A mediator with libp2p.
struct Scene {
    node: Arc<Node>,
    mediator: Did,
    endpoint: PeerEndpoint,
}

async fn scene() -> Scene {
    scene_at("http://127.0.0.1:9").await
}

async fn scene_at(url: &str) -> Scene {
    let node = node_on(Arc::default(), url, Config::new(Role::Mediator), true).await;
    let (mediator, endpoint) = (node.public_did().unwrap().clone(), published(&node));
    Scene { node, mediator, endpoint }
}

/// A libp2p host of some person.
struct Peer {
    host: Host,
    keeper: Arc<Keeper>,
}

async fn peer(seed: u8) -> Peer {
    let keeper = Arc::new(Keeper::default());
    Peer { host: peer_host(seed, &keeper).await, keeper }
}

impl Peer {
    async fn next(&self) -> Vec<u8> {
        self.keeper.next().await.1
    }

    async fn raw(&self) -> Value {
        serde_json::from_slice(&self.next().await).unwrap()
    }

    async fn stays_silent(&self) -> bool {
        tokio::time::sleep(QUIET).await;
        self.keeper.kept().is_empty()
    }
}

impl Scene {
    /// A person with an account, whose own DID is registered.
    async fn member(&self, seed: u64) -> Stranger {
        let member = Stranger::new(seed);
        member.enrol(&self.node).await;
        member
    }

    /// Sends a request as if by HTTP.
    async fn ask(&self, who: &Stranger, kind: &str, body: Value) -> Message {
        who.ask(&self.node, &who.message(kind, &self.mediator, body)).await
    }

    async fn send(&self, who: &Stranger, peer: &Peer, message: &Message) {
        let envelope = who.pack(message, SenderProtection::Authcrypt);
        peer.host.send(&self.endpoint, envelope).await.unwrap();
    }

    fn change(&self, who: &Stranger, family: &str, on: bool) -> Message {
        who.message(&format!("{family}/live-delivery-change"), &self.mediator, json!({"live_delivery": on}))
    }

    /// Switches live delivery on the connection of `peer` and returns the answer.
    async fn switch(&self, who: &Stranger, peer: &Peer, family: &str, on: bool) -> Message {
        self.send(who, peer, &self.change(who, family, on)).await;
        who.open(&peer.next().await).message
    }

    /// Sends mail for `to`; returns the envelope that must arrive.
    async fn mail(&self, to: &Did, inner: Value) -> Value {
        let sender = Stranger::new(99);
        let forward = sender.forward(&self.mediator, to, inner.clone());
        assert_eq!(sender.say(&self.node, &forward).await.refused, None);
        inner
    }

    async fn letter(&self, to: &Stranger, text: &str) -> Value {
        let inner = json!({"ciphertext": text, "protected": "x", "recipients": [], "iv": "x", "tag": "x"});
        self.mail(to.did(), inner).await
    }

    /// Whether mail for `who` is pushed anywhere.
    fn is_live(&self, who: &Stranger) -> bool {
        self.node.is_live(who.did())
    }

    async fn waiting(&self, who: &Stranger) -> Value {
        self.ask(who, &format!("{PICKUP_3}/status-request"), json!({})).await.body["message_count"].clone()
    }

    async fn is_no_longer_live(&self, who: &Stranger) {
        let begun = Instant::now();
        while self.is_live(who) {
            assert!(begun.elapsed() < PATIENCE, "the session is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn ends(held: &mut Held) {
    tokio::time::timeout(PATIENCE, held.ended()).await.unwrap();
}

#[tokio::test]
async fn third_version_pushes_raw_and_keeps_the_letter_until_it_is_acknowledged() {
    let (scene, phone) = (scene().await, peer(1).await);
    let alice = scene.member(1).await;
    let waiting = scene.letter(&alice, "before").await;
    let status = scene.switch(&alice, &phone, PICKUP_3, true).await;
    assert!(status.kind.is(&format!("{PICKUP_3}/status")));
    assert_eq!((&status.body["message_count"], &status.body["live_delivery"]), (&json!(1), &json!(true)));
    assert!(phone.stays_silent().await, "what waited already is not flushed");
    let pushed = scene.letter(&alice, "after").await;
    let (from, envelope) = phone.keeper.next().await;
    assert_eq!(from, scene.endpoint.peer_id);
    assert_eq!(serde_json::from_slice::<Value>(&envelope).unwrap(), pushed);
    let kind = format!("{PICKUP_3}/delivery-request");
    let delivery = scene.ask(&alice, &kind, json!({"limit": 10})).await;
    let found: Vec<Value> = delivery.attachments.iter().map(|one| one.to_json().unwrap()).collect();
    assert_eq!(found, [waiting, pushed], "both are still kept");
}

#[tokio::test]
async fn fourth_version_pushes_in_a_delivery_whose_ids_acknowledge() {
    let (scene, phone) = (scene().await, peer(2).await);
    let alice = scene.member(1).await;
    let status = scene.switch(&alice, &phone, PICKUP_4, true).await;
    assert!(status.kind.is(&format!("{PICKUP_4}/status")));
    let mail = scene.letter(&alice, "one").await;
    let delivery = alice.open(&phone.next().await).message;
    assert!(delivery.kind.is(&format!("{PICKUP_4}/delivery")));
    assert_eq!(delivery.attachments[0].to_json().unwrap(), mail);
    assert_eq!(scene.waiting(&alice).await, 1);
    let ids = json!({"message_id_list": [delivery.attachments[0].id]});
    let mut received = alice.message(&format!("{PICKUP_4}/messages-received"), &scene.mediator, ids);
    received.return_route = Some(ReturnRoute::All);
    scene.send(&alice, &phone, &received).await;
    assert_eq!(alice.open(&phone.next().await).message.body["message_count"], 0);
}

#[tokio::test]
async fn letters_come_in_order() {
    let (scene, phone) = (scene().await, peer(3).await);
    let alice = scene.member(1).await;
    scene.switch(&alice, &phone, PICKUP_3, true).await;
    for number in 0..100 {
        scene.letter(&alice, &number.to_string()).await;
    }
    for number in 0..100 {
        assert_eq!(phone.raw().await["ciphertext"], number.to_string());
    }
}

#[tokio::test]
async fn nobody_else_gets_what_is_pushed_and_two_accounts_of_one_peer_are_two() {
    let (scene, hers, his) = (scene().await, peer(4).await, peer(5).await);
    let (alice, bob, carol) = (scene.member(1).await, scene.member(2).await, scene.member(3).await);
    scene.switch(&alice, &hers, PICKUP_3, true).await;
    scene.switch(&carol, &hers, PICKUP_4, true).await;
    scene.switch(&bob, &his, PICKUP_3, true).await;
    let mail = scene.letter(&alice, "for Alice").await;
    assert_eq!(hers.raw().await, mail);
    scene.letter(&carol, "for Carol").await;
    assert!(carol.open(&hers.next().await).message.kind.is(&format!("{PICKUP_4}/delivery")));
    assert!(his.stays_silent().await);
    // One ends, the other stays.
    let status = scene.switch(&alice, &hers, PICKUP_3, false).await;
    assert_eq!(status.body["live_delivery"], false);
    scene.letter(&alice, "later").await;
    scene.letter(&carol, "now").await;
    assert!(carol.open(&hers.next().await).message.kind.is(&format!("{PICKUP_4}/delivery")));
    assert!(hers.stays_silent().await);
}

#[tokio::test]
async fn only_what_asks_for_it_is_answered_on_the_connection() {
    let (scene, phone) = (scene().await, peer(6).await);
    let alice = Stranger::new(1);
    let mut ping = alice.message(PING, &scene.mediator, json!({"response_requested": true}));
    scene.send(&alice, &phone, &ping).await;
    assert!(phone.stays_silent().await);
    ping.id = MessageId::random(alice.entropy()).unwrap();
    ping.return_route = Some(ReturnRoute::All);
    scene.send(&alice, &phone, &ping).await;
    let pong = alice.open(&phone.next().await).message;
    assert_eq!(pong.thid.unwrap(), ping.id.to_thread());
    // Live delivery is not answered there either, if that was asked for.
    let bob = scene.member(2).await;
    let mut change = scene.change(&bob, PICKUP_3, true);
    change.return_route = Some(ReturnRoute::None);
    scene.send(&bob, &phone, &change).await;
    assert!(phone.stays_silent().await);
    assert!(scene.is_live(&bob));
}

#[tokio::test]
async fn a_stranger_without_account_is_refused_live_delivery() {
    let (scene, phone) = (scene().await, peer(7).await);
    let report = scene.switch(&Stranger::new(6), &phone, PICKUP_3, true).await;
    assert_eq!(report.body["code"], "e.p.req.not_enroll");
}

#[tokio::test]
async fn live_delivery_where_nothing_can_go_back_is_declined_by_its_code() {
    let (scene, phone) = (scene().await, peer(8).await);
    let alice = scene.member(1).await;
    for family in [PICKUP_3, PICKUP_4] {
        let report = alice.ask(&scene.node, &scene.change(&alice, family, true)).await;
        assert_eq!(report.body["code"], "e.m.live-mode-not-supported", "{family}");
    }
    // Over libp2p without a way back, the refusal goes to the sender's own endpoint.
    let bob = Stranger::reached_by(2, vec![described(&phone.host)]);
    scene.ask(&bob, &format!("{MEDIATION}/mediate-request"), json!({})).await;
    let change = bob.pack(&scene.change(&bob, PICKUP_3, true), SenderProtection::Authcrypt);
    let receipt = scene.node.receive(&change, Arrival::Libp2p { answerable: false, from: None }).await;
    assert_eq!((receipt.refused, receipt.replies.len()), (None, 0));
    scene.node.outbox_pass().await.unwrap();
    let report = bob.open(&phone.next().await).message;
    assert_eq!(report.body["code"], "e.m.live-mode-not-supported");
    assert!(!scene.is_live(&bob));
}

#[tokio::test]
async fn a_replayed_switch_binds_no_other_connection() {
    let (scene, hers, thief) = (scene().await, peer(9).await, peer(10).await);
    let alice = scene.member(1).await;
    let change = alice.pack(&scene.change(&alice, PICKUP_3, true), SenderProtection::Authcrypt);
    hers.host.send(&scene.endpoint, change.clone()).await.unwrap();
    hers.next().await;
    thief.host.send(&scene.endpoint, change).await.unwrap();
    assert_eq!(alice.open(&thief.next().await).message.body["code"], "e.p.crypto.message.dejavu");
    scene.letter(&alice, "for Alice").await;
    hers.next().await;
    assert!(thief.stays_silent().await);
}

#[tokio::test]
async fn a_switch_recorded_before_a_restart_binds_nothing_after_it() {
    let (disk, by_line) = (Arc::new(MemoryStore::new()), Arrival::Libp2p { answerable: true, from: None });
    let start = || node_on(Arc::clone(&disk), "http://127.0.0.1:9", Config::new(Role::Mediator), true);
    let node = start().await;
    let (mediator, endpoint) = (node.public_did().unwrap().clone(), published(&node));
    let scene = Scene { node, mediator, endpoint };
    let alice = scene.member(1).await;
    let change = alice.pack(&scene.change(&alice, PICKUP_3, true), SenderProtection::Authcrypt);
    let receipt = scene.node.receive(&change, by_line).await;
    assert_eq!(alice.open(&receipt.replies[0]).message.body["live_delivery"], true);
    drop(scene);
    let receipt = start().await.receive(&change, by_line).await;
    assert_eq!(alice.open(&receipt.replies[0]).message.body["code"], "e.p.crypto.message.dejavu");
}

#[tokio::test]
async fn a_line_that_ends_takes_its_session_along_and_mail_waits() {
    let (scene, phone) = (scene().await, peer(11).await);
    let alice = scene.member(1).await;
    scene.switch(&alice, &phone, PICKUP_3, true).await;
    assert!(scene.is_live(&alice));
    drop(phone.host);
    scene.is_no_longer_live(&alice).await;
    scene.letter(&alice, "one").await;
    assert_eq!(scene.waiting(&alice).await, 1);
    assert_eq!(scene.node.stats().to_json()["pushed"], 0);
}

#[tokio::test]
async fn a_peer_that_is_back_at_once_is_live_on_its_new_connection_only() {
    let (scene, phone) = (scene().await, peer(19).await);
    let (alice, bob) = (scene.member(1).await, scene.member(2).await);
    scene.switch(&bob, &phone, PICKUP_3, true).await;
    for number in 0..10 {
        scene.switch(&alice, &phone, PICKUP_3, true).await;
        let mail = scene.letter(&alice, &number.to_string()).await;
        assert_eq!(phone.raw().await, mail);
        // The connection closes while something is on its way.
        phone.keeper.answer(None);
        scene.letter(&alice, &format!("lost {number}")).await;
        phone.next().await;
        phone.keeper.answer(Some(Status::Accepted));
        let mut held = phone.host.hold(scene.endpoint.peer_id).unwrap();
        phone.host.hold(scene.endpoint.peer_id).unwrap().hang_up();
        ends(&mut held).await;
    }
    scene.switch(&alice, &phone, PICKUP_3, true).await;
    assert!(!scene.is_live(&bob), "he did not ask again");
}

#[tokio::test]
async fn a_letter_its_reader_refuses_ends_no_line_but_a_reader_that_refuses_all_has_none() {
    let (scene, phone) = (scene().await, peer(12).await);
    let alice = scene.member(1).await;
    scene.switch(&alice, &phone, PICKUP_3, true).await;
    let mut held = phone.host.hold(scene.endpoint.peer_id).unwrap();
    phone.keeper.answer(Some(Status::Refused));
    for number in 0..32 {
        scene.letter(&alice, &number.to_string()).await;
        phone.next().await;
    }
    phone.keeper.answer(Some(Status::Accepted));
    scene.letter(&alice, "good").await;
    phone.next().await;
    assert!(scene.is_live(&alice));
    phone.keeper.answer(Some(Status::Busy));
    for number in 32..65 {
        scene.letter(&alice, &number.to_string()).await;
        phone.next().await;
    }
    ends(&mut held).await;
    assert!(!scene.is_live(&alice));
    assert_eq!(scene.waiting(&alice).await, 66);
}

#[tokio::test]
async fn a_reader_that_does_not_read_loses_its_line_and_holds_nobody_up() {
    let (scene, mute, phone) = (scene().await, peer(13).await, peer(14).await);
    let (alice, bob) = (scene.member(1).await, scene.member(2).await);
    scene.switch(&alice, &mute, PICKUP_3, true).await;
    scene.switch(&bob, &phone, PICKUP_3, true).await;
    let mut held = mute.host.hold(scene.endpoint.peer_id).unwrap();
    mute.keeper.answer(None);
    scene.letter(&alice, "one").await;
    let begun = Instant::now();
    for number in 0..10 {
        scene.letter(&bob, &number.to_string()).await;
        phone.next().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    ends(&mut held).await;
    assert!(!scene.is_live(&alice));
    assert_eq!(scene.waiting(&alice).await, 1);
}

#[tokio::test]
async fn who_does_not_take_the_answer_gets_no_live_mail() {
    let (scene, phone) = (scene().await, peer(15).await);
    let alice = scene.member(1).await;
    phone.keeper.answer(Some(Status::Refused));
    scene.switch(&alice, &phone, PICKUP_3, true).await;
    scene.is_no_longer_live(&alice).await;
    scene.letter(&alice, "one").await;
    assert!(phone.stays_silent().await);
}

#[tokio::test]
async fn one_account_more_than_a_line_takes_ends_the_oldest_and_not_the_line() {
    let (scene, phone) = (scene().await, peer(16).await);
    let first = scene.member(1).await;
    scene.switch(&first, &phone, PICKUP_3, true).await;
    for seed in 2..=16 {
        scene.switch(&scene.member(seed).await, &phone, PICKUP_3, true).await;
    }
    assert!(scene.is_live(&first));
    let last = scene.member(17).await;
    scene.switch(&last, &phone, PICKUP_3, true).await;
    scene.is_no_longer_live(&first).await;
    assert!(scene.is_live(&last));
}

#[tokio::test]
async fn a_node_that_stops_ends_its_lines_and_opens_none() {
    let (scene, phone) = (scene().await, peer(17).await);
    let alice = scene.member(1).await;
    scene.switch(&alice, &phone, PICKUP_3, true).await;
    let mut held = phone.host.hold(scene.endpoint.peer_id).unwrap();
    scene.node.end_lines().await;
    assert!(!scene.is_live(&alice));
    ends(&mut held).await;
    scene.send(&alice, &phone, &scene.change(&alice, PICKUP_3, true)).await;
    assert!(phone.stays_silent().await);
    assert!(!scene.is_live(&alice));
}

#[tokio::test]
async fn a_node_that_is_gone_is_not_kept_alive_by_its_lines() {
    let (scene, phone) = (scene().await, peer(18).await);
    let alice = scene.member(1).await;
    scene.switch(&alice, &phone, PICKUP_3, true).await;
    let mut held = phone.host.hold(scene.endpoint.peer_id).unwrap();
    drop(scene);
    ends(&mut held).await;
}

/// A mediator also reached by HTTP, and a citizen with an account there that checks for mail every minute.
struct Household {
    scene: Scene,
    citizen: Arc<Node>,
    address: SocketAddr,
}

impl Household {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scene = scene_at(&format!("http://{address}")).await;
        tokio::spawn(server::serve(Arc::clone(&scene.node), listener, std::future::pending()));
        let invitation = scene.node.by_name("invite", &json!({})).await.unwrap();
        let mediator = invitation["invitation"].as_str().map(str::to_owned);
        let citizen = citizen(mediator, true).await;
        citizen.visit_mailbox().await.unwrap();
        Self { scene, citizen, address }
    }

    /// Lets the citizen do its background work.
    fn live(&self) {
        tokio::spawn(Arc::clone(&self.citizen).run_mailbox());
        tokio::spawn(Arc::clone(&self.citizen).run_line());
    }

    /// A number from the mediator's metrics.
    async fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let line = answer.lines().find(|line| line.starts_with(&format!("einmal_{name} "))).unwrap();
        line.split(' ').next_back().unwrap().parse().unwrap()
    }

    /// Waits until there are this many libp2p lines and accounts being pushed to.
    async fn has_lines(&self, lines: u64, sessions: u64) {
        within(PATIENCE, "no such line stands", async || {
            (self.metric("peer_lines").await, self.metric("live_sessions").await) == (lines, sessions)
        })
        .await;
    }
}

async fn citizen(mediator: Option<String>, with_p2p: bool) -> Arc<Node> {
    let mut config = Config::new(Role::Citizen);
    config.citizen = Some(CitizenSettings { mediator, poll_ms: Some(60_000) });
    node_on(Arc::new(MemoryStore::new()), "", config, with_p2p).await
}

/// A friend the citizen has written to, the citizen's DID for that, and the friend's host.
async fn friend_of(citizen: &Arc<Node>) -> (Stranger, Did, Peer) {
    let phone = peer(50).await;
    let friend = Stranger::reached_by(50, vec![described(&phone.host)]);
    let id = MessageId::random(friend.entropy()).unwrap();
    let url = Invitation::new(id, friend.did().clone()).to_url("https://friend.example");
    citizen.by_name("accept", &json!({"url": url, "yes": true})).await.unwrap();
    citizen.outbox_pass().await.unwrap();
    let ping = friend.open(&phone.next().await).message;
    (friend, ping.from.unwrap(), phone)
}

async fn text(scene: &Scene, friend: &Stranger, to: &Did, content: &str) {
    let message = friend.message(TEXT, to, json!({"content": content}));
    let envelope = friend.pack(&message, SenderProtection::Authcrypt);
    scene.mail(to, serde_json::from_slice(&envelope).unwrap()).await;
}

async fn inbox(citizen: &Arc<Node>) -> Vec<String> {
    let inbox = citizen.by_name("inbox", &json!({})).await.unwrap();
    let text = |one: &Value| one["text"].as_str().unwrap().to_owned();
    let mut texts: Vec<String> = inbox.as_array().unwrap().iter().map(text).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn a_citizen_is_rung_by_libp2p_and_looks_only_every_minute_beside_that() {
    let house = Household::new().await;
    let (friend, citizen_did, _phone) = friend_of(&house.citizen).await;
    house.live();
    house.has_lines(1, 1).await;
    // Only the line can wake it now; its own next check is a minute away.
    for number in 0..3 {
        text(&house.scene, &friend, &citizen_did, &number.to_string()).await;
        within(SOON, "the text did not come", async || inbox(&house.citizen).await.len() > number).await;
    }
    assert_eq!(inbox(&house.citizen).await, ["0", "1", "2"]);
    within(SOON, "the letters were not acknowledged", async || {
        house.scene.node.stats().to_json()["delivered"] == 3
    })
    .await;
    // A letter came twice, raw and from the mailbox; neither it nor the mediator's message was refused or answered.
    assert_eq!(house.citizen.stats().to_json()["refused"], 0);
    assert_eq!(house.scene.node.stats().to_json()["refused"], 0);
    assert_eq!(house.citizen.by_name("status", &json!({})).await.unwrap()["outbox"], 0);
}

#[tokio::test]
async fn a_letter_that_does_not_open_leaves_the_line_standing() {
    let house = Household::new().await;
    let (friend, citizen_did, _phone) = friend_of(&house.citizen).await;
    house.live();
    house.has_lines(1, 1).await;
    house.scene.mail(&citizen_did, json!({"ciphertext": "x", "protected": "x", "recipients": []})).await;
    text(&house.scene, &friend, &citizen_did, "after it").await;
    within(SOON, "the text did not come", async || inbox(&house.citizen).await == ["after it"]).await;
    assert_eq!((house.metric("peer_lines").await, house.metric("live_sessions").await), (1, 1));
}

#[tokio::test]
async fn a_line_that_was_ended_is_made_anew() {
    let house = Household::new().await;
    let (friend, citizen_did, _phone) = friend_of(&house.citizen).await;
    house.live();
    house.has_lines(1, 1).await;
    // More letters than a reader may refuse in a row.
    let mut number = 0;
    within(PATIENCE, "the line still stands", async || {
        number += 1;
        let letter = json!({"ciphertext": number.to_string(), "protected": "x", "recipients": []});
        house.scene.mail(&citizen_did, letter).await;
        house.metric("peer_lines").await == 0
    })
    .await;
    assert!(number > 32, "{number}");
    house.has_lines(1, 1).await;
    text(&house.scene, &friend, &citizen_did, "by the new one").await;
    within(SOON, "the text did not come", async || inbox(&house.citizen).await == ["by the new one"]).await;
}

#[tokio::test]
async fn a_line_that_was_begun_without_an_account_is_made_anew_once_there_is_one() {
    let home = Household::new().await;
    let (friend, theirs, _phone) = friend_of(&home.citizen).await;
    let accounts = home.scene.node.by_name("accounts", &json!({})).await.unwrap();
    home.scene.node.by_name("drop", &json!({"id": accounts["accounts"][0]["id"]})).await.unwrap();
    tokio::spawn(Arc::clone(&home.citizen).run_line());
    // Long enough for it to ask, in vain.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(home.metric("live_sessions").await, 0);
    home.citizen.visit_mailbox().await.unwrap();
    home.has_lines(1, 1).await;
    tokio::spawn(Arc::clone(&home.citizen).run_mailbox());
    text(&home.scene, &friend, &theirs, "rung").await;
    within(PATIENCE, "nobody rings", async || inbox(&home.citizen).await == ["rung"]).await;
}

#[tokio::test]
async fn a_citizen_whose_libp2p_line_ends_falls_back_to_the_web_socket() {
    let house = Household::new().await;
    let (friend, citizen_did, _phone) = friend_of(&house.citizen).await;
    house.live();
    house.has_lines(1, 1).await;
    house.scene.node.end_lines().await;
    house.has_lines(0, 1).await;
    text(&house.scene, &friend, &citizen_did, "by the socket").await;
    within(SOON, "the text did not come", async || inbox(&house.citizen).await == ["by the socket"]).await;
}

#[tokio::test]
async fn an_answer_to_what_the_mediator_brought_does_not_go_back_to_the_mediator() {
    let house = Household::new().await;
    let (friend, citizen_did, phone) = friend_of(&house.citizen).await;
    house.live();
    house.has_lines(1, 1).await;
    let mut ping = friend.message(PING, &citizen_did, json!({"response_requested": true}));
    ping.return_route = Some(ReturnRoute::All);
    let envelope = friend.pack(&ping, SenderProtection::Authcrypt);
    house.scene.mail(&citizen_did, serde_json::from_slice(&envelope).unwrap()).await;
    within(SOON, "the letter was not fetched", async || house.scene.node.stats().to_json()["delivered"] == 1)
        .await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(house.scene.node.stats().to_json()["refused"], 0, "what is for others does not open there");
    // It goes to the friend's own endpoint.
    house.citizen.outbox_pass().await.unwrap();
    let pong = friend.open(&phone.next().await).message;
    assert_eq!(pong.thid.unwrap(), ping.id.to_thread());
}

#[tokio::test]
async fn what_our_own_mediator_says_unasked_is_heard_and_the_same_from_others_is_refused() {
    let (url, taken) = web_server();
    let (mediator, other) = (Stranger::reached_at(60, &url), Stranger::new(61));
    let id = MessageId::random(mediator.entropy()).unwrap();
    let mut invitation = Invitation::new(id, mediator.did().clone());
    invitation.goal_code = Some("request-mediate".into());
    let citizen = citizen(Some(invitation.to_url(&url)), false).await;
    assert!(citizen.visit_mailbox().await.is_err(), "it only takes and says nothing");
    let asked = mediator.open(&taken.recv_timeout(PATIENCE).unwrap()).message;
    let ours = asked.from.unwrap();
    let bodies = [
        (format!("{PICKUP_3}/status"), json!({"message_count": 0, "live_delivery": true})),
        (format!("{PICKUP_4}/status"), json!({"message_count": 0, "live_delivery": true})),
        (format!("{PICKUP_4}/delivery"), json!({})),
    ];
    for (kind, body) in bodies {
        let mut said = mediator.message(&kind, &ours, body.clone());
        said.return_route = Some(ReturnRoute::All);
        let receipt = mediator.say(&citizen, &said).await;
        assert_eq!((receipt.refused, receipt.replies.len()), (None, 0), "{kind}");
        let receipt = other.say(&citizen, &other.message(&kind, &ours, body)).await;
        assert_eq!(receipt.refused, Some(Refusal::Invalid), "{kind}");
    }
    // Everything else from it is checked as always.
    let request = mediator.message(&format!("{PICKUP_3}/delivery-request"), &ours, json!({"limit": 1}));
    assert!(mediator.say(&citizen, &request).await.refused.is_some());
    assert_eq!(citizen.by_name("status", &json!({})).await.unwrap()["outbox"], 0);
}

async fn within(time: Duration, what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < time, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
