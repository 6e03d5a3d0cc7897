//! Clock jumps: a jump that is taken back loses nothing acknowledged, and nothing waits until the wrong time comes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use einmal::{
    clock::{Clock, ManualClock},
    config::{Config, Role},
    db::Db,
    home,
    net::memory::MemoryNetwork,
    node::{Node, Parts},
    steady::SETTLES_AFTER,
};
use einmal_didcomm::{Attachment, SenderProtection};
use einmal_keys::SeededEntropy;
use einmal_storage::mail::Mail;
use einmal_tests::{ADULT, START_MS, Stranger, Wire, World, play};
use serde_json::{Value, json};

const PICKUP: &str = "https://didcomm.org/messagepickup/3.0";

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const SETTLED: u64 = SETTLES_AFTER.as_secs() * 1000;

/// The time a clock jumps to, from its present time.
type Jump = fn(u64) -> u64;

const JUMPS: [(&str, Jump); 4] = [
    ("a day ahead", |now| now + DAY),
    ("ten years ahead", |now| now + 3652 * DAY),
    ("an hour back", |now| now - HOUR),
    ("to 1970", |_| 0),
];

/// A clock that is set wrong and then right again, while time goes on.
struct Jumping {
    clock: Arc<ManualClock>,
    right_ms: u64,
}

impl Jumping {
    fn jump(clock: &Arc<ManualClock>, to: Jump) -> Self {
        let right_ms = clock.now_ms();
        clock.set(to(right_ms));
        Self { clock: Arc::clone(clock), right_ms }
    }

    fn pass(&mut self, ms: u64) {
        self.clock.advance(ms);
        self.right_ms += ms;
    }

    fn take_back(self) {
        self.clock.set(self.right_ms);
    }
}

// --- A mediator on a disk ----------------------------------------------------------------------------------------------

/// A mediator with stores like a real one.
struct Mediator {
    node: Arc<Node>,
    db: Db,
    mail: Arc<dyn Mail>,
}

impl Mediator {
    async fn open(folder: &std::path::Path, clock: &Arc<ManualClock>) -> Self {
        let dir = folder.join("mediator");
        let config = Config::new(Role::Mediator);
        if !dir.exists() {
            home::init(&dir, &config).unwrap();
        }
        let entropy = Arc::new(SeededEntropy::new(clock.now_ms()));
        let db = home::open_store(&dir, &config).unwrap();
        let mail: Arc<dyn Mail> = Arc::new(home::open_mail(&dir, &db, entropy.as_ref()).unwrap());
        let wire = Arc::new(Wire::new("mediator", MemoryNetwork::new(1)));
        let parts = Parts {
            config,
            db: db.clone(),
            mail: Arc::clone(&mail),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            entropy,
            transport: Arc::clone(&wire) as _,
            fetcher: wire,
        };
        let node = Node::start(parts, "https://mediator.example").await.unwrap();
        Self { node, db, mail }
    }

    fn close(self) {
        self.mail.close().unwrap();
        self.db.store().close().unwrap();
    }

    /// What the node does every second, often enough for every mailbox to get its turn.
    async fn sweep(&self) {
        for _ in 0..3 {
            self.node.timer_pass().await.unwrap();
            self.node.sweep().await;
        }
    }

    /// Delivers a letter, which must be acknowledged.
    async fn put(&self, to: &Stranger, text: &str) {
        let sender = Stranger::new(99);
        let mediator = self.node.public_did().unwrap();
        let mut forward = sender.forward(mediator, to.did(), json!({"ciphertext": text}));
        forward.from = None;
        let envelope = sender.pack(&forward, SenderProtection::Anoncrypt);
        let receipt = self.node.receive(&envelope, einmal::node::Arrival::Http { from: None }).await;
        assert_eq!(receipt.refused, None, "{text}");
    }

    async fn texts(&self, who: &Stranger) -> Vec<String> {
        let kind = format!("{PICKUP}/delivery-request");
        let ask = who.message(&kind, self.node.public_did().unwrap(), json!({"limit": 50}));
        let delivery = who.ask(&self.node, &ask).await;
        let text = |one: &Attachment| one.to_json().unwrap()["ciphertext"].as_str().unwrap().to_owned();
        delivery.attachments.iter().map(text).collect()
    }

    fn kept(&self) -> u64 {
        self.mail.stats().letters
    }
}

/// A mediator on a disk, and Alice, with one letter waiting for her there.
struct Scene {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    alice: Stranger,
    mediator: Mediator,
}

impl Scene {
    async fn with_letter(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START_MS));
        let alice = Stranger::new(1);
        let mediator = Mediator::open(folder.path(), &clock).await;
        alice.enrol(&mediator.node).await;
        mediator.put(&alice, text).await;
        Self { folder, clock, alice, mediator }
    }
}

#[test]
fn no_letter_is_lost_by_a_jump_that_is_taken_back() {
    for (what, to) in JUMPS {
        play(async {
            let Scene { folder: _folder, clock, alice, mediator } = Scene::with_letter("before").await;
            clock.advance(2 * SETTLED);
            mediator.sweep().await;
            let mut wrong = Jumping::jump(&clock, to);
            mediator.sweep().await;
            mediator.put(&alice, "meanwhile").await;
            wrong.pass(SETTLED - MINUTE);
            mediator.sweep().await;
            assert!(mediator.texts(&alice).await.contains(&"meanwhile".to_owned()), "{what}");
            wrong.take_back();
            mediator.sweep().await;
            mediator.put(&alice, "after").await;
            assert_eq!(mediator.texts(&alice).await, ["before", "meanwhile", "after"], "{what}");
            // Each is kept for its time by the right clock, to the minute, even the one that came while the clock was
            // wrong.
            clock.advance(30 * DAY - SETTLED);
            mediator.sweep().await;
            assert_eq!(mediator.texts(&alice).await, ["meanwhile", "after"], "{what}");
            assert_eq!(mediator.node.stats().to_json()["clock_jumps"], 2, "{what}");
            mediator.close();
        });
    }
}

#[test]
fn letters_that_look_expired_are_hidden_while_the_clock_is_wrong_and_come_back() {
    play(async {
        let Scene { folder: _folder, clock, alice, mediator } = Scene::with_letter("before").await;
        clock.advance(2 * SETTLED);
        let wrong = Jumping::jump(&clock, |now| now + 31 * DAY);
        mediator.sweep().await;
        assert!(mediator.texts(&alice).await.is_empty());
        wrong.take_back();
        mediator.sweep().await;
        assert_eq!(mediator.texts(&alice).await, ["before"]);
        mediator.close();
    });
}

#[test]
fn a_restart_by_a_wrong_clock_costs_no_letter() {
    for (what, to) in JUMPS {
        play(async {
            let Scene { folder, clock, alice, mediator } = Scene::with_letter("before").await;
            mediator.close();
            // No node was running to see it jump.
            let mut wrong = Jumping::jump(&clock, to);
            let mediator = Mediator::open(folder.path(), &clock).await;
            mediator.sweep().await;
            mediator.put(&alice, "meanwhile").await;
            wrong.pass(SETTLED - MINUTE);
            mediator.sweep().await;
            wrong.take_back();
            mediator.sweep().await;
            assert_eq!(mediator.texts(&alice).await, ["before", "meanwhile"], "{what}");
            mediator.close();
            let mediator = Mediator::open(folder.path(), &clock).await;
            assert_eq!(mediator.texts(&alice).await, ["before", "meanwhile"], "{what}");
            mediator.close();
        });
    }
}

#[test]
fn a_clock_that_has_stood_for_an_hour_is_believed_and_mail_expires_by_it() {
    play(async {
        let Scene { folder: _folder, clock, mediator, .. } = Scene::with_letter("old").await;
        clock.advance(2 * SETTLED);
        mediator.sweep().await;
        let mut jumped = Jumping::jump(&clock, |now| now + 31 * DAY);
        mediator.sweep().await;
        jumped.pass(SETTLED - 1);
        mediator.sweep().await;
        assert_eq!(mediator.kept(), 1, "not a moment earlier");
        jumped.pass(1);
        mediator.sweep().await;
        assert_eq!(mediator.kept(), 0);
        mediator.close();
    });
}

// --- A world -----------------------------------------------------------------------------------------------------------

async fn inbox(world: &World) -> Vec<String> {
    let inbox = world.ask("anna", "inbox", json!({})).await;
    let text = |one: &Value| one["text"].as_str().unwrap().to_owned();
    let mut texts: Vec<String> = inbox.as_array().unwrap().iter().map(text).collect();
    texts.sort_unstable();
    texts
}

/// Anna holds a card of the city, so that the two can write to each other.
async fn acquainted(seed: u64) -> World {
    let mut world = World::with_everybody(seed).await;
    let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    world.ask("anna", "accept", json!({"url": offer["invitation"], "yes": true})).await;
    world.pump().await;
    world
}

async fn sweep(world: &World) {
    for name in ["anna", "city", "library", "mediator"] {
        world.node(name).sweep().await;
    }
}

#[test]
fn messages_written_before_and_during_a_jump_arrive_soon_after_it_is_taken_back() {
    for (what, to) in JUMPS {
        play(async {
            let mut world = acquainted(31).await;
            world.network().detach("https://mediator.example");
            world.ask("city", "send", json!({"to": ADULT, "text": "1 before"})).await;
            world.turns(5).await;
            let clock = Arc::clone(world.clock());
            let mut wrong = Jumping::jump(&clock, to);
            world.ask("city", "send", json!({"to": ADULT, "text": "2 meanwhile"})).await;
            let before = clock.now_ms();
            world.turns(20).await;
            sweep(&world).await;
            wrong.right_ms += clock.now_ms() - before;
            assert_eq!(world.given_up("city").await, 0, "{what}");
            wrong.take_back();
            world.network().attach("https://mediator.example", &world.node("mediator"));
            world.ask("city", "send", json!({"to": ADULT, "text": "3 after"})).await;
            let begun = clock.now_ms();
            world.pump().await;
            sweep(&world).await;
            assert_eq!(inbox(&world).await, ["1 before", "2 meanwhile", "3 after"], "{what}");
            assert!(clock.now_ms() - begun < DAY, "{what}: it waited for the wrong time");
            assert_eq!(world.given_up("city").await, 0, "{what}");
        });
    }
}

#[test]
fn what_was_received_before_and_during_a_jump_is_kept() {
    for (what, to) in JUMPS {
        play(async {
            let mut world = acquainted(34).await;
            world.ask("city", "send", json!({"to": ADULT, "text": "1 before"})).await;
            world.pump().await;
            let clock = Arc::clone(world.clock());
            let mut wrong = Jumping::jump(&clock, to);
            let before = clock.now_ms();
            world.ask("city", "send", json!({"to": ADULT, "text": "2 meanwhile"})).await;
            world.turns(15).await;
            sweep(&world).await;
            assert_eq!(inbox(&world).await, ["1 before", "2 meanwhile"], "{what}");
            wrong.right_ms += clock.now_ms() - before;
            wrong.take_back();
            sweep(&world).await;
            clock.advance(2 * SETTLED);
            sweep(&world).await;
            assert_eq!(inbox(&world).await, ["1 before", "2 meanwhile"], "{what}");
        });
    }
}

/// A request that nobody answers; returns its thread.
async fn ask_in_vain(world: &World) -> Value {
    let request = world.ask("library", "request", json!({"template": "cafe-over-16"})).await;
    world.ask("anna", "accept", json!({"url": request["invitation"]})).await;
    request["thread"].clone()
}

async fn is_pending(world: &World, thread: &Value) -> bool {
    world.ask("library", "result", json!({"thread": thread})).await["pending"] == true
}

#[test]
fn no_exchange_times_out_by_a_jump_that_is_taken_back_and_all_do_in_their_time() {
    for (what, to) in JUMPS {
        play(async {
            let mut world = acquainted(32).await;
            let clock = Arc::clone(world.clock());
            let early = ask_in_vain(&world).await;
            world.turns(5).await;
            let mut wrong = Jumping::jump(&clock, to);
            let before = clock.now_ms();
            world.turns(5).await;
            let late = ask_in_vain(&world).await;
            world.turns(5).await;
            wrong.right_ms += clock.now_ms() - before;
            wrong.take_back();
            world.turns(5).await;
            assert!(is_pending(&world, &early).await, "{what}: timed out by the wrong clock");
            assert!(is_pending(&world, &late).await, "{what}: timed out by the wrong clock");
            clock.advance(2 * SETTLED);
            world.turns(5).await;
            assert!(is_pending(&world, &early).await, "{what}: timed out too early");
            for _ in 0..3 {
                clock.advance(DAY);
                world.turns(5).await;
            }
            assert!(!is_pending(&world, &early).await, "{what}: it waits for the wrong time");
            assert!(!is_pending(&world, &late).await, "{what}: it waits for the wrong time");
        });
    }
}

/// A world whose clock is ten years ahead and believed, with a message on its way that reaches nobody.
async fn long_believed(seed: u64) -> (World, Jumping) {
    let mut world = acquainted(seed).await;
    let clock = Arc::clone(world.clock());
    let mut wrong = Jumping::jump(&clock, |now| now + 3652 * DAY);
    world.turns(3).await;
    wrong.pass(2 * SETTLED);
    world.turns(3).await;
    world.network().detach("https://mediator.example");
    world.ask("city", "send", json!({"to": ADULT, "text": "meanwhile"})).await;
    world.turns(5).await;
    (world, wrong)
}

#[test]
fn what_was_begun_by_a_clock_long_believed_does_not_wait_for_its_time() {
    play(async {
        let (mut world, wrong) = long_believed(33).await;
        let clock = Arc::clone(world.clock());
        let asked = ask_in_vain(&world).await;
        world.turns(5).await;
        wrong.take_back();
        world.turns(5).await;
        clock.advance(2 * SETTLED);
        world.network().attach("https://mediator.example", &world.node("mediator"));
        world.turns(10).await;
        assert_eq!(inbox(&world).await, ["meanwhile"]);
        for _ in 0..3 {
            world.turns(5).await;
            clock.advance(DAY);
        }
        world.turns(5).await;
        assert!(!is_pending(&world, &asked).await, "it waits for the wrong time");
    });
}

#[test]
fn what_a_clock_long_believed_wrote_is_given_up_in_its_time() {
    play(async {
        let (mut world, wrong) = long_believed(35).await;
        let clock = Arc::clone(world.clock());
        wrong.take_back();
        world.turns(5).await;
        clock.advance(2 * SETTLED);
        for _ in 0..6 {
            world.turns(5).await;
            clock.advance(DAY);
        }
        assert_eq!(world.given_up("city").await, 0);
        for _ in 0..2 {
            world.turns(5).await;
            clock.advance(DAY);
        }
        world.turns(5).await;
        assert_eq!(world.given_up("city").await, 1, "it is tried for ten years");
    });
}
