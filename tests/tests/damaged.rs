//! Damaged records: nothing is retried forever because of them, and nobody else is blamed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::db::{EXCHANGES, OUTBOX, TIMERS};
use einmal_storage::{Batch, Key, Store, Table, TenantId};
use einmal_tests::{ADULT, World, play};
use serde_json::{Value, json};

fn count(world: &World, table: Table) -> u64 {
    world.store("city").count(&TenantId::default(), table, b"").unwrap()
}

/// A city that waits for an answer to its offer, with a wake-up if none comes.
async fn waiting_city() -> World {
    let mut world = World::with_everybody(1).await;
    let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    world.ask("anna", "accept", json!({"url": offer["invitation"]})).await;
    world.pump().await;
    assert!(count(&world, TIMERS) > 0, "it waits for anna to decide");
    world
}

/// Lets time pass beyond every wait.
async fn much_later(world: &World) {
    world.clock().advance(400 * 24 * 3600 * 1000);
    for _ in 0..3 {
        world.node("city").timer_pass().await.unwrap();
        world.clock().advance(1000);
    }
}

/// Changes the only exchange of the city, and returns the original.
fn change_exchange(world: &World, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let store = world.store("city");
    let found = store.scan(&TenantId::default(), EXCHANGES, b"", None, 10).unwrap();
    let [record] = found.as_slice() else { panic!("{} exchanges", found.len()) };
    let mut value = serde_json::from_slice(&record.value).unwrap();
    change(&mut value);
    let mut batch = Batch::new();
    batch.put(record.key.clone(), value.to_string());
    store.commit(batch).wait().unwrap();
    record.value.clone()
}

#[test]
fn offer_whose_nonce_is_lost_is_not_carried_out_and_not_refused_for_good() {
    play(async {
        let mut world = waiting_city().await;
        let whole = change_exchange(&world, |exchange| {
            assert!(exchange["work"]["job"]["nonce"].take().is_string());
        });
        let waiting = world.ask("anna", "pending", json!({})).await;
        let (thread, shown) = (&waiting[0]["thread"], &waiting[0]["decide"]["shown"]);
        world.ask("anna", "decide", json!({"thread": thread, "agree": true, "shown": shown})).await;
        world.turns(4).await;
        assert_eq!(world.ask("city", "issued", json!({})).await, json!([]));
        assert!(world.count("city", "refused") > 0);
        // Someone repairs it: the wallet has kept the message it wanted to send.
        change_exchange(&world, |exchange| *exchange = serde_json::from_slice(&whole).unwrap());
        world.pump().await;
        assert_eq!(world.ask("city", "issued", json!({})).await.as_array().unwrap().len(), 1);
    });
}

#[test]
fn timer_of_a_damaged_exchange_does_not_ring_for_ever() {
    play(async {
        let world = waiting_city().await;
        change_exchange(&world, |exchange| *exchange = json!({"kind": "issuer"}));
        much_later(&world).await;
        assert_eq!(count(&world, TIMERS), 0);
    });
}

#[test]
fn timer_that_does_not_parse_keeps_no_other_from_ringing() {
    play(async {
        let world = waiting_city().await;
        let key = Key::new(&TenantId::default(), TIMERS, [0; 9]).unwrap();
        let mut batch = Batch::new();
        batch.put(key, "no timer");
        world.store("city").commit(batch).wait().unwrap();
        much_later(&world).await;
        assert_eq!(count(&world, TIMERS), 0);
    });
}

#[test]
fn timer_that_the_disk_does_not_serve_rings_again_until_it_does() {
    play(async {
        let world = waiting_city().await;
        let timers = count(&world, TIMERS);
        world.store("city").fail_next_commits(usize::MAX);
        world.clock().advance(400 * 24 * 3600 * 1000);
        let _ = world.node("city").timer_pass().await;
        assert_eq!(count(&world, TIMERS), timers);
        world.store("city").fail_next_commits(0);
        much_later(&world).await;
        assert_eq!(count(&world, TIMERS), 0);
    });
}

#[test]
fn message_whose_record_does_not_parse_is_given_up_and_keeps_no_other_from_going_out() {
    play(async {
        let mut world = waiting_city().await;
        let key = Key::new(&TenantId::default(), OUTBOX, [0; 18]).unwrap();
        let mut batch = Batch::new();
        batch.put(key, "not a message");
        world.store("city").commit(batch).wait().unwrap();
        let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
        let accepted = world.ask("anna", "accept", json!({"url": offer["invitation"], "yes": true})).await;
        world.pump().await;
        let progress = world.ask("anna", "progress", json!({"thread": accepted["thread"]})).await;
        assert_eq!(progress["state"], "done", "{progress}");
        assert_eq!((world.given_up("city").await, count(&world, OUTBOX)), (1, 0));
    });
}
