//! What an earlier version left in the store is still there for the present one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::{
    config::{Config, Role},
    db::did_id,
};
use einmal_storage::{Batch, Key, Store, Table, TenantId};
use einmal_tests::{START_MS, Stranger, World, play};
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
        // As 0.1 wrote it: recipient, arrival, chance.
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
