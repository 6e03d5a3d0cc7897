//! Data that an earlier version left in the store is still there for the present version.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::{
    config::{Config, Role},
    db::did_id,
};
use einmal_storage::{Batch, Key, Record, Store, Table, TenantId};
use einmal_tests::{ADULT, START_MS, Stranger, World, play};
use serde_json::json;

const PICKUP: &str = "https://didcomm.org/messagepickup/3.0";

#[test]
fn mail_that_version_0_1_queued_is_delivered_once() {
    play(async {
        let mut world = World::new(1);
        world.add("mediator", Config::new(Role::Mediator)).await;
        let alice = Stranger::new(1);
        let node = world.node("mediator");
        let mediator = node.public_did().unwrap().clone();
        let message = |kind: String, body| alice.message(&kind, &mediator, body);
        alice.enrol(&node).await;
        // As version 0.1 wrote it: recipient, arrival, random bytes.
        let id = [did_id(alice.did()).as_bytes(), &START_MS.to_be_bytes(), &[7; 8]].concat();
        let mut batch = Batch::new();
        let key = Key::new(&TenantId::default(), Table::new("queue"), id).unwrap();
        batch.put(key, r#"{"ciphertext":"old"}"#);
        world.store("mediator").commit(batch).wait().unwrap();
        for round in 0..2 {
            world.kill("mediator");
            world.start("mediator").await;
            let node = world.node("mediator");
            let ask = message(format!("{PICKUP}/delivery-request"), json!({"limit": 5}));
            let delivery = alice.ask(&node, &ask).await;
            let found: Vec<_> = delivery.attachments.iter().map(|one| one.to_json().unwrap()).collect();
            assert_eq!(found, [json!({"ciphertext": "old"})], "round {round}");
        }
    });
}

/// Records of a node's table, by their ids.
fn records(world: &World, name: &str, table: &'static str) -> Vec<Record> {
    world.store(name).scan(&TenantId::default(), Table::new(table), b"", None, 1000).unwrap()
}

/// Moves the relations back to where version 0.1 kept them: among the names of threads.
fn relations_as_before(world: &World, name: &str) {
    let mut batch = Batch::new();
    for record in records(world, name, "related-exchange") {
        let id = [b"below:", record.key.id()].concat();
        let key = Key::new(&TenantId::default(), Table::new("thread"), id).unwrap();
        batch.put_expiring(key, record.value, record.expires_at.unwrap());
        batch.delete(record.key);
    }
    assert!(!batch.is_empty());
    batch.delete(Key::new(&TenantId::default(), Table::new("meta"), "relations-moved").unwrap());
    world.store(name).commit(batch).wait().unwrap();
}

#[test]
fn offer_that_was_taken_before_the_upgrade_is_found_and_withdrawn() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        let accepted = world.ask("anna", "accept", json!({"url": offer["invitation"]})).await;
        world.pump().await;
        let before = records(&world, "city", "related-exchange");
        relations_as_before(&world, "city");
        world.kill("city");
        world.start("city").await;
        let after = records(&world, "city", "related-exchange");
        let told = |found: &[Record]| -> Vec<_> {
            found.iter().map(|one| (one.key.clone(), one.value.clone(), one.expires_at)).collect()
        };
        assert_eq!(told(&after), told(&before));
        assert!(records(&world, "city", "thread").is_empty(), "no name of a thread is left that is none");
        // Once they were moved, a key that looks like a relation is a name that someone chose.
        let mut batch = Batch::new();
        let chosen = Key::new(&TenantId::default(), Table::new("thread"), "below:42").unwrap();
        batch.put_expiring(chosen, b"\"x\"".to_vec(), u64::MAX);
        world.store("city").commit(batch).wait().unwrap();
        world.kill("city");
        world.start("city").await;
        assert_eq!(records(&world, "city", "thread").len(), 1);
        world.ask("city", "withdraw", json!({"thread": offer["thread"]})).await;
        world.pump().await;
        let progress = world.ask("anna", "progress", json!({"thread": accepted["thread"]})).await;
        assert_eq!(progress["state"], "abandoned");
    });
}

#[test]
fn what_waits_is_shown_behind_ten_thousand_names_of_what_is_over() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        let accepted = world.ask("anna", "accept", json!({"url": offer["invitation"]})).await;
        world.pump().await;
        // Names outlive the things they name; these sort before all others.
        for thousand in 0..11 {
            let mut batch = Batch::new();
            for number in 0..1000 {
                let id = format!("!{thousand:02}{number:03}");
                let key = Key::new(&TenantId::default(), Table::new("thread"), id).unwrap();
                batch.put(key, json!("no exchange").to_string());
            }
            world.store("anna").commit(batch).wait().unwrap();
        }
        let pending = world.ask("anna", "pending", json!({})).await;
        assert_eq!(pending.as_array().unwrap().len(), 1);
        assert_eq!(pending[0]["thread"], accepted["thread"]);
    });
}

#[test]
fn inbox_shows_the_newest_and_says_what_it_leaves_out() {
    play(async {
        let mut world = World::new(1);
        world.add("mediator", Config::new(Role::Mediator)).await;
        for thousand in 0..=10u64 {
            let mut batch = Batch::new();
            for number in thousand * 1000..(thousand * 1000 + 1000).min(10_001) {
                let text = json!({"from": "did:web:a.example", "text": number.to_string(), "at": number});
                let key = Key::new(&TenantId::default(), Table::new("inbox"), number.to_be_bytes()).unwrap();
                batch.put(key, text.to_string());
            }
            world.store("mediator").commit(batch).wait().unwrap();
        }
        let inbox = world.ask("mediator", "inbox", json!({})).await;
        let inbox = inbox.as_array().unwrap();
        let [first, .., last, note] = inbox.as_slice() else { panic!("{} elements", inbox.len()) };
        assert_eq!((&first["text"], &last["text"]), (&json!("10000"), &json!("1")));
        assert!(inbox.len() == 10_001 && note["left_out"].is_string(), "{note}");
    });
}
