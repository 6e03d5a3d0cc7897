//! A mediator that was restored from a backup, or has dropped an account: its wallets notice, and mail arrives again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use einmal::config::{CitizenSettings, Config, Role};
use einmal_didcomm::SenderProtection;
use einmal_flows::out_of_band::Invitation;
use einmal_storage::{Batch, Store};
use einmal_tests::{ADULT, Stranger, World, name, play};
use serde_json::json;

const STRANGER: &str = "https://stranger.example";
const HOUR_MS: u64 = 3600 * 1000;

fn demanding() -> Config {
    let mut config = Config::new(Role::Mediator);
    config.mediator.as_mut().unwrap().require_proof = true;
    config
}

/// A citizen whom the city knows as [`ADULT`], at a mediator that demands proofs.
async fn acquainted() -> World {
    let mut world = World::new(1);
    world.add("mediator", demanding()).await;
    world.add_city("city").await;
    world.add_citizen("anna").await;
    world.pump().await;
    let offer = world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
    world.ask("anna", "accept", json!({"url": offer["invitation"], "yes": true})).await;
    world.pump().await;
    world
}

/// Whether a text of the city arrives now.
async fn hears(world: &mut World, text: &str) -> bool {
    world.ask("city", "send", json!({"to": ADULT, "text": text})).await;
    world.pump().await;
    let inbox = world.ask("anna", "inbox", json!({})).await;
    inbox.as_array().unwrap().iter().any(|one| one["text"] == text)
}

/// Lets the mediator forget what is registered, but for the accounts.
async fn forget_registrations(world: &World) {
    let store = world.store("mediator");
    let mut batch = Batch::new();
    for record in store.dump(None, 10_000).unwrap() {
        if ["route", "account-route"].contains(&record.key.table().name()) {
            batch.delete(record.key);
        }
    }
    store.commit(batch).await.unwrap();
}

/// DIDs the mediator takes mail for.
async fn registered(world: &World) -> u64 {
    world.ask("mediator", "accounts", json!({})).await["accounts"][0]["recipients"].as_u64().unwrap()
}

async fn restart_mediator(world: &mut World) {
    world.kill("mediator");
    assert!(world.node("anna").visit_mailbox().await.is_err());
    world.start("mediator").await;
}

#[test]
fn a_wallet_whose_account_is_younger_than_the_backup_of_its_mediator_gets_mail_again() {
    play(async {
        let mut world = acquainted().await;
        let before = world.node("mediator").public_did().cloned();
        world.kill("mediator");
        // The same keys, and nothing else.
        world.add("mediator", demanding()).await;
        assert_eq!(world.node("mediator").public_did().cloned(), before);
        world.node("anna").visit_mailbox().await.unwrap();
        assert_eq!(registered(&world).await, 5, "its relationship and four spare ones");
        assert!(hears(&mut world, "again").await);
    });
}

#[test]
fn what_a_mediator_has_forgotten_is_registered_again_when_it_was_out_of_reach() {
    play(async {
        let mut world = acquainted().await;
        forget_registrations(&world).await;
        restart_mediator(&mut world).await;
        world.node("anna").visit_mailbox().await.unwrap();
        assert!(hears(&mut world, "again").await);
    });
}

#[test]
fn what_a_mediator_has_forgotten_unnoticed_is_registered_again_within_a_day_and_at_the_start() {
    for restarts in [false, true] {
        play(async {
            let mut world = acquainted().await;
            forget_registrations(&world).await;
            world.kill("mediator");
            world.start("mediator").await;
            world.node("anna").visit_mailbox().await.unwrap();
            assert_eq!(registered(&world).await, 0, "nobody has told");
            if restarts {
                world.kill("anna");
                world.start("anna").await;
            } else {
                world.clock().advance(24 * HOUR_MS);
            }
            world.node("anna").visit_mailbox().await.unwrap();
            assert!(hears(&mut world, "again").await);
        });
    }
}

#[test]
fn an_account_the_operator_has_dropped_is_there_again_at_the_next_look() {
    play(async {
        let mut world = acquainted().await;
        let accounts = world.ask("mediator", "accounts", json!({})).await;
        world.ask("mediator", "drop", json!({"id": accounts["accounts"][0]["id"]})).await;
        assert_eq!(world.ask("mediator", "accounts", json!({})).await["total"], 0);
        world.node("anna").visit_mailbox().await.unwrap();
        assert!(hears(&mut world, "again").await);
    });
}

/// A mediator that grants every account and knows none.
fn fickle(world: &World) -> (String, Arc<AtomicUsize>) {
    let mediator = Stranger::reached_at(1, STRANGER);
    let mut invitation = Invitation::new("oob-1".try_into().unwrap(), mediator.did().clone());
    invitation.goal_code = Some("request-mediate".into());
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    world.wire().answer(STRANGER, move |envelope| {
        let request = mediator.open(&envelope).message;
        let wallet = request.from.clone().unwrap();
        let mut answer = if name(&request) == "mediate-request" {
            counted.fetch_add(1, Ordering::Relaxed);
            let kind = "https://didcomm.org/coordinate-mediation/3.0/mediate-grant";
            mediator.message(kind, &wallet, json!({"routing_did": mediator.did()}))
        } else {
            let kind = "https://didcomm.org/report-problem/2.0/problem-report";
            let mut report = mediator.message(kind, &wallet, json!({"code": "e.p.req.not_enroll"}));
            report.pthid = Some(request.thread());
            return Some(mediator.pack(&report, SenderProtection::Authcrypt));
        };
        answer.thid = Some(request.thread());
        Some(mediator.pack(&answer, SenderProtection::Authcrypt))
    });
    (invitation.to_url(STRANGER), count)
}

#[test]
fn a_mediator_that_grants_every_account_and_knows_none_is_asked_ever_more_seldom() {
    play(async {
        let mut world = World::new(1);
        let (invitation, asked) = fickle(&world);
        let mut config = Config::new(Role::Citizen);
        config.citizen = Some(CitizenSettings { mediator: Some(invitation.clone()), poll_ms: None });
        world.add("anna", config).await;
        for _ in 0..60 {
            assert!(world.node("anna").visit_mailbox().await.is_err());
            world.clock().advance(60_000);
        }
        let asked = asked.load(Ordering::Relaxed);
        assert!((3..=8).contains(&asked), "{asked} times in an hour");
        let again = world.ask("anna", "accept", json!({"url": invitation, "mediator": true})).await;
        assert_eq!(again["state"], "requested", "granted it is not");
        let mailbox = world.ask("anna", "mailbox", json!({})).await;
        assert_eq!(mailbox["visit"], "notenrolled");
    });
}
