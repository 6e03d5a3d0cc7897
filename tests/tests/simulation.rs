//! The story in a simulation: without faults, and through storms of lost, doubled and late messages and dying nodes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::{
    config::{Config, Role},
    net::memory::Faults,
};
use einmal_flows::out_of_band::Invitation;
use einmal_tests::{ADULT, ByName, START_MS, Stranger, World, play};
use serde_json::{Value, json};

/// Number of worlds that go through a storm.
const STORMS: u64 = 200;
/// Number of threads they are spread over.
const THREADS: u64 = 4;
/// Text messages sent in each world.
const LETTERS: usize = 3;

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {value}"))
}

fn length(value: &Value) -> usize {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).len()
}

/// Accepts an offer for [`ADULT`]; returns its thread.
async fn take_offer(world: &World) -> String {
    let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    let accepted = world.ask("anna", "accept", json!({"url": text(&offer, "invitation"), "yes": true})).await;
    text(&accepted, "thread").to_owned()
}

/// Answers a request from the library; returns its thread.
async fn answer_request(world: &World, template: &str) -> String {
    let request = world.ask("library", "request", json!({"template": template})).await;
    world.ask("anna", "accept", json!({"url": text(&request, "invitation"), "yes": true})).await;
    text(&request, "thread").to_owned()
}

async fn result(world: &World, thread: &str) -> Value {
    world.ask("library", "result", json!({"thread": thread})).await
}

#[test]
fn a_card_is_issued_held_presented_and_verified() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let offered = take_offer(&world).await;
        world.pump().await;
        let cards = world.ask("anna", "list", json!({})).await;
        assert_eq!(length(&cards), 1, "{cards}");
        assert_eq!(text(&cards[0], "vct"), "urn:de:kommune:resident:1");
        assert_eq!(text(&world.ask("anna", "progress", json!({"thread": offered})).await, "state"), "done");
        let asked = answer_request(&world, "cafe-over-16").await;
        world.pump().await;
        let result = result(&world, &asked).await;
        assert_eq!(result["accepted"], true, "{result}");
        let disclosed = &result["disclosed"]["resident"][0]["claims"];
        assert_eq!(disclosed, &json!({"age_equal_or_over": {"16": true}}));
    });
}

#[test]
fn a_library_card_follows_a_proof_and_both_cards_answer_one_request() {
    play(async {
        let mut world = World::with_everybody(2).await;
        take_offer(&world).await;
        world.pump().await;
        let order = json!({"template": "library-card", "after": "library-signup"});
        let offer = world.ask("city", "offer", order).await;
        world.ask("anna", "accept", json!({"url": text(&offer, "invitation"), "yes": true})).await;
        world.pump().await;
        assert_eq!(length(&world.ask("anna", "list", json!({})).await), 2);
        let asked = answer_request(&world, "library-accepts").await;
        world.pump().await;
        let result = result(&world, &asked).await;
        assert_eq!(result["accepted"], true, "{result}");
        assert!(result["disclosed"]["library_card"][0]["claims"]["patron_nym"].is_string(), "{result}");
    });
}

#[test]
fn a_revoked_card_is_refused_once_the_list_is_fetched_anew() {
    play(async {
        let mut world = World::with_everybody(3).await;
        take_offer(&world).await;
        world.pump().await;
        let issued = world.ask("city", "issued", json!({})).await;
        let revoke = json!({"credential": issued[0]["credential"], "reason": "moved"});
        world.ask("city", "revoke", revoke).await;
        let asked = answer_request(&world, "cafe-over-16").await;
        world.pump().await;
        let result = result(&world, &asked).await;
        assert_eq!((&result["accepted"], &result["reason"]), (&json!(false), &json!("revoked")));
    });
}

/// What Anna fetched over the network so far.
fn fetched_by_anna(world: &World) -> Vec<String> {
    world.wire().events().into_iter().filter(|event| event.starts_with("anna fetches")).collect()
}

#[test]
fn a_wallet_sees_that_its_card_was_revoked_and_asks_its_issuer_for_nothing_but_the_list() {
    play(async {
        let mut world = World::with_everybody(5).await;
        take_offer(&world).await;
        world.pump().await;
        let before = fetched_by_anna(&world).len();
        let cards = world.ask("anna", "list", json!({})).await;
        assert_eq!((text(&cards[0], "state"), &cards[0]["reason"]), ("valid", &Value::Null));
        let issued = world.ask("city", "issued", json!({})).await;
        let revoke = json!({"credential": issued[0]["credential"], "reason": "moved"});
        world.ask("city", "revoke", revoke).await;
        let cards = world.ask("anna", "list", json!({})).await;
        assert_eq!(text(&cards[0], "state"), "valid", "the list is fresh: it is not fetched again");
        world.clock().advance(3601 * 1000);
        let cards = world.ask("anna", "list", json!({})).await;
        assert_eq!((text(&cards[0], "state"), &cards[0]["reason"]), ("revoked", &Value::Null));
        let fetched = fetched_by_anna(&world);
        let lists: Vec<&String> =
            fetched[before..].iter().filter(|event| !event.contains("fetches did:web:city")).collect();
        assert_eq!(lists, ["anna fetches https://city.example/status/1: true"; 2]);
    });
}

#[test]
fn a_card_whose_list_cannot_be_had_is_unknown_with_the_reason_until_it_can() {
    play(async {
        let mut world = World::with_everybody(6).await;
        take_offer(&world).await;
        world.pump().await;
        let list = "https://city.example/status/1";
        world.wire().lose_status_list(list);
        let cards = world.ask("anna", "list", json!({})).await;
        assert_eq!(text(&cards[0], "state"), "unknown");
        assert!(text(&cards[0], "reason").contains("could not be fetched"), "{cards}");
        world.wire().find_status_list(list);
        world.clock().advance(10_000);
        let cards = world.ask("anna", "list", json!({})).await;
        assert_eq!(text(&cards[0], "state"), "valid");
    });
}

#[test]
fn a_status_list_that_cannot_be_fetched_is_a_refusal() {
    play(async {
        let mut world = World::with_everybody(4).await;
        take_offer(&world).await;
        world.pump().await;
        world.wire().lose_status_list("https://city.example/status/1");
        let asked = answer_request(&world, "cafe-over-16").await;
        world.pump().await;
        let result = result(&world, &asked).await;
        assert_eq!((&result["accepted"], &result["reason"]), (&json!(false), &json!("status-unknown")));
        assert!(text(&result, "detail").contains("could not be fetched"), "{result}");
    });
}

#[test]
fn a_proof_waits_for_an_issuer_that_is_out_of_reach() {
    play(async {
        let mut world = World::with_everybody(4).await;
        take_offer(&world).await;
        world.pump().await;
        let asked = answer_request(&world, "cafe-over-16").await;
        world.network().detach("https://city.example");
        world.turns(30).await;
        assert_eq!(result(&world, &asked).await["pending"], true);
        world.network().attach("https://city.example", &world.node("city"));
        world.pump().await;
        let result = result(&world, &asked).await;
        assert_eq!(result["accepted"], true, "{result}");
    });
}

#[test]
fn a_card_thrown_away_answers_nothing_any_more() {
    play(async {
        let mut world = World::with_everybody(4).await;
        take_offer(&world).await;
        world.pump().await;
        let cards = world.ask("anna", "list", json!({})).await;
        world.ask("anna", "forget", json!({"card": cards[0]["card"]})).await;
        assert_eq!(length(&world.ask("anna", "list", json!({})).await), 0);
        world.kill("anna");
        world.start("anna").await;
        let asked = answer_request(&world, "cafe-over-16").await;
        world.pump().await;
        assert_eq!(result(&world, &asked).await["reason"], "declined");
        let again = world.node("anna").by_name("forget", &json!({"card": cards[0]["card"]})).await;
        assert!(again.unwrap_err().to_string().contains("no card"));
    });
}

#[test]
fn an_issuer_nobody_named_is_refused() {
    play(async {
        let mut world = World::new(5);
        world.add_everybody().await;
        world.add_library("kiosk", &["another-city"]).await;
        world.pump().await;
        take_offer(&world).await;
        world.pump().await;
        let request = world.ask("kiosk", "request", json!({"template": "cafe-over-16"})).await;
        world.ask("anna", "accept", json!({"url": text(&request, "invitation"), "yes": true})).await;
        world.pump().await;
        let result = world.ask("kiosk", "result", json!({"thread": text(&request, "thread")})).await;
        assert_eq!(result["reason"], "untrusted-issuer", "{result}");
    });
}

#[test]
fn a_declined_offer_leaves_no_card_and_says_so() {
    play(async {
        let mut world = World::with_everybody(6).await;
        let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        let begun = world.ask("anna", "accept", json!({"url": text(&offer, "invitation")})).await;
        world.pump().await;
        let thread = text(&begun, "thread").to_owned();
        let progress = world.ask("anna", "progress", json!({"thread": thread})).await;
        assert_eq!(progress["decide"]["kind"], "offer", "{progress}");
        world.ask("anna", "decide", json!({"thread": thread, "agree": false})).await;
        world.pump().await;
        assert_eq!(
            text(&world.ask("anna", "progress", json!({"thread": thread})).await, "state"),
            "abandoned"
        );
        assert_eq!(length(&world.ask("anna", "list", json!({})).await), 0);
        assert_eq!(length(&world.ask("city", "issued", json!({})).await), 0);
    });
}

#[test]
fn an_invitation_taken_again_goes_on_with_the_exchange_that_waits_for_a_decision() {
    play(async {
        let mut world = World::with_everybody(6).await;
        let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        let url = text(&offer, "invitation");
        let begun = world.ask("anna", "accept", json!({"url": url})).await;
        world.pump().await;
        let again = world.ask("anna", "accept", json!({"url": url, "yes": true})).await;
        assert_eq!((&again["state"], &again["thread"]), (&json!("resumed"), &begun["thread"]));
        let shown =
            &world.ask("anna", "progress", json!({"thread": begun["thread"]})).await["decide"]["shown"];
        world.ask("anna", "decide", json!({"thread": begun["thread"], "agree": true, "shown": shown})).await;
        world.pump().await;
        assert_eq!(length(&world.ask("anna", "list", json!({})).await), 1);
        // It is over: a single-use offer is refused to anyone who starts again.
        let anew = world.ask("anna", "accept", json!({"url": url, "yes": true})).await;
        assert_eq!(anew["state"], "proposed");
        world.pump().await;
        assert_eq!(length(&world.ask("anna", "list", json!({})).await), 1);
    });
}

#[test]
fn a_relationship_without_a_name_outlasts_a_restart_of_the_other_side() {
    play(async {
        for name in ["city", "library"] {
            let mut world = World::with_everybody(8).await;
            let invitation = world.ask(name, "invite", json!({})).await;
            world.ask("anna", "accept", json!({"url": text(&invitation, "invitation"), "yes": true})).await;
            world.pump().await;
            let to = world.node(name).public_did().unwrap().to_string();
            // Twice, so that she then uses the short form of her DID.
            for number in 0..2 {
                world.ask("anna", "send", json!({"to": to, "text": format!("{number}")})).await;
                world.pump().await;
            }
            world.kill(name);
            world.start(name).await;
            world.ask("anna", "send", json!({"to": to, "text": "after"})).await;
            world.pump().await;
            assert_eq!(length(&world.ask(name, "inbox", json!({})).await), 3, "{name}");
            assert_eq!(world.given_up("anna").await, 0, "{name}");
        }
    });
}

#[test]
fn an_invitation_of_another_does_not_take_the_name_of_the_one_that_waits() {
    play(async {
        let mut world = World::with_everybody(6).await;
        let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        let url = text(&offer, "invitation").to_owned();
        world.ask("anna", "accept", json!({"url": url})).await;
        world.pump().await;
        let mut forged = Invitation::from_url(&url).unwrap();
        forged.from = Stranger::reached_at(9, "https://stranger.example").did().clone();
        let input = json!({"url": forged.to_url("https://stranger.example")});
        let refused = world.node("anna").by_name("accept", &input).await.unwrap_err().to_string();
        assert!(refused.contains("somebody else"), "{refused}");
        let waiting = world.ask("anna", "pending", json!({})).await;
        assert_eq!(waiting[0]["decide"]["kind"], "offer", "{waiting}");
    });
}

#[test]
fn a_citizen_without_a_fitting_card_gives_nothing_away() {
    play(async {
        let mut world = World::with_everybody(7).await;
        let asked = answer_request(&world, "cafe-over-16").await;
        world.pump().await;
        let result = result(&world, &asked).await;
        assert_eq!((&result["accepted"], &result["reason"]), (&json!(false), &json!("declined")), "{result}");
    });
}

fn severity(seed: u64) -> (Faults, u8) {
    let some = |shift: u64, most: u64| u8::try_from((seed / (shift + 1)) % most).unwrap();
    let faults =
        Faults { lost: some(0, 31), answer_lost: some(1, 23), doubled: some(2, 29), delayed: some(3, 19) };
    (faults, some(4, 11))
}

/// Counts what went wrong in a storm, so that a storm without any damage is noticed.
#[derive(Clone, Copy, Debug, Default)]
struct Damage {
    deaths: usize,
    losses: usize,
    duplicates: u64,
    mailbox_failures: usize,
}

impl Damage {
    fn of(world: &World) -> Self {
        let events = world.wire().events();
        let like = |text: &str| events.iter().filter(|event| event.contains(text)).count();
        let nodes = ["anna", "city", "library", "mediator"];
        Self {
            deaths: like("dies and comes back"),
            losses: like("simulated loss"),
            duplicates: nodes.iter().map(|name| world.count(name, "duplicates")).sum(),
            mailbox_failures: like("does not reach its mailbox"),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            deaths: self.deaths + other.deaths,
            losses: self.losses + other.losses,
            duplicates: self.duplicates + other.duplicates,
            mailbox_failures: self.mailbox_failures + other.mailbox_failures,
        }
    }
}

/// Runs one world through a storm; returns the digest of everything that went over its network.
async fn storm(seed: u64) -> (String, Damage) {
    let mut world = World::new(seed);
    world.add_everybody().await;
    let (faults, crashes) = severity(seed);
    world.storm(faults, crashes);
    world.turns(4).await;
    // An invitation cannot be accepted before the mediator has been reached once.
    if world.ask("anna", "mailbox", json!({})).await["spares"] == 0 {
        world.calm();
        world.pump().await;
        world.storm(faults, crashes);
    }
    let offered = take_offer(&world).await;
    world.turns(12).await;
    world.calm();
    world.pump().await;
    check_issued(&world, &offered, seed).await;

    world.storm(faults, crashes);
    for number in 0..LETTERS {
        let letter = json!({"to": ADULT, "text": format!("letter {number}")});
        world.ask("city", "send", letter).await;
    }
    if world.ask("anna", "mailbox", json!({})).await["spares"] == 0 {
        world.calm();
        world.pump().await;
        world.storm(faults, crashes);
    }
    let asked = answer_request(&world, "cafe-over-16").await;
    world.turns(12).await;
    world.calm();
    world.pump().await;
    check_letters(&world, seed).await;
    check_presented(&world, &asked, seed).await;
    (world.wire().digest(), Damage::of(&world))
}

/// Exactly one card for one offer, on both sides, and both sides know that the exchange is over.
async fn check_issued(world: &World, thread: &str, seed: u64) {
    let issued = world.ask("city", "issued", json!({})).await;
    assert_eq!(length(&issued), 1, "seed {seed}: {issued}");
    let cards = world.ask("anna", "list", json!({})).await;
    assert_eq!(length(&cards), 1, "seed {seed}: {cards}");
    let progress = world.ask("anna", "progress", json!({"thread": thread})).await;
    assert_eq!(text(&progress, "state"), "done", "seed {seed}: {progress}");
}

/// Every letter arrives once.
async fn check_letters(world: &World, seed: u64) {
    let inbox = world.ask("anna", "inbox", json!({})).await;
    let mut letters: Vec<&str> =
        inbox.as_array().unwrap().iter().map(|letter| text(letter, "text")).collect();
    letters.sort_unstable();
    let wanted: Vec<String> = (0..LETTERS).map(|number| format!("letter {number}")).collect();
    assert_eq!(letters, wanted, "seed {seed}");
}

/// One result, accepted; no node gave up anything.
async fn check_presented(world: &World, thread: &str, seed: u64) {
    let result = result(world, thread).await;
    assert_eq!(result["accepted"], true, "seed {seed}: {result}");
    let progress = world.ask("anna", "progress", json!({"thread": thread})).await;
    assert_eq!(text(&progress, "state"), "done", "seed {seed}: {progress}");
    for name in ["anna", "city", "library", "mediator"] {
        assert_eq!(world.given_up(name).await, 0, "seed {seed}: {name} gave messages up");
    }
}

#[test]
fn storms_lose_nothing_and_double_nothing() {
    let weather = |thread: u64| {
        let mut damage = Damage::default();
        for seed in (0..STORMS).filter(|seed| seed % THREADS == thread) {
            let told = std::panic::catch_unwind(|| play(storm(seed)));
            let Ok((_, done)) = told else { panic!("the storm of seed {seed} went wrong; see above") };
            damage = damage.and(done);
        }
        damage
    };
    let threads: Vec<_> = (0..THREADS).map(|thread| std::thread::spawn(move || weather(thread))).collect();
    let mut damage = Damage::default();
    let mut failed = 0;
    for thread in threads {
        match thread.join() {
            Ok(done) => damage = damage.and(done),
            Err(_) => failed += 1,
        }
    }
    assert_eq!(failed, 0, "{failed} of {THREADS} threads met a storm that went wrong");
    eprintln!("{STORMS} storms: {damage:?}");
    let enough = damage.deaths > 500 && damage.losses > 1000 && damage.duplicates > 200;
    assert!(enough && damage.mailbox_failures > 200, "too fair weather to prove anything: {damage:?}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [7, 19, 123] {
        assert_eq!(play(storm(seed)).0, play(storm(seed)).0, "seed {seed}");
    }
    assert_ne!(play(storm(7)).0, play(storm(19)).0);
}

/// More messages than are read at once; those for others come after them.
#[test]
fn messages_for_somebody_out_of_reach_hide_nobody_elses() {
    play(async {
        let mut world = World::new(1);
        world.add("mediator", Config::new(Role::Mediator)).await;
        let node = world.node("mediator");
        let caught = world.wire().catch("https://bob.example");
        let (alice, bob) = (
            Stranger::reached_at(1, "https://alice.example"),
            Stranger::reached_at(2, "https://bob.example"),
        );
        let ping = "https://didcomm.org/trust-ping/2.0/ping";
        for _ in 0..1_200 {
            alice.say(&node, &alice.message(ping, node.public_did().unwrap(), json!({}))).await;
        }
        bob.say(&node, &bob.message(ping, node.public_did().unwrap(), json!({}))).await;
        let due = node.outbox_pass().await.unwrap();
        assert_eq!(caught.lock().unwrap().len(), 1);
        assert!(due.unwrap() > START_MS, "what is held up does not stand before others again");
        assert_eq!(node.stats().to_json()["send_failures"], 1, "one attempt tells it for all");
    });
}
