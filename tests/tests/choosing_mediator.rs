//! Which mediator a wallet has: the one that is set or taken, until one has granted an account; and what it says when that is full.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use einmal::config::{CitizenSettings, Config, Role};
use einmal_flows::out_of_band::Invitation;
use einmal_tests::{ADULT, ByName, Stranger, World, play};
use serde_json::{Value, json};

/// The invitation of somebody who never answers.
fn silent(seed: u64) -> String {
    let nobody = Stranger::reached_at(seed, "https://nobody.example");
    let mut invitation = Invitation::new("oob-1".try_into().unwrap(), nobody.did().clone());
    invitation.goal_code = Some("request-mediate".into());
    invitation.to_url("https://nobody.example")
}

async fn invitation_of(world: &World, mediator: &str) -> String {
    let invitation = world.ask(mediator, "invite", json!({})).await;
    invitation["invitation"].as_str().unwrap().to_owned()
}

async fn mailbox(world: &World) -> Value {
    world.ask("anna", "mailbox", json!({})).await
}

async fn restart_with(world: &mut World, mediator: &str) {
    world.kill("anna");
    world.configure("anna", |config| config.citizen.as_mut().unwrap().mediator = Some(mediator.to_owned()));
    world.start("anna").await;
}

/// A wallet whose configured mediator does not answer, and a mediator beside it.
async fn badly_chosen() -> World {
    let mut world = World::new(1);
    world.add("mediator", Config::new(Role::Mediator)).await;
    let mut config = Config::new(Role::Citizen);
    config.citizen = Some(CitizenSettings { mediator: Some(silent(1)), poll_ms: None });
    world.add("anna", config).await;
    assert!(world.node("anna").visit_mailbox().await.is_err());
    assert_eq!(mailbox(&world).await["granted"], false);
    world
}

#[test]
fn a_mediator_that_has_granted_nothing_gives_way_to_a_corrected_setting() {
    play(async {
        let mut world = badly_chosen().await;
        let corrected = invitation_of(&world, "mediator").await;
        restart_with(&mut world, &corrected).await;
        world.node("anna").visit_mailbox().await.unwrap();
        let mailbox = mailbox(&world).await;
        assert_eq!((&mailbox["granted"], &mailbox["setting_differs"]), (&json!(true), &json!(false)));
    });
}

#[test]
fn a_mediator_that_has_granted_nothing_gives_way_to_one_that_is_taken_and_the_setting_does_not_bring_it_back()
{
    play(async {
        let mut world = badly_chosen().await;
        // Taken, and as dead as the other one.
        let taken = world.ask("anna", "accept", json!({"url": silent(2)})).await;
        assert_eq!(taken["state"], "requested");
        assert!(world.node("anna").visit_mailbox().await.is_err());
        let url = invitation_of(&world, "mediator").await;
        assert_eq!(world.ask("anna", "accept", json!({"url": url})).await["state"], "requested");
        restart_with(&mut world, &silent(1)).await;
        world.node("anna").visit_mailbox().await.unwrap();
        let granted = mailbox(&world).await;
        assert_eq!((&granted["granted"], &granted["setting_differs"]), (&json!(true), &json!(true)));
        let again = world.ask("anna", "accept", json!({"url": url})).await;
        assert_eq!(again["state"], "granted");
    });
}

#[test]
fn a_mediator_that_has_granted_an_account_stays_and_the_refusal_of_another_says_what_can_be_done() {
    play(async {
        let mut world = World::with_everybody(1).await;
        let refused = world.node("anna").by_name("accept", &json!({"url": silent(1)})).await;
        assert!(refused.unwrap_err().to_string().contains("einmal init citizen"));
        restart_with(&mut world, &silent(1)).await;
        world.node("anna").visit_mailbox().await.unwrap();
        assert_eq!(mailbox(&world).await["setting_differs"], true);
    });
}

#[test]
fn a_wallet_whose_mediator_takes_no_more_dids_says_so_and_not_to_wait() {
    play(async {
        let mut world = World::new(1);
        let mut config = Config::new(Role::Mediator);
        config.mediator.as_mut().unwrap().max_recipients = Some(1);
        world.add("mediator", config).await;
        world.add_city("city").await;
        world.add_citizen("anna").await;
        let offer = async |world: &World| {
            let offer =
                world.ask("city", "offer", json!({"template": "resident-card", "person": ADULT})).await;
            json!({"url": offer["invitation"]})
        };
        let early = world.ask("anna", "accept", offer(&world).await).await;
        assert_eq!(early["pending"], true, "nothing was asked yet");
        world.node("anna").visit_mailbox().await.unwrap();
        world.ask("anna", "accept", offer(&world).await).await;
        world.node("anna").visit_mailbox().await.unwrap();
        let refused = world.node("anna").by_name("accept", &offer(&world).await).await;
        let problem = refused.unwrap_err().to_string();
        assert!(problem.contains("max_recipients") && !problem.contains("in a moment"), "{problem}");
    });
}
