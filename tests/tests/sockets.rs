//! Mail over WebSockets: pushed raw or wrapped depending on the version, only to its owner, and kept until
//! acknowledged.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use einmal::{
    config::{Config, Network, Role},
    net::{Transport, client::HttpClient, server},
    node::Node,
};
use einmal_did::Did;
use einmal_didcomm::{Message, ReturnRoute, SenderProtection, UnixSeconds};
use einmal_storage::MemoryStore;
use einmal_tests::{HeldMail, START_MS, Stranger, World, node_with, play};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Message as Frame,
        protocol::frame::{
            Frame as RawFrame,
            coding::{Data, OpCode},
        },
    },
};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a test waits for something that must not come.
const QUIET: Duration = Duration::from_millis(300);

const PICKUP_3: &str = "https://didcomm.org/messagepickup/3.0";
const PICKUP_4: &str = "https://didcomm.org/message-pickup/4.0";

/// What a ping says that asks whether everything before it was taken.
const IS_IT_TAKEN: &[u8] = b"einmal: taken?";

type Socket = WebSocketStream<TcpStream>;

struct Scene {
    node: Arc<Node>,
    address: SocketAddr,
    mediator: Did,
}

async fn scene() -> Scene {
    scene_of(Config::new(Role::Mediator)).await
}

async fn scene_of(config: Config) -> Scene {
    let mut world = World::new(1);
    world.add("mediator", config).await;
    let node = world.node("mediator");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(Arc::clone(&node), listener, std::future::pending()));
    let mediator = node.public_did().unwrap().clone();
    Scene { node, address, mediator }
}

impl Scene {
    /// A person with an account, whose own DID is registered.
    async fn member(&self, seed: u64) -> Stranger {
        let member = Stranger::new(seed);
        member.enrol(&self.node).await;
        member
    }

    async fn ask(&self, who: &Stranger, kind: &str, body: Value) -> Message {
        who.ask(&self.node, &who.message(kind, &self.mediator, body)).await
    }

    async fn open(&self) -> Socket {
        let stream = TcpStream::connect(self.address).await.unwrap();
        client_async(format!("ws://{}/ws", self.address), stream).await.unwrap().0
    }

    /// Switches live delivery on `socket` and returns the answer.
    async fn switch(&self, who: &Stranger, socket: &mut Socket, family: &str, on: bool) -> Message {
        let kind = format!("{family}/live-delivery-change");
        let change = who.message(&kind, &self.mediator, json!({"live_delivery": on}));
        send(socket, who.pack(&change, SenderProtection::Authcrypt)).await;
        who.open(&next(socket).await).message
    }

    /// Sends mail for `to`; returns the envelope that must arrive.
    async fn mail(&self, to: &Stranger, text: &str) -> Value {
        let sender = Stranger::new(99);
        let inner = json!({"ciphertext": text, "protected": "x", "recipients": [], "iv": "x", "tag": "x"});
        let forward = sender.forward(&self.mediator, to.did(), inner.clone());
        let receipt = sender.say(&self.node, &forward).await;
        assert_eq!(receipt.refused, None);
        inner
    }
}

async fn send(socket: &mut Socket, envelope: Vec<u8>) {
    socket.send(Frame::Binary(envelope.into())).await.unwrap();
}

async fn next(socket: &mut Socket) -> Vec<u8> {
    let frame = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(!frame.is_close(), "{frame:?}");
    frame.into_data().to_vec()
}

async fn raw(socket: &mut Socket) -> Value {
    serde_json::from_slice(&next(socket).await).unwrap()
}

async fn stays_silent(socket: &mut Socket) -> bool {
    tokio::time::timeout(QUIET, socket.next()).await.is_err()
}

#[test]
fn third_version_pushes_raw_and_keeps_the_letter_until_it_is_acknowledged() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let waiting = scene.mail(&alice, "before").await;
        let mut socket = scene.open().await;
        let status = scene.switch(&alice, &mut socket, PICKUP_3, true).await;
        assert_eq!((&status.body["message_count"], &status.body["live_delivery"]), (&json!(1), &json!(true)));
        assert!(stays_silent(&mut socket).await, "what waited already is not flushed");
        let pushed = scene.mail(&alice, "after").await;
        assert_eq!(raw(&mut socket).await, pushed);
        let ask = format!("{PICKUP_3}/delivery-request");
        let delivery = scene.ask(&alice, &ask, json!({"limit": 10})).await;
        let found: Vec<Value> = delivery.attachments.iter().map(|one| one.to_json().unwrap()).collect();
        assert_eq!(found, [waiting, pushed], "both are still kept");
        let ids: Vec<&String> = delivery.attachments.iter().filter_map(|one| one.id.as_ref()).collect();
        let kind = format!("{PICKUP_3}/messages-received");
        let status = scene.ask(&alice, &kind, json!({"message_id_list": ids})).await;
        assert_eq!(status.body["message_count"], 0);
    });
}

/// Sends a letter to `alice`, who must get it in a delivery of `family`; it must be gone once she acknowledged it.
async fn is_pushed_a_delivery_whose_ids_acknowledge(scene: &Scene, alice: &Stranger, family: &str) {
    let mut socket = scene.open().await;
    let status = scene.switch(alice, &mut socket, family, true).await;
    assert!(status.kind.is(&format!("{family}/status")));
    let mail = scene.mail(alice, "one").await;
    let delivery = alice.open(&next(&mut socket).await).message;
    assert!(delivery.kind.is(&format!("{family}/delivery")), "{}", delivery.kind);
    assert_eq!(delivery.attachments[0].to_json().unwrap(), mail);
    let limit = if family == PICKUP_4 { "message_count_limit" } else { "limit" };
    let again = scene.ask(alice, &format!("{family}/delivery-request"), json!({limit: 5})).await;
    assert_eq!(again.attachments[0].id, delivery.attachments[0].id, "not acknowledged: it is still there");
    let ids = json!({"message_id_list": [delivery.attachments[0].id]});
    let mut received = alice.message(&format!("{family}/messages-received"), &scene.mediator, ids);
    received.return_route = Some(ReturnRoute::All);
    send(&mut socket, alice.pack(&received, SenderProtection::Authcrypt)).await;
    let status = alice.open(&next(&mut socket).await).message;
    assert_eq!(status.body["message_count"], 0);
}

#[test]
fn fourth_version_pushes_in_a_delivery_whose_ids_acknowledge() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        is_pushed_a_delivery_whose_ids_acknowledge(&scene, &alice, PICKUP_4).await;
    });
}

/// Wallets that ask for mediation in 2.0 read only deliveries, those that ask in 3.0 only raw messages.
#[test]
fn third_version_pushes_in_a_delivery_to_an_account_of_the_second_mediation_version_also_after_a_rotation() {
    play(async {
        let scene = scene().await;
        let mut alice = Stranger::new(1);
        let request = "https://didcomm.org/coordinate-mediation/2.0/mediate-request";
        scene.ask(&alice, request, json!({})).await;
        let update = "https://didcomm.org/coordinate-mediation/2.0/keylist-update";
        let updates = json!({"updates": [{"recipient_did": alice.did(), "action": "add"}]});
        scene.ask(&alice, update, updates).await;
        is_pushed_a_delivery_whose_ids_acknowledge(&scene, &alice, PICKUP_3).await;
        let old = rotate(&scene, &mut alice).await;
        assert_ne!(&old, alice.did());
        let mut socket = scene.open().await;
        scene.switch(&alice, &mut socket, PICKUP_3, true).await;
        let sender = Stranger::new(99);
        let forward = sender.forward(&scene.mediator, &old, json!({"ciphertext": "two"}));
        sender.say(&scene.node, &forward).await;
        let delivery = alice.open(&next(&mut socket).await).message;
        assert!(delivery.kind.is(&format!("{PICKUP_3}/delivery")), "{}", delivery.kind);
    });
}

#[test]
fn an_account_that_asks_again_in_the_other_version_is_pushed_to_as_that_one_has_it() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let request = "https://didcomm.org/coordinate-mediation/2.0/mediate-request";
        scene.ask(&alice, request, json!({})).await;
        is_pushed_a_delivery_whose_ids_acknowledge(&scene, &alice, PICKUP_3).await;
    });
}

#[test]
fn the_status_says_of_live_delivery_what_holds_on_its_own_connection() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let (mut live, mut other) = (scene.open().await, scene.open().await);
        scene.switch(&alice, &mut live, PICKUP_3, true).await;
        let kind = format!("{PICKUP_3}/status-request");
        assert_eq!(scene.ask(&alice, &kind, json!({})).await.body["live_delivery"], false, "by HTTP");
        for (socket, expected) in [(&mut live, true), (&mut other, false)] {
            let request = alice.message(&kind, &scene.mediator, json!({}));
            send(socket, alice.pack(&request, SenderProtection::Authcrypt)).await;
            assert_eq!(alice.open(&next(socket).await).message.body["live_delivery"], expected);
        }
    });
}

#[test]
fn nobody_else_gets_what_is_pushed() {
    play(async {
        let scene = scene().await;
        let (alice, bob) = (scene.member(1).await, scene.member(2).await);
        let (mut hers, mut his, mut mute) = (scene.open().await, scene.open().await, scene.open().await);
        scene.switch(&alice, &mut hers, PICKUP_3, true).await;
        scene.switch(&bob, &mut his, PICKUP_3, true).await;
        let mail = scene.mail(&alice, "for Alice").await;
        assert_eq!(raw(&mut hers).await, mail);
        assert!(stays_silent(&mut his).await && stays_silent(&mut mute).await);
    });
}

#[test]
fn a_stranger_without_account_is_refused_live_delivery() {
    play(async {
        let scene = scene().await;
        let mallory = Stranger::new(6);
        let mut socket = scene.open().await;
        let report = scene.switch(&mallory, &mut socket, PICKUP_3, true).await;
        assert_eq!(report.body["code"], "e.p.req.not_enroll");
    });
}

#[test]
fn live_delivery_on_a_connection_that_closes_is_refused_by_its_code() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        for family in [PICKUP_3, PICKUP_4] {
            let kind = format!("{family}/live-delivery-change");
            let report = scene.ask(&alice, &kind, json!({"live_delivery": true})).await;
            assert_eq!(report.body["code"], "e.m.live-mode-not-supported", "{family}");
        }
    });
}

#[test]
fn live_delivery_ends_when_asked_and_does_not_outlive_its_connection() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let mut socket = scene.open().await;
        scene.switch(&alice, &mut socket, PICKUP_3, true).await;
        let status = scene.switch(&alice, &mut socket, PICKUP_3, false).await;
        assert_eq!(status.body["live_delivery"], false);
        scene.mail(&alice, "one").await;
        assert!(stays_silent(&mut socket).await);
        scene.switch(&alice, &mut socket, PICKUP_3, true).await;
        drop(socket);
        let mut second = scene.open().await;
        scene.mail(&alice, "two").await;
        assert!(stays_silent(&mut second).await, "a new connection begins without");
    });
}

#[test]
fn every_device_gets_a_copy_and_one_that_goes_does_not_take_the_others_along() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let (mut phone, mut tablet) = (scene.open().await, scene.open().await);
        scene.switch(&alice, &mut phone, PICKUP_3, true).await;
        scene.switch(&alice, &mut tablet, PICKUP_3, true).await;
        let mail = scene.mail(&alice, "one").await;
        assert_eq!((raw(&mut phone).await, raw(&mut tablet).await), (mail.clone(), mail));
        drop(phone);
        let mail = scene.mail(&alice, "two").await;
        assert_eq!(raw(&mut tablet).await, mail);
    });
}

#[test]
fn a_replayed_switch_binds_no_other_connection() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let (mut hers, mut thief) = (scene.open().await, scene.open().await);
        let kind = format!("{PICKUP_3}/live-delivery-change");
        let change = alice.message(&kind, &scene.mediator, json!({"live_delivery": true}));
        let envelope = alice.pack(&change, SenderProtection::Authcrypt);
        send(&mut hers, envelope.clone()).await;
        next(&mut hers).await;
        send(&mut thief, envelope).await;
        next(&mut thief).await;
        scene.mail(&alice, "for Alice").await;
        raw(&mut hers).await;
        assert!(stays_silent(&mut thief).await);
    });
}

/// Alice takes another DID and tells the mediator in a message; returns the new DID.
async fn rotate(scene: &Scene, alice: &mut Stranger) -> Did {
    let new = alice.another_did();
    let old = alice.become_did(new.clone());
    let mut news = alice.message(&format!("{PICKUP_3}/status-request"), &scene.mediator, json!({}));
    news.from_prior = Some(alice.rotation(&old, &new, UnixSeconds(START_MS / 1000)));
    alice.ask(&scene.node, &news).await;
    assert!(scene.node.is_live(&new), "under the new DID");
    old
}

#[test]
fn a_socket_follows_its_account_to_a_new_did_without_being_asked_again() {
    play(async {
        let scene = scene().await;
        let (mut alice, bob) = (scene.member(1).await, scene.member(2).await);
        let registered = Stranger::new(1);
        let (mut raw_socket, mut wrapped, mut his) =
            (scene.open().await, scene.open().await, scene.open().await);
        scene.switch(&alice, &mut raw_socket, PICKUP_3, true).await;
        scene.switch(&alice, &mut wrapped, PICKUP_4, true).await;
        scene.switch(&bob, &mut his, PICKUP_3, true).await;
        let old = rotate(&scene, &mut alice).await;
        // What is registered is still hers.
        let mail = scene.mail(&registered, "to what was registered").await;
        assert_eq!(raw(&mut raw_socket).await, mail);
        let delivery = alice.open(&next(&mut wrapped).await).message;
        assert_eq!(delivery.attachments[0].to_json().unwrap(), mail);
        assert!(delivery.to[0].same_as(alice.did()), "addressed to the new DID");
        assert!(!delivery.to[0].same_as(&old));
        assert!(stays_silent(&mut his).await, "nobody else follows");
        // The old DID can no longer start anything.
        let new = alice.become_did(old);
        let mut another = scene.open().await;
        let report = scene.switch(&alice, &mut another, PICKUP_3, true).await;
        assert_eq!(report.body["code"], "e.p.req.not_enroll");
        alice.become_did(new);
        // And the new one ends what the old one started.
        let status = scene.switch(&alice, &mut raw_socket, PICKUP_3, false).await;
        assert_eq!(status.body["live_delivery"], false, "{status:?}");
        let mail = scene.mail(&registered, "for the other socket").await;
        assert_eq!(alice.open(&next(&mut wrapped).await).message.attachments[0].to_json().unwrap(), mail);
        assert!(stays_silent(&mut raw_socket).await && stays_silent(&mut another).await);
    });
}

#[test]
fn a_rotation_that_its_owner_did_not_sign_moves_no_session() {
    play(async {
        let scene = scene().await;
        let (alice, mallory) = (scene.member(1).await, Stranger::new(6));
        let (mut hers, mut thief) = (scene.open().await, scene.open().await);
        scene.switch(&alice, &mut hers, PICKUP_4, true).await;
        let other = mallory.another_did();
        let kind = format!("{PICKUP_4}/live-delivery-change");
        let mut theft = mallory.message(&kind, &scene.mediator, json!({"live_delivery": true}));
        theft.from_prior = Some(mallory.rotation(&other, mallory.did(), UnixSeconds(START_MS / 1000)));
        send(&mut thief, mallory.pack(&theft, SenderProtection::Authcrypt)).await;
        let report = mallory.open(&next(&mut thief).await).message;
        assert_eq!(report.body["code"], "e.p.req.not_enroll");
        let mail = scene.mail(&alice, "for Alice").await;
        let delivery = alice.open(&next(&mut hers).await).message;
        assert!(delivery.to[0].same_as(alice.did()) && delivery.attachments[0].to_json().unwrap() == mail);
        assert!(stays_silent(&mut thief).await);
    });
}

#[test]
fn many_letters_come_in_order_while_a_reader_that_does_not_read_holds_nobody_up() {
    play(async {
        let scene = scene().await;
        let (alice, bob) = (scene.member(1).await, scene.member(2).await);
        let (mut hers, mut his) = (scene.open().await, scene.open().await);
        scene.switch(&alice, &mut hers, PICKUP_3, true).await;
        scene.switch(&bob, &mut his, PICKUP_3, true).await;
        let padding = "x".repeat(20_000);
        for number in 0..150 {
            scene.mail(&bob, &format!("{number}{padding}")).await;
            scene.mail(&alice, &number.to_string()).await;
        }
        for number in 0..150 {
            assert_eq!(raw(&mut hers).await["ciphertext"], number.to_string());
        }
        assert_eq!(raw(&mut his).await["ciphertext"], format!("0{padding}"), "his waits for him");
    });
}

/// The texts of the letters pushed next in deliveries, until there are `count`.
async fn delivered(who: &Stranger, socket: &mut Socket, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let delivery = who.open(&next(socket).await).message;
        assert!(delivery.kind.is(&format!("{PICKUP_4}/delivery")), "{}", delivery.kind);
        let payloads = delivery.attachments.iter().map(|one| one.to_json().unwrap());
        texts.extend(payloads.map(|payload| payload["ciphertext"].as_str().unwrap().to_owned()));
    }
    texts
}

/// A delivery holds several letters: a turn that counted deliveries ended with letters nobody was rung for.
#[test]
fn a_burst_is_pushed_in_deliveries_whole_and_in_order() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let mut socket = scene.open().await;
        scene.switch(&alice, &mut socket, PICKUP_4, true).await;
        // The second round goes beyond what a session is offered, so that the rest is read from the disk.
        for (round, letters) in [(1, 100), (2, 600)] {
            let expected: Vec<String> = (0..letters).map(|number| format!("{round}.{number}")).collect();
            for text in &expected {
                scene.mail(&alice, text).await;
            }
            assert_eq!(delivered(&alice, &mut socket, letters).await, expected);
        }
        assert!(stays_silent(&mut socket).await);
    });
}

#[test]
fn a_mailbox_that_its_owner_took_back_is_no_longer_pushed_to_the_account_that_had_it() {
    play(async {
        let scene = scene().await;
        let (thief, bob) = (scene.member(1).await, Stranger::new(2));
        let updates = json!({"updates": [{"recipient_did": bob.did().as_str(), "action": "add"}]});
        let kind = "https://didcomm.org/coordinate-mediation/3.0/recipient-update";
        let taken = scene.ask(&thief, kind, updates).await;
        assert_eq!(taken.body["updated"][0]["result"], "success", "nobody had proved it");
        let mut socket = scene.open().await;
        scene.switch(&thief, &mut socket, PICKUP_3, true).await;
        // More than the session is offered and the connection holds, so that the mailbox is read from the disk later.
        let padding = "x".repeat(100_000);
        for number in 0..60 {
            scene.mail(&bob, &format!("{number}{padding}")).await;
        }
        bob.enrol(&scene.node).await;
        scene.mail(&bob, "for bob alone").await;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(QUIET, socket.next()).await {
            let letter: Value = serde_json::from_slice(&frame.into_data()).unwrap();
            assert_ne!(letter["ciphertext"], "for bob alone");
        }
        let delivery = scene.ask(&bob, &format!("{PICKUP_3}/status-request"), json!({})).await;
        assert!(delivery.body["message_count"].as_u64().unwrap() > 0);
    });
}

/// Asserts that the next message says `who` is not pushed to any more.
async fn is_told_the_end(who: &Stranger, socket: &mut Socket) {
    let told = who.open(&next(socket).await).message;
    assert!(told.kind.is(&format!("{PICKUP_3}/status")), "{}", told.kind);
    assert_eq!(told.body["live_delivery"], false);
}

#[test]
fn one_account_more_than_a_socket_takes_ends_the_oldest_which_is_told() {
    play(async {
        let scene = scene().await;
        let mut socket = scene.open().await;
        let first = scene.member(1).await;
        scene.switch(&first, &mut socket, PICKUP_3, true).await;
        for seed in 2..=16 {
            scene.switch(&scene.member(seed).await, &mut socket, PICKUP_3, true).await;
        }
        let last = scene.member(17).await;
        let status = scene.switch(&last, &mut socket, PICKUP_3, true).await;
        assert_eq!(status.body["live_delivery"], true);
        is_told_the_end(&first, &mut socket).await;
        assert!(!scene.node.is_live(first.did()));
        let pushed = scene.mail(&last, "for the last").await;
        assert_eq!(raw(&mut socket).await, pushed, "the others go on");
    });
}

#[test]
fn one_device_more_than_an_account_may_have_ends_the_oldest_which_is_told() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let mut sockets = Vec::new();
        for _ in 0..9 {
            let mut socket = scene.open().await;
            scene.switch(&alice, &mut socket, PICKUP_3, true).await;
            sockets.push(socket);
        }
        is_told_the_end(&alice, &mut sockets[0]).await;
        let pushed = scene.mail(&alice, "for eight").await;
        for socket in &mut sockets[1..] {
            assert_eq!(raw(socket).await, pushed);
        }
        let again = scene.switch(&alice, &mut sockets[0], PICKUP_3, true).await;
        assert_eq!(again.body["live_delivery"], true, "its connection is open all the same");
    });
}

#[test]
fn whose_live_delivery_ends_is_told_nothing_of_a_mailbox_that_is_anothers_by_now() {
    play(async {
        let scene = scene().await;
        let (thief, owner) = (scene.member(1).await, Stranger::new(2));
        let update = "https://didcomm.org/coordinate-mediation/3.0/recipient-update";
        let taken = json!({"updates": [{"recipient_did": owner.did(), "action": "add"}]});
        assert_eq!(scene.ask(&thief, update, taken).await.body["updated"][0]["result"], "success");
        let mut first = scene.open().await;
        scene.switch(&thief, &mut first, PICKUP_3, true).await;
        owner.enrol(&scene.node).await;
        scene.mail(&owner, "not for the thief").await;
        let mut others = Vec::new();
        for _ in 0..8 {
            let mut socket = scene.open().await;
            scene.switch(&thief, &mut socket, PICKUP_3, true).await;
            others.push(socket);
        }
        let told = thief.open(&next(&mut first).await).message;
        assert_eq!((&told.body["live_delivery"], &told.body["message_count"]), (&json!(false), &json!(0)));
    });
}

#[test]
fn a_sender_that_is_told_of_a_full_mailbox_keeps_its_connection() {
    play(async {
        let mut config = Config::new(Role::Mediator);
        config.mediator.as_mut().unwrap().max_queue = Some(1);
        let scene = scene_of(config).await;
        let (alice, bob) = (scene.member(1).await, scene.member(2).await);
        let mut socket = scene.open().await;
        scene.switch(&alice, &mut socket, PICKUP_3, true).await;
        scene.mail(&bob, "fills it").await;
        let inner = json!({"ciphertext": "x", "protected": "x", "recipients": [], "iv": "x", "tag": "x"});
        let mut forward = alice.forward(&scene.mediator, bob.did(), inner);
        forward.from = None;
        send(&mut socket, alice.pack(&forward, SenderProtection::Anoncrypt)).await;
        let report: Value = raw(&mut socket).await;
        assert!(report["signatures"].is_array(), "{report}");
        let pushed = scene.mail(&alice, "still live").await;
        assert_eq!(raw(&mut socket).await, pushed);
    });
}

#[test]
fn what_is_not_about_mail_is_answered_on_a_socket_only_to_whoever_hears_nowhere_else() {
    play(async {
        let scene = scene().await;
        let ping = "https://didcomm.org/trust-ping/2.0/ping";
        for (who, way, answered) in [
            (Stranger::new(1), None, true),
            (Stranger::reached_at(2, "https://stranger.example"), None, false),
            (Stranger::reached_at(3, "https://stranger.example"), Some(ReturnRoute::All), true),
        ] {
            let mut socket = scene.open().await;
            let mut message = who.message(ping, &scene.mediator, json!({}));
            message.return_route = way;
            send(&mut socket, who.pack(&message, SenderProtection::Authcrypt)).await;
            if answered {
                assert!(who.open(&next(&mut socket).await).message.kind.is(&format!("{ping}-response")));
            } else {
                assert!(stays_silent(&mut socket).await);
            }
        }
    });
}

#[test]
fn a_frame_beyond_the_bound_ends_its_connection_with_the_reason_and_no_other() {
    play(async {
        let scene = scene().await;
        let alice = scene.member(1).await;
        let (mut good, mut bad) = (scene.open().await, scene.open().await);
        let large = vec![b' '; einmal_didcomm::limits::MAX_ENVELOPE_BYTES + 1];
        bad.send(Frame::Binary(large.into())).await.unwrap();
        assert_eq!(until_closed(&mut bad).await, (0, 1009));
        scene.switch(&alice, &mut good, PICKUP_3, true).await;
    });
}

#[test]
fn a_message_too_large_in_parts_is_refused_and_its_sender_does_not_try_again() {
    play(async {
        let (scene, large) = (scene().await, einmal_didcomm::limits::MAX_ENVELOPE_BYTES + 1);
        let mut socket = scene.open().await;
        for (part, kind) in [(0, Data::Binary), (1, Data::Continue)] {
            let bytes = vec![b' '; large / 2 + 1];
            let frame = RawFrame::message(bytes, OpCode::Data(kind), part == 1);
            socket.send(Frame::Frame(frame)).await.unwrap();
        }
        assert_eq!(until_closed(&mut socket).await, (0, 1009));
        let client = HttpClient::new(&Network { allow_private: true, allow_http: true }).unwrap();
        let refused =
            client.send(&format!("ws://{}/ws", scene.address), vec![b' '; large]).await.unwrap_err();
        assert!(!refused.is_temporary(), "{refused}");
    });
}

/// Asks for pongs of 125 bytes each, `count` times, without reading one; returns how many there were in the end.
async fn pongs_to_whoever_does_not_read(address: SocketAddr, count: usize) -> usize {
    // Little room in the kernel, so that the rest has to wait at the other side.
    let small = tokio::net::TcpSocket::new_v4().unwrap();
    small.set_recv_buffer_size(64 * 1024).unwrap();
    let stream = small.connect(address).await.unwrap();
    let mut socket = client_async(format!("ws://{address}/ws"), stream).await.unwrap().0;
    for _ in 0..count {
        socket.feed(Frame::Ping(vec![b'x'; 125].into())).await.unwrap();
    }
    socket.flush().await.unwrap();
    // By then all was read there.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut pongs = 0;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(QUIET, socket.next()).await {
        pongs += usize::from(frame.is_pong());
    }
    pongs
}

#[test]
fn pongs_do_not_add_up_without_end_for_whoever_asks_and_does_not_read() {
    play(async {
        let scene = scene().await;
        assert_eq!(pongs_to_whoever_does_not_read(scene.address, 100).await, 100);
        let (asked, bytes) = (150_000, 127);
        let pongs = pongs_to_whoever_does_not_read(scene.address, asked).await;
        // What a kernel may hold comes on top of what the node holds.
        assert!(pongs * bytes < 12 * 1024 * 1024, "{pongs} of {asked}");
    });
}

#[test]
fn pings_count_against_the_rate_of_their_address() {
    play(async {
        let mut config = Config::new(Role::Mediator);
        config.limits.loopback = true;
        config.limits.max_requests_per_second = Some(5);
        let scene = scene_of(config).await;
        let mut socket = scene.open().await;
        for _ in 0..100 {
            if socket.send(Frame::Ping(Default::default())).await.is_err() {
                break;
            }
        }
        let (pongs, code) = until_closed(&mut socket).await;
        assert!(pongs < 50 && code == 1013, "{pongs} {code}");
    });
}

/// Buffers that a large message went through keep its size for as long as the connection lasts.
#[test]
fn of_connections_that_carried_large_messages_only_so_many_stay_and_the_others_come_again() {
    play(async {
        let mut config = Config::new(Role::Mediator);
        config.limits.loopback = true;
        let scene = scene_of(config).await;
        let rubbish = || Frame::Text("x".repeat(1_000_000).into());
        let mut kept = Vec::new();
        // Twice on each: the same buffers serve again.
        for _ in 0..16 {
            let mut socket = scene.open().await;
            for _ in 0..2 {
                socket.send(rubbish()).await.unwrap();
                socket.send(Frame::Ping(Default::default())).await.unwrap();
                assert!(heard(&mut socket).await.is_pong());
            }
            kept.push(socket);
        }
        let (mut small, mut one_more) = (scene.open().await, scene.open().await);
        small.send(Frame::Text("x".into())).await.unwrap();
        one_more.send(rubbish()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        one_more.send(Frame::Ping(Default::default())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        one_more.send(Frame::Ping(Default::default())).await.unwrap();
        assert_eq!(
            until_closed(&mut one_more).await,
            (2, 1001),
            "whoever asks what became of it is answered"
        );
        assert!(stays_silent(&mut small).await && stays_silent(&mut kept[0]).await);
        kept.pop();
        let mut next = scene.open().await;
        tokio::time::sleep(QUIET).await;
        next.send(rubbish()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(stays_silent(&mut next).await, "another has gone");
    });
}

/// What has arrived of a message takes memory as long as its sender likes, up to a minute.
#[test]
fn of_large_messages_that_do_not_end_one_address_may_have_few_and_the_next_waits_for_its_turn() {
    play(async {
        let mut config = Config::new(Role::Mediator);
        config.limits.loopback = true;
        let scene = scene_of(config).await;
        let mut begun = Vec::new();
        for _ in 0..16 {
            let mut socket = scene.open().await;
            let part = RawFrame::message(vec![b'x'; 500_000], OpCode::Data(Data::Text), false);
            socket.send(Frame::Frame(part)).await.unwrap();
            begun.push(socket);
        }
        tokio::time::sleep(QUIET).await;
        let whole = async |bytes: usize| {
            let mut socket = scene.open().await;
            socket.send(Frame::Text("x".repeat(bytes).into())).await.unwrap();
            socket.send(Frame::Ping(Default::default())).await.unwrap();
            socket
        };
        assert!(heard(&mut whole(10_000).await).await.is_pong(), "small ones pass");
        let mut waiting = whole(200_000).await;
        assert!(stays_silent(&mut waiting).await);
        begun.pop();
        assert!(heard(&mut waiting).await.is_pong());
        assert!(stays_silent(&mut begun[0]).await);
    });
}

/// A letter in a forward, on a socket, and a ping behind it.
async fn letter_and_ping(scene: &Scene) -> Socket {
    let owner = scene.member(1).await;
    let mut socket = scene.open().await;
    let sender = Stranger::new(2);
    let payload = json!({"ciphertext": "a", "protected": "x", "recipients": [], "iv": "x", "tag": "x"});
    let forward = sender.forward(&scene.mediator, owner.did(), payload);
    send(&mut socket, sender.pack(&forward, SenderProtection::Anoncrypt)).await;
    socket.send(Frame::Ping(IS_IT_TAKEN.into())).await.unwrap();
    socket
}

async fn scene_with(mail: Arc<HeldMail>) -> Scene {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (disk, url) = (Arc::new(MemoryStore::new()), format!("http://{address}"));
    let node = node_with(disk, mail, &url, Config::new(Role::Mediator), false).await;
    tokio::spawn(server::serve(Arc::clone(&node), listener, std::future::pending()));
    let mediator = node.public_did().unwrap().clone();
    Scene { node, address, mediator }
}

/// A letter waiting for its disk, and the socket it came by, followed by a ping.
async fn letter_on_its_way() -> (Arc<HeldMail>, Socket) {
    let mail = Arc::new(HeldMail::default());
    let scene = scene_with(Arc::clone(&mail)).await;
    let socket = letter_and_ping(&scene).await;
    while mail.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (mail, socket)
}

async fn heard(socket: &mut Socket) -> Frame {
    tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap()
}

#[test]
fn a_pong_says_that_the_letter_before_it_is_on_the_disk() {
    play(async {
        let (mail, mut socket) = letter_on_its_way().await;
        assert!(tokio::time::timeout(QUIET, socket.next()).await.is_err(), "the disk has not taken it yet");
        mail.release().await;
        assert!(matches!(heard(&mut socket).await, Frame::Pong(_)));
    });
}

/// Reads frames until the socket ends: the number of pongs, and the closing code.
async fn until_closed(socket: &mut Socket) -> (usize, u16) {
    let mut pongs = 0;
    loop {
        match heard(socket).await {
            Frame::Pong(_) => pongs += 1,
            Frame::Close(close) => return (pongs, close.unwrap().code.into()),
            _ => {}
        }
    }
}

/// The pong must not follow the report about the mailbox: a client that hears it deletes the letter as delivered.
#[test]
fn no_pong_comes_for_a_letter_that_found_its_mailbox_full() {
    play(async {
        let (mail, mut socket) = letter_on_its_way().await;
        // Give the node time to read the ping.
        tokio::time::sleep(QUIET).await;
        mail.refuse();
        assert_eq!(until_closed(&mut socket).await, (0, 1013));
    });
}

#[test]
fn no_pong_comes_for_a_letter_that_nobody_here_takes_and_the_sender_learns_that_it_is_in_vain() {
    play(async {
        let mail = Arc::new(HeldMail::default());
        let scene = scene_with(Arc::clone(&mail)).await;
        let owner = scene.member(1).await;
        let sender = Stranger::new(2);
        let payload = json!({"ciphertext": "a", "protected": "x", "recipients": [], "iv": "x", "tag": "x"});
        let [taken, vain] = [owner.did(), Stranger::new(3).did()].map(|to| {
            sender.pack(&sender.forward(&scene.mediator, to, payload.clone()), SenderProtection::Anoncrypt)
        });
        let mut socket = scene.open().await;
        // The first one waits for its disk, so that the second is in progress when the ping comes.
        for envelope in [taken, vain] {
            send(&mut socket, envelope).await;
        }
        socket.send(Frame::Ping(IS_IT_TAKEN.into())).await.unwrap();
        while mail.waiting() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(QUIET).await;
        mail.release().await;
        assert_eq!(until_closed(&mut socket).await, (0, 4400));
    });
}

#[test]
fn no_pong_comes_for_an_envelope_that_was_refused_before_the_ping_was_read() {
    play(async {
        let scene = scene_with(Arc::new(HeldMail::default())).await;
        let mut socket = scene.open().await;
        let sender = Stranger::new(2);
        let payload = json!({"ciphertext": "a", "protected": "x", "recipients": [], "iv": "x", "tag": "x"});
        let vain = sender.forward(&scene.mediator, Stranger::new(3).did(), payload);
        send(&mut socket, sender.pack(&vain, SenderProtection::Anoncrypt)).await;
        tokio::time::sleep(QUIET).await;
        socket.send(Frame::Ping(IS_IT_TAKEN.into())).await.unwrap();
        assert_eq!(until_closed(&mut socket).await, (0, 4400));
    });
}

#[test]
fn a_ping_that_only_asks_for_the_connection_is_answered_though_an_envelope_was_refused() {
    play(async {
        let scene = scene_with(Arc::new(HeldMail::default())).await;
        let mut socket = scene.open().await;
        send(&mut socket, b"no envelope".to_vec()).await;
        for payload in [&b""[..], b"1234"] {
            socket.send(Frame::Ping(payload.into())).await.unwrap();
            assert!(matches!(heard(&mut socket).await, Frame::Pong(back) if back == payload));
        }
        socket.send(Frame::Ping(IS_IT_TAKEN.into())).await.unwrap();
        assert_eq!(until_closed(&mut socket).await, (0, 4400), "it was not forgotten");
    });
}

#[test]
fn no_pong_comes_before_the_close_if_the_disk_did_not_take_the_letter() {
    play(async {
        let (mail, mut socket) = letter_on_its_way().await;
        mail.fail();
        assert!(matches!(heard(&mut socket).await, Frame::Close(_)));
    });
}
