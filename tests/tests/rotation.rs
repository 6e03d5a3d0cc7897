//! DID rotation: a citizen takes a new DID towards a city, and an account at a mediator follows its owner.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;

use einmal::{
    config::{Config, Role},
    node::{Node, Refusal},
};
use einmal_did::Did;
use einmal_didcomm::UnixSeconds;
use einmal_tests::{
    ADULT, ByName, START_MS, Stranger, World, lone_city, offer, play, proposal, request, stranger_of,
};
use serde_json::{Value, json};

const NOW: UnixSeconds = UnixSeconds(START_MS / 1000);
const MEDIATION: &str = "https://didcomm.org/coordinate-mediation/3.0";
const PICKUP: &str = "https://didcomm.org/messagepickup/3.0";

async fn texts(world: &World, name: &str) -> Vec<String> {
    let inbox = world.ask(name, "inbox", json!({})).await;
    inbox.as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap().to_owned()).collect()
}

/// A citizen whom the city knows as [`ADULT`].
async fn acquainted() -> World {
    let mut world = World::with_everybody(1).await;
    let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    let url = offer["invitation"].clone();
    world.ask("anna", "accept", json!({"url": url, "yes": true})).await;
    world.pump().await;
    world
}

#[test]
fn mail_goes_on_both_ways_through_the_mediator_after_a_citizen_has_rotated() {
    play(async {
        let mut world = acquainted().await;
        let city = world.node("city").public_did().unwrap().to_string();
        world.ask("city", "send", json!({"to": ADULT, "text": "before"})).await;
        world.pump().await;
        let rotated = world.ask("anna", "rotate", json!({"peer": city})).await;
        assert_eq!((&rotated["relationships"], &rotated["left"]), (&json!(1), &json!(0)));
        assert_eq!(rotated["peer"], city);
        assert!(rotated["dids"][0].as_str().unwrap().starts_with("did:peer:4"), "a DID and no digest");
        // Under way to the old DID while the news is under way to the city.
        world.ask("city", "send", json!({"to": ADULT, "text": "crossing"})).await;
        world.pump().await;
        world.ask("city", "send", json!({"to": ADULT, "text": "after"})).await;
        world.ask("anna", "send", json!({"to": city, "text": "thanks"})).await;
        world.pump().await;
        assert_eq!(texts(&world, "anna").await, ["after", "crossing", "before"], "the newest first");
        assert_eq!(texts(&world, "city").await, ["thanks"]);
        assert_eq!(world.given_up("city").await, 0);
        let again = world.ask("anna", "rotate", json!({"peer": city})).await;
        assert_ne!(again["dids"], rotated["dids"], "and once more");
        world.pump().await;
        world.ask("city", "send", json!({"to": ADULT, "text": "twice"})).await;
        world.pump().await;
        assert_eq!(texts(&world, "anna").await.first().unwrap(), "twice");
    });
}

/// The pause after failures grows to minutes; later messages must not arrive first.
#[test]
fn a_message_does_not_pass_one_before_it_that_was_put_off_also_after_a_restart() {
    for restarted in [false, true] {
        play(async {
            let mut world = acquainted().await;
            let city = world.node("city").public_did().unwrap().to_string();
            let send = async |world: &World, text: &str| {
                world.clock().advance(5);
                world.ask("anna", "send", json!({"to": city, "text": text})).await;
            };
            world.kill("city");
            send(&world, "first").await;
            for _ in 0..6 {
                world.node("anna").outbox_pass().await.unwrap();
                world.clock().advance(10_000);
            }
            if restarted {
                world.kill("anna");
                world.start("anna").await;
            }
            world.start("city").await;
            send(&world, "second").await;
            world.node("anna").outbox_pass().await.unwrap();
            assert!(texts(&world, "city").await.is_empty(), "the first is put off still");
            world.pump().await;
            let mut all = texts(&world, "city").await;
            all.sort_unstable();
            assert_eq!(all, ["first", "second"]);
        });
    }
}

async fn refused(world: &World, command: &str, input: Value) -> String {
    world.node("city").by_name(command, &input).await.unwrap_err().to_string()
}

#[test]
fn nothing_for_a_person_goes_to_a_phone_that_was_taken_off_them_though_it_rotates() {
    play(async {
        let mut world = acquainted().await;
        let city = world.node("city").public_did().unwrap().to_string();
        assert_eq!(world.ask("city", "unbind", json!({"person": ADULT})).await["unbound"], 1);
        let told = refused(&world, "unbind", json!({"person": ADULT})).await;
        assert!(told.contains("einmal city devices"), "{told}");
        world.ask("anna", "send", json!({"to": city, "text": "it is me"})).await;
        world.ask("anna", "rotate", json!({"peer": city})).await;
        world.pump().await;
        assert_eq!(world.ask("city", "devices", json!({"person": ADULT})).await, json!([]));
        let text = json!({"to": ADULT, "text": "not for the finder"});
        assert!(refused(&world, "send", text).await.contains("connect first"));
        let direct = json!({"template": "resident-card", "person": ADULT, "direct": true});
        assert!(refused(&world, "offer", direct).await.contains("connect first"));
        assert!(texts(&world, "anna").await.is_empty());
    });
}

/// The finder of a phone agrees to an offer, before or after taking another DID.
async fn agrees(world: &mut World, rotates_first: Option<bool>) {
    let city = world.node("city").public_did().unwrap().to_string();
    let waiting = world.ask("anna", "pending", json!({})).await[0].clone();
    let agreed = json!({"thread": waiting["thread"], "agree": true, "shown": waiting["decide"]["shown"]});
    if rotates_first == Some(true) {
        world.ask("anna", "rotate", json!({"peer": city})).await;
        world.pump().await;
    }
    world.ask("anna", "decide", agreed).await;
    world.clock().advance(5_000);
    if rotates_first == Some(false) {
        world.ask("anna", "rotate", json!({"peer": city})).await;
    }
    world.pump().await;
}

/// The clerk forgot an offer that was under way.
#[test]
fn an_offer_under_way_gives_no_card_to_a_phone_that_was_taken_off_its_person_though_it_rotates() {
    for taken_off in [true, false] {
        for rotates_first in [None, Some(true), Some(false)] {
            play(async {
                let mut world = acquainted().await;
                let direct = json!({"template": "resident-card", "person": ADULT, "direct": true});
                world.ask("city", "offer", direct).await;
                world.pump().await;
                if taken_off {
                    world.ask("city", "unbind", json!({"person": ADULT})).await;
                }
                agrees(&mut world, rotates_first).await;
                let issued = world.ask("city", "issued", json!({"person": ADULT})).await;
                let cards = if taken_off { 1 } else { 2 };
                assert_eq!(issued.as_array().unwrap().len(), cards, "{taken_off} {rotates_first:?}");
                let devices = world.ask("city", "devices", json!({"person": ADULT})).await;
                let count = devices.as_array().unwrap().len();
                assert_eq!(count, usize::from(!taken_off), "{taken_off} {rotates_first:?}");
            });
        }
    }
}

/// A wallet that keeps one DID for each issuer, and whose phone was found again.
#[test]
fn a_phone_that_was_taken_off_is_its_persons_again_once_the_clerk_offers_it_a_card() {
    play(async {
        let (world, city, _) = lone_city().await;
        let wallet = stranger_of(1, &city);
        let devices = async || {
            let listed = world.ask("city", "devices", json!({"person": ADULT})).await;
            listed.as_array().unwrap().len()
        };
        for (offered, cards) in [("before", 1), ("after", 2)] {
            let invitation = offer(&world).await;
            let offered_card = wallet.ask(&city, &proposal(&wallet, &invitation)).await;
            if offered == "after" {
                assert_eq!(devices().await, 0);
            }
            wallet.ask(&city, &request(&wallet, &offered_card, Some(offered_card.thread()))).await;
            let issued = world.ask("city", "issued", json!({"person": ADULT})).await;
            assert_eq!((issued.as_array().unwrap().len(), devices().await), (cards, 1), "{offered}");
            if offered == "before" {
                world.ask("city", "unbind", json!({"person": ADULT})).await;
                world.clock().advance(2_000);
            }
        }
    });
}

#[test]
fn an_invitation_that_somebody_has_answered_is_not_withdrawn_but_its_device_is_taken_off() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let invited = world.ask("city", "invite", json!({"person": ADULT})).await;
        world.ask("anna", "accept", json!({"url": invited["invitation"]})).await;
        world.pump().await;
        let told = refused(&world, "withdraw", json!({"thread": invited["thread"]})).await;
        assert!(told.contains("einmal city unbind"), "{told}");
        let unanswered = world.ask("city", "invite", json!({"person": ADULT})).await;
        world.ask("city", "withdraw", json!({"thread": unanswered["thread"]})).await;
        assert_eq!(world.ask("city", "devices", json!({"person": ADULT})).await.as_array().unwrap().len(), 1);
        world.ask("city", "unbind", json!({"person": ADULT})).await;
        world.ask("city", "withdraw", json!({"thread": invited["thread"]})).await;
    });
}

#[test]
fn of_two_phones_the_one_that_was_lost_is_taken_off_and_an_old_invitation_does_not_bring_it_back() {
    play(async {
        let mut world = World::with_everybody(1).await;
        world.add_citizen("second").await;
        world.pump().await;
        let order = json!({"template": "resident-card", "person": ADULT});
        let offer = world.ask("city", "offer", order).await;
        world.ask("anna", "accept", json!({"url": offer["invitation"], "yes": true})).await;
        world.pump().await;
        let lost = world.ask("city", "devices", json!({"person": ADULT})).await[0]["device"].clone();
        let invited = world.ask("city", "invite", json!({"person": ADULT})).await;
        world.ask("second", "accept", json!({"url": invited["invitation"]})).await;
        world.pump().await;
        world.ask("city", "unbind", json!({"person": ADULT, "device": lost})).await;
        world.ask("anna", "accept", json!({"url": offer["invitation"]})).await;
        world.pump().await;
        let sent = world.ask("city", "send", json!({"to": ADULT, "text": "hello"})).await;
        assert_eq!((&sent["relationships"], &sent["older"]), (&json!(1), &json!(0)));
        world.pump().await;
        assert_eq!((texts(&world, "anna").await.len(), texts(&world, "second").await.len()), (0, 1));
    });
}

#[test]
fn rotating_towards_nobody_names_a_list_in_which_the_peers_stand() {
    play(async {
        let world = acquainted().await;
        let refused = world.node("anna").by_name("rotate", &json!({"peer": "did:web:nobody.example"})).await;
        assert!(refused.unwrap_err().to_string().contains("einmal citizen peers"));
        let peers = world.ask("anna", "peers", json!({})).await;
        let city = world.node("city").public_did().unwrap().to_string();
        assert_eq!(
            (&peers[0]["peer"], &peers[0]["relationships"], peers.as_array().unwrap().len()),
            (&json!(city), &json!(1), 1)
        );
    });
}

/// One more card for the same person, on the same phone.
async fn one_more_card(world: &mut World) {
    world.clock().advance(5_000);
    let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    world.ask("anna", "accept", json!({"url": offer["invitation"], "yes": true})).await;
    world.pump().await;
}

#[test]
fn all_relationships_with_a_peer_are_turned_as_far_as_dids_are_ready_and_what_is_left_is_said() {
    play(async {
        let mut world = acquainted().await;
        for _ in 0..4 {
            one_more_card(&mut world).await;
        }
        let city = world.node("city").public_did().unwrap().to_string();
        let rotated = world.ask("anna", "rotate", json!({"peer": city})).await;
        assert_eq!((&rotated["relationships"], &rotated["left"]), (&json!(4), &json!(1)));
        assert!(rotated["note"].is_string());
        world.pump().await;
        assert_eq!(world.ask("anna", "peers", json!({})).await[0]["relationships"], 5);
        world.ask("city", "send", json!({"to": ADULT, "text": "to each", "all": true})).await;
        world.pump().await;
        assert_eq!(texts(&world, "anna").await, ["to each"; 5]);
        assert_eq!(world.given_up("city").await, 0);
    });
}

#[test]
fn a_text_goes_out_once_though_several_cards_were_taken_on_one_phone() {
    play(async {
        let mut world = acquainted().await;
        one_more_card(&mut world).await;
        let sent = world.ask("city", "send", json!({"to": ADULT, "text": "due on Friday"})).await;
        assert_eq!((&sent["relationships"], &sent["older"]), (&json!(1), &json!(1)));
        world.pump().await;
        assert_eq!(texts(&world, "anna").await, ["due on Friday"]);
        let all = world.ask("city", "send", json!({"to": ADULT, "text": "all", "all": true})).await;
        assert_eq!((&all["relationships"], &all["older"]), (&json!(2), &json!(0)));
    });
}

#[test]
fn an_offer_that_is_declined_or_left_lying_takes_nobody_s_texts_away() {
    play(async {
        let mut world = acquainted().await;
        world.add_citizen("bela").await;
        world.pump().await;
        for declines in [false, true] {
            world.clock().advance(5_000);
            let offer =
                world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
            let taken = world.ask("bela", "accept", json!({"url": offer["invitation"]})).await;
            world.pump().await;
            if declines {
                world.ask("bela", "decide", json!({"thread": taken["thread"], "agree": false})).await;
                world.pump().await;
            }
            world.ask("city", "send", json!({"to": ADULT, "text": "for Anna"})).await;
            world.pump().await;
            assert!(texts(&world, "bela").await.is_empty(), "declined: {declines}");
        }
        assert_eq!(texts(&world, "anna").await.len(), 2);
    });
}

struct Mediated {
    node: Arc<Node>,
    mediator: Did,
    alice: Stranger,
}

impl Mediated {
    async fn new() -> Self {
        let mut world = World::new(1);
        world.add("mediator", Config::new(Role::Mediator)).await;
        let node = world.node("mediator");
        let mediator = node.public_did().unwrap().clone();
        let alice = Stranger::new(1);
        alice.enrol(&node).await;
        Self { node, mediator, alice }
    }

    async fn ask(&self, kind: &str, body: Value) -> einmal_didcomm::Message {
        self.alice.ask(&self.node, &self.alice.message(kind, &self.mediator, body)).await
    }

    async fn mail(&self, next: &Did) -> Option<Refusal> {
        let sender = Stranger::new(9);
        let forward = sender.forward(&self.mediator, next, json!({"ciphertext": "x"}));
        sender.say(&self.node, &forward).await.refused
    }
}

#[test]
fn an_account_with_its_registrations_and_mail_follows_a_proved_rotation() {
    play(async {
        let mut scene = Mediated::new().await;
        let old = scene.alice.did().clone();
        assert_eq!(scene.mail(&old).await, None);
        let new = scene.alice.another_did();
        scene.alice.become_did(new.clone());
        let kind = format!("{PICKUP}/status-request");
        let mut first = scene.alice.message(&kind, &scene.mediator, json!({}));
        first.from_prior = Some(scene.alice.rotation(&old, &new, NOW));
        let status = scene.alice.ask(&scene.node, &first).await;
        assert_eq!(status.body["message_count"], 1, "the account is hers under the new DID: {status:?}");
        let listed = scene.ask(&format!("{MEDIATION}/recipient-query"), json!({})).await;
        assert_eq!(listed.body["dids"].as_array().unwrap().len(), 1);
        let updates = json!([{"recipient_did": new.as_str(), "action": "add"}]);
        let answer = scene.ask(&format!("{MEDIATION}/recipient-update"), json!({"updates": updates})).await;
        assert_eq!(
            answer.body["updated"][0]["result"], "success",
            "the new DID is registered beside the old"
        );
        assert_eq!(scene.mail(&new).await, None);
        let status = scene.ask(&kind, json!({})).await;
        assert_eq!(status.body["message_count"], 2);
        // The old DID no longer has an account.
        scene.alice.become_did(old);
        let refused = scene.ask(&kind, json!({})).await;
        assert_eq!(refused.body["code"], "e.p.req.not_enroll");
    });
}

#[test]
fn an_account_that_would_have_more_dids_than_one_may_does_not_follow_and_keeps_what_it_has() {
    play(async {
        let mut scene = Mediated::new().await;
        let registered = |from: u32, to: u32| {
            let adds = from..to;
            let adds = adds.map(|n| json!({"recipient_did": format!("did:example:{n}"), "action": "add"}));
            json!({"updates": adds.collect::<Vec<_>>()})
        };
        let update = format!("{MEDIATION}/recipient-update");
        for hundred in 0..6 {
            scene.ask(&update, registered(hundred * 100, hundred * 100 + 100)).await;
        }
        let old = scene.alice.did().clone();
        let new = scene.alice.another_did();
        scene.alice.become_did(new.clone());
        scene.ask(&format!("{MEDIATION}/mediate-request"), json!({})).await;
        for hundred in 6..10 {
            scene.ask(&update, registered(hundred * 100, hundred * 100 + 100)).await;
        }
        let status = format!("{PICKUP}/status-request");
        let mut news = scene.alice.message(&status, &scene.mediator, json!({}));
        news.from_prior = Some(scene.alice.rotation(&old, &new, NOW));
        let refused = scene.alice.ask(&scene.node, &news).await;
        assert_eq!(refused.body["code"], "e.p.me.res.storage", "601 and 400 are too many");
        let removed = json!({"updates": [{"recipient_did": "did:example:999", "action": "remove"}]});
        scene.ask(&update, removed).await;
        let query = format!("{MEDIATION}/recipient-query");
        let paginate = json!({"paginate": {"limit": 1, "offset": 0}});
        let listed = scene.ask(&query, paginate.clone()).await;
        assert_eq!(listed.body["pagination"]["remaining"], 398, "nothing moved");
        let mut news = scene.alice.message(&status, &scene.mediator, json!({}));
        news.from_prior = Some(scene.alice.rotation(&old, &new, NOW));
        assert_eq!(scene.alice.ask(&scene.node, &news).await.body["message_count"], 0);
        let listed = scene.ask(&query, paginate).await;
        assert_eq!(listed.body["pagination"]["remaining"], 999);
        assert_eq!(scene.mail(&old).await, None);
    });
}

#[test]
fn an_account_does_not_follow_a_rotation_that_its_owner_did_not_sign() {
    play(async {
        let scene = Mediated::new().await;
        let mallory = Stranger::new(6);
        let kind = format!("{PICKUP}/status-request");
        let mut theft = mallory.message(&kind, &scene.mediator, json!({}));
        // Signed by a DID of Mallory's, which never had the account.
        let other = mallory.another_did();
        theft.from_prior = Some(mallory.rotation(&other, mallory.did(), NOW));
        let refused = mallory.ask(&scene.node, &theft).await;
        assert_eq!(refused.body["code"], "e.p.req.not_enroll");
        let status = scene.ask(&kind, json!({})).await;
        assert_eq!(status.body["message_count"], 0, "Alice still has hers");
    });
}

#[test]
fn what_may_still_be_withdrawn_is_listed_and_what_led_to_something_is_not() {
    play(async {
        let mut world = acquainted().await;
        let open = async |world: &World, person: Option<&str>| {
            let listed = world.ask("city", "offers", json!({"person": person})).await;
            let entries = listed.as_array().unwrap().clone();
            entries.iter().map(|one| (one["thread"].clone(), one["state"].clone())).collect::<Vec<_>>()
        };
        assert!(open(&world, None).await.is_empty(), "the card was issued");
        let order = json!({"template": "resident-card", "person": ADULT});
        let offered = world.ask("city", "offer", order).await;
        let invited = world.ask("city", "invite", json!({"person": ADULT})).await;
        world.ask("city", "offer", json!({"template": "library-card", "after": "library-signup"})).await;
        assert_eq!((open(&world, None).await.len(), open(&world, Some(ADULT)).await.len()), (3, 2));
        let direct = json!({"template": "resident-card", "person": ADULT, "direct": true});
        let direct = world.ask("city", "offer", direct).await;
        world.ask("anna", "accept", json!({"url": offered["invitation"]})).await;
        world.pump().await;
        let listed = open(&world, Some(ADULT)).await;
        for (thread, state) in [(&offered, "taken"), (&direct, "sent"), (&invited, "invited")] {
            assert!(listed.contains(&(thread["thread"].clone(), json!(state))), "{listed:?}");
        }
        // Who said no may begin anew by the same invitation.
        let waiting = world.ask("anna", "progress", json!({"thread": offered["thread"]})).await;
        assert!(waiting["decide"].is_object(), "{waiting}");
        world.ask("anna", "decide", json!({"thread": offered["thread"], "agree": false})).await;
        world.pump().await;
        let listed = open(&world, Some(ADULT)).await;
        assert!(listed.contains(&(offered["thread"].clone(), json!("given up"))), "{listed:?}");
        for (thread, _) in listed {
            world.ask("city", "withdraw", json!({"thread": thread})).await;
        }
        assert!(open(&world, Some(ADULT)).await.is_empty());
        world.ask("anna", "accept", json!({"url": offered["invitation"], "yes": true})).await;
        world.pump().await;
        let issued = world.ask("city", "issued", json!({"person": ADULT})).await;
        assert_eq!(issued.as_array().unwrap().len(), 1, "only the card they were acquainted by");
    });
}

#[test]
fn a_list_of_nobody_is_no_empty_list() {
    play(async {
        let world = acquainted().await;
        for command in ["devices", "issued", "offers"] {
            let told = refused(&world, command, json!({"person": "SAZPE-R7CC8"})).await;
            assert!(told.contains("no such person"), "{command}: {told}");
        }
        assert_eq!(world.ask("city", "offers", json!({"person": ADULT})).await, json!([]));
    });
}
