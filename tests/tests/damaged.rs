//! Records that are damaged: nothing is tried for ever because of them, and nobody else is blamed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::db::{EXCHANGES, TIMERS};
use einmal_storage::{Batch, Store, Table, TenantId};
use einmal_tests::{ADULT, World, play};
use serde_json::json;

fn count(world: &World, table: Table) -> u64 {
    world.store("city").count(&TenantId::default(), table, b"").unwrap()
}

/// A city that waits for an answer to its offer, and is to be woken if none comes.
async fn waiting_city() -> World {
    let mut world = World::with_everybody(1).await;
    let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    world.ask("anna", "accept", json!({"url": offer["invitation"]})).await;
    world.pump().await;
    assert_eq!(count(&world, TIMERS), 1, "it waits for anna to decide");
    world
}

/// Long after anybody has waited for anything.
async fn much_later(world: &World) {
    world.clock().advance(400 * 24 * 3600 * 1000);
    for _ in 0..3 {
        world.node("city").timer_pass().await.unwrap();
        world.clock().advance(1000);
    }
}

#[test]
fn timer_of_a_damaged_exchange_does_not_ring_for_ever() {
    play(async {
        let world = waiting_city().await;
        let mut batch = Batch::new();
        for record in world.store("city").scan(&TenantId::default(), EXCHANGES, b"", None, 10).unwrap() {
            batch.put(record.key, r#"{"kind":"issuer"}"#);
        }
        world.store("city").commit(batch).wait().unwrap();
        much_later(&world).await;
        assert_eq!(count(&world, TIMERS), 0);
    });
}

#[test]
fn timer_that_the_disk_does_not_serve_rings_again_until_it_does() {
    play(async {
        let world = waiting_city().await;
        world.store("city").fail_next_commits(usize::MAX);
        world.clock().advance(400 * 24 * 3600 * 1000);
        let _ = world.node("city").timer_pass().await;
        assert_eq!(count(&world, TIMERS), 1);
        world.store("city").fail_next_commits(0);
        much_later(&world).await;
        assert_eq!(count(&world, TIMERS), 0);
    });
}
